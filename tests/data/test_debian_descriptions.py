"""Package descriptions, from an apt that is made here: nothing is downloaded."""

import json
import os
import sys

import pytest

from kilter.data.apt_descriptions import LANGUAGES, fetch_descriptions
from kilter.data.assets import cache_dir, locate, status
from kilter.data.debian_descriptions import descriptions, locate_descriptions

LISTS = {
    "Packages": """Package: atlas
Section: contrib/science
Size: 1

Package: broom
Section: admin
""",
    "Translation-en": """Package: atlas
Description-md5: aa
Description-en: maps of the world
 It draws maps. It is
 fast.
 .
 Of these kinds:
  * roads, and
    ways
  * rivers

Package: atlas-data
Description-md5: aa
Description-en: maps of the world
 It draws maps. It is
 fast.

Package: broom
Description-md5: bb
Description-en: sweep the disk
 Dust goes.
""",
    "Translation-de": """Package: broom
Description-md5: bb
Description-de: die Platte fegen
 Staub geht. Alles
 wird sauber.

Package: atlas
Description-md5: older
Description-de: Karten, von einem alten Text
 Alt.
""",
}
APT = """#!{python}
import re, sys
from pathlib import Path
settings = Path(sys.argv[sys.argv.index("-c") + 1]).read_text()
lists = Path(re.search('Dir::State "(.*)"', settings)[1], "lists")
if "update" in sys.argv:
    assert "#clear APT::Update" in settings and '"pt_BR";' in settings
    source = Path({lists!r})
    for file in source.iterdir() if source.is_dir() else []:
        (lists / file.name).write_text(file.read_text())
    print("E: no network" if not source.is_dir() else "Reading package lists...")
    sys.exit({code})
form = sys.argv[sys.argv.index("--format") + 1]
for file in sorted(lists.iterdir()) + [lists / "gone_Translation-fr"]:
    if "Release" in file.name or file.is_dir():
        continue
    kind = "Packages" if "Packages" in file.name else "Translations"
    origin = "Other" if file.name.startswith("other") else "Debian"
    values = dict(CREATED_BY=kind, ORIGIN=origin, RELEASE="stable", CODENAME="bookworm", VERSION="12.15")
    values |= dict(FILENAME=str(file), **(dict(LANGUAGE=file.name.rpartition("-")[2]) if kind != "Packages" else {{}}))
    print(re.sub(r"\\$\\((\\w+)\\)", lambda name: values.get(name[1], name[0]), form))
"""


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """A machine whose apt has three lists, and one of somebody else's packages."""
    tools, lists = tmp_path / "tools", tmp_path / "lists"
    tools.mkdir()
    lists.mkdir()
    for name, text in LISTS.items():
        (lists / f"mirror_dists_stable_main_{name}").write_text(text, "utf-8")
    (lists / "mirror_dists_stable_InRelease").write_text("Suite: stable\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n")
    (lists / "other_Translation-en").write_text("Package: x\nDescription-md5: xx\nDescription-en: not Debian's\n y\n")

    def install(code=0):
        (tools / "apt-get").write_text(APT.format(python=sys.executable, lists=str(lists), code=code))
        (tools / "apt-get").chmod(0o755)

    install()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KILTER_DATA", raising=False)
    return install


pytestmark = pytest.mark.skipif(os.name == "nt", reason="apt is Debian's")


