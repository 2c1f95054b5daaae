"""A sequential position encoder as plainly as it can be written: each token of each position, by torch's own layers."""

import torch
from torch import Tensor, nn

from kilter.pretraining import SequentialPositionEncoder


def digits_by_text(position: tuple[int, ...], digits: int) -> list[int]:
    """Digits in base 10, by way of a text."""
    return [int(letter) for number in position for letter in str(number).zfill(digits)]


def gelu(x: Tensor) -> Tensor:
    return nn.functional.gelu(x, approximate="tanh")


def plain(encoder: SequentialPositionEncoder, positions: list[tuple[int, ...]]) -> Tensor:
    """Vectors of positions."""
    return states(encoder, [digits_by_text(one, encoder.num_digits) for one in positions])[1]


def states(encoder: SequentialPositionEncoder, digits: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Of digits the states behind the last block, and the vectors of the positions."""
    slots = len(digits[0])
    x = encoder.digit.weight[torch.tensor(digits)] + encoder.place.weight
    if encoder.axis is not None:
        x = x + encoder.axis.weight.repeat_interleave(encoder.num_digits, 0)
    x = torch.cat([x, encoder.summary.expand(len(x), 1, -1)], 1)
    hidden = torch.ones(slots + 1, slots + 1, dtype=torch.bool).triu(1) if encoder.direction == "causal" else None
    for block in encoder.blocks:
        x = torch.func.functional_call(layer_of(encoder), weights_of(block), (x, hidden))
    return x, encoder.out(encoder.norm(x[:, -1]))


def layer_of(encoder: SequentialPositionEncoder) -> nn.TransformerEncoderLayer:
    width = encoder.width
    layer = nn.TransformerEncoderLayer(
        width, encoder.heads, 4 * width, dropout=0.0, activation=gelu, batch_first=True, norm_first=True
    )
    return layer.to(encoder.summary)


def weights_of(block: nn.Module) -> dict[str, Tensor]:
    """A block's parameters by the names of torch's layer, with gradients."""
    ours = dict(block.named_parameters())
    theirs = {
        "self_attn.out_proj": "attention_out",
        "linear1": "expand",
        "linear2": "contract",
        "norm1": "attention_norm",
        "norm2": "mlp_norm",
    }
    found = {
        f"self_attn.in_proj_{kind}": torch.cat([ours[f"query.{kind}"], ours[f"key_value.{kind}"]])
        for kind in ("weight", "bias")
    }
    return found | {f"{a}.{kind}": ours[f"{b}.{kind}"] for a, b in theirs.items() for kind in ("weight", "bias")}
