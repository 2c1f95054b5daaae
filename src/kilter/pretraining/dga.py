"""Dynamic gradient alignment: draw more of those domains whose gradient points where the target's does, while training.

Paper: S. Fan, D. Grangier, P. Ablin, "Dynamic Gradient Alignment for Online Data Mixing", 2024, arXiv 2410.02498.
Alignments are taken without dropout, by central differences; there is no released code to compare with.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from kilter import dist
from kilter.core.checks import finite, floating, positive, same_shape, share, whole
from kilter.core.decoder import warn
from kilter.core.paper import Claim, Paper
from kilter.pretraining.domain_batches import DomainBatches, loss_of_outputs, moved
from kilter.pretraining.domain_mixture import DomainMixture, read_generator, write_generator
from kilter.pretraining.gradient_alignments import (
    LossFunction,
    Measured,
    Method,
    Normalise,
    check_method,
    measure_alignments,
    untouched,
)
from kilter.pretraining.mixture_callback import MixtureCallback
from kilter.pretraining.rule_checks import check_step

Rule = Callable[[Tensor, Tensor, float], Tensor]

COLLAPSED = 0.99
"""Weight of one domain from which the mixture is said to have collapsed."""


def reweight(
    log_weights: Float[Tensor, " domains"], alignments: Float[Tensor, " domains"], step_size: float | int
) -> Float[Tensor, " domains"]:
    r"""Weights after one step of mirror descent: up where the gradient points where the target's does.

    $$\alpha'_i = \frac{\alpha_i \exp(\mu a_i)}{\sum_j \alpha_j \exp(\mu a_j)}$$

    which maximises $\langle \alpha', a \rangle - \frac1\mu \mathrm{KL}(\alpha' \Vert \alpha)$. A constant added to all
    alignments changes nothing.

    Args:
        log_weights: log α, need not be normalised; minus infinity is a domain that stays away.
        alignments: a.
        step_size: μ.

    Returns:
        log α', normalised, in at least float32.

    Raises:
        TypeError: tensors that are not floating point.
        ValueError: shapes that differ, no domains, μ not finite or below 0; on the CPU also alignments that are not
            finite, and weights that are NaN, infinite or all zero.

    Example:
        >>> reweight(torch.zeros(3), torch.tensor([1.0, 2.0, 4.0]).log(), 1.0).exp() * 7
        tensor([1., 2., 4.])

    Reference: Fan, Grangier & Ablin, 2024; Algorithm 1 of S. Fan et al., "GRAPE", NeurIPS 2025, has the same step.
    """
    check_step(log_weights, alignments, step_size)
    wide = torch.promote_types(torch.promote_types(log_weights.dtype, alignments.dtype), torch.float32)
    return (log_weights.to(wide) + step_size * alignments.to(wide)).log_softmax(0)


class DynamicGradientAlignment(MixtureCallback):
    r"""Let weights of domains follow a target: a callback of transformers' Trainer, and a method for other loops.

    $$\alpha_{t+1} \propto \alpha_t \exp(\mu a_t), \qquad
      \bar\alpha_{t+1} = (1 - \beta)\,\bar\alpha_t + \beta\,\alpha_{t+1}, \qquad
      a_{t,i} = \langle \nabla \ell(\theta_t; x_i), \nabla \ell(\theta_t; y) \rangle$$

    every so many steps, $x_i$ a batch of domain i and y one of the target. Batches are drawn by $\bar\alpha$, the
    recursion goes on with α (which of the two is recursed is our reading).

    In the Trainer, whose training data set is the concatenation of the domains:

        mixture = DomainMixture([len(one) for one in domains.values()])
        dga = DynamicGradientAlignment(mixture, domains=domains, target=target, step_size=1.0)
        Trainer(model, args, train_dataset=ConcatDataset(domains.values()), callbacks=[dga]).train()

    In another loop, `DataLoader(ConcatDataset(domains), batch_size, sampler=mixture)` gives the batches, and every so
    many steps `dga.update(gradient_alignments(…))` is called.

    Batches to measure on are put together by the Trainer's collator, and drawn by a generator of their own. Parameters,
    gradients, optimiser, random states and modes are untouched. In a distributed run each process measures on batches
    of its own, and the alignments' mean counts; under FSDP it is the inner product of mean gradients. Where a batch
    gives no finite alignments, this step is left out, with a warning.

    `MixtureCallback` says what is kept and logged. Here `weights` are α, and rows also have `averaged` ($\bar\alpha$,
    before the floor) and `alignments`. Of the Trainer's there are `target_norm` and `domain_norms` (None where no
    gradient of a domain is computed) too, and `tokens`: examples times the mean number of tokens of those measured on,
    exact for blocks of equal length. In another loop each `update` adds a row, whose `step` counts them.

    The next update goes on from weights set by hand. The scale of a is that of squared gradients: where weights hardly
    move, or collapse, change μ tenfold, or take `clip=1` or `normalise="cosine"`, with which μ near 1 means something.

    Args:
        mixture: that draws; with its `bases`, their weights are followed instead of those of domains (distribution
            reweighting).
        domains: a data set of each domain, or a dict of them by name, with rows as those of the training data; None
            takes the training data set's.
        target: a data set of what the model should become good at, not used to judge it; or a loader of its
            batches, which begins anew when a run is resumed.
        step_size: μ.
        ema: β, the weight of the new value; 1 does not average.
        every: optimiser steps between two measurements; the first is after so many.
        method: how alignments are computed, see `gradient_alignments`; also half precision asked of the Trainer makes
            `central_difference` exact gradients.
        clip: see `gradient_alignments`; each micro-batch of the target is clipped by itself.
        normalise: see `gradient_alignments`.
        rule: of `(log_weights, alignments, step_size)`, the next log-weights; `doge_step` and `balance_step` are those
            of others.
        step: see `gradient_alignments`.
        floor: share of the draws that is equal for all domains.
        times_learning_rate: multiply μ by the learning rate of the moment.
        batch_size: examples of each domain to measure on, in each process; None is a quarter of the training batch.
        target_batch_size: examples of the target; None is the training batch.
        target_micro_batch_size: in parts of so many; None is one part.
        loss_fn: of `(model, batch)`; None is `model(**batch).loss`, the mean per token.
        generator: of the batches to measure on; None has seed 0.

    Attributes:
        log_weights: log α, float64.
        averaged: $\bar\alpha$ before the floor, float64.

    Raises:
        TypeError, ValueError: options out of range, data sets that are empty or of another number than domains.

    Warns:
        UserWarning: a target of one example; weights that collapse to one domain; a step left out; a training of fewer
            steps than `every`.

    Example:
        >>> dga = DynamicGradientAlignment(DomainMixture([10, 10, 10]), step_size=1.0, ema=1.0)
        >>> dga.update(torch.tensor([1.0, 2.0, 4.0]).log()) * 7
        tensor([1., 2., 4.])

    Reference: Fan, Grangier & Ablin, 2024.
    """

    never = "weights will stay as they are"

    def __init__(
        self,
        mixture: DomainMixture,
        *,
        domains: Sequence[Any] | Mapping[str, Any] | None = None,
        target: Any = None,
        step_size: float | int,
        ema: float | int = 0.1,
        every: int = 100,
        method: Method = "central_difference",
        clip: float | None = None,
        normalise: Normalise = "none",
        rule: Rule = reweight,
        step: float = 2e-3,
        floor: float | int = 0.0,
        times_learning_rate: bool = False,
        batch_size: int | None = None,
        target_batch_size: int | None = None,
        target_micro_batch_size: int | None = None,
        loss_fn: LossFunction | None = None,
        generator: Generator | None = None,
    ) -> None:
        names = [*domains] if isinstance(domains, Mapping) else None
        super().__init__(mixture, names=names, every=every)
        positive("step_size", step_size)
        share("ema", ema)
        share("floor", floor)
        check_method(method, clip, normalise, step)
        if not callable(rule):
            raise TypeError(f"rule must be callable, such as reweight, got {type(rule).__name__}")
        sizes = {"batch_size": batch_size, "target_batch_size": target_batch_size}
        for name, size in {**sizes, "target_micro_batch_size": target_micro_batch_size}.items():
            if size is not None:
                whole(name, size, 1)
        each = [*domains.values()] if isinstance(domains, Mapping) else domains
        self.batches = DomainBatches(mixture, each, target, generator)
        self.step_size = step_size
        self.ema = ema
        self.method: Method = method
        self.clip = clip
        self.normalise: Normalise = normalise
        self.rule = rule
        self.step = step
        self.floor = floor
        self.times_learning_rate = times_learning_rate
        self.batch_size = batch_size
        self.target_batch_size = target_batch_size
        self.target_micro_batch_size = target_micro_batch_size
        self.loss_fn = loss_fn or loss_of_outputs
        self._take_up()
        self._updates = 0
        self._tokens: list[float] = []
        self._collapsed = False
        if hasattr(target, "__getitem__") and len(target) == 1:
            warn("DynamicGradientAlignment: target has one example, and weights will follow that; give a few dozen")

    def update(
        self, alignments: Float[Tensor, " domains"], *, learning_rate: float | None = None
    ) -> Float[Tensor, " domains"]:
        r"""Change the weights by alignments, those of `gradient_alignments`, and add a row to the history.

        Args:
            alignments: of each domain (of each basis, where the mixture has such).
            learning_rate: needed with `times_learning_rate`.

        Returns:
            $\bar\alpha$, which the mixture then has.

        Raises:
            TypeError, ValueError: alignments that are not floating point, not finite, or of another number.
        """
        floating("alignments", alignments)
        same_shape("alignments", alignments, self.averaged.shape, "the mixture's weights", "give one each")
        a = alignments.detach().double().cpu()
        finite("alignments", a, row="domain", mend="leave this step out, and look at its batch")
        if self.times_learning_rate and learning_rate is None:
            raise ValueError("learning_rate is needed, since times_learning_rate=True; give that of this step")
        if not torch.equal(self.mixture.weights, self._given):
            self._take_up()
        rate = float(learning_rate or 0) if self.times_learning_rate else 1.0
        self.log_weights = self.rule(self.log_weights, a, self.step_size * rate)
        self.averaged = (1 - self.ema) * self.averaged + self.ema * self.log_weights.exp()
        self.mixture.weights = (1 - self.floor) * self.averaged + self.floor / len(a)
        self._given = self.mixture.weights
        self._look_for_collapse()
        self._updates += 1
        self.history.append({**self.row(self._updates), "alignments": a.tolist()})
        return self.mixture.weights

    def _take_up(self) -> None:
        """Go on from the mixture's weights, in the beginning and where they were set by others."""
        self._given = self.mixture.weights
        self.averaged = self._given.double()
        self.log_weights = self.averaged.log()

    def _look_for_collapse(self) -> None:
        """Say so once where nearly all is drawn of one domain."""
        weights = self.mixture.weights
        if not self._collapsed and len(weights) > 1 and weights.max() > COLLAPSED:
            self._collapsed = True
            what = "basis" if self.mixture.bases else "domain"
            name = f"{what} {int(weights.argmax())}" if self.mixture.bases else self.names[int(weights.argmax())]
            warn(
                f"{type(self).__name__}: {float(weights.max()):.1%} of the draws are of {what} {name!r}; "
                "lower step_size or ema, or give a floor, such as floor=0.1"
            )

    # In the Trainer --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that the next draws and weights depend on, as JSON can hold it."""
        return {
            **super().state_dict(),
            "log_weights": [max(weight, -1e308) for weight in self.log_weights.tolist()],
            "averaged": self.averaged.tolist(),
            "updates": self._updates,
            "batches": read_generator(self.batches.generator),
            "tokens": self._tokens,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: a state of other domains, or of weights that follow no target.
        """
        if "log_weights" not in state:
            raise ValueError("the checkpoint is of weights that follow no target; go on with MixtureCallback, or anew")
        super().load_state_dict(state)
        self._given = self.mixture.weights
        kept = torch.tensor(state["log_weights"], dtype=torch.float64)
        self.log_weights = kept.masked_fill(kept <= -1e308, -torch.inf)
        self.averaged = torch.tensor(state["averaged"], dtype=torch.float64)
        write_generator(self.batches.generator, state["batches"])
        self._updates, self._tokens = state["updates"], state["tokens"]

    def row(self, step: int) -> dict[str, Any]:
        """What is logged at a step, as JSON can hold it."""
        row = super().row(step)
        row["weights"], row["averaged"] = self.log_weights.exp().tolist(), self.averaged.tolist()
        if self._tokens:
            row["tokens"] = [c * t for c, t in zip(self.mixture.counts, self._tokens, strict=True)]
        return row

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the mixture into the loader, and take up what a checkpoint has."""
        if self.batches.target is None:
            raise ValueError("target is needed in the Trainer: a data set of what the model should become good at")
        super().on_train_begin(args, state, control, **kwargs)

    def due(self, args: Any, state: Any, kwargs: dict[str, Any]) -> None:
        """Measure, reweight and log."""
        model, loader = kwargs["model"], kwargs["train_dataloader"]
        with untouched(model):
            measured = self._measured(args, model, loader)
        if not measured.alignments.isfinite().all():
            warn(
                f"{type(self).__name__}: alignments of step {state.global_step} are not finite "
                f"({', '.join(f'{one:g}' for one in measured.alignments.tolist()[:8])}), and are left out; look at the "
                "batches of those domains, and at the learning rate"
            )
            return
        optimizer = kwargs.get("optimizer")
        rate = optimizer.param_groups[0]["lr"] if self.times_learning_rate and optimizer is not None else None
        self.update(measured.alignments, learning_rate=rate)
        norms = measured.domain_norms
        self.history[-1] |= {
            "step": state.global_step,
            "target_norm": float(measured.target_norm),
            "domain_norms": None if norms is None else norms.tolist(),
        }
        self.keep(state)

    def _measured(self, args: Any, model: Any, loader: Any) -> Measured:
        """Alignments on fresh batches, the mean over processes."""
        given = int(args.per_device_train_batch_size)
        size = self.target_batch_size or given
        domains, self._tokens = self.batches.of_domains(self.batch_size or max(1, given // 4), loader)
        targets = self.batches.of_target(size, self.target_micro_batch_size or size, loader)
        half = any(getattr(args, name, False) for name in ("bf16", "fp16"))
        measured = measure_alignments(
            model,
            self.loss_fn,
            moved(domains, args.device),
            moved(targets, args.device),
            method="gradients" if half and self.method == "central_difference" else self.method,
            clip=self.clip,
            normalise=self.normalise,
            step=self.step,
        )
        means = {
            name: dist.all_sum(one) / dist.world_size() for name, one in measured._asdict().items() if one is not None
        }
        return measured._replace(**means)


PAPER = Paper(
    slug="dga",
    title="Dynamic Gradient Alignment for Online Data Mixing",
    authors=("Simin Fan", "David Grangier", "Pierre Ablin"),
    year=2024,
    venue="arXiv",
    url="https://arxiv.org/abs/2410.02498",
    lever="curator",
    purpose="weights of domains that follow a small target set while a language model is trained",
    names=(
        "DomainMixture",
        "DynamicGradientAlignment",
        "gradient_alignments",
        "reweight",
    ),
    claims=(
        Claim(
            text="where domains have few tokens it is better than importance sampling, which overfits those it repeats",
            metric="scarce_target_loss",
            better="lower",
            baseline="importance",
            arm="dga",
        ),
        Claim(
            text="where the target has few examples, it is better than importance sampling over many clusters",
            metric="small_target_loss",
            better="lower",
            baseline="importance",
            arm="dga",
        ),
        Claim(
            text="its overhead is minimal",
            metric="train_seconds",
            better="lower",
            baseline="uniform",
            arm="dga",
            by=-1.0,
        ),
        Claim(
            text="in place of a model for every weighting, weights are found in one run of training",
            reason="a property of the method: nothing to measure",
        ),
    ),
    arxiv="2410.02498",
)
