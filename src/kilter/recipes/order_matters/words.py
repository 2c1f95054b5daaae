"""Order Matters on groups of five words: orders that are given, and orders that are searched for while training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, Any, ClassVar

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Term
from kilter.lab.options import NOT_NEGATIVE
from kilter.tasks.set_likelihood import WordGroups
from kilter.tasks.set_likelihood.words import GROUP

_VARIANTS = ("search+ancestral", "search+greedy", "search+cold")
_ALL = ("scrambled", "natural", "reversed", "uniform", "easy", "search", *_VARIANTS)


@dataclass(kw_only=True)
class OrderMattersWords(WordGroups):
    """Let a model find out in which order the elements of a set are best written, while it learns to write them.

    For a number of steps orders are drawn alike; after that each set's order is drawn as likely as the model finds it,
    and the model learns that order. Here the elements are five words, each with its place. All 120 orders are scored to
    draw one; drawn from left to right instead (+ancestral), frequent words come first and the model settles on nothing.

    Without --train the words are those of three novels, with --train of your texts.

    Presets: smoke is a test of seconds, demo three arms in minutes, full all arms, three seeds;
    words: the same as full, recorded under a name of its own beside sorting;
    published: more words and a wider model;
    own (by default with --train): the order of the text against the search.
    """

    task: str = "words"
    """sort, star or words"""
    warmup_steps: Annotated[int, NOT_NEGATIVE] = 1000
    """steps in which orders are drawn alike, before the search (published: 1000)"""

    paper = cards()["order-matters"]
    _SIZES: ClassVar[Mapping[str, Any]] = {  # a search settles in many steps at a high rate, not in large batches
        "vocabulary": 1000,
        "learning_rate": 4e-3,
        "batch_size": 32,
        "steps": 3000,
        "warmup_steps": 300,
    }
    _FULL: ClassVar[Mapping[str, Any]] = {"arms": _ALL, "seeds": 3, "jobs": 2, **_SIZES}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("scrambled", "natural", "easy", "search"), "warmup_steps": 3, **WordGroups.smoke},
        "demo": {"arms": ("scrambled", "natural", "search"), "jobs": 2, **_SIZES, "steps": 1500, "warmup_steps": 150},
        "full": _FULL,
        "words": _FULL,  # under this name it is kept as evidence beside sorting
        "published": {
            "arms": _ALL,
            "vocabulary": 10_000,
            "dim": 650,
            "dropout": 0.5,
            "steps": 50_000,
            "save_steps": 1000,
            "seeds": 3,
        },
        "own": {"arms": ("natural", "search"), **_SIZES},  # what --train means
    }

    def brings(self) -> Mapping[str, Term]:
        """The search over all orders, and over two."""
        variants = {
            "ancestral": ", drawn from left to right",
            "greedy": ", the likeliest order",
            "cold": ", at once",
        }
        return {
            "search": Term("Search over 120 orders", self._searched, variants=variants),
            "easy": Term("Search over two orders", self._easy),
        }

    def _searched(
        self, strength: float | None, *, ancestral: bool = False, greedy: bool = False, cold: bool = False
    ) -> Levers:
        every = None if ancestral else [*permutations(range(GROUP))]  # among candidates, whole orders are scored
        how: Any = {"sampler": "greedy" if greedy else "ancestral" if ancestral else "exact"}
        how |= {"warmup_steps": 0} if cold else {}
        return Levers(objective=lambda model: self._search(every, **how), beside=False)

    def _easy(self, strength: float | None) -> Levers:
        two = [self.orders()[name][1] for name in ("natural", "scrambled")]
        return Levers(objective=lambda model: self._search(two, sampler="exact"), beside=False)

    def _search(self, candidates: Any, **how: Any) -> Any:
        from kilter.recipes.order_matters.among import SearchAmong

        return SearchAmong(candidates, **{"warmup_steps": self.warmup_steps, **how})

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what the search finds beside the order of the text, two orders and none."""
        pairs = [
            ("scrambled", "natural"),
            ("scrambled", "easy"),
            *((other, "search") for other in _ALL if other not in ("scrambled", "search")),
        ]
        return self.with_claims(
            Claim(metric, "lower", *pair) for metric in ("perplexity", "perplexity_summed") for pair in pairs
        )

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What is published."""
        published = (
            "Published, of the Penn treebank with 10,000 words: perplexity 225 in the order of the text, 280 as "
            "(5, 1, 3, 4, 2), 225 where two orders or all 120 are searched, which settles on the order of the text or "
            "its reverse."
        )
        return [*super().notes(summary), *[published] * (not self.own_data())]
