"""Sentences, translations and documents of the user's in every format: read, or refused by name."""

import io
import json
import os
import re
import sys
import threading
from pathlib import Path

import pytest

from kilter.data import bitext
from kilter.data.bitext import read_pairs, tatoeba_languages, tatoeba_pairs
from kilter.data.documents import Document, read_documents, sentences_of
from kilter.data.sentences import articles, read_sentences, wikipedia_documents, wikipedia_sentences

TEXTS = ["It rains.", 'He said "no", twice.', "ä: 1\u2028half"]
REAL = Path(os.environ.get("KILTER_DATA") or "nowhere")


def content(kind: str, column: str = "text") -> str:
    rows = [{"n": number, column: text} for number, text in enumerate(TEXTS)]
    if kind == "csv":
        return f"n,{column}\n" + "".join(f'{row["n"]},"{row[column].replace(chr(34), chr(34) * 2)}"\n' for row in rows)
    if kind == "json":
        return json.dumps(rows, indent=1)
    return "".join(json.dumps(row) + "\n" for row in rows) if kind == "jsonl" else "\n".join(TEXTS) + "\n"


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, "utf-8")
    return str(folder / name)


# Sentences ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["s.txt", "s.MD", "s.csv", "s.json", "s.jsonl", "s.ndjson", "s.CSV"])
def test_sentences_by_their_suffix(tmp_path, name) -> None:
    kind = {"txt": "lines", "md": "lines", "ndjson": "jsonl"}.get(suffix := name.rpartition(".")[2].lower(), suffix)
    assert read_sentences(written(tmp_path, name, content(kind))) == TEXTS


@pytest.mark.parametrize("column", ["text", "sentence", "sentence1", "content"])
@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "lines"])
def test_sentences_through_a_pipe_or_without_a_suffix(tmp_path, monkeypatch, kind, column) -> None:
    text = content(kind, column)
    assert read_sentences(written(tmp_path, "sentences", text)) == TEXTS
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert read_sentences("-") == TEXTS


@pytest.mark.skipif(os.name == "nt", reason="named pipes in the file system are POSIX's")
def test_sentences_through_a_pipe_with_a_name(tmp_path) -> None:
    os.mkfifo(pipe := tmp_path / "63")
    writer = threading.Thread(target=pipe.write_text, args=(content("csv"),))
    writer.start()
    assert read_sentences(str(pipe)) == TEXTS
    writer.join()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_and_ends_of_lines_are_those_of_other_commands(tmp_path, encoding) -> None:
    (tmp_path / "s.txt").write_bytes("Ärger.\r\nRuhe.\r\n".encode(encoding))
    assert read_sentences(str(tmp_path / "s.txt")) == ["Ärger.", "Ruhe."]
    (tmp_path / "s.txt").write_bytes(b"Ruhe.\n\xc4rger.\n")
    with pytest.raises(ValueError, match=r"s\.txt: is not UTF-8: line 2"):
        read_sentences(str(tmp_path / "s.txt"))


def test_a_sentence_that_stands_twice_stays_twice(tmp_path) -> None:
    assert read_sentences(written(tmp_path, "s.txt", "Notes\nNotes\n")) == ["Notes", "Notes"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("s.txt", "one\n\ntwo\n", "s.txt, line 2: the text is empty; write one there, or remove the line"),
        ("s.txt", "", "s.txt: holds no sentences; give one a line"),
        ("s.csv", "n,words\n1,a\n", "s.csv, line 2: needs a text in column 'text' (or sentence, sentence1, "),
        ("s.csv", 'text\n"a",b\n', "s.csv, line 2: has more fields (2) than the header has columns (1)"),
        ("s.csv", "n\ttext\n1\ta\n", "s.csv, line 1: the columns stand between tabs; save the table with commas"),
        ("s.csv", "n,text\n1,\n", "s.csv, line 2: the text is empty"),
        ("s.jsonl", '{"text": 3}', "s.jsonl, line 1: column 'text' must hold a text, got 3"),
        ("s.jsonl", '{"text": NaN}', "s.jsonl, line 1: column 'text' must hold a text, got nan"),
        ("s.jsonl", '{"text": null}', "s.jsonl, line 1: needs a text in column 'text'"),
        ("s.jsonl", '"a"\n', "s.jsonl, line 1: expected an object with columns, not 'a'"),
        ("s.json", '{"text": "a"}', "s.json: expected a list of rows"),
        (
            "s.tsv",
            "a\n",
            "s.tsv: a file of sentences ends in .txt, .md, .csv, .json, .jsonl, .ndjson; rename or convert",
        ),
        ("s.xlsx", "a\n", "s.xlsx: a file of sentences ends in"),
    ],
)
def test_what_is_wrong_with_sentences_is_named(tmp_path, name, text, said) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read_sentences(written(tmp_path, name, text))


