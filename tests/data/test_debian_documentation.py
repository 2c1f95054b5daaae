"""Domains of documentation, from an apt and packages that are made here: nothing is downloaded."""

import gzip
import io
import json
import os
import re
import sys
import tarfile
from pathlib import Path

import pytest

from kilter.data.apt_documentation import DOMAINS, fetch_documentation
from kilter.data.assets import ASSETS, cache_dir, locate, status
from kilter.data.debian_documentation import TARGET, documentation_domains, locate_documentation
from tests.made_documentation import WORDS, made_debian_documentation, made_documentation

PAGE = "<html><head><title>It is not prose at all.</title></head><body><nav>Go to the next page, please.</nav>"
PACKAGES: dict[str, dict[str, bytes]] = {
    "anarchism": {
        "usr/share/doc/anarchism/html/b.html": f"{PAGE}<h1>B</h1><p>The second page is about work.".encode(),
        "usr/share/doc/anarchism/html/a.html": f"{PAGE}<h1>A</h1><p>The first page is about freedom.".encode(),
        "usr/share/doc/anarchism/changelog.gz": gzip.compress(b"This is about no part of it."),
    },
    "python3.9-doc": {"usr/share/doc/python3.9/html/library/re.html": b"<p>This is an old version of it."},
    "python3.11-doc": {"usr/share/doc/python3.11/html/library/re.html": "<p>This is naïve: a pattern.".encode()},
    "dict-foldoc": {
        "usr/share/dictd/foldoc.dict.dz": gzip.compress(b"bit\n\n   <unit> A {binary} digit of a number.\n")
    },
    "fortunes": {"usr/share/games/fortunes/work": b"Work is done.\n%\n"},
    "manpages": {"usr/share/man/man7/ip.7.gz": gzip.compress(b".SH NAME\nIt is about a network\nof hosts.\n")},
    "manpages-dev": {"usr/share/man/man3/sin.3.gz": gzip.compress(b"It is about an angle's sine.\n")},
}
"""`fortunes` alone is not what its domain is made of."""
APT = """#!{python}
import re, shutil, sys
from pathlib import Path
settings = Path(sys.argv[sys.argv.index("-c") + 1]).read_text()
lists, mirror = Path(re.search('Dir::State "(.*)"', settings)[1], "lists"), Path({mirror!r})
if "update" in sys.argv:
    assert '"none";' in settings
    for file in mirror.glob("mirror_*"):
        shutil.copy(file, lists)
elif "download" in sys.argv:
    for name in sys.argv[sys.argv.index("download") + 1 :]:
        found = [*mirror.glob(name + "_*.deb")]
        if not found:
            sys.exit("E: Unable to locate package " + name)
        shutil.copy(found[0], ".")
else:
    form = sys.argv[sys.argv.index("--format") + 1]
    values = dict(CREATED_BY="Packages", ORIGIN="Debian", RELEASE="stable", CODENAME="bookworm", VERSION="12.15")
    values |= dict(FILENAME=str(lists / "mirror_dists_stable_main_Packages"), LANGUAGE="")
    print(re.sub(r"\\$\\((\\w+)\\)", lambda name: values.get(name[1], name[0]), form))
"""
DPKG = """#!{python}
import sys
data = open(sys.argv[2], "rb").read()
sys.exit("dpkg-deb: error: unexpected end of file") if data == b"broken" else sys.stdout.buffer.write(data)
"""


