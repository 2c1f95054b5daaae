"""kilter align: when each word of your recordings was spoken, as JSON, CTM or TextGrid.

What is on disk is whole batches and perhaps a line cut short: the same command again takes the one, drops the other
and does the rest. What it was made with stands in a hidden file beside it, so that nothing else is taken up.
"""

import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kilter.core.errors import UsageError
from kilter.core.names import AUDIO_SUFFIX
from kilter.core.normalise import TextPart, tidy
from kilter.core.sources import is_pipe
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
from kilter.lab.options import above, at_least
from kilter.lab.output import write_data
from kilter.models.windows import Windows

if TYPE_CHECKING:
    from kilter.data.manifests import Row
    from kilter.models.aligning import Aligned
    from kilter.models.recogniser import Recogniser

PLACE = 50

BATCH_SECONDS = 320.0
"""Audio in one batch, padding included: long recordings go through in smaller batches."""

OR_SKIP = "(or leave such recordings out with --skip-bad)"


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
    """a recording, a .csv or .jsonl with columns audio and text, a folder with all recordings below it, or a hub
    dataset (all its splits, or ORG/NAME:CONFIG:SPLIT)"""
    model: str
    """folder or hub id of a transformers …ForCTC model"""
    text: str | None = None
    """the transcript of one recording"""
    format: Format = "jsonl"
    """a line of JSON for each recording; NIST's CTM, a line for each word; or a Praat TextGrid for each recording"""
    out: Path | None = None
    """file to write, or folder of the TextGrids; by default JSON and CTM are printed"""
    batch_size: Annotated[int, at_least(1)] = 16
    """recordings at once, at most; long ones go in smaller batches"""
    device: str = "auto"
    """auto (the accelerator there is), cpu, cuda or mps"""
    text_column: str | None = None
    """column of the transcripts, which every row must then have; by default text, where there is one"""
    audio_column: str = "audio"
    """column of the recordings"""
    skip_bad: bool = False
    """leave out, and name, recordings that cannot be read, spelt, or do not fit their text or the memory"""
    keep: tuple[TextPart, ...] = ()
    """of the texts leave as it is: white space, the Unicode form, case; by default they become the vocabulary's"""
    window_seconds: Annotated[float, above(0)] = Windows.seconds
    """longest recording that goes through the model in one piece; a longer one goes in windows of this length, is
    normalised once, and its frames are aligned as one"""
    margin_seconds: Annotated[float, at_least(0)] = Windows.margin
    """of a window, at each inner edge: heard, but the frames are those of the window beside it"""

    def __call__(self) -> int:
        """Align and write."""
        if self.format == "textgrid" and self.out is None:
            raise UsageError("--format textgrid writes a file for each recording: add --out FOLDER")
        if self.text is not None and (not AUDIO_SUFFIX.search(self.source) or Path(self.source).is_dir()):
            raise UsageError(f"--text is the transcript of one recording, and {self.source} is not one")
        if self.text is not None and not tidy(self.text):
            raise UsageError("--text is empty; leave it out for what the model hears")
        return _align(self)


COMMAND = Align


