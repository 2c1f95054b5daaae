"""Word spans by hand, for every kind of vocabulary; what cannot be aligned is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kilter.models.aligning import Aligned, align, check_fit
from kilter.models.recogniser import Recogniser
from tests.own import LETTERS, letter_model, word_model

SHIFT, OFFSET = 0.02, 0.005


class Scripted(Recogniser):
    """A recogniser whose model is sure, with probability 0.9, of a path of tokens given as text."""

    def __init__(self, base: Recogniser, paths: list[list[int]]) -> None:
        super().__init__(base.model, base.features, base.tokenizer)
        self.paths = paths

    def outputs(self, rows: Any) -> Any:
        size = len(self.tokenizer)
        paths = [self.paths[int(row["id"])] for row in rows]
        frames = max(map(len, paths))
        log_probs = torch.full((len(rows), frames, size), 0.1 / (size - 1)).log()
        for row, path in enumerate(paths):
            log_probs[row, range(len(path)), path] = torch.tensor(0.9).log()
        return log_probs, torch.tensor([len(path) for path in paths]), SHIFT, OFFSET


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return Recogniser.load(letter_model(tmp_path_factory.mktemp("own") / "letters"))


def row(place: int, text: str = "", samples: int = 4000) -> dict[str, Any]:
    return {"id": str(place), "audio": np.zeros(samples, dtype=np.float32), "text": text}


def spell(path: str) -> list[int]:
    return [0 if letter == "." else LETTERS.index(letter) for letter in path]


def edges(found: Aligned) -> list[tuple[str, int, int]]:
    """Words with the frame they start with and the frame after their last."""
    return [
        (word.word, round((word.start - OFFSET) / SHIFT), round((word.end - OFFSET) / SHIFT)) for word in found.words
    ]


def test_letters_by_hand(letters: Recogniser) -> None:
    """A word is from its first letter's first frame to its last letter's last; the delimiter belongs to none."""
    scripted = Scripted(letters, [spell("..AA.B..|.CCC.")])
    (forced,) = align(scripted, [row(0, "AB  C")])
    assert edges(forced) == [("AB", 2, 6), ("C", 10, 13)]
    assert (forced.text, forced.heard, forced.seconds) == ("AB C", False, 0.5)
    assert [word.score for word in forced.words] == pytest.approx([0.9, 0.9])
    (heard,) = align(scripted, [row(0)])
    assert heard.heard
    assert (heard.text, edges(heard)) == ("AB C", edges(forced))


def test_what_is_heard_but_no_word_is_marked(letters: Recogniser) -> None:
    assert edges(next(align(Scripted(letters, [[*spell("A|"), 0, 3]]), [row(0)]))) == [
        ("A", 0, 1),
        ("<unk>", 3, 4),
    ]


def test_the_text_has_the_last_word(letters: Recogniser) -> None:
    """The model hears something else; the text's words are put where they fit best, and the score says how badly."""
    scripted = Scripted(letters, [spell("..AA.B..|.CCC.")])
    (found,) = align(scripted, [row(0, "AB D")])
    assert [word.word for word in found.words] == ["AB", "D"]
    assert found.words[0].score == pytest.approx(0.9)
    assert found.words[1].score < 0.05


def test_repeated_letters_and_neighbours_without_a_pause(letters: Recogniser) -> None:
    scripted = Scripted(letters, [spell("A.A|AB")])
    assert edges(next(align(scripted, [row(0, "AA AB")]))) == [("AA", 0, 3), ("AB", 4, 6)]


def test_texts_and_none_in_one_batch_and_in_any_batch(letters: Recogniser) -> None:
    scripted = Scripted(letters, [spell("AB|C"), spell("..D....."), spell("....")])
    rows = [row(0, "AB C"), row(1), row(2)]
    together = list(align(scripted, rows))
    assert [found.text for found in together] == ["AB C", "D", ""]
    assert together == list(align(scripted, rows, batch_size=1))
    assert edges(together[1]) == [("D", 2, 3)]


def test_whole_words(tmp_path: Path) -> None:
    recogniser = Recogniser.load(word_model(tmp_path / "words"))
    one, two = recogniser.tokenizer("one two").input_ids
    scripted = Scripted(recogniser, [[0, one, one, two, 0, two]])
    assert edges(next(align(scripted, [row(0, "one two two")]))) == [("one", 1, 3), ("two", 3, 4), ("two", 5, 6)]


