"""Minimum word error rate over an n-best list: move probability to the hypotheses with fewer word errors.

Paper: R. Prabhavalkar et al., "Minimum word error rate training for attention-based sequence-to-sequence models",
ICASSP 2018, arXiv 1712.01818. Departure: a hypothesis counts with its whole CTC probability, all alignments summed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import check_log_probs, check_targets, frames_needed, readable
from kilter.core.errors import extra
from kilter.core.masking import length_mask
from kilter.core.objective import LossOutput, Objective
from kilter.ops.ctc_paths import check_values
from kilter.ops.ctc_sum import ctc_sum
from kilter.speech.ctc_search import ctc_prefix_beam_search
from kilter.speech.minimum_wer import Vocabulary, token_strings


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
        TypeError, ValueError: see `check_log_probs`; lists whose shapes or dtypes do not fit; on the CPU also a blank
            or an id outside the vocabulary in a hypothesis.

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
    _check_lists(hypotheses, hypothesis_lengths, word_errors, log_probs.shape, blank)
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


def _check_lists(
    hypotheses: Tensor, hypothesis_lengths: Tensor, word_errors: Tensor, shape: Sequence[int], blank: int
) -> None:
    batch, _, vocab = shape
    if hypotheses.ndim != 3 or len(hypotheses) != batch:
        raise ValueError(f"hypotheses must be ({batch}, candidates, tokens), got {tuple(hypotheses.shape)}")
    for name, tensor in (("hypotheses", hypotheses), ("hypothesis_lengths", hypothesis_lengths)):
        if tensor.is_floating_point() or tensor.dtype == torch.bool:
            raise TypeError(f"{name} must be integers, got {tensor.dtype}; use .long()")
    for name, tensor in (("hypothesis_lengths", hypothesis_lengths), ("word_errors", word_errors)):
        if tensor.shape != hypotheses.shape[:2]:
            raise ValueError(f"{name} must be {tuple(hypotheses.shape[:2])} like hypotheses, got {tuple(tensor.shape)}")
    if readable(hypotheses) and readable(hypothesis_lengths):
        inside = torch.arange(hypotheses.shape[2]) < hypothesis_lengths[..., None]
        wrong = inside & ((hypotheses < 0) | (hypotheses >= vocab) | (hypotheses == blank))
        if wrong.any():
            i, n, u = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"utterance {i}: token {u} of hypothesis {n} is {int(hypotheses[i, n, u])}, the blank or outside the "
                f"vocabulary 0..{vocab - 1}; give collapsed token ids"
            )


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
        if not 2 <= n_best <= beam_size or not ctc_weight >= 0:
            raise ValueError(
                "n_best must be at least 2 and at most beam_size, and ctc_weight at least 0, "
                f"got {n_best}, {beam_size}, {ctc_weight}"
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
        batch, _, vocab = log_probs.shape
        if len(self.vocabulary) != vocab:
            raise ValueError(
                f"the vocabulary has {len(self.vocabulary)} entries, log_probs has {vocab}; "
                "give one string per token id, the blank included"
            )
        if references is None or isinstance(references, str) or len(references) != batch:
            got = type(references).__name__ if references is None or isinstance(references, str) else len(references)
            raise ValueError(f"references must be a list of {batch} texts, one per utterance, got {got}")
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
        longest = max((len(one.tokens) for beam in found for one in beam), default=0)
        tokens = torch.zeros(len(found), self.n_best, longest, dtype=torch.long)
        lengths = torch.full((len(found), self.n_best), -1)
        errors = torch.zeros(len(found), self.n_best)
        for i, (beam, reference) in enumerate(zip(found, references, strict=True)):
            said = reference.split()
            for k, one in enumerate(beam):
                tokens[i, k, : len(one.tokens)] = torch.tensor(one.tokens, dtype=torch.long)
                lengths[i, k] = len(one.tokens)
                errors[i, k] = levenshtein.distance([word.text for word in self._reader.words(one.tokens)], said)
        device = log_probs.device
        return tokens.to(device), lengths.to(device), errors.to(device)

    def _ctc(self, log_probs: Tensor, input_lengths: Tensor, references: Sequence[str]) -> Tensor:
        spelled = [self._reader.spell_text(reference) for reference in references]
        for i, ids in enumerate(spelled):
            if ids is None:
                raise ValueError(
                    f"utterance {i}: the vocabulary cannot spell the reference {references[i]!r}; write it with the "
                    "vocabulary's letters, or set ctc_weight=0"
                )
        lengths = torch.tensor([len(ids or ()) for ids in spelled], dtype=torch.long)
        targets = torch.zeros(len(spelled), int(lengths.max()) if len(lengths) else 0, dtype=torch.long)
        for i, ids in enumerate(spelled):
            targets[i, : len(ids or ())] = torch.tensor(ids, dtype=torch.long)
        check_targets(input_lengths, targets, lengths, vocab=log_probs.shape[2], blank=self.blank)
        device = log_probs.device
        lost = ctc_sum(log_probs, input_lengths, targets.to(device), lengths.to(device), blank=self.blank)
        return lost.sum() / max(len(lost), 1)
