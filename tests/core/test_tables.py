"""Tables of people: what is read, what is refused with its line, and that nothing is lost in silence."""

import csv
import io
import json
import os
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilter.core.sources import check_reread, decode, is_pipe, is_source, lines, read_source
from kilter.core.tables import SUFFIXES, guess, listed, parse, rows


def read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    source = read_source(tmp_path / name)
    return list(rows(source, source.suffix))


def values(*arguments):
    return [row for _, row in read(*arguments)]


# csv --------------------------------------------------------------------------------------------------------------

ONE = [{"audio": "a.wav", "text": "YES, I"}]


@pytest.mark.parametrize(
    "content",
    [
        'audio,text\na.wav,"YES, I"\n',
        '\ufeffaudio,text\r\na.wav,"YES, I"\r\n',
        'audio,text\ra.wav,"YES, I"',
        '\n\naudio,text\n\na.wav,"YES, I"\n\n',
        'audio, text\na.wav, "YES, I"\n',
        'audio, "text"\na.wav, "YES, I"\n',
        '\n"audio", "text", "note"\n"a.wav", "YES, I"\n',
        'audio ,text \na.wav ,"YES, I" \n'.replace('" \n', '"\n'),
        '"audio","text"\n"a.wav","YES, I"\n',
        'audio,text,,\na.wav,"YES, I",,\n,,,\n',
        'audio,text,\na.wav,"YES, I"\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_csv_of_many_makers(content, encoding, tmp_path):
    assert values(tmp_path, "t.CSV", content.encode(encoding)) == ONE


def test_an_index_of_pandas_is_a_column_without_a_name(tmp_path):
    assert values(tmp_path, "t.csv", ",text\n0,yes\n1,no\n") == [{"": "0", "text": "yes"}, {"": "1", "text": "no"}]


def test_a_short_row_lacks_its_last_columns(tmp_path):
    assert values(tmp_path, "t.csv", "audio,text\na.wav\n") == [{"audio": "a.wav"}]


def test_a_row_is_called_by_the_line_on_which_it_begins(tmp_path):
    found = read(tmp_path, "t.csv", 'id,text\n1,"two\nlines"\n\n2,"U+2028 \u2028 is none"\n3,x\n')
    assert [where.rpartition(" ")[2] for where, _ in found] == ["2", "5", "6"]
    assert found[0][1]["text"] == "two\nlines"


def test_a_field_as_long_as_it_likes_and_the_limit_of_others_untouched(tmp_path):
    before = csv.field_size_limit()
    long = "word, " * 30_000
    assert values(tmp_path, "t.csv", f'text\n"{long}"\nshort\n') == [{"text": long}, {"text": "short"}]
    assert csv.field_size_limit() == before == 131_072


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "audio,text\na.wav,YES, I WENT HOME\n",
            "line 2: has more fields (3) than the header has columns (2); put a te",
        ),
        ('audio,text\na.wav, "YES, I WENT"\n', "line 2: has a space between comma and quote"),
        ("audio,text\na.wav,YES\nb.wav,NO, I,DO NOT\n", "line 3: has more fields (4) than the header has columns (2)"),
        ("audio,text,\na.wav,YES, I WENT HOME\n", "line 2: has more fields (3) than the header has columns (2)"),
        ('audio,text\n"a\nb",YES\nb.wav,NO, I\n', '"NO, I"'),
        (",\na,b\n", "line 2: has more fields (2) than the header has columns (0)"),
        ("text, text\na,b\n", "line 1: column 'text' stands twice"),
        ("audio;text\na.wav;YES\n", "line 1: the columns stand between semicolons; save the table with commas"),
        ('"audio";"text"\n"a.wav";"YES"\n', "line 1: the columns stand between semicolons"),
        ('"audio"\t"text"\n"a.wav"\t"YES"\n', "line 1: the columns stand between tabs"),
        ("audio\ttext\na.wav\tYES\n", "line 1: the columns stand between tabs"),
        ('text\n"ok"\n"never\nclosed\n', "line 3: not CSV (unexpected end of data); close each quote"),
        ('text\n"YES" I SAID\n', "line 2: not CSV ("),
    ],
)
def test_a_broken_csv_is_named_with_its_line(content, said, tmp_path):
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        read(tmp_path, "t.csv", content)
    assert str(error.value).startswith(f"{tmp_path / 't.csv'}, line ")


@given(st.lists(st.lists(st.text(st.characters(exclude_characters="\0\r", codec="utf-8")), min_size=2, max_size=2)))
def test_what_is_written_as_csv_is_read(cells):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([["a", "b"], *cells])
    data = text.getvalue().encode()
    found = [row for _, row in rows(_source(data, ".csv"), ".csv")]
    assert found == [{"a": one, "b": two} for one, two in cells if one or two]


