"""Which tokens a sequential position encoder has to compute, each once, and what each of them sees.

In a causal encoder the state of a digit depends on the digits before it alone, so that 1230 and 1239 share theirs but
for the last: of N consecutive positions with D digits about N/9 states are left of (D - 1)·N.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

_STRIDE = 1 << 40
"""Between the symbols of two slots: more than any digit, so that one that does not exist is taken for no other."""


class Tokens(NamedTuple):
    """Tokens of some positions, slot by slot; the last ones are the summary tokens, one for each position.

    Attributes:
        slot: place of each different symbol, a digit at its place; the summary's is behind the digits.
        digit: of each different symbol; 0 for the summary.
        symbol: which of them each token is.
        seen: which token stands in each slot of a token's row, in the last one its summary.
        mask: which of `seen` the token attends to.
    """

    slot: Int[Tensor, " symbols"]
    digit: Int[Tensor, " symbols"]
    symbol: Int[Tensor, " tokens"]
    seen: Int[Tensor, "tokens slots"]
    mask: Bool[Tensor, "tokens slots"]


def tokens_of(digits: Int[Tensor, "positions digits"], *, causal: bool) -> Tokens:
    """The tokens of positions by their digits; in a causal encoder, once for each prefix.

    Args:
        digits: of different positions in ascending order, so that equal prefixes are neighbours. Under
            `torch.compile`, whose shapes may not hang on values, of any positions, and nothing is shared.
        causal: whether a token sees those before it alone, and itself.

    Example:
        >>> tokens = tokens_of(torch.tensor([[1, 2], [1, 3]]), causal=True)
        >>> tokens.slot[tokens.symbol], tokens.digit[tokens.symbol]  # one 1; a 2 and a 3; two summaries
        (tensor([0, 1, 1, 2, 2]), tensor([1, 2, 3, 0, 0]))
        >>> tokens.seen[-2:]
        tensor([[0, 1, 3],
                [0, 2, 4]])
    """
    (rows, slots), device = digits.shape, digits.device
    compiling = torch.compiler.is_compiling()
    if causal and not compiling:
        begins = torch.ones(slots + 1, rows, dtype=torch.bool, device=device)
        begins[:-1, 1:] = (digits[1:] != digits[:-1]).cumsum(1).T > 0
        number = begins.flatten().cumsum(0).view(slots + 1, rows) - 1
        slot, row = begins.nonzero(as_tuple=True)
    else:
        number = torch.arange((slots + 1) * rows, device=device).view(slots + 1, rows)
        slot = torch.arange(slots + 1, device=device).repeat_interleave(rows)
        row = torch.arange(rows, device=device).repeat(slots + 1)
    digit = torch.cat([digits, digits.new_zeros(rows, 1)], 1)[row, slot]
    seen = number.T.contiguous().index_select(0, row)
    mask = torch.arange(slots + 1, device=device) <= slot[:, None]
    mask = mask if causal else torch.ones_like(mask)
    if compiling:
        return Tokens(slot, digit, torch.arange(len(slot), device=device), seen, mask)
    symbols, symbol = (slot * _STRIDE + digit).unique(return_inverse=True)
    return Tokens(symbols.div(_STRIDE, rounding_mode="floor"), symbols.remainder(_STRIDE), symbol, seen, mask)
