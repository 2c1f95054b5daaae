"""Arms of a comparison of decoders, by name: `dbs-0.5` is a decoder and its strength, of `kilter.models.decoders`.

Imports nothing heavy: names are checked before any work.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kilter.models.decoders import ARMS, DECODERS


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


KINDS = {
    name: Kind(at.label, at.symbol, at.grid, at.usual, decoder, at.option, at.fixed)
    for name, (decoder, at) in ARMS.items()
    if at
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
        if kind not in ARMS or (kind not in KINDS and strength is not None):
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
            return DECODERS[self.name].plain
        return self.kind.label + ("" if self.strength is None else f", {self.kind.symbol} {self.strength:g}")

    def options(self, strength: float | None, *, outputs: int, groups: int, length_penalty: float) -> dict[str, Any]:
        """What `kilter.models.text_decoding` is asked for, with this strength."""
        decoder, kind = ARMS[self.name]
        given = {"outputs": outputs, "groups": groups, "length_penalty": length_penalty}
        return DECODERS[decoder].settings(kind, strength, **given)
