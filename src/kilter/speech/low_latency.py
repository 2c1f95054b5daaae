"""The low-latency property of Align With Purpose: the same words, one frame earlier.

Paper: Segev et al., "Align With Purpose", ICLR 2024 (arXiv 2307.01715); the edit rule is that of the published code.
Departure: candidates lie inside the utterance and all can be picked; `compat=True` brings the published bugs back.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from kilter.core.checks import check_alignments, one_of, whole
from kilter.core.masking import length_mask

Candidates = Literal["repeats", "nonblank"]


def low_latency(
    alignments: Int[Tensor, "samples batch time"],
    input_lengths: Int[Tensor, " batch"],
    *,
    blank: int = 0,
    frames: int = 1,
    candidates: Candidates = "repeats",
    skip_noops: bool = False,
    compat: bool = False,
    generator: Generator | None = None,
) -> Int[Tensor, "samples batch time"]:
    r"""Delete a repeated frame and end with a blank: everything after it is emitted one frame earlier.

    $$C(a) = \{t \ge 1 : a_t = a_{t-1}\} \cup \{0 : a_0 = \varnothing\}, \qquad j \sim \mathcal U(C(a))$$
    $$\bar a = (a_0 \dots a_{j-1},\, a_{j+1} \dots a_{L-1},\, \varnothing)$$

    Deleting a repeat never changes what the alignment spells. Without candidates the alignment stays as it is.

    Args:
        alignments: token ids; frames beyond each length are not touched.
        input_lengths: valid frames L of each utterance.
        blank: index of the blank.
        frames: k, how many positions to delete; as many as there are if fewer (our reading).
        candidates: `repeats` counts repeated blanks too (published code), `nonblank` only repeated tokens.
        skip_noops: leave out positions inside the trailing run of blanks, where deleting changes nothing.
        compat: the published code's candidates: taken over the padded length, the last one never picked. Where it
            crashes (exactly one candidate) the alignment stays as it is.
        generator: source of randomness, on the device of `alignments`; N·B draws for each frame deleted.

    Returns:
        Edited alignments, a new tensor.

    Raises:
        TypeError: `alignments` or `input_lengths` not integer, `frames` or `blank` no whole number.
        ValueError: shapes that do not fit, `frames` below 1, unknown `candidates`.

    Example:
        >>> a = torch.tensor([[[0, 3, 3, 5]]])
        >>> low_latency(a, torch.tensor([4]), candidates="nonblank")
        tensor([[[0, 3, 5, 0]]])

    Reference: Segev et al., ICLR 2024, property f_low_latency.
    """
    check_alignments(alignments, input_lengths, blank)
    whole("frames", frames, 1)
    one_of("candidates", candidates, Candidates)
    if not alignments.numel():
        return alignments.clone()
    lengths = torch.full_like(input_lengths, alignments.shape[-1]) if compat else input_lengths
    valid = length_mask(lengths.to(alignments.device), alignments.shape[-1])
    inside = _next(valid, False)
    spoken = alignments != blank
    deletable = ~spoken
    deletable[..., 1:] = alignments[..., 1:] == alignments[..., :-1]
    deletable &= valid
    if candidates == "nonblank":
        deletable &= spoken
    if skip_noops:
        deletable &= (spoken & valid).flip(-1).cumsum(-1).flip(-1) > 0

    edited = alignments
    for _ in range(frames):
        rank = deletable.cumsum(-1)
        # the published code draws from a range that ends before the last candidate
        count = rank[..., -1] - int(compat)
        uniform = torch.rand(count.shape, device=count.device, generator=generator)
        chosen = (uniform * count).long() + 1
        move = (rank >= chosen[..., None]) & (count > 0)[..., None] & valid
        edited = torch.where(move, torch.where(inside, _next(edited, blank), blank), edited)
        if frames > 1:
            deletable = torch.where(move, _next(deletable, False), deletable)
    return edited


def _next(frames: Tensor, fill: int) -> Tensor:
    """Each frame's right neighbour, `fill` at the end."""
    return torch.nn.functional.pad(frames[..., 1:], (0, 1), value=fill)


@dataclass(frozen=True)
class LowLatency:
    r"""Property: words earlier, by `low_latency` with these options.

    $$\bar a = (a_0 \dots a_{j-1},\, a_{j+1} \dots a_{L-1},\, \varnothing)$$

    Shape: alignments `(N, B, T)` and lengths `(B,)` in, alignments `(N, B, T)` out.

    Raises:
        TypeError, ValueError: see `low_latency`.

    Example:
        >>> LowLatency()(torch.tensor([[[3, 3]]]), torch.tensor([2]))
        tensor([[[3, 0]]])

    Reference: Segev et al., ICLR 2024.
    """

    _: KW_ONLY
    blank: int = 0
    frames: int = 1
    candidates: Candidates = "repeats"
    skip_noops: bool = False
    compat: bool = False

    def __post_init__(self) -> None:
        whole("blank", self.blank, 0)
        whole("frames", self.frames, 1)
        one_of("candidates", self.candidates, Candidates)

    def __call__(
        self,
        alignments: Int[Tensor, "samples batch time"],
        input_lengths: Int[Tensor, " batch"],
        references: Sequence[str] | None = None,
        generator: Generator | None = None,
    ) -> Int[Tensor, "samples batch time"]:
        """Edit alignments; `references` are not needed."""
        return low_latency(
            alignments,
            input_lengths,
            blank=self.blank,
            frames=self.frames,
            candidates=self.candidates,
            skip_noops=self.skip_noops,
            compat=self.compat,
            generator=generator,
        )
