"""The Transformer module of sentence-transformers, for an encoder with experts: it puts the domain into the tokens.

There it travels with the features: through collators, merged columns and GradCache, which know no other side channel.
A saved model names this class, so that the library refuses it without `trust_remote_code`, and the trainer, which knows
the classes of its model, resumes it.
"""

import inspect
from typing import Any

from sentence_transformers.base.modules import Transformer
from transformers import PretrainedConfig

from kilter.hosts.expert_blocks import Plan
from kilter.hosts.expert_models import load_config, load_encoder
from kilter.hosts.expert_texts import number_of, to_front, token_of
from kilter.ops.experts import UNKNOWN


class ExpertsTransformer(Transformer):
    """As the stock module, with `domain` for `encode` and `preprocess`."""

    forward_kwargs: set[str] = {"domain"}  # noqa: RUF012 - as the library declares it

    def preprocess(
        self, inputs: Any, prompt: str | None = None, processing_kwargs: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Tokens of a batch, the domain's at the beginning.

        Raises:
            ValueError: an unknown domain, or several: the library sorts texts before they come here.
        """
        plan, domain = Plan.of(self.config), kwargs.pop("domain", None)
        if domain is not None and not isinstance(domain, str | int):
            raise ValueError(
                f"domain must be one of {', '.join(plan.domains)}, got {domain!r}; texts of several domains begin "
                f"with their token, as in '{token_of(plan.domains[0])} a text'"
            )
        number = UNKNOWN if domain is None else number_of(plan, domain)
        if number != UNKNOWN and plan.front is None:
            prompt = token_of(plan.domains[number]) + (prompt or "")
        if processing_kwargs is not None:
            kwargs["processing_kwargs"] = processing_kwargs
        features = super().preprocess(inputs, prompt=prompt, **kwargs)
        padding = getattr(self.tokenizer, "pad_token_id", None) or 0
        return to_front(plan, features, number, padding)

    def take_signature(self) -> None:
        """Know the arguments of the encoder, whose class may have changed."""
        declared = inspect.signature(self.model.forward).parameters
        self._declared_forward_params = {*declared}
        if self.model_forward_params is not None:
            self.model_forward_params |= {*declared}

    def _load_config(
        self, model_name_or_path: str, backend: str, config_kwargs: dict[str, Any]
    ) -> tuple[PretrainedConfig, bool]:
        return load_config(model_name_or_path, **_own(config_kwargs)), False

    def _load_model(self, model_name_or_path: str, task: Any, config: Any, *rest: Any, **model_kwargs: Any) -> Any:
        return load_encoder(model_name_or_path, config, **_own(model_kwargs))


def _own(how: dict[str, Any]) -> dict[str, Any]:
    """Without leave to run code that lies beside the weights: there is none."""
    return {key: value for key, value in how.items() if key != "trust_remote_code"}
