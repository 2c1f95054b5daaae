"""What any recipe on the recognition of speech can be set beside: usual CTC losses, trimmed audio, other networks."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kilter.lab.arms import Levers, Term

if TYPE_CHECKING:
    from kilter.models.recogniser import Recogniser

NETWORKS = {"conv": "causal convolutions", "residual": "residual connections", "gru": "GRU"}


def rivals() -> dict[str, Term]:
    """Terms of the task, by name."""
    return {
        "peak-first": Term("Peak-First {:g}", _peak_first, usual=0.01, strength=not_zero),
        "trim-tail": Term("TrimTail {:g}", _trim_tail, usual=50.0, strength=_whole_frames),
        "delay-penalty": Term("delay penalty {:g}", _delay_penalty, usual=0.1, strength=not_zero),
        "bayes-risk": Term("Bayes risk {:g}", _bayes_risk, usual=20.0, strength=not_zero),
        "mwer": Term("n-best MWER", _n_best_mwer, usual=1.0, at=" {:g}", strength=not_zero),
        **{name: Term(label, _network(name), after=True, role="context") for name, label in NETWORKS.items()},
    }


def not_zero(strength: float) -> str:
    """Why a strength cannot be."""
    return "" if strength else "a strength of 0 is plain CTC, the arm ctc"


def _whole_frames(frames: float) -> str:
    return "" if frames >= 1 and not frames % 1 else "trim-tail takes a whole number of frames, at least 1"


def _speech() -> Any:
    """The family, once it is needed: names are read without torch."""
    from kilter import speech

    return speech


def _peak_first(strength: float) -> Levers:
    return Levers(objective=lambda recogniser: _speech().PeakFirst(weight=strength))


def _delay_penalty(strength: float) -> Levers:
    return _instead(lambda recogniser: _speech().DelayPenalty(penalty=strength, blank=recogniser.blank))


def _bayes_risk(strength: float) -> Levers:
    return _instead(lambda recogniser: _speech().BayesRiskCTC(risk=strength, variant="exp_rel", blank=recogniser.blank))


def _n_best_mwer(weight: float) -> Levers:
    def objective(recogniser: "Recogniser") -> Any:
        return _speech().MinimumWordErrorRate(recogniser.spelling.strings, blank=recogniser.blank)

    return _instead(objective, weight)


def _instead(make: "Callable[[Recogniser], Any]", weight: float = 1.0) -> Levers:
    return Levers(objective=make, weight=weight, beside=False)


def _trim_tail(frames: float) -> Levers:
    def trimmed(rows: Any, recogniser: "Recogniser", seed: int) -> Any:
        return _speech().TrimTail(rows, max_frames=int(frames), frame=recogniser.rate // 100, seed=seed)

    return Levers(rows=trimmed)


def _network(name: str) -> Callable[..., Levers]:
    return lambda strength: Levers(options={"encoder": name})
