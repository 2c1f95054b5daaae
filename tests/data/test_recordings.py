"""Folders as people have them: what is a recording, what is left out and named, and names that do not go together."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from kilter.core.names import OTHER, READ
from kilter.data.manifests import SpeechRows, load_speech
from kilter.data.recordings import below, common, readable, unreadable

RATE = 8_000
MAC = b"\0\5\x16\7\0\2\0\0Mac OS X        \0\2" + bytes(100)


def wav(path: Path, seconds: float = 0.1, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        soundfile.write(file, np.full(int(seconds * RATE), 0.1), RATE, **{"format": "WAV", **how})
    return path


def load(folder: Path, **how: Any) -> SpeechRows:
    return load_speech(str(folder), rate=RATE, split="", need_text=False, **how)


def ids(speech: SpeechRows) -> list[str]:
    return [row.id for row in speech.rows.headers()]


def test_the_list_is_of_what_the_library_reads() -> None:
    known = {name or suffix.upper() for suffix, name in READ.items()}
    unnamed = set(soundfile.available_formats()) - known
    # without a header, of another kind than sound, or read through a second file or not in blocks
    assert unnamed <= {"RAW", "MAT4", "MAT5", "MPC2K", "SD2", "XI", "WAVEX"}
    assert not readable() & unreadable()
    assert readable() | unreadable() == {f".{suffix}" for suffix in {*READ, *OTHER}}
    assert common() == "wav, flac, mp3, ogg, opus, aiff, au or caf"


def test_an_older_library_reads_less(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    formats = {name: "" for name in soundfile.available_formats() if name != "MP3"}
    monkeypatch.setattr(soundfile, "available_formats", lambda: formats)
    for cached in (readable, unreadable):
        cached.cache_clear()
    try:
        wav(tmp_path / "a.wav")
        (tmp_path / "b.mp3").write_bytes(b"?")
        ((_, why),) = load(tmp_path).skipped
        assert why.startswith(".mp3 cannot be read (wav, flac, ogg, opus, aiff, au or caf can); convert it: ffmpeg -i ")
    finally:
        monkeypatch.undo()
        for cached in (readable, unreadable):
            cached.cache_clear()


WRITTEN = {
    "wav": "WAV", "flac": "FLAC", "mp3": "MP3", "ogg": "OGG", "opus": "OGG", "oga": "OGG", "aiff": "AIFF",
    "aif": "AIFF", "au": "AU", "snd": "AU", "caf": "CAF", "w64": "W64", "rf64": "RF64", "sph": "NIST", "voc": "VOC",
}  # fmt: skip


@pytest.mark.parametrize("suffix", [*WRITTEN, "WAV", "Mp3", "OPUS"])
def test_every_kind_is_read_from_a_folder_and_alone(suffix: str, tmp_path: Path) -> None:
    how = {"subtype": "OPUS"} if suffix.lower() == "opus" else {}
    path = wav(tmp_path / f"a.{suffix}", 1.0, format=WRITTEN[suffix.lower()], **how)
    for source in (tmp_path, path):
        (row,) = load(source).rows.headers()
        assert (row.id, row.seconds) == ("a", pytest.approx(1.0, abs=0.3))


@pytest.mark.parametrize("suffix", ["m4a", "webm", "aac", "wma", "mp4", "amr", "M4A", "mov", "sd2"])
def test_what_cannot_be_read_is_named_with_its_conversion(suffix: str, tmp_path: Path) -> None:
    wav(tmp_path / "a.wav")
    path = tmp_path / "sub" / f"my talk.{suffix}"
    path.parent.mkdir()
    path.write_bytes(b"?")
    speech = load(tmp_path)
    assert ids(speech) == ["a"]
    assert speech.skipped == [
        (
            str(path),
            f".{suffix} cannot be read ({common()} can); convert it: ffmpeg -i '{path}' '{path.with_suffix('.wav')}'",
        )
    ]
    for skip_bad in (False, True):
        with pytest.raises(ValueError, match=rf"my talk\.{suffix}: \.{suffix} cannot be read .* ffmpeg -i"):
            load(path, skip_bad=skip_bad)
    with pytest.raises(
        ValueError, match=rf"nothing to learn from, 1 recordings skipped .*my talk\.{suffix}: .*ffmpeg -i"
    ):
        load(path.parent)


def test_a_recording_of_another_kind_than_its_name_says_is_named_with_its_conversion(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"\0\0\0 ftypM4A " + bytes(100))
    with pytest.raises(ValueError, match=r"expected wav, flac, .*; convert it: ffmpeg -i .*a\.wav .*a-converted\.wav"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["a.txt", "notes.csv", "b.json", "c.png", "._a.wav", ".DS_Store", "__MACOSX/._a.wav"])
def test_what_is_no_recording_is_not_counted(name: str, tmp_path: Path) -> None:
    wav(tmp_path / "a.wav")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(MAC if "._" in name else b"hello")
    speech = load(tmp_path)
    assert (ids(speech), speech.skipped) == (["a"], [])


def test_a_folder_called_like_a_recording_is_a_folder(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav" / "1.wav")
    wav(tmp_path / "b.flac" / "x" / "2.wav")
    (tmp_path / "empty.mp3").mkdir()
    assert ids(load(tmp_path)) == ["a.wav/1", "b.flac/x/2"]
    assert ids(load(tmp_path / "a.wav")) == ["1"]
    with pytest.raises(ValueError, match=r"empty\.mp3: nothing to learn from, 0 recordings"):
        load(tmp_path / "empty.mp3")


def test_links_are_followed_and_those_that_lead_nowhere_named(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    wav(folder / "a.wav")
    wav(tmp_path / "elsewhere" / "b.wav")
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    (folder / "sub" / "up").symlink_to(folder)
    assert ids(load(folder)) == ["a", "sub/b"]
    (folder / "lost.wav").symlink_to(folder / "gone.wav")
    with pytest.raises(ValueError, match=r"lost\.wav: points to no file; .*--skip-bad"):
        load(folder)
    speech = load(folder, skip_bad=True)
    assert (ids(speech), [where for where, _ in speech.skipped]) == (["a", "sub/b"], [str(folder / "lost.wav")])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_pipes_hidden_and_empty_files_are_named(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    wav(tmp_path / ".hidden.wav")
    wav(tmp_path / ".trash" / "b.wav")
    assert dict(load(tmp_path).skipped) == {
        str(tmp_path / ".hidden.wav"): "is hidden; rename it if it is to be read",
        str(tmp_path / "pipe.wav"): "is a device or a pipe and no file",
    }
    for name in ("empty.wav", "empty.mp3", "empty.opus"):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=rf"{name}: holds no samples"):
            load(tmp_path)
        assert (str(tmp_path / name), "holds no samples; record it again, or leave it out") in load(
            tmp_path, skip_bad=True
        ).skipped
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "has no transcript; write b.txt beside it, or a metadata.csv"),
        (b"caf\xe9", "b.txt: is not UTF-8: line 1"),
        (b"a\0b", "b.txt: is not UTF-8: line 1"),
    ],
)
def test_a_transcript_that_is_no_text_or_not_there_is_left_out_with_its_recording(
    content: bytes | None, said: str, tmp_path: Path
) -> None:
    for name in "ab":
        wav(tmp_path / f"{name}.wav")
    (tmp_path / "a.txt").write_text("yes")
    if content is not None:
        (tmp_path / "b.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"b\.\w+: .*\(or skip such recordings with --skip-bad\)") as raised:
        load_speech(str(tmp_path), rate=RATE)
    assert said in str(raised.value)
    speech = load_speech(str(tmp_path), rate=RATE, skip_bad=True)
    ((where, why),) = speech.skipped
    assert (ids(speech), where) == (["a"], str(tmp_path / "b.wav"))
    assert said in why


@pytest.mark.parametrize("name", ["A.TXT", "Metadata.csv", "METADATA.CSV"])
def test_texts_are_found_in_upper_case_too(name: str, tmp_path: Path) -> None:
    wav(tmp_path / "sub" / "A.WAV")
    (tmp_path / "sub" / name).write_text("yes" if name == "A.TXT" else "file_name,text\nA.WAV,yes\n")
    for folder in (tmp_path, tmp_path / "sub"):
        assert [row.text for row in load(folder).rows.headers()] == ["yes"]


def test_of_two_manifests_in_a_folder_none_is_passed_over(tmp_path: Path) -> None:
    wav(tmp_path / "sub" / "a.wav")
    (tmp_path / "sub" / "metadata.csv").write_text("file_name,text\na.wav,yes\n")
    (tmp_path / "sub" / "metadata.jsonl").write_text('{"file_name": "a.wav", "text": "no"}\n')
    for folder in (tmp_path, tmp_path / "sub"):
        with pytest.raises(ValueError, match=r"sub: has both metadata\.csv and metadata\.jsonl; keep one"):
            load(folder)


TWINS = [
    ("a.flac", "a.wav"),
    ("a b.wav", "a_b.wav"),
    ("a\tb.wav", "a\u00a0b.wav"),
    ("a.wav", "a.wav.wav"),
    ("sub/é.wav", f"sub/{unicodedata.normalize('NFD', 'é')}.wav"),
]


@pytest.mark.parametrize("names", TWINS)
@pytest.mark.parametrize("distinct", [False, True])
def test_two_of_one_name_are_named(names: tuple[str, str], distinct: bool, tmp_path: Path) -> None:
    for name in names:
        wav(tmp_path / name)
    wav(tmp_path / "other.wav")
    (first, _), (second, _) = [one for one in below(tmp_path) if one[0].name != "other.wav"]
    with pytest.raises(ValueError, match=r"the name .* stands twice, as .*; rename one") as raised:
        load(tmp_path, distinct=distinct)
    assert str(first) in str(raised.value)
    assert str(second) in str(raised.value)
    speech = load(tmp_path, skip_bad=True, distinct=distinct)
    assert len(speech.rows) == 2
    assert [where for where, _ in speech.skipped] == [str(second)]


def test_a_manifest_may_name_a_recording_twice_where_names_do_not_matter(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav")
    manifest = tmp_path / "t.jsonl"
    manifest.write_text('{"audio": "a.wav"}\n' * 2)
    assert ids(load(manifest)) == ["a.wav", "a.wav"]
    (tmp_path / "sub").mkdir()
    wav(tmp_path / "sub" / "a.wav")
    (tmp_path / "sub" / "metadata.jsonl").write_text('{"file_name": "a.wav"}\n' * 2)
    assert ids(load(tmp_path)) == ["a", "sub/a.wav", "sub/a.wav"]
    assert ids(load(tmp_path / "sub")) == ["a.wav", "a.wav"]
    with pytest.raises(ValueError, match=r"stands twice, .*; give each recording its own in column id"):
        load(manifest, distinct=True)
    manifest.write_text('{"audio": "a.wav", "id": ".."}\n')
    with pytest.raises(ValueError, match=r"the name '\.\.' is none that a file can have"):
        load(manifest, distinct=True)


def test_names_that_are_no_utf8_are_kept_apart(tmp_path: Path) -> None:
    names = [b"caf\xe9.wav", b"caf\xe8.wav", b"sub\xff/b.wav", "café.wav".encode()]
    for name in names:
        try:
            wav(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))))
        except OSError:  # a file system that takes none
            pytest.skip("names are UTF-8 here")
    speech = load(tmp_path)
    assert set(ids(speech)) == {"café", "caf%E8", "caf%E9", "sub%FF/b"}
    assert [len(row["audio"]) for row in speech.rows] == [800] * 4
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"bad\xe9.wav"))).write_bytes(b"?")
    with pytest.raises(ValueError, match=r"bad%E9\.wav: cannot be read"):
        load(tmp_path)


def test_a_manifest_in_a_folder_below_gives_what_is_there(tmp_path: Path) -> None:
    for part in ("test", "train"):
        wav(tmp_path / part / "a.wav")
        wav(tmp_path / part / "unnamed.wav")
        (tmp_path / part / "metadata.csv").write_text(f"file_name,text\na.wav,{part}\n")
    wav(tmp_path / "c.wav")
    assert [(row.id, row.text) for row in load(tmp_path).rows.headers()] == [
        ("c", ""),
        ("test/a.wav", "test"),
        ("train/a.wav", "train"),
    ]


def test_without_a_split_all_of_a_hub_data_set_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    content = wav(tmp_path / "a.wav").read_bytes()
    audio = [{"bytes": content, "path": "a.wav"}, {"bytes": None, "path": None}]
    parts = {
        split: datasets.Dataset.from_dict({"audio": audio[:count]}).cast_column("audio", datasets.Audio())
        for split, count in (("train", 2), ("test", 1))
    }
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, config, split: parts[split] if split else datasets.DatasetDict(**parts)
    )
    found = {}
    for source, split in (("org/digits", ""), ("org/digits:clean", "test"), ("org/digits:clean:train", "test")):
        speech = load_speech(source, rate=RATE, split=split, need_text=False, skip_bad=True)
        found[source] = ids(speech), [where for where, _ in speech.skipped]
    assert found == {
        "org/digits": (["train-0", "test-0"], ["org/digits (train), row 1"]),
        "org/digits:clean": (["test-0"], []),
        "org/digits:clean:train": (["train-0"], ["org/digits (train), row 1"]),
    }
