"""The user's own data: every format gives the same rows, and every mistake is named."""

import io
import json
import pickle
import re

import datasets
import numpy as np
import pytest
import soundfile

from kilter.data.manifests import load_speech

RATE = 16_000
TEXTS = {"a": "hello world", "b": "naïve “quotes”, and a comma", "c": ""}


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for index, name in enumerate(TEXTS):
        soundfile.write(folder / f"{name}.wav", np.full((4_000, 1 + index % 2), 0.1), 8_000)
    return folder


def write_csv(path, rows, columns=("audio", "text")):
    quoted = (",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
    path.write_text("\n".join([",".join(columns), *quoted]) + "\n", "utf-8")
    return str(path)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def manifest(kind, clips, top):
    rows = [{"audio": f"clips/{name}.wav", "text": text} for name, text in TEXTS.items()]
    files = [(f"{name}.wav", text) for name, text in TEXTS.items()]
    match kind:
        case "csv":
            return write_csv(top / "train.csv", [list(row.values()) for row in rows])
        case "jsonl":
            return write_jsonl(top / "train.jsonl", rows)
        case "json":
            (top / "train.JSON").write_text(json.dumps(rows))
            return str(top / "train.JSON")
        case "metadata.csv":
            write_csv(clips / "metadata.csv", files, ("file_name", "text"))
            return str(clips)
        case "metadata.jsonl":
            write_jsonl(clips / "metadata.jsonl", [{"file_name": name, "text": text} for name, text in files])
            return str(clips)
        case "sidecars":
            for name, text in TEXTS.items():
                (clips / f"{name}.txt").write_text(text + "\n", "utf-8")
            return str(clips)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "metadata.csv", "metadata.jsonl", "sidecars"])
def test_every_format_gives_the_same_rows(kind, clips, tmp_path):
    speech = load_speech(manifest(kind, clips, tmp_path), rate=RATE)

    assert speech.skipped == []
    assert len(speech.rows) == 3
    assert [row["text"] for row in speech.rows] == list(TEXTS.values())
    for row in speech.rows:
        assert row["audio"].dtype == np.float32
        assert row["audio"].shape == (8_000,)
        assert "words" not in row
    assert len({row["id"] for row in speech.rows}) == 3
    assert [row["text"] for row in pickle.loads(pickle.dumps(speech.rows))] == list(TEXTS.values())


def test_columns_can_be_named_ids_kept_and_word_spans_passed_on(clips, tmp_path):
    words = [{"word": "hello", "start": 0.1, "end": 0.4}]
    rows = [
        {"id": 0, "path": "clips/a.wav", "sentence": "hello", "words": words},
        {"id": "x", "path": str(clips / "b.wav"), "sentence": "there", "words": ["there"]},
    ]
    speech = load_speech(
        write_jsonl(tmp_path / "t.jsonl", rows), rate=RATE, text_column="sentence", audio_column="path"
    )
    assert [row["id"] for row in speech.rows] == ["0", "x"]
    assert speech.rows[0]["words"] == words
    assert "words" not in speech.rows[1]  # a column of that name which holds no spans

    del words[0]["end"]
    with pytest.raises(ValueError, match=r"line 1: .* in 'words' lacks end"):
        load_speech(write_jsonl(tmp_path / "t.jsonl", rows), rate=RATE, text_column="sentence", audio_column="path")


