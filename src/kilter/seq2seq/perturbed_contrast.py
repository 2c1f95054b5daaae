"""Sources against targets, an imposter to push away and a distant target to pull in: the two terms of CLAPS."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from kilter.core.checks import finite, floating, positive, same_shape, shaped
from kilter.ops.info_nce import unit


def perturbed_contrast(
    source: Float[Tensor, "batch out"],
    target: Float[Tensor, "batch out"],
    imposter: Float[Tensor, "batch out"] | None = None,
    distant: Float[Tensor, "batch out"] | None = None,
    *,
    temperature: float | int = 0.1,
    positive_temperature: float | int | None = None,
    batch_negatives: bool = True,
) -> Float[Tensor, ""]:
    r"""How unlikely each source finds its target among those of the batch and its own imposter.

    $$\mathcal L = \tfrac12 (\mathcal L_1 + \mathcal L_2), \qquad
      \mathcal L_1 = -\frac1N \sum_i \log \frac{\exp(s_{ii}/\tau)}
      {\sum_j \exp(s_{ij}/\tau) + \exp(s^-_i/\tau)}$$

    with cosines $s_{ij}$ of source i and target j, and $s^-_i$ of source i and its imposter. In $\mathcal L_2$ the
    distant target $s^+_i$ stands where $s_{ii}$ does, with a temperature of its own. Without distant targets it is
    $\mathcal L_1$ alone.

    Args:
        source: vectors of the sources.
        target: vectors of their targets, row by row.
        imposter: a hard negative of each row; None has none.
        distant: a hard positive of each row; None has none.
        temperature: τ of $\mathcal L_1$.
        positive_temperature: τ of $\mathcal L_2$; None is `temperature`.
        batch_negatives: the targets of other rows count as negatives.

    Returns:
        The mean over the batch, in at least float32; 0 of a batch of one without imposter, and of none.

    Raises:
        TypeError: vectors that are not floating point.
        ValueError: shapes that do not fit, τ not above 0, neither imposters nor negatives of the batch; on the CPU also
            NaN and infinity.

    Example:
        >>> x = torch.eye(2)
        >>> perturbed_contrast(x, x, x, temperature=1.0)  # log(2 + 1/e): an imposter that is the target itself
        tensor(0.8620)

    Reference: Lee, Lee and Hwang, ICLR 2021. The released code divides by no temperature in the second term.
    """
    positive("temperature", temperature)
    if positive_temperature is not None:
        positive("positive_temperature", positive_temperature)
    if imposter is None and not batch_negatives:
        raise ValueError("batch_negatives=False without imposter leaves nothing to push away; give either")
    given = {"source": source, "target": target, "imposter": imposter, "distant": distant}
    for name, vectors in given.items():
        if vectors is not None:
            floating(name, vectors, "give vectors of sentences")
            shaped(name, vectors, "batch, dim", "give one vector per sentence")
            same_shape(name, vectors, source.shape, "source")
            finite(name, vectors, mend="look at what projects the states")
    others = torch.full((len(source), len(source)), batch_negatives, device=source.device)
    how = {"temperature": temperature, "positive_temperature": positive_temperature or temperature}
    return contrast(source, target, imposter, distant, others, **how).loss


class Contrast(NamedTuple):
    """The loss, and cosines of each source with what it was compared with."""

    loss: Float[Tensor, ""]
    target: Float[Tensor, " batch"]
    imposter: Float[Tensor, " batch"] | None
    distant: Float[Tensor, " batch"] | None


def contrast(
    source: Float[Tensor, "batch out"],
    target: Float[Tensor, "batch out"],
    imposter: Float[Tensor, "batch out"] | None,
    distant: Float[Tensor, "batch out"] | None,
    others: Bool[Tensor, "batch batch"],
    *,
    temperature: float | int,
    positive_temperature: float | int,
) -> Contrast:
    """`perturbed_contrast` without checks; `others` says which targets count against a row, its own does not."""
    with torch.autocast(source.device.type, enabled=False):
        x = unit(source)
        among = x @ unit(target).T
        wrong, far = (None if one is None else (x * unit(one)).sum(-1) for one in (imposter, distant))
    own = among.diagonal()
    none = torch.finfo(among.dtype).min / 2  # and not -inf, whose sum has a gradient of NaN
    against = among.masked_fill(~others | torch.eye(len(among), dtype=torch.bool, device=among.device), none)
    against = against if wrong is None else torch.cat([against, wrong[:, None]], 1)

    def surprise(positives: Tensor, tau: float) -> Tensor:
        each = softplus(((against / tau).clamp(min=none).logsumexp(1)) - positives / tau, threshold=40)
        return each.sum() / max(len(each), 1)

    loss = surprise(own, temperature)
    if far is not None:
        loss = (loss + surprise(far, positive_temperature)) / 2
    return Contrast(loss, own, wrong, far)
