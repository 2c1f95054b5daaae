"""Arms that decode: how a decoder becomes a term, and the usual ones without a paper here.

Standard library only: names are read before any work.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kilter.lab.arms import Levers, Role, Term
from kilter.models.decoders import DECODERS, Decoder

Decoded = tuple[Decoder, Mapping[str, Any]]
"""What `Levers.decoder` is here: a row like those of `DECODERS`, and the options that are others than the row's."""


def decoded_by(
    row: Decoder,
    label: str,
    option: str,
    symbol: str,
    *,
    usual: float,
    grid: Sequence[float],
    role: Role = "method",
    variants: Mapping[str, tuple[str, Mapping[str, Any]]] | None = None,
    strength: Callable[[float], str] = lambda value: "",
    **options: Any,
) -> Term:
    """The term of a decoder.

    Args:
        row: the decoder, of `DECODERS` or of the recipe that brings it.
        label: in words.
        option: of the row, the one that is the strength.
        symbol: how people call the strength.
        usual: the strength for a model of the user's, for which nothing is chosen.
        grid: strengths to choose from.
        role: of its arms.
        variants: words that may follow after a +, each with what the label gains and the options it changes.
        strength: why a strength cannot be.
        options: others than the row's; how many outputs and what else is the same for all arms says the task.

    Example:
        >>> term = decoded_by(DECODERS["mmi"], "MMI", "mmi_weight", "λ", usual=0.4, grid=(0.2, 0.4))
        >>> term.make(0.2).decoder[1], term.at.format(0.2)
        ({'mmi_weight': 0.2}, ', λ 0.2')
    """
    changed = variants or {}

    def make(at: float | None, **asked: bool) -> Levers:
        more = {name: value for word in asked for name, value in changed[word][1].items()}
        return Levers(decoder=(row, {**options, option: usual if at is None else at, **more}))

    gains = {word: gain for word, (gain, _) in changed.items()}
    return Term(label, make, usual, grid, f", {symbol} {{:g}}", role=role, variants=gains, strength=strength)


def rivals() -> dict[str, Term]:
    """Terms of the task, by name."""
    rank, anti, drawn = DECODERS["sibling"], DECODERS["mmi"], DECODERS["sample"]
    return {
        "sibling": decoded_by(
            rank, "Sibling ranks", "rank_penalty", "γ", usual=1.0, grid=(0.3, 1.0, 3.0, 6.0), role="context"
        ),
        "mmi": decoded_by(anti, "MMI", "mmi_weight", "λ", usual=0.4, grid=(0.1, 0.2, 0.4, 0.8), role="context"),
        "nucleus": decoded_by(
            drawn,
            "Nucleus sampling",
            "top_p",
            "p",
            usual=0.9,
            grid=(0.6, 0.7, 0.8, 0.9, 0.95),
            role="context",
            strength=_share,
        ),
    }


def _share(top_p: float) -> str:
    return "" if 0 < top_p <= 1 else f"it samples from the share {top_p:g} of probability; give one above 0 and up to 1"
