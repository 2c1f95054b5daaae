"""The command line: `kilter demo, run, align, latency, generate, diversity, …`; see `kilter --help`.

Imports nothing heavy, so that every help text answers at once; each command imports what it needs.
"""

import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from kilter.core.errors import missing, suggest
from kilter.evaluation.word_times import AUDIO_SUFFIX

EXIT_CODES = """exit codes: 0 done · 1 something you can mend (the message says what) · 2 wrong usage · 3 a bug of
ours · 130 interrupted (run the same command again: it goes on where it stopped)"""

_DEBUG = "KILTER_DEBUG"


class UsageError(ValueError):
    """The command line asks for something that does not exist."""


@dataclass
class Demo:
    """Train a small recogniser on recorded digits and watch Align With Purpose make its words come earlier.

    The same as `kilter run align-with-purpose --preset demo`. Minutes on two cores; safe to interrupt and repeat.
    """

    out: Path | None = None
    """run directory; by default under ./runs"""

    def __call__(self) -> int:
        """Run the demo."""
        return run_method("align-with-purpose", ["--preset", "demo", *(["--out", str(self.out)] if self.out else [])])


@dataclass
class List:
    """List every method: what it is for, its lever, its paper and the verdict of the evidence."""

    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Print the table."""
        from kilter.core.paper import cards

        rows = [
            {
                "method": card.slug,
                "lever": card.lever,
                "purpose": card.purpose,
                "paper": f"{card.authors[0].rsplit(' ', 1)[-1]} et al., {card.year}",
                "verdict": verdict(card.slug),
            }
            for card in cards().values()
        ]
        if self.json:
            print(json.dumps(rows, indent=2, ensure_ascii=False))
            return 0
        from rich.console import Console
        from rich.table import Column, Table

        method = Column("method", no_wrap=True)
        table = Table(method, "lever", "what for", "paper", "verdict", box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(row["method"], row["lever"], row["purpose"], row["paper"], row["verdict"])
        Console().print(table)
        print("\nkilter show METHOD tells more; kilter run METHOD --help lists its options.")
        return 0


@dataclass
class Show:
    """Show one method: its paper, public names, what it claims and what was measured here."""

    method: Annotated[Positional[str], arg(metavar="METHOD")]
    """a name from `kilter list`"""
    bibtex: bool = False
    """print the citation only, ready to paste"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Print the card."""
        card = method_card(self.method)
        if self.bibtex:
            print(card.bibtex())
            return 0
        record = evidence(card.slug)
        if self.json:
            from dataclasses import asdict

            print(json.dumps({**asdict(card), "evidence": record}, indent=2, ensure_ascii=False))
            return 0
        print(f"{card.slug} — {card.purpose}\n")
        print(f"  {card.title}\n  {', '.join(card.authors)}\n  {card.venue}, {card.year} · {card.url}\n")
        print(f"  lever    {card.lever}\n  names    {', '.join(card.names)}")
        for found in (record or {}).get("verdicts", []):
            print(f"  claim    {found['claim']}\n  verdict  {found['verdict']}: {found['why']}")
        if record is None:
            print("  verdict  no evidence recorded yet")
        else:
            print(f"  measured {record['command']}")
        print(f"\n  try it   kilter run {card.slug} --preset demo")
        return 0


