"""Contrast pairs of texts within their domain: the loss that experts are trained with.

Paper: L. Hallee et al., "Contrastive Learning and Mixture of Experts Enables Precise Vector Embeddings", arXiv
2401.15713, after its released `mnr` and `mnr_plus`. Departure: texts of other domains, which the domain's token gives
away, are no negatives. The experts themselves are in `kilter.embeddings.experts`.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from kilter.core import LossOutput, Objective
from kilter.core.checks import finite, floating, integer, one_of, one_per_row, readable, same_shape, shaped
from kilter.core.checks import positive as above_zero
from kilter.core.paper import Claim, Paper
from kilter.ops.info_nce import unit

Form = Literal["mnr", "mnr_plus"]
Similarity = Literal["dot", "cosine"]


def domain_contrast_loss(
    anchor: Float[Tensor, "batch dim"],
    positive: Float[Tensor, "batch dim"],
    domain: Int[Tensor, " batch"] | None = None,
    *,
    form: Form = "mnr_plus",
    similarity: Similarity = "dot",
    temperature: float | Tensor = 1.0,
) -> Float[Tensor, " batch"]:
    """The loss of each pair; see `DomainContrast`.

    Returns:
        One value per pair; 0, without gradient, where no other pair is of its domain.

    Raises:
        TypeError, ValueError: see `DomainContrast`.

    Example:
        >>> domain_contrast_loss(torch.eye(2), torch.eye(2), form="mnr")  # log(1 + 1/e)
        tensor([0.3133, 0.3133])
        >>> domain_contrast_loss(torch.eye(2), torch.eye(2), torch.tensor([0, 1]))
        tensor([0., 0.])

    Reference: Hallee et al., 2024.
    """
    one_of("form", form, Form)
    one_of("similarity", similarity, Similarity)
    if not isinstance(temperature, Tensor):
        above_zero("temperature", temperature)
    elif readable(temperature):
        above_zero("temperature", temperature.item())
    _check(anchor, positive, domain)
    same = _same(anchor, domain)
    a, b = _prepared(anchor, similarity), _prepared(positive, similarity)
    with torch.autocast(a.device.type, enabled=False):
        scores = a @ b.T / temperature
        finite("score", scores, mend="shorten the vectors, raise the temperature, or use similarity='cosine'")
        scores = _within(scores, same)
        if form == "mnr":
            return F.cross_entropy(scores, torch.arange(len(a), device=a.device), reduction="none")
        targets = _targets(a.detach(), b.detach(), same)
        return (
            F.cross_entropy(scores, targets, reduction="none") + F.cross_entropy(scores.T, targets, reduction="none")
        ) / 2


def _check(anchor: Tensor, positive: Tensor, domain: Tensor | None) -> None:
    for name, x in (("anchor", anchor), ("positive", positive)):
        floating(name, x, "give the encoder's vectors")
        shaped(name, x, "batch, dim", "give one vector per text")
    same_shape("positive", positive, anchor.shape, "anchor", "give one text that belongs to each anchor")
    if domain is not None:
        integer("domain", domain, "hold integers", "number the domains")
        one_per_row("domain", domain, len(anchor), "anchor", "give one number per row")
    for name, x in (("anchor", anchor), ("positive", positive)):
        finite(name, x, mend="lower the learning rate, or look at that text's encoding")


def _prepared(x: Tensor, similarity: Similarity) -> Tensor:
    return unit(x) if similarity == "cosine" else x.to(torch.promote_types(x.dtype, torch.float32))


def _same(anchor: Tensor, domain: Tensor | None) -> Bool[Tensor, "batch batch"]:
    if domain is None:
        return torch.ones(len(anchor), len(anchor), dtype=torch.bool, device=anchor.device)
    return domain[:, None] == domain


def _within(scores: Tensor, same: Tensor) -> Tensor:
    return scores.masked_fill(~same, torch.finfo(scores.dtype).min / 2)  # and not -inf, whose gradient may be NaN


def _targets(a: Tensor, b: Tensor, same: Tensor) -> Int[Tensor, " batch"]:
    """What each pair is most alike to, by both sides; itself, unless another is more so."""
    alike = _within(a @ a.T + b @ b.T, same)
    own = torch.arange(len(a), device=a.device)
    if not len(a):
        return own
    best, found = alike.max(1)
    return torch.where(alike.diagonal() >= best, own, found)


class DomainContrast(Objective):
    r"""Each text is to find the one that belongs to it among those of its domain in the batch.

    $$S = A B^\top / T, \qquad \mathcal L_{\text{mnr}} = \mathrm{CE}(S, i), \qquad
      \mathcal L_{\text{mnr+}} = \tfrac12 \big(\mathrm{CE}(S, t) + \mathrm{CE}(S^\top, t)\big), \qquad
      t_i = \arg\max_j (A A^\top + B B^\top)_{ij}$$

    The target t is i itself, unless another pair has longer vectors that point the same way; of unit vectors it always
    is. `mnr` with `dot` and T = 1 is the multiple negatives ranking loss of sentence-transformers with a dot product
    and scale 1; `mnr_plus` with `cosine` is its symmetric form.

    Batches of one domain need no `domain`. In mixed ones, pairs of other domains are left out: an encoder with domain
    tokens tells them apart by these alone, which lowers the loss and teaches nothing.

    Args:
        form: see above.
        similarity: dot product of the vectors as they are, as released, or their cosine.
        temperature: T; where it is learnt, what it begins with (0.7 in the release).
        learn_temperature: T is a parameter, as a logarithm.

    Shape:
        - `anchor`, `positive`: float `(B, D)`.
        - `domain`: int `(B,)` or None.
        - returns `LossOutput`: part `domain_contrast`; stats `domain_contrast_accuracy` (anchors whose own text comes
          first), `domain_contrast_own` (targets that are the pair itself), `domain_contrast_temperature`.

    Raises:
        TypeError: vectors that are not floating point, domains that are no integers.
        ValueError: shapes that do not fit, values that are not finite, options out of range.

    Example:
        >>> loss = DomainContrast(form="mnr")
        >>> loss(torch.eye(2), torch.eye(2)).loss
        tensor(0.3133)

    Reference: Hallee et al., 2024.
    """

    def __init__(
        self,
        *,
        form: Form = "mnr_plus",
        similarity: Similarity = "dot",
        temperature: float = 1.0,
        learn_temperature: bool = False,
    ) -> None:
        super().__init__()
        one_of("form", form, Form)
        one_of("similarity", similarity, Similarity)
        above_zero("temperature", temperature)
        self.form: Form = form
        self.similarity: Similarity = similarity
        self.temperature = temperature
        self.learn_temperature = learn_temperature
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature))) if learn_temperature else None

    def forward(
        self,
        anchor: Float[Tensor, "batch dim"],
        positive: Float[Tensor, "batch dim"],
        domain: Int[Tensor, " batch"] | None = None,
    ) -> LossOutput:
        """Compute the loss; see the class."""
        temperature = self.temperature if self.log_temperature is None else self.log_temperature.exp()
        each = domain_contrast_loss(
            anchor, positive, domain, form=self.form, similarity=self.similarity, temperature=temperature
        )
        loss = each.sum() / max(len(each), 1)
        with torch.no_grad():
            same = _same(anchor, domain)
            a, b = _prepared(anchor, self.similarity), _prepared(positive, self.similarity)
            own = torch.arange(len(a), device=a.device)
            scores = _within(a @ b.T, same)
            first = scores.diagonal() >= scores.amax(1) if len(a) else own.bool()
            stats = {
                "domain_contrast_accuracy": first.sum() / max(len(a), 1),
                "domain_contrast_own": (_targets(a, b, same) == own).sum() / max(len(a), 1),
                "domain_contrast_temperature": torch.as_tensor(temperature, dtype=a.dtype, device=a.device).detach(),
            }
        return LossOutput(loss, {"domain_contrast": loss}, stats)


PAPER = Paper(
    slug="moe-embeddings",
    title="Contrastive Learning and Mixture of Experts Enables Precise Vector Embeddings",
    authors=("Logan Hallee", "Rohan Kapur", "Arjun Patel", "Jason P. Gleghorn", "Bohdan Khomtchouk"),
    year=2024,
    venue="arXiv preprint",
    url="https://arxiv.org/abs/2401.15713",
    lever="module",
    purpose="one encoder for several domains: a set of feed-forward weights for each, at the price of one",
    names=("add_experts", "merge_experts", "router_loss", "DomainContrast", "domain_contrast_loss"),
    claims=(
        Claim(
            text="contrast on pairs of a domain's texts makes a pretrained encoder much better at telling what belongs "
            "together there",
            metric="f1",
            better="higher",
            baseline="untrained",
            arm="experts",
        ),
        Claim(
            text="one encoder with N experts does as well as N encoders, one for each domain",
            metric="f1",
            better="higher",
            baseline="separate",
            arm="experts",
            by=-1.0,
        ),
        Claim(
            text="experts make one encoder better in several domains than shared weights do",
            published="0.887 against 0.877 F1, five biomedical fields (result files of the journal version)",
            metric="f1",
            better="higher",
            baseline="dense",
            arm="experts",
        ),
        Claim(
            text="experts in a single layer bring 85 % of what experts in all of them do",
            published="85 %",
            reason="a share of a gain is no difference of two arms; the arm experts+middle can be run beside",
        ),
    ),
    arxiv="2401.15713",
)
