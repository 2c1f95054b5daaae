"""The decoders by name, with their options and usual strengths: what the shell, the arms and the docs are made of.

A new decoder is a row of `DECODERS`, and an entry of `OPTIONS` for what no other has. Standard library only: names are
checked, and help is printed, before anything heavy is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal


@dataclass(frozen=True)
class Option:
    """An option of one or several decoders.

    Attributes:
        kind: its type, or the `Literal` of its choices.
        about: what the shell's help says.
        called: what the constructor, or `generate`, calls it, where that is another name.
        least: the smallest value it may have.
        unless: what holds where it is not given and its default, None, does not say so.
    """

    kind: Any
    about: str
    called: str = ""
    least: int | float | None = None
    unless: str = ""


OPTIONS: Mapping[str, Option] = {
    "num_beams": Option(int, "beams, all groups together", least=1),
    "groups": Option(int, "groups the beams are divided into", "num_beam_groups", least=1),
    "diversity_penalty": Option(
        float, "what a token costs that earlier groups chose; 0.2 to 0.8 is a good range", least=0
    ),
    "diversity": Option(
        Literal["hamming", "cumulative", "overlap", "ngram", "embedding"],
        "what is too like an earlier group; hamming is the same token at the same place",
    ),
    "order": Option(
        Literal["rounds", "score", "group"],
        "which texts come first: in each round the best of every group, by score (rounds); the best of all (score); "
        "or the best of every group, by group (group)",
        unless="rounds, and score where all are kept",
    ),
    "rank_penalty": Option(float, "what each rank among the continuations of one beam costs", least=0),
    "mmi_weight": Option(float, "how much of the log-probability without the prompt is taken off", "weight", least=0),
    "scorer": Option(
        str,
        "folder or hub id of a RankGen scorer or of a sentence-transformers cross-encoder; a function of your own, as "
        "FILE.py:FUNCTION; or log-prob, the model's own log-probability",
        unless="needed",
    ),
    "n": Option(int, "samples drawn", least=1),
    "beams": Option(int, "texts that go on after each block", least=1),
    "samples": Option(int, "samples of each of them", least=1),
    "block": Option(int, "tokens between two choices of the scorer", least=1),
    "keep": Option(int, "texts written for each prompt, the best first", "num_return_sequences", least=1, unless="all"),
    "length_penalty": Option(float, "scores are divided by the length to this power"),
    "temperature": Option(float, "below 1 keeps to what is likely"),
    "top_p": Option(float, "draw from the likeliest tokens that have this probability together"),
    "top_k": Option(int, "draw from so many of the likeliest tokens; 0 is all (where transformers takes 50)", least=0),
}
"""In the order of the help."""


def called(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options by the names that constructors and `generate` have for them.

    Example:
        >>> called({"mmi_weight": 0.4, "num_beams": 6})
        {'weight': 0.4, 'num_beams': 6}
    """
    return {(OPTIONS[name].called if name in OPTIONS else "") or name: value for name, value in options.items()}


@dataclass(frozen=True)
class Strength:
    """A decoder as an arm of a comparison has it: what its strength is, and which to choose from.

    Attributes:
        label: of the arm, in words.
        symbol: what papers call the strength.
        option: of the decoder.
        grid: strengths to choose from, rising.
        usual: the one where nothing chooses.
        fixed: what else the arm sets.
    """

    label: str
    symbol: str
    option: str
    grid: tuple[float, ...]
    usual: float
    fixed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A decoder.

    Attributes:
        method: its class.
        about: how it chooses, in words.
        counted: the option that says how many texts it finds for a prompt.
        own: options of its constructor, with their defaults.
        asked: options that `generate` takes, with their defaults.
        arms: names under which a comparison has it with a strength.
        plain: label of the arm, of the row's own name, that has none.
        family: where the class stands.
    """

    method: str
    about: str
    counted: str
    own: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any]
    arms: Mapping[str, Strength] = field(default_factory=dict)
    plain: str = ""
    family: str = "decoding"

    def load(self) -> type[Any]:
        """The class, once it is needed."""
        return getattr(import_module(f"kilter.{self.family}"), self.method)

    @property
    def options(self) -> dict[str, Any]:
        """All of them, with their defaults."""
        return {**self.asked, **self.own}

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn."""
        return "temperature" in self.asked

    def settings(self, strength: Strength | None, value: float | None, **given: Any) -> dict[str, Any]:
        """The options of an arm: the defaults, what is given of what it has, and its strength; all texts are kept.

        Example:
            >>> row = DECODERS["sample"]
            >>> row.settings(row.arms["nucleus"], 0.8, outputs=20, groups=5)
            {'temperature': 1.0, 'top_p': 0.8, 'top_k': 0, 'n': 20}
        """
        found = {**self.options, **{name: value for name, value in given.items() if name in self.options}}
        found |= {name: given["outputs"] for name in (self.counted, "keep") if name in found}
        if strength is not None:
            found |= {**strength.fixed, strength.option: value}
        return {name: value for name, value in found.items() if value is not None}


