"""Word and character error rates, by jiwer, and texts from token ids.

White space and Unicode forms do not count, see `kilter.core.normalise.tidy`; letters of another case do.
"""

from collections.abc import Sequence
from typing import Any

from kilter.core.errors import extra
from kilter.core.normalise import tidy
from kilter.core.options import texts

TOO_MANY_ERRORS = 0.3
"""Word error rate above which a model's own samples are no examples; a rule of thumb."""


def word_error_counts(
    references: Sequence[str], hypotheses: Sequence[str], *, keep: Sequence[str] = ()
) -> tuple[int, int]:
    """Word errors and words of the references, over all utterances.

    Args:
        references: what was said.
        hypotheses: what was heard, one for each.
        keep: what of both is left as it is: `whitespace` (words are parted by U+0020 alone), `unicode`.

    Example:
        >>> word_error_counts(["one two", "three"], ["one", "four"])
        (2, 3)

    Reference: Levenshtein alignment of words by jiwer.
    """
    return _counts("process_words", references, hypotheses, keep)


def character_error_counts(
    references: Sequence[str], hypotheses: Sequence[str], *, keep: Sequence[str] = ()
) -> tuple[int, int]:
    """Character errors and characters of the references, over all utterances.

    Example:
        >>> character_error_counts(["abc"], ["abd"])
        (1, 3)
    """
    return _counts("process_characters", references, hypotheses, keep)


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str], *, keep: Sequence[str] = ()) -> float:
    """Word errors per reference word (may exceed 1).

    Raises:
        ValueError: lists of different lengths, or no reference word at all.

    Example:
        >>> word_error_rate(["one two", "three four"], ["one two", "three"])
        0.25
    """
    return _rate("words", *word_error_counts(references, hypotheses, keep=keep))


def weak_model_note(wer: float) -> str | None:
    """What to say to who lets a model learn from its own samples when they are mostly wrong; None where they are not.

    Args:
        wer: word error rate of the model as given, a share (1 is 100 %).

    Example:
        >>> weak_model_note(0.12) is None, weak_model_note(0.74)[:52]
        (True, 'The model as given has a word error rate of 74 %: sa')
    """
    if not wer > TOO_MANY_ERRORS:
        return None
    return (
        f"The model as given has a word error rate of {100 * wer:.0f} %: samples of such a model teach nothing. Train "
        "it with CTC alone first (--arms ctc, and more --steps), and start from the model that this leaves when it is "
        f"below some {100 * TOO_MANY_ERRORS:.0f} %; or let the term wait for that (--start-word-success 0.8)."
    )


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str], *, keep: Sequence[str] = ()) -> float:
    """Character errors per reference character (may exceed 1).

    Raises:
        ValueError: lists of different lengths, or no reference character at all.

    Example:
        >>> character_error_rate(["abcd"], ["abc"])
        0.25
    """
    return _rate("characters", *character_error_counts(references, hypotheses, keep=keep))


def token_texts(rows: Sequence[Sequence[int]], vocabulary: Sequence[str]) -> list[str]:
    """Texts of token ids; `" "` inside the vocabulary's strings separates words.

    Raises:
        ValueError: an id that the vocabulary has no string for.

    Example:
        >>> token_texts([[1, 2, 1]], ["", "a", " "])
        ['a a']
    """
    for i, row in enumerate(rows):
        if wrong := [token for token in row if not 0 <= token < len(vocabulary)]:
            raise ValueError(
                f"utterance {i}: rows hold token {wrong[0]}, but the vocabulary has {len(vocabulary)} entries; "
                "give one string per token id"
            )
    separator = "" if any(" " in piece for piece in vocabulary) or max(map(len, vocabulary), default=0) <= 1 else " "
    return [" ".join(separator.join(vocabulary[i] for i in row).split()) for row in rows]


def _counts(measure: str, references: Sequence[str], hypotheses: Sequence[str], keep: Sequence[str]) -> tuple[int, int]:
    texts("references", references)
    texts("hypotheses", hypotheses)
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses; give one per utterance")
    jiwer: Any = extra("jiwer", "speech")
    references, hypotheses = ([tidy(text, keep) for text in given] for given in (references, hypotheses))
    spoken = [(r, h) for r, h in zip(references, hypotheses, strict=True) if r.strip()]
    # jiwer refuses empty references: there every word heard is an insertion
    unit = str.split if measure == "process_words" else list
    errors = sum(len(unit(h.strip())) for r, h in zip(references, hypotheses, strict=True) if not r.strip())
    if not spoken:
        return errors, 0
    found = getattr(jiwer, measure)([r for r, _ in spoken], [h for _, h in spoken])
    errors += found.substitutions + found.deletions + found.insertions
    return errors, found.substitutions + found.deletions + found.hits


def _rate(unit: str, errors: int, total: int) -> float:
    if not total:
        raise ValueError(f"the references hold no {unit}, so there is no rate")
    return errors / total
