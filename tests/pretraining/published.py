"""What the golden file of the authors' encoder was made with: settings, and numbers that are drawn by their names."""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import torch
from torch import Generator, Tensor

CASES: list[dict[str, Any]] = [
    {"axes": 1, "direction": "causal", "layers": 2, "max_position": 20_000},
    {"axes": 1, "direction": "bi", "layers": 1, "max_position": 1000},
    {"axes": 2, "direction": "causal", "layers": 2, "max_position": 100},
    {"axes": 2, "direction": "bi", "layers": 3, "max_position": 100},
]


def drawn(name: str, shape: Sequence[int]) -> Tensor:
    """Numbers of a name."""
    return 0.4 * torch.randn(*shape, generator=Generator().manual_seed(crc32(name.encode())))


def position_of(number: int, size: int, axes: int) -> Any:
    """Positions all over the range."""
    return number * 7919 % size if axes == 1 else (number * 7919 % size, number * 104_729 % size)


def published_weights(encoder: torch.nn.Module) -> dict[str, Tensor]:
    """What was drawn for the authors' encoder, by our names; their linear layers are stored turned round."""
    width = 16
    theirs = {"attention_norm": "layernorm_1", "mlp_norm": "layernorm_2"}
    turned = {"attention_out": "attn.c_proj", "expand": "mlp.c_fc", "contract": "mlp.c_proj"}
    outer = {"digit": "token_of_seqpe_embed", "place": "pos_of_seqpe_embed", "norm": "layernorm", "out": "out_proj"}
    found: dict[str, Tensor] = {}
    for name, one in encoder.named_parameters():
        module, _, kind = name.rpartition(".")
        block = ".".join(module.split(".")[1:2])
        inner = module.rpartition(".")[2]
        if name == "summary":
            found[name] = drawn("cls_token_embed", (1, 1, width)).flatten()
        elif module == "axis":
            found[name] = drawn("dim_token_embed", (len(one), 1, width))[:, 0]
        elif module in outer:
            found[name] = drawn(f"{outer[module]}.{kind}", one.shape)
        elif inner in theirs:
            found[name] = drawn(f"transformers.{block}.{theirs[inner]}.{kind}", one.shape)
        elif inner in turned:
            found[name] = drawn(f"transformers.{block}.{turned[inner]}.{kind}", one.t().shape).t()
        else:
            shape = (width, 3 * width) if kind == "weight" else (3 * width,)
            fused = drawn(f"transformers.{block}.attn.c_attn.{kind}", shape).t()
            found[name] = fused[:width] if inner == "query" else fused[width:]
    return found
