"""Pairs of HH: where prompt and answers part, parts that share no question, and files that are not theirs."""

import gzip
import json
import os
from pathlib import Path

import pytest

from kilter.data.hh_harmless import FILE, PreferencePair, hh_pairs, hh_parts, split_pair

REAL = Path(os.environ.get("KILTER_DATA") or "nowhere") / "hh-harmless"
ASKED = "\n\nHuman: Is it raining?\n\nAssistant:"


def write(folder: Path, rows: list) -> Path:
    with gzip.open(folder / FILE, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


def pair(question: str, chosen: str = "No.", rejected: str = "Go away.") -> PreferencePair:
    return PreferencePair([{"role": "user", "content": question}], chosen, rejected)


def test_a_pair_is_cut_after_the_last_turn_that_both_share() -> None:
    shared = f"{ASKED} Where?\n\nHuman: In Rome.\n\nAssistant:"
    found = split_pair(f"{shared} No, it is dry. ", f"{shared} No, go\n\nHuman: What?\n\nAssistant: away.")
    assert [one["role"] for one in found.prompt] == ["user", "assistant", "user"]
    assert [one["content"] for one in found.prompt] == ["Is it raining?", "Where?", "In Rome."]
    assert (found.chosen, found.rejected) == ("No, it is dry.", "No, go\n\nHuman: What?\n\nAssistant: away.")


def test_turns_of_one_speaker_in_a_row_are_one() -> None:
    found = split_pair(
        "\n\nHuman: Hm.\n\nHuman: Rain?\n\nAssistant: No", "\n\nHuman: Hm.\n\nHuman: Rain?\n\nAssistant:"
    )
    assert found == PreferencePair([{"role": "user", "content": "Hm.\n\nRain?"}], "No", "")


def test_a_row_is_what_trl_trains_on() -> None:
    assert pair("Rain?").row() == {
        "prompt": [{"role": "user", "content": "Rain?"}],
        "chosen": [{"role": "assistant", "content": "No."}],
        "rejected": [{"role": "assistant", "content": "Go away."}],
    }


def test_parts_share_no_question_and_leave_out_what_says_nothing() -> None:
    pairs = [pair(f"question {place % 9}", chosen=f"answer {place}") for place in range(36)]
    empty = pair("nothing", rejected="")
    parts = hh_parts([*pairs, empty], sizes=(8, 4, 8))
    assert parts == hh_parts([empty, *pairs], sizes=(8, 4, 8))
    assert [*map(len, parts)] == [8, 4, 8]
    asked = [{one.prompt[0]["content"] for one in part} for part in parts]
    assert len(asked[0] | asked[1] | asked[2]) == sum(map(len, asked))
    assert "nothing" not in asked[0] | asked[1] | asked[2]
    with pytest.raises(ValueError, match=r"sizes=\(30, 4, 8\): 36 pairs are too few for parts that share no question"):
        hh_parts(pairs, sizes=(30, 4, 8))


@pytest.mark.parametrize(
    "second",
    [{"chosen": ASKED}, ["chosen", "rejected"], {"chosen": ASKED, "rejected": 3}, {"chosen": "Yes", "rejected": "No"}],
)
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, second: object) -> None:
    good = {"chosen": f"{ASKED} No.", "rejected": f"{ASKED} Yes."}
    with pytest.raises(
        ValueError, match=r"harmless-base-test\.jsonl\.gz, line 2: no pair .*`kilter fetch hh-harmless`"
    ):
        hh_pairs(folder=write(tmp_path, [good, second]))


def test_a_file_that_is_missing_or_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1: no pair of dialogues .*No such file"):
        hh_pairs(folder=tmp_path)
    (tmp_path / FILE).write_bytes(b"not gzip")
    with pytest.raises(ValueError, match="line 1: no pair of dialogues"):
        hh_pairs(folder=tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="KILTER_DATA names no folder with the real pairs")
def test_the_real_pairs() -> None:
    pairs = hh_pairs()
    assert len(pairs) == 2312
    assert sum(not (one.chosen and one.rejected) for one in pairs) == 4
    assert all(one.prompt[-1]["role"] == "user" and one.chosen != one.rejected for one in pairs)
    roles = [[turn["role"] for turn in one.prompt] for one in pairs]
    assert all(row == ["user", "assistant"] * (len(row) // 2) + ["user"] for row in roles)
    assert [*map(len, hh_parts(pairs))] == [900, 900, 500]
