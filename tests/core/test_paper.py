"""Paper cards are true: read without imports, one slug, names that exist, a citation that parses."""

import ast
import importlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kilter
from kilter.core.errors import UsageError
from kilter.core.paper import Claim, Paper, cards, method_card, method_file

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
    assert card.claims
    for claim in card.claims:
        assert claim.text
        assert claim.text[0].islower(), "a claim stands in the middle of a sentence"
        assert claim.reason or (claim.better in {"lower", "higher"} and claim.arm != claim.baseline)
    assert len({claim.text for claim in card.claims}) == len(card.claims)


@pytest.mark.parametrize("slug", CARDS)
def test_the_maths_comes_before_the_card(slug: str) -> None:
    last = ast.parse(method_file(slug).read_text(encoding="utf-8")).body[-1]
    assert ast.unparse(last).startswith("PAPER = Paper(")


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


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({"text": "it is better"}, "or the reason"),
        ({"text": "it is better", "metric": "wer"}, "give metric, better, baseline and arm"),
        ({"text": "x", "metric": "wer", "better": "lower", "baseline": "a", "arm": "b", "reason": "y"}, "one of them"),
        ({"reason": "needs people"}, "needs text"),
        ({"metric": "wer", "better": "lower", "baseline": "a", "arm": "b", "times": 2.0}, "times"),
    ],
)
def test_a_claim_is_tried_or_says_why_not(claim: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Claim(**claim)


def test_a_claim_is_found_again_by_what_it_compares() -> None:
    one = Claim("wer", "lower", baseline="a", arm="b", by=1.0, guard=("cer", 0.5))
    kept = {"metric": "wer", "better": "lower", "arm": "b", "baseline": "a", "by": 1.0, "guard": ["cer", 0.5]}
    assert json.loads(json.dumps(one.key)) == one.key == kept
    assert replace(one, text="in other words", published="5 %").key == one.key
    assert replace(one, by=2.0).key != one.key
    assert "by" not in Claim("wer", "higher", "a", "b", times=2.0).key


def test_an_unknown_method_has_the_nearest_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'rankgen'"):
        method_card("rankgne")
