"""PROVISIONAL: stands in for the table of branch wt-decoders."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Decoder:
    name: str
    options: Mapping[str, Any]


_BEAMS = {"num_beams": 6, "keep": "all", "length_penalty": 1.0}
DECODERS = {
    "diverse-beam": Decoder(
        "diverse-beam", {**_BEAMS, "groups": 3, "diversity_penalty": 0.5, "diversity": "hamming", "charge_eos": False}
    ),
    "sibling": Decoder("sibling", {**_BEAMS, "rank_penalty": 0.5}),
    "mmi": Decoder("mmi", {**_BEAMS, "mmi_weight": 0.5}),
    "beam": Decoder("beam", _BEAMS),
    "sample": Decoder("sample", {"n": 1, "temperature": 1.0, "top_p": 0.9, "top_k": 0}),
}
