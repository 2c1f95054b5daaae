"""What any recipe on bitext retrieval can be set beside: the library's own loss, and vectors calibrated afterwards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kilter.lab.arms import Levers, Term

if TYPE_CHECKING:
    from torch import Tensor

Vectors = Mapping[str, "Tensor"]
"""Of sentences, by language."""
Calibration = Callable[..., "Callable[[Tensor, str], Tensor]"]
"""`(learnt, judged, pivot) -> transform`: vectors of sentences that were learnt from, those of the test, the pivot's
name; the transform takes vectors and their language."""


@dataclass(frozen=True)
class Pupil:
    """What an objective is made for: the encoder that learns, and the languages that the label column numbers."""

    encoder: Any
    languages: tuple[str, ...]

    @property
    def dim(self) -> int:
        """Width of its vectors."""
        encoder = self.encoder  # the newer name first
        return getattr(encoder, "get_embedding_dimension", encoder.get_sentence_embedding_dimension)()


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
        return Levers(decoder=partial(calibrated, **how, transductive=transductive))

    variants = {"transductive": " by the test's own statistics"}
    return Term(label, make, after=True, role="context", variants=variants)


def calibrated(
    learnt: Vectors,
    judged: Vectors,
    pivot: str,
    *,
    steps: tuple[str, ...],
    statistics: str = "per_language",
    transductive: bool,
) -> "Callable[[Tensor, str], Tensor]":
    """A calibration fitted to what was learnt from, or to the test itself."""
    from kilter.embeddings import LanguageCalibration

    chosen: Any = {"statistics": statistics}
    how: Any = {"pivot": pivot, "steps": steps}
    return LanguageCalibration(**chosen).fit(judged if transductive else learnt, **how).transform
