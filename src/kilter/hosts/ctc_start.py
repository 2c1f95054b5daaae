"""When an objective beside the CTC loss switches on, and how its weight goes on from there."""

from dataclasses import dataclass
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class Start:
    """When an objective switches on; give exactly one.

    Attributes:
        step: optimiser step.
        epoch: epoch, fractions allowed.
        word_success: share of words right over the last ten steps or so, e.g. 0.85: 1 − WER of greedy decoding over
            all processes, or 0 where the errors outnumber the words. Measured only until the objective is on. Words
            are read with the vocabulary of the objective's property; without one, every token counts as a word.

    Example:
        >>> Start(word_success=0.85)
        Start(step=None, epoch=None, word_success=0.85)
    """

    step: int | None = None
    epoch: float | None = None
    word_success: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.step, self.epoch, self.word_success) if value is not None]
        if len(given) != 1 or not given[0] >= 0 or (self.word_success or 0) > 1:
            raise ValueError(f"give exactly one of step, epoch, or word_success within 0..1, got {self}")
