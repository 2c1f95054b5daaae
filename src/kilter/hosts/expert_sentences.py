"""The Transformer module of sentence-transformers, for an encoder with experts: it puts the domain into the tokens.

There it travels with the features: through collators, merged columns and GradCache, which know no other side channel.
A saved model names this class, so that the library refuses it without `trust_remote_code`, and the trainer, which knows
the classes of its model, resumes it.
"""

import inspect
from typing import Any

import torch
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn
from transformers import PretrainedConfig

from kilter.core.options import at_least
from kilter.hosts.expert_blocks import Plan
from kilter.hosts.expert_models import load_config, load_encoder
from kilter.hosts.expert_texts import number_of, to_front, token_of
from kilter.hosts.experts import router_logits
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
        return to_front(plan, dict(features), number, padding)

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


class RouterLoss(nn.Module):
    """A loss of sentence-transformers, and beside it what teaches the routers of its model each text's domain.

        loss = RouterLoss(losses.MultipleNegativesRankingLoss(model), weight=0.1)

    Args:
        loss: of the library's kind, `as_st_loss(…)` among them, without GradCache, whose first pass has no gradient.
        weight: of the router's loss.

    Raises:
        ValueError: a weight out of range; in training, a model without routers, or texts without a domain.
    """

    def __init__(self, loss: nn.Module, *, weight: float | int = 1.0) -> None:
        super().__init__()
        at_least("weight", weight, 0)
        self.loss = loss
        self.weight = weight

    def forward(self, sentence_features: Any, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The parts of the loss, and `router`."""
        with router_logits(self.loss.model) as kept:  # type: ignore[arg-type]
            found = self.loss(sentence_features, labels)
        if self.training and not all(logits.requires_grad for logits, _ in kept):
            raise ValueError(
                "loss runs its model without gradient first; give it without mini-batches (GradCache), and gradient "
                "checkpointing with use_reentrant=False"
            )
        logits, domain = (torch.cat(parts) for parts in zip(*kept, strict=True))
        if not (domain != UNKNOWN).any():
            raise ValueError("no text of the batch says its domain, and routers learn from that; give args.prompts")
        taught = nn.functional.cross_entropy(logits, domain, ignore_index=UNKNOWN)
        return {**(found if isinstance(found, dict) else {"loss": found}), "router": self.weight * taught}


def _own(how: dict[str, Any]) -> dict[str, Any]:
    """Without leave to run code that lies beside the weights: there is none."""
    return {key: value for key, value in how.items() if key != "trust_remote_code"}
