"""The ledger: each claim of each card with a verdict or a reason; all evidence of a method; what has changed since."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from kilter.core.paper import Claim, cards, method_file
from kilter.lab import evidence
from kilter.lab.evidence import VERDICTS, changed, claims_of, ledger, places, recorded, verdict
from kilter.lab.provenance import changed_since

ROOT = Path(__file__).parents[2]
DELAY = Claim("delay_ms", "lower", "ctc", "awp", by=150.0, guard=("wer", 0.5), text="earlier")


def record(preset: str, subject: str, *verdicts: str, claim: Claim = DELAY) -> dict[str, Any]:
    found = [{"claim": "AWP beats CTC", "verdict": word, "why": f"{preset} {word}", **claim.key} for word in verdicts]
    return {"preset": preset, "data": {"title": subject.upper(), "subject": subject}, "verdicts": found}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Evidence in the place of that which is recorded."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(evidence, "recorded", lambda slug: found)
    return found


def test_every_claim_of_every_card_has_a_verdict_or_a_reason() -> None:
    lines = ledger()
    for card in cards().values():
        own = [line for line in lines if line.method == card.slug]
        assert {claim.text for claim in card.claims} <= {line.claim for line in own}
        waits = not recorded(card.slug)  # a new method's claims wait for its first run
        for line in own:
            assert not (line.verdict and line.reason)
            assert line.verdict or line.reason or waits, (
                f"{card.slug}: {line.claim!r} has neither verdict nor reason: record a run that tries it "
                f"(kilter run {card.slug} --record), or say on the card why it cannot be tried here"
            )
            assert line.verdict in {*VERDICTS, ""}
            assert bool(line.ours) == bool(line.where) == bool(line.file) == bool(line.verdict)


def test_every_recorded_verdict_is_in_the_ledger() -> None:
    for slug in cards():
        found = [(name, item["why"]) for name, one in recorded(slug).items() for item in one["verdicts"]]
        assert sorted(found) == sorted((line.file, line.ours) for line in ledger() if line.method == slug if line.ours)


def test_all_files_of_a_method_are_read_and_full_comes_first() -> None:
    files = {file.stem for file in (ROOT / "evidence").glob("*.json")}
    assert set().union(*map(recorded, cards())) == files
    assert next(iter(recorded("align-with-purpose"))) == "align-with-purpose"
    assert recorded("align-with") == {}, "part of a name is no method"


def test_a_claim_without_a_run_waits(kept: dict[str, Any]) -> None:
    (line, *_) = claims_of(cards()["align-with-purpose"])
    assert (line.verdict, line.reason) == ("", "")
    assert verdict("align-with-purpose") == "no evidence yet"


def test_presets_that_speak_to_one_claim_are_a_line_each(kept: dict[str, Any]) -> None:
    card = cards()["align-with-purpose"]
    claim = card.claims[0]
    kept["a"] = record("full", "digits", "holds", claim=claim)
    kept["a-b"] = record("b", "captions", "contradicted", claim=claim)
    other = Claim("delay_ms", "lower", "ctc", "awp", by=claim.by + 1, guard=claim.guard)
    kept["a-c"] = record("c", "digits", "not seen here", claim=other)  # of another size: the run's own
    lines = claims_of(card)
    assert [(one.verdict, one.where, one.file) for one in lines if one.claim == claim.text] == [
        ("holds", "digits", "a"),
        ("contradicted", "captions", "a-b"),
    ]
    assert (lines[-1].claim, lines[-1].published, lines[-1].where) == ("AWP beats CTC", "", "digits, preset c")


@pytest.mark.parametrize(
    ("presets", "said"),
    [
        ([("full", "digits", "contradicted", "holds")], "holds; contradicted"),
        ([("full", "digits", "holds"), ("b", "captions", "holds")], "holds"),
        ([("full", "digits", "holds"), ("b", "captions", "contradicted")], "holds; contradicted on captions"),
        (
            [("full", "digits", "holds"), ("b", "captions", "contradicted"), ("c", "digits", "contradicted")],
            "holds; contradicted on captions and digits, preset c",
        ),
        ([("b", "captions", "not seen here")], "not seen here on captions"),
        ([("full", "digits")], "no verdict"),
    ],
)
def test_the_verdict_in_a_few_words(presets: list[tuple[str, ...]], said: str, kept: dict[str, Any]) -> None:
    kept |= {preset: record(preset, *words) for preset, *words in presets}
    assert verdict("anything") == said


def test_evidence_without_a_word_for_its_data_is_called_by_their_title() -> None:
    old = record("full", "digits", "holds")
    del old["data"]["subject"]
    assert places({"a": old}) == {"a": "DIGITS"}


@pytest.mark.parametrize("commit", [None, "", "abc1234-dirty", "0" * 40, "--output=x"])
def test_what_changed_since_is_not_known_of_such_commits(commit: str | None) -> None:
    assert changed_since(commit, [method_file("rankgen")]) is None


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_what_changed_since_a_commit_is_named() -> None:
    file = Path("src/kilter/core/paper.py")
    log = ["git", "-C", str(ROOT), "log", "--format=%H", "--", str(file)]
    commits = subprocess.run(log, capture_output=True, text=True, check=True).stdout.split()
    if len(commits) < 2:
        pytest.skip("a checkout without its history")
    assert changed_since(commits[-1], [ROOT / file]) == [file.as_posix()]
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert changed_since(head.stdout.strip(), [ROOT / "LICENSE"]) == []


def test_method_recipe_and_tasks_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(evidence, "changed_since", lambda commit, files: asked.extend(files) or [])
    monkeypatch.setattr(evidence, "_imported", lambda file, floor: ["kilter.tasks.reading"])
    assert changed({"commit": "abc1234", "method": "rankgen"}) == []
    package = ROOT / "src" / "kilter"
    assert [file.relative_to(package).as_posix() for file in asked] == [
        "decoding/rankgen.py",
        "recipes/rankgen.py",
        "tasks/reading.py",
    ]
    asked.clear()
    changed({"commit": "abc1234", "method": "rankgen", "settings": {"borrowed": {"diverse-beam-search": {}}}})
    names = {file.relative_to(package).as_posix() for file in asked}
    assert {"decoding/diverse_beam_search.py", "recipes/diverse_beam_search.py", "decoding/rankgen.py"} < names