@dataclass
class Align:
    """Find when each word was spoken, with a CTC model: forced alignment of transcripts, or of what the model hears.

    A word starts with the first frame of its first token and ends with the last frame of its last token. CTC models
    are peaky: a token holds few frames, often one, so that the end is that of the token's frames, mostly before the
    sound's. A word's score, in every format, is the geometric mean of its tokens' probabilities over these frames.

    Transcripts are the column text of a manifest or the .txt beside a recording; without one, the words are those
    the model hears ("heard" in the JSON). With --out a killed run goes on where it stopped when repeated; another
    model, source or text needs another --out.

    Example: kilter align recordings/ --model my-model/ --format textgrid --out grids/

    One recording: kilter align hello.wav --model my-model/ --text "hello world"
    """

    source: Annotated[Positional[str], arg(metavar="AUDIO|MANIFEST")]
    """a recording, a .csv or .jsonl with columns audio and text, a folder of recordings, or a hub dataset"""
    model: str
    """folder or hub id of a transformers …ForCTC model"""
    text: str | None = None
    """the transcript of one recording"""
    format: Literal["jsonl", "ctm", "textgrid"] = "jsonl"
    """a line of JSON for each recording; NIST's CTM, a line for each word; or a Praat TextGrid for each recording"""
    out: Path | None = None
    """file to write, or folder of the TextGrids; by default JSON and CTM are printed"""
    batch_size: int = 16
    """recordings at once, at most; long ones go in smaller batches"""
    device: str = "auto"
    """auto (the accelerator there is), cpu, cuda or mps"""
    text_column: str | None = None
    """column of the transcripts, which every row must then have; by default text, where there is one"""
    audio_column: str = "audio"
    """column of the recordings"""
    skip_bad: bool = False
    """leave out, and name, recordings that cannot be read or do not fit their text, instead of stopping"""

    def __call__(self) -> int:
        """Align and write."""
        if self.format == "textgrid" and self.out is None:
            raise UsageError("--format textgrid writes a file for each recording: add --out FOLDER")
        if self.text is not None and not AUDIO_SUFFIX.search(self.source):
            raise UsageError(f"--text is the transcript of one recording, and {self.source} is not one")
        if self.text is not None and not self.text.strip():
            raise UsageError("--text is empty; leave it out for what the model hears")
        from kilter.align import align_recordings

        return align_recordings(**vars(self))


@dataclass
class Latency:
    """Measure when the words of your models come: after reference times, or after another model.

    A word comes when the first frame of its last token is complete; computing is not counted. The table has, for
    each model, the mean delay with its 95 % interval over utterances, median, variance, the share of words before
    the reference (early) and, where the recordings have texts, the word error rate. Against word times the delay is
    after the end of the word, and after its start beside it; against a model, after that model's time of the same word.
    Upper and lower case are the same.

    Example: kilter latency test.csv --model before/ --model after/ --against times.jsonl

    Without reference times: kilter latency recordings/ --model after/ --against before/
    """

    data: Annotated[Positional[str | None], arg(metavar="DATA")] = None
    """a .csv or .jsonl with columns audio and (for word errors) text, a folder of recordings, or a hub dataset; may be
    left out where REF is one that has the column words"""
    model: UseAppendAction[tuple[str, ...]] = ()
    """folder or hub id of a transformers …ForCTC model; repeat it to compare several"""
    against: Annotated[str, arg(metavar="REF")] = "words"
    """another model; word times (a .jsonl of kilter align, a .ctm, a folder of TextGrids); or DATA's column words"""
    look_ahead_ms: UseAppendAction[tuple[float, ...]] = ()
    """audio a model waits for beyond the frame it labels; total latency is delay and this; repeat it for each model"""
    out: Path | None = None
    """folder of latency.json and latency.svg; by default under ./runs"""
    json: bool = False
    """print JSON"""
    batch_size: int = 16
    """recordings at once"""
    device: str = "auto"
    """auto (the accelerator there is), cpu, cuda or mps"""
    text_column: str = "text"
    """column of the transcripts"""
    audio_column: str = "audio"
    """column of the recordings"""
    skip_bad: bool = False
    """leave out, and name, recordings that cannot be read, instead of stopping"""

    def __call__(self) -> int:
        """Measure, write and print."""
        if not self.model:
            raise UsageError("which model? add --model FOLDER, once or several times")
        options = vars(self)
        if self.data is None:
            if self.against == "words":
                raise UsageError("which recordings? give a manifest or a folder: kilter latency DATA --model FOLDER")
            options = {**options, "data": self.against, "against": "words"}
        from kilter.latency import measure

        return measure(**options)


