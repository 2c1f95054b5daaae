"""What teaches a position encoder the geometry of positions: near ones are alike, and windows look alike anywhere.

Paper: H. Li et al., "SeqPE: Transformer with Sequential Position Encoding", 2025, arXiv 2506.13277.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from kilter.core.checks import finite, floating, integer, one_of, one_per_row, same_shape, shaped, share, whole, within

Metric = Literal["kl", "mse"]

_MEND = "lower the learning rate, or look at the encoder's weights"


def position_contrast(
    pivot: Float[Tensor, "pivots dim"],
    candidates: Float[Tensor, "pivots candidates dim"],
    positive: Int[Tensor, " pivots"],
) -> Float[Tensor, ""]:
    r"""How unlikely a position finds the nearest of its candidates, by inner products of their vectors.

    $$\mathcal L = \frac1P \sum_p -\log
      \frac{\exp \langle v_p, v_{p,+}\rangle}{\sum_c \exp \langle v_p, v_{p,c}\rangle}$$

    Vectors are neither normalised nor divided by a temperature. Candidates are drawn by `PositionSampler`, so that none
    is as near as the positive.

    Args:
        pivot: vectors of the positions that look for their neighbour.
        candidates: vectors of the positions that each chooses from.
        positive: which of its candidates is nearest to each.

    Shape:
        - `pivot`: float `(P, D)`; `candidates`: float `(P, C, D)`; `positive`: int `(P,)`.
        - returns a scalar, in float32 at least; 0 without pivots.

    Raises:
        TypeError: vectors that are not floating point, `positive` not integer.
        ValueError: shapes that do not fit; on the CPU also NaN, infinity, and a `positive` that is no candidate.

    Example:
        >>> candidates = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
        >>> position_contrast(torch.tensor([[1.0, 2.0]]), candidates, torch.tensor([2]))  # log(1 + 1/e + 1/e²)
        tensor(0.4076)

    Reference: Li et al., 2025.
    """
    floating("pivot", pivot, "give vectors of positions")
    shaped("pivot", pivot, "pivots, dim")
    floating("candidates", candidates, "give vectors of positions")
    shaped("candidates", candidates, "pivots, candidates, dim")
    wanted = (pivot.shape[0], candidates.shape[1], pivot.shape[1])
    same_shape("candidates", candidates, wanted, "pivot, with candidates of each,")
    integer("positive", positive, "be the numbers of candidates", "say which candidate is nearest")
    one_per_row("positive", positive, len(pivot), "pivot", "say for each pivot which candidate is nearest")
    count = candidates.shape[1]
    within("positive", positive, 0, count - 1, f"but candidates has {count} of each pivot", row="pivot")
    finite("pivot", pivot, mend=_MEND)
    finite("candidates", candidates, mend=_MEND)
    pivot, candidates = _wide(pivot), _wide(candidates)
    with torch.autocast(pivot.device.type, enabled=False):
        logits = torch.einsum("pd,pcd->pc", pivot, candidates)
        return F.cross_entropy(logits, positive.long(), reduction="sum") / max(1, len(pivot))


def position_transfer(
    student: Float[Tensor, "windows places dim"],
    teacher: Float[Tensor, "windows places dim"],
    *,
    heads: int = 1,
    metric: Metric = "kl",
    mix: float | int = 1.0,
) -> Float[Tensor, ""]:
    r"""How differently positions are related in a window far out and in the window that the model is trained on.

    With $S$ and $T$ the rowwise log-softmax of the inner products of the positions of a window, head by head, far out
    and at home, it is the divergence both ways,

    $$\mathcal L = \mathrm{mean}\big[e^{T}(T - S) + e^{S}(S - T)\big]$$

    and $\mathrm{mean}[(T - S)^2]$ with the metric `mse`; the mean is over all numbers, windows × heads × places²,
    as published, so that a row counts 1/places of its divergence. Only relations are compared: vectors may change
    from window to window.

    Args:
        student: vectors of places in a window anywhere.
        teacher: vectors of the same places in the window at the origin, which is trained by the model's own loss.
        heads: parts of a vector that are compared each by itself.
        metric: `kl`, or `mse`.
        mix: share of the loss that moves the student alone; the rest moves the teacher alone.

    Shape:
        - `student`, `teacher`: float `(W, n, D)`.
        - returns a scalar, in float32 at least; 0 without windows.

    Raises:
        TypeError: vectors that are not floating point, an option that is no number.
        ValueError: shapes that do not fit, heads that do not divide D, an option out of range; on the CPU also NaN and
            infinity.

    Example:
        >>> teacher, student = torch.tensor([[[1.0, 1], [1, 0]]]), torch.tensor([[[1.0, 1], [2, 0]]])
        >>> position_transfer(student, teacher), position_transfer(student, teacher, metric="mse")
        (tensor(0.2482), tensor(0.7263))

    Reference: Li et al., 2025.
    """
    floating("student", student, "give vectors of positions")
    shaped("student", student, "windows, places, dim")
    floating("teacher", teacher, "give vectors of positions")
    same_shape("teacher", teacher, student.shape, "student", "give the same places of both windows")
    whole("heads", heads, 1)
    one_of("metric", metric, Metric)
    share("mix", mix)
    if student.shape[2] % heads:
        raise ValueError(f"heads must divide the width of a vector, got heads={heads} and {student.shape[2]}")
    finite("student", student, mend=_MEND)
    finite("teacher", teacher, mend=_MEND)
    with torch.autocast(student.device.type, enabled=False):
        far, home = _relations(_wide(student), heads), _relations(_wide(teacher), heads)
        loss = mix * _distance(far, home.detach(), metric)
        if mix < 1:
            loss = loss + (1 - mix) * _distance(far.detach(), home, metric)
    return loss / max(1, far.numel())


def _wide(vectors: Tensor) -> Tensor:
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))


def _relations(vectors: Float[Tensor, "windows places dim"], heads: int) -> Float[Tensor, "windows heads places _"]:
    """Log of how each place weighs the others, for each head."""
    parts = vectors.unflatten(2, (heads, -1)).transpose(1, 2)
    return (parts @ parts.transpose(2, 3)).log_softmax(-1)


def _distance(far: Tensor, home: Tensor, metric: Metric) -> Float[Tensor, ""]:
    if metric == "mse":
        return (home - far).square().sum()
    return ((home.exp() - far.exp()) * (home - far)).sum()
