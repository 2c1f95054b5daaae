"""What would stop training or alignment in the middle is told beforehand, for each recording."""

import pytest

from kilter.models.fitting import Given, problems
from kilter.models.recogniser import Recogniser
from tests.own import letter_model

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return Recogniser.load(letter_model(tmp_path_factory.mktemp("own") / "letters"))


def test_every_recording_has_its_own_problem(letters: Recogniser) -> None:
    frames = letters.frame_counts([4000])[0]
    rows = [
        Given("row 0", "A bad cab", 4000),
        Given("row 1", "", 4000),
        Given("row 2", "AZ", 4000),
        Given("row 3", "A", 3),
        Given("row 4", ("AB" * frames)[:frames], 4000),
        Given("row 5", ("AB" * frames)[: frames + 1], 4000),
        Given("row 6", "A" * (frames // 2 + 1), 4000),  # each of these needs a blank before the next
        Given("row 7", "\u00a0\n", 4000),
    ]
    found = problems(letters, rows, need_text=True)
    assert [place for place, why in enumerate(found) if not why] == [0, 4]
    assert "row 1: its text is empty" in found[1]
    assert "row 7: its text is empty" in found[7]
    assert "row 2: the tokenizer does not know" in found[2]
    assert "row 3: 3 samples at 8000 Hz give the model no frame" in found[3]
    for place in (5, 6):
        assert f"row {place}: the text needs at least" in found[place]
        assert f"and the recording has {frames}" in found[place]
    assert [bool(why) for why in problems(letters, rows)] == [False, False, True, True, False, True, True, False]
    short = [bool(why) for why in problems(letters, rows, fit=False)]
    assert short == [False, False, True, True, False, False, False, False]
