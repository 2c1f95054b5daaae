"""What objectives of speech ask together: log-probabilities with their lengths, targets, alignments, emissions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kilter.core.checks.tensors import (
    first,
    floating,
    integer,
    lengths_fit,
    readable,
    same_shape,
    shaped,
    within,
)
from kilter.core.masking import length_mask
from kilter.core.options import whole

_ROUNDING = 1e-3
"""How far float16 and bfloat16 round log-softmax above zero near probability one."""


def check_log_probs(log_probs: Tensor, input_lengths: Tensor, blank: int, name: str = "log_probs") -> None:
    """Check shapes, dtypes, the blank index and the lengths of `log_probs (B, T, V)` and `input_lengths (B,)`.

    Values of `log_probs` are checked by `check_values`, or where they are read anyway.

    Raises:
        TypeError: `log_probs` is not floating point, `input_lengths` not integer, or the blank no whole number.
        ValueError: wrong shape, a length outside 0..T, or a blank outside the vocabulary.
    """
    floating(name, log_probs, "apply log_softmax to the logits")
    shaped(name, log_probs, "batch, time, vocab")
    batch, frames, vocab = log_probs.shape
    lengths_fit("input_lengths", input_lengths, batch, frames, name, "frames")
    whole("blank", blank)
    if not 0 <= blank < vocab:
        raise ValueError(f"blank={blank} is outside the vocabulary of {name} (0..{vocab - 1})")


def check_values(log_probs: Tensor, input_lengths: Tensor, name: str = "log_probs") -> None:
    """`check_peaks` of `log_probs (B, T, V)`, where reading them costs no wait for a device; a pass over V."""
    if log_probs.numel() and readable(log_probs, input_lengths):
        check_peaks(log_probs.detach().amax(-1), length_mask(input_lengths, log_probs.shape[1]), name=name)


def check_peaks(peak: Tensor, valid: Tensor, start: int = 0, *, name: str = "log_probs") -> None:
    """Check the largest log-probability of each valid frame `(B, T)`, read where a pass over V has found it anyway.

    Raises:
        ValueError: a positive value, NaN, or -inf for a whole frame; frames are counted from `start`.
    """
    low, high = (float(bound) for bound in peak.aminmax()) if peak.numel() else (0.0, 0.0)
    if low > -torch.inf and high <= _ROUNDING:  # false for NaN too, which is then looked for where it matters
        return
    if at := first(valid & ~((peak <= _ROUNDING) & (peak > -torch.inf))):
        value = peak[tuple(at)].item()
        what = "NaN" if value != value else "only -inf" if value < 0 else f"a positive value ({value:.3g})"
        raise ValueError(
            f"utterance {at[0]}, frame {start + at[1]}: {name} holds {what}; "
            "give log_softmax(logits, dim=-1) in float32"
        )


def check_vocabulary(vocabulary: Sequence[str], log_probs: Tensor, whose: str = "the vocabulary") -> None:
    """Check that there is a string for each token of `log_probs (…, V)`."""
    if len(vocabulary) != log_probs.shape[-1]:
        raise ValueError(
            f"{whose} has {len(vocabulary)} entries, log_probs has {log_probs.shape[-1]}; "
            "give one string per token id, the blank included"
        )


# Targets -----------------------------------------------------------------------------------------------------------


def check_tokens(targets: Tensor, target_lengths: Tensor, *, vocab: int, blank: int, rows: int | None = None) -> None:
    """Check targets `(B, U)` and their lengths `(B,)`; the values on the CPU only.

    Raises:
        TypeError: `targets` or `target_lengths` is not integer.
        ValueError: wrong shape, other than `rows` of them, a length outside 0..U, a blank or an index outside the
            vocabulary inside a target.
    """
    integer("targets", targets, "hold token ids")
    shaped("targets", targets, "batch, tokens", "pad them to one length")
    batch, tokens = targets.shape
    if rows is not None and batch != rows:
        raise ValueError(f"targets has {batch} rows, log_probs {rows} utterances; give one each")
    lengths_fit("target_lengths", target_lengths, batch, tokens, "targets", "tokens")
    if not readable(targets, target_lengths):
        return
    inside = length_mask(target_lengths, tokens)
    if at := first(inside & ((targets < 0) | (targets >= vocab) | (targets == blank))):
        token = int(targets[tuple(at)])
        what = "the blank" if token == blank else f"outside the vocabulary 0..{vocab - 1}"
        raise ValueError(f"utterance {at[0]}: target {at[1]} is {token}, {what}; check the labels' tokenizer")


def frames_needed(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Fewest frames that spell each of `targets (…, U)`: one for each token, and a blank between equal neighbours.

    Example:
        >>> frames_needed(torch.tensor([[1, 1, 2], [1, 1, 1]]), torch.tensor([3, 1]))
        tensor([4, 1])
    """
    inside = torch.arange(targets.shape[-1], device=targets.device) < target_lengths[..., None]
    return target_lengths + ((targets[..., 1:] == targets[..., :-1]) & inside[..., 1:]).sum(-1)


