"""Recipe of dynamic gradient alignment: a small language model for manual pages, from texts of other domains.

The paper has models of 125 million parameters and more, and up to 262 thousand clusters of web pages; here a model of
bytes learns from documentation and novels. Weights follow every 20 steps, since a training has hundreds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Term
from kilter.lab.files import read_json
from kilter.lab.options import above, at_least, share
from kilter.lab.recipe import Judged, Metric
from kilter.tasks.language_modelling import SECONDS, LanguageModelling, Learner, Rows

_ALL = ("uniform", "proportional", "importance", "doge", "rnb", "dga", "dga+unaveraged", "dga+bases")
_SCARCE, _SMALL = 64, 8
"""Blocks of a domain, and of the target, up to which the paper's claims about few of them are tried."""
_SETTINGS = {"scarce_target_loss": "scarce domains", "small_target_loss": "a small target"}


@dataclass(kw_only=True)
class GradientAlignmentRecipe(LanguageModelling):
    """Choose while training from which domains the next texts come, so that a model gets good at a target.

    Every few steps the gradient on some texts of each domain is compared with that on a few examples of the target.
    Domains that point the same way are drawn more often, in one run of training and without a second model.

    Without --domains a small model learns from documentation and novels, the target are manual pages. With --domains
    news=news.txt law='law/*.jsonl' --target mine.txt it learns from your texts, with --model M it goes on from your
    model. The model is left in arms/dga/seed-0/model, weights and epochs of the domains are in mixture.json beside it.

    Presets: smoke is a test of seconds, demo three arms in minutes, full all arms, three seeds;
    scarce: as full, of each domain 48 blocks, so that what is drawn often comes many times;
    small-target: as full, with 8 examples of the target;
    published: the paper's sizes, for a machine with accelerators;
    own (by default with --domains, --train or --model): all domains alike against gradient alignment.
    """

    step_size: Annotated[float, above(0)] = 5.0
    """μ, how fast weights of arm dga move; gradients are clipped, so that it does not depend on the model"""
    ema: Annotated[float, share()] = 0.1
    """β, share of the new weights in their running mean, by which texts are drawn; arm dga+unaveraged has 1"""
    every: Annotated[int, at_least(1)] = 20
    """steps between two measurements"""
    clip: Annotated[float | None, above(0)] = 1.0
    """norm to which gradients are scaled down before they are compared; None leaves them, and takes differences"""
    domain_batch: Annotated[int, at_least(1)] = 8
    """blocks of each domain to measure on"""
    target_batch: Annotated[int, at_least(1)] = 32
    """blocks of the target to measure on"""
    floor: Annotated[float, share()] = 0.0
    """share of the draws that all domains have alike"""
    clusters: Annotated[int, at_least(2)] = 64
    """groups of texts for importance sampling and dga+bases"""
    doge_step_size: Annotated[float, above(0)] = 100.0
    """of DoGE's rule, times the learning rate (published: 100)"""
    balance_step_size: Annotated[float, above(0)] = 1.0
    """λ of R&B's rule"""

    paper = cards()["dga"]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            **LanguageModelling.smoke,
            "arms": _ALL,
            "every": 6,
            "clusters": 4,
            "domain_batch": 2,
            "target_batch": 4,
        },
        "demo": {"arms": ("uniform", "importance", "dga"), "steps": 200, "domain_blocks": 1000, "jobs": 2},
        "full": {"arms": _ALL, "domain_blocks": 3000, "steps": 400, "seeds": 3, "jobs": 2},
        "scarce": {"arms": _ALL, "domain_blocks": 48, "steps": 400, "seeds": 3, "jobs": 2},
        "small-target": {
            "arms": _ALL,
            "domain_blocks": 3000,
            "target_blocks": 8,
            "steps": 400,
            "seeds": 3,
            "jobs": 2,
        },
        "published": {  # the paper's own settings where they are known, for a machine with accelerators
            "arms": _ALL,
            "block": 512,
            "width": 768,
            "layers": 12,
            "heads": 12,
            "steps": 100_000,
            "every": 100,
            "batch_size": 256,
            "domain_batch": 32,
            "learning_rate": 1.5e-4,
            "step_size": 1.5,
            "save_steps": 5000,
            "seeds": 3,
        },
        "own": {"arms": ("uniform", "dga")},  # what --domains means
    }

    def prepare(self) -> None:
        """Check that the options fit each other; what the paper says of few texts is measured where there are few."""
        super().prepare()
        found = dict(self.metrics)
        if (name := self._loss) != "loss" and "loss" in found:
            found[name] = replace(loss := found.pop("loss"), label=f"{loss.label}, {_SETTINGS[name]}")
        found["train_seconds"] = Metric("Processor time of training", "s", "lower", 1, (0.0, None))
        self.metrics = found  # type: ignore[misc]
        if self.own_texts and not self.target and not {"uniform", "proportional"}.issuperset(self.arms):
            raise ValueError("--target is missing: give a few dozen examples of the text that the model is for")

    @property
    def _loss(self) -> str:
        """What the loss is called: in the paper's settings of few texts by the name that its claims have."""
        if not self.own_texts and 0 < self.domain_blocks <= _SCARCE:
            return "scarce_target_loss"
        return "small_target_loss" if not self.own_texts and self.target_blocks <= _SMALL else "loss"

    # Arms ---------------------------------------------------------------------------------------------------

    def brings(self) -> Mapping[str, Term]:
        """Dynamic gradient alignment, and other answers to which domain comes next."""
        how: Any = {"usual": self.step_size, "option": "step_size", "at": ", μ {:g}", "strength": _above_zero}
        variants = {"unaveraged": ", weights not averaged", "bases": ", over bases of clusters"}
        return {
            "dga": Term("Dynamic gradient alignment", self._aligned, variants=variants, **how),
            "importance": Term(
                "Importance sampling", lambda strength: Levers(rows=self._clustered, sampler=_by_target), role="context"
            ),
            "doge": Term("DoGE's rule", lambda strength: Levers(callbacks=self._doge, sampler=_alike), role="context"),
            "rnb": Term("R&B's rule", lambda strength: Levers(callbacks=self._balance, sampler=_alike), role="context"),
        }

    def _aligned(self, strength: float, *, unaveraged: bool = False, bases: bool = False) -> Levers:
        def callbacks(learner: Learner) -> list[Any]:
            how: Any = {"step_size": strength, "ema": 1.0 if unaveraged else self.ema, "clip": self.clip}
            return [self._callback(learner, floor=self.floor, **how)]

        if bases:
            return Levers(rows=self._clustered, sampler=_over_bases, callbacks=callbacks)
        return Levers(sampler=_alike, callbacks=callbacks)

    def _doge(self, learner: Learner) -> list[Any]:
        from kilter.pretraining import doge_step

        how: Any = {"step_size": self.doge_step_size, "times_learning_rate": True, "normalise": "mean_norm"}
        return [self._callback(learner, rule=doge_step, ema=1.0, **how)]

    def _balance(self, learner: Learner) -> list[Any]:
        from kilter.pretraining import balance_step

        how: Any = {"step_size": self.balance_step_size, "method": "last_layer"}
        return [self._callback(learner, rule=balance_step, ema=1.0, **how)]

    def _callback(self, learner: Learner, **how: Any) -> Any:
        import torch

        from kilter.pretraining import DynamicGradientAlignment

        return DynamicGradientAlignment(
            learner.sampler,
            domains=learner.rows.by_domain(),
            target=learner.rows.examples("dga"),
            every=self.every,
            batch_size=self.domain_batch,
            target_batch_size=self.target_batch,
            generator=torch.Generator().manual_seed(learner.seed),
            **how,
        )

    def _clustered(self, rows: Rows, model: Any, seed: int) -> Rows:
        from kilter.tasks.language_modelling.clusters import cluster

        return cluster(rows, self.clusters, seed)

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """As the task judges, with the time that training took, and the loss under the name of the paper's setting."""
        found, name = super().evaluate(arm, seed, model), self._loss
        rows = [
            {**row, "totals": {name if key == "loss" else key: v for key, v in row["totals"].items()}}
            for row in found.utterances
        ]
        figures = {name if key == "loss" else key: value for key, value in found.metrics.items()}
        return Judged({**figures, "train_seconds": read_json(model.parent / SECONDS)["seconds"]}, rows)

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what weights that follow, their averaging and their rule are each for."""
        pairs = [*((other, "dga") for other in _ALL if other != "dga"), ("uniform", "importance")]
        ours = [Claim(self._loss, "lower", one, other) for one, other in pairs]
        return self.with_claims(ours)

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """How much smaller this is than the paper."""
        if self.own_texts:
            return super().notes(summary)
        few = {
            "scarce_target_loss": f"Scarce domains: of each there are {self.domain_blocks} blocks, so that what is "
            "drawn often comes again and again.",
            "small_target_loss": f"A small target: there are {self.target_blocks} examples of it.",
        }
        return [
            *super().notes(summary),
            *[said for name, said in few.items() if name == self._loss],
            f"The paper trains for tens of thousands of steps; here are {self.steps} of {self.batch_size} blocks, and "
            f"weights follow every {self.every} of them. Importance sampling groups blocks by their words, "
            "not by the vectors of a sentence encoder.",
        ]


RECIPE = GradientAlignmentRecipe


def _alike(rows: Any, seed: int) -> Any:
    from kilter.tasks.language_modelling.training import mixture_of

    return mixture_of(rows, seed)


def _by_target(rows: Any, seed: int) -> Any:
    from kilter.tasks.language_modelling.training import mixture_of

    return mixture_of(rows, seed, rows.of_target.tolist())


def _over_bases(rows: Any, seed: int) -> Any:
    """Of the target and of every domain the histogram over the clusters is a basis."""
    import torch

    from kilter.pretraining import DomainMixture

    bases = torch.cat([rows.of_target[None], rows.shares])
    return DomainMixture([*rows.sizes.values()], bases=bases, generator=torch.Generator().manual_seed(seed))


def _above_zero(strength: float) -> str:
    return "" if strength > 0 else "the strength is μ, and must be above 0"
