"""Paper cards are true: read without imports, one slug, names that exist, a citation that parses."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kilter
from kilter.core.paper import Claim, Paper, cards

PACKAGE = Path(kilter.__file__).parent
CARDS = cards()


def homes() -> dict[str, tuple[str, str]]:
    """Family and module of each card, by slug."""
    found = {}
    for path in PACKAGE.glob("*/*.py"):
        if slug := re.search(r'^PAPER = Paper\(\s+slug="([^"]+)"', path.read_text(encoding="utf-8"), re.M):
            found[slug[1]] = (path.parent.name, path.stem)
    return found


def test_cards_are_found_without_torch() -> None:
    code = "import sys; from kilter.core.paper import cards; print(*cards()); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(CARDS)
    assert set(CARDS) == set(homes())
    assert "align-with-purpose" in CARDS


@pytest.mark.parametrize("slug", CARDS)
def test_a_card_is_true(slug: str) -> None:
    card, (family, module) = CARDS[slug], homes()[slug]
    assert module == slug.replace("-", "_")
    assert card == importlib.import_module(f"kilter.{family}.{module}").PAPER
    package = importlib.import_module(f"kilter.{family}")
    assert set(card.names) <= set(package.__all__)
    assert all(getattr(package, name) for name in card.names)
    assert card.title.strip() == card.title
    assert card.authors
    assert 1990 < card.year < 2100
    assert card.url.startswith("https://")
    assert card.lever in {"objective", "decoder", "module", "curator"}
    assert card.purpose
    assert "\n" not in card.purpose
    for claim in card.claims:
        assert claim.better in {"lower", "higher"}
        assert claim.arm != claim.baseline


@pytest.mark.parametrize("slug", CARDS)
def test_citations_parse(slug: str) -> None:
    text = CARDS[slug].bibtex()
    assert re.match(r"@inproceedings\{[a-z0-9-]+,\n", text), text
    assert text.count("{") == text.count("}")
    assert dict(re.findall(r"^  (\w+) = \{(.*)\},$", text, re.M))["year"] == str(CARDS[slug].year)


def test_citation_by_hand() -> None:
    card = Paper("on-y", "On Y", ("Ada M. King", "Bo"), 1843, "V", "https://x", "module", "-", (), arxiv="1.2")
    text = card.bibtex()
    assert "author = {King, Ada M. and Bo}" in text
    assert "@inproceedings{king1843on," in text
    assert "eprint = {1.2}" in text


def test_claims_have_defaults() -> None:
    assert Claim("wer", "lower", baseline="a", arm="b").guard is None
