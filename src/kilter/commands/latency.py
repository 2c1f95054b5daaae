"""kilter latency: when the words of your models come: table and figure."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

from kilter.core.errors import UsageError
from kilter.core.normalise import TextPart
from kilter.core.tables import SUFFIXES
from kilter.evaluation.latency import Drift, Emission, Span, drift_between, drift_to_reference, total_latency
from kilter.evaluation.word_times import (
    by_key,
    decode_text,
    read_ctm,
    read_jsonl,
    read_textgrid,
    span_of,
    utterance_key,
)
from kilter.lab.files import write_json, write_whole
from kilter.lab.numbers import fixed
from kilter.lab.options import above, at_least
from kilter.lab.output import print_json
from kilter.models.windows import Windows

if TYPE_CHECKING:
    from kilter.data.manifests import Row

PLACE = 60

OWN = "words"
"""The reference that stands in the recordings' own column of that name."""


@dataclass
class Latency:
    """Measure when the words of your models come: after reference times, or after another model.

    A word comes when the first frame of its last token is complete; computing is not counted. The table has, for
    each model, the mean delay with its 95 % interval over utterances, median, variance, the share of words before
    the reference (early) and, where the recordings have texts, the word error rate. Against word times the delay is
    after the end of the word, and after its start beside it; against a model, after that model's time of the same word.
    Upper and lower case are the same, and so are the forms in which Unicode has a letter and all white space.

    Example: kilter latency test.csv --model before/ --model after/ --against times.jsonl

    Without reference times: kilter latency recordings/ --model after/ --against before/
    """

    data: Annotated[Positional[str | None], arg(metavar="DATA")] = None
    """a .csv, .json or .jsonl with columns audio and (for word errors) text, a folder with all recordings below it, a
    recording, or a hub dataset (all its splits, or ORG/NAME:CONFIG:SPLIT); may be left out where REF is one that has
    the column words"""
    model: UseAppendAction[tuple[str, ...]] = ()
    """folder or hub id of a transformers …ForCTC model; repeat it to compare several"""
    against: Annotated[str, arg(metavar="REF")] = OWN
    """another model; word times (a .jsonl, .json or .csv, a .ctm, a folder of TextGrids); or DATA's column words"""
    look_ahead_ms: UseAppendAction[tuple[float, ...]] = ()
    """audio a model waits for beyond the frame it labels; total latency is delay and this; repeat it for each model"""
    out: Path | None = None
    """folder of latency.json and latency.svg; by default under ./runs"""
    json: bool = False
    """print JSON"""
    batch_size: Annotated[int, at_least(1)] = 16
    """recordings at once"""
    device: str = "auto"
    """auto (the accelerator there is), cpu, cuda or mps"""
    text_column: str = "text"
    """column of the transcripts"""
    audio_column: str = "audio"
    """column of the recordings"""
    skip_bad: bool = False
    """leave out, and name, recordings that cannot be read, heard or spelt by a model, or do not fit into memory"""
    keep: tuple[TextPart, ...] = ()
    """of all words leave as it is: white space, the Unicode form, case; by default they are made alike"""
    window_seconds: Annotated[float, above(0)] = Windows.seconds
    """longest recording that goes through a model in one piece; a longer one goes in windows, as in kilter align"""
    margin_seconds: Annotated[float, at_least(0)] = Windows.margin
    """of a window, at each inner edge: heard, but the frames are those of the window beside it"""

    def __call__(self) -> int:
        """Measure, write and print."""
        if not self.model:
            raise UsageError("which model? add --model FOLDER, once or several times")
        if self.data is None and self.against == OWN:
            raise UsageError("which recordings? give a manifest or a folder: kilter latency DATA --model FOLDER")
        return _measure(self if self.data is not None else replace(self, data=self.against, against=OWN))


COMMAND = Latency