@dataclass
class Diversity:
    """Measure how different the outputs for each prompt are, how good the best of them, and how much is copied.

    Means over prompts with 95 % bootstrap intervals: distinct n-grams by words generated, the Vendi score (how many
    different outputs there are in effect), self-BLEU (high where outputs are alike); with references the oracle, the
    best BLEU-4 among the first k outputs; with log-probabilities that of the first; repetition, the share of words that
    were said in the 20 words before, and overlap, the share that the prompt has too. Several files are columns; a star
    marks what differs from the first file on the same prompts.

    Example: kilter diversity diverse.jsonl

    Compare: kilter diversity beam.jsonl diverse.jsonl sampled.jsonl
    """

    files: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="FILE.jsonl [FILE.jsonl …]", help_behavior_hint="(needed)")
    ] = ()
    """JSON lines of kilter generate; or lines with texts, and if you have them prompt and references"""
    characters: bool = False
    """count characters instead of words, for languages without spaces"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Measure and print."""
        if not self.files:
            raise UsageError("which outputs? kilter diversity FILE.jsonl, as kilter generate writes it")
        from kilter.diversity import measure

        return measure(**vars(self))


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


@dataclass
class Report:
    """Print the table of a run directory again, and write its report.html anew."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """a run directory"""
    json: bool = False
    """print the summary as JSON"""

    def __call__(self) -> int:
        """Write and print."""
        from kilter.lab.report import load_summary, write_report

        summary = load_summary(self.run)
        if self.json:
            print(json.dumps(summary, indent=2, ensure_ascii=False))
            return 0
        show_run(self.run, write_report(self.run))
        return 0


@dataclass
class Compare:
    """Compare two run directories: what differs in their settings, and what in their figures."""

    a: Annotated[Positional[Path], arg(metavar="RUN_A")]
    """a run directory"""
    b: Annotated[Positional[Path], arg(metavar="RUN_B")]
    """another"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Print the comparison."""
        from kilter.lab.report import compare

        table, found = compare(self.a, self.b)
        if self.json:
            print(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            from rich.console import Console

            Console().print(table)
        return 0


@dataclass
class Fetch:
    """Fetch a data set or a recording pack into the cache, from the first source that has it."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """an asset: see `kilter doctor` for their names"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Fetch and say where it is."""
        from kilter.data.assets import ASSETS, locate

        if self.name not in ASSETS:
            raise UsageError(f"there is no asset {self.name!r}{suggest(self.name, ASSETS)}")
        found = locate(self.name)
        if self.json:
            print(json.dumps({"name": self.name, "path": str(found.path), "source": found.source}, indent=2))
        else:
            print(f"{found.asset.title}: {found.path}\n{found.asset.licence}; {found.asset.attribution}")
        return 0


@dataclass
class Doctor:
    """Say what is installed, which data is there and how to get what is missing. Downloads nothing."""

    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Print the state of things; 1 if a method cannot run."""
        from kilter.doctor import examine, show

        found = examine()
        if self.json:
            print(json.dumps(found, indent=2))
        else:
            show(found)
        return 0 if found["ok"] else 1


@dataclass
class New:
    """Start the next paper: one method file, one recipe and one test from templates.

    Example: kilter new speech/fast-emit
    """

    target: Annotated[Positional[str], arg(metavar="FAMILY/NAME")]
    """family and slug of the method"""
    root: Path = Path()
    """root of the source tree"""

    def __call__(self) -> int:
        """Write the files."""
        from kilter.scaffold import new, next_steps

        for path in new(self.target, self.root):
            print(path)
        print(next_steps(self.target))
        return 0


COMMANDS: Mapping[str, Callable[..., Any]] = {
    "demo": Demo,
    "list": List,
    "show": Show,
    "align": Align,
    "latency": Latency,
    "generate": Generate,
    "diversity": Diversity,
    "report": Report,
    "compare": Compare,
    "fetch": Fetch,
    "doctor": Doctor,
    "new": New,
}

HELP = f"""usage: kilter COMMAND [OPTIONS]

Say what "aligned" means; kilter trains, decodes or curates until your sequence model is in kilter.

  demo      watch a speech recogniser emit its words earlier, on this machine, in minutes
  list      every method with its lever, its paper and its verdict
  show      one method: paper, names, claims, evidence; --bibtex for the citation
  run       run a method: baseline and method on the same budget, or your own model on your own data
  align     when each word of your recordings was spoken, as JSON, CTM or TextGrid
  latency   when the words of your models come: table and figure
  generate  several texts for each of your prompts: diverse, reranked by a scorer, sampled
  diversity how different the outputs of a decoder are, how good the best: table
  report    print the table of a run again, rewrite its report.html
  compare   two run directories side by side
  fetch     get a data set into the cache
  doctor    what is installed, what is missing, how to get it
  new       start the next paper from templates

kilter COMMAND --help tells more. --debug after any command shows tracebacks.
{EXIT_CODES}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or _DEBUG in os.environ
    if "--debug" in given and arguments is None:
        os.environ[_DEBUG] = "1"  # the pieces of a run that have a process of their own
    given = [argument for argument in given if argument != "--debug"]
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # CTC has no kernel for Apple's GPUs
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without − or α is no reason to fail
    try:
        return _dispatch(given)
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again and it goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has no reader
        return 0
    except Exception as error:
        if debug:
            raise
        ours = not isinstance(error, ValueError | TypeError | OSError | ImportError)
        said = missing(error) if isinstance(error, ModuleNotFoundError) else str(error)
        print(f"kilter: {said if not ours else f'{type(error).__name__}: {said}'}", file=sys.stderr)
        if ours:
            print("kilter: this looks like a bug of ours; add --debug for the traceback", file=sys.stderr)
        return 3 if ours else 2 if isinstance(error, UsageError) else 1


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0 if given else 2
    if given[0] == "--version":
        import kilter

        print(f"kilter {kilter.__version__}")
        return 0
    name, rest = given[0], given[1:]
    if name == "run":
        return _run(rest)
    if name not in COMMANDS:
        print(f"kilter: there is no command {name!r}{suggest(name, [*COMMANDS, 'run'])}", file=sys.stderr)
        return 2
    return tyro.cli(COMMANDS[name], args=rest, prog=f"kilter {name}")()


def _run(rest: list[str]) -> int:
    if not rest or rest[0].startswith("-"):
        from kilter.core.paper import cards

        lines = "\n".join(f"  {card.slug:<22} {card.purpose}" for card in cards().values())
        print(
            "usage: kilter run METHOD [--preset smoke|demo|full] [OPTIONS]\n\n"
            "Run a method: its arms on the same budget with several seeds, or just the method on your own model.\n\n"
            f"{lines}\n\nkilter run METHOD --help lists the options of one."
        )
        return 0 if rest[:1] in (["-h"], ["--help"]) else 2
    return run_method(rest[0], rest[1:])


def run_method(slug: str, rest: list[str]) -> int:
    """`kilter run SLUG …`: options from the preset, then the config file, then the flags."""
    recipe_class = _recipe_class(slug)
    preset, config, flags, record = _peel(rest)
    given = _from_file(config, recipe_class)
    if preset is None:
        means_own = any(
            given.get(name) or any(f.startswith(f"--{name}") for f in flags) for name in recipe_class.own_by
        )
        own = "own" in recipe_class.presets and means_own
        preset = given.get("preset") or ("own" if own else "full")
    if preset not in recipe_class.presets:
        raise UsageError(f"preset: there is no {preset!r}{suggest(preset, recipe_class.presets)}")
    values = {"preset": preset, **recipe_class.presets[preset], **given}
    default = recipe_class(**values)
    recipe = tyro.cli(
        recipe_class, args=flags, default=default, prog=f"kilter run {slug}", description=_about(recipe_class)
    )
    from kilter.lab.files import MAIN_PROCESS
    from kilter.lab.record import record_evidence, source_tree
    from kilter.lab.run import run, spoken_command

    if record and recipe.only is not None:
        raise UsageError("--record needs the whole run, --only does a piece of it")
    tree = source_tree() if record else None
    out = run(recipe, spoken_command(["run", slug, *rest]))
    if recipe.only is None and MAIN_PROCESS:
        show_run(out, out / "report.html")
        if tree is not None:
            print(f"evidence: {record_evidence(out, tree).relative_to(tree)}")
    return 0


def _peel(rest: list[str]) -> tuple[str | None, Path | None, list[str], bool]:
    """Take --preset, --config and --record out: they decide the defaults of all other options."""
    import argparse

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--record", action="store_true")
    found, flags = parser.parse_known_args(rest)
    return found.preset, found.config, flags, found.record


def _from_file(config: Path | None, recipe_class: Any) -> dict[str, Any]:
    """Options from a YAML file, or from a run's `recipe.yaml`; unknown keys are errors."""
    if config is None:
        return {}
    import yaml

    try:
        given = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{config}: not valid YAML ({error})") from error
    if not isinstance(given, dict):
        raise ValueError(f"{config}: must hold options as `name: value` lines")
    given = given.get("settings", given)
    known = {field.name: field for field in fields(recipe_class)}
    values = {}
    for name, value in given.items():
        key = str(name).replace("-", "_")
        key = {"train": "train_data", "eval": "eval_data"}.get(key, key)  # as the flags are called
        if key not in known:
            raise ValueError(f"{config}: there is no option {name!r}{suggest(key, known)}")
        if value is not None and "Path" in str(known[key].type):
            value = Path(str(value))
        values[key] = tuple(value) if isinstance(value, list) else value
    return values


def _recipe_class(slug: str) -> Any:
    from importlib import import_module

    card = method_card(slug)
    return import_module(f"kilter.recipes.{card.slug.replace('-', '_')}").RECIPE


def _about(recipe_class: Any) -> str:
    presets = ", ".join(recipe_class.presets)
    return (
        f"{recipe_class.__doc__}\n\nAlso: --preset {{{presets}}} sets the defaults shown here; --config FILE.yaml "
        f"reads options, flags win; --record writes evidence/{recipe_class.paper.slug}.json (for another preset than "
        f"full, {recipe_class.paper.slug}-PRESET.json).\n\n{EXIT_CODES}"
    )


def method_card(slug: str) -> Any:
    """The card of a method, or an error that names the nearest."""
    from kilter.core.paper import cards

    if slug not in cards():
        raise UsageError(f"there is no method {slug!r}{suggest(slug, cards())}")
    return cards()[slug]


def evidence(slug: str) -> Any:
    """The recorded evidence of a method, or None."""
    package = Path(__file__).parent
    for folder in (package / "evidence", package.parents[1] / "evidence"):
        if (file := folder / f"{slug}.json").exists():
            return json.loads(file.read_text(encoding="utf-8"))
    return None


def verdict(slug: str) -> str:
    """The verdicts on a method's claims, in a word or two."""
    record = evidence(slug)
    return "no evidence yet" if record is None else "; ".join(dict.fromkeys(v["verdict"] for v in record["verdicts"]))


def show_run(run: Path, report: Path) -> None:
    """The table of a finished run and where its report is."""
    from rich.console import Console

    from kilter.lab.report import load_summary, table

    summary = load_summary(run)
    console = Console()
    console.print(table(summary, most=max(2, (console.width - 24) // 18)))
    for found in summary["verdicts"]:
        print(f"{found['verdict']}: {found['claim']} ({found['why']})")
    if skipped := summary["data"]["skipped"]:
        print(f"skipped: {len(skipped)} of your files or rows, listed in the report")
    if any((run / "arms").glob("*/seed-*/model")) and summary["settings"].get("model"):
        print(f"models: {run / 'arms' / '<arm>' / 'seed-<n>' / 'model'}")
    for note in summary["notes"]:
        print(f"note: {note}")
    print(f"report: {report}")


if __name__ == "__main__":
    sys.exit(main())