# JSON -------------------------------------------------------------------------------------------------------------

ROWS = [{"id": 1, "text": 'a\u2028"b": c', "words": [{"word": "a"}]}, {"id": "ä", "text": "\U0001f600"}]


@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_json_lines_of_many_makers(end, escaped, tmp_path):
    for start in ("", "\ufeff", end):
        text = start + "".join(json.dumps(row, ensure_ascii=escaped) + end for row in ROWS)
        for name in ("t.jsonl", "t.JSONL", "t.ndjson", "t.Ndjson"):
            assert values(tmp_path, name, text) == ROWS
    assert values(tmp_path, "t.Json", json.dumps(ROWS, indent=1, ensure_ascii=escaped)) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.jsonl", '{"a": 1}\n{"a": 1', "t.jsonl, line 2: not JSON ("),
        ("t.jsonl", '{"a": 1, "b": 2, "a": 3}', "t.jsonl, line 1: 'a' stands twice in one object; keep one"),
        ("t.jsonl", '{"a": "1:2", "b": 2, "a": 3}', "line 1: 'a' stands twice"),
        ("t.jsonl", '{"a" : 1, "a" : 3}', "line 1: 'a' stands twice"),
        ("t.jsonl", '{"a"\t: 1, "b" :1, "a":3}', "line 1: 'a' stands twice"),
        ("t.jsonl", '{"a": 1, "\\u0061": 3}', "line 1: 'a' stands twice"),
        ("t.jsonl", '{"w": [{"a": 1, "a": 3}]}', "line 1: 'a' stands twice"),
        ("t.jsonl", '{"w": {"v": [[{"a": 1, "a": 3}]]}}', "line 1: 'a' stands twice"),
        ("t.json", '[{"a": 1},\n {"a": 1, "a": 3}]', "t.json: 'a' stands twice"),
        ("t.jsonl", '{"a": "\\ud83d"}', "line 1: '\\ud83d' holds a NUL or half of a letter"),
        ("t.jsonl", '{"\\uDC00": [{"a": "x"}]}', "half of a letter"),
        ("t.jsonl", '{"a": ["b\\u0000"]}', "line 1: 'b\\x00' holds a NUL or half of a letter"),
        ("t.jsonl", '{"a": ' + "[" * 100_000, "t.jsonl, line 1: nested too deep"),
        ("t.json", "[" * 100_000, "t.json: nested too deep"),
        ("t.jsonl", '{"a": 1' + "0" * 5_000 + "}", "t.jsonl, line 1: "),
        ("t.jsonl", '[{"a": 1},\n{"a": 2}]', "t.jsonl, line 1: is a list of rows; write one object a line, or call it"),
        ("t.ndjson", '\n[\n  {"a": 1}]', "t.ndjson, line 1: is a list of rows"),
        ("t.json", '{"a": 1}\n{"a": 2}\n', "t.json: expected a list of rows, [{…}, {…}]; for one object a line call i"),
        ("t.json", '{"data": []}', "t.json: expected a list of rows"),
        ("t.json", "3", "t.json: expected a list of rows"),
        ("t.json", '[{"a": 1},\n{"a": 2]', "t.json: not JSON (Expecting ',' delimiter: line 2, column 8), perhaps cut"),
    ],
)
def test_broken_json_is_named(name, content, said, tmp_path):
    with pytest.raises(ValueError, match=re.escape(said)):
        read(tmp_path, name, content)


def test_what_looks_like_an_escape_is_none(tmp_path):
    row = {"path": "C:\\ud83d\\u0000", "smile": "\U0001f600"}
    assert values(tmp_path, "t.jsonl", json.dumps(row)) == [row]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab:" ', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text('ab:" ', max_size=3), json_values, max_size=3)), st.booleans())
def test_what_is_written_as_json_is_read(table, tight):
    """However the keys and texts look: a closer look finds nothing where there is nothing."""
    table = json.loads(json.dumps(table).replace("\\u0000", ""))
    told = {"separators": (",", ":")} if tight else {"separators": (" , ", " : ")}
    text = "".join(json.dumps(row, **told) + "\n" for row in table)
    assert [row for _, row in rows(_source(text.encode(), ".jsonl"), ".jsonl")] == table
    assert [row for _, row in rows(_source(json.dumps(table, **told).encode(), ".json"), ".json")] == table


def test_lists_in_a_cell():
    assert listed('["a"]', "x", "\"'") == ["a"]
    assert listed(' [ {"word": "a"} ]', "x", "{]") == [{"word": "a"}]
    for text in ("[a]", "[laughs] yes", "yes", "", None, 3, ["a"]):
        assert listed(text, "x", "\"'") == text
    with pytest.raises(ValueError, match=r"^x: not JSON"):
        listed("['a']", "x", "\"'")


