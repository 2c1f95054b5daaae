"""WhitenedCSE: whiten random groups of channels, then contrast several views of a sentence with all others.

Paper: W. Zhuo et al., "Whitening-based Contrastive Learning of Sentence Embeddings", ACL 2023, arXiv 2305.17746.
Departure: every view is whitened by itself, as the paper says; the released code cuts the batch across the views, which
is `views="contiguous_thirds"`.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from kilter.core.checks import finite, floating, integer, one_of, one_per_row, positive, readable, shaped, whole
from kilter.core.decoder import warn
from kilter.core.objective import LossOutput, Objective
from kilter.core.paper import Claim, Paper
from kilter.dist import gather as gather_rows
from kilter.dist import rank
from kilter.embeddings.shuffled_group_whitening import (
    EPSILON,
    check_batch,
    check_groups,
    dead_channels,
    draw,
    whitened,
)
from kilter.ops.info_nce import info_nce, unit
from kilter.ops.whitening import Method

Views = Literal["per_view", "contiguous_thirds"]

CHANNELS = 6
"""Channels of a group where their number is not given: the release's, 128 groups of 768."""


def whitened_cse_loss(
    views: Float[Tensor, "views batch dim"],
    group: Int[Tensor, " batch"] | None = None,
    *,
    temperature: float = 0.05,
    negatives: bool = True,
) -> Float[Tensor, " batch"]:
    r"""How unlikely the first view of each sentence finds its other views, each among that view of all sentences.

    $$\ell_i = \sum_{k=2}^{M} -\log \frac{\exp(\cos(z_{1i}, z_{ki})/\tau)}{\sum_j \exp(\cos(z_{1i}, z_{kj})/\tau)}$$

    With two views it is SimCSE's. With `group`, rows of one number are views of one sentence: within a view, an
    anchor's loss is the mean over its positives, each alone among the rows of other sentences; the first view counts
    too, with what else of the sentence is there. So M may be 1; with a number for each row it is the formula above.

    Without `negatives` it is W-MSE's, which only whitening keeps from collapse: the mean of $2 - 2\cos(z_{ki}, z_{li})$
    over every two views of a sentence.

    Args:
        views: whitened and projected vectors.
        group: number of the sentence of each row; None takes every row for another.
        temperature: τ.
        negatives: contrast with other sentences.

    Returns:
        One value per row of the batch; 0 where it has no positive.

    Raises:
        TypeError: `views` not floating point, `group` not integer.
        ValueError: fewer than two views without `group`, shapes that do not fit, τ not above 0; on the CPU also NaN and
            infinity.

    Example:
        >>> whitened_cse_loss(torch.eye(4).expand(3, 4, 4), temperature=1.0)  # 2 log((e + 3) / e)
        tensor([1.4874, 1.4874, 1.4874, 1.4874])

    Reference: Zhuo et al., ACL 2023; T. Gao, X. Yao, D. Chen, "SimCSE", EMNLP 2021; A. Ermolov et al., "Whitening for
    self-supervised representation learning", ICML 2021.
    """
    positive("temperature", temperature)
    check_views(views, group)
    pairs = _pairs(views, views.shape[1], group)
    return _surprise(views, pairs, temperature) if negatives else _distance(views, pairs)


def check_views(views: Tensor, group: Tensor | None) -> None:
    """Check shapes and dtypes; on the CPU also that all vectors are finite.

    Raises:
        TypeError, ValueError: see `whitened_cse_loss`.
    """
    if not isinstance(views, Tensor):
        raise TypeError(
            f"views must be a tensor (views, batch, dim), got {type(views).__name__}; in the trainer of "
            "sentence-transformers give as_st_loss(objective, model) as its loss"
        )
    floating("views", views, "give the encoder's vectors")
    shaped("views", views, "views, batch, dim", "stack the vectors of each view")
    if group is not None:
        integer("group", group, "hold integers", "number the sentences")
        one_per_row("group", group, views.shape[1], "views", "give one number per row")
    elif len(views) < 2:
        raise ValueError(f"views holds {len(views)} of each sentence; give two or more, or say in group what is alike")
    finite("views", views.transpose(0, 1), mend="lower the learning rate, or look at that text's encoding")


