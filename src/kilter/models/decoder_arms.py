"""Arms of a comparison of decoders, by name: `dbs-0.5` is a decoder and its strength.

Imports nothing heavy: names are checked before any work.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """A decoder: its name in words, what its strength is called, strengths to choose from, one where nothing chooses.

    `decoder` and `option` are what `kilter.models.text_decoding` calls decoder and strength; `more` goes with them.
    """

    label: str
    symbol: str
    grid: tuple[float, ...]
    usual: float
    decoder: str
    option: str
    more: Mapping[str, Any] = {}


def _dbs(label: str, diversity: str, grid: tuple[float, ...], usual: float) -> Kind:
    return Kind(f"DBS, {label}", "λ", grid, usual, "diverse-beam", "diversity_penalty", {"diversity": diversity})


KINDS = {
    "sibling": Kind("Sibling ranks", "γ", (0.3, 1.0, 3.0, 6.0), 1.0, "sibling", "rank_penalty"),
    "mmi": Kind("MMI", "λ", (0.1, 0.2, 0.4, 0.8), 0.4, "mmi", "mmi_weight"),
    "dbs": _dbs("Hamming", "hamming", (0.1, 0.2, 0.4, 0.8, 1.6), 0.5),
    "dbs-cumulative": _dbs("cumulative", "cumulative", (0.5, 1.0, 2.0, 4.0), 1.0),
    "dbs-overlap": _dbs("overlap", "overlap", (0.05, 0.1, 0.2, 0.4), 0.2),
    "dbs-ngram": _dbs("2-grams", "ngram", (0.1, 0.2, 0.4, 0.8), 0.4),
    "dbs-embedding": _dbs("embeddings", "embedding", (0.2, 0.4, 0.8, 1.6), 0.4),
    "nucleus": Kind("Nucleus sampling", "p", (0.6, 0.7, 0.8, 0.9, 0.95), 0.9, "sample", "top_p"),
}
"""The decoders that have a strength; beam search has none."""


@dataclass(frozen=True)
class DecoderArm:
    """A decoder, and its strength if the arm's name says it."""

    name: str
    strength: float | None = None

    @classmethod
    def parse(cls, name: str) -> "DecoderArm":
        """Read an arm's name.

        Example:
            >>> DecoderArm.parse("dbs-ngram-0.5"), DecoderArm.parse("beam")
            (DecoderArm(name='dbs-ngram', strength=0.5), DecoderArm(name='beam', strength=None))

        Raises:
            ValueError: a decoder that is not known, or a strength it cannot have.
        """
        kind, strength = re.fullmatch(r"(.*?)(?:-(\d+(?:\.\d+)?))?", name).groups()  # type: ignore[union-attr]
        if kind not in ("beam", *KINDS) or (kind == "beam" and strength is not None):
            raise ValueError(
                f"arms: there is no {name!r}; an arm is beam, or one of {', '.join(KINDS)} with or without its "
                "strength, e.g. dbs-0.5"
            )
        found = cls(kind, None if strength is None else float(strength))
        if kind == "nucleus" and found.strength is not None and not 0 < found.strength <= 1:
            raise ValueError(f"arms: {name!r} samples from the share {strength} of probability; give one up to 1")
        return found

    @property
    def kind(self) -> Kind | None:
        """What is known of the decoder; None for beam search."""
        return KINDS.get(self.name)

    def label(self) -> str:
        """In words, for tables and figures."""
        if self.kind is None:
            return "Beam search"
        return self.kind.label + ("" if self.strength is None else f", {self.kind.symbol} {self.strength:g}")

    def options(self, strength: float | None, *, outputs: int, groups: int, length_penalty: float) -> dict[str, Any]:
        """What `kilter.models.text_decoding` is asked for, with this strength."""
        beams = {"num_beams": outputs, "keep": outputs, "length_penalty": length_penalty}
        if self.kind is None:
            return beams
        if self.name == "nucleus":
            return {"n": outputs, "temperature": 1.0, "top_p": strength, "top_k": 0}
        divided = {"groups": groups} if self.kind.decoder == "diverse-beam" else {}
        return {**beams, **divided, self.kind.option: strength, **self.kind.more}
