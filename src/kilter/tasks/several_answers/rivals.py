"""Arms that decode: how a decoder becomes a term, and the usual ones without a paper here.

Standard library only: names are read before any work.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from kilter.lab.arms import Levers, Role, Term
from kilter.models.decoders import DECODERS, Row, Strength


class Decoded(NamedTuple):
    """What `Levers.decoder` is here: a decoder, and the options for which the arm has others than its row."""

    row: Row
    options: Mapping[str, Any]


def decoded_by(
    row: Row,
    strength: Strength,
    *,
    role: Role = "method",
    variants: Mapping[str, tuple[str, Row]] | None = None,
    **options: Any,
) -> Term:
    """The term of a decoder.

    Args:
        row: of the table of decoders, or one that the recipe makes.
        strength: what the arm's strength is; it is chosen from the grid, or the usual one where nothing is judged.
        role: of its arms.
        variants: words that may follow after a +, each with what the label gains and the decoder it is then.
        options: others than the row's; "all" is as many as there are outputs.

    Example:
        >>> term = decoded_by(DECODERS["mmi"], DECODERS["mmi"].arms["mmi"])
        >>> term.make(0.2).decoder.options, term.at.format(0.2)
        ({'mmi_weight': 0.2}, ', λ 0.2')
    """
    others = variants or {}

    def make(value: float | None, **asked: bool) -> Levers:
        at = strength.usual if value is None else value
        used = next((others[word][1] for word in asked), row)
        return Levers(decoder=Decoded(used, {**options, **strength.fixed, strength.option: at}))

    return Term(
        strength.label,
        make,
        usual=strength.usual,
        grid=strength.grid,
        at=f", {strength.symbol} {{:g}}",
        role=role,
        variants={word: gain for word, (gain, _) in others.items()},
        strength=partial(_refused, strength.option),
    )


def rivals() -> dict[str, Term]:
    """Terms of the task, by name."""
    rows = {"sibling": "sibling", "mmi": "mmi", "nucleus": "sample"}
    return {name: decoded_by(DECODERS[row], DECODERS[row].arms[name], role="context") for name, row in rows.items()}


def _refused(option: str, value: float) -> str:
    """Why a strength cannot be."""
    if option == "top_p" and not 0 < value <= 1:
        return f"it samples from the share {value:g} of probability; give one above 0 and up to 1"
    return ""