def _align(asked: Align) -> int:
    from kilter.models.names import check_model_name

    check_model_name(asked.model, "a transformers …ForCTC model")  # before what takes seconds to import
    from kilter.data.manifests import Utterances, load_speech
    from kilter.lab.progress import bar, quiet_hosts
    from kilter.models.aligning import align
    from kilter.models.recogniser import Recogniser

    out, format = asked.out, asked.format
    quiet_hosts()
    windows = Windows(asked.window_seconds, asked.margin_seconds)
    recogniser = replace(Recogniser.load(asked.model, keep=asked.keep).to(asked.device), windows=windows)
    speech = load_speech(
        asked.source,
        rate=recogniser.rate,
        split="",
        text_column=asked.text_column or "text",
        audio_column=asked.audio_column,
        skip_bad=asked.skip_bad,
        need_text=asked.text_column is not None,
        distinct=True,
    )
    left_out = [f"{where}: {why}" for where, why in speech.skipped]
    rows = {
        utterance_key(row.id): row if asked.text is None else replace(row, text=asked.text)
        for row in speech.rows.headers()
    }
    if format == "textgrid" and out:
        _check_case(out, rows)
    if told := recogniser.spelling.normalise.told([row.text for row in rows.values() if row.text]):
        print(told, file=sys.stderr)
    rows = {name: replace(row, text=recogniser.spelling.written(row.text)) for name, row in rows.items()}
    if not asked.skip_bad:
        _check(recogniser, rows.values())

    made = {
        "model": _place(asked.model),
        "weights": _weights(recogniser) if out else "",
        "source": _place(asked.source),
        "format": format,
        "text": asked.text,
        "text_column": asked.text_column,
        "audio_column": asked.audio_column,
        "keep": sorted(asked.keep) or None,
        "windows": None if windows == Windows() else [windows.seconds, windows.margin],  # as in files from before
    }
    done = _earlier(out, format, rows, made)
    stop = ""
    with bar("aligning", sum(row.seconds for row in rows.values()), "seconds of audio") as advance:
        for batch in _batches(rows, asked.batch_size):
            if not all(name in done for name in batch):
                named = [replace(rows[name], id=rows[name].where) for name in batch]  # as problems are told
                few = Utterances(named, recogniser.rate)
                new, bad = {}, []
                for name, found in zip(batch, align(recogniser, few, len(few), skip_bad=True), strict=True):
                    if found.problem:
                        bad.append(found.problem)
                    else:
                        new[name] = _encode(format, rows[name].id, found)
                _add(out, format, {name: chunk for name, chunk in new.items() if name not in done}, made)
                done |= new
                if bad and not asked.skip_bad:
                    stop = f"{bad[0]} {OR_SKIP}"
                    break  # what is done is brought out first
                left_out += bad
            advance(sum(rows[name].seconds for name in batch))

    for problem in left_out:
        print(f"left out: {problem}", file=sys.stderr)
    if left_out:
        print(f"left out: {len(left_out)} of {len(rows) + len(speech.skipped)} recordings", file=sys.stderr)
    if not done:
        raise ValueError(stop or f"{asked.source}: no recording could be aligned")
    ordered = "".join(done[name] for name in rows if name in done)
    if out is None:
        write_data(ordered)
    else:
        if format != "textgrid":
            write_whole(out, ordered)  # in the order of the recordings, no longer of their lengths
        print(f"{out}: word times of {len(done)} of {len(rows)} recordings", file=sys.stderr)
    if stop:
        raise ValueError(stop)
    return 0


def _check(recogniser: "Recogniser", rows: "Iterable[Row]") -> None:
    """A text that cannot be spelt or does not fit is named before hours of work, not in the middle of them."""
    from kilter.models.aligning import check_fit

    texts = [(row.where, row.text, math.ceil(row.seconds * recogniser.rate)) for row in rows]
    try:
        recogniser.check_texts([(where, text) for where, text, _ in texts])
        check_fit(recogniser, texts)
    except ValueError as error:
        raise ValueError(f"{error} {OR_SKIP}") from error


def _check_case(out: Path, names: Iterable[str]) -> None:
    """A file for each name: where a file system takes A and a for one, the second would be written over the first."""
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    other = there.with_name(there.name.swapcase())
    if other == there or not (other.exists() and other.samefile(there)):
        return
    seen: dict[str, str] = {}
    for name in names:
        if (twin := seen.setdefault(name.casefold(), name)) != name:
            raise ValueError(f"{out}: cannot hold both {twin}.TextGrid and {name}.TextGrid; write jsonl or rename one")


def _batches(rows: "Mapping[str, Row]", size: int) -> list[list[str]]:
    """Names in batches of like length, the longest first: what does not fit into memory shows at once."""
    found: list[list[str]] = []
    for name in sorted(rows, key=lambda name: -rows[name].seconds):
        if not found or len(found[-1]) == size or rows[found[-1][0]].seconds * (len(found[-1]) + 1) > BATCH_SECONDS:
            found.append([])
        found[-1].append(name)
    return found


def _encode(format: Format, name: str, found: "Aligned") -> str:
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


def _earlier(out: Path | None, format: Format, rows: "Mapping[str, Row]", made: Mapping[str, Any]) -> dict[str, str]:
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
    return utterance_key(str(row["id"]))


def _current(
    found: Mapping[str, str], words: Mapping[str, Sequence[Span]], rows: "Mapping[str, Row]"
) -> dict[str, str]:
    said = {name: " ".join(span.token for span in spans) for name, spans in words.items()}
    return {name: chunk for name, chunk in found.items() if rows[name].text in ("", said[name])}


_READ = {"jsonl": read_jsonl, "ctm": read_ctm}


def _grid(folder: Path, name: str) -> Path:
    return folder / f"{name}.TextGrid"


def _record(out: Path, format: Format) -> Path:
    """Where it stands what the word times were made with."""
    return out / ".align.json" if format == "textgrid" else out.with_name(f".{out.name}.align.json")


def _place(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).exists() and not is_pipe(name) else name


def _weights(recogniser: "Recogniser") -> str:
    """A model trained further in the same folder is another one."""
    digest = sha256()
    for tensor in recogniser.model.state_dict().values():
        digest.update(tensor.cpu().flatten().numpy())
    return digest.hexdigest()[:12]
