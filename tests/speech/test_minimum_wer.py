"""The minimum-WER property against a plain transcription, on characters, pieces and words, and bad input."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kilter.evaluation.word_errors import token_texts
from kilter.speech import MinimumWER, collapse, minimum_wer
from kilter.speech.minimum_wer import token_strings
from tests.speech import plain

LETTERS = ["", *"abehot", " "]
ALPHABET = [*"abcdefghijklmnopqrstuvwxyz'", " ", ""]  # of the published code: blank 28


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spell(text: str, letters: list[str] = LETTERS) -> list[int]:
    """Ids of a text; `_` is the blank."""
    blank = letters.index("")
    return [blank if c == "_" else letters.index(c) for c in text]


def mend(text: str, reference: str, letters: list[str] = LETTERS, **options: bool | int) -> str:
    """Frames as text, through the property."""
    a = torch.tensor([[spell(text, letters)]], dtype=torch.long)
    out = minimum_wer(a, torch.tensor([len(text)]), [reference], letters, blank=letters.index(""), **options)
    return "".join(letters[i] or "_" for i in out[0, 0].tolist())


def word_errors(alignment: list[int], reference: str, letters: list[str]) -> int:
    return plain.distance(plain.spoken(alignment, letters, letters.index("")), reference.split())


@pytest.mark.parametrize(
    ("frames", "reference", "expected"),
    [
        ("tt_ho", "the", "tt_he"),  # one letter
        ("ttooo", "ta", "ttaaa"),  # every frame of the letter
        ("b_oo", "ta", "t_aa"),  # two letters
        ("tho", "bat", "tho"),  # three are too many
        ("tho", "tho", "tho"),  # right already
        ("tho", "th", "tho"),  # of another length
        ("tho", "xhe", "tho"),  # cannot be spelled
        ("___", "the", "___"),
        ("tho", "", "tho"),
        ("_ _ _the__h_o", "the be", "_ _ _the__h_o"),
        ("the  _ h_o", "the to", "the  _ t_o"),  # spaces parted by blanks are one
        ("the ho", "he to", "the to"),
    ],
)
def test_by_hand(frames: str, reference: str, expected: str) -> None:
    assert mend(frames, reference) == expected


def test_an_edit_that_would_merge_is_rejected() -> None:
    """Check 8: `t h o` against "too" would become `t o o`, which collapses to "to"."""
    assert mend("tho", "too") == "tho"
    assert mend("tho", "too", strict=False) == "too"
    assert mend("th_o", "too") == "to_o"


@given(st.data())
def test_word_errors_fall(data: st.DataObject) -> None:
    """Check 8: an edited alignment has strictly fewer word errors than before; and only what may come out does."""
    frames = data.draw(st.text("aabht_ ", min_size=0, max_size=9))
    reference = data.draw(st.text("abht  ", max_size=8))
    strict, limit = data.draw(st.booleans()), data.draw(st.integers(0, 2))
    before, after = spell(frames), spell(mend(frames, reference, strict=strict, max_char_distance=limit))
    assert after in plain.minimum_wer_outcomes(before, reference, LETTERS, limit=limit, strict=strict)
    if strict:
        assert after == before or word_errors(after, reference, LETTERS) < word_errors(before, reference, LETTERS)


@given(st.data())
def test_pieces_and_words_fall_too(data: st.DataObject) -> None:
    """Check 8, for vocabularies of pieces and of words, spaces wherever: strictly fewer word errors or no edit."""
    pieces = data.draw(
        st.sampled_from(
            [
                ["", "one", "two", "six", "ten"],
                ["", " a", " b", " ab", "a", "b", "ba", " "],
                ["", "a ", "b ", "a", "b", "c"],
                ["", "a b", "a", "b", " ", "c"],
            ]
        )
    )
    frames = data.draw(st.integers(1, 7))
    a = torch.randint(len(pieces), (3, 1, frames), generator=generator(data.draw(st.integers(0, 10**6))))
    said = data.draw(st.sampled_from([[p.strip() for p in pieces if p.strip()], ["a", "b", "ab", "ba", "one"]]))
    reference = " ".join(data.draw(st.lists(st.sampled_from(said), max_size=3)))
    lengths = torch.tensor([frames])
    edited = minimum_wer(a, lengths, [reference], pieces, max_char_distance=3, generator=generator())
    before, after = (
        [plain.distance(text.split(), reference.split()) for text in token_texts([row[0] for row in rows], pieces)]
        for rows in (collapse(a, lengths), collapse(edited, lengths))
    )
    changed = (a != edited).any(-1).flatten().tolist()
    assert all(y < x if c else y == x for x, y, c in zip(before, after, changed, strict=True))


def test_words_and_pieces_by_hand() -> None:
    lengths = torch.tensor([3])
    words = ["", "one", "two", "six"]
    assert minimum_wer(torch.tensor([[[1, 0, 2]]]), lengths, ["one six"], words, max_char_distance=3).tolist() == [
        [[1, 0, 3]]
    ]
    pieces = ["", " ab", " a", "b", "c"]  # "ab" is one piece, "ac" two: not a substitution
    two = torch.tensor([[[2, 4, 0]]])
    assert torch.equal(minimum_wer(two, lengths, ["ab"], pieces, strict=False), two)
    pieces = ["", " th", " ti", "e", "o"]  # the word's first piece carries its space
    assert minimum_wer(torch.tensor([[[2, 3, 3]]]), lengths, ["the"], pieces).tolist() == [[[1, 3, 3]]]


def test_each_candidate_has_its_share() -> None:
    """One word of three is mended, each alike (chi-square, p > 0.001)."""
    a = torch.tensor(spell("ha_ta_ba")).expand(3000, 1, 8).clone()
    a[..., [2, 5]] = LETTERS.index(" ")
    edited = minimum_wer(a, torch.tensor([8]), ["he te be"], LETTERS, generator=generator())
    rows, counts = edited[:, 0].unique(dim=0, return_counts=True)
    assert len(rows) == 3
    assert stats.chisquare(counts.tolist()).pvalue > 1e-3


def test_the_published_slip() -> None:
    """With a leading space, every edit of the published code lands one letter early: " the hhat" against "the cat"."""
    assert mend(" the hhat", "the cat", ALPHABET) == " the ccat"
    assert mend(" the hhat", "the cat", ALPHABET, compat=True, strict=False) == " thechhat"
    assert mend("the hhat", "the cat", ALPHABET, compat=True, strict=False) == "the ccat"


def test_ragged_batches_leave_the_padding() -> None:
    a = torch.tensor([[spell("thooo"), spell("bohho"), spell("tt___")]])
    lengths = torch.tensor([3, 2, 0])
    edited = minimum_wer(a, lengths, ["the", "bat", "be"], LETTERS)
    assert edited.tolist() == [[spell("theoo"), spell("bohho"), spell("tt___")]]
    spoilt = a.clone()
    spoilt[0, 1, 2:] = 5
    assert torch.equal(minimum_wer(spoilt, lengths, ["the", "bat", "be"], LETTERS)[0, 0], edited[0, 0])


def test_sizes_of_nothing() -> None:
    for shape in [(0, 2, 3), (2, 0, 3), (2, 2, 0)]:
        a = torch.zeros(shape, dtype=torch.long)
        out = minimum_wer(a, torch.zeros(shape[1], dtype=torch.long), ["a"] * shape[1], LETTERS)
        assert out.shape == shape


def test_strides_dtypes_and_the_input() -> None:
    a = torch.randint(len(LETTERS), (4, 2, 8), generator=generator())
    references, lengths, before = ["the bat", "a hat"], torch.tensor([8, 6]), a.clone()
    expected = minimum_wer(a, lengths, references, LETTERS, generator=generator())
    assert torch.equal(a, before)
    assert torch.equal(minimum_wer(a.mT.contiguous().mT, lengths, references, LETTERS, generator=generator()), expected)
    small = minimum_wer(a.int(), lengths.int(), references, LETTERS, generator=generator())
    assert small.dtype == torch.int32
    assert torch.equal(small.long(), expected)


def test_on_every_device(device: str) -> None:
    a = torch.tensor([[spell("tho")]], device=device)
    out = minimum_wer(a, torch.tensor([3], device=device), ["the"], LETTERS)
    assert out.device.type == device
    assert out.tolist() == [[spell("the")]]


def test_the_class_is_the_function() -> None:
    a = torch.randint(len(ALPHABET), (4, 2, 9), generator=generator())
    options = {"blank": 28, "max_char_distance": 1, "strict": False, "compat": True}
    lengths, references = torch.tensor([9, 4]), ["the cat", "hat"]
    expected = minimum_wer(a, lengths, references, ALPHABET, **options, generator=generator())
    assert torch.equal(MinimumWER(ALPHABET, **options)(a, lengths, references, generator()), expected)


class Tokenizer:
    """The part of a transformers tokenizer that is used."""

    word_delimiter_token = "|"
    all_special_ids = (0, 1)

    def __len__(self) -> int:
        return 5

    def convert_ids_to_tokens(self, ids: range) -> list[str]:
        return [["<pad>", "</s>", "|", "\u2581a", "b"][i] for i in ids]


def test_a_tokenizer_is_a_vocabulary() -> None:
    assert token_strings(Tokenizer()) == ("", "", " ", " a", "b")
    assert MinimumWER(Tokenizer()).vocabulary == ("", "", " ", " a", "b")


def test_bad_input_is_named(own_messages: None) -> None:
    a, lengths = torch.tensor([[spell("tho"), spell("the")]]), torch.tensor([3, 3])
    with pytest.raises(ValueError, match="references must be a list of 2 texts, one per utterance, got none"):
        minimum_wer(a, lengths, None, LETTERS)
    with pytest.raises(ValueError, match="references must be a list of 2 texts, one per utterance, got 1"):
        minimum_wer(a, lengths, ["the"], LETTERS)
    with pytest.raises(ValueError, match="references must be a list of 2 texts, one per utterance, got 'on'"):
        minimum_wer(a, lengths, "on", LETTERS)
    with pytest.raises(ValueError, match=r"token 6, but the vocabulary has 4 entries; give one string per token id"):
        minimum_wer(a, lengths, ["the", "the"], LETTERS[:4])
    with pytest.raises(ValueError, match="token -1"):
        minimum_wer(a.masked_fill(a == 3, -1), lengths, ["the", "the"], LETTERS)
    for wrong in ("abc", [1, 2]):
        with pytest.raises(TypeError, match="vocabulary must be a list of strings by token id, or a tokenizer"):
            minimum_wer(a, lengths, ["the", "the"], wrong)
    with pytest.raises(ValueError, match="utterance 0: input_lengths is 4, but alignments has 3 frames"):
        minimum_wer(a, torch.tensor([4, 3]), ["the", "the"], LETTERS)


@pytest.mark.host
def test_the_separator_of_a_real_tokenizer_is_kept(tmp_path: Path) -> None:
    """In transformers 5 the word separator counts as a special token."""
    from transformers import Wav2Vec2CTCTokenizer

    letters = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", "A", "B"])}
    (tmp_path / "vocab.json").write_text(json.dumps(letters))
    assert token_strings(Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))) == ("", "", "", "", " ", "A", "B")
