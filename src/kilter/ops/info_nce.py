"""InfoNCE of cosines, row by row, with masks for who is a positive and who a negative."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from kilter.core.checks import floating, mask_fits, positive, shaped


def unit(x: Float[Tensor, "*lead dim"]) -> Float[Tensor, "*lead dim"]:
    """Vectors of length 1, in at least float32; a vector of no length stays as it is and has no gradient.

    Example:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    square = x.square().sum(-1, keepdim=True)
    some = square > 1e-24  # a length of 1e-12, where torch's cosine stops dividing too
    return x * torch.where(some, torch.where(some, square, 1.0).rsqrt(), 0.0)


def info_nce(
    anchor: Float[Tensor, "rows dim"],
    candidate: Float[Tensor, "candidates dim"],
    *,
    positives: Bool[Tensor, "rows candidates"] | None = None,
    negatives: Bool[Tensor, "rows candidates"] | None = None,
    temperature: float = 0.05,
) -> Float[Tensor, " rows"]:
    r"""How unlikely each anchor finds its positives, each of them alone among the negatives.

    $$\ell_i = -\frac1{|P_i|} \sum_{p \in P_i}
      \log \frac{\exp(s_{ip}/\tau)}{\exp(s_{ip}/\tau) + \sum_{n \in N_i} \exp(s_{in}/\tau)}$$

    with cosines s, in at least float32. A positive does not stand in another one's sum.

    Args:
        anchor: vectors, of any length.
        candidate: vectors that each anchor is compared with.
        positives: which candidates are an anchor's positives; None is the candidate in its own row.
        negatives: which count against them; None is all that are no positives. Of positives, none counts.
        temperature: τ.

    Returns:
        One value per anchor; 0, without gradient, where there is no positive or no negative.

    Raises:
        TypeError: vectors that are not floating point, masks that are not boolean.
        ValueError: shapes that do not fit, fewer candidates than anchors without `positives`, τ not above 0.

    Example:
        >>> info_nce(torch.eye(2), torch.eye(2), temperature=1.0)  # log(1 + 1/e)
        tensor([0.3133, 0.3133])

    Reference: A. van den Oord, Y. Li, O. Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018.
    """
    positive("temperature", temperature)
    for name, x in (("anchor", anchor), ("candidate", candidate)):
        floating(name, x, "give the encoder's vectors")
        shaped(name, x, "batch, dim", "give one vector per text")
    if candidate.shape[1] != anchor.shape[1]:
        raise ValueError(f"candidate has {candidate.shape[1]} components, anchor {anchor.shape[1]}; use one encoder")
    shape = (len(anchor), len(candidate))
    for name, mask in (("positives", positives), ("negatives", negatives)):
        if mask is not None:
            mask_fits(name, mask, shape, "anchor by candidate")
    if positives is None and shape[1] < shape[0]:
        raise ValueError(f"{shape[0]} anchors need {shape[0]} candidates, got {shape[1]}; say which are the positives")
    with torch.autocast(anchor.device.type, enabled=False):
        a, c = unit(anchor), unit(candidate)
        scores = a @ c.T / temperature
    if not scores.numel():
        return scores.sum(1)
    own = torch.eye(*shape, dtype=torch.bool, device=scores.device) if positives is None else positives
    against = ~own if negatives is None else negatives & ~own
    none = torch.finfo(scores.dtype).min / 2  # and not -inf, whose sum has a gradient of NaN
    rest = scores.masked_fill(~against, none).logsumexp(1)
    if positives is None:
        return softplus(rest - scores.diagonal(), threshold=40)
    surprise = softplus(rest[:, None] - scores, threshold=40)
    return (surprise * own).sum(1) / own.sum(1).clamp(min=1)