def _dbs(label: str, diversity: str, grid: tuple[float, ...], usual: float) -> Strength:
    return Strength(f"DBS, {label}", "λ", "diversity_penalty", grid, usual, {"diversity": diversity})


_BEAMS = {"num_beams": 6, "keep": None, "length_penalty": 1.0}
_SAMPLING = {"temperature": 1.0, "top_p": 0.9, "top_k": 0}

DECODERS: Mapping[str, Row] = {
    "diverse-beam": Row(
        method="DiverseBeamSearch",
        about="groups of beams that avoid each other's words",
        counted="num_beams",
        asked={**_BEAMS, "groups": 3, "diversity_penalty": 0.5},
        own={"diversity": "hamming", "order": None},
        arms={
            "dbs": _dbs("Hamming", "hamming", (0.1, 0.2, 0.4, 0.8, 1.6), 0.5),
            "dbs-cumulative": _dbs("cumulative", "cumulative", (0.5, 1.0, 2.0, 4.0), 1.0),
            "dbs-overlap": _dbs("overlap", "overlap", (0.05, 0.1, 0.2, 0.4), 0.2),
            "dbs-ngram": _dbs("2-grams", "ngram", (0.1, 0.2, 0.4, 0.8), 0.4),
            "dbs-embedding": _dbs("embeddings", "embedding", (0.2, 0.4, 0.8, 1.6), 0.4),
        },
    ),
    "sibling": Row(
        method="SiblingBeamSearch",
        about="continuations of one beam pay for their rank",
        counted="num_beams",
        asked=_BEAMS,
        own={"rank_penalty": 0.5},
        arms={"sibling": Strength("Sibling ranks", "γ", "rank_penalty", (0.3, 1.0, 3.0, 6.0), 1.0)},
    ),
    "mmi": Row(
        method="MMIBeamSearch",
        about="likely with the prompt and unlikely without",
        counted="num_beams",
        asked=_BEAMS,
        own={"mmi_weight": 0.5},
        arms={"mmi": Strength("MMI", "λ", "mmi_weight", (0.1, 0.2, 0.4, 0.8), 0.4)},
    ),
    "best-of": Row(
        method="BestOfN",
        about="the best of n samples by a scorer",
        counted="n",
        own={"scorer": None, "n": 20},
        asked={"keep": 1, **_SAMPLING},
    ),
    "rankgen": Row(
        method="RankGenSearch",
        about="a scorer picks among samples every few tokens",
        counted="beams",
        own={"scorer": None, "beams": 2, "samples": 10, "block": 20},
        asked={"keep": 1, **_SAMPLING},
    ),
    "beam": Row(
        method="DiverseBeamSearch", about="the likeliest", counted="num_beams", asked=_BEAMS, plain="Beam search"
    ),
    "sample": Row(
        method="BestOfN",
        about="samples, as they come",
        counted="n",
        own={"n": 1},
        asked=_SAMPLING,
        arms={"nucleus": Strength("Nucleus sampling", "p", "top_p", (0.6, 0.7, 0.8, 0.9, 0.95), 0.9)},
    ),
}
"""By the name that `--decoder` has for it."""

ARMS: Mapping[str, tuple[str, Strength | None]] = {
    arm: (name, strength)
    for name, row in DECODERS.items()
    for arm, strength in {**({name: None} if row.plain else {}), **row.arms}.items()
}
"""By the name of an arm: the decoder, and its strength if it has one."""
