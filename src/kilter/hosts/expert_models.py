"""A model of transformers that carries experts: its class learns the argument `domain`, its settings say what it is.

The class of the model, and of its settings, is exchanged for a subclass made for it. What is saved has a `model_type`
of its own, so that whoever does not know of experts refuses it instead of reading a dense model out of it.
"""

import inspect
import json
from collections.abc import Callable
from functools import cache
from os import PathLike
from typing import Any

import transformers
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, modeling_utils

from kilter.hosts.exchanged import exchanged, give_back
from kilter.hosts.expert_blocks import Plan, install
from kilter.hosts.expert_texts import routed
from kilter.hosts.loading import Unloadable, load_model, reading

MODEL_TYPE = "kilter-experts"
SUFFIX = "WithExperts"


@cache
def experts_class(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The subclass whose `forward` takes `domain`, and which builds its experts when it is loaded."""
    plain = inspect.signature(base.forward)
    names = [*plain.parameters][1:]

    def built(self: Any, config: Any, *args: Any, **named: Any) -> None:
        super(made, self).__init__(config, *args, **named)
        install(self, Plan.of(config))

    def forward(self: Any, *args: Any, domain: Any = None, **named: Any) -> Any:
        named.update(zip(names, args, strict=False))
        embedded = named.get("inputs_embeds")
        ids, mask = named.get("input_ids"), named.get("attention_mask")
        mask = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None
        like = next(one for one in (ids, embedded, mask) if one is not None)
        ids, rows = routed(Plan.of(self.config), ids, mask, domain, like)
        if ids is not None:
            named["input_ids"] = ids
        if self.training and Plan.of(self.config).routing == "enforced":
            self.expert_assignment.heed(rows)
        with self.expert_assignment.of(rows, mask):
            return super(made, self).forward(**named)

    def set_checkpointing(
        self: Any, enable: bool = True, gradient_checkpointing_func: Callable[..., Any] = checkpoint, **more: Any
    ) -> None:
        def of_now(call: Callable[..., Any], *args: Any, **named: Any) -> Any:
            return gradient_checkpointing_func(self.expert_assignment.again(call), *args, **named)

        super(made, self)._set_gradient_checkpointing(enable, gradient_checkpointing_func=of_now, **more)

    content = {
        "__init__": built,
        "forward": forward,
        "_set_gradient_checkpointing": set_checkpointing,
    }
    made = exchanged(experts_class, base, SUFFIX, content)
    extra = inspect.Parameter("domain", inspect.Parameter.KEYWORD_ONLY, default=None)
    before = [one for one in plain.parameters.values() if one.kind is not one.VAR_KEYWORD]
    after = [one for one in plain.parameters.values() if one.kind is one.VAR_KEYWORD]
    made.forward.__signature__ = plain.replace(parameters=[*before, extra, *after])
    return made


@cache
def config_class(base: type[PretrainedConfig]) -> type[PretrainedConfig]:
    """The subclass that is written under a name which the stock classes do not know."""

    def written(self: Any, use_diff: bool = True) -> str:
        found = json.loads(super(made, self).to_json_string(use_diff=use_diff))
        return json.dumps(found | {"model_type": MODEL_TYPE}, indent=2, sort_keys=True) + "\n"

    made = exchanged(config_class, base, SUFFIX, {"to_json_string": written})
    return made


def is_converted(model: Any) -> bool:
    """Whether a model of transformers has experts."""
    return isinstance(model, PreTrainedModel) and hasattr(model, "expert_assignment")


def convert(model: PreTrainedModel, plan: Plan) -> None:
    """Give a model its experts, in place."""
    install(model, plan)
    base, config = type(model), model.config
    config.kilter_experts = plan.kept()
    config.__class__ = config_class(type(config))
    model.__class__ = experts_class(base)
    registry: Any = getattr(modeling_utils, "_CAN_RECORD_REGISTRY", {})  # of hidden states, by the class's name
    if (recorded := dict.get(registry, str(base))) is not None:
        dict.__setitem__(registry, str(type(model)), recorded)


def restore_class(model: Any) -> None:
    """Make the class, and the settings, those of the model before it was converted."""
    give_back(model)
    give_back(model.config)
    del model.config.kilter_experts


def load_config(name: str | PathLike[str], **how: Any) -> PretrainedConfig:
    """The settings of a saved model with experts.

    Raises:
        Unloadable: there is no such model.
    """
    with reading(name, "a model with experts"):
        found, _ = PretrainedConfig.get_config_dict(name, **how)
        if found.get("model_type") != MODEL_TYPE:
            kind = found.get("model_type", "none that it names")
            raise Unloadable(f"{name}: has no experts (its type is {kind}); load it as any other model")
        config = AutoConfig.for_model(**found | {"model_type": found["kilter_experts"]["base_type"]})
        config.__class__ = config_class(type(config))
        return config


def load_encoder(name: str | PathLike[str], config: PretrainedConfig | None = None, **how: Any) -> Any:
    """A saved model with experts, with all its weights.

    Raises:
        Unloadable: there is none, it is not whole, or its class is not known.
    """
    config = config or load_config(name)
    architecture = Plan.of(config).architecture
    base = getattr(transformers, architecture, None)
    if base is None:
        raise Unloadable(f"{name}: transformers has no {architecture}; install the version that it was saved with")
    with reading(name, "a model with experts"):
        return load_model(experts_class(base), name, config=config, **how).eval()