def test_a_split_is_the_folder_of_that_name(clips, tmp_path):
    (clips / "a.txt").write_text("outside")
    for split in ("train", "dev"):
        (clips / split).mkdir()
        soundfile.write(clips / split / "1.flac", np.zeros(800), RATE)
        (clips / split / "1.txt").write_text(split)
    for split in ("train", "dev"):
        assert [row["text"] for row in load_speech(str(clips), split=split, rate=RATE).rows] == [split]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_missing_column_names_row_column_and_what_is_there(kind, clips, tmp_path):
    rows = [{"audio": "clips/a.wav", "sentence": "hello"}]
    if kind == "csv":
        source = write_csv(tmp_path / "t.csv", [row.values() for row in rows], ("audio", "sentence"))
    else:
        source = write_jsonl(tmp_path / "t.jsonl", rows)
    line = 2 if kind == "csv" else 1
    message = (
        f"t.{kind}, line {line}: no text in column 'text'; there are audio, sentence; choose one with --text-column"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load_speech(source, rate=RATE, skip_bad=True)  # a column is a mistake in the manifest, not a bad file
    with pytest.raises(ValueError, match=r"no text in column 'file'.* --audio-column"):
        load_speech(source, rate=RATE, audio_column="file")


def test_a_short_row_is_named(clips, tmp_path):
    (tmp_path / "t.csv").write_text("audio,text\nclips/a.wav,hello\nclips/b.wav\n")
    with pytest.raises(ValueError, match=r"t\.csv, line 3: no text in column 'text'"):
        load_speech(str(tmp_path / "t.csv"), rate=RATE)


def test_bad_recordings_are_named_or_skipped_and_counted(clips, tmp_path):
    (clips / "b.wav").write_text("not audio")
    soundfile.write(clips / "c.wav", np.zeros(0), RATE)
    rows = [(f"clips/{name}.wav", "text") for name in ("a", "b", "c", "gone")]
    source = write_csv(tmp_path / "t.csv", rows)

    with pytest.raises(ValueError, match=r"t\.csv, line 3 \(clips/b\.wav\): cannot be read as audio .*--skip-bad"):
        load_speech(source, rate=RATE)
    speech = load_speech(source, rate=RATE, skip_bad=True)
    assert [row["id"] for row in speech.rows] == ["clips/a.wav"]
    assert [where.rpartition(" ")[2] for where, _ in speech.skipped] == [
        "(clips/b.wav)",
        "(clips/c.wav)",
        "(clips/gone.wav)",
    ]
    assert [why.partition(";")[0].partition(" (")[0] for _, why in speech.skipped] == [
        "cannot be read as audio",
        "holds no samples",
        "no such file",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", '{"audio": "a.wav"\n', "t.jsonl, line 1: not JSON"),
        ("t.jsonl", "\n[1]\n", r"t.jsonl, line 2: expected an object with columns, not \[1\]"),
        ("t.json", '{"data": []}', "t.json: expected a list of rows"),
        ("t.csv", 'audio,text\na.wav,"never closed\n', "t.csv, line 2: not CSV"),
        ("t.csv", "audio,text\n", "t.csv: nothing to learn from, 0 recordings skipped"),
        ("t.csv", b"audio,text\na.wav,\xff\n", "t.csv: is not UTF-8"),
        ("t.tsv", "audio\ttext\n", "t.tsv: a manifest ends in .csv, .json, .jsonl"),
    ],
)
def test_bad_manifests_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        load_speech(str(tmp_path / name), rate=RATE)


