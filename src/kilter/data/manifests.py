"""The user's own speech: a manifest, a folder or a hub data set becomes a sequence of utterances.

Formats: those of the `datasets` library (csv, json, jsonl, audiofolder, hub). The departure: every header is read
before anything is trained, so that a bad file is named in the first second and not in the third epoch; samples are
decoded when asked for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kilter.core import sources, tables
from kilter.core.names import printable
from kilter.data.audio import Utterance, Word, check_audio, read_audio
from kilter.data.hub import HUB_ID, load_hub
from kilter.data.recordings import below, readable, table_of, unreadable, why_unreadable
from kilter.evaluation.word_times import span_of, utterance_key

Left = tuple[str, str]
"""Where, and why it is left out."""


@dataclass(frozen=True)
class Row:
    """An utterance before its audio is decoded; `where` is what errors and reports call it."""

    id: str
    audio: Path | partial[Path | bytes]
    text: str
    where: str
    words: list[Word] | None = None
    seconds: float = 0.0

    def encoded(self) -> Path | bytes:
        """What `read_audio` takes."""
        return self.audio if isinstance(self.audio, Path) else self.audio()


class Utterances(Sequence[Utterance]):
    """Rows, decoded at `rate` one by one as they are asked for."""

    def __init__(self, rows: Sequence[Row], rate: int) -> None:
        self._rows, self._rate = rows, rate

    def texts(self) -> list[tuple[str, str]]:
        """Where each row stands and its text, without decoding audio."""
        return [(row.where, row.text) for row in self._rows]

    def headers(self) -> Sequence[Row]:
        """The rows, without decoding audio."""
        return self._rows

    def at(self, rate: int) -> "Utterances":
        """The same rows at another rate."""
        return Utterances(self._rows, rate)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Utterance:  # pyright: ignore[reportIncompatibleMethodOverride]: no slices
        row = self._rows[index]
        audio = read_audio(row.encoded(), self._rate, name=row.where)
        utterance: Utterance = {"id": row.id, "audio": audio, "text": row.text}
        return utterance if row.words is None else {**utterance, "words": row.words}


@dataclass(frozen=True)
class SpeechRows:
    """What `load_speech` found, and what it left out: pairs of where and why."""

    rows: Utterances
    skipped: list[Left]


def load_speech(
    source: str,
    *,
    rate: int,
    split: str = "train",
    text_column: str = "text",
    audio_column: str = "audio",
    skip_bad: bool = False,
    need_text: bool = True,
    distinct: bool = False,
) -> SpeechRows:
    """Read the user's recordings and transcripts.

    Args:
        source: A `.csv`, `.json`, `.jsonl` or `.ndjson` manifest, whose audio paths are relative to it, or one of
            them through a pipe (`-` is standard input), with paths relative to where one is; a folder with
            `metadata.csv` or another table (column `file_name`), or with a `.txt` beside each recording; one
            recording; or a hub id, `org/name`, `org/name:config` or `org/name:config:split`.
        rate: Samples per second that the model wants.
        split: The hub's split, or the sub-folder of that name where the folder has one; empty for all of a folder,
            whatever it has in it, and for all splits.
        text_column: Where the transcript stands.
        audio_column: Where the audio stands.
        skip_bad: Leave out recordings that cannot be read, are empty or lack their `.txt`, instead of raising.
        need_text: Whether a recording without a transcript is an error; else its text is empty.
        distinct: Whether two recordings of one `utterance_key` are an error; where files are listed and no
            manifest is read they always are.

    Recordings in a folder that are of a kind that cannot be read (m4a, …) are left out, and told in `skipped`.

    Raises:
        ValueError: A row lacks a column, a recording is missing, unreadable, empty or cut short, or nothing is left.
            The message names the file or row and what to do.
    """
    path, said = Path(source), printable(source)
    columns = text_column, audio_column, need_text
    found: Iterable[Row | Left]
    if path.is_dir():
        found = _from_folder(path / split if (path / split).is_dir() else path, *columns, skip_bad)
    elif path.is_file() and path.suffix.lower() in unreadable():
        raise ValueError(f"{said}: {why_unreadable(path)}")
    elif path.is_file() and path.suffix.lower() in readable():
        found = [_from_recording(path, path.parent, need_text)]
    elif sources.is_source(source):
        found = _from_table(path, *columns)
    elif path.suffix.lower() not in {*tables.SUFFIXES, *readable(), *unreadable()} and (
        hub := HUB_ID.fullmatch(source)
    ):
        found = _from_hub(hub["name"], hub["config"], hub["split"] or split, *columns)
    else:
        raise ValueError(f"{said}: no such file or folder, and not a hub id like 'org/name' or 'org/name:config:split'")

    rows, skipped = _checked(found, skip_bad=skip_bad, distinct=distinct)
    if not rows:
        first = f": {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise ValueError(f"{said}: nothing to learn from, {len(skipped)} recordings skipped and none left{first}")
    return SpeechRows(Utterances(rows, rate), skipped)


def _checked(found: Iterable[Row | Left], *, skip_bad: bool, distinct: bool) -> tuple[list[Row], list[Left]]:
    """Rows that can be read, with their lengths, and what is left out."""
    rows: dict[str | int, Row] = {}
    skipped: list[Left] = []
    for row in found:
        if isinstance(row, tuple):
            skipped.append(row)
            continue
        name, where, listed = printable(row.id), printable(row.where), row.where == str(row.audio)
        key = utterance_key(name) if distinct or listed else len(rows)
        try:
            row = replace(row, id=name, where=where, seconds=check_audio(row.encoded(), name=where))
            if key in rows or key == "":
                raise ValueError(f"{where}: {_not_distinct(name, rows.get(key), listed)}")
        except ValueError as error:
            skipped.append(_left_out(where, error, skip_bad))
        else:
            rows[key] = row
    return [*rows.values()], skipped


def _left_out(where: str, error: ValueError, skip_bad: bool) -> Left:
    said = printable(str(error))
    if not skip_bad:
        raise ValueError(f"{said} (or skip such recordings with --skip-bad)") from error
    return where, said.removeprefix(f"{where}: ")


def _not_distinct(name: str, other: Row | None, listed: bool) -> str:
    mend = "rename one" if listed else "give each recording its own in column id"
    if other is None:
        return f"the name {name!r} is none that a file can have; {mend}"
    return f"the name {name!r} stands twice, as {other.where} is called so without suffix and spaces; {mend}"


def _from_folder(
    folder: Path, text_column: str, audio_column: str, need_text: bool, skip_bad: bool
) -> Iterator[Row | Left]:
    if table := table_of(folder, _IN_FOLDER):
        yield from _from_table(table, text_column, audio_column, need_text)
        return
    for path, why in below(folder, _IN_FOLDER):
        if why:
            yield printable(str(path)), why
        elif path.name.lower() in _IN_FOLDER:
            top = path.parent.relative_to(folder).as_posix()
            for row in _from_table(path, text_column, audio_column, need_text):
                yield replace(row, id=f"{top}/{row.id}")
        else:
            try:
                yield _from_recording(path, folder, need_text)
            except ValueError as error:
                yield _left_out(printable(str(path)), error, skip_bad)


_IN_FOLDER = tuple(f"metadata{suffix}" for suffix in tables.SUFFIXES)


def _from_recording(path: Path, folder: Path, need_text: bool) -> Row:
    """One recording, with the `.txt` beside it for its text."""
    transcripts = path.with_suffix(".txt"), path.with_suffix(".TXT")
    transcript = next((file for file in transcripts if file.is_file()), None)
    if need_text and transcript is None:
        raise ValueError(f"{path}: has no transcript; write {transcripts[0].name} beside it, or a metadata.csv")
    text = sources.read_source(transcript).text.strip() if transcript else ""
    return Row(path.relative_to(folder).with_suffix("").as_posix(), path, text, str(path))


def _from_table(table: Path, text_column: str, audio_column: str, need_text: bool) -> Iterator[Row]:
    piped = sources.is_pipe(table)
    if not piped and table.suffix.lower() not in tables.SUFFIXES:
        raise ValueError(f"{table}: a manifest ends in {', '.join(tables.SUFFIXES)}; rename or convert it")
    source = sources.read_source(table)
    kind = source.suffix if source.suffix in tables.SUFFIXES else tables.guess(source.text, audio_column) or ".csv"
    folder = Path() if piped else table.parent
    for where, values in tables.rows(source, kind):
        if not isinstance(values, dict):
            raise ValueError(f"{where}: expected an object with columns, not {tables.shown(values)}")
        if audio_column not in values and "file_name" in values:
            audio_column = "file_name"
        audio = _text(values, audio_column, where, "--audio-column")
        if not audio.strip():
            raise ValueError(f"{where}: column {audio_column!r} is empty; name the recording, or remove the row")
        yield Row(
            id=_id(values, audio, where),
            audio=folder / audio,
            text=_text(values, text_column, where, "--text-column", need_text),
            where=f"{where} ({audio:.200})",  # a text that has come into this column may be long
            words=None if values.get("words") is None else _words(values["words"], where),
        )


def _from_hub(
    name: str, config: str | None, split: str, text_column: str, audio_column: str, need_text: bool
) -> Iterator[Row]:
    loaded = load_hub(name, config, split)
    for part, dataset in ({split: loaded} if split else loaded).items():
        yield from _from_split(dataset, name, part, text_column, audio_column, need_text)


def _from_split(
    dataset: Any, name: str, split: str, text_column: str, audio_column: str, need_text: bool
) -> Iterator[Row]:
    import datasets

    needed = ((audio_column, "--audio-column"), *[(text_column, "--text-column")] * need_text)
    for column, option in needed:
        if column not in dataset.column_names:
            raise ValueError(_no_column(column, dataset.column_names, f"{name} ({split}), row 0", option))
    dataset = dataset.cast_column(audio_column, datasets.Audio(decode=False))
    light = dataset.remove_columns(audio_column)
    for index in range(len(dataset)):
        values = light[index] if light.column_names else {}  # without a column it has no rows
        where = f"{name} ({split}), row {index}"
        yield Row(
            id=_id(values, f"{split}-{index}", where),
            audio=partial(_hub_audio, dataset, audio_column, index),
            text=_text(values, text_column, where, "--text-column", need_text),
            where=where,
            words=_words(values.get("words"), where),
        )


def _hub_audio(dataset: Any, audio_column: str, index: int) -> Path | bytes:
    audio: dict[str, Any] = dataset[index][audio_column] or {"bytes": b""}
    return Path(audio["path"]) if audio["bytes"] is None and audio["path"] else audio["bytes"] or b""


def _id(values: Mapping[str, Any], default: str, where: str) -> str:
    given = values.get("id")
    if given is None or given == "":
        return default
    tables.check_id(given, where)
    return str(given)


def _text(values: Mapping[str, Any], column: str, where: str, option: str, need: bool = True) -> str:
    value = values.get(column)
    if isinstance(value, str):
        return value
    if value is not None:
        raise ValueError(f"{where}: column {column!r} must hold a text, got {tables.shown(value)}")
    if need:
        present = [name for name, value in values.items() if name and value is not None]
        raise ValueError(_no_column(column, present, where, option))
    return ""


def _no_column(column: str, present: Sequence[str], where: str, option: str) -> str:
    return f"{where}: no text in column {column!r}; there are {', '.join(present):.200}; choose one with {option}"


def _words(words: Any, where: str) -> list[Word] | None:
    """True word spans, where a `words` column holds them (in a csv as JSON); other things of that name are not ours."""
    words = tables.listed(words, f"{where}, column 'words'", "{]")
    if not isinstance(words, list) or (words and not any(isinstance(word, Mapping) for word in words)):
        return None
    for word in words:
        try:
            span_of(word)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return words