def test_word_pieces(tmp_path: Path, letters: Recogniser) -> None:
    """Pieces with the mark of sentencepiece: a word of several pieces spans them, from the marked one on."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<pad>", "\u2581ka", "ra", "\u2581o", "ke", "<unk>"]
    unigram = Tokenizer(models.Unigram([(piece, -1.0 - place) for place, piece in enumerate(pieces)], unk_id=5))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=unigram, pad_token="<pad>", unk_token="<unk>")
    assert tokenizer("kara oke").input_ids == [1, 2, 3, 4]
    scripted = Scripted(Recogniser(letters.model, letters.features, tokenizer), [[0, 1, 0, 2, 2, 3, 0, 0, 4, 0]])
    assert edges(next(align(scripted, [row(0, "kara oke")]))) == [("kara", 1, 5), ("oke", 5, 9)]


def test_times_are_those_of_hearing(letters: Recogniser) -> None:
    """A word of one letter ends, at the earliest, when `hear` has it."""
    scripted = Scripted(letters, [spell(".A..|B")])
    (heard,), (found,) = scripted.hear([row(0)]), align(scripted, [row(0)])
    assert [word.time for word in heard.words] == [word.end for word in found.words]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (row(0, "AABB", 4000), r"^0: the text needs at least 6 frames of 20 ms and the recording has 4"),
        (row(0, "AZ"), "^0: the tokenizer does not know every letter or word of 'AZ'"),
        (row(0, "A", 3), "^0: 3 samples at 8000 Hz give the model no frame"),
    ],
)
def test_what_cannot_be_aligned_is_named(letters: Recogniser, bad: dict[str, Any], said: str) -> None:
    scripted = Scripted(letters, [spell("AB.."), spell(".A")])
    with pytest.raises(ValueError, match=said):
        list(align(scripted, [bad, row(1, "A")]))
    skipped, good = align(scripted, [bad, row(1, "A")], skip_bad=True)
    assert skipped.words == []
    assert skipped.problem.startswith("0: ")
    assert edges(good) == [("A", 1, 2)]


def test_what_cannot_fit_is_told_beforehand(letters: Recogniser) -> None:
    check_fit(letters, [("row 1", "AB CAD", 4000), ("row 2", "", 4000)])
    frames = letters.frame_counts([4000])[0]
    check_fit(letters, [("row 1", ("AB" * frames)[:frames], 4000)])
    with pytest.raises(ValueError, match=f"row 2: the text needs at least {frames + 1} frames of 2 ms and the"):
        check_fit(letters, [("row 1", "A", 4000), ("row 2", ("AB" * frames)[: frames + 1], 4000)])
    with pytest.raises(ValueError, match="row 1: 3 samples at 8000 Hz give the model no frame"):
        check_fit(letters, [("row 1", "", 3)])


def test_a_real_model_gives_frames_within_the_recording(letters: Recogniser) -> None:
    audio = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    (found,) = align(letters, [{"id": "a", "audio": audio, "text": "AB CAB"}])
    assert [word.word for word in found.words] == ["AB", "CAB"]
    times = [time for word in found.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= 1.0
    assert all(0 < word.score <= 1 for word in found.words)
    assert json.dumps(found.words)


@pytest.mark.parametrize("text", ["AB", ""])
def test_a_model_that_says_nan_is_not_heard_as_silence(text: str, letters: Recogniser) -> None:
    class Broken(Scripted):
        def outputs(self, rows: Any) -> Any:
            log_probs, *rest = super().outputs(rows)
            for place, one in enumerate(rows):
                if one["id"] == "1":
                    log_probs[place, 2] = torch.nan
            return log_probs, *rest

    broken = Broken(letters, [spell(".AB."), spell(".AB."), spell(".AB.")])
    rows = [row(place, text) for place in range(3)]
    found = [*align(broken, rows, skip_bad=True)]
    assert [edges(one) for one in found] == [[("AB", 1, 3)], [], [("AB", 1, 3)]]
    assert found[1].problem.startswith("1: the model says NaN of it; its weights are damaged")
    heard = [*broken.hear(rows, skip_bad=True)]
    assert [one.text for one in heard] == ["AB", "", "AB"]
    assert heard[1].problem == found[1].problem
    for raising in (align(broken, rows), broken.hear(rows)):
        with pytest.raises(ValueError, match=r"^1: the model says NaN"):
            list(raising)
