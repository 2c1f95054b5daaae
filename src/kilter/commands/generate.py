"""kilter generate: several texts for each of your prompts: diverse, reranked by a scorer, sampled."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from kilter.core.errors import UsageError

PLACE = 70

_BEAMS = {"num_beams": 6, "keep": "all", "length_penalty": 1.0}
_SAMPLING = {"temperature": 1.0, "top_p": 0.9, "top_k": 0}
DECODERS: Mapping[str, Mapping[str, Any]] = {
    "diverse-beam": {**_BEAMS, "groups": 3, "diversity_penalty": 0.5, "diversity": "hamming"},
    "sibling": {**_BEAMS, "rank_penalty": 0.5},
    "mmi": {**_BEAMS, "mmi_weight": 0.5},
    "best-of": {"scorer": None, "n": 20, "keep": 1, **_SAMPLING},
    "rankgen": {"scorer": None, "beams": 2, "samples": 10, "block": 20, "keep": 1, **_SAMPLING},
    "beam": _BEAMS,
    "sample": {"n": 1, **_SAMPLING},
}
"""The options of each decoder of `kilter generate`, and what they are unless given."""


def _of_decoders(name: str, metavar: str, unless: str = "") -> Any:
    """Help for an option that some decoders have: whose it is, and what it is unless given."""
    found: dict[str, list[str]] = {}
    for decoder, options in DECODERS.items():
        if name in options:
            found.setdefault(unless or f"{options[name]}", []).append(decoder)
    hint = "; ".join(f"{', '.join(decoders)}: {default}" for default, decoders in found.items())
    return arg(metavar=metavar, help_behavior_hint=f"({hint})")


@dataclass
class Generate:
    """Write several texts for each prompt with any text model of transformers: diverse, reranked, or as the core does.

    Decoders: diverse-beam (groups of beams that avoid each other's words), sibling (continuations of one beam pay for
    their rank), mmi (likely with the prompt and unlikely without), best-of (the best of n samples by a scorer), rankgen
    (a scorer picks among samples every few tokens), beam, and sample.

    Printed is a table on a terminal, else a line of JSON for each prompt: index, prompt, outputs with text, score (what
    they are ranked by), log_prob, group and ranker_score. With --out FILE a killed run goes on where it stopped when
    repeated; other settings need another FILE. What a prompt gets depends on --seed, not on the batch it is in.

    Example: kilter generate --model my-model/ --prompts prompts.txt --num-beams 6 --groups 3 --out texts.jsonl

    Reranked: echo "The steam train" | kilter generate --model my-model/ --prompts - --decoder best-of --scorer log-prob
    """

    model: str
    """folder or hub id of a causal or encoder–decoder transformers model, path of a .gguf file, or smollm2"""
    prompts: Annotated[str, arg(metavar="FILE|-")]
    """a .txt with a prompt a line, or a .jsonl with column prompt (id and references are kept); - is standard input"""
    decoder: Literal["diverse-beam", "sibling", "mmi", "best-of", "rankgen", "beam", "sample"] = "diverse-beam"
    """how the texts are chosen"""
    num_beams: Annotated[int | None, _of_decoders("num_beams", "INT")] = None
    """beams, all groups together"""
    groups: Annotated[int | None, _of_decoders("groups", "INT")] = None
    """groups the beams are divided into"""
    diversity_penalty: Annotated[float | None, _of_decoders("diversity_penalty", "FLOAT")] = None
    """what a token costs that earlier groups chose; 0.2 to 0.8 is a good range"""
    diversity: Annotated[
        Literal["hamming", "cumulative", "overlap", "ngram", "embedding"] | None,
        _of_decoders("diversity", "{hamming,cumulative,overlap,ngram,embedding}"),
    ] = None
    """what is too like an earlier group; hamming is the same token at the same place"""
    rank_penalty: Annotated[float | None, _of_decoders("rank_penalty", "FLOAT")] = None
    """what each rank among the continuations of one beam costs"""
    mmi_weight: Annotated[float | None, _of_decoders("mmi_weight", "FLOAT")] = None
    """how much of the log-probability without the prompt is taken off"""
    scorer: Annotated[str | None, _of_decoders("scorer", "STR", "needed")] = None
    """folder or hub id of a RankGen scorer or of a sentence-transformers cross-encoder; or log-prob, the model's own
    log-probability"""
    n: Annotated[int | None, _of_decoders("n", "INT")] = None
    """samples drawn"""
    beams: Annotated[int | None, _of_decoders("beams", "INT")] = None
    """texts that go on after each block"""
    samples: Annotated[int | None, _of_decoders("samples", "INT")] = None
    """samples of each of them"""
    block: Annotated[int | None, _of_decoders("block", "INT")] = None
    """tokens between two choices of the scorer"""
    keep: Annotated[int | None, _of_decoders("keep", "INT")] = None
    """texts written for each prompt, the best first"""
    max_new_tokens: int = 64
    """length of a text, at most"""
    length_penalty: Annotated[float | None, _of_decoders("length_penalty", "FLOAT")] = None
    """scores are divided by the length to this power"""
    temperature: Annotated[float | None, _of_decoders("temperature", "FLOAT")] = None
    """below 1 keeps to what is likely"""
    top_p: Annotated[float | None, _of_decoders("top_p", "FLOAT")] = None
    """draw from the likeliest tokens that have this probability together"""
    top_k: Annotated[int | None, _of_decoders("top_k", "INT")] = None
    """draw from so many of the likeliest tokens; 0 is all (where transformers takes 50)"""
    chat: bool = False
    """give each prompt as what a user says, in the model's chat template"""
    gguf: Annotated[str | None, arg(metavar="FILE")] = None
    """a GGUF file in the folder or repository --model; needed only if there are several"""
    out: Path | None = None
    """file of JSON lines to write; by default they are printed"""
    seed: int = 0
    """of what is sampled"""
    batch_size: int = 16
    """prompts at once, at most; fewer where memory is short"""
    device: str = "auto"
    """auto (the accelerator there is), cpu, cuda or mps"""

    def __call__(self) -> int:
        """Check that the options belong together, then generate and write."""
        given = {**vars(self)}
        own = DECODERS[self.decoder]
        for name in dict.fromkeys(name for options in DECODERS.values() for name in options):
            value = given.pop(name)
            if value is not None and name not in own:
                theirs = ", ".join(decoder for decoder, options in DECODERS.items() if name in options)
                raise UsageError(
                    f"--{name.replace('_', '-')} does not belong to --decoder {self.decoder}, but to {theirs}"
                )
        options = {name: default if (value := vars(self)[name]) is None else value for name, default in own.items()}
        if "scorer" in own and options["scorer"] is None:
            raise UsageError(
                f"--decoder {self.decoder} needs --scorer: a folder or hub id of a RankGen scorer or of a "
                "cross-encoder, or log-prob, the model's own log-probability"
            )
        if options.get("keep") == "all":
            options["keep"] = options["num_beams"]
        from kilter.generate import generate

        return generate(**given, options=options)


COMMAND = Generate
