"""Prompts in every format: read, or refused by name."""

import csv
import io
import json
import os
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilter.data.text_prompts import read_prompts

TEXTS = ["the steam", 'a "b", c\u2028d', "ä: 1"]


def csv_of(rows, columns):
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def content(kind):
    rows = [{"id": number, "prompt": text} for number, text in enumerate(TEXTS)]
    match kind:
        case "csv":
            return csv_of(rows, ("id", "prompt"))
        case "json":
            return json.dumps(rows, indent=1)
        case "lines":
            return "\n".join(TEXTS) + "\n"
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(tmp_path, name, text):
    (tmp_path / name).write_text(text, "utf-8")
    return read_prompts(str(tmp_path / name))


@pytest.mark.parametrize("name", ["p.csv", "p.CSV", "p.json", "p.jsonl", "p.JSONL", "p.ndjson", "p.Json"])
def test_a_table_by_its_suffix_in_any_case(name, tmp_path):
    found = read(tmp_path, name, content(name.rpartition(".")[2].lower()))
    assert [one.text for one in found] == TEXTS
    assert [str(one.kept["id"]) for one in found] == ["0", "1", "2"]


@pytest.mark.parametrize("name", ["p.txt", "p.TXT", "p.md"])
def test_lines_stay_lines_whatever_they_look_like(name, tmp_path):
    for kind in ("lines", "jsonl", "csv"):
        text = content(kind)
        assert [one.text for one in read(tmp_path, name, text)] == text.removesuffix("\n").split("\n")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines(end, tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbf" + end.join(TEXTS).encode())
    assert [one.text for one in read_prompts(str(tmp_path / "p.txt"))] == TEXTS


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "lines"])
def test_without_a_suffix_the_content_tells(kind, tmp_path, monkeypatch):
    assert [one.text for one in read(tmp_path, "prompts", content(kind))] == TEXTS
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content(kind).encode())))
    found = read_prompts("-")
    assert [one.text for one in found] == TEXTS
    assert found[0].where.startswith("standard input, ")


@pytest.mark.skipif(os.name == "nt", reason="named pipes in the file system are POSIX's")
@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "lines"])
def test_a_pipe_with_a_name(kind, tmp_path):
    """As a shell makes it of `<(…)`: no regular file, and read once."""
    os.mkfifo(pipe := tmp_path / "63")
    writer = threading.Thread(target=pipe.write_text, args=(content(kind),))
    writer.start()
    assert [one.text for one in read_prompts(str(pipe))] == TEXTS
    writer.join()


@pytest.mark.parametrize("name", ["p.tsv", "p.xlsx", "p.parquet", "p.jsonl.gz"])
def test_another_suffix_is_refused_by_name(name, tmp_path):
    said = f"{name}: a file of prompts ends in .txt, .md, .csv, .json, .jsonl, .ndjson; rename or convert it"
    with pytest.raises(ValueError, match=re.escape(said)):
        read(tmp_path, name, "prompt\nrain\n")
    with pytest.raises(ValueError, match="none: no such file"):
        read_prompts(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="no such file"):
        read_prompts(str(tmp_path))


def test_references(tmp_path):
    lines = [{"prompt": "a", "references": one} for one in (["b", "c"], "b", None)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    assert [one.kept.get("references") for one in read(tmp_path, "p.jsonl", text)] == [["b", "c"], ["b"], None]
    cells = [{"prompt": "a", "references": one} for one in ('["b", "c"]', "[laughs] b", "")]
    found = read(tmp_path, "p.csv", csv_of(cells, ("prompt", "references")))
    assert [one.kept.get("references") for one in found] == [["b", "c"], ["[laughs] b"], None]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.csv", "prompt\nYES, I\n", "p.csv, line 2: has more fields (2) than the header has columns (1)"),
        ("p.csv", "text\nYES\n", "p.csv, line 2: needs the prompt as a text in column 'prompt', has columns 'text'"),
        ("p.csv", 'prompt,id\n"",1\n', "p.csv, line 2: the prompt is empty"),
        ("p.csv", "prompt,references\na,['b']\n", "p.csv, line 2, column 'references': not JSON"),
        ("p.csv", "prompt\n", "p.csv: holds no prompts"),
        ("p.json", '[{"prompt": 3}]', "p.json, row 1: needs the prompt as a text in column 'prompt', has columns"),
        ("p.json", '{"prompt": "a"}\n{"prompt": "a"}', "p.json: expected a list of rows"),
        ("p.jsonl", '[{"prompt": "a"}]', "p.jsonl, line 1: is a list of rows"),
        ("p.jsonl", '{"prompt": null}', "has columns 'prompt' (None)"),
        ("p.jsonl", '{"prompt": "a", "prompt": "b"}', "p.jsonl, line 1: 'prompt' stands twice"),
        ("p.jsonl", '{"prompt": "a", "references": 5}', "column 'references' must be a list of texts, none of them em"),
        ("p.jsonl", '{"prompt": "a", "references": [null]}', "must be a list of texts, none of them empty, got [None]"),
        ("p.jsonl", '{"prompt": "a", "references": [" "]}', "must be a list of texts, none of them empty, got [' ']"),
        ("p.jsonl", '{"prompt": "a", "references": {"b": "c"}}', "must be a list of texts"),
        ("p.jsonl", '{"prompt": "a", "id": ["b"]}', "line 1: column 'id' must be a text or a number, got ['b']"),
        ("p.jsonl", '{"prompt": "a", "id": NaN}', "line 1: column 'id' must be a text or a number, got nan"),
        (
            "prompts",
            '{"text": "a"}\n',
            "prompts, line 1: needs the prompt as a text in column 'prompt', has columns 't",
        ),
    ],
)
def test_what_is_wrong_is_named(name, text, said, tmp_path):
    with pytest.raises(ValueError, match=re.escape(said)):
        read(tmp_path, name, text)


@given(
    st.sampled_from(["p", "p.txt", "p.csv", "p.json", "p.jsonl"]),
    st.lists(
        st.sampled_from(["prompt", "references", "id", '"', ",", ":", "\n", "{", "}", "[", "]", "\\u", "null", "NaN"])
        | st.sampled_from(
            ['{"prompt": "a"}\n', '{"prompt": "a", "references": ', "prompt,id\n", "\ufeff", "\0", "9" * 9]
        )
        | st.text(max_size=3),
        max_size=12,
    ).map("".join),
)
def test_anything_is_prompts_or_an_error_with_the_file(tmp_path_factory, name, text):
    file = tmp_path_factory.getbasetemp() / name
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    found, said = [], str(file)
    try:
        found = read_prompts(str(file))
    except ValueError as error:
        said = str(error)
    assert said.startswith(str(file))
    for one in found:
        assert one.where.startswith(f"{file}, ")
        assert one.text.strip()
        json.dumps([one.text, dict(one.kept)], ensure_ascii=False, allow_nan=False).encode()
