"""kilter generate: several texts for each of your prompts: diverse, reranked by a scorer, sampled.

Prompts of like length go together, as many as fit into memory. Whole batches are brought to the disk, so that a kill
costs one at most. What a prompt gets depends on the seed and the prompt, not on the batch it is in.
"""

import sys
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from tyro.conf import arg

from kilter.core.errors import UsageError, extra
from kilter.models.decoders import DECODERS, OPTIONS

if TYPE_CHECKING:
    from kilter.data.text_prompts import TextPrompt
    from kilter.lab.growing import GrowingRows

PLACE = 70
MEMORY_SHARE = 0.5
"""Of the free memory, for one batch."""

Row = dict[str, Any]
Work = Callable[[Container[int]], Iterator[list[Row]]]
"""Given the prompts that are done, the rows of the others, a batch at a time."""


def _flag(name: str) -> Any:
    """An option that some decoders have, as a flag: whose it is, and what it is unless given."""
    option, found = OPTIONS[name], dict[str, list[str]]()
    for decoder, row in DECODERS.items():
        if name in row.options:
            default = row.options[name]
            found.setdefault(option.unless if default is None else f"{default}", []).append(decoder)
    hint = "; ".join(f"{', '.join(decoders)}: {default}" for default, decoders in found.items())
    choices = get_args(option.kind)
    metavar = f"{{{','.join(choices)}}}" if choices else {int: "INT", float: "FLOAT", str: "STR"}[option.kind]
    return Annotated[option.kind | None, arg(metavar=metavar, help=option.about, help_behavior_hint=f"({hint})")]


@dataclass
class _Prompts:
    model: str
    """folder or hub id of a causal or encoder–decoder transformers model, path of a .gguf file, or smollm2"""
    prompts: Annotated[str, arg(metavar="FILE|-")]
    """a .txt with a prompt a line, or a .csv, .json or .jsonl with column prompt (id and references are kept); - is
    standard input"""


_Decoding: Any = make_dataclass(
    "_Decoding",
    [
        ("decoder", Annotated[Literal[tuple(DECODERS)], arg(help="how the texts are chosen")], "diverse-beam"),
        *((name, _flag(name), None) for name in OPTIONS),
    ],
    bases=(_Prompts,),
)


@dataclass
class Generate(_Decoding):
    """Write several texts for each prompt with any text model of transformers: diverse, reranked, or as the core does.

    Decoders: {decoders}.

    Printed is a table on a terminal, else a line of JSON for each prompt: index, prompt, outputs with text, score (what
    they are ranked by), log_prob, group and ranker_score. With --out FILE a killed run goes on where it stopped when
    repeated; other settings need another FILE. What a prompt gets depends on --seed, not on the batch it is in.

    Example: kilter generate --model my-model/ --prompts prompts.txt --num-beams 6 --groups 3 --out texts.jsonl

    Reranked: echo "The steam train" | kilter generate --model my-model/ --prompts - --decoder best-of --scorer log-prob

    By a scorer of your own, mine.py with a function (prefixes, continuations) that returns a number for each pair of
    texts: kilter generate --model my-model/ --prompts prompts.txt --decoder best-of --scorer mine.py:function
    """

    unique: bool = False
    """of equal texts keep the first and take the next ones instead, or fewer where there are none"""
    max_new_tokens: int = 64
    """length of a text, at most"""
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
        row = DECODERS[given["decoder"]]
        said = {name: value for name in OPTIONS if (value := given.pop(name)) is not None}
        for name in said:
            if name not in row.options:
                theirs = ", ".join(decoder for decoder, other in DECODERS.items() if name in other.options)
                raise UsageError(
                    f"--{name.replace('_', '-')} does not belong to --decoder {given['decoder']}, but to {theirs}"
                )
        options = {**row.options, **said}
        if "scorer" in options and options["scorer"] is None:
            raise UsageError(
                f"--decoder {given['decoder']} needs --scorer: a folder or hub id of a RankGen scorer or of a "
                "cross-encoder, a function of your own as FILE.py:FUNCTION, or log-prob, the model's own "
                "log-probability"
            )
        if options.get("groups") == 1 and said.get("diversity_penalty"):
            raise UsageError(
                f"--groups 1 --diversity-penalty {said['diversity_penalty']}: a single group has no other to differ "
                "from; raise --groups, or leave out the penalty"
            )
        if "keep" in options and options["keep"] is None:
            options["keep"] = options[row.counted]
        return generate(**given, options=options)