@dataclass(frozen=True)
class Measured:
    """When one model's words come. Times in milliseconds, after the reference; None where there is nothing to tell.

    Attributes:
        model, label: as given, and what the table and the figure call it.
        matched: words that both the model and the reference have.
        words: words of the reference.
        delay_ms, delay_low, delay_high: mean, and its 95 % interval by bootstrap over utterances.
        median_ms, variance_ms2, early_share: of the same delays; the share is of negative ones.
        onset_ms, onset_variance_ms2: after the words' starts, where the reference has them.
        look_ahead_ms, total_ms: audio the model waits for beyond the frame it labels; delay and look-ahead together.
        wer: word error rate in per cent, where the recordings have texts.
        delays: by utterance.
    """

    model: str
    label: str
    matched: int
    words: int
    delay_ms: float
    delay_low: float | None
    delay_high: float | None
    median_ms: float
    variance_ms2: float
    early_share: float
    onset_ms: float | None
    onset_variance_ms2: float | None
    look_ahead_ms: float
    total_ms: float | None
    wer: float | None
    delays: dict[str, list[float]]


def _measure(asked: Latency) -> int:
    from kilter.models.names import check_model_name

    for name in asked.model:
        check_model_name(name, "a transformers …ForCTC model")  # before what takes seconds to import
    from kilter.data.manifests import Utterances, load_speech
    from kilter.evaluation.word_errors import word_error_counts
    from kilter.lab.delays import delay_curves
    from kilter.lab.progress import bar, quiet_hosts
    from kilter.models.compared import Listener, alike, unfit, words_by
    from kilter.models.fitting import Given
    from kilter.models.recogniser import Recogniser

    data, model, against, look_ahead_ms = str(asked.data), asked.model, asked.against, asked.look_ahead_ms or (0.0,)
    if len(look_ahead_ms) not in (1, len(model)):
        raise ValueError(f"look_ahead_ms: {len(look_ahead_ms)} values for {len(model)} models; give one, or one each")
    if len({Path(name).resolve() for name in model}) < len(model):
        raise ValueError(f"model: one stands twice in {', '.join(model)}; give each model once")
    quiet_hosts()
    speech = load_speech(
        data,
        rate=1,  # that of each model, once it is loaded
        split="",  # as kilter align takes them, whose word times must fit
        text_column=asked.text_column,
        audio_column=asked.audio_column,
        skip_bad=asked.skip_bad,
        need_text=asked.text_column != "text",
        distinct=True,
    )
    rows, spans = _reference(against, speech.rows.headers(), data)
    windows = Windows(asked.window_seconds, asked.margin_seconds)
    unusual = (*asked.keep, *[windows] * (windows != Windows()))  # other numbers, so a folder of its own
    folder = asked.out or Path("runs", f"latency-{_digest(data, against, *model, *look_ahead_ms, *unusual)}")

    left_out = dict(speech.skipped)

    def leave_out(bad: Mapping[int, str]) -> None:
        left_out.update({rows[place].where: why.removeprefix(f"{rows[place].where}: ") for place, why in bad.items()})

    def hear(name: str) -> "Listener":
        recogniser = replace(Recogniser.load(name, keep=asked.keep).to(asked.device), windows=windows)
        given = [Given(row.where, row.text, math.ceil(row.seconds * recogniser.rate)) for row in rows]
        leave_out(bad := unfit(recogniser, given, skip_bad=asked.skip_bad))
        good = [place for place in range(len(rows)) if place not in bad]
        heard, chosen = {}, Utterances([rows[place] for place in good], recogniser.rate)
        with bar(f"hearing with {name}", len(good), "recordings") as advance:
            found = recogniser.hear(chosen, asked.batch_size, skip_bad=asked.skip_bad)
            for place, one in zip(good, found, strict=True):
                heard[place] = one
                advance(1)
        return Listener(name, recogniser.spelling, heard)

    *labels, other = _labels([*model, against] if spans is None else [*model, ""])
    before = hear(against) if spans is None else None
    ours = [hear(name) for name in model]
    for one in (*ours, before or ours[0]):
        leave_out({place: heard.problem for place, heard in one.heard.items() if heard.problem})
    places = [place for place, row in enumerate(rows) if row.where not in left_out]
    for where, why in left_out.items():
        print(f"left out: {where}: {why}", file=sys.stderr)
    if left_out:
        print(f"left out: {len(left_out)} of {len(rows) + len(speech.skipped)} recordings", file=sys.stderr)
    if not places:
        raise ValueError(f"{data}: no recording is left that every model can hear")
    rows = [rows[place] for place in places]
    if told := ours[0].spelling.normalise.told([row.text for row in rows if row.text]):
        print(told, file=sys.stderr)
    found, words, said = [], [], []
    for one, label, look_ahead in zip(ours, labels, [*look_ahead_ms] * len(model), strict=False):
        same = alike(asked.keep, one, before)
        words = [words_by(same, one.heard[place].words) for place in places]
        said = [words_by(same, before.heard[place].words if before else (spans or [])[place]) for place in places]
        drift = drift_between(words, said) if before else drift_to_reference(words, said)
        texts = [(row.text, one.heard[place].text) for place, row in zip(places, rows, strict=True) if row.text]
        errors = word_error_counts(
            [same(text) for text, _ in texts], [same(text) for _, text in texts], keep=asked.keep
        )
        found.append(_measured(one.name, label, drift, sum(map(len, said)), look_ahead, errors, rows))
    after = other if spans is None else "the true spans of the words" if against == OWN else f"the words in {against}"
    if not any(one.matched for one in found):
        raise ValueError(
            f"{', '.join(model)} and {after} have no word in common: {model[-1]} says {_few(words)}, the "
            f"reference {_few(said)}; do both write the same language, and in the same letters?"
        )

    about = {"data": data, "against": against, "utterances": len(rows), "models": [asdict(one) for one in found]}
    write_json(folder / "latency.json", about)
    curves = {one.label: [delay for row in one.delays.values() for delay in row] for one in found}
    write_whole(folder / "latency.svg", delay_curves(curves, "the end of the word" if spans else f"{other} had it"))
    if asked.json:
        print_json(about)
        return 0
    _show(found, f"{len(rows)} utterances, {found[0].words} words; times in ms after {after}", spans is not None)
    print(f"figure: {folder / 'latency.svg'}")
    print(f"numbers: {folder / 'latency.json'}")
    return 0


