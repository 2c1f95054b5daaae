"""Experts that are LoRAs of one frozen block, by peft: N domains for the memory of little more than one."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kilter.core.checks import whole
from kilter.core.errors import extra
from kilter.ops.experts import Assignment, Experts


class LoraExperts(Experts):
    """One block whose linear maps have a LoRA for each domain; the block itself is frozen.

    Args:
        block: what all experts have in common.
        assignment: see `Experts`, as the other options.
        rank: of the LoRAs, which begin as nothing.

    Raises:
        ValueError: a rank below 1.
        ModuleNotFoundError: peft is missing.
    """

    def __init__(self, block: nn.Module, assignment: Assignment, *, rank: int, **options: Any) -> None:
        whole("lora_rank", rank, 1)
        super().__init__([block] * assignment.count, assignment, **options)
        self.experts = nn.ModuleList([_with_loras(block, assignment.count, rank)])

    def run(self, expert: int, x: Tensor) -> Tensor:
        """The block, with the LoRA of one expert."""
        for layer in _loras(self.experts[0]):
            layer._active_adapter = [str(expert)]  # and not set_adapter, which freezes the others
        return self.experts[0](x)


def check_loras(blocks: Iterable[nn.Module]) -> None:
    """Whether blocks can have LoRAs, before anything is changed.

    Raises:
        ModuleNotFoundError: peft is missing.
        ValueError: a block without linear maps.
    """
    extra("peft")
    for block in blocks:
        if not _linear(block):
            raise ValueError(
                f"lora_rank needs feed-forward blocks of nn.Linear, and {type(block).__name__} has none; leave it out"
            )


def _linear(block: nn.Module) -> list[str]:
    return [name for name, module in block.named_modules() if isinstance(module, nn.Linear)]


def _with_loras(block: nn.Module, count: int, rank: int) -> nn.Module:
    peft = extra("peft")
    names = _linear(block)
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="|".join(map(re.escape, names)))
    block.requires_grad_(False)
    for expert in range(count):
        peft.inject_adapter_in_model(config, block, adapter_name=str(expert))
        del block.peft_config  # it would make hosts take the whole model for an adapter's
    for name, parameter in block.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return block


def _loras(block: nn.Module) -> list[Any]:
    return [module for module in block.modules() if hasattr(module, "lora_A")]


@torch.no_grad()
def lora_merged(block: nn.Module, weights: Sequence[float]) -> nn.Module:
    """The block alone, with the mean of its LoRAs added to its weights."""
    for name, layer in [*block.named_modules()]:
        if not hasattr(layer, "lora_A"):
            continue
        base: Any = layer.base_layer
        delta: Any = layer.get_delta_weight
        for expert, weight in enumerate(weights):
            if weight:
                base.weight += weight * delta(str(expert)).to(base.weight)
        owner, _, last = name.rpartition(".")
        setattr(block.get_submodule(owner), last, base)
    return block.requires_grad_(True)