# Any bytes --------------------------------------------------------------------------------------------------------

SOUND = {
    ".csv": 'id,text\n1,"YES, I\nWENT"\n2,"a ""b"""\n',
    ".json": json.dumps(ROWS),
    ".jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
}
SOUND[".ndjson"] = SOUND[".jsonl"]


@st.composite
def nearly(draw, sound):
    """A sound file in which a few pieces are cut out, doubled or replaced by what readers stumble over."""
    data = sound.encode()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(start + 6, len(data))))
        piece = draw(
            st.sampled_from(
                [b"", b'"', b",", b"\n", b"\r", b"\0", b"[", b"]", b"{", b"}", b":", b"\\ud800", b"NaN", b"-1"]
            )
            | st.sampled_from([b"1e999", b"9" * 5000, "\u2028\ufeff".encode(), b"\xff", b"null", b"[" * 3000])
            | st.binary(max_size=4)
            | st.just(data[start:end] * 2)
        )
        data = data[:start] + piece + data[end:]
    return data


def _source(data, suffix, name="some file"):
    from kilter.core.sources import Source

    return Source(name, suffix, decode(data))


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(data=st.data())
def test_any_bytes_are_rows_or_an_error_with_the_file(suffix, data, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / f"any{suffix}"
    file.write_bytes(data.draw(nearly(SOUND[suffix]) | st.binary(max_size=80)))
    found, said = [], str(file)
    try:
        found = list(rows(read_source(file), suffix))
    except ValueError as error:
        said = str(error)
    assert said.startswith(str(file))
    for where, row in found:
        assert where.startswith(f"{file}, ")
        json.dumps(row, ensure_ascii=False).encode()  # whatever is read can be written


# Files and pipes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a\r\nb\rc\nna\xefve", "line 4 is neither UTF-8 nor UTF-16"),
        ("text\nyes".encode("utf-16-le"), "line 1 is neither UTF-8 nor UTF-16"),
        (b"yes\n\0\n", "line 2 is neither"),
        ("yes".encode("utf-16")[:-1], "line 1 is neither"),
    ],
)
def test_what_is_no_text_is_named_with_its_line(data, said, tmp_path):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(ValueError, match=rf"t\.csv: is not UTF-8: {said} .*; save it as UTF-8"):
        read_source(tmp_path / "t.csv")


def test_lines_end_in_three_ways_only():
    assert lines("a\nb\r\nc\rd\u2028\x0b\x1c\x85e\n\n") == ["a", "b", "c", "d\u2028\x0b\x1c\x85e", ""]
    assert lines("") == []
    assert decode(b"a\r\nb\rc") == "a\nb\nc"


@pytest.mark.skipif(os.name == "nt", reason="named pipes in the file system are POSIX's")
def test_a_pipe_is_read_to_its_end_and_only_once(tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe")
    assert is_pipe(pipe)
    assert is_source(pipe)
    long = "word " * 50_000  # more than a pipe holds
    writer = threading.Thread(target=pipe.write_text, args=(long,))
    writer.start()
    assert read_source(pipe) == (str(pipe), "", long)
    writer.join()
    with pytest.raises(
        ValueError, match=r"--train .*pipe: a run reads its documents more than once; put them into a file"
    ):
        check_reread("documents", train=str(pipe), eval=None)
    check_reread("documents", train=str(tmp_path), eval=str(tmp_path / "none"))


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="/dev/fd is not everywhere")
def test_a_file_that_the_shell_opened_is_told_by_its_content(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": "yes"}\n')
    with (tmp_path / "t.jsonl").open() as opened:
        name = f"/dev/fd/{opened.fileno()}"
        assert is_pipe(name)
        source = read_source(name)
    assert [row for _, row in rows(source, guess(source.text, "text"))] == [{"text": "yes"}]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"prompt": "a"}\n', ".jsonl"),
        ('\n {"text": "a"}\n', ".jsonl"),
        ('[{"prompt": "a"}]', ".json"),
        ('\n[\n  {"prompt": "a"}]', ".json"),
        ("prompt\na\n", ".csv"),
        ('id, "prompt"\r\n1,a\r\n', ".csv"),
        ("prompt the model, please\n", None),
        ("[laughs] yes\n", None),
        ("{braces}\n", None),
        ("", None),
    ],
)
def test_the_kind_of_what_has_no_name(text, kind):
    assert guess(text, "prompt") == kind


def test_parsing_a_cell_names_it():
    with pytest.raises(ValueError, match=r"^t\.csv, line 2, column 'words': not JSON \(Expecting value: column 2\)"):
        parse("[", "t.csv, line 2, column 'words'")
