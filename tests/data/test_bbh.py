"""Exact questions: what is read, what counts as the answer, and files that are not theirs."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from kilter.data.bbh import SHORT, TASKS, ExactQuestion, bbh_questions, exact_match

REAL = Path(os.environ.get("KILTER_DATA") or "nowhere") / "bbh"


def write(folder: Path, task: str, rows: object) -> Path:
    (folder / f"{task}.json").write_text(json.dumps({"canary": "", "examples": rows}), "utf-8")
    return folder


def test_questions_of_several_tasks_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, "navigate", [{"input": " Back?\n", "target": "Yes"}])
    write(tmp_path, "word_sorting", [{"input": "b a", "target": "a b"}, {"input": "d c", "target": "c d"}])
    found = bbh_questions(["word_sorting", "navigate"], folder=tmp_path)
    assert found[1:] == [ExactQuestion("word_sorting", "d c", "c d"), ExactQuestion("navigate", "Back?", "Yes")]


@pytest.mark.parametrize(
    ("said", "right", "expected"),
    [
        ("True", "True", 1),
        (" true.\n", "True", 1),
        ("True, I think", "True", 0),
        ("False", "True", 0),
        ("", "True", 0),
        ("a  b", "a b", 1),
        ("12", "1", 0),
        ([{"role": "assistant", "content": "Yes"}], [{"role": "assistant", "content": "yes"}], 1),
    ],
)
def test_an_answer_is_right_if_it_says_no_more_and_no_less(said: object, right: object, expected: int) -> None:
    assert exact_match(completions=[said], chosen=[right], prompts=["?"]) == [expected]


def test_other_tasks_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tasks: BIG-Bench Hard has no 'navigat'; did you mean 'navigate'"):
        bbh_questions(["navigat"], folder=tmp_path)
    for rows in ([{"input": "?"}], [["?", "!"]], [{"input": 3, "target": "3"}], None):
        with pytest.raises(ValueError, match=r"navigate\.json: not a task of BIG-Bench Hard .*`kilter fetch bbh`"):
            bbh_questions(["navigate"], folder=write(tmp_path, "navigate", rows))
    with pytest.raises(ValueError, match=r"snarks\.json: not a task .*No such file"):
        bbh_questions(["snarks"], folder=tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="KILTER_DATA names no folder with the real tasks")
def test_the_real_tasks() -> None:
    found = bbh_questions(TASKS)
    counts = Counter(one.task for one in found)
    assert (len(counts), len(found), min(counts.values()), max(counts.values())) == (27, 6511, 146, 250)
    assert set(SHORT) < set(TASKS)
    assert all(one.question and len(one.answer) <= 5 for one in found if one.task in SHORT)
