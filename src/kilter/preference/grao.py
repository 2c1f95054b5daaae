"""GRAO: a group of samples learns from the reference answer, too, also where every sample fails.

Paper: H. Wang et al., "Learning to Align, Aligning to Learn: A Unified Approach for Self-Optimized Alignment", arXiv
2508.07750. Departure: the regulariser only changes two weights, so a folded form without it computes the same.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kilter.core.checks import at_least, one_of, whole
from kilter.core.objective import LossOutput, Objective
from kilter.core.paper import Claim, Paper
from kilter.preference.group_advantages import Std, group_advantages
from kilter.preference.group_likelihoods import Likelihoods, likelihoods, mean_log_prob

Form = Literal["paper", "folded"]
Mask = Bool[Tensor, "batch tokens"] | Int[Tensor, "batch tokens"]
AnswerMask = Bool[Tensor, "prompts answer"] | Int[Tensor, "prompts answer"]


def effective_weights(
    num_samples: int, *, beta: float | int = 0.5, lambda_: float | int = 0.6, reference_in_stats: bool = True
) -> tuple[float, float]:
    r"""What GRAO weighs a sample and the reference by, once its regulariser is folded in.

    $$J = \frac{1 + \lambda}{G} \sum_i A_i\, \ell_i + \Bigl(\beta + \frac{\lambda}{G}\Bigr) A_y\, \ell_y$$

    with the mean log-likelihoods ℓ of a sample's and of the reference's tokens. It follows from advantages that sum to
    0 over the group; where the reference is not in their statistics, the samples' do, and λ/G falls away.

    Args:
        num_samples: G, samples of each prompt.
        beta: β, the weight of imitation.
        lambda_: λ, the weight of the regulariser.
        reference_in_stats: as `group_advantages` was called.

    Returns:
        The weights of one sample and of the reference.

    Raises:
        TypeError: a number of samples that is not whole.
        ValueError: fewer than one sample, a weight below 0.

    Example:
        >>> effective_weights(8)
        (0.2, 0.575)

    Reference: Wang et al., 2025, eq. 2-3, of which this is an identity that the paper does not state.
    """
    whole("num_samples", num_samples, 1)
    at_least("beta", beta, 0)
    at_least("lambda_", lambda_, 0)
    return (1 + lambda_) / num_samples, beta + (lambda_ / num_samples if reference_in_stats else 0.0)


def group_relative_alignment(
    sample_log_probs: Float[Tensor, "batch tokens"],
    sample_mask: Mask,
    advantages: Float[Tensor, " batch"],
    reference_log_probs: Float[Tensor, "prompts answer"],
    reference_mask: AnswerMask,
    reference_advantages: Float[Tensor, " prompts"],
    group: Int[Tensor, " batch"] | None = None,
    *,
    beta: float | int = 0.5,
    lambda_: float | int = 0.6,
) -> Float[Tensor, ""]:
    r"""Samples and reference answers are made more or less likely, by how much better than their group they are.

    $$\mathcal L = -\frac1N \sum_i \bigl[ A_i\, \ell_i + \beta\, A_{y}\, \ell_{y}
      + \lambda\, A_i\, (\ell_i - \ell_{y}) \bigr]$$

    over all N samples i, each with the reference y of its prompt; ℓ is the mean log-probability of an answer's tokens,
    0 of an answer without any. No gradient reaches the advantages.

    Args:
        sample_log_probs: log-probabilities of each sample's tokens; padding may hold anything, NaN too.
        sample_mask: true, or 1, where there is a token.
        advantages: A of each sample, see `group_advantages`.
        reference_log_probs: of each reference's tokens.
        reference_mask: true, or 1, where there is a token.
        reference_advantages: A of each reference.
        group: which reference is each sample's; None is as many samples for each, in order.
        beta: β, the weight of imitation.
        lambda_: λ, the weight of the regulariser.

    Returns:
        The loss, in at least float32; 0 of no samples.

    Raises:
        TypeError: log-probabilities or advantages that are not floating point, masks that are neither boolean nor
            integer, a group that is not integer.
        ValueError: shapes, masks or groups that do not fit, a weight below 0; on the CPU also NaN or infinity where
            there is a token.

    Example:
        >>> samples, reference = torch.tensor([[-1.0, -3.0], [-2.0, 0.0]]), torch.tensor([[-1.0]])
        >>> samples_have, reference_has = torch.tensor([[1, 1], [1, 0]]), torch.tensor([[1]])
        >>> a = torch.tensor([-0.5, -0.5]), torch.tensor([1.0])
        >>> group_relative_alignment(samples, samples_have, a[0], reference, reference_has, a[1])
        tensor(-0.8000)

    Reference: Wang et al., 2025, eq. 2-3.
    """
    at_least("beta", beta, 0)
    at_least("lambda_", lambda_, 0)
    found = likelihoods(
        sample_log_probs,
        sample_mask,
        advantages,
        reference_log_probs,
        reference_mask,
        reference_advantages,
        group,
    )
    return torch.stack(_parts(found, found.reference_advantages, beta, lambda_)).sum()


class GroupRelativeAlignment(Objective):
    r"""GRPO's group with the reference answer as one of it: what the samples and it teach, by their advantages.

    $$J = \frac1G \sum_i \bigl[ A_i\, \ell_i + \beta\, A_y\, \ell_y + \lambda\, A_i\, (\ell_i - \ell_y) \bigr],
      \qquad \mathcal L = -J$$

    exploration, imitation and the alignment regulariser, with mean log-likelihoods ℓ of each answer's tokens. The loss
    is the mean over samples. No ratio, no clipping and no reference model are in it: `align_group` puts it into
    trl's GRPO trainer, which has them.

    The regulariser is redundant: with whole groups the loss is that of `effective_weights`, which is what
    `form="folded"` computes.

    Args:
        beta: β, the weight of imitation.
        lambda_: λ, the weight of the regulariser.
        form: "paper" has its three parts; "folded" the two that are left, for calls that hold whole groups.
        reference_in_stats: see `group_advantages`.
        std: see `group_advantages`.
        eps: see `group_advantages`.
        clip_negative_reference: a reference that is worse than its group is left alone: no gradient reaches it. Else
            its likelihood is pushed down for as long as samples beat it, and nothing bounds that.

    Shape:
        - `sample_log_probs`: float `(N, T)`; `sample_mask`: bool or 0/1 `(N, T)`; `advantages`: float `(N,)`.
        - `reference_log_probs`: float `(P, S)`; `reference_mask`: bool or 0/1 `(P, S)`; `reference_advantages`: float
          `(P,)`.
        - `group`: int `(N,)`, the row of its reference; None is N/P samples of each, in order.
        - returns `LossOutput`: parts `exploration`, `imitation`, `regulariser`, or folded `samples`, `reference`; stats
          `reference_advantage`, `reference_log_prob`, means over the references that have a sample.

    Raises:
        TypeError: see `group_relative_alignment`.
        ValueError: an option out of range; else see `group_relative_alignment`.

    Example:
        >>> grao = GroupRelativeAlignment()
        >>> a, reference_a = grao.advantages(torch.tensor([[-1.0, -1.0, 0.0, -1.0]]))
        >>> log_probs, mask = torch.full((4, 3), -2.0), torch.ones(4, 3, dtype=torch.bool)
        >>> out = grao(log_probs, mask, a.flatten(), log_probs[:1], mask[:1], reference_a)
        >>> {name: round(float(part), 3) for name, part in out.parts.items()}
        {'exploration': -0.612, 'imitation': 1.224, 'regulariser': 0.0}

    Reference: Wang et al., "Learning to Align, Aligning to Learn", 2025. Departures: what the paper's statistics are
    over is not said, see `group_advantages`; `clip_negative_reference` is not the paper's.
    """

    def __init__(
        self,
        *,
        beta: float | int = 0.5,
        lambda_: float | int = 0.6,
        form: Form = "paper",
        reference_in_stats: bool = True,
        std: Std = "population",
        eps: float | int = 1e-4,
        clip_negative_reference: bool = False,
    ) -> None:
        super().__init__()
        at_least("beta", beta, 0)
        at_least("lambda_", lambda_, 0)
        one_of("form", form, Form)
        one_of("std", std, Std)
        at_least("eps", eps, 0)
        self.beta = beta
        self.lambda_ = lambda_
        self.form: Form = form
        self.reference_in_stats = reference_in_stats
        self.std: Std = std
        self.eps = eps
        self.clip_negative_reference = clip_negative_reference

    def advantages(
        self, rewards: Float[Tensor, "batch samples"], reference_rewards: Float[Tensor, " batch"] | None = None
    ) -> tuple[Float[Tensor, "batch samples"], Float[Tensor, " batch"]]:
        """`group_advantages` with the options of this."""
        return group_advantages(
            rewards, reference_rewards, reference_in_stats=self.reference_in_stats, std=self.std, eps=self.eps
        )

    def forward(
        self,
        sample_log_probs: Float[Tensor, "batch tokens"],
        sample_mask: Mask,
        advantages: Float[Tensor, " batch"],
        reference_log_probs: Float[Tensor, "prompts answer"],
        reference_mask: AnswerMask,
        reference_advantages: Float[Tensor, " prompts"],
        group: Int[Tensor, " batch"] | None = None,
    ) -> LossOutput:
        """The loss of samples and references; see the class."""
        found = likelihoods(
            sample_log_probs,
            sample_mask,
            advantages,
            reference_log_probs,
            reference_mask,
            reference_advantages,
            group,
        )
        ones = found.reference.new_ones(len(found.group))
        counts = torch.zeros_like(found.reference).index_add(0, found.group, ones)
        stats = _stats(found.reference, found.reference_advantages, counts)
        if self.form == "folded":
            samples = -(1 + self.lambda_) * _mean(found.advantages * found.samples)
            reference = self._reference(found.reference, found.reference_advantages, counts, counts)
            return LossOutput(samples + reference, {"samples": samples, "reference": reference}, stats)
        kept = found.reference_advantages
        if self.clip_negative_reference:
            bad = kept < 0
            found = found._replace(reference=torch.where(bad, found.reference.detach(), found.reference))
            kept = kept.clamp(min=0)
        exploration, imitation, regulariser = _parts(found, kept, self.beta, self.lambda_)
        parts = {"exploration": exploration, "imitation": imitation, "regulariser": regulariser}
        return LossOutput(exploration + imitation + regulariser, parts, stats)

    def reference_term(
        self,
        reference_log_probs: Float[Tensor, "prompts answer"],
        reference_mask: AnswerMask,
        reference_advantages: Float[Tensor, " prompts"],
        counts: Float[Tensor, " prompts"],
        num_samples: int,
    ) -> LossOutput:
        r"""The references' part of the folded loss, where something else computes that of the samples.

        $$-\frac1N \sum_y n_y \Bigl(\beta + \frac{\lambda}{G}\Bigr) A_y\, \ell_y, \qquad N = \sum_y n_y$$

        The samples' part is $-(1 + \lambda)$ times the mean of $A_i \ell_i$. A call need not hold whole groups.

        Args:
            reference_log_probs: of each reference's tokens.
            reference_mask: true, or 1, where there is a token.
            reference_advantages: A of each reference.
            counts: n, how many samples of its group the call holds.
            num_samples: G, how many there are in all.

        Returns:
            The loss, with the part `reference` and the stats of the class.
        """
        likelihood = mean_log_prob("reference_log_probs", reference_log_probs, "reference_mask", reference_mask)
        advantages = reference_advantages.detach().to(likelihood.dtype)
        loss = self._reference(likelihood, advantages, counts, torch.full_like(counts, num_samples))
        return LossOutput(loss, {"reference": loss}, _stats(likelihood, advantages, counts))

    def _reference(self, likelihood: Tensor, advantages: Tensor, counts: Tensor, of: Tensor) -> Tensor:
        """`reference_term`, with the size of each group."""
        if self.clip_negative_reference:
            advantages = advantages.clamp(min=0)
        weights = self.beta * counts
        if self.reference_in_stats:
            weights = weights + self.lambda_ * counts / of.clamp(min=1)
        return -(weights * advantages * likelihood).sum() / counts.sum().clamp(min=1)


def _parts(found: Likelihoods, reference_advantages: Tensor, beta: float | int, lambda_: float | int) -> list[Tensor]:
    """Exploration, imitation, regulariser."""
    reference = found.reference[found.group]
    return [
        -_mean(found.advantages * found.samples),
        -beta * _mean(reference_advantages[found.group] * reference),
        -lambda_ * _mean(found.advantages * (found.samples - reference)),
    ]


def _stats(likelihood: Tensor, advantages: Tensor, counts: Tensor) -> dict[str, Tensor]:
    """Means over the references that have a sample."""
    used = (counts > 0).to(likelihood.dtype)
    named = {"reference_advantage": advantages, "reference_log_prob": likelihood.detach()}
    return {name: (used * value).sum() / used.sum().clamp(min=1) for name, value in named.items()}


def _mean(values: Tensor) -> Tensor:
    """0 of no values."""
    return values.sum() / max(len(values), 1)


PAPER = Paper(
    slug="grao",
    title="Learning to Align, Aligning to Learn: A Unified Approach for Self-Optimized Alignment",
    authors=(
        "Haowen Wang",
        "Yun Yue",
        "Zhiling Ye",
        "Shuowen Zhang",
        "Lei Fan",
        "Jiaxin Liang",
        "Jiadi Jiang",
        "Cheng Wei",
        "Jingyuan Deng",
        "Xudong Han",
        "Ji Li",
        "Chunxiao Guo",
        "Peng Wei",
        "Jian Wang",
        "Jinjie Gu",
    ),
    year=2025,
    venue="arXiv",
    url="https://arxiv.org/abs/2508.07750",
    lever="objective",
    purpose="a language model learns from its own answers and from a reference, by which of them is better",
    names=("GroupRelativeAlignment", "group_relative_alignment", "group_advantages", "effective_weights"),
    claims=(
        Claim(
            text="answers are better than after training on the references alone",
            published="57.70% more wins against the reference, relative, over two models and two tasks of HH",
            metric="win_rate",
            better="higher",
            baseline="sft",
            arm="grao",
        ),
        Claim(
            text="answers are better than after GRPO with the same judge",
            published="5.18% more wins against the reference, relative, over two models and two tasks of HH",
            metric="win_rate",
            better="higher",
            baseline="grpo",
            arm="grao",
            by=3.0,
        ),
        Claim(
            text="answers are better than after DPO on the pairs",
            published="17.65% more wins against the reference, relative, over two models and two tasks of HH",
            reason="needs models of billions of weights, and a trainer of pairs beside that of samples",
        ),
        Claim(
            text="answers are better than after PPO with the same judge",
            published="7.95% more wins against the reference, relative, over two models and two tasks of HH",
            reason="needs models of billions of weights, and PPO, which the host has removed",
        ),
    ),
    arxiv="2508.07750",
)
