"""Where a transformer has its feed-forward blocks, and experts put in their place and taken out again.

Where a layer has one block it is copied. In BERT's kind (`intermediate`, then `output.dense`) a copy is of both, in the
place of the second, so that rows are sorted once a layer, at its width, and the pretrained LayerNorm stays.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from kilter.hosts.expert_lora import LoraExperts, lora_merged
from kilter.ops.experts import Assignment, Experts, Routing

Layers = Literal["all", "middle"] | Sequence[int]

_ONE_BLOCK = ("mlp", "ffn", "feed_forward", "DenseReluDense")


@dataclass(frozen=True)
class Plan:
    """All that is needed to build the same experts again; what `config.json` keeps.

    Attributes:
        domains: their names, in the order of the experts.
        layers: which feed-forward blocks are copied, counted from 0.
        routing: see `Experts`.
        top_k: experts of a row, with that routing.
        domain_tokens: the domain's token stays where it stands, instead of what stood there.
        first_token: token id of the first domain; None without a tokenizer.
        front: token that begins every text and gives way to the domain's; None where there is none.
        rows: of the embedding before there were domains.
        compat: the released form.
        lora_rank: experts are LoRAs of one frozen block.
        architecture: name of the class of transformers.
        base_type: what its `config.json` calls it.
    """

    domains: tuple[str, ...]
    layers: tuple[int, ...]
    routing: Routing
    top_k: int
    domain_tokens: bool
    first_token: int | None
    front: int | None
    rows: int | None
    compat: bool
    lora_rank: int | None
    architecture: str
    base_type: str

    @classmethod
    def of(cls, config: Any) -> "Plan":
        """The one that a model's configuration keeps.

        Raises:
            ValueError: it is not whole, or of another version of kilter.
        """
        try:
            kept: dict[str, Any] = {
                name: value for name, value in config.kilter_experts.items() if name != "model_type"
            }
            kept |= {"domains": (*kept["domains"],), "layers": (*kept["layers"],)}
            return cls(**kept)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"config.json: kilter_experts is not whole, or of another version of kilter ({error}); save it anew"
            ) from error

    def kept(self) -> dict[str, Any]:
        """As JSON has it; by the empty `model_type` a tokenizer that is loaded alone finds settings that it accepts."""
        return asdict(self) | {"domains": [*self.domains], "layers": [*self.layers], "model_type": ""}


class Site(NamedTuple):
    """A feed-forward block: in BERT's kind the layer, else its owner and the name there."""

    owner: nn.Module
    name: str


class Through(nn.Module):
    """Stands where `intermediate` was."""

    def forward(self, x: Tensor) -> Tensor:
        """What comes in."""
        return x


class Released(nn.Module):
    """The end of a layer as it was released: a new LayerNorm before the experts, the pretrained one left out."""

    def __init__(self, dense: Experts, width: int, dropout: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dense = dense
        self.dropout = dropout

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Shapes as in the layer's own."""
        return self.dropout(self.dense(self.norm(x))) + residual


def sites(model: nn.Module) -> list[Site]:
    """The feed-forward blocks of a model, from the first layer to the last.

    Raises:
        ValueError: there are none that are known.
    """
    found: list[Site] = []
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name.startswith(inside):
            continue
        if _is_berts(module):
            found.append(Site(module, "output"))
            inside += (f"{name}.intermediate.", f"{name}.output.")
        for block in _ONE_BLOCK:
            if _is_block(getattr(module, block, None)):
                found.append(Site(module, block))
                inside += (f"{name}.{block}.",)
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no feed-forward block that is known: layers need intermediate and "
            f"output.dense, or one of {', '.join(_ONE_BLOCK)} with two linear maps"
        )
    return found


def _is_berts(module: nn.Module) -> bool:
    return isinstance(getattr(module, "intermediate", None), nn.Module) and isinstance(
        getattr(getattr(module, "output", None), "dense", None), nn.Linear
    )


def _is_block(module: Any) -> bool:
    return isinstance(module, nn.Module) and sum(p.ndim == 2 for p in module.parameters()) >= 2


