"""One batch as the loss of a `…ForCTC` model of transformers sees it, and what an objective can be given of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kilter.core.checks import check_targets, frames_needed, readable
from kilter.evaluation.word_errors import token_texts, word_error_counts
from kilter.ops.ctc_paths import collapse

GIVEN = ("log_probs", "input_lengths", "targets", "target_lengths", "references")
"""What an objective may ask for, by glossary name."""


@dataclass(frozen=True)
class CTCBatch:
    """One call of the loss function, and what can be had from it."""

    logits: Float[Tensor, "batch time vocab"]
    labels: Int[Tensor, "batch tokens"]
    input_lengths: Int[Tensor, " batch"]
    blank: int
    vocabulary: Sequence[str] | None

    @cached_property
    def spoken(self) -> Bool[Tensor, "batch tokens"]:
        """Which labels are tokens, and neither padding nor the blank."""
        return (self.labels != -100) & (self.labels != self.blank)

    @property
    def log_probs(self) -> Float[Tensor, "batch time vocab"]:
        """In float32 at least."""
        return self.logits.log_softmax(-1, dtype=torch.promote_types(self.logits.dtype, torch.float32))

    @property
    def targets(self) -> Int[Tensor, "batch tokens"]:
        """The spoken labels first, so that padding on either side or in between does not matter."""
        order = torch.sort(self.spoken.to(torch.uint8), dim=-1, descending=True, stable=True).indices
        return self.labels.gather(-1, order)

    @property
    def target_lengths(self) -> Int[Tensor, " batch"]:
        """How many of `targets` are spoken."""
        return self.spoken.sum(-1)

    @property
    def references(self) -> list[str] | None:
        """What was said, where there is a vocabulary to read it with."""
        return None if self.vocabulary is None else self._said(self.vocabulary)

    def check(self, zero_infinity: bool) -> None:
        """The labels fit the frames (with `zero_infinity` they need not) and the vocabulary; on the CPU only."""
        if readable(self.labels):
            frames = torch.full_like(self.input_lengths, 2 * self.labels.shape[1])
            check_targets(
                frames if zero_infinity else self.input_lengths,
                self.targets,
                self.target_lengths,
                vocab=self.logits.shape[-1],
                blank=self.blank,
            )

    def fitting(self) -> tuple["CTCBatch", float]:
        """The utterances whose labels fit their frames, and their share of the batch."""
        needed = frames_needed(self.targets, self.target_lengths)
        fits = needed <= self.input_lengths.to(needed.device)
        if bool(fits.all()):
            return self, 1.0
        kept = self.logits[fits], self.labels[fits], self.input_lengths[fits.to(self.input_lengths.device)]
        return CTCBatch(*kept, self.blank, self.vocabulary), int(fits.sum()) / len(fits)

    def words_right(self) -> Float[Tensor, " 2"]:
        """Words that best-path decoding gets right, and words; every token is a word if there is no vocabulary."""
        vocabulary = self.vocabulary or [f" {i}" for i in range(self.logits.shape[-1])]
        heard = collapse(self.logits.detach().argmax(-1), self.input_lengths, self.blank)
        errors, words = word_error_counts(self._said(vocabulary), token_texts(heard, vocabulary))
        return torch.tensor([words - errors, words], dtype=torch.float32, device=self.logits.device)

    def _said(self, vocabulary: Sequence[str]) -> list[str]:
        pairs = zip(self.targets.tolist(), self.target_lengths.tolist(), strict=True)
        return token_texts([tokens[:length] for tokens, length in pairs], vocabulary)