Generate.__doc__ = f"{Generate.__doc__}".format(
    decoders=", ".join(f"{name} ({row.about})" for name, row in DECODERS.items())
)
COMMAND = Generate


def generate(
    *,
    model: str,
    prompts: str,
    decoder: str,
    options: Mapping[str, Any],
    unique: bool,
    gguf: str | None,
    chat: bool,
    max_new_tokens: int,
    out: Path | None,
    seed: int,
    batch_size: int,
    device: str,
) -> int:
    """What the command does; returns its exit code.

    Raises:
        ValueError: something the user can mend: prompts, options, the model, the scorer or what lies at `out`.
    """
    check_options(decoder, options, max_new_tokens=max_new_tokens, batch_size=batch_size)
    from kilter.data.text_prompts import read_prompts
    from kilter.lab.growing import ELSEWHERE, GrowingRows
    from kilter.lab.progress import bar, quiet_hosts

    if out is not None and Path(prompts).exists() and out.resolve() == Path(prompts).resolve():
        raise ValueError(f"{out}: is where the prompts come from; {ELSEWHERE}")
    rows = read_prompts(prompts)
    extra("transformers", "generation")
    from kilter.data.pretrained import small_model
    from kilter.models import devices
    from kilter.models.batches import Batch, batches, within_memory
    from kilter.models.own_code import OwnFunction
    from kilter.models.text_decoding import decoding, load_scorer, seeds
    from kilter.models.text_model import TextModel, weights_digest

    quiet_hosts()
    text = TextModel.load(small_model(model), gguf=gguf, device=device)
    ids = text.encode([row.text for row in rows], chat=chat)
    lengths = [len(tokens) for tokens in ids]
    text.check_fit([*zip([row.where for row in rows], lengths, strict=True)], max_new_tokens)
    scorer: Any = load_scorer(options["scorer"], text) if "scorer" in options else None
    write = decoding(text, decoder, options, scorer=scorer, max_new_tokens=max_new_tokens, unique=unique)
    streams = seeds(ids, seed)
    at_once = texts_at_once(options)
    free = devices.free_memory(text.model.device)

    def fits(count: int, length: int) -> bool:
        return free is None or count * text.memory(at_once, length, max_new_tokens) <= MEMORY_SHARE * free

    def write_batch(batch: Batch) -> list[Row]:
        outputs = write([ids[i] for i in batch], [streams[i] for i in batch])
        return [_row(i, rows[i], texts) for i, texts in zip(batch, outputs, strict=True)]

    def alone(place: int) -> list[Row]:
        raise ValueError(
            f"{rows[place].where}: does not fit into memory even alone; lower --max-new-tokens or the number of beams "
            "or samples, shorten the prompt, or choose another --device"
        )

    def work(done: Container[int]) -> Iterator[list[Row]]:
        todo = [batch for batch in batches(lengths, batch_size, fits) if not all(i in done for i in batch)]
        with bar("generating", len(rows), "prompts") as advance:
            advance(len(rows) - sum(map(len, todo)))
            for found in within_memory(todo, write_batch, alone):
                yield [row for row in found if row["index"] not in done]
                advance(len(found))

    if out is None:
        _say_copies(_print(work), options, unique)
        return 0
    made = {
        "model": _place(model),
        "weights": weights_digest(text.model),
        "prompts": sha256(repr([(row.text, row.kept) for row in rows]).encode()).hexdigest()[:12],
        "decoder": decoder,
        **_recorded(options, unique),
        "max_new_tokens": max_new_tokens,
        "chat": chat,
        "seed": seed,
        "device": text.model.device.type,
        "dtype": str(text.model.dtype).removeprefix("torch."),
    }
    if hasattr(scorer, "state_dict"):
        made |= {"scorer": _place(options["scorer"]), "scorer_weights": weights_digest(scorer)}
    if isinstance(scorer, OwnFunction):
        made |= {"scorer": scorer.place, "scorer_code": scorer.digest}
    done = _keep(GrowingRows(out, "generate", made), rows, work)
    _say_copies(done, options, unique)
    print(f"{out}: {len(rows)} prompts, {sum(len(row['outputs']) for row in done)} texts", file=sys.stderr)
    return 0


def _recorded(options: Mapping[str, Any], unique: bool) -> dict[str, Any]:
    """The options as a file keeps them: newer ones are None where they change nothing, as in files from before."""
    found = {**options, "unique": unique or None}
    if "order" in options:
        fewer = options["keep"] < options["num_beams"] and options["groups"] > 1
        order = options["order"] or ("rounds" if fewer else "score")
        found["order"] = None if order == "score" else order
    return found


