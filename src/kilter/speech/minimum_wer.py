"""The minimum-WER property of Align With Purpose: mend one almost right word.

Paper: Segev et al., "Align With Purpose", ICLR 2024 (arXiv 2307.01715); the edit rule is that of the published code.
Departure: any vocabulary, not only a-z; edits that would not lower the word errors are rejected (`strict`).
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from kilter.core.checks import check_alignments, texts, whole
from kilter.core.errors import extra
from kilter.core.masking import length_mask
from kilter.ops.ctc_paths import token_starts
from kilter.ops.vocabulary import Vocabulary, Word, token_strings


@lru_cache(maxsize=8)
def _reader(strings: tuple[str, ...], blank: int) -> Vocabulary:
    return Vocabulary(strings, blank)


def minimum_wer(
    alignments: Int[Tensor, "samples batch time"],
    input_lengths: Int[Tensor, " batch"],
    references: Sequence[str] | None,
    vocabulary: Any,
    *,
    blank: int = 0,
    max_char_distance: int = 2,
    strict: bool = True,
    compat: bool = False,
    generator: Generator | None = None,
) -> Int[Tensor, "samples batch time"]:
    r"""Overwrite the wrong characters of one almost right word of each alignment.

    $$\mathrm{WE}(\mathcal B(\bar a), r) < \mathrm{WE}(\mathcal B(a), r) \quad\text{or}\quad \bar a = a$$

    The words of the collapsed alignment are aligned with those of the reference by Levenshtein distance. Of the
    pairs that differ by at most `max_char_distance` substituted tokens (and the same number of characters), with
    equally many tokens, one is drawn uniformly, and every frame of each differing token is overwritten. For
    characters this is the published rule; for longer pieces the reference word is cut by longest match (our
    reading). Words are aligned on the host: on an accelerator this waits for the samples.

    Args:
        alignments: token ids; frames beyond each length are not touched.
        input_lengths: valid frames of each utterance.
        references: what was said, one text per utterance.
        vocabulary: strings by token id (`" "` separates words; without any separator, pieces longer than a
            character are words of their own), or a transformers tokenizer.
        blank: index of the blank.
        max_char_distance: largest distance between the words.
        strict: only edits that lower the word errors. Overwritten tokens may merge with an equal neighbour (frames
            `t h o` against "too" would become `t o o` and collapse to "to").
        compat: the published code's slip: when the sample starts with a space, every edit lands one token early.
            For parity give `strict=False` too.
        generator: source of randomness, on the device of `alignments`; N·B draws.

    Returns:
        Edited alignments, a new tensor.

    Raises:
        TypeError: alignments or lengths not integer, a vocabulary that is neither strings nor a tokenizer.
        ValueError: shapes that do not fit, references missing or of another number, a token outside the vocabulary, a
            negative `max_char_distance`.

    Example:
        >>> vocabulary = ["", "t", "h", "o", "e"]
        >>> a = torch.tensor([[[1, 2, 2, 0, 3]]])
        >>> minimum_wer(a, torch.tensor([5]), ["the"], vocabulary)
        tensor([[[1, 2, 2, 0, 4]]])

    Reference: Segev et al., ICLR 2024, property f_mWER.
    """
    check_alignments(alignments, input_lengths, blank)
    references = texts("references", references, alignments.shape[1])
    whole("max_char_distance", max_char_distance, 0)
    strings = token_strings(vocabulary)
    valid = length_mask(input_lengths.to(alignments.device), alignments.shape[-1]).expand(alignments.shape)
    starts = token_starts(alignments, valid, blank)
    tokens = alignments[starts]
    if len(tokens) and not 0 <= (low := int(tokens.min())) <= (high := int(tokens.max())) < len(strings):
        raise ValueError(
            f"alignments hold token {low if low < 0 else high}, but the vocabulary has {len(strings)} entries; "
            "give one string per token id, the blank included"
        )
    reader = _reader(strings, blank)
    after_blank = torch.ones_like(starts)
    after_blank[..., 1:] = alignments[..., :-1] == blank
    samples = _Samples(tokens.tolist(), after_blank[starts].tolist(), starts.sum(-1).flatten().tolist())
    draws = torch.rand(starts.shape[:2], device=alignments.device, generator=generator).flatten().tolist()

    edits = dict(_edits(samples, draws, references, reader, max_char_distance, strict, compat))
    if edits:
        tokens = tokens.clone()
        tokens[list(edits)] = tokens.new_tensor(list(edits.values()))
    run = starts.flatten().cumsum(0).view_as(alignments).sub(1).clamp(min=0)
    spoken = (alignments != blank) & valid
    return torch.where(spoken, tokens[run], alignments) if len(tokens) else alignments.clone()


class _Samples(NamedTuple):
    tokens: list[int]  # of all alignments, one after another
    after_blank: list[bool]  # whether a blank, or nothing, precedes each token
    counts: list[int]


def _edits(
    samples: _Samples,
    draws: Sequence[float],
    references: Sequence[str],
    reader: Vocabulary,
    max_char_distance: int,
    strict: bool,
    compat: bool,
) -> Iterator[tuple[int, int]]:
    """Yield (position among all tokens, new token)."""
    levenshtein = extra("rapidfuzz.distance.Levenshtein", "speech")
    expected = [reference.split() for reference in references]
    first = 0
    for row, count in enumerate(samples.counts):
        tokens = samples.tokens[first : first + count]
        words = reader.words(tokens)
        said = expected[row % len(references)]
        candidates = []
        for edit in levenshtein.editops([word.text for word in words], said):
            if edit.tag != "replace":
                continue
            word, right = words[edit.src_pos], said[edit.dest_pos]
            if (spelled := _near(reader, tokens, word, right, max_char_distance)) is None:
                continue
            if strict and not (
                _survives(tokens, samples.after_blank[first : first + count], word, spelled)
                and _reads(reader, tokens, words, edit.src_pos, spelled, right)
            ):
                continue
            candidates.append((word, spelled))
        if candidates:
            word, spelled = candidates[int(draws[row] * len(candidates))]
            early = 1 if compat and reader.pieces[tokens[0]] == " " else 0
            for offset, token in enumerate(spelled, word.start):
                if token != tokens[offset]:
                    yield first + offset - early, token
        first += count


def _near(reader: Vocabulary, tokens: list[int], word: Word, right: str, limit: int) -> list[int] | None:
    """Ids that turn `word` into `right` by substitutions alone, if few enough."""
    if len(word.text) != len(right) or sum(map(str.__ne__, word.text, right)) > limit:
        return None
    spelled = reader.spell(right, like=tokens[word.start])
    return spelled if spelled is not None and len(spelled) == word.stop - word.start else None


def _survives(tokens: list[int], after_blank: list[bool], word: Word, spelled: list[int]) -> bool:
    """Whether the edited word still collapses to itself, unmerged with equal neighbours."""
    around = [*tokens[: word.start][-1:], *spelled, *tokens[word.stop : word.stop + 1]]
    first = word.start - (word.start > 0)
    return all(a != b or after_blank[first + i] for i, (a, b) in enumerate(itertools.pairwise(around), 1))


def _reads(reader: Vocabulary, tokens: list[int], words: list[Word], i: int, spelled: list[int], right: str) -> bool:
    """Whether only word `i` changes, into `right`; a piece that holds a space may part or join others."""
    if reader.of_characters:
        return True
    edited = reader.words([*tokens[: words[i].start], *spelled, *tokens[words[i].stop :]])
    expected = [word.text for word in words]
    expected[i] = right
    return [word.text for word in edited] == expected


@dataclass(frozen=True)
class MinimumWER:
    r"""Property: fewer word errors, by `minimum_wer` with these options.

    $$\mathrm{WE}(\mathcal B(\bar a), r) < \mathrm{WE}(\mathcal B(a), r) \quad\text{or}\quad \bar a = a$$

    Shape: alignments `(N, B, T)`, lengths `(B,)` and B references in, alignments `(N, B, T)` out.

    Example:
        >>> mend = MinimumWER(["", "t", "h", "o", "e"])
        >>> mend(torch.tensor([[[1, 2, 3]]]), torch.tensor([3]), ["the"])
        tensor([[[1, 2, 4]]])

    Reference: Segev et al., ICLR 2024.
    """

    vocabulary: Any
    _: KW_ONLY
    blank: int = 0
    max_char_distance: int = 2
    strict: bool = True
    compat: bool = False

    def __post_init__(self) -> None:
        whole("blank", self.blank, 0)
        whole("max_char_distance", self.max_char_distance, 0)
        object.__setattr__(self, "vocabulary", token_strings(self.vocabulary))

    def __call__(
        self,
        alignments: Int[Tensor, "samples batch time"],
        input_lengths: Int[Tensor, " batch"],
        references: Sequence[str] | None = None,
        generator: Generator | None = None,
    ) -> Int[Tensor, "samples batch time"]:
        """Edit alignments towards `references`."""
        return minimum_wer(
            alignments,
            input_lengths,
            references,
            self.vocabulary,
            blank=self.blank,
            max_char_distance=self.max_char_distance,
            strict=self.strict,
            compat=self.compat,
            generator=generator,
        )
