"""The task: a causal model learns to foretell the next token of texts of several domains, and is judged on others.

It is judged on a target that is not among the domains, or on Wikipedia at growing length, and may look up names.
Nothing heavy is imported, so that `--help` answers at once.
"""

import os
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from kilter.lab.arms import Arm, Levers, Mixture, Term, UnknownPart
from kilter.lab.files import write_json
from kilter.lab.locks import one_at_a_time
from kilter.lab.options import NOT_NEGATIVE, above, at_least, share
from kilter.lab.recipe import Advance, Judged, Metric, Picture, Provenance, Recipe
from kilter.models.names import check_model_name
from kilter.tasks.language_modelling import lookups, sources
from kilter.tasks.language_modelling.rivals import rivals

if TYPE_CHECKING:
    from kilter.tasks.language_modelling.networks import Network
    from kilter.tasks.language_modelling.rows import Rows


SECONDS = "seconds.json"
"""Beside the model: processor time that its training took, without reading and judging."""


@dataclass(kw_only=True)
class LanguageModelling(Recipe):
    """Options of every recipe on language modelling."""

    model: str | None = None
    """folder or hub id of a causal transformers model to train on; by default a small Llama of bytes from scratch"""
    train_data: Annotated[tuple[str, ...], arg(name="train")] = ()
    """your texts to learn from: .txt (one document), .jsonl, .json or .csv with column text, a folder, a pattern such
    as 'texts/*.txt', or a hub dataset"""
    domains: tuple[str, ...] = ()
    """your texts to learn from, by domain: news=news.txt law='law/*.txt' web=org/name"""
    target: tuple[str, ...] = ()
    """examples of the text that the model is for, by which domains are weighed; never learnt from"""
    eval_data: Annotated[tuple[str, ...], arg(name="eval")] = ()
    """your texts to judge on; by default a fifth of --target, else of what is learnt from, is held out for that"""
    corpora: tuple[str, ...] = (*sources.DOMAINS, sources.NOVELS)
    """without your own texts: documentation of Debian's packages, by domain, and novels"""
    judged_on: Literal["target", "wikitext"] = "target"
    """without your own texts: manual pages, or articles of Wikipedia (the test part of WikiText)"""
    domain_blocks: Annotated[int, NOT_NEGATIVE] = 0
    """most blocks of each domain; 0 for all"""
    target_blocks: Annotated[int, at_least(1)] = 256
    """most blocks of examples of the target"""
    lookups: Annotated[float, share()] = 0.0
    """share of training rows that are look-ups of names, and whether these are judged too; at 1 no text is read"""
    block: Annotated[int, at_least(8)] = 128
    """tokens of a training row"""
    longest: Annotated[int, at_least(1)] = 1
    """judge at 1, 2, 4, … times the block, up to so many"""
    judged_tokens: Annotated[int, at_least(1)] = 50_000
    """tokens to judge on, at each length"""
    judged_lookups: Annotated[int, at_least(1)] = 500
    """look-ups to judge on, at each length"""
    split: Literal["test", "dev"] = "test"
    """texts to judge on: those of the test, or, to choose settings, the development part"""
    width: Annotated[int, at_least(8)] = 64
    """of the small model"""
    layers: Annotated[int, at_least(1)] = 3
    """of the small model"""
    heads: Annotated[int, at_least(1)] = 4
    """of the small model"""
    steps: Annotated[int, at_least(1)] = 600
    """optimiser steps of every arm"""
    batch_size: Annotated[int, at_least(1)] = 16
    """blocks in a batch"""
    learning_rate: Annotated[float | None, above(0)] = None
    """of AdamW, after a tenth of the steps falling to a tenth; by default 3e-3, or 5e-5 for --model"""
    save_steps: Annotated[int, at_least(1)] = 100
    """steps between checkpoints; what a kill can cost"""

    baseline: ClassVar[str] = "uniform"
    plain: ClassVar[str] = "Every domain alike"
    """label of the baseline"""
    takes: ClassVar[frozenset[str]] = frozenset({"module", "rows", "sampler", "callbacks", "options"})
    """A module is put on the model before it learns; `rows` are `Rows`, which may be grouped anew; a sampler is
    of these, `(rows, seed) -> sampler`; callbacks are made for a `Learner`; other options are those of the training."""
    own_by: ClassVar[tuple[str, ...]] = ("model", "train_data", "domains")
    unhashed = Recipe.unhashed | {"save_steps"}
    judging = frozenset({"model", "eval_data", "longest", "judged_tokens", "judged_lookups", "split"})
    metrics: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric("Loss, nats per token", "", "lower", 4, (0.0, None)),
        "perplexity_1x": Metric("Perplexity", "", "lower", 3, (1.0, None), exp=True),
    }
    smoke: ClassVar[Mapping[str, Any]] = {
        "corpora": ("jargon", "sayings", "novels"),
        "domain_blocks": 40,
        "target_blocks": 16,
        "block": 32,
        "judged_tokens": 2000,
        "judged_lookups": 20,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "steps": 12,
        "batch_size": 4,
        "save_steps": 6,
    }
    """sizes of a preset that takes seconds"""

    def prepare(self) -> None:
        """Check that the options fit each other; what is measured depends on the lengths.

        Raises:
            ValueError: they do not, or torchrun has started several processes.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']}: {self.paper.slug} trains in one process; start it without "
                "torchrun, and let --jobs do several arms and seeds side by side"
            )
        named = sources.by_domain(self.domains)
        if self.train_data and named:
            raise ValueError("--train and --domains: give one; a domain without others is --train")
        if not self.own_texts and (self.target or self.eval_data):
            raise ValueError("--target and --eval need your texts to learn from: add --domains a=a.txt b=b.txt")
        if self.own_texts and self.lookups == 1:
            raise ValueError("lookups=1 reads no text; leave --train and --domains out, or give a smaller share")
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"width={self.width} is not an even number of times heads={self.heads}")
        if self.lookups:
            lookups.check_room(self.block)
        if self.model is not None:
            check_model_name(self.model, "a causal transformers model")
        self.metrics = self._measured()  # type: ignore[misc]

    def _measured(self) -> dict[str, Metric]:
        from kilter.tasks.language_modelling.judging import metrics

        return metrics(self.block, self.longest, text=self.lookups < 1, looked_up=self.lookups > 0)

    @property
    def own_texts(self) -> bool:
        """Whether texts are the user's."""
        return bool(self.train_data or self.domains)

    # Arms ---------------------------------------------------------------------------------------------------

    def rivals(self) -> Mapping[str, Term]:
        """Usual ways to weigh domains, without a paper here."""
        return rivals()

    def mixture(self, arm: str) -> Mixture:
        """What an arm is made of.

        Raises:
            ValueError: see `Recipe.mixture`; or an option that there is not.
        """
        try:
            found = super().mixture(arm)
        except UnknownPart as error:
            known = ", ".join([self.baseline, *self.terms()])
            raise ValueError(f"arms: there is no {error.part!r}; there are {known}, joined by +") from None
        if unknown := found.levers().options.keys() - {one.name for one in fields(self)}:
            raise ValueError(f"{arm!r} changes {', '.join(sorted(unknown))}, but {self.paper.slug} has no such option")
        return found

    def describe(self, arm: str) -> Arm:
        """Label and role of an arm."""
        found = self.mixture(arm)
        label = found.label(self.plain)
        if arm == self.baseline:
            return Arm(label, "baseline")
        role = "method" if any(part.term.role == "method" for part in found.parts) else "context"
        if (part := found.single()) is None:
            return Arm(label, role)
        return Arm(label, role, part.full_name, f"{part.strength:g}")

    def made_by(self, arm: str) -> dict[str, Any]:
        """With what the arm's own terms change, without the options of other texts or another model."""
        idle = {"corpora", "judged_on"} if self.own_texts else {"train_data", "domains", "target"}
        idle |= {"width", "layers", "heads"} if self.model else set()
        made = super().made_by(arm) | dict(self.mixture(arm).levers().options)
        return {name: value for name, value in made.items() if name not in idle}

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """The user's texts, or documentation and novels; nothing where all rows are look-ups."""
        if self.lookups == 1:
            self._texts = sources.Texts({}, (), ())
        elif self.own_texts:
            most = 8 * self.domain_blocks * self.block  # characters of a token, at most
            domains = sources.by_domain(self.domains)
            self._texts = sources.own(self.train_data, domains, self.target, self.eval_data, most=most)
        else:
            self._texts = sources.given(self.corpora, self.judged_on)
        if self.lookups < 1:
            self._texts.judged(self.split)
        return self._texts.provenance

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the model of this arm, unless it is there."""
        model = folder / "model"
        with one_at_a_time(model):
            if not (model / "config.json").exists():
                levers = self.mixture(arm).levers()
                changed = copy(self)
                vars(changed).update(levers.options)
                changed._fit(arm, levers, seed, folder, advance)
        return model

    def _fit(self, arm: str, levers: Levers, seed: int, folder: Path, advance: Advance) -> None:
        from kilter.lab.card import write_model_card
        from kilter.tasks.language_modelling import networks, training

        network = self._fresh(seed)
        if levers.module is not None:
            network = network._replace(model=levers.module(network.model))
        rows = self._rows(network, seed)
        rows = levers.rows(rows, network.model, seed) if levers.rows is not None else rows
        started = time.process_time()
        training.train(self, network, rows, levers, seed, folder, advance)
        write_json(folder / SECONDS, {"seconds": time.process_time() - started})
        networks.save(network, folder / "model", lambda part: write_model_card(part, self, arm, self._texts.provenance))
        training.clean(folder)

    def rates(self, model: Any, rate: float) -> list[dict[str, Any]]:
        """Groups of parameters as optimisers take them, where some learn at a rate of their own."""
        return []

    def _fresh(self, seed: int) -> "Network":
        from kilter.tasks.language_modelling import networks

        sizes: Any = {"width": self.width, "layers": self.layers, "heads": self.heads}
        return networks.fresh(self.model, seed, self.device, **sizes, positions=self.longest * self.block)

    def _rows(self, network: "Network", seed: int) -> "Rows":
        from kilter.tasks.language_modelling.rows import training_rows

        sizes: Any = {name: getattr(self, name) for name in ("block", "target_blocks", "domain_blocks", "lookups")}
        return training_rows(self._texts, network.tokenizer, seed=seed, drawn=self.steps * self.batch_size, **sizes)

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """Perplexity at every length, and names looked up."""
        from kilter.tasks.language_modelling import judging, networks

        network = self._saved(arm, model)
        sizes: Any = {"block": self.block, "longest": self.longest}
        rows: list[dict[str, Any]] = []
        if self.lookups < 1:
            tokens = networks.stream(network.tokenizer, self._texts.judged(self.split))
            rows += judging.judge_text(network.model, tokens, **sizes, most=self.judged_tokens)
        if self.lookups:
            rows += judging.judge_lookups(network.model, network.tokenizer, **sizes, count=self.judged_lookups)
        return judging.judged(rows, self._measured())

    def _saved(self, arm: str, model: Path) -> "Network":
        """The trained model of an arm, as it is judged."""
        from kilter.tasks.language_modelling import networks

        return networks.load(model, self.device, attached=self.mixture(arm).levers().module is not None)

    # The report ---------------------------------------------------------------------------------------------

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not, whatever was compared."""
        from kilter.tasks.language_modelling import figures

        said = figures.remarks(summary, small=self.model is None, longest=self.longest, block=self.block)
        return [*said, *figures.epochs_said(summary, self.out or Path())]

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Perplexity and look-ups against length, and of which domains was drawn."""
        from kilter.tasks.language_modelling import figures

        return figures.pictures(summary, run, longest=self.longest, block=self.block)