def _say_copies(rows: Collection[Row], options: Mapping[str, Any], unique: bool) -> None:
    """Say what the texts of a prompt have in common that nobody wants: other texts of it."""
    texts = [[output["text"] for output in row["outputs"]] for row in rows]
    copies = [count for one in texts if (count := len(one) - len(set(one)))]
    if copies:
        print(
            f"{sum(copies)} of {sum(map(len, texts))} texts, for {len(copies)} of {len(texts)} prompts, repeat another "
            "of their prompt; --unique takes the next ones instead",
            file=sys.stderr,
        )
    wanted = options.get("keep", options.get("n"))
    if unique and (short := sum(len(one) < wanted for one in texts)):
        print(f"{short} of {len(texts)} prompts have fewer than {wanted} texts: no more that differ", file=sys.stderr)


def _print(work: Work) -> Collection[Row]:
    """On a terminal a table for each prompt, in the end; else lines in the order of the prompts, as they come."""
    from kilter.lab.files import json_line
    from kilter.lab.output import write_data

    show, done, printed = sys.stdout.isatty(), dict[int, Row](), 0
    try:
        for new in work(()):
            done |= {row["index"]: row for row in new}
            while not show and printed in done:
                write_data(json_line(done[printed]))
                printed += 1
    finally:
        if show:
            from kilter.lab.side_by_side import show_texts

            show_texts(done[i] for i in sorted(done))
    return done.values()


def _keep(kept: "GrowingRows", rows: Sequence["TextPrompt"], work: Work) -> Collection[Row]:
    """Write what an earlier run of the command has not, and in the end all of it in the order of the prompts."""
    from kilter.lab.locks import one_at_a_time

    with one_at_a_time(kept.out.with_name(f".{kept.out.name}.generate")):
        done = _earlier(kept, rows)
        for new in work(done):
            kept.add(new)
            done |= {row["index"]: row for row in new}
        kept.finish(done[i] for i in range(len(rows)))
    return done.values()


def check_options(decoder: str, options: Mapping[str, Any], **counts: int) -> None:
    """Check what can be checked before a model is loaded.

    Raises:
        ValueError: a number outside what it may be, beams that the groups do not divide, more texts asked than come.
    """
    values = {**options, **counts}

    def flag(name: str) -> str:
        return f"--{name.replace('_', '-')} {values[name]}"

    for name, value in values.items():
        least = 1 if name in counts else OPTIONS[name].least
        if least is not None and not value >= least:
            raise ValueError(f"{flag(name)}: must be at least {least}")
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{flag(name)}: must be a finite number")
    if not 0 < options.get("top_p", 1) <= 1:
        raise ValueError(f"{flag('top_p')}: must be above 0 and at most 1 (which keeps every token)")
    if not options.get("temperature", 1) > 0:
        raise ValueError(f"{flag('temperature')}: must be above 0; for the likeliest text take --decoder beam")
    if options.get("num_beams", 0) % options.get("groups", 1):
        raise ValueError(f"{flag('num_beams')} {flag('groups')}: the beams must be a multiple of the groups")
    counted = DECODERS[decoder].counted
    if options.get("keep", 1) > options[counted]:
        raise ValueError(
            f"{flag('keep')} {flag(counted)}: no more texts come than that; lower the one or raise the other"
        )


def texts_at_once(options: Mapping[str, Any]) -> int:
    """How many texts of one prompt are decoded together.

    Example:
        >>> texts_at_once({"beams": 2, "samples": 10, "keep": 1})
        20
    """
    return options.get("num_beams") or options.get("n") or options["beams"] * options["samples"]


def _place(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).exists() else name


def _row(index: int, prompt: "TextPrompt", outputs: list[Row]) -> Row:
    return {"index": index, **prompt.kept, "prompt": prompt.text, "outputs": outputs}


def _earlier(kept: "GrowingRows", rows: Sequence["TextPrompt"]) -> dict[int, Row]:
    from kilter.lab.growing import ELSEWHERE

    found = {}
    for number, row in enumerate(kept.earlier(), start=1):
        index = row.get("index")
        if not (isinstance(index, int) and 0 <= index < len(rows) and row.get("prompt") == rows[index].text):
            raise ValueError(f"{kept.out}, line {number}: belongs to none of the prompts; remove it, or {ELSEWHERE}")
        found[index] = row
    return found