class _Pairs(NamedTuple):
    """Who belongs together: the first rows of the first view, and the rows of one view."""

    view: int
    positives: Bool[Tensor, "anchors batch"]
    negatives: Bool[Tensor, "anchors batch"]


def _pairs(views: Tensor, anchors: int, group: Int[Tensor, " batch"] | None) -> list[_Pairs]:
    """The views that have positives; without `group` the first has none."""
    number = torch.arange(views.shape[1], device=views.device) if group is None else group
    same = number[:anchors, None] == number
    others = same & ~torch.eye(*same.shape, dtype=torch.bool, device=same.device)
    return [_Pairs(view, same if view else others, ~same) for view in range(group is None, len(views))]


def _surprise(views: Tensor, pairs: list[_Pairs], temperature: float) -> Float[Tensor, " anchors"]:
    """The loss of each anchor."""
    anchors = views[0, : len(pairs[0].positives)]
    each = [
        info_nce(anchors, views[view], positives=positives, negatives=negatives, temperature=temperature)
        for view, positives, negatives in pairs
    ]
    return torch.stack(each).sum(0)


def _distance(views: Tensor, pairs: list[_Pairs]) -> Float[Tensor, " anchors"]:
    """Mean squared distance of every two unit vectors of each anchor's sentence, out of their number and their sum."""
    together = ~pairs[0].negatives
    count = len(views) * together.sum(1)
    summed = unit(views).sum(0)
    with torch.autocast(summed.device.type, enabled=False):  # a difference of squares needs all its digits
        total = together.to(summed.dtype) @ summed
    return 2 * (count.square() - total.square().sum(-1)) / (count * (count - 1)).clamp(min=1)


def _closeness(views: Tensor, pairs: list[_Pairs]) -> Float[Tensor, ""]:
    """Mean cosine of anchors and their positives."""
    views = unit(views)
    anchors = views[0, : len(pairs[0].positives)]
    found = torch.stack([(anchors @ views[one.view].T * one.positives).sum() for one in pairs])
    return found.sum() / torch.stack([one.positives.sum() for one in pairs]).sum().clamp(min=1)


