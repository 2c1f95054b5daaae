"""Arms of a comparison of CTC losses, by name: `residual+awp-2+trim-tail` is encoder, terms and strengths.

Imports nothing heavy at the top: names are checked before any work.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kilter.core.objective import Objective

ENCODERS = {"conv": "causal convolutions", "residual": "residual connections", "gru": "GRU"}

STRENGTHS = {"awp": 1.0, "peak-first": 0.01, "trim-tail": 50.0, "delay-penalty": 0.1, "bayes-risk": 20.0, "mwer": 1.0}
"""How strong each term is where its name does not say: trim-tail in frames of 10 ms, mwer as the weight of the loss."""

_STRENGTH = ("a strength of 0 is plain CTC, the arm ctc", "trim-tail takes a whole number of frames, at least 1")

_ADDED = ("awp", "peak-first")
"""Terms beside CTC, whose weight a schedule can lower; the others put a loss of their own in its place."""


@dataclass(frozen=True)
class CTCArm:
    """What one arm trains with.

    Attributes:
        terms: strength of each, beside or instead of plain CTC; at most one of them is a loss.
        encoder: of the small recogniser; None is the run's.
        constant: the weight stays, whatever the run's schedule.
    """

    terms: Mapping[str, float]
    encoder: str | None = None
    constant: bool = False

    @classmethod
    def parse(cls, name: str, strengths: Mapping[str, float]) -> "CTCArm":
        """Read an arm's name.

        Example:
            >>> CTCArm.parse("residual+awp-2+constant", STRENGTHS)
            CTCArm(terms={'awp': 2.0}, encoder='residual', constant=True)

        Raises:
            ValueError: a part that is not known, or two losses at once.
        """
        terms: dict[str, float] = {}
        encoder, constant = None, False
        for part in name.split("+"):
            term, strength = re.fullmatch(r"(.*?)(?:-(\d+(?:\.\d+)?))?", part).groups()  # type: ignore[union-attr]
            if part == "constant" and not constant:
                constant = True
            elif part in ENCODERS and encoder is None:
                encoder = part
            elif term in strengths and term not in terms:
                terms[term] = strengths[term] if strength is None else float(strength)
                if strength is not None and (terms[term] == 0 or (term == "trim-tail" and terms[term] % 1)):
                    raise ValueError(f"{part!r} in {name!r}: " + _STRENGTH[term == "trim-tail"])
            elif name != "ctc":
                raise ValueError(f"unknown part {part!r} in {name!r}")
        arm = cls(terms, encoder, constant)
        if len(losses := [term for term in terms if term != "trim-tail"]) > 1:
            raise ValueError(f"{name!r} has {len(losses)} losses ({', '.join(losses)}); an arm takes one")
        if constant and arm.loss not in _ADDED:
            raise ValueError(f"{name!r}: only {' and '.join(_ADDED)} have a weight that could fall or stay constant")
        return arm

    @property
    def loss(self) -> str | None:
        """The term that is a loss, if there is one."""
        return next((term for term in self.terms if term != "trim-tail"), None)

    @property
    def adds(self) -> bool:
        """Whether the loss stands beside CTC, and not in its place."""
        return self.loss in _ADDED

    def series(self, *, falling: bool) -> tuple[str, str]:
        """The method, and the strength at which this arm has it; both empty for an arm of several terms or none."""
        if len(self.terms) != 1 or self.encoder:
            return "", ""
        ((term, strength),) = self.terms.items()
        falls = self.adds and falling and not self.constant
        return f"{term}, falling" if falls else term, f"{strength:g}"

    def label(self, *, falling: bool) -> str:
        """In words, for tables and figures."""
        said = {
            "awp": "AWP {:g}",
            "peak-first": "Peak-First {:g}",
            "trim-tail": "TrimTail {:g}",
            "delay-penalty": "delay penalty {:g}",
            "bayes-risk": "Bayes risk {:g}",
            "mwer": "n-best MWER" if self.terms.get("mwer", 1.0) == 1 else "n-best MWER {:g}",
        }
        words = [said[term].format(strength) for term, strength in self.terms.items()] or ["CTC only"]
        if self.adds and falling and not self.constant:
            words[list(self.terms).index(str(self.loss))] += " falling to 0"
        return " + ".join(words) + (f", {ENCODERS[self.encoder]}" if self.encoder else "")

    def objective(self, recogniser: Any, awp: "Objective") -> "Objective | None":
        """The loss of this arm; `awp` is the run's, with its property and settings."""
        from kilter import speech

        strength, blank = self.terms.get(str(self.loss)), int(recogniser.model.config.pad_token_id)
        if strength is None or not strength:
            return None
        makers: dict[str, Any] = {
            "awp": lambda: awp,
            "peak-first": lambda: speech.PeakFirst(weight=strength),
            "delay-penalty": lambda: speech.DelayPenalty(penalty=strength, blank=blank),
            "bayes-risk": lambda: speech.BayesRiskCTC(risk=strength, variant="exp_rel", blank=blank),
            "mwer": lambda: speech.MinimumWordErrorRate(recogniser.tokenizer, blank=blank),
        }
        return makers[str(self.loss)]()
