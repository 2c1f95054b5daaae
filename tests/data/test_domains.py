"""Pairs by domain: which of Debian's packages are kept, and the user's own files."""

import json
import re

import pytest

from kilter.data import debian_descriptions
from kilter.data.assets import cache_dir
from kilter.data.documents import Document
from kilter.data.domains import COLUMNS, debian_domains, read_domains

LONG = "{} sails over every sea of the world and back home again."


def described(monkeypatch, *documents: tuple[str, str, tuple[str, ...]]) -> None:
    """Packages of a section with a summary and the sentences of a description."""
    found = [
        Document(f"package {place}", (summary, *sentences), section)
        for place, (section, summary, sentences) in enumerate(documents)
    ]
    monkeypatch.setattr(debian_descriptions, "descriptions", lambda languages: {"en": found})


def test_each_section_is_a_domain_of_its_own(monkeypatch) -> None:
    described(
        monkeypatch,
        ("games", "a ship", ("A ship that", LONG.format("it"))),
        ("sound", "a horn", (LONG.replace("sails", "calls").replace("world", "morning").format("It"),)),
        ("games", "a tower", ("You build it of stone, of wood and at last of glass and light.",)),
        ("", "nowhere", ("This one is in no section, so that it is in no domain either.",)),
    )
    found = debian_domains(["sound", "games"])
    assert [*found] == ["sound", "games"]
    assert found["games"] == [
        ("a ship", "A ship that it sails over every sea of the world and back home again."),
        ("a tower", "You build it of stone, of wood and at last of glass and light."),
    ]
    assert [summary for summary, _ in found["sound"]] == ["a horn"]


def test_of_packages_that_share_text_that_with_the_shortest_summary_is_kept(monkeypatch) -> None:
    """Also through a third, which alone shares something with either."""
    extra = "These are the headers that one needs to build more upon it, and nothing else."
    described(
        monkeypatch,
        ("games", "a ship: headers", (LONG.format("It"), extra)),
        ("games", "a ship", (LONG.format("It"),)),
        ("games", "a boat: headers", ("Row it along the river and by the fields to the sea.", extra)),
        ("doc", "ship", (LONG.format("It"),)),
    )
    assert [summary for summary, _ in debian_domains(["games"])["games"]] == ["a ship"]
    both = debian_domains(["games", "doc"])
    assert both["games"] == []
    assert [summary for summary, _ in both["doc"]] == ["ship"]


def test_seven_words_in_a_row_may_be_chance_and_eight_are_not(monkeypatch) -> None:
    rest = "and {0} {0} {0} {0} {0} {0}."
    for words, kept in ((7, 2), (8, 1)):
        alike = " ".join(["one", "two", "three", "four", "five", "six", "seven", "eight"][:words])
        described(
            monkeypatch,
            *(("games", name, (f"{alike} {name} {rest.format(name)}",)) for name in ("a", "bb")),
        )
        assert len(debian_domains(["games"])["games"]) == kept


NAMES = tuple("abcdefghijk")


@pytest.mark.parametrize(("many", "kept"), [(10, 1), (11, 11)])
def test_what_more_than_ten_have_alike_is_left_out_and_links_none(monkeypatch, many, kept) -> None:
    alike = "It is a library for the language that everybody here is writing in."
    documents = (("games", name, (alike, " ".join(f"{name}{at}" for at in range(12)))) for name in NAMES[:many])
    described(monkeypatch, *documents)
    found = debian_domains(["games"])["games"]
    assert len(found) == kept
    assert all((alike in text) == (kept == 1) for _, text in found)


@pytest.mark.parametrize(("own", "kept"), [(8, 0), (9, 11)])
def test_a_description_needs_ten_words_that_are_not_everybodys(monkeypatch, own, kept) -> None:
    """A sentence that differs by a name is not everybody's, but most of its words are."""
    same = "This package contains the data needed for reading"
    documents = (("games", name, (f"{same} {name} {' '.join(f'{name}{at}' for at in range(own))}.",)) for name in NAMES)
    described(monkeypatch, *documents)
    assert len(debian_domains(["games"])["games"]) == kept


