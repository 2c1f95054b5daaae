"""The low-latency edit of Align With Purpose on a transducer's lattice: the same tokens, one frame earlier.

Paper: Segev et al., "Align With Purpose", ICLR 2024 (arXiv 2307.01715), worked out for CTC; see `low_latency`.
Departure: every frame before the last token may be deleted, since on this lattice the target never changes.
"""

import torch
from jaxtyping import Int
from torch import Generator, Tensor
from torch.nn.functional import pad

from kilter.core.checks import first, integer, lengths_fit, readable, shaped
from kilter.core.masking import length_mask


def earlier_emissions(
    alignments: Int[Tensor, "samples batch tokens"],
    target_lengths: Int[Tensor, " batch"],
    *,
    generator: Generator | None = None,
) -> Int[Tensor, "samples batch tokens"]:
    r"""Delete one blank and append one at the end: every token after it is emitted one frame earlier.

    $$j \sim \mathcal U\{0, \dots, t_U - 1\}, \qquad \bar t_u = t_u - [t_u > j]$$

    The low-latency edit of the paper, as it is on this lattice. There a repeated frame is deleted, because CTC would
    spell something else without any other; here deleting the blank that leads from frame j to j+1 merges what the
    two frames emit, and the target never changes, so every frame may be picked (our reading). Frames after the last
    token may not: nothing would move, and the pair would be wasted. As in the paper a long gap is the likeliest to
    be shortened. Without such a frame the alignment stays as it is.

    Args:
        alignments: frame in which each token is emitted.
        target_lengths: valid tokens of each target; what stands beyond is not touched.
        generator: source of randomness, on the device of `alignments`; N·B draws.

    Returns:
        Edited alignments, a new tensor.

    Raises:
        TypeError: `alignments` or `target_lengths` not integer.
        ValueError: shapes that do not fit, a length outside 0..U, on the CPU also a frame below 0.

    Example:
        >>> earlier_emissions(torch.tensor([[[0, 1, 1]]]), torch.tensor([3]))
        tensor([[[0, 0, 0]]])

    Reference: Segev et al., ICLR 2024, property f_low_latency; compare `low_latency`.
    """
    integer("alignments", alignments, "hold frames of emission")
    shaped("alignments", alignments, "samples, batch, tokens")
    _, batch, tokens = alignments.shape
    lengths_fit("target_lengths", target_lengths, batch, tokens, "alignments", "tokens")
    inside = length_mask(target_lengths.to(alignments.device), tokens)
    if readable(alignments, inside) and (at := first(inside & (alignments < 0))):
        _, i, u = at
        raise ValueError(f"utterance {i}: alignments emit token {u} in frame {int(alignments[tuple(at)])}, below 0")
    uniform = torch.rand(alignments.shape[:2], device=alignments.device, generator=generator)
    last = pad(alignments * inside, (1, 0)).amax(-1)
    deleted = (uniform * last).long()[..., None]
    return alignments - ((alignments > deleted) & inside).to(alignments.dtype)
