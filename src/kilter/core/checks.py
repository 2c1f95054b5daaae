"""Is the tensor what its name promises? Every failure names the argument, the utterance and the mend.

Values are checked on CPU tensors only: on an accelerator reading a value would stop the queue, and a checked step
must cost no synchronisation. Shapes and dtypes are checked everywhere.
"""

import torch
from torch import Tensor


def readable(tensor: Tensor) -> bool:
    """Whether reading a value of `tensor` costs neither a device synchronisation nor a graph break."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def check_log_probs(log_probs: Tensor, input_lengths: Tensor, blank: int) -> None:
    """Check shapes, dtypes, the blank index and the lengths of `log_probs (B, T, V)` and `input_lengths (B,)`.

    Values of `log_probs` are checked where they are read anyway (`sample_alignments`).

    Raises:
        TypeError: `log_probs` is not floating point or `input_lengths` not integer.
        ValueError: wrong shape, a length outside 0..T, or a blank outside the vocabulary.
    """
    if not log_probs.is_floating_point():
        raise TypeError(f"log_probs must be floating point, got {log_probs.dtype}; apply log_softmax to the logits")
    if log_probs.ndim != 3:
        raise ValueError(f"log_probs must be (batch, time, vocab), got shape {tuple(log_probs.shape)}")
    batch, frames, vocab = log_probs.shape
    check_lengths("input_lengths", input_lengths, batch, frames, "log_probs", "frames")
    if not 0 <= blank < vocab:
        raise ValueError(f"blank={blank} is outside the vocabulary of log_probs (0..{vocab - 1})")


def check_lengths(name: str, lengths: Tensor, batch: int, limit: int, of: str, unit: str) -> None:
    """Check that `lengths` is an integer tensor `(batch,)` within 0..`limit`, the number of `unit` in `of`."""
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"{name} must be integers (frames, not fractions), got {lengths.dtype}; use .long()")
    if lengths.shape != (batch,):
        raise ValueError(f"{name} must have shape ({batch},) like the batch of {of}, got {tuple(lengths.shape)}")
    if readable(lengths) and batch:
        values = lengths.tolist()
        if min(values) < 0 or max(values) > limit:
            i, value = next((i, value) for i, value in enumerate(values) if not 0 <= value <= limit)
            raise ValueError(f"utterance {i}: {name} is {value}, but {of} has {limit} {unit}")


def check_tokens(targets: Tensor, target_lengths: Tensor, *, vocab: int, blank: int) -> None:
    """Check targets `(B, U)` and their lengths `(B,)`; the values on the CPU only.

    Raises:
        TypeError: `targets` or `target_lengths` is not integer.
        ValueError: wrong shape, a length outside 0..U, a blank or an index outside the vocabulary inside a target.
    """
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise TypeError(f"targets must hold token ids, got {targets.dtype}; use .long()")
    if targets.ndim != 2:
        raise ValueError(f"targets must be (batch, tokens), got shape {tuple(targets.shape)}; pad them to one length")
    batch, tokens = targets.shape
    check_lengths("target_lengths", target_lengths, batch, tokens, "targets", "tokens")
    if not (readable(targets) and readable(target_lengths)):
        return
    inside = torch.arange(tokens) < target_lengths[:, None]
    wrong = inside & ((targets < 0) | (targets >= vocab) | (targets == blank))
    if wrong.any():
        i, u = wrong.nonzero()[0].tolist()
        what = "the blank" if targets[i, u] == blank else f"outside the vocabulary 0..{vocab - 1}"
        raise ValueError(f"utterance {i}: target {u} is {int(targets[i, u])}, {what}; check the labels' tokenizer")


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
    if targets.ndim == 2 and len(targets) != len(input_lengths):
        raise ValueError(f"targets has {len(targets)} rows, log_probs {len(input_lengths)} utterances; give one each")
    check_tokens(targets, target_lengths, vocab=vocab, blank=blank)
    if not (readable(targets) and readable(target_lengths) and readable(input_lengths)):
        return
    needed = frames_needed(targets, target_lengths)
    short = needed > input_lengths
    if short.any():
        i = int(short.nonzero()[0])
        raise ValueError(
            f"utterance {i}: target needs {int(needed[i])} frames, log_probs has {int(input_lengths[i])}; "
            "leave the utterance out, shorten its text or use a smaller stride"
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
    if log_probs.ndim != 4 or not log_probs.shape[2]:
        raise ValueError(
            f"log_probs must be (batch, time, states, vocab), got shape {tuple(log_probs.shape)}; "
            "a transducer's joint network gives one distribution for each frame and each number of tokens so far"
        )
    batch, _, states, vocab = log_probs.shape
    check_log_probs(log_probs[:, :, 0], input_lengths, blank)
    if targets.ndim == 2 and targets.shape != (batch, states - 1):
        raise ValueError(
            f"targets must be ({batch}, {states - 1}), since log_probs has {states} states for {batch} utterances, "
            f"got {tuple(targets.shape)}; there is one state before the first token and one after each"
        )
    check_tokens(targets, target_lengths, vocab=vocab, blank=blank)
    if readable(input_lengths) and readable(target_lengths):
        silent = (input_lengths == 0) & (target_lengths > 0)
        if silent.any():
            i = int(silent.nonzero()[0])
            raise ValueError(
                f"utterance {i}: input_lengths is 0, but its target has {int(target_lengths[i])} tokens; "
                "leave the utterance out"
            )
