"""What any recipe on bitext retrieval can be set beside: the library's own loss, and vectors calibrated afterwards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kilter.lab.arms import Levers, Term

if TYPE_CHECKING:
    from torch import Tensor

Vectors = Mapping[str, "Tensor"]
"""Of sentences, by language."""
Calibration = Callable[[Vectors, str], "Callable[[Tensor, str], Tensor]"]
"""`(vectors, pivot) -> transform`, which takes vectors and their language. It is given vectors of sentences that were
learnt from, or, if it has a true attribute `transductive`, those of the test itself."""


@dataclass(frozen=True)
class Pupil:
    """What an objective is made for: the encoder that learns, and the languages that the label column numbers."""

    encoder: Any
    languages: tuple[str, ...]

    @property
    def dim(self) -> int:
        """Width of its vectors."""
        from kilter.hosts.sentence_modules import width

        return width(self.encoder)


def rivals() -> dict[str, Term]:
    """Terms of the task, by name."""
    return {
        "mnrl": Term("MultipleNegativesRankingLoss", lambda strength: Levers(objective=_mnrl), role="context"),
        **{name: _after(label, **how) for name, (label, how) in CALIBRATIONS.items()},
    }


CALIBRATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "shift": ("each language shifted", {"steps": ("shift",)}),
    "standardise": ("each language standardised", {"steps": ("shift", "scale")}),
    "rotate": ("each language standardised and rotated", {"steps": ("shift", "scale", "rotate")}),
    "joint": ("all languages standardised as one", {"steps": ("shift", "scale"), "statistics": "joint"}),
}
"""Label and options of each, as `LanguageCalibration` has them."""


def _mnrl(pupil: Pupil) -> Any:
    """The library's loss at its own scale of 20, to which ours comes without head, bank and second direction."""
    from kilter.embeddings import ContextPrediction

    off: Any = {"bank_size": 0, "head": False, "both_directions": False, "centres_as_negatives": False}
    return ContextPrediction(pupil.dim, languages=pupil.languages, temperature=1 / 20, **off)


def _after(label: str, **how: Any) -> Term:
    def make(strength: float | None, *, transductive: bool = False) -> Levers:
        return Levers(decoder=Calibrated(**how, transductive=transductive))

    variants = {"transductive": " by the test's own statistics"}
    return Term(label, make, after=True, role="context", variants=variants)


@dataclass(frozen=True)
class Calibrated:
    """A calibration that is yet to be fitted; see `kilter.embeddings.LanguageCalibration`."""

    steps: tuple[str, ...]
    statistics: str = "per_language"
    transductive: bool = False

    def __call__(self, vectors: Vectors, pivot: str) -> "Callable[[Tensor, str], Tensor]":
        """What moves vectors of a language, by the statistics of these."""
        from kilter.embeddings import LanguageCalibration

        chosen: Any = {"statistics": self.statistics}
        how: Any = {"pivot": pivot, "steps": self.steps}
        return LanguageCalibration(**chosen).fit(vectors, **how).transform