def check_targets(input_lengths: Tensor, targets: Tensor, target_lengths: Tensor, *, vocab: int, blank: int) -> None:
    """Check CTC targets `(B, U)` against the frames there are; the values on the CPU only.

    Raises:
        TypeError: see `check_tokens`.
        ValueError: see `check_tokens`, or a target needs more frames (its length plus one for each repeated token)
            than `input_lengths` has, or there are targets for another number of utterances.
    """
    check_tokens(targets, target_lengths, vocab=vocab, blank=blank, rows=len(input_lengths))
    if not readable(targets, target_lengths, input_lengths):
        return
    needed = frames_needed(targets, target_lengths)
    if at := first(needed > input_lengths):
        raise ValueError(
            f"utterance {at[0]}: target needs {int(needed[at])} frames, log_probs has {int(input_lengths[at])}; "
            "leave the utterance out, shorten its text or use a smaller stride"
        )


def check_candidates(hypotheses: Tensor, hypothesis_lengths: Tensor, *, rows: int, vocab: int, blank: int) -> None:
    """Check lists of collapsed texts `(B, K, U)` and their lengths `(B, K)`, -1 where a list has fewer than K.

    Raises:
        TypeError: `hypotheses` or `hypothesis_lengths` is not integer.
        ValueError: wrong shape, or other than `rows` of them; on the CPU also a length outside -1..U, a blank or an
            index outside the vocabulary inside a hypothesis.
    """
    integer("hypotheses", hypotheses)
    integer("hypothesis_lengths", hypothesis_lengths)
    shaped("hypotheses", hypotheses, "batch, candidates, tokens")
    if len(hypotheses) != rows:
        raise ValueError(f"hypotheses has {len(hypotheses)} rows, log_probs {rows} utterances; give a list for each")
    same_shape("hypothesis_lengths", hypothesis_lengths, hypotheses.shape[:2], "the lists of hypotheses")
    tokens = hypotheses.shape[2]
    within("hypothesis_lengths", hypothesis_lengths, -1, tokens, f"but hypotheses has {tokens} tokens")
    if not readable(hypotheses, hypothesis_lengths):
        return
    inside = torch.arange(tokens) < hypothesis_lengths[..., None]
    if at := first(inside & ((hypotheses < 0) | (hypotheses >= vocab) | (hypotheses == blank))):
        i, n, u = at
        raise ValueError(
            f"utterance {i}: token {u} of hypothesis {n} is {int(hypotheses[i, n, u])}, the blank or outside the "
            f"vocabulary 0..{vocab - 1}; give collapsed token ids"
        )


def check_transducer(
    log_probs: Tensor, input_lengths: Tensor, targets: Tensor, target_lengths: Tensor, blank: int
) -> None:
    """Check `log_probs (B, T, U+1, V)` of a transducer against its targets `(B, U)` and both lengths.

    Raises:
        TypeError: `log_probs` is not floating point, or targets or lengths are not integer.
        ValueError: see `check_log_probs` and `check_tokens`; also another number of states than targets ask for, or
            tokens without a frame.
    """
    floating("log_probs", log_probs, "apply log_softmax to the logits")
    if log_probs.ndim != 4 or not log_probs.shape[2]:
        raise ValueError(
            f"log_probs must be (batch, time, states, vocab), got shape {tuple(log_probs.shape)}; "
            "a transducer's joint network gives one distribution for each frame and each number of tokens so far"
        )
    batch, _, states, vocab = log_probs.shape
    check_log_probs(log_probs[:, :, 0], input_lengths, blank)
    integer("targets", targets, "hold token ids")
    if targets.ndim == 2 and targets.shape != (batch, states - 1):
        raise ValueError(
            f"targets must be ({batch}, {states - 1}), since log_probs has {states} states for {batch} utterances, "
            f"got {tuple(targets.shape)}; there is one state before the first token and one after each"
        )
    check_tokens(targets, target_lengths, vocab=vocab, blank=blank)
    if readable(input_lengths, target_lengths) and (at := first((input_lengths == 0) & (target_lengths > 0))):
        raise ValueError(
            f"utterance {at[0]}: input_lengths is 0, but its target has {int(target_lengths[at])} tokens; "
            "leave the utterance out"
        )


# Alignments --------------------------------------------------------------------------------------------------------


def check_alignments(alignments: Tensor, input_lengths: Tensor, blank: int = 0) -> None:
    """Check that `alignments` is integer `(samples, batch, time)` and fits `input_lengths (batch,)`."""
    integer("alignments", alignments, "hold token ids")
    shaped("alignments", alignments, "samples, batch, time")
    _, batch, frames = alignments.shape
    lengths_fit("input_lengths", input_lengths, batch, frames, "alignments", "frames")
    whole("blank", blank, 0)