@pytest.mark.parametrize("name", ["none.txt", "no/such/file", "a/b/c", "words"])
def test_a_source_that_is_none(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"{name}: no such file, and no hub id like 'org/name'"):
        read_sentences(name)


# The hub --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """A hub with the data sets that the test puts there; what was asked for."""
    import datasets

    asked: list = []

    def load(name, config=None, split=None):
        asked.append((name, config, split))
        if name not in shelf:
            raise FileNotFoundError(f"Couldn't find {name}")
        return datasets.Dataset.from_list(shelf[name])

    shelf = {
        "org/texts": [{"text": text} for text in TEXTS],
        "org/pairs": [{"english": "rain", "non_english": "Regen"}],
        "org/empty": [{"text": "a"}, {"text": None}],
    }
    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_a_hub_id_with_its_configuration_and_split(hub) -> None:
    assert read_sentences("org/texts") == TEXTS
    assert read_sentences("org/texts:de:test") == TEXTS
    assert read_pairs("org/pairs:de") == [("Regen", "rain")]
    assert [one.sentences[0] for one in read_documents("org/texts")] == [*TEXTS[:2], "ä: 1 half"]
    assert hub[:2] == [("org/texts", None, "train"), ("org/texts", "de", "test")]


def test_what_is_wrong_with_a_hub_data_set_is_named(hub) -> None:
    with pytest.raises(ValueError, match=r"org/none: no such file or folder, and the hub gives no such data set"):
        read_sentences("org/none")
    with pytest.raises(ValueError, match=r"org/empty \(train\), row 1: needs a text in column 'text'"):
        read_sentences("org/empty")


# Wikipedia ------------------------------------------------------------------------------------------------------------


def test_articles_begin_at_their_titles() -> None:
    lines = [
        "Before any.",
        "Loch Lomond",
        "Loch Lomond is a lake.",
        "1960s",
        "It froze.",
        "Tirana",
        "In Tirana it rains.",
    ]
    assert articles(lines) == [
        ["Before any."],
        ["Loch Lomond is a lake.", "1960s", "It froze."],
        ["In Tirana it rains."],
    ]


@pytest.mark.skipif(not (REAL / "wiki-simcse").is_dir(), reason="KILTER_DATA names no folder with Wikipedia sentences")
def test_the_real_wikipedia() -> None:
    lines, documents = wikipedia_sentences(), wikipedia_documents()
    assert len(lines) == 11_914
    assert 1_000 < len(documents) < 1_300
    assert 10_000 < sum(map(len, documents)) < len(lines)
    assert documents[0][0].startswith("South Australia (SA) ")


# Translations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("source", "target"), ("foreign", "english"), ("sentence1", "sentence2"), ("de", "en")]
)
def test_translations_under_any_names(tmp_path, names) -> None:
    table = written(tmp_path, "p.csv", f'{names[0]},{names[1]}\n"Regen, viel",rain\nSonne,sun\n')
    assert read_pairs(table) == [("Regen, viel", "rain"), ("Sonne", "sun")]
    lines = "".join(json.dumps({"n": 1, "target": "rain", "source": one}) + "\n" for one in ("Regen", "Nass"))
    assert read_pairs(written(tmp_path, "p.jsonl", lines)) == [("Regen", "rain"), ("Nass", "rain")]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.csv", "source,target\na,b\nc,d\na,b\n", "p.csv, line 4: the pair stands already in"),
        ("p.csv", "source,target\na,\n", "p.csv, line 2: the text is empty"),
        ("p.csv", "source,target\na\n", "p.csv, line 2: needs a text in column 'target' (or english, "),
        ("p.csv", "n,de,en\n1,a,b\n", "p.csv, line 2: needs a text in column 'source' (or foreign, "),
        ("p.csv", "source;target\na;b\n", "the columns stand between semicolons"),
        ("p.csv", "source,target\n", "p.csv: holds no translations; give one a row"),
        ("p.jsonl", '{"source": "a", "target": 1}', "column 'target' must hold a text, got 1"),
        ("p.tsv", "a\tb\n", "p.tsv: a file of translations ends in .csv, .json, .jsonl, .ndjson; rename or convert it"),
    ],
)
def test_what_is_wrong_with_translations_is_named(tmp_path, name, text, said) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read_pairs(written(tmp_path, name, text))


