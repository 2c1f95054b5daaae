"""`kilter align`: the word times of recordings, in files that other tools read.

What is on disk is whole batches and perhaps a line cut short: the same command again takes the one, drops the other
and does the rest.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kilter.data.manifests import Row, Utterances, load_speech
from kilter.evaluation.latency import Span
from kilter.evaluation.word_times import (
    Format,
    ctm,
    jsonl,
    read_ctm,
    read_jsonl,
    read_textgrid,
    textgrid,
    utterance_key,
)
from kilter.lab.files import write_whole
from kilter.lab.progress import bar, quiet_hosts
from kilter.models.aligning import Aligned, align
from kilter.models.recogniser import Recogniser

BATCH_SECONDS = 320.0
"""Audio in one batch, padding included: long recordings go through in smaller batches."""

OR_SKIP = "(or leave such recordings out with --skip-bad)"


def align_recordings(
    source: str,
    *,
    model: str,
    text: str | None,
    format: Format,
    out: Path | None,
    batch_size: int,
    device: str,
    text_column: str | None,
    audio_column: str,
    skip_bad: bool,
) -> int:
    """What the command does; returns its exit code.

    Raises:
        ValueError: something the user can mend: recordings, texts, the model or what lies at `out`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    quiet_hosts()
    recogniser = Recogniser.load(model).to(device)
    speech = load_speech(
        source,
        rate=recogniser.rate,
        split="",
        text_column=text_column or "text",
        audio_column=audio_column,
        skip_bad=skip_bad,
        need_text=text_column is not None,
    )
    left_out = [f"{where}: {why}" for where, why in speech.skipped]
    rows = {}
    for row in speech.rows.headers():
        if (name := utterance_key(row.id)) in rows:
            raise ValueError(f"{row.where}: the name {row.id!r} stands twice; give each recording its own in column id")
        rows[name] = replace(row, text=" ".join((row.text if text is None else text).split()))
    if not skip_bad:
        _check_texts(recogniser, rows.values())

    done = _earlier(out, format, rows, source)
    with bar("aligning", sum(row.seconds for row in rows.values())) as advance:
        for batch in _batches(rows, batch_size):
            if not all(name in done for name in batch):
                few = Utterances([rows[name] for name in batch], recogniser.rate)
                new = {}
                for name, found in zip(batch, align(recogniser, few, len(few), skip_bad=True), strict=True):
                    if not found.problem:
                        new[name] = _encode(format, rows[name].id, found)
                    elif skip_bad:
                        left_out.append(found.problem)
                    else:
                        raise ValueError(f"{found.problem} {OR_SKIP}")
                _add(out, format, {name: chunk for name, chunk in new.items() if name not in done})
                done |= new
            advance(sum(rows[name].seconds for name in batch))

    for problem in left_out:
        print(f"left out: {problem}", file=sys.stderr)
    if not done:
        raise ValueError(f"{source}: no recording could be aligned")
    ordered = "".join(done[name] for name in rows if name in done)
    if out is None:
        sys.stdout.write(ordered)
        return 0
    if format != "textgrid":
        write_whole(out, ordered)  # in the order of the recordings, no longer of their lengths
    print(f"{out}: word times of {len(done)} of {len(rows)} recordings", file=sys.stderr)
    return 0


def _check_texts(recogniser: Recogniser, rows: Iterable[Row]) -> None:
    """An unspellable text is named before hours of work, not in the middle of them."""
    try:
        recogniser.check_texts([(row.where, row.text) for row in rows])
    except ValueError as error:
        raise ValueError(f"{error} {OR_SKIP}") from error


def _batches(rows: Mapping[str, Row], size: int) -> list[list[str]]:
    """Names in batches of like length, the longest first: what does not fit into memory shows at once."""
    found: list[list[str]] = []
    for name in sorted(rows, key=lambda name: -rows[name].seconds):
        if not found or len(found[-1]) == size or rows[found[-1][0]].seconds * (len(found[-1]) + 1) > BATCH_SECONDS:
            found.append([])
        found[-1].append(name)
    return found


def _encode(format: Format, name: str, found: Aligned) -> str:
    match format:
        case "jsonl":
            return jsonl(name, found.text, found.words, heard=found.heard)
        case "ctm":
            return ctm(name, found.words)
        case "textgrid":
            return textgrid(found.words, found.seconds)


def _add(out: Path | None, format: Format, new: Mapping[str, str]) -> None:
    """Bring one batch to the disk."""
    if out is None or not new:
        return
    if format == "textgrid":
        for name, chunk in new.items():
            write_whole(_grid(out, name), chunk)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8", newline="\n") as file:
        file.write("".join(new.values()))


def _earlier(out: Path | None, format: Format, rows: Mapping[str, Row], source: str) -> dict[str, str]:
    """What an earlier run of this command left, by recording; where the text is another now, it is done anew."""
    if out is None or not out.exists():
        return {}
    if out.is_dir() != (format == "textgrid"):
        kind = "a folder, one TextGrid for each recording" if format == "textgrid" else "one file"
        raise ValueError(f"{out}: --format {format} writes {kind}; give --out another name")
    if format == "textgrid":
        found = {name: file.read_text("utf-8") for name in rows if (file := _grid(out, name)).is_file()}
        words = {name: read_textgrid(text, str(_grid(out, name))) for name, text in found.items()}
        return _current(found, words, rows)
    text = "".join(out.read_bytes().decode(errors="replace").rpartition("\n")[:2])  # without a line cut short
    words = {utterance_key(name): spans for name, spans in _READ[format](text, str(out)).items()}
    if foreign := next((name for name in words if name not in rows), None):
        raise ValueError(
            f"{out}: holds {foreign!r}, which is not among the recordings of {source}; give --out another name"
        )
    lines: dict[str, str] = defaultdict(str)
    for line in text.splitlines(keepends=True):
        lines[utterance_key(json.loads(line)["id"] if format == "jsonl" else line.split()[0])] += line
    found = _current(lines, words, rows)
    if format == "ctm" and found and not rows[last := [*found][-1]].text:
        del found[last]  # without a text nothing says whether its last words are missing
    write_whole(out, "".join(found.values()))
    return found


def _current(found: Mapping[str, str], words: Mapping[str, Sequence[Span]], rows: Mapping[str, Row]) -> dict[str, str]:
    said = {name: " ".join(span.token for span in spans) for name, spans in words.items()}
    return {name: chunk for name, chunk in found.items() if rows[name].text in ("", said[name])}


_READ = {"jsonl": read_jsonl, "ctm": read_ctm}


def _grid(folder: Path, name: str) -> Path:
    return folder / f"{name}.TextGrid"
