"""A model of transformers with positions attached: its class gives them to each pass, its settings say what they are.

What is saved has a `model_type` of its own, so that whoever does not know of them refuses it.
"""

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from os import PathLike
from typing import Any

import torch
import transformers
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, modeling_utils
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

from kilter.core.positions import PositionTerm
from kilter.hosts.exchanged import exchanged, give_back
from kilter.hosts.loading import Unloadable, load_model, reading
from kilter.hosts.position_attention import NAME, PLAIN, PREFIX, register
from kilter.hosts.position_families import Family, family_of
from kilter.hosts.position_steps import Pass, cache_of, picture_pass, text_pass
from kilter.hosts.wrapped import in_use

MODEL_TYPE = "kilter-positions"
HINT = {"kilter": "load this model with kilter.hosts.transformers.load"}
"""In the settings, for whoever looks there after the refusal."""
SUFFIX = "WithPositions"


@cache
def positions_class(base: type[PreTrainedModel]) -> Any:
    """The subclass whose `forward` gives positions, and which builds its term when it is loaded."""
    plain = inspect.signature(base.forward)
    names = [*plain.parameters][1:]

    def built(self: Any, config: Any, *args: Any, **named: Any) -> None:
        super(made, self).__init__(config, *args, **named)
        entry = config.kilter_positions
        install(self, term_class(entry["term"])(**entry["options"]))

    def forward(self: Any, *args: Any, **named: Any) -> Any:
        named.update(zip(names, args, strict=False))
        wanted = named.pop("return_dict", None)
        wanted = getattr(self.config, "return_dict", True) if wanted is None else wanted
        found = _pass_uncompiled(self, named)
        with _handing(self, named, found.added):
            out = super(made, self).forward(**named | found.named, return_dict=True, **{NAME: found.given})
        _finish(self, named, out, found)
        return out if wanted else out.to_tuple()

    def set_checkpointing(
        self: Any, enable: bool = True, gradient_checkpointing_func: Callable[..., Any] = checkpoint, **more: Any
    ) -> None:
        if enable and getattr(gradient_checkpointing_func, "keywords", {}).get("use_reentrant"):
            raise ValueError(
                "use_reentrant must be False for a model with positions: gradients of what all layers share would be "
                "lost; gradient_checkpointing_kwargs={'use_reentrant': False}"
            )
        super(made, self)._set_gradient_checkpointing(
            enable, gradient_checkpointing_func=gradient_checkpointing_func, **more
        )

    content = {"__init__": built, "forward": forward, "_set_gradient_checkpointing": set_checkpointing}
    made = exchanged(positions_class, base, SUFFIX, content)
    made.forward.__signature__ = plain
    return made


@cache
def config_class(base: type[PretrainedConfig]) -> Any:
    """The subclass that is written under a name which the stock classes do not know."""

    def written(self: Any, use_diff: bool = True) -> str:
        found = json.loads(super(made, self).to_json_string(use_diff=use_diff))
        return json.dumps(found | {"model_type": MODEL_TYPE} | HINT, indent=2, sort_keys=True) + "\n"

    made = exchanged(config_class, base, SUFFIX, {"to_json_string": written})
    return made


def has_positions(model: Any) -> bool:
    """Whether positions are attached to a model of transformers."""
    return isinstance(model, PreTrainedModel) and "kilter_inputs" in model.__dict__


def convert(model: PreTrainedModel, term: PositionTerm) -> None:
    """Attach positions to a model, in place."""
    install(model, term)
    base, config = type(model), model.config
    config.kilter_positions = {
        "term": f"{type(term).__module__}.{type(term).__qualname__}",
        "options": term.config(),
        "architecture": base.__name__,
        "base_type": config.model_type,
    }
    config.__class__ = config_class(type(config))
    model.__class__ = positions_class(base)
    registry: Any = getattr(modeling_utils, "_CAN_RECORD_REGISTRY", {})  # of hidden states, by the class's name
    if (recorded := dict.get(registry, str(base))) is not None:
        dict.__setitem__(registry, str(type(model)), recorded)


def install(model: Any, term: PositionTerm) -> None:
    """Silence the model's own term, put the other in and let attention ask for it."""
    family = family_of(model)
    check_settings(model, family)
    weight = next(family.base.parameters())
    term.fit(family.sizes)
    model.kilter_positions = term.to(device=weight.device, dtype=weight.dtype).train(model.training)
    for layer, attention in enumerate(family.attentions):
        attention.__dict__["kilter_layer"] = layer
    before = [weight.requires_grad for weight in family.frozen]
    into = family.exchange[0][0]
    _freeze(family)
    for module, maker in family.exchange:
        module.__class__ = maker(type(module))
    model.__dict__.update(
        kilter_inputs=into,
        kilter_of_tokens=into is model.get_input_embeddings(),
        kilter_patch=family.patch,
        kilter_trained=before,
        kilter_memo={},
        kilter_parts={},
    )
    register()
    model.config._attn_implementation = PREFIX + model.config._attn_implementation


def _freeze(family: Family) -> None:
    for weight in family.frozen:
        weight.requires_grad_(False)


def uninstall(model: Any) -> None:
    """The model as it was."""
    family = family_of(model)
    give_back(model)
    for module, _ in family.exchange:
        give_back(module)
    for weight, trained in zip(family.frozen, model.__dict__["kilter_trained"], strict=True):
        weight.requires_grad_(trained)
    for attention in family.attentions:
        del attention.__dict__["kilter_layer"]
    del model.kilter_positions
    for name in [name for name in model.__dict__ if name.startswith("kilter_")]:
        del model.__dict__[name]
    config = model.config
    config._attn_implementation = config._attn_implementation.removeprefix(PREFIX)
    give_back(config)
    del config.kilter_positions