def test_the_summary_is_no_part_of_the_description_and_stands_once(monkeypatch) -> None:
    described(
        monkeypatch,
        ("games", "A ship", ("a  ship", LONG.format("It"))),
        ("games", "a ship", ("You build it of stone, of wood and at last of glass and light.",)),
    )
    assert debian_domains(["games"])["games"] == [("A ship", LONG.format("It"))]


def test_a_section_that_is_not_there(monkeypatch) -> None:
    described(monkeypatch, ("games", "a ship", ("It sails.",)), ("", "nowhere", ("It is lost.",)))
    with pytest.raises(ValueError, match="Debian has no section 'game'; did you mean 'games'"):
        debian_domains(["games", "game"])
    with pytest.raises(ValueError, match=r"Debian has no section ''; there are: games$"):
        debian_domains([""])


@pytest.mark.slow
def test_real_sections_have_many_pairs_and_no_text_in_common() -> None:
    if not (cache_dir() / "debian-descriptions" / "en.jsonl").is_file():
        pytest.skip("the package descriptions are not in the cache: kilter fetch debian-descriptions")
    found = debian_domains(["games", "sound", "fonts"])
    assert [len(found[name]) for name in ("games", "sound", "fonts")] == pytest.approx([672, 574, 348], rel=0.2)
    rows: dict[str, int] = {}
    for text in (text for pairs in found.values() for _, text in pairs):
        words = re.findall(r"\w+", text.casefold())
        for row in {" ".join(words[at : at + 8]) for at in range(len(words) - 7)}:
            rows[row] = rows.get(row, 0) + 1
    shared = {row for row, many in rows.items() if many > 1}
    assert len(shared) < len(rows) / 1000  # what more than ten packages had before one of each was kept
    for pairs in found.values():
        assert len({summary.casefold() for summary, _ in pairs}) == len(pairs)
        assert min(len(text.split()) for _, text in pairs) >= 10


# The user's own -------------------------------------------------------------------------------------------------------

PAIRS = [("a map", "It shows roads."), ("a sea, at night", "Dark water.")]


@pytest.mark.parametrize(
    "names", [("text1", "text2"), ("anchor", "positive"), ("title", "abstract"), ("left", "right")]
)
@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
def test_the_users_domains_under_the_names_that_people_give_their_columns(tmp_path, kind, names) -> None:
    rows = [dict(zip(names, pair, strict=True)) for pair in PAIRS]
    quoted = "\n".join(",".join(f'"{cell}"' for cell in row) for row in [names, *PAIRS])
    text = {"csv": quoted, "json": json.dumps(rows), "jsonl": "\n".join(map(json.dumps, rows))}[kind]
    (tmp_path / f"med.{kind}").write_text(text, "utf-8")
    (tmp_path / "law.csv").write_text("text1,text2\nx,y\n", "utf-8")
    found = read_domains({"med": str(tmp_path / f"med.{kind}"), "law": str(tmp_path / "law.csv")})
    assert found == {"med": PAIRS, "law": [("x", "y")]}


def test_no_name_may_be_of_either_column() -> None:
    assert not {*COLUMNS["text1"]} & {*COLUMNS["text2"]}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.csv", "text1,text2,id\na,,1\n", "p.csv, line 2: the text is empty"),
        ("p.csv", "text1,note,id\na,b,1\n", "p.csv, line 2: needs a text in column 'text2' (or text_2, "),
        ("p.csv", "text1,text2\n", "p.csv: holds no pairs; give one a row"),
        ("p.jsonl", '{"text1": 1, "text2": "b"}', "p.jsonl, line 1: column 'text1' must hold a text, got 1"),
        ("p.txt", "a b", "p.txt: a file of pairs ends in .csv"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, text, said) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(ValueError, match=re.escape(said)):
        read_domains({"med": str(tmp_path / name)})
