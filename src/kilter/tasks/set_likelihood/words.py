"""Groups of five words in a row, written in one order or another: of three novels, or of the user's texts."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import permutations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tyro.conf import arg

from kilter.core.sources import check_reread
from kilter.lab.options import at_least
from kilter.lab.recipe import Judged, Metric, Provenance
from kilter.tasks.set_likelihood.task import Order, SetLikelihood

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

    from kilter.tasks.set_likelihood.learning import Sets

GROUP = 5
"""Words of a group, as published."""
SCRAMBLED = (4, 0, 2, 3, 1)
"""The paper's bad order, which it writes (5, 1, 3, 4, 2)."""
_UNKNOWN = "<unk>"
_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+|[^\w\s]")
_TENTH = 10
_AT_ONCE = 20
"""Groups whose 120 orders are judged at once."""


@dataclass(kw_only=True)
class WordGroups(SetLikelihood):
    """Options of every recipe on groups of words."""

    train_data: Annotated[str | None, arg(name="train")] = None
    """your texts instead of novels: .txt, a folder of them, .csv or .jsonl with column text, or a hub dataset"""
    vocabulary: Annotated[int, at_least(3)] = 2000
    """words that are told apart, the most frequent ones; all others are one"""
    test_groups: Annotated[int, at_least(1)] = 5000
    """groups to judge on"""
    summed_groups: Annotated[int, at_least(1)] = 500
    """of these, groups of which all orders are summed over"""

    baseline: ClassVar[str] = "scrambled"
    given: ClassVar[str] = "Order 5-1-3-4-2"
    own_by: ClassVar[tuple[str, ...]] = ("train", "train_data")
    judging = frozenset({"test_groups", "summed_groups"})
    metrics: ClassVar[Mapping[str, Metric]] = {
        "perplexity": Metric("Perplexity per word", "", "lower", 1, (1.0, None), exp=True),
        "perplexity_summed": Metric("Perplexity per word, summed over orders", "", "lower", 1, (1.0, None), exp=True),
    }
    smoke: ClassVar[Mapping[str, Any]] = {
        "vocabulary": 50,
        "test_groups": 40,
        "summed_groups": 3,
        "dim": 8,
        "steps": 6,
        "batch_size": 8,
        "save_steps": 2,
    }
    """sizes of a preset that takes seconds"""

    def orders(self) -> Mapping[str, tuple[str, Order | None]]:
        """The paper's bad order, that of the text, and any."""
        return {
            "scrambled": ("Order 5-1-3-4-2", SCRAMBLED),
            "natural": ("Order of the text", tuple(range(GROUP))),
            "reversed": ("Reversed order", tuple(reversed(range(GROUP)))),
            "uniform": ("Any order", None),
        }

    def credit(self) -> Provenance:
        """The novels, or the user's texts: of each text a tenth is judged on, and a tenth chosen by.

        Raises:
            ValueError: there is no such text, or it is too short.
        """
        texts, found = self._texts()
        parts: tuple[list[str], ...] = ([], [], [])
        for text in texts:
            tokens = tokens_of(text)
            tenth = len(tokens) // _TENTH
            cuts = (0, len(tokens) - 2 * tenth, len(tokens) - tenth, len(tokens))
            for part, first, end in zip(parts, cuts, cuts[1:], strict=False):
                part += tokens[first:end]
        if min(map(len, parts)) < GROUP:
            raise ValueError(f"{found.source or found.title}: too short for groups of {GROUP} words; give longer texts")
        self._words = parts
        return found

    def _texts(self) -> tuple[list[str], Provenance]:
        if self.train_data is None:
            from kilter.data.assets import locate
            from kilter.data.books import load_texts, strip_gutenberg

            books = locate("books", progress=False)
            texts = [strip_gutenberg(text) for text in load_texts(books.path).values()]
            return texts, Provenance(**books.credit())
        from kilter.data.texts import read_texts

        check_reread("texts", train=self.train_data)
        texts = read_texts(self.train_data)
        digest = sha256(repr(texts).encode()).hexdigest()[:16]
        return texts, Provenance(f"your texts: {len(texts):,}", source=self.train_data, digest=digest)

    def sets(self, seed: int) -> "Sets":
        """Every five words in a row to learn from; of the rest groups that do not overlap."""
        from kilter.tasks.set_likelihood.learning import Sets

        train, dev, test = self._words
        names = [_UNKNOWN, *(word for word, _ in Counter(train).most_common(self.vocabulary - 1))]
        known = {word: place for place, word in enumerate(names)}
        groups = (groups_of(words, known, step) for words, step in ((train, 1), (dev, GROUP), (test, GROUP)))
        learnt, chosen, judged = groups
        chosen, judged = (part[spread(part, self.test_groups)] for part in (chosen, judged))
        return Sets(learnt, chosen, judged, len(names), names)

    def judged(self, model: Any, order: Order | None, sets: "Sets") -> Judged:
        """Perplexity in the order that was learnt or is preferred, and over all orders where there are several."""
        from kilter.models.set_writer import log_sum_over
        from kilter.tasks.set_likelihood.learning import nats

        found, orders = nats(model, sets.test, order)
        rows: list[dict[str, Any]] = [
            {
                "input": place,
                "orders": [orders[place].tolist()] * (order is None),
                "totals": {"perplexity": [float(one), GROUP]},
            }
            for place, one in enumerate(found)
        ]
        some = spread(sets.test, self.summed_groups)
        if order is None:
            import torch

            every = [*permutations(range(GROUP))]
            with torch.no_grad():
                parts = sets.test[some].to(next(model.parameters()).device).split(_AT_ONCE)
                summed = torch.cat([-log_sum_over(model, part, every).cpu() for part in parts])
        else:
            summed = found[some]  # its order is certain
        for place, one in zip(some.tolist(), summed, strict=True):
            rows[place]["totals"]["perplexity_summed"] = [float(one), GROUP]
        figures = {
            name: math.exp(sum(map(float, values)) / (GROUP * len(values)))
            for name, values in (("perplexity", found), ("perplexity_summed", summed))
        }
        return Judged(figures, rows)

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not, whatever was compared."""
        return [
            f"Groups are any {GROUP} words or signs in a row, without what stands before them; of each text the last "
            "tenth is judged on, and the one before it chooses the checkpoint. All words but the "
            f"{self.vocabulary - 1:,} most frequent ones are one word: read how arms differ, not how high perplexity "
            "is.",
            "A given order is certain and costs nothing. With a search, perplexity is that of the order which the "
            "model prefers, chosen place by place by what it has written; the other sums over all 120 orders, of "
            f"{self.summed_groups:,} groups.",
            *self.preferred(summary),
        ]


def tokens_of(text: str) -> list[str]:
    """Words in small letters, numbers and signs.

    Example:
        >>> tokens_of("Call me Ishmael. It's 1851")
        ['call', 'me', 'ishmael', '.', "it's", '1851']
    """
    return _TOKEN.findall(text.lower())


def spread(groups: "Int[Tensor, 'groups places']", most: int) -> "Int[Tensor, ' some']":
    """Numbers of at most so many groups, as far apart as they can be, so that all texts have their share."""
    import torch

    return torch.linspace(0, len(groups) - 1, min(most, len(groups))).long()


def groups_of(words: Sequence[str], known: Mapping[str, int], step: int) -> "Int[Tensor, 'groups places']":
    """Words in a row as numbers, a group beginning at every `step`; 0 for those that are not known."""
    import torch

    return torch.tensor([known.get(word, 0) for word in words]).unfold(0, GROUP, step)