def rows(language):
    lines = (cache_dir() / "debian-descriptions" / f"{language}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_descriptions_are_joined_on_the_english_text(apt) -> None:
    assert not status("debian-descriptions")["present"]
    found = descriptions(["en", "de", "fr"])
    assert [(one.id, one.section) for one in found["en"]] == [("aa", "science"), ("bb", "admin")]
    assert found["en"][1].sentences == ("sweep the disk", "Dust goes.")
    assert [one.id for one in found["de"]] == ["bb"]  # the other one is of a text that is no more
    assert found["de"][0].sentences == ("die Platte fegen", "Staub geht.", "Alles wird sauber.")
    assert found["fr"] == []
    assert status("debian-descriptions")["present"]


def test_one_row_a_text_with_its_paragraphs(apt) -> None:
    locate("debian-descriptions", progress=False)
    assert rows("de") == [
        {
            "id": "bb",
            "package": "broom",
            "section": "admin",
            "summary": "die Platte fegen",
            "paragraphs": ["Staub geht. Alles wird sauber."],
        }
    ]
    assert {path.name for path in (cache_dir() / "debian-descriptions").iterdir()} == {
        *(f"{language}.jsonl" for language in LANGUAGES),
        "about.json",
        "SHA256SUMS",
    }


def test_lists_within_a_paragraph_keep_their_lines(apt, tmp_path) -> None:
    lists = tmp_path / "lists" / "mirror_dists_stable_main_Translation-en"
    lists.write_text(LISTS["Translation-en"].split("\n\n")[0] + "\n", "utf-8")
    (found,) = descriptions()["en"]
    assert rows("en")[0]["paragraphs"] == ["It draws maps. It is fast.", "Of these kinds:\n* roads, and ways\n* rivers"]
    assert found.sentences == (
        "maps of the world",
        "It draws maps.",
        "It is fast.",
        "Of these kinds:",
        "* roads, and ways",
        "* rivers",
    )


def test_a_report_says_of_what_day_they_are_and_the_digest_changes_with_them(apt, tmp_path, capsys) -> None:
    here = locate_descriptions()
    assert here.source == "the cache (Debian 12.15 bookworm Sat, 11 Jul 2026 10:16:37 UTC)"
    first = here.credit()["digest"]
    assert len(first) == 16
    for file in here.path.iterdir():
        file.unlink()
    here.path.rmdir()
    (tmp_path / "lists" / "mirror_dists_stable_main_Translation-de").unlink()
    assert locate_descriptions().credit()["digest"] not in (first, "")
    assert capsys.readouterr().err == ""


def test_files_that_were_changed_since_are_named(apt) -> None:
    folder = locate_descriptions().path
    (folder / "de.jsonl").write_text("", "utf-8")
    with pytest.raises(ValueError, match=r"de\.jsonl: corrupt .* `kilter fetch debian-descriptions`"):
        locate_descriptions()


@pytest.mark.parametrize("code", [0, 100])
def test_what_apt_says_is_passed_on_and_nothing_is_left(apt, tmp_path, code) -> None:
    apt(code)
    for file in (tmp_path / "lists").iterdir():
        file.unlink()
    (tmp_path / "lists").rmdir()
    with pytest.raises(ConnectionError, match=r"E: no network\nCheck the connection"):
        locate("debian-descriptions", progress=False)
    assert not [*cache_dir().iterdir()]


def test_without_apt_it_is_said_where_to_fetch_them(apt, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"apt-get not found: .* on such a machine"):
        fetch_descriptions(tmp_path / "here", progress=False)
    assert not (tmp_path / "here").exists()


def test_a_language_that_is_not_there(apt) -> None:
    with pytest.raises(ValueError, match="no package descriptions in 'pt_br'; did you mean 'pt_BR'"):
        descriptions(["pt_br"])


COUNTS = {"da": 47_926, "it": 47_335, "fr": 19_521, "de": 13_163, "sk": 9_576, "ja": 5_823, "ko": 4_143, "uk": 4_027}
COUNTS |= {"pl": 3_508, "ru": 3_175, "cs": 2_043, "es": 2_000, "pt": 1_695, "fi": 430, "nl": 299, "sv": 166, "hu": 126}


def test_the_real_descriptions_of_bookworm() -> None:
    folder = cache_dir() / "debian-descriptions"
    if not (folder / "about.json").is_file():
        pytest.skip("the package descriptions are not in the cache: kilter fetch debian-descriptions")
    about = json.loads((folder / "about.json").read_text("utf-8"))
    if about["codename"] != "bookworm":
        pytest.skip(f"the cache has those of {about['codename']}, and the counts are bookworm's")
    found = about["documents"]
    assert found["en"] == pytest.approx(61_486, rel=0.02)
    assert {name: found[name] for name in COUNTS} == pytest.approx(COUNTS, rel=0.02)
    spanish = descriptions(["es"])["es"]
    assert len(spanish) == found["es"]
    assert all(one.sentences and len(one.id) == 32 for one in spanish)
    assert len({one.section for one in spanish}) > 30