def test_a_recording_without_transcript_and_an_empty_folder_are_named(clips, tmp_path):
    with pytest.raises(ValueError, match=r"a\.wav: has no transcript; write a\.txt beside it"):
        load_speech(str(clips), rate=RATE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: nothing to learn from"):
        load_speech(str(tmp_path / "empty"), rate=RATE)


@pytest.mark.parametrize("source", ["data/train.csv", "just-a-word", "a/b/c"])
def test_a_source_that_is_nothing_is_named(source):
    with pytest.raises(ValueError, match=f"{source}: no such file or folder, and not a hub id"):
        load_speech(source, rate=RATE)


@pytest.fixture
def hub(clips, monkeypatch):
    """A hub with one data set, whose recordings are bytes in the table and paths."""
    content = (clips / "a.wav").read_bytes()
    audio = [
        {"bytes": content, "path": "a.wav"},
        {"bytes": None, "path": str(clips / "b.wav")},
        {"bytes": b"?", "path": None},
        None,
    ]
    table = datasets.Dataset.from_dict(
        {"audio": audio, "text": ["one", "two", "three", "four"], "speaker_id": [1, 2, 3, 4]}
    )
    table = table.cast_column("audio", datasets.Audio())
    asked = []

    def load_dataset(name, config, *, split):
        asked.append((name, config, split))
        if name != "org/digits":
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' doesn't exist on the Hub")
        return table

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_a_hub_data_set(hub):
    speech = load_speech("org/digits:clean", split="test", rate=RATE, skip_bad=True)
    assert hub == [("org/digits", "clean", "test")]
    assert [(row["id"], row["text"], len(row["audio"])) for row in speech.rows] == [
        ("test-0", "one", 8_000),
        ("test-1", "two", 8_000),
    ]
    assert [where for where, _ in speech.skipped] == ["org/digits (test), row 2", "org/digits (test), row 3"]


def test_what_the_hub_lacks_is_named(hub):
    with pytest.raises(ValueError, match=r"org/digits \(train\), row 2: cannot be read as audio"):
        load_speech("org/digits", rate=RATE)
    with pytest.raises(ValueError, match=r"row 0: no text in column 'sentence'; there are audio, text, speaker_id"):
        load_speech("org/digits", rate=RATE, text_column="sentence")
    with pytest.raises(ValueError, match=r"org/none: no such file or folder, and the hub .* doesn't exist"):
        load_speech("org/none", rate=RATE)


def test_texts_are_not_always_needed(clips, tmp_path):
    (clips / "a.txt").write_text(" hello \n", "utf-8")
    rows = [{"audio": "clips/a.wav", "text": "hello"}, {"audio": "clips/b.wav"}, {"audio": "clips/c.wav", "text": None}]
    for source in (str(clips), write_jsonl(tmp_path / "some.jsonl", rows)):
        with pytest.raises(ValueError, match=r"no text in column|has no transcript"):
            load_speech(source, rate=RATE)
        speech = load_speech(source, rate=RATE, need_text=False)
        assert [row["text"] for row in speech.rows] == ["hello", "", ""]
        assert [row.seconds for row in speech.rows.headers()] == [0.5, 0.5, 0.5]


def test_one_recording(clips):
    with pytest.raises(ValueError, match=r"write b\.txt beside it"):
        load_speech(str(clips / "b.wav"), rate=RATE)
    (clips / "b.txt").write_text("there", "utf-8")
    (row,) = load_speech(str(clips / "b.wav"), rate=RATE).rows
    assert (row["id"], row["text"], len(row["audio"])) == ("b", "there", 8_000)


def test_another_rate(clips):
    rows = load_speech(str(clips), rate=RATE, need_text=False).rows
    assert len(rows.at(8_000)[0]["audio"]) == 4_000
    assert len(rows[0]["audio"]) == 8_000


# What comes in through the door of tables ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.ndjson", "t.JSONL", "t.NDJSON"])
def test_json_lines_by_any_of_their_names(name, clips, tmp_path):
    source = write_jsonl(tmp_path / name, [{"audio": "clips/a.wav", "text": "yes"}])
    assert load_speech(source, rate=RATE).rows.texts() == [(f"{tmp_path / name}, line 1 (clips/a.wav)", "yes")]


@pytest.mark.parametrize(
    "content",
    [
        "audio,text\nclips/a.wav,yes\n",
        "file_name,text\nclips/a.wav,yes\n",
        '{"audio": "clips/a.wav", "text": "yes"}\n',
        '[{"audio": "clips/a.wav", "text": "yes"}]\n',
    ],
)
def test_a_manifest_through_a_pipe(content, clips, tmp_path, monkeypatch):
    """Its recordings are looked for from where one is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    (row,) = load_speech("-", rate=RATE).rows
    assert (row["text"], len(row["audio"])) == ("yes", 8_000)


SPAN = {"word": "yes", "start": 0.1, "end": 0.4}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"start": "0.1"}, "in 'words' has '0.1' for its start, which must be a number of seconds"),
        ({"end": None}, "in 'words' has None for its end, which must be a number"),
        ({"start": True}, "in 'words' has True for its start"),
        ({"end": [0.4]}, "in 'words' has [0.4] for its end"),
        ({"start": float("nan")}, "in 'words' has a time that is not in seconds"),
        ({"end": float("inf")}, "in 'words' has a time that is not in seconds"),
        ({"end": 10**400}, "in 'words' has a time that is not in seconds"),
        ({"start": -0.1}, "in 'words' has a time that is not in seconds from the start of the recording, 0 or more"),
        ({"start": 0.5}, "in 'words' ends before it starts"),
        ({"word": 7}, "in 'words' has 7 for its word, which must be a text"),
        ({"word": None}, "in 'words' has None for its word"),
        ({"word": " "}, "in 'words' has ' ' for its word"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
def test_a_word_of_the_wrong_kind_is_named(kind, changed, said, clips, tmp_path):
    rows = [{"audio": "clips/a.wav", "text": "yes", "words": [SPAN, {**SPAN, **changed}]}]
    if kind == "csv":
        cells = [["clips/a.wav", "yes", json.dumps(rows[0]["words"])]]
        source = write_csv(tmp_path / "t.csv", cells, ("audio", "text", "words"))
    elif kind == "json":
        source = str(tmp_path / "t.json")
        (tmp_path / "t.json").write_text(json.dumps(rows))
    else:
        source = write_jsonl(tmp_path / "t.jsonl", rows)
    line = {"csv": "line 2", "json": "row 1", "jsonl": "line 1"}[kind]
    with pytest.raises(ValueError, match=rf"t\.{kind}, {line}: .*{re.escape(said)}"):
        load_speech(source, rate=RATE)


def test_words_in_a_csv_are_json(clips, tmp_path):
    def words_of(cell):
        source = write_csv(tmp_path / "t.csv", [["clips/a.wav", "yes", cell]], ("audio", "text", "words"))
        return load_speech(source, rate=RATE).rows[0].get("words")

    assert words_of(json.dumps([SPAN])) == [SPAN]
    assert words_of("[]") == []
    assert words_of("7") is words_of("yes no") is words_of("['yes']") is words_of("") is None  # not ours
    with pytest.raises(ValueError, match=r"t\.csv, line 2, column 'words': not JSON"):
        words_of(str([SPAN]))  # as pandas writes it
    with pytest.raises(ValueError, match=r"line 2: None in 'words' is no object with word, start and end"):
        words_of(json.dumps([SPAN, None]))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"text": 7}, "column 'text' must hold a text, got 7"),
        ({"text": ["yes"]}, "column 'text' must hold a text, got ['yes']"),
        ({"text": float("nan")}, "column 'text' must hold a text, got nan"),
        ({"text": None}, "no text in column 'text'; there are audio"),
        ({"audio": {"path": "a.wav"}}, "column 'audio' must hold a text, got {'path': 'a.wav'}"),
        ({"audio": " "}, "column 'audio' is empty; name the recording, or remove the row"),
        ({"id": ["a"]}, "column 'id' must be a text or a number, got ['a']"),
        ({"id": True}, "column 'id' must be a text or a number, got True"),
        ({"id": float("nan")}, "column 'id' must be a text or a number, got nan"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(changed, said, clips, tmp_path):
    row = {"audio": "clips/a.wav", "text": "yes", **changed}
    with pytest.raises(ValueError, match=re.escape(f"t.jsonl, line 1: {said}")):
        load_speech(write_jsonl(tmp_path / "t.jsonl", [row]), rate=RATE)
    if "text" in changed and changed["text"] is not None:  # nor is it dropped where none is needed
        with pytest.raises(ValueError, match="must hold a text"):
            load_speech(write_jsonl(tmp_path / "t.jsonl", [row]), rate=RATE, need_text=False)


def test_a_text_that_would_be_cut_is_not(clips, tmp_path):
    (tmp_path / "t.csv").write_text("audio,text\nclips/a.wav,YES\nclips/b.wav,YES, I WENT HOME\n")
    with pytest.raises(ValueError, match=r't\.csv, line 3: has more fields \(3\).*quotes: "YES, I WENT HOME"'):
        load_speech(str(tmp_path / "t.csv"), rate=RATE, skip_bad=True)


@pytest.mark.parametrize("row", [{"audio": 4000 * "YES "}, {4000 * "YES ": "a.wav"}, {"audio": [4000 * "YES "]}])
def test_no_message_is_as_long_as_what_is_wrong(row, tmp_path):
    with pytest.raises(ValueError, match=r"t\.jsonl, line 1.*YES YES") as error:
        load_speech(write_jsonl(tmp_path / "t.jsonl", [row]), rate=RATE, need_text=False)
    assert len(str(error.value)) < 700