# The reference --------------------------------------------------------------------------------------------------------


def _reference(against: str, rows: "Sequence[Row]", data: str) -> "tuple[Sequence[Row], list[list[Span]] | None]":
    """The rows that have a reference, and their words' spans; None where the reference is a model."""
    from kilter.data.hub import HUB_ID

    path, texts = Path(against), {utterance_key(row.id): row.text for row in rows}
    if against == OWN:
        given = {utterance_key(row.id): [span_of(word) for word in row.words] for row in rows if row.words}
        if not given:
            raise ValueError(
                f"{data}: no recording has the true spans of its words in a column `words`; give --against another "
                "model, or word times: a .jsonl or .ctm file or a folder of TextGrids, e.g. from kilter align"
            )
    elif path.is_dir() and not (path / "config.json").exists():
        files = sorted(file for file in path.rglob("[!.]*") if file.suffix.lower() == ".textgrid" and file.is_file())
        if not files:
            raise ValueError(f"{against}: holds neither a model (config.json) nor TextGrids")
        names = [file.relative_to(path).with_suffix("").as_posix() for file in files]
        read_grids = (
            (name, read_textgrid(_text(file), str(file), texts.get(utterance_key(name), "")))
            for name, file in zip(names, files, strict=True)
        )
        given = by_key(read_grids, against)
    elif path.is_file() and path.suffix.lower() in _READERS:
        read = partial(read_ctm, said=texts) if path.suffix.lower() == ".ctm" else _READERS[path.suffix.lower()]
        given = by_key(read(_text(path), against).items(), against)
    elif path.is_dir() or (not path.exists() and path.suffix.lower() not in _READERS and HUB_ID.fullmatch(against)):
        return rows, None
    else:
        raise ValueError(
            f"{against}: not a model (a folder or a hub id), nor word times (a .jsonl or .ctm file, a folder of "
            f"TextGrids), nor `{OWN}`, the recordings' own column"
        )
    common = [row for row in rows if utterance_key(row.id) in given]
    for row in common:
        _check_within(given[utterance_key(row.id)], row, data if against == OWN else against)
    if not common:
        theirs, ours = (", ".join(map(repr, names[:3])) for names in ([*given], [row.id for row in rows]))
        raise ValueError(
            f"{against} and {data} have no utterance in common: the one has {theirs} …, the other {ours} …; give the "
            "recordings the reference's names in a column `id`"
        )
    if len(common) < len(rows):
        print(f"left out: {len(rows) - len(common)} of {len(rows)} recordings, without a reference", file=sys.stderr)
    return common, [given[utterance_key(row.id)] for row in common]


def _check_within(spans: Sequence[Span], row: "Row", against: str) -> None:
    late = next((span for span in spans if span.start > row.seconds), None)
    if late is not None:
        raise ValueError(
            f"{against}: {row.id!r} has {late.token!r} at {late.start:g} s, and {row.where} ends at "
            f"{row.seconds:.2f} s; give times in seconds, and those of this recording"
        )


