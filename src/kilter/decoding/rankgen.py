"""RankGen: learn which passage comes next, against passages of the same document and against machine text.

Paper: K. Krishna et al., "RankGen: Improving Text Generation with Large Ranking Models", EMNLP 2022, arXiv 2205.09726.
Departure: the loss is the batch mean, the paper writes a sum. Its training code was never released.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import readable
from kilter.core.objective import LossOutput, Objective
from kilter.core.paper import Claim, Paper

Negatives = Literal["all", "inbook", "generative"]


def rank_gen_loss(
    prefix: Float[Tensor, "batch dim"],
    continuation: Float[Tensor, "batch dim"],
    generated: Float[Tensor, "batch dim"] | None = None,
    document: Int[Tensor, " batch"] | None = None,
    *,
    negatives: Negatives = "all",
) -> Float[Tensor, " batch"]:
    r"""How unlikely each prefix finds its own continuation among those of the batch and among machine text.

    $$-\log \frac{\exp(p_i \cdot c_i)}{\sum_j \exp(p_i \cdot c_j) + \sum_j \exp(p_i \cdot g_j)}$$

    The score is the raw dot product, without norm and temperature, in at least float32; one direction only. Every
    $g_j$ of the batch counts against every $p_i$. Draw a batch from one document, or say with `document` which pairs
    belong together: continuations of other documents are told apart by topic alone, which teaches little.

    Args:
        prefix: vectors p of the texts to be continued.
        continuation: vectors c of what follows them in truth.
        generated: vectors g of what a language model wrote after them; None is the paper's INBOOK loss.
        document: which document each row comes from; rows of others are left out of both sums.
        negatives: `all` that are given, `inbook` (the other continuations only), `generative` (machine text only).

    Returns:
        One value per prefix.

    Raises:
        TypeError: vectors that are not floating point, or documents that are not integers.
        ValueError: shapes that do not fit, unknown or missing negatives; on the CPU also NaN.

    Example:
        >>> p = c = torch.zeros(4, 8)
        >>> rank_gen_loss(p, c)  # log 4
        tensor([1.3863, 1.3863, 1.3863, 1.3863])

    Reference: Krishna et al., EMNLP 2022, section 2.2.
    """
    check_pairs(prefix, continuation, generated, document, negatives)
    return _surprise(*_pair_scores(prefix, continuation, generated, document), negatives)


def _surprise(own: Tensor, inbook: Tensor, machine: Tensor | None, negatives: Negatives) -> Tensor:
    terms = [own[:, None] if negatives == "generative" else inbook]
    if machine is not None and negatives != "inbook":
        terms.append(machine)
    return torch.cat(terms, 1).logsumexp(1) - own


def _pair_scores(
    prefix: Float[Tensor, "batch dim"],
    continuation: Float[Tensor, "batch dim"],
    generated: Float[Tensor, "batch dim"] | None,
    document: Int[Tensor, " batch"] | None,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch batch"], Float[Tensor, "batch batch"] | None]:
    """Dot products of every prefix with its own continuation, with all, and with all machine text.

    They are -inf where the documents differ.
    """
    dtype = torch.promote_types(prefix.dtype, torch.float32)
    others = [continuation] if generated is None else [continuation, generated]
    with torch.autocast(prefix.device.type, enabled=False):
        scores = [prefix.to(dtype) @ other.to(dtype).T for other in others]
    own = scores[0].diagonal()
    if document is not None:
        foreign = document[:, None] != document
        scores = [score.masked_fill(foreign, -torch.inf) for score in scores]
    return own, scores[0], None if generated is None else scores[1]


def check_pairs(
    prefix: Tensor, continuation: Tensor, generated: Tensor | None, document: Tensor | None, negatives: str
) -> None:
    """Check shapes, dtypes and the choice of negatives; on the CPU also that there is no NaN.

    Raises:
        TypeError, ValueError: see `rank_gen_loss`.
    """
    if negatives not in get_args(Negatives):
        raise ValueError(f"negatives must be one of {', '.join(get_args(Negatives))}, got {negatives!r}")
    if negatives == "generative" and generated is None:
        raise ValueError("negatives='generative' needs generated, vectors of machine text; give them, or use 'inbook'")
    if prefix.ndim != 2:
        raise ValueError(f"prefix must be (batch, dim), got shape {tuple(prefix.shape)}; give one vector per text")
    for name, tensor in (("prefix", prefix), ("continuation", continuation), ("generated", generated)):
        if tensor is None:
            continue
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be floating point, got {tensor.dtype}; give the encoder's vectors")
        if tensor.shape != prefix.shape:
            raise ValueError(
                f"{name} must be {tuple(prefix.shape)} like prefix, got {tuple(tensor.shape)}; "
                "give one vector per prefix, from the same encoder"
            )
        if readable(tensor) and tensor.isnan().any():
            i = int(tensor.isnan().any(-1).nonzero()[0])
            raise ValueError(f"row {i}: {name} is NaN; lower the learning rate, or look at that text's encoding")
    if document is not None:
        if document.is_floating_point() or document.dtype == torch.bool:
            raise TypeError(f"document must hold integers, got {document.dtype}; number the documents")
        if document.shape != prefix.shape[:1]:
            raise ValueError(
                f"document must be ({len(prefix)},) like the batch of prefix, got {tuple(document.shape)}; "
                "give one number per row"
            )


class RankGenLoss(Objective):
    r"""Contrastive loss of a ranker: the true continuation against others of its document and against machine text.

    $$\mathcal L = -\frac1B \sum_i \log \frac{\exp(p_i \cdot c_i)}
      {\sum_j \exp(p_i \cdot c_j) + \sum_j \exp(p_i \cdot g_j)}$$

    With `generated` left out it is the paper's INBOOK loss. Vectors are not normalised: that would bound the logits.
    Of several processes each sees the negatives of its own batch.

    Args:
        negatives: `all` that are given; `inbook`, also where machine text is given; `generative`, the positive
            against machine text only.

    Shape:
        - `prefix`, `continuation`, `generated` (or None): float `(B, D)`; `document`: int `(B,)` or None.
        - returns `LossOutput`: part `rankgen` (batch mean); stats `rankgen_inbook` (share of prefixes that score
          their own continuation above all others of the batch and document) and, with machine text,
          `rankgen_generative` (share that score it above what was generated for them).

    Raises:
        TypeError, ValueError: see `rank_gen_loss`.

    Example:
        >>> loss = RankGenLoss()
        >>> p, c, g = torch.randn(3, 4, 8).unbind()
        >>> sorted(loss(p, c, g).stats)
        ['rankgen_generative', 'rankgen_inbook']

    Reference: Krishna et al., EMNLP 2022, section 2.2.
    """

    def __init__(self, *, negatives: Negatives = "all") -> None:
        super().__init__()
        if negatives not in get_args(Negatives):
            raise ValueError(f"negatives must be one of {', '.join(get_args(Negatives))}, got {negatives!r}")
        self.negatives: Negatives = negatives

    def forward(
        self,
        prefix: Float[Tensor, "batch dim"],
        continuation: Float[Tensor, "batch dim"],
        generated: Float[Tensor, "batch dim"] | None = None,
        document: Int[Tensor, " batch"] | None = None,
    ) -> LossOutput:
        """Compute the loss; see the class."""
        check_pairs(prefix, continuation, generated, document, self.negatives)
        own, inbook, machine = _pair_scores(prefix, continuation, generated, document)
        batch = max(len(own), 1)
        loss = _surprise(own, inbook, machine, self.negatives).sum() / batch
        myself = torch.eye(len(own), dtype=torch.bool, device=own.device)
        stats = {"rankgen_inbook": (myself | (own[:, None] > inbook)).all(-1).sum() / batch}
        if machine is not None:
            stats["rankgen_generative"] = (own > machine.diagonal()).sum() / batch
        return LossOutput(loss, {"rankgen": loss}, stats)


PAPER = Paper(
    slug="rankgen",
    title="RankGen: Improving Text Generation with Large Ranking Models",
    authors=("Kalpesh Krishna", "Yapei Chang", "John Wieting", "Mohit Iyyer"),
    year=2022,
    venue="Conference on Empirical Methods in Natural Language Processing (EMNLP)",
    url="https://aclanthology.org/2022.emnlp-main.15/",
    lever="decoder",
    purpose="samples that stay with their prompt, chosen by a ranker trained on whole documents",
    names=("RankGenScorer", "RankGenLoss", "RankGenSearch", "BestOfN"),
    claims=(
        Claim(
            text="what the ranker chooses is preferred to nucleus samples: by people there, by another ranker here",
            published="74.5 % of people's choices",
            metric="preferred",
            better="higher",
            baseline="nucleus",
            arm="both",
        ),
        Claim(
            text="its texts are distributed more as people's are than those of nucleus sampling",
            published="85.0 against 77.3 MAUVE",
            reason="needs MAUVE, and thousands of texts of each for it",
        ),
        Claim(
            text="so against top-k and typical sampling, contrastive decoding and contrastive search",
            reason="needs MAUVE, and thousands of texts of each for it",
        ),
        Claim(
            text="it serves language models of every size, in two domains",
            published="four, of 345 million to 11 billion parameters",
            reason="needs models of up to 11 billion parameters; here one of 135 million continues novels",
        ),
        Claim(
            text="its texts are more relevant to the prefix, and more coherent",
            reason="needs people who say why they prefer a text",
        ),
    ),
    arxiv="2205.09726",
)
