"""`kilter align`: the word times of recordings, in files that other tools read.

What is on disk is whole batches and perhaps a line cut short: the same command again takes the one, drops the other
and does the rest. What it was made with stands in a hidden file beside it, so that nothing else is taken up.
"""

import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from kilter.data.manifests import Row, Utterances, load_speech
from kilter.evaluation.latency import Span
from kilter.evaluation.word_times import (
    Format,
    ctm,
    decode_text,
    jsonl,
    read_ctm,
    read_jsonl,
    read_textgrid,
    textgrid,
    utterance_key,
)
from kilter.lab.files import write_json, write_whole
from kilter.lab.growing import ELSEWHERE, check_settings
from kilter.lab.progress import bar, quiet_hosts
from kilter.models.aligning import Aligned, align, check_fit
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
        _check(recogniser, rows.values())

    made = {
        "model": _place(model),
        "weights": _weights(recogniser) if out else "",
        "source": _place(source),
        "format": format,
        "text": text,
        "text_column": text_column,
        "audio_column": audio_column,
    }
    done = _earlier(out, format, rows, made)
    stop = ""
    with bar("aligning", sum(row.seconds for row in rows.values()), "seconds of audio") as advance:
        for batch in _batches(rows, batch_size):
            if not all(name in done for name in batch):
                few = Utterances([rows[name] for name in batch], recogniser.rate)
                new, bad = {}, []
                for name, found in zip(batch, align(recogniser, few, len(few), skip_bad=True), strict=True):
                    if found.problem:
                        bad.append(found.problem)
                    else:
                        new[name] = _encode(format, rows[name].id, found)
                _add(out, format, {name: chunk for name, chunk in new.items() if name not in done}, made)
                done |= new
                if bad and not skip_bad:
                    stop = f"{bad[0]} {OR_SKIP}"
                    break  # what is done is brought out first
                left_out += bad
            advance(sum(rows[name].seconds for name in batch))

    for problem in left_out:
        print(f"left out: {problem}", file=sys.stderr)
    if not done:
        raise ValueError(stop or f"{source}: no recording could be aligned")
    ordered = "".join(done[name] for name in rows if name in done)
    if out is None:
        sys.stdout.write(ordered)
    else:
        if format != "textgrid":
            write_whole(out, ordered)  # in the order of the recordings, no longer of their lengths
        print(f"{out}: word times of {len(done)} of {len(rows)} recordings", file=sys.stderr)
    if stop:
        raise ValueError(stop)
    return 0


def _check(recogniser: Recogniser, rows: Iterable[Row]) -> None:
    """A text that cannot be spelt or does not fit is named before hours of work, not in the middle of them."""
    texts = [(row.where, row.text, math.ceil(row.seconds * recogniser.rate)) for row in rows]
    try:
        recogniser.check_texts([(where, text) for where, text, _ in texts])
        check_fit(recogniser, texts)
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


def _add(out: Path | None, format: Format, new: Mapping[str, str], made: Mapping[str, Any]) -> None:
    """Bring one batch to the disk; before the first, what it is made with."""
    if out is None or not new:
        return
    if not (record := _record(out, format)).exists():
        write_json(record, dict(made))
    if format == "textgrid":
        for name, chunk in new.items():
            write_whole(_grid(out, name), chunk)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8", newline="\n") as file:
        file.write("".join(new.values()))


def _earlier(out: Path | None, format: Format, rows: Mapping[str, Row], made: Mapping[str, Any]) -> dict[str, str]:
    """What an earlier run of this command left, by recording; where the text is another now, it is done anew."""
    if out is None:
        return {}
    if out.exists() and out.is_dir() != (format == "textgrid"):
        kind = "a folder, one TextGrid for each recording" if format == "textgrid" else "one file"
        raise ValueError(f"{out}: --format {format} writes {kind}; {ELSEWHERE}")
    if out.is_file() and str(out.resolve()) == made["source"]:
        raise ValueError(f"{out}: is where the recordings come from; {ELSEWHERE}")
    grids = {name: file for name in rows if format == "textgrid" and (file := _grid(out, name)).is_file()}
    if not (grids or (out.is_file() and out.stat().st_size)):
        _record(out, format).unlink(missing_ok=True)
        return {}
    check_settings(out, _record(out, format), "align", made)
    if format == "textgrid":
        found = {name: decode_text(file.read_bytes(), str(file)) for name, file in grids.items()}
        return _current(found, {name: read_textgrid(text, str(grids[name])) for name, text in found.items()}, rows)
    text = _whole_lines(out, format, rows)
    words = {utterance_key(name): spans for name, spans in _READ[format](text, str(out)).items()}
    if foreign := next((name for name in words if name not in rows), None):
        raise ValueError(
            f"{out}: holds {foreign!r}, which is not among the recordings of {made['source']}; {ELSEWHERE}"
        )
    lines: dict[str, str] = defaultdict(str)
    for line in text.split("\n")[:-1]:
        lines[_owner(line, format, out)] += line + "\n"
    found = _current(lines, words, rows)
    if format == "ctm" and found and not rows[last := [*found][-1]].text:
        del found[last]  # without a text nothing says whether its last words are missing
    write_whole(out, "".join(found.values()))
    return found


def _whole_lines(out: Path, format: Format, rows: Iterable[str]) -> str:
    """The text without a line cut short, which must be one of ours."""
    data = out.read_bytes()
    end = data.rfind(b"\n") + 1
    starts = [b'{"id": "'] if format == "jsonl" else [f"{name} 1 ".encode() for name in rows]
    if not any(data[end:].startswith(start) or start.startswith(data[end:]) for start in starts):
        raise ValueError(f"{out}: its last line, {data[end:][:40]!r}, is none that kilter align began; {ELSEWHERE}")
    return decode_text(data[:end], str(out))


def _owner(line: str, format: Format, out: Path) -> str:
    """The recording of a line, which must have all that ours have."""
    fields = line.split()
    row = json.loads(line) if format == "jsonl" else {"id": fields[0]} if len(fields) > 5 else {}
    if row.keys() != ({"id", "text", "heard", "words"} if format == "jsonl" else {"id"}):
        raise ValueError(f"{out}: {line[:40]!r} is no line of kilter align; {ELSEWHERE}")
    return utterance_key(row["id"])


def _current(found: Mapping[str, str], words: Mapping[str, Sequence[Span]], rows: Mapping[str, Row]) -> dict[str, str]:
    said = {name: " ".join(span.token for span in spans) for name, spans in words.items()}
    return {name: chunk for name, chunk in found.items() if rows[name].text in ("", said[name])}


_READ = {"jsonl": read_jsonl, "ctm": read_ctm}


def _grid(folder: Path, name: str) -> Path:
    return folder / f"{name}.TextGrid"


def _record(out: Path, format: Format) -> Path:
    """Where it stands what the word times were made with."""
    return out / ".align.json" if format == "textgrid" else out.with_name(f".{out.name}.align.json")


def _place(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).exists() else name


def _weights(recogniser: Recogniser) -> str:
    """A model trained further in the same folder is another one."""
    digest = sha256()
    for tensor in recogniser.model.state_dict().values():
        digest.update(tensor.cpu().flatten().numpy())
    return digest.hexdigest()[:12]