_READERS: Mapping[str, Callable[[str, str], Mapping[str, list[Span]]]] = {
    **{suffix: partial(read_jsonl, kind=suffix) for suffix in SUFFIXES},
    ".ctm": read_ctm,
}


def _text(path: Path) -> str:
    return decode_text(path.read_bytes(), str(path))


# Figures --------------------------------------------------------------------------------------------------------------


def _few(rows: Sequence[Sequence[Span | Emission]]) -> str:
    tokens = dict.fromkeys(word.token for words in rows for word in words)
    return ", ".join(repr(token if len(token) < 40 else f"{token[:39]}…") for token in [*tokens][:5]) or "nothing"


def _measured(
    name: str,
    label: str,
    drift: Drift,
    said: int,
    look_ahead: float,
    word_errors: tuple[int, int],
    rows: "Sequence[Row]",
) -> Measured:
    import numpy as np

    from kilter.evaluation.intervals import ratio_bootstrap

    totals = np.array([[sum(delays), len(delays)] for delays in drift.delays], dtype=float)
    several = np.count_nonzero(totals[:, 1]) > 1
    interval = ratio_bootstrap(totals) if several else None
    errors, words = word_errors
    starts = not math.isnan(drift.start_mean)
    return Measured(
        model=name,
        label=label,
        matched=drift.matched,
        words=said,
        delay_ms=drift.mean,
        delay_low=interval and interval.low,
        delay_high=interval and interval.high,
        median_ms=drift.median,
        variance_ms2=drift.variance,
        early_share=drift.early_share,
        onset_ms=drift.start_mean if starts else None,
        onset_variance_ms2=drift.start_variance if starts else None,
        look_ahead_ms=look_ahead,
        total_ms=total_latency(drift.mean, look_ahead) if starts else None,
        wer=100 * errors / words if words else None,
        delays={row.id: delays for row, delays in zip(rows, drift.delays, strict=True)},
    )


def _labels(models: Sequence[str]) -> list[str]:
    """What tells models apart: their paths without what all share at either end; where that is all, the last parts."""
    parts = [Path(model).parts for model in models]
    several = [one for one in parts if one]
    head = _alike(several)
    tail = _alike([one[head:][::-1] for one in several])
    return [Path(*(one[head : len(one) - tail] or one[-3:])).as_posix() for one in parts]


def _alike(parts: Sequence[Sequence[str]]) -> int:
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False)))


def _digest(*settings: object) -> str:
    return sha256(repr(settings).encode()).hexdigest()[:6]


def _show(found: Sequence[Measured], title: str, spans: bool) -> None:
    """The table, a row for each model; columns in which there is nothing to tell are left out."""
    from rich.console import Console
    from rich.table import Table

    print(f"{title}\n")
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", overflow="fold")
    columns: dict[str, list[str]] = {
        "words": [str(one.matched) for one in found],
        "after\nstart": [_signed(one.onset_ms) for one in found] if spans else [],
        "after end\n(95 %)" if spans else "delay\n(95 %)": [_interval(one) for one in found],
        "median": [_signed(one.median_ms) for one in found],
        "variance\nms²": [f"{one.variance_ms2:.0f}" if one.matched else "–" for one in found],
        "early": [f"{100 * one.early_share:.0f} %" if one.matched else "–" for one in found],
        "total": [_signed(one.total_ms) for one in found] if any(one.look_ahead_ms for one in found) else [],
        "WER": [f"{one.wer:.2f} %" for one in found if one.wer is not None],
    }
    columns = {head: cells for head, cells in columns.items() if cells}
    for head in columns:
        table.add_column(head, justify="right", no_wrap=True)
    for one, *cells in zip(found, *columns.values(), strict=True):
        table.add_row(one.label, *cells)
    Console().print(table)


def _interval(one: Measured) -> str:
    if one.delay_low is None:
        return _signed(one.delay_ms)
    return f"{_signed(one.delay_ms)}\n{_signed(one.delay_low)} to {_signed(one.delay_high)}"


def _signed(milliseconds: float | None) -> str:
    if milliseconds is None or math.isnan(milliseconds):
        return "–"
    return fixed(milliseconds, 0, signed=True)
