"""Scorers by name, and VADER out of its wheel: what they say, whom they learnt from, and names that are none."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from kilter.data import hh_harmless, scorers, vader
from kilter.data.assets import ASSETS, Asset, credits_of, status
from kilter.data.bbh import exact_match
from kilter.data.hh_harmless import PreferencePair
from kilter.data.scorers import SCORERS, held_out_accuracy, scorer, scorer_digest

REAL = Path(os.environ.get("KILTER_DATA") or "nowhere") / "hh-harmless"
MODULE = """
class SentimentIntensityAnalyzer:
    def polarity_scores(self, text):
        return {"compound": len(text) / 10, "neg": 0.0}
"""


@pytest.fixture
def forgetful():
    """What is kept between calls is not, before and after a test."""
    kept = (vader._analyser, scorers._learnt, scorers._parts)
    for one in kept:
        one.cache_clear()
    yield
    for one in kept:
        one.cache_clear()


@pytest.mark.usefixtures("forgetful")
def test_the_module_of_the_asset_is_asked(tmp_path, monkeypatch) -> None:
    (tmp_path / "vader").mkdir()
    (tmp_path / "vader" / "vaderSentiment.py").write_text(MODULE, "utf-8")
    sums = {"vaderSentiment.py": sha256(MODULE.encode()).hexdigest()}
    monkeypatch.setattr(Asset, "checksums", lambda self: sums)
    monkeypatch.setenv("KILTER_DATA", str(tmp_path))
    said = [{"role": "assistant", "content": "no"}]
    assert scorer("vader")(prompts=["?", "?"], completions=["good", said], completion_ids=[[1], [2]]) == [0.4, 0.2]


@pytest.mark.skipif(not status("vader")["present"], reason="needs the wheel vaderSentiment: kilter fetch vader")
@pytest.mark.usefixtures("forgetful")
def test_the_real_lexicon() -> None:
    """The examples of the authors' own readme."""
    texts = ["VADER is smart, handsome, and funny.", "VADER is not smart, handsome, nor funny.", "", "The chair"]
    assert vader.vader(texts) == [0.8316, -0.7424, 0.0, 0.0]


@pytest.mark.usefixtures("forgetful")
def test_a_reward_and_a_judge_learn_from_different_pairs(monkeypatch) -> None:
    def pairs(chosen: str, rejected: str, count: int) -> list[PreferencePair]:
        return [PreferencePair([{"role": "user", "content": "?"}], chosen, rejected)] * count

    parts = hh_harmless.Parts(pairs("red", "blue", 3), pairs("blue", "red", 3), pairs("red", "blue", 2))
    monkeypatch.setattr(scorers, "hh_pairs", lambda: [])
    monkeypatch.setattr(scorers, "hh_parts", lambda pairs: parts)
    assert (held_out_accuracy(), held_out_accuracy("judge")) == (1, 0)
    reward, judge = scorer("bradley-terry"), scorer("bradley-terry", "judge")
    (red, blue), (other_red, other_blue) = reward(["red", "blue"]), judge(["red", "blue"])
    assert red > blue
    assert other_blue > other_red
    assert scorer("bradley-terry", "reward") is reward
    assert scorer("exact-match", "judge") is exact_match


def test_scorers_are_told_apart_and_credited() -> None:
    found = [scorer_digest(name, role) for name in SCORERS for role in ("reward", "judge")]
    assert len(set(found)) == len(SCORERS) + 1  # of Bradley and Terry there are two
    assert ASSETS["vader"].digest() in scorer_digest("vader")
    assert "C. J. Hutto" in credits_of(filter(None, SCORERS.values()))


@pytest.mark.usefixtures("own_messages")
def test_other_names_and_roles_are_named() -> None:
    for call in (scorer, scorer_digest):
        with pytest.raises(ValueError, match=r"name must be one of bradley-terry, vader, exact-match, got 'vadr'; did"):
            call("vadr")
        with pytest.raises(ValueError, match="role must be one of reward, judge, got 'jury'"):
            call("vader", "jury")
    with pytest.raises(ValueError, match="role must be one of reward, judge"):
        held_out_accuracy("jury")


@pytest.mark.skipif(not REAL.is_dir(), reason="KILTER_DATA names no folder with the real pairs")
def test_people_are_followed_better_than_chance() -> None:
    """Of 500 pairs that neither learnt from, by more than three standard errors."""
    for role in ("reward", "judge"):
        assert 0.57 < held_out_accuracy(role) < 0.7