def test_tatoeba_has_112_languages_by_the_codes_that_people_type() -> None:
    assert len(tatoeba_languages()) == 112
    assert {"de", "fr", "ja", "zh", "pt", "uk", "gsw"} < {*tatoeba_languages()}
    with pytest.raises(ValueError, match="Tatoeba has no pairs of 'deutsch' with English"):
        tatoeba_pairs("deutsch")


@pytest.mark.skipif(not (REAL / "tatoeba").is_dir(), reason="KILTER_DATA names no folder with Tatoeba")
def test_the_real_tatoeba() -> None:
    pairs = tatoeba_pairs("de")
    assert len(pairs) == 1_000
    assert pairs[0] == ("Maria sagte, sie wisse nicht, wo Tom sei.", "Mary said she didn't know where Tom was.")
    assert tatoeba_pairs("deu") == pairs
    assert tatoeba_pairs("pt_BR") == tatoeba_pairs("pt")
    assert sum(len(tatoeba_pairs(one)) for one in ("de", "fr", "ru", "zh", "ja", "it")) == 6_000


def test_a_tatoeba_file_that_is_cut_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "tatoeba.deu-eng.deu").write_text("eins\nzwei\n")
    (tmp_path / "tatoeba.deu-eng.eng").write_text("one\n")
    monkeypatch.setattr(bitext, "locate_tatoeba", lambda: type("Here", (), {"path": tmp_path}))
    with pytest.raises(ValueError, match="deu has 2 lines, its English 1"):
        tatoeba_pairs("de")


# Documents ------------------------------------------------------------------------------------------------------------


def test_a_folder_is_a_document_a_file(tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("It rains. We\nstay in bed\ntoday.\n", "utf-8")
    (tmp_path / "sub" / "a.TXT").write_text("One.\nTwo.\n\nThree.\n", "utf-8")
    (tmp_path / "._b.txt").write_text("left behind")
    (tmp_path / "notes.doc").write_text("not read")
    assert read_documents(str(tmp_path)) == [
        Document("b", ("It rains.", "We stay in bed today.")),
        Document("sub/a", ("One.", "Two.", "Three.")),
    ]


def test_one_text_has_blank_lines_between_documents(tmp_path, monkeypatch) -> None:
    text = "\nIt rains.\nWe stay.\n\n \nThe sun. All day.\n"
    found = read_documents(written(tmp_path, "d.txt", text))
    assert [one.sentences for one in found] == [("It rains.", "We stay."), ("The sun.", "All day.")]
    assert [one.id.rpartition(", ")[2] for one in found] == ["line 2", "line 6"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert [one.sentences for one in read_documents("-")] == [one.sentences for one in found]


def test_rows_with_one_document_are_one(tmp_path) -> None:
    rows = [("a", "One. Two."), ("a", "Three."), ("b", "Four.")]
    lines = "".join(json.dumps({"document": name, "text": text, "section": "games"}) + "\n" for name, text in rows)
    found = read_documents(written(tmp_path, "d.jsonl", lines))
    assert found == [Document("a", ("One.", "Two.", "Three."), "games"), Document("b", ("Four.",), "games")]
    found = read_documents(written(tmp_path, "d.csv", 'text\n"One. Two."\nThree.\n'))
    assert [one.sentences for one in found] == [("One.", "Two."), ("Three.",)]
    assert len({one.id for one in found}) == 2


def test_lines_that_are_sentences_are_not_joined() -> None:
    assert sentences_of("One.\nA heading\nTwo. Three.\n") == ("One.", "A heading", "Two.", "Three.")
    assert sentences_of("broken\nwhere the\npage ends.\n\nNext\none.") == ("broken where the page ends.", "Next one.")
    assert sentences_of(" \n\n ") == ()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "d.jsonl",
            '{"id": "a", "text": "x"}\n{"id": "b", "text": "x"}\n{"id": "a", "text": "x"}',
            "document 'a' has beg",
        ),
        ("d.jsonl", '{"id": ["a"], "text": "x"}', "line 1: column 'id' must be a text or a number, got ['a']"),
        ("d.jsonl", '{"id": "a"}', "line 1: needs a text in column 'text' (or sentence, content, body)"),
        ("d.csv", "id,text\na, \n", "line 2: the text is empty"),
        ("d.txt", "\n\n", "d.txt: holds no documents; give one a block"),
        ("d.pdf", "x", "d.pdf: a file of documents ends in .txt, .md, .csv"),
    ],
)
def test_what_is_wrong_with_documents_is_named(tmp_path, name, text, said) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read_documents(written(tmp_path, name, text))


def test_a_folder_without_texts_or_with_an_empty_one(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"has no \.txt; put one document in each file"):
        read_documents(str(tmp_path))
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(ValueError, match=r"a\.txt: the document is empty; write it, or remove the file"):
        read_documents(str(tmp_path))