def chosen(layers: Layers, count: int) -> tuple[int, ...]:
    """Numbers of the layers that are meant.

    Raises:
        ValueError: a layer that is not there, or one twice.
    """
    if isinstance(layers, str):
        if layers not in ("all", "middle"):
            raise ValueError(f'layers must be "all", "middle" or a list of numbers, got {layers!r}')
        return tuple(range(count)) if layers == "all" else (count // 2,)
    if not isinstance(layers, Iterable):
        raise ValueError(f'layers must be "all", "middle" or a list of numbers, got {layers!r}')
    numbers = tuple(layers)
    if not numbers or len({*numbers}) < len(numbers):
        raise ValueError(f"layers must name at least one layer, and each once, got {list(numbers)}")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"layers must hold whole numbers, got {number!r}")
        if not 0 <= number < count:
            raise ValueError(f"layers: there is no layer {number}; the model has 0 to {count - 1}")
    return tuple(sorted(numbers))


def install(model: Any, plan: Plan) -> None:
    """Put experts in the place of the blocks; with the same weights everywhere."""
    model.expert_assignment = assignment = Assignment(len(plan.domains))
    places = sites(model)
    for number in plan.layers:
        owner, name = places[number]
        block: Any = getattr(owner, name)
        if name != "output":
            setattr(owner, name, _experts(model, block, plan, assignment))
            continue
        inner = nn.Sequential(owner.get_submodule("intermediate"), block.dense)
        owner.intermediate = Through()
        experts = _experts(model, inner, plan, assignment)
        if plan.compat:
            owner.output = Released(experts, _width(model.config), block.dropout).to(_like(inner))
        else:
            block.dense = experts
    model.train(model.training)


def _experts(model: Any, block: nn.Module, plan: Plan, assignment: Assignment) -> Experts:
    options = {"routing": plan.routing, "width": _width(model.config), "k": plan.top_k}
    if plan.lora_rank is None:
        copies = [block, *(deepcopy(block) for _ in plan.domains[1:])]
        made = Experts(copies, assignment, **options)
    else:
        made = LoraExperts(block, assignment, rank=plan.lora_rank, **options)
    if made.router is not None:
        made.router.to(_like(block))
    return made


def _like(block: nn.Module) -> Tensor:
    return next(p for p in block.parameters() if p.is_floating_point())


def _width(config: Any) -> int:
    text = config.get_text_config()
    return int(text.hidden_size)


def all_experts(model: nn.Module) -> Iterable[Experts]:
    """Of a model's layers."""
    return (module for module in model.modules() if isinstance(module, Experts))


@torch.no_grad()
def uninstall(model: Any, weights: Sequence[float]) -> None:
    """Put one block back in the place of each layer's experts: their mean, by `weights` that sum to 1."""
    for owner in [*model.modules()]:
        for name, child in [*owner.named_children()]:
            if isinstance(child, Experts):
                setattr(owner, name, _merged(child, weights))
    for layer in model.modules():
        if isinstance(getattr(layer, "intermediate", None), Through):
            layer.intermediate, layer.output.dense = layer.output.dense
    del model.expert_assignment


def _merged(experts: Experts, weights: Sequence[float]) -> nn.Module:
    if isinstance(experts, LoraExperts):
        return lora_merged(experts.experts[0], weights)
    first, *others = experts.experts
    for name, parameter in first.named_parameters():
        parameter.copy_(mean(parameter, [other.get_parameter(name) for other in others], weights))
    return first


def mean(first: Tensor, others: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """By weights, as what each adds to the first, so that the mean of equals is each of them, bit for bit."""
    if 1 in weights:  # of one alone, likewise
        return [first, *others][[*weights].index(1)]
    wide = torch.promote_types(first.dtype, torch.float32)
    added = [w * (other.to(wide) - first.to(wide)) for w, other in zip(weights[1:], others, strict=True)]
    return (first.to(wide) + sum(added, torch.zeros_like(first, dtype=wide))).to(first.dtype)