def check_settings(model: PreTrainedModel, family: Family) -> None:
    """Settings with which positions would go astray.

    Raises:
        ValueError: there are some; the message says what to set.
    """
    plain = model.config._attn_implementation
    if plain not in PLAIN:
        raise ValueError(
            f"model: its attention is {plain}; positions need {' or '.join(PLAIN)}: load it with "
            "attn_implementation='sdpa', which runs flash kernels by itself"
        )
    if plain == "eager" and getattr(model.config, "reorder_and_upcast_attn", False):
        raise ValueError("model: reorder_and_upcast_attn goes around the attention interface; set it to False")


def pass_of(model: Any, named: dict[str, Any]) -> Pass:
    """What a forward pass is given."""
    if not model.config._attn_implementation.startswith(PREFIX):
        plain = model.config._attn_implementation
        raise RuntimeError(
            f"the model's attention was set to {plain} after positions were attached; detach them, set it, and attach "
            "them again"
        )
    term, memo, patch = in_use(model.kilter_positions), model.__dict__["kilter_memo"], model.__dict__["kilter_patch"]
    if patch is None:
        return text_pass(term, named, memo)
    takes_flag = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    return picture_pass(term, named, memo, patch, takes_flag)


_pass_uncompiled: Any = torch.compiler.disable(pass_of)  # which positions occur hangs on values


@contextmanager
def _handing(model: Any, named: dict[str, Any], added: Any) -> Iterator[None]:
    """Have what is added to the inputs added in this pass, wherever they come from."""
    into, vectors = model.__dict__["kilter_inputs"], named.get("inputs_embeds")
    hook = None
    if added is not None and model.__dict__["kilter_of_tokens"]:
        tokens = model.get_input_embeddings()
        if vectors is not None:  # tokens are not looked up
            named["inputs_embeds"] = vectors + added.to(vectors.dtype)
        elif tokens is into:
            into.__dict__["kilter_handed"] = added
        else:  # exchanged since, or within what peft puts around
            hook = tokens.register_forward_hook(lambda module, given, out: out + added.to(out.dtype))
    elif added is not None:
        into.__dict__["kilter_handed"] = added
    try:
        yield
    finally:
        into.__dict__.pop("kilter_handed", None)
        if hook is not None:
            hook.remove()


def _finish(model: Any, named: dict[str, Any], out: Any, found: Pass) -> None:
    """Keep where the keys of the cache stand, and add the parts to the loss."""
    cache = cache_of(out)
    if cache is not None and found.keys is not None:
        cache.kilter_positions = found.keys
    if out.get("loss") is not None and found.parts:
        share = _share(model, named)
        out["loss"] = out["loss"] + share * torch.stack([*found.parts.values()]).sum()
        model.__dict__["kilter_parts"] = {name: (share * part).detach() for name, part in found.parts.items()}
    else:
        model.__dict__["kilter_parts"] = dict(found.parts)


def _share(model: Any, named: dict[str, Any]) -> Any:
    """How much of the whole step this batch is, where the Trainer counts its tokens over accumulation and processes."""
    count = named.get("num_items_in_batch")
    labels = named.get("labels") if named.get("shift_labels") is None else named["shift_labels"]
    if count is None or labels is None:
        return 1.0
    shifts = named.get("shift_labels") is None and LOSS_MAPPING.get(model.loss_type) is ForCausalLMLoss
    return (labels[..., 1:] if shifts else labels).ne(-100).sum() / count


# Files ----------------------------------------------------------------------------------------------------------------


def term_class(name: str) -> type[PositionTerm]:
    """A class of positions by its full name: kilter's, or one that the caller has imported.

    Raises:
        Unloadable: it is neither.
    """
    if name.startswith("kilter."):
        import_module(name.rpartition(".")[0])
    known, waiting = [], [PositionTerm]
    while waiting:
        known.append(waiting.pop())
        waiting += known[-1].__subclasses__()
    for one in known:
        if f"{one.__module__}.{one.__qualname__}" == name:
            return one
    raise Unloadable(f"the model's positions are {name}, which is not known here; import it before loading the model")


def saved_with_positions(name: str | PathLike[str]) -> bool:
    """Whether what lies there is a model with positions."""
    with reading(name, "a model of transformers"):
        return PretrainedConfig.get_config_dict(name)[0].get("model_type") == MODEL_TYPE


def load_config(name: str | PathLike[str], **how: Any) -> PretrainedConfig:
    """The settings of a saved model with positions.

    Raises:
        Unloadable: there is no such model.
    """
    with reading(name, "a model with positions"):
        found, _ = PretrainedConfig.get_config_dict(name, **how)
        if found.get("model_type") != MODEL_TYPE:
            kind = found.get("model_type", "none that it names")
            raise Unloadable(f"{name}: has no positions of kilter (its type is {kind}); load it as any other model")
        plain = {name: value for name, value in found.items() if name not in HINT}
        config = AutoConfig.for_model(**plain | {"model_type": plain["kilter_positions"]["base_type"]})
        config.__class__ = config_class(type(config))
        return config


def load_with_positions(name: str | PathLike[str], **how: Any) -> Any:
    """A saved model with positions, with all its weights.

    Raises:
        Unloadable: there is none, it is not whole, or its class is not known.
    """
    config = load_config(name)
    architecture = config.kilter_positions["architecture"]
    base = getattr(transformers, architecture, None)
    if base is None:
        raise Unloadable(f"{name}: transformers has no {architecture}; install the version that it was saved with")
    with reading(name, "a model with positions"):
        model = load_model(positions_class(base), name, config=config, **how).eval()
    _freeze(family_of(model))  # weights that are read from a file have a gradient again
    return model
