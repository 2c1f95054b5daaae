"""TrimTail: cut a random piece off the end of every training utterance, so that its last words must come in time.

Paper: X. Song et al., "TrimTail: Low-latency streaming ASR with simple but effective spectrogram-level length
penalty", ICASSP 2023, arXiv 2211.00522. Departure: any sequence of samples or frames, not only spectrograms.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from kilter.core.checks import integer, shaped, whole, within


def trim_tail(
    lengths: Int[Tensor, " batch"], *, max_frames: int = 20, frame: int = 1, generator: Generator | None = None
) -> Int[Tensor, " batch"]:
    r"""Shorten lengths at random.

    $$t \sim \mathcal U\{1 \dots t_{\max}\}, \qquad L' = L - t \text{ if } t < L / 2 \text{ else } L$$

    Args:
        lengths: frames (or samples) of each utterance.
        max_frames: the largest cut, in frames; wenet's recipes take 20 to 50 frames of 10 ms.
        frame: how many units of `lengths` are a frame.
        generator: source of randomness, on the device of `lengths`; one draw for each utterance.

    Returns:
        The new lengths; what lies beyond is padding now.

    Raises:
        TypeError: `lengths` not integer, `max_frames` or `frame` no whole number.
        ValueError: `max_frames` or `frame` below 1, lengths of another shape or (on the CPU) below 0.

    Example:
        >>> trim_tail(torch.tensor([100, 2]), max_frames=1)
        tensor([99,  2])

    Reference: Song et al., ICASSP 2023; the rule and its default are those of wenet's `spec_trim`.
    """
    whole("max_frames", max_frames, 1)
    whole("frame", frame, 1)
    integer("lengths", lengths)
    shaped("lengths", lengths, "batch")
    within("lengths", lengths, 0, torch.iinfo(lengths.dtype).max, "which is below 0")
    cut = frame * torch.randint(1, max_frames + 1, lengths.shape, device=lengths.device, generator=generator)
    return torch.where(2 * cut < lengths, lengths - cut, lengths)


@runtime_checkable
class Rows(Protocol):
    """Examples by index: mappings with at least the column to trim."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


class TrimTail:
    r"""A dataset whose utterances end early by a random piece, anew in every epoch.

    $$t \sim \mathcal U\{1 \dots t_{\max}\}, \qquad L' = L - t \text{ if } t < L / 2 \text{ else } L$$

    For training data only; labels stay. The draw depends on `(seed, epoch, index)` alone, so it is the same for any
    number of loader workers and in a resumed run. Set `epoch` at the start of each, or give the Trainer of
    transformers the callback `FollowEpochs()` of `kilter.hosts.transformers`, which does. (There is no `set_epoch` on
    purpose: accelerate calls that with 0 when it resumes within an epoch, and not at all in several processes.)

    Args:
        rows: a map-style dataset whose items are mappings.
        max_frames: the largest cut, in frames.
        frame: length of a frame in the column: samples for audio (80 are 10 ms at 8 kHz), 1 for features.
        column: where the audio or the features stand, time first.
        seed: of the draws.

    Raises:
        ValueError: `max_frames` or `frame` below 1, an item without the column.

    Example:
        >>> rows = TrimTail([{"audio": list(range(100)), "text": "one"}], max_frames=10)
        >>> 90 <= len(rows[0]["audio"]) < 100
        True

    Reference: Song et al., ICASSP 2023.
    """

    def __init__(
        self,
        rows: Rows | Sequence[Mapping[str, Any]],
        *,
        max_frames: int = 20,
        frame: int = 1,
        column: str = "audio",
        seed: int = 0,
    ) -> None:
        whole("max_frames", max_frames, 1)
        whole("frame", frame, 1)
        self.rows = rows
        self.max_frames = max_frames
        self.frame = frame
        self.column = column
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()  # for workers that live for several epochs

    @property
    def epoch(self) -> int:
        """Which epoch is drawn for; another one, other cuts."""
        return int(self._epoch)

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def state_dict(self) -> dict[str, int]:
        """What a resumed run needs to draw the same next example."""
        return {"epoch": self.epoch, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where `state` was taken."""
        self.epoch, self.seed = state["epoch"], state["seed"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        if self.column not in row:
            raise ValueError(f"row {index} has no column {self.column!r}; there are {', '.join(row)}")
        # a hash of integers, so the same in every process
        generator = Generator().manual_seed(hash((self.seed, self.epoch, index)) & (1 << 63) - 1)
        length = torch.tensor([len(row[self.column])])
        kept = trim_tail(length, max_frames=self.max_frames, frame=self.frame, generator=generator)
        return {**row, self.column: row[self.column][: int(kept)]}
