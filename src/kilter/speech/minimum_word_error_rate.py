"""Minimum word error rate over an n-best list: move probability to the hypotheses with fewer word errors.

Paper: R. Prabhavalkar et al., "Minimum word error rate training for attention-based sequence-to-sequence models",
ICASSP 2018, arXiv 1712.01818. Departure: a hypothesis counts with its whole CTC probability, all alignments summed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import (
    at_least,
    check_candidates,
    check_log_probs,
    check_targets,
    check_values,
    check_vocabulary,
    finite,
    floating,
    frames_needed,
    same_shape,
    texts,
    whole,
)
from kilter.core.errors import extra
from kilter.core.masking import length_mask, padded
from kilter.core.objective import LossOutput, Objective
from kilter.core.signs import short
from kilter.ops.ctc_sum import ctc_sum
from kilter.ops.vocabulary import Vocabulary, token_strings
from kilter.speech.ctc_search import ctc_prefix_beam_search


def minimum_word_error_rate(
    log_probs: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    hypotheses: Int[Tensor, "batch candidates tokens"],
    hypothesis_lengths: Int[Tensor, "batch candidates"],
    word_errors: Float[Tensor, "batch candidates"],
    *,
    blank: int = 0,
) -> Float[Tensor, " batch"]:
    r"""Expected word errors of an n-best list, above the list's mean.

    $$\sum_i \hat P(y_i)\,\bigl(W(y_i) - \bar W\bigr), \qquad
      \hat P(y_i) = \frac{P(y_i \mid x)}{\sum_j P(y_j \mid x)}$$

    Each $P(y_i \mid x)$ is a CTC sum over alignments. The mean $\bar W$ lowers the gradient's variance and changes
    nothing else. Hypotheses that need more frames than there are have probability 0 and are left out of both sums.

    Args:
        log_probs: log-softmax of the model's outputs.
        input_lengths: valid frames of each utterance.
        hypotheses: token ids of each utterance's n-best list, padded with anything.
        hypothesis_lengths: their lengths; -1 where an utterance has fewer hypotheses.
        word_errors: W, word errors of each.
        blank: index of the blank.

    Returns:
        One value per utterance; 0 where fewer than two hypotheses are left.

    Raises:
        TypeError, ValueError: see `check_log_probs` and `check_candidates`; word errors of another shape or dtype, or
            (on the CPU) NaN or infinite.

    Example:
        >>> log_probs = torch.tensor([[[0.1, 0.6, 0.3]]]).log()
        >>> hypotheses, lengths = torch.tensor([[[1], [2]]]), torch.tensor([[1, 1]])
        >>> errors = torch.tensor([[1.0, 0.0]])
        >>> minimum_word_error_rate(log_probs, torch.tensor([1]), hypotheses, lengths, errors)
        tensor([0.1667])

    Reference: Prabhavalkar et al., ICASSP 2018, equation 4.
    """
    check_log_probs(log_probs, input_lengths, blank)
    check_values(log_probs, input_lengths)
    check_candidates(hypotheses, hypothesis_lengths, rows=len(log_probs), vocab=log_probs.shape[2], blank=blank)
    floating("word_errors", word_errors)
    same_shape("word_errors", word_errors, hypotheses.shape[:2], "the lists of hypotheses")
    finite("word_errors", word_errors, row="utterance", mend="give 0 where there is no hypothesis")
    inside = length_mask(hypothesis_lengths.flatten(), hypotheses.shape[2]).view_as(hypotheses)
    needed = frames_needed(hypotheses, hypothesis_lengths)
    fits = (hypothesis_lengths >= 0) & (needed <= input_lengths.to(needed.device)[:, None])
    tokens = torch.where(inside & fits[..., None], hypotheses, 0 if blank else 1)
    ctc = ctc_sum(
        log_probs, input_lengths, tokens.flatten(0, 1), torch.where(fits, hypothesis_lengths, 0).flatten(), blank=blank
    )
    score = torch.where(fits, -ctc.view_as(fits), -torch.inf)  # there is no inf in ctc where it fits
    some = fits.any(-1, keepdim=True)
    share = torch.where(some, score, 0.0).softmax(-1)
    mean = (word_errors * fits).sum(-1, keepdim=True) / fits.sum(-1, keepdim=True).clamp(min=1)
    return (share * torch.where(fits, word_errors - mean, 0.0)).sum(-1)


class MinimumWordErrorRate(Objective):
    r"""Expected word errors of a prefix beam search's n-best list, plus a little CTC; used instead of the CTC loss.

    $$\mathcal L = \frac1B \sum_b \sum_i \hat P(y^b_i)\,\bigl(W(y^b_i) - \bar W^b\bigr)
      + \gamma\,\mathcal L_{\text{CTC}}$$

    Switch it on once the model recognises most words. The search runs in every step without gradient, on the device
    of `log_probs`; words are compared on the host.

    Args:
        vocabulary: strings by token id (`" "` separates words; without any separator, pieces longer than a character
            are words of their own), or a transformers tokenizer.
        n_best: hypotheses of each list.
        beam_size: of the search, at least `n_best`.
        ctc_weight: γ.
        blank: index of the blank.

    Shape:
        - `log_probs`: float `(B, T, V)`; `input_lengths`: int `(B,)`; `references`: list of B texts.
        - returns `LossOutput`: parts `mwer` and `mwer_ctc` (batch means); stats `mwer_errors` (word errors of the best
          hypothesis, mean over the batch) and `mwer_spread` (share of lists whose hypotheses differ in word errors).

    Raises:
        TypeError: a vocabulary that is neither strings nor a tokenizer; see also `ctc_prefix_beam_search`.
        ValueError: options out of range, references missing or of another number, a reference that the vocabulary
            cannot spell or that needs more frames than there are (the utterance is named), a vocabulary of another
            size than `log_probs`.

    Example:
        >>> mwer = MinimumWordErrorRate(["", "a", "b", " "])
        >>> log_probs = torch.randn(2, 30, 4).log_softmax(-1)
        >>> out = mwer(log_probs, torch.tensor([30, 25]), ["ab a", "b"])
        >>> sorted(out.parts)
        ['mwer', 'mwer_ctc']

    Reference: Prabhavalkar et al., ICASSP 2018; with CTC sums as in k2's `MWERLoss`.
    """

    def __init__(
        self, vocabulary: Any, *, n_best: int = 4, beam_size: int = 16, ctc_weight: float = 0.01, blank: int = 0
    ) -> None:
        super().__init__()
        whole("n_best", n_best, 2)
        whole("beam_size", beam_size, 1)
        at_least("ctc_weight", ctc_weight, 0)
        if n_best > beam_size:
            raise ValueError(
                f"n_best must be at most beam_size={beam_size}, got {n_best}; ask for less or widen the beam"
            )
        self.vocabulary = token_strings(vocabulary)
        self.n_best = n_best
        self.beam_size = beam_size
        self.ctc_weight = ctc_weight
        self.blank = blank
        self._reader = Vocabulary(self.vocabulary, blank)

    def forward(
        self,
        log_probs: Float[Tensor, "batch time vocab"],
        input_lengths: Int[Tensor, " batch"],
        references: Sequence[str],
    ) -> LossOutput:
        """Compute the loss; see the class."""
        check_log_probs(log_probs, input_lengths, self.blank)
        check_vocabulary(self.vocabulary, log_probs)
        batch = len(log_probs)
        texts("references", references, batch)
        hypotheses, lengths, errors = self._search(log_probs, input_lengths, references)
        risk = minimum_word_error_rate(log_probs, input_lengths, hypotheses, lengths, errors, blank=self.blank)
        parts = {"mwer": risk.sum() / max(batch, 1)}
        if self.ctc_weight:
            parts["mwer_ctc"] = self.ctc_weight * self._ctc(log_probs, input_lengths, references)
        there = lengths >= 0
        low, high = (torch.where(there, errors, fill) for fill in (torch.inf, -torch.inf))
        stats = {
            "mwer_errors": errors[:, :1].sum() / max(batch, 1),
            "mwer_spread": (low.amin(-1) < high.amax(-1)).sum() / max(batch, 1),
        }
        return LossOutput(torch.stack(list(parts.values())).sum(), parts, stats)

    def _search(
        self, log_probs: Tensor, input_lengths: Tensor, references: Sequence[str]
    ) -> tuple[Int[Tensor, "batch n tokens"], Int[Tensor, "batch n"], Float[Tensor, "batch n"]]:
        """The n-best lists as tensors, with the word errors of each hypothesis."""
        levenshtein = extra("rapidfuzz.distance.Levenshtein", "speech")
        found = ctc_prefix_beam_search(
            log_probs, input_lengths, beam_size=self.beam_size, n_best=self.n_best, blank=self.blank
        )
        shape = (len(found), self.n_best)
        tokens, lengths = padded(
            [beam[k].tokens if k < len(beam) else [] for beam in found for k in range(self.n_best)]
        )
        lengths, errors = lengths.view(shape), torch.zeros(shape)
        for i, (beam, reference) in enumerate(zip(found, references, strict=True)):
            said = reference.split()
            lengths[i, len(beam) :] = -1
            for k, one in enumerate(beam):
                errors[i, k] = levenshtein.distance([word.text for word in self._reader.words(one.tokens)], said)
        device = log_probs.device
        return tokens.unflatten(0, shape).to(device), lengths.to(device), errors.to(device)

    def _ctc(self, log_probs: Tensor, input_lengths: Tensor, references: Sequence[str]) -> Tensor:
        spelled = []
        for i, reference in enumerate(references):
            if (ids := self._reader.spell_text(reference)) is None:
                raise ValueError(
                    f"utterance {i}: the vocabulary cannot spell the reference {short(reference)!r}; write it with the "
                    "vocabulary's letters, or set ctc_weight=0"
                )
            spelled.append(ids)
        targets, lengths = padded(spelled)
        check_targets(input_lengths, targets, lengths, vocab=log_probs.shape[2], blank=self.blank)
        device = log_probs.device
        lost = ctc_sum(log_probs, input_lengths, targets.to(device), lengths.to(device), blank=self.blank)
        return lost.sum() / max(len(lost), 1)
