"""The loss of contrastive context prediction: softmax over the batch's other sentences and a bank, of one language.

Paper: Wu et al., IJCAI 2022, arXiv 2206.03281. The departure: the mean over pairs and directions, not their sum.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from kilter.core.checks import finite, first, floating, integer, one_per_row, positive, readable, same_shape, shaped

_SHORTEST = 1e-4
"""Vectors shorter than this are not stretched to length 1."""


def context_prediction_loss(
    centre: Float[Tensor, "batch dim"],
    context: Float[Tensor, "batch dim"],
    language: Int[Tensor, " batch"] | None = None,
    bank: Float[Tensor, "rows dim"] | None = None,
    bank_language: Int[Tensor, " rows"] | None = None,
    *,
    temperature: float = 0.1,
    both_directions: bool = True,
    centres_as_negatives: bool = True,
) -> Float[Tensor, " batch"]:
    r"""How unlikely each sentence finds the one near it, and that one the sentence, among all of their language.

    $$-\log \frac{e^{q_i \cdot k_i / \tau}}
      {\sum_j e^{q_i \cdot k_j / \tau} + \sum_{j \ne i} e^{q_i \cdot q_j / \tau} + \sum_b e^{q_i \cdot b / \tau}}$$

    with $q$ the centres, $k$ the contexts and $b$ the rows of the bank, all scaled to length 1; then the same with $q$
    and $k$ exchanged, and the mean of both. Sums run over what is of the language of $i$. A pair that is alone in its
    language, without a row of it in the bank, has nothing to be compared with: its value is 0, without gradient. Equal
    texts cannot be told here and count as negatives of each other, so de-duplicate them (`ContextPairs` does).

    Args:
        centre: vectors q of sentences, of any length.
        context: vectors k of a sentence near each.
        language: number of the language of each pair; None takes all for one.
        bank: vectors b of other sentences; they get no gradient.
        bank_language: number of the language of each; a negative number counts against nobody. None counts them all
            against everybody.
        temperature: τ.
        both_directions: also from context to centre; else from centre to context alone.
        centres_as_negatives: other centres count against a centre (and other contexts against a context).

    Returns:
        One value per pair.

    Raises:
        TypeError: vectors that are not floating point, or languages that are not integers.
        ValueError: shapes that do not fit, languages of a bank that is not there; on the CPU also NaN, infinity and
            pairs with a negative language.

    Example:
        >>> q = k = torch.eye(4)
        >>> context_prediction_loss(q, k, temperature=1.0)  # log(e + 6) - 1
        tensor([1.1654, 1.1654, 1.1654, 1.1654])

    Reference: Wu et al., IJCAI 2022, contrastive context prediction and language-specific memory bank.
    """
    positive("temperature", temperature)
    check_pairs(centre, context, language)
    _check_bank(centre, bank, bank_language)
    dtype = torch.promote_types(centre.dtype, torch.float32)
    with torch.autocast(centre.device.type, enabled=False):
        sides = unit(torch.stack([centre, context]).to(dtype))
        rows = sides.new_zeros(0, sides.shape[-1]) if bank is None else unit(bank.detach().to(dtype))
        asked = sides[: 1 + both_directions] / temperature
        found, _ = surprise(asked, sides, rows, language, bank_language, centres_as_negatives=centres_as_negatives)
    return found.mean(0)


def unit(vectors: Float[Tensor, "*lead dim"]) -> Float[Tensor, "*lead dim"]:
    """Vectors of length 1; very short ones stay short."""
    return F.normalize(vectors, dim=-1, eps=_SHORTEST)


def surprise(
    asked: Float[Tensor, "directions batch dim"],
    sides: Float[Tensor, "2 everyone dim"],
    bank: Float[Tensor, "rows dim"],
    language: Int[Tensor, " everyone"] | None,
    bank_language: Int[Tensor, " rows"] | None,
    *,
    centres_as_negatives: bool,
    start: int = 0,
) -> tuple[Float[Tensor, "directions batch"], Bool[Tensor, "directions batch"]]:
    """Surprise of the pairs from `start` in each direction, and whether they find each other before all else.

    Both directions have the same candidates, so that one product with them serves both.
    """
    directions, batch, _ = asked.shape
    everyone = sides.shape[1]
    mine = slice(start, start + batch)
    logits = (asked @ sides.flatten(0, 1).T).view(directions, batch, 2, everyone)
    own = logits.diagonal(start, 1, 3).flip(1).diagonal(0, 0, 1).T  # of each direction the other side's
    pair = torch.arange(everyone, device=asked.device)
    itself = (pair == pair[mine, None])[:, None] if centres_as_negatives else True
    out = torch.eye(2, dtype=torch.bool, device=asked.device)[:directions, None, :, None] & itself
    if language is not None:
        out = out | (language[mine, None] != language)[:, None]
    others = asked @ bank.T
    if bank_language is not None:
        foreign = bank_language < 0 if language is None else language[mine, None] != bank_language
        others = others.masked_fill(foreign, -torch.inf)
    scores = torch.cat([logits.masked_fill(out, -torch.inf).flatten(2), others], -1)
    return scores.logsumexp(-1) - own, (scores.detach() >= own.detach()[..., None]).sum(-1) == 1


def check_pairs(centre: Tensor, context: Tensor, language: Tensor | None) -> None:
    """Check shapes, dtypes and, where they can be read, values; see `context_prediction_loss`."""
    floating("centre", centre, "give the encoder's vectors")
    shaped("centre", centre, "batch, dim", "give one vector per text")
    floating("context", context, "give the encoder's vectors")
    same_shape("context", context, centre.shape, "centre", "give one vector per centre, from the same encoder")
    for name, tensor in (("centre", centre), ("context", context)):
        finite(name, tensor, mend="lower the learning rate, or look at that text's encoding")
    if language is not None:
        integer("language", language, "hold integers", "number the languages")
        one_per_row("language", language, len(centre), "centre", "give one number per row")
        if readable(language) and (at := first(language < 0)):
            raise ValueError(f"row {at[0]}: language is {int(language[at[0]])}, but numbers of languages start at 0")


def _check_bank(centre: Tensor, bank: Tensor | None, bank_language: Tensor | None) -> None:
    if bank is not None:
        floating("bank", bank, "give vectors such as centre")
        shaped("bank", bank, "rows, dim", "give one vector per row")
        same_shape("bank", bank, (len(bank), centre.shape[1]), "centre apart from its rows")
        finite("bank", bank, mend="leave that row out")
    if bank_language is not None:
        integer("bank_language", bank_language, "hold integers", "number the languages")
        one_per_row("bank_language", bank_language, 0 if bank is None else len(bank), "bank", "give one per row")
