"""Texts and vocabularies of every kind: what is written, and what cannot be, by its name."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from kilter.models.small_speech import letter_tokenizer, word_tokenizer
from kilter.models.spelling import Spelling

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
LETTERS = [*SPECIAL, "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'-"]


@pytest.fixture
def spelling(tmp_path: Path) -> Any:
    """Of a tokenizer that lies in a folder; `outputs` of the model, by default as many as it has entries."""

    def made(vocabulary: list[str], outputs: int = 0, kind: str = "", keep: Any = (), **options: Any) -> Spelling:
        import transformers

        file = tmp_path / "vocab.json"
        file.write_text(json.dumps({token: place for place, token in enumerate(vocabulary) if token != "(gap)"}))
        tokenizer = getattr(transformers, f"Wav2Vec2{kind}CTCTokenizer")(str(file), **options)
        tokenizer.save_pretrained(tmp_path / "saved")
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
        return Spelling(tokenizer, outputs or len(vocabulary), 0, keep)

    return made


def read(spelling: Spelling, text: str) -> list[tuple[str, str]]:
    """The words as written, each with what its tokens stand for."""
    spelt = spelling.spell(text)
    assert not spelling.problem(text)
    return [
        (word.text, "".join(spelling.strings[i].strip() for i in spelt.ids[word.start : word.stop]))
        for word in spelt.words
    ]


@pytest.mark.parametrize("text", ["Yes I  do", "yes\ni\u00a0do", "YES\u3000I DO\u200b"])
def test_letters(text: str, spelling: Any) -> None:
    words = text.replace("\u200b", " ").split()
    assert read(spelling(LETTERS), text) == list(zip(words, ["YES", "I", "DO"], strict=True))


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_a_tokenizer_that_lowers_case_spells_as_the_vocabulary_does(change: Any, spelling: Any) -> None:
    """What transformers calls `do_lower_case` makes upper case of texts: all of a vocabulary in lower case is lost."""
    found = spelling([*SPECIAL, "|", *map(change, "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"), "ß"], do_lower_case=True)
    assert read(found, "Yes daß")[0] == ("Yes", change("yes"))
    assert read(found, "daß")[0][1].endswith("ß")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("spells", ["NFC", "NFD"])
@pytest.mark.parametrize("text", ["tiếng việt", "şöğüt", "straße übel", "οδός άλφα", "한글 각", "बढ़िया क़लम", "آبَّ"])
def test_letters_of_two_forms(text: str, spells: Any, form: Any, spelling: Any) -> None:
    """Whichever the text has, the tokens are the same, none is unknown, and the words stay as they were written."""
    said = unicodedata.normalize(spells, text)
    own = spelling([*SPECIAL, "|", *dict.fromkeys(said.replace(" ", ""))])
    written = unicodedata.normalize(form, text)
    assert read(own, written) == list(zip(written.split(), said.split(), strict=True))


def test_joiners_are_written_and_not_spelt(spelling: Any) -> None:
    """Persian: what shapes the letters stays in the words that are written out."""
    assert read(spelling([*SPECIAL, "|", *"میخواه"]), "می\u200cخواهم") == [("می\u200cخواهم", "میخواهم")]


def test_whole_words_and_pieces() -> None:
    assert read(Spelling(word_tokenizer(("one", "two")), 4, 0), "One two") == [("One", "one"), ("two", "two")]
    assert read(Spelling(letter_tokenizer("abc"), 6, 0), "cab  a") == [("cab", "cab"), ("a", "a")]


def test_phonemes_without_a_separator(spelling: Any) -> None:
    """Words may be phonemes given apart, or several together; what is heard is phonemes."""
    own = spelling([*SPECIAL, "aɪ", "ə", "t", "s"])
    for text in ("t aɪ s", "t ə", "taɪ s", "ə"):
        assert read(own, text) == [(word, word) for word in text.split()]
    assert [word.text for word in own.reader.words([6, 4, 5])] == ["t", "aɪ", "ə"]
    assert "lacks 'z' (U+007A" in own.problem("t z")


@pytest.mark.parametrize("phonemes", [["aɪ", "ə", "t"], ["a", "ə", "t"]])
def test_a_phoneme_tokenizer(phonemes: list[str], spelling: Any) -> None:
    first, second, third = phonemes
    own = spelling([*SPECIAL, *phonemes], kind="Phoneme")
    assert read(own, f"{third} {first}") == [(third, third), (first, first)]
    assert [word.text for word in own.reader.words([6, 4])] == [third, first]
    parted = spelling([*SPECIAL, "|", *phonemes], kind="Phoneme", word_delimiter_token="|")
    assert read(parted, f"{third} {first} | {second}") == [(f"{third} {first}", third + first), (second, second)]
    assert read(parted, f"{third} {first}") == [(f"{third} {first}", third + first)]
    assert "phonemizer" in own.problem("hello")


def test_signs_without_a_separator(spelling: Any) -> None:
    """Chinese: words given apart are kept apart, though the vocabulary has nothing between them."""
    own = spelling([*SPECIAL, *"你好世界"])
    assert read(own, "你好 世界") == [("你好", "你好"), ("世界", "世界")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("DON’T", "lacks '’' (U+2019 RIGHT SINGLE QUOTATION MARK; it looks like ', which is there)"),
        ("STOP – NOW", "lacks '–' (U+2013 EN DASH; it looks like -"),
        ("CAFE\u0301", "lacks 'É' (U+00C9 LATIN CAPITAL LETTER E WITH ACUTE; E without its mark"),
        ("X\u0301", r"lacks '\u0301' (U+0301"),
        ("MP3", "lacks '3' (U+0033 DIGIT THREE; write numbers as words)"),
        ("ＡB", "lacks 'Ａ' (U+FF21"),
        ("A|B", "lacks '|', which stands for the space between words: write a space"),
        ("A <pad> B", "lacks '<pad>', which is no text but a token of the vocabulary's own"),
        ("<s>A</s>", "lacks '<s>'"),
        ("<unk>", "lacks '<unk>'"),
        ("WE WENT, " * 400, "lacks ',' (U+002C COMMA"),
    ],
)
def test_what_letters_lack(text: str, said: str, spelling: Any) -> None:
    problem = spelling(LETTERS).problem(text)
    assert said in problem
    assert len(problem) < 300


@pytest.mark.parametrize("keep", ["whitespace", "unicode", "case"])
def test_what_is_kept_is_named(keep: str, spelling: Any) -> None:
    text, sign = {"whitespace": ("A\u3000B", "U+3000"), "unicode": ("e\u0301", "U+0301"), "case": ("a", "U+0061")}[keep]
    own = [*LETTERS, "É"]
    assert not spelling(own).problem(text)
    assert sign in spelling(own, keep=(keep,)).problem(text)


def test_words_that_a_vocabulary_of_words_lacks() -> None:
    own = Spelling(word_tokenizer(("one", "two")), 4, 0)
    assert own.problem("one elf two") == (
        "the tokenizer does not know every letter or word of 'one elf two': it lacks 'elf'"
    )


def test_tokens_without_an_output_and_outputs_without_a_token(spelling: Any) -> None:
    more = spelling([*LETTERS, "Ñ"], outputs=len(LETTERS))
    assert "lacks 'Ñ', which the tokenizer has and the model, of 33 outputs, has not" in more.problem("año")
    assert read(more, "ANO") == [("ANO", "ANO")]
    padded = spelling(LETTERS, outputs=48)
    assert (len(padded.strings), set(padded.strings[33:])) == (48, {""})
    assert read(padded, "yes") == [("yes", "YES")]
    gaps = spelling([*SPECIAL, "|", "A", "(gap)", "B"])
    assert gaps.strings == ("", "", "", "", " ", "A", "", "B")


def test_a_vocabulary_without_an_unknown_token(spelling: Any) -> None:
    own = spelling(["<pad>", "|", "a", "b"], unk_token=None, bos_token=None, eos_token=None)
    assert read(own, "a b") == [("a", "a"), ("b", "b")]
    assert "lacks 'z' (U+007A" in own.problem("a zb")


@pytest.mark.parametrize("unknown", ["<unk>", None])
def test_pieces_of_a_fast_tokenizer(unknown: str | None) -> None:
    """One that has no unknown token leaves out in silence what it does not know."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<pad>", "<unk>", "\u2581", "\u2581ka", "k", "a", "r", "ra"]
    bpe = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token=unknown))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace()
    own = Spelling(PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", unk_token=unknown), 8, 0)
    assert read(own, "Kara ka") == [("Kara", "kara"), ("ka", "ka")]
    assert "lacks 'z' (U+007A" in own.problem("kaza")


def test_all_texts_are_checked_and_each_sign_is_named_once(spelling: Any) -> None:
    own = spelling(LETTERS)
    own.check([("row 1", "a cab"), ("row 2", "")])
    said = ["fine", "don’t", "’no’", "so, so’", "a" * 5000 + "!"]
    texts = [(f"row {place}", text) for place, text in enumerate(said)]
    with pytest.raises(ValueError, match=r"^row 1: the tokenizer does not know every .* of 'don’t'") as error:
        own.check(texts)
    message = str(error.value)
    for sign, where in (("U+2019", "row 1, row 2 and 1 more"), ("U+002C", "row 3"), ("U+0021", "row 4")):
        assert message.count(sign) == 1
        assert where in message[message.index(sign) :]
    assert "(4 of 5 texts have such)" in message
    assert len(message) < 700


def test_a_letter_ngram_counts_what_the_vocabulary_spells() -> None:
    from kilter.models.letter_ngram import LetterNGram

    tokenizer, history = letter_tokenizer("abé"), [[], [3], [3, 4], [5]]
    one, other = (LetterNGram(texts, tokenizer)(history) for texts in (["ab é", "b"], ["AB\u00a0e\u0301", "b\n"]))
    assert one.equal(other)
    with pytest.raises(ValueError, match=r"^text 1: .* it lacks 'c' \(U\+0063"):
        LetterNGram(["ab", "cab"], tokenizer)
