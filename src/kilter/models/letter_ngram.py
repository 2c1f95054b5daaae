"""A language model of letters, counted in the texts of a training set, for the search of `ctc_prefix_beam_search`.

Paper: I. Witten and T. Bell, "The zero-frequency problem: estimating the probabilities of novel events in adaptive
text compression", IEEE Transactions on Information Theory 1991 (their method C, interpolated).
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kilter.models.spelling import Spelling

_START = -1


class LetterNGram:
    r"""How well each token goes on from the tokens before it, as `fuse` of `ctc_prefix_beam_search`.

    $$p(v \mid h) = \frac{n(hv) + k(h)\, p(v \mid h')}{n(h) + k(h)}, \qquad f(h)_v = w \log p(v \mid h) + \beta$$

    k is the number of different tokens seen after the history h, h' is h without its oldest token, and $\beta$, not
    given to the end, repays a labelling for its length.

    Args:
        texts: what to count, without the texts that are to be judged.
        tokenizer: of the recogniser; its blank (id 0) stands for the end.
        order: tokens of the longest n-gram.
        weight: w.
        bonus: β, for each token.

    Raises:
        ValueError: an order below 1, a negative weight, or a text that the tokenizer cannot spell; it is named.

    Example:
        >>> from kilter.models.small_speech import letter_tokenizer
        >>> model = LetterNGram(["abab"], letter_tokenizer("ab"), order=2, weight=1.0, bonus=0.0)
        >>> model([[3]]).exp()  # after "a": the end, unknown, space, a, b
        tensor([[0.0667, 0.0250, 0.0250, 0.1083, 0.7750]])

    Reference: Witten and Bell, 1991.
    """

    def __init__(
        self, texts: Sequence[str], tokenizer: Any, *, order: int = 7, weight: float = 0.7, bonus: float = 1.0
    ) -> None:
        if order < 1 or not weight >= 0:
            raise ValueError(f"order must be at least 1 and weight at least 0, got {order}, {weight}")
        self.order, self.weight, self.bonus, self._size = order, weight, bonus, len(tokenizer)
        self._after: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        spelling = Spelling(tokenizer, len(tokenizer), 0)
        spelling.check([(f"text {place}", text) for place, text in enumerate(texts)])
        for text in texts:
            said = [_START, *spelling.spell(text).ids, 0]
            for end in range(1, len(said)):
                for start in range(max(end - order + 1, 0), end + 1):
                    self._after[tuple(said[start:end])][said[end]] += 1
        self._known: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, prefixes: list[list[int]]) -> Float[Tensor, "prefixes vocab"]:
        """Weighted log-probabilities of the next token."""
        histories = [[_START, *prefix][max(len(prefix) + 2 - self.order, 0) :] for prefix in prefixes]
        scores = self.weight * torch.stack([self._next(tuple(history)) for history in histories]).log()
        scores[:, 1:] += self.bonus
        return scores

    def _next(self, history: tuple[int, ...]) -> Float[Tensor, " vocab"]:
        if history not in self._known:
            shorter = self._next(history[1:]) if history else torch.full((self._size,), 1 / self._size)
            if (seen := self._after.get(history)) is not None:
                counts = torch.zeros(self._size)
                counts[list(seen)] = torch.tensor(list(seen.values()), dtype=torch.float32)
                shorter = (counts + len(seen) * shorter) / (counts.sum() + len(seen))
            self._known[history] = shorter
        return self._known[history]
