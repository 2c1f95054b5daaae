"""Order Matters on stars of random variables: written from the head on, or with the head at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kilter.core.paper import Claim, cards
from kilter.tasks.set_likelihood import StarVariables

_OTHERS = ("samples-200", "samples-20000", "peak-8")
_ALL = (
    "head-last",
    "head-first",
    "uniform",
    *(f"{order}{one}" for one in _OTHERS for order in ("", "head-first+")),
)


@dataclass(kw_only=True)
class OrderMattersStar(StarVariables):
    """See whether a model of a set's variables learns them better in one order than in another.

    The variables are those of a star: all hang on one of them, the head. Written first, it leaves each of the others
    simple to foretell; written last, a model has to find out what the others have in common.

    Presets: smoke is a test of seconds, demo two arms in minutes, full all arms, five seeds;
    star: the same as full, recorded under a name of its own beside sorting;
    published: as many variables and steps as in the paper.
    """

    task: str = "star"
    """sort, star or words"""

    paper = cards()["order-matters"]
    _FULL: ClassVar[Mapping[str, Any]] = {"arms": _ALL, "seeds": 5, "jobs": 2}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("head-last", "head-first", "uniform", "samples-20"), **StarVariables.smoke},
        "demo": {"arms": ("head-last", "head-first"), "steps": 1000, "jobs": 2},
        "full": _FULL,
        "star": _FULL,  # under this name it is kept as evidence beside sorting
        "published": {"arms": _ALL, "variables": 50, "steps": 10_000, "seeds": 5},
    }

    def claims(self) -> Sequence[Claim]:
        """The paper's, and head first against head last for other numbers of samples and surer variables."""
        return self.with_claims(Claim("star_nll", "lower", one, f"head-first+{one}") for one in _OTHERS)