class WhitenedCSE(Objective):
    r"""Contrast several views of each sentence after whitening shuffled groups of channels, during training only.

    $$\mathcal L = \frac1B \sum_i \sum_{k=2}^{M} -\log
      \frac{\exp(\cos(z_{1i}, z_{ki})/\tau)}{\sum_j \exp(\cos(z_{1i}, z_{kj})/\tau)}, \qquad
      z_k = \tanh(A\,\mathrm{SGW}_k(h_k) + b)$$

    Views are the encoder's vectors of one sentence, drawn by dropout, or of several texts that mean the same; give them
    before any normalisation. Each has its own groups of channels, which makes the views of a sentence differ more. With
    `method=None` it is SimCSE with as many positives as there are views; with two views and no head, it is the multiple
    negatives ranking loss of sentence-transformers. What is learnt here, A and b, is thrown away after training.

    Args:
        dim: width of the vectors.
        groups: how many groups of channels; divides `dim`. None is six channels each.
        shuffle: deal the channels out at random, anew at every step.
        views: `per_view` whitens each view by itself. `contiguous_thirds` is the release's layout: rows lie sentence by
            sentence and are cut into as many parts as there are views, so that nearly all views of a sentence share one
            shuffle.
        temperature: τ.
        method: see `shuffled_group_whitening`; None does not whiten.
        epsilon: ridge on the variances, as a share of their mean in the group; 0 is exact.
        detach: whitening matrices are constants in the backward pass, as in the release.
        head: a linear layer and a tanh between whitening and loss.
        gather: whiten, and take negatives from, the batches of all processes.
        negatives: contrast with other sentences; without, whitening alone keeps the vectors apart (W-MSE's loss).

    Shape:
        - `views`: float `(M, B, D)`, M at least 2; with `group`, int `(B,)`, at least 1.
        - returns `LossOutput`: part `whitened_cse`; stats `whitened_cse_before` and `whitened_cse_after` (mean cosine
          of positives, of the vectors given and of the whitened ones), `whitened_cse_dead` (channels that do not vary,
          a mean over the views).

    Raises:
        TypeError, ValueError: see `shuffled_group_whitening` and `whitened_cse_loss`; also another width than `dim`.

    Example:
        >>> loss = WhitenedCSE(12, groups=2)
        >>> out = loss(torch.randn(3, 32, 12), torch.Generator().manual_seed(0))
        >>> sorted(out.stats)
        ['whitened_cse_after', 'whitened_cse_before', 'whitened_cse_dead']

    Reference: Zhuo et al., ACL 2023.
    """

    def __init__(
        self,
        dim: int,
        *,
        groups: int | None = 128,
        shuffle: bool = True,
        views: Views = "per_view",
        temperature: float = 0.05,
        method: Method | None = "zca",
        epsilon: float | int = EPSILON,
        detach: bool = True,
        head: bool = True,
        gather: bool = False,
        negatives: bool = True,
    ) -> None:
        super().__init__()
        whole("dim", dim, 1)
        one_of("views", views, Views)
        positive("temperature", temperature)
        if groups is None and method and dim % CHANNELS:
            raise ValueError(f"groups=None is {CHANNELS} channels each, of which dim={dim} is no multiple; give groups")
        if not (method or negatives):
            raise ValueError("method=None without negatives leaves nothing that keeps sentences apart; give either")
        if method:
            check_groups(dim, dim // CHANNELS if groups is None else groups, method, epsilon)
        self.dim = dim
        self.groups = groups
        self.shuffle = shuffle
        self.views: Views = views
        self.temperature = temperature
        self.method: Method | None = method
        self.epsilon = epsilon
        self.detach = detach
        self.head = head
        self.negatives = negatives
        self.gather = gather
        self.projection = nn.Linear(dim, dim) if head else None
        if self.projection is not None:
            nn.init.normal_(self.projection.weight, std=0.02)
            nn.init.zeros_(self.projection.bias)
        self._said: set[str] = set()

    def forward(
        self,
        views: Float[Tensor, "views batch dim"],
        generator: Generator | None = None,
        group: Int[Tensor, " batch"] | None = None,
    ) -> LossOutput:
        """Compute the loss; see the class."""
        check_views(views, group)
        if views.shape[2] != self.dim:
            raise ValueError(
                f"views has {views.shape[2]} channels and dim is {self.dim}; give the encoder's width as dim"
            )
        self._look_for_dropout(views, group)
        rows = views.shape[1]
        if self.gather:  # its own rows first: they are the anchors
            views = gather_rows(views.transpose(0, 1)).roll(-rows * rank(), 0).transpose(0, 1)
            group = group if group is None else gather_rows(group).roll(-rows * rank())
        pairs = _pairs(views, rows, group)
        white, dead = self._whiten(views, generator)
        projected = self._project(white)
        each = _surprise(projected, pairs, self.temperature) if self.negatives else _distance(projected, pairs)
        if self.negatives and group is not None and readable(group) and rows > 1 and bool((group == group[0]).all()):
            self._say(
                "one",
                "WhitenedCSE: all rows of the batch are of one group, so that there is nothing to contrast them with; "
                "is the label column the number of each row's sentence?",
            )
        counted = torch.stack([one.positives.any(1) for one in pairs]).any(0).sum()
        loss = each.sum() / counted.clamp(min=1)
        with torch.no_grad():
            stats = {
                "whitened_cse_before": _closeness(views, pairs),
                "whitened_cse_after": _closeness(white, pairs),
                "whitened_cse_dead": dead.sum() / len(dead),
            }
        return LossOutput(loss, {"whitened_cse": loss}, stats)

    def _whiten(self, views: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """The views, whitened if that is asked for, and the dead channels of each."""
        count, batch, dim = views.shape
        if not self.method:
            return views, torch.zeros(count, dim, dtype=torch.bool, device=views.device)
        groups = dim // CHANNELS if self.groups is None else self.groups
        check_batch(batch, dim // groups, self.epsilon)
        if 0 < batch <= dim // groups and self.training:
            self._say(
                "small",
                f"WhitenedCSE: a batch of {batch} has no more rows than a group has channels ({dim // groups}), so "
                f"that epsilon={self.epsilon:g} decides how it is whitened; give larger batches, or more groups",
            )
        permutation = draw(count, dim, views.device, generator) if self.shuffle and groups > 1 else None
        parts = views if self.views == "per_view" else views.transpose(0, 1).reshape(count, batch, dim)
        how = {"method": self.method, "epsilon": self.epsilon, "detach": self.detach}
        white, dead = whitened(parts, groups, permutation, **how)
        if readable(dead) and dead.any():
            self._say("dead", dead_channels(dead.any(0)))
        return white if self.views == "per_view" else white.reshape(batch, count, dim).transpose(0, 1), dead

    def _project(self, views: Tensor) -> Tensor:
        """Through the head, in at least float32."""
        if self.projection is None:
            return views
        views = views.to(torch.promote_types(views.dtype, torch.float32))
        with torch.autocast(views.device.type, enabled=False):
            return F.linear(views, self.projection.weight.to(views), self.projection.bias.to(views)).tanh()

    def _look_for_dropout(self, views: Tensor, group: Tensor | None) -> None:
        """Say so once where the views of a sentence are all the same."""
        if group is not None or not self.training or "same" in self._said or not readable(views) or not len(views[0]):
            return
        if any(torch.equal(views[0], other) for other in views[1:]):
            shuffled = self.method and self.shuffle and self.views == "per_view" and self.groups not in (1, self.dim)
            self._say(
                "same",
                "WhitenedCSE: the views of a sentence are equal, so that "
                + ("only the shuffled groups tell them apart" if shuffled else "to find a positive teaches nothing")
                + "; put the encoder in train mode, give it dropout, or give other texts of the same meaning",
            )

    def _say(self, what: str, text: str) -> None:
        """Warn, the first time only."""
        if what not in self._said:
            self._said.add(what)
            warn(text)


PAPER = Paper(
    slug="whitened-cse",
    title="WhitenedCSE: Whitening-based Contrastive Learning of Sentence Embeddings",
    authors=("Wenjie Zhuo", "Yifan Sun", "Xiaohan Wang", "Linchao Zhu", "Yi Yang"),
    year=2023,
    venue="Annual Meeting of the Association for Computational Linguistics (ACL)",
    url="https://aclanthology.org/2023.acl-long.677/",
    lever="objective",
    purpose="sentence vectors whose cosine follows meaning, from sentences alone",
    names=("WhitenedCSE", "shuffled_group_whitening"),
    claims=(
        Claim(
            text="similarity of sentences is judged better than by the contrastive baseline",
            published="78.78 against 76.25 Spearman, mean of seven STS sets",
            metric="sts_average",
            better="higher",
            baseline="simcse-2",
            arm="whitened-cse",
            by=2.53,
        ),
        Claim(
            text="whitening spreads the vectors, beyond what contrast alone does",
            metric="uniformity",
            better="lower",
            baseline="simcse-2",
            arm="whitened-cse",
        ),
        Claim(
            text="several positives, made more diverse by the shuffle, lie closer",
            metric="alignment",
            better="lower",
            baseline="simcse-2",
            arm="whitened-cse",
        ),
        Claim(
            text="it is better than all methods published before it",
            published="78.78 Spearman from BERT-base",
            reason="needs BERT-base, a million sentences of Wikipedia, and the other methods' models",
        ),
    ),
    arxiv="2305.17746",
)