def write_package(mirror: Path, name: str, files: dict[str, bytes]) -> None:
    with tarfile.open(mirror / f"{name}_1%3a2.0-1_all.deb", "w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(f"./{path}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A machine whose apt knows a mirror of seven packages, as a folder."""
    tools, mirror = tmp_path / "tools", tmp_path / "mirror"
    tools.mkdir()
    mirror.mkdir()
    for name, files in PACKAGES.items():
        write_package(mirror, name, files)
    stanzas = "\n".join(f"Package: {name}\nVersion: 1:2.0-1\n" for name in PACKAGES)
    (mirror / "mirror_dists_stable_main_Packages").write_text(stanzas, "utf-8")
    (mirror / "mirror_dists_stable_InRelease").write_text("Suite: stable\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n")
    for tool, program in (("apt-get", APT), ("dpkg-deb", DPKG)):
        (tools / tool).write_text(program.format(python=sys.executable, mirror=str(mirror)))
        (tools / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KILTER_DATA", raising=False)
    return mirror


pytestmark = pytest.mark.skipif(os.name == "nt", reason="apt is Debian's")


def test_prose_of_each_domain_by_file_and_of_the_newest_version(mirror) -> None:
    assert not status("debian-documentation")["present"]
    assert documentation_domains() == {
        "politics": ["The first page is about freedom.", "The second page is about work."],
        "python": ["This is naïve: a pattern."],
        "computing": ["A binary digit of a number."],
        "manual-pages": ["It is about a network of hosts.", "It is about an angle's sine."],
    }
    assert [*documentation_domains([TARGET, "politics"])] == [TARGET, "politics"]
    assert status("debian-documentation")["present"]


def test_it_is_written_down_what_was_fetched_and_what_is_not_there(mirror) -> None:
    folder = locate("debian-documentation", progress=False).path
    about = json.loads((folder / "about.json").read_text("utf-8"))
    assert about["documents"] == {"politics": 2, "python": 1, "computing": 1, "manual-pages": 2}
    assert set(about["packages"]) == set(PACKAGES) - {"python3.9-doc", "fortunes"}
    assert set(about["packages"].values()) == {"1:2.0-1"}
    assert about["left_out"] == [name for name in DOMAINS if name not in about["documents"]]
    rows = [json.loads(line) for line in (folder / "politics.jsonl").read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == [f"usr/share/doc/anarchism/html/{page}.html 1" for page in "ab"]


def test_a_report_says_of_what_day_it_is_and_the_digest_changes_with_it(mirror) -> None:
    here = locate_documentation()
    assert here.source == "the cache (Debian 12.15 bookworm Sat, 11 Jul 2026 10:16:37 UTC)"
    assert len(here.credit()["digest"]) == 16
    (here.path / "politics.jsonl").write_text("", "utf-8")
    with pytest.raises(ValueError, match=r"politics\.jsonl: corrupt .* `kilter fetch debian-documentation`"):
        documentation_domains()


def test_a_domain_that_there_is_not_and_one_that_this_release_has_not(mirror) -> None:
    with pytest.raises(ValueError, match="no domain of documentation is called 'manualpages'; did you mean 'manual-p"):
        documentation_domains(["manualpages"])
    with pytest.raises(ValueError, match=r"no documentation of sayings, because .* lacks one of fortunes-min fortunes"):
        documentation_domains(["politics", "sayings"])


def test_a_row_that_is_none_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "debian-documentation").mkdir()
    (tmp_path / "debian-documentation" / "git.jsonl").write_text('{"id": "x"}\n', "utf-8")
    monkeypatch.setenv("KILTER_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"git\.jsonl: broken .*`kilter fetch debian-documentation`"):
        documentation_domains(["git"])


def test_a_broken_package_is_named_and_nothing_is_left(mirror) -> None:
    (mirror / "anarchism_1%3a2.0-1_all.deb").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"anarchism_.*\.deb: not a whole package \(dpkg-deb: error: unexpected end"):
        documentation_domains()
    assert not [*cache_dir().iterdir()]


def test_a_package_whose_files_have_moved_is_named(mirror) -> None:
    write_package(mirror, "anarchism", {"usr/share/doc/elsewhere/a.html": b"<p>It is another place than it was."})
    with pytest.raises(ValueError, match="anarchism: no prose found in files like doc/anarchism"):
        documentation_domains()


def test_what_apt_says_is_passed_on(mirror) -> None:
    (mirror / "anarchism_1%3a2.0-1_all.deb").unlink()
    with pytest.raises(ConnectionError, match=r"E: Unable to locate package anarchism\nCheck the connection"):
        documentation_domains()
    assert not [*cache_dir().iterdir()]


def test_sources_without_documentation(mirror) -> None:
    (mirror / "mirror_dists_stable_main_Packages").write_text("Package: broom\nVersion: 1\n", "utf-8")
    with pytest.raises(FileNotFoundError, match="no documentation packages: they need a mirror's component main"):
        documentation_domains()


@pytest.mark.parametrize("tool", ["apt-get", "dpkg-deb"])
def test_without_apt_it_is_said_where_to_fetch_it(mirror, tmp_path, tool) -> None:
    (tmp_path / "tools" / tool).unlink()
    with pytest.raises(FileNotFoundError, match=rf"^{tool} not found: .* on a Debian or Ubuntu machine"):
        fetch_documentation(tmp_path / "here", progress=False)
    assert not (tmp_path / "here").exists()


def test_every_package_has_its_licence_in_the_credits() -> None:
    packages = {package for domain in DOMAINS.values() for package in domain.packages}
    named = {re.sub(r"\\.\\d\+|-\\d\+|-en(-us)?$|-min$|-dev$", "", package) for package in packages}
    assert not [package for package in sorted(named) if package not in ASSETS["debian-documentation"].licence]


def test_the_made_up_domains_stand_in_for_the_real_ones(monkeypatch) -> None:
    made_debian_documentation(monkeypatch)
    from kilter.data import debian_documentation

    found = debian_documentation.documentation_domains(["git", TARGET])
    assert found == made_documentation(["git", TARGET])
    assert {*WORDS} <= {*DOMAINS}
    assert debian_documentation.locate_documentation().credit()["digest"]


def test_the_real_documentation_of_bookworm(monkeypatch) -> None:
    folder = cache_dir() / "debian-documentation"
    if not (folder / "about.json").is_file():
        pytest.skip("the documentation is not in the cache: kilter fetch debian-documentation")
    monkeypatch.delenv("KILTER_DATA", raising=False)
    if json.loads((folder / "about.json").read_text("utf-8"))["codename"] != "bookworm":
        pytest.skip("the cache has the documentation of another release than bookworm")
    found = documentation_domains()
    assert [*found] == [*DOMAINS]
    assert all(len(documents) >= 50 and sum(map(len, documents)) > 500_000 for documents in found.values())
    for documents in found.values():
        assert not [one for one in documents if "\n\n\n" in one or not one.strip()][:1]
