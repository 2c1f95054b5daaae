"""Domain retrieval: one encoder, or one for each domain, learns from pairs of several and is judged within each.

A pair is a text and the one that belongs to it. Every batch is of one domain and the same for all arms, so that arms
differ by what the network is made of alone. Sources are sections of Debian's package descriptions, or the user's pairs.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from kilter.lab.arms import Levers, Term
from kilter.lab.files import read_json, write_json
from kilter.lab.locks import one_at_a_time
from kilter.lab.options import NOT_NEGATIVE, above, at_least
from kilter.lab.recipe import SHARE, Advance, Judged, Metric, Picture, Provenance, Recipe
from kilter.lab.tuning import Tuning
from kilter.models.names import check_model_name
from kilter.tasks.domain_retrieval import figures, networks, sources
from kilter.tasks.domain_retrieval.rivals import Pupil, rivals

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from kilter.tasks.domain_retrieval.corpus import Corpus

_CORPUS = "corpus.json"
_EACH = {"f1": "F1max", "retrieval": "Own text found"}
"""Metrics that are given of each domain too."""


@dataclass(kw_only=True)
class DomainRetrieval(Tuning):
    """Options of every recipe on domain retrieval."""

    model: str = "minilm"
    """encoder to start from: minilm, minilm-3 (its first three layers), a folder or hub id of sentence-transformers or
    transformers, or random"""
    sections: tuple[str, ...] = ("python", "perl", "science", "games", "sound")
    """without --train: sections of Debian's packages, each a domain; a pair is a package's summary and description"""
    train_data: Annotated[tuple[str, ...], arg(name="train")] = ()
    """your pairs of each domain, med=med.csv law=law.jsonl: a table with two text columns (text1, text2, or anchor,
    positive), or a hub dataset"""
    eval_data: Annotated[tuple[str, ...], arg(name="eval")] = ()
    """your pairs to judge on, as with --train; of a domain without any, a part of its pairs is not learnt from"""
    pairs: Annotated[int, NOT_NEGATIVE] = 0
    """most pairs of each domain to learn from; 0 for all"""
    dev_pairs: Annotated[int, at_least(2)] = 100
    """most pairs of each domain on which its threshold is chosen, a fifth of all at most"""
    test_pairs: Annotated[int, at_least(2)] = 150
    """most pairs of each domain to judge on, a fifth of all at most"""
    steps: Annotated[int, at_least(1)] = 120
    """optimiser steps of every arm, each with a batch of one domain; models of one domain each share them"""
    batch_size: Annotated[int, at_least(2)] = 32
    """pairs in a batch (published: 20; later 16)"""
    learning_rate: Annotated[float, above(0)] = 5e-5
    """of AdamW, after a tenth of the steps falling to 0 (published: 1e-5; later 1e-4)"""
    max_tokens: Annotated[int, at_least(4)] = 32
    """tokens of a text, in training and judging; longer ones are cut (published: 512)"""
    temperature: Annotated[float, above(0)] = 0.05
    """of the loss of every arm, on cosines"""
    apart: bool = False
    """an encoder for each domain instead of one for all"""
    told: bool = True
    """tell an encoder that knows domains of which one the texts are that it is judged on"""
    split: Literal["test", "dev"] = "test"
    """pairs to judge on: those of the test, or, to choose settings, those that thresholds are chosen on"""
    save_steps: Annotated[int, at_least(1)] = 50
    """steps between checkpoints; what a kill can cost"""

    of_a_loss: ClassVar[Collection[str]] = ("rows", "sampler", "callbacks", "module", "options")
    takes: ClassVar[frozenset[str]] = frozenset({"objective", "rows", "sampler", "callbacks", "module", "options"})
    """An objective is made for a `Pupil` and takes anchor, positive and, if it asks, the number of the domain; `rows`
    have columns anchor, positive and label; a module is put on the encoder before it learns, and may make it one that
    is told the domain of its texts; other options are those of the training."""
    intervals: ClassVar[Literal["seeds", "examples"]] = "examples"
    own_by: ClassVar[tuple[str, ...]] = ("train", "train_data")
    unhashed = Recipe.unhashed | {"save_steps"}
    judging = frozenset({"model", "train_data", "eval_data", "dev_pairs", "test_pairs", "split", "told"})
    shown: ClassVar[tuple[str, ...]] = ()
    """arms whose gain in each domain, and whose cosines, the report draws"""
    smoke: ClassVar[Mapping[str, Any]] = {
        "model": "random",
        "sections": ("python", "games"),
        "dev_pairs": 8,
        "test_pairs": 8,
        "pairs": 24,
        "steps": 4,
        "batch_size": 8,
    }
    """sizes of a preset that takes seconds"""
    metrics: ClassVar[Mapping[str, Metric]] = {
        "f1": Metric("F1max, development threshold", "%", "higher", 1, SHARE),
        "retrieval": Metric("Own text found within its domain", "%", "higher", 1, SHARE),
        "mrr": Metric("Mean reciprocal rank within the domain", "%", "higher", 1, SHARE),
        "f1_max": Metric("F1max, threshold of the judged pairs", "%", "higher", 1, SHARE),
        "auc": Metric("Area under ROC", "%", "higher", 1, SHARE),
    }

    def prepare(self) -> None:
        """Check that the options fit each other; what is measured is measured of each domain too."""
        from kilter.data.encoders import ENCODERS, is_ours

        super().prepare()
        train, judged = self._files()
        if judged and not train:
            raise ValueError("--eval needs --train: your pairs of each domain to learn from")
        if unknown := [one for one in judged if one not in train]:
            raise ValueError(f"--eval {unknown[0]}=…: --train has no pairs of {unknown[0]} to learn from")
        sources.check_domains("--train" if train else "sections", self.domains)
        if self.steps < len(self.domains):
            raise ValueError(f"steps={self.steps} are too few for {len(self.domains)} domains: each needs a batch")
        if self.model != "random" and not is_ours(self.model):
            check_model_name(self.model, "an encoder of sentences", known=(*ENCODERS, "random"))
        each = {
            f"{metric}_{domain}": Metric(f"{said}, {domain}", "%", "higher", 1, SHARE)
            for metric, said in _EACH.items()
            for domain in self.domains
        }
        self.metrics = {**type(self).metrics, **each}  # type: ignore[misc]

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains, in the order of their numbers."""
        return tuple(self._files()[0]) or self.sections

    def _files(self) -> tuple[dict[str, str], dict[str, str]]:
        """The user's pairs to learn from and to judge on, by domain."""
        return sources.by_domain("train", self.train_data), sources.by_domain("eval", self.eval_data)

    # Arms ---------------------------------------------------------------------------------------------------

    def made_by(self, arm: str) -> dict[str, Any]:
        """Without the sections, where pairs are the user's."""
        return {
            name: value for name, value in super().made_by(arm).items() if not (self.train_data and name == "sections")
        }

    def rivals(self) -> Mapping[str, Term]:
        """Dense models: one for all domains, or one for each."""
        return rivals(self.contrast)

    def contrast(self, pupil: Pupil) -> Any:
        """The loss that all arms have: the own text against the others of its domain in the batch, both ways."""
        from kilter.embeddings import DomainContrast

        return DomainContrast(similarity="cosine", temperature=self.temperature)

    def _learner(self, arm: str) -> str:
        """The arm whose model this one judges: whether the domain is told changes none."""
        parts = self.mixture(arm).parts
        return "+".join(part.said for part in parts if part.levers() != Levers(options={"told": False}))

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """Sections of Debian's package descriptions, or the user's pairs."""
        from kilter.data.assets import credits_of
        from kilter.data.encoders import base_of

        sizes: Any = {"most": self.pairs, "dev": self.dev_pairs, "test": self.test_pairs, "batch_size": self.batch_size}
        train, judged = self._files()
        self._corpus: Corpus
        if train:
            self._corpus = sources.own(train, judged, **sizes)
        else:
            kept = self.out / _CORPUS if self.out is not None else None
            self._corpus = sources.debian(self.sections, kept=kept, **sizes)
        credit, note = self._corpus.provenance, credits_of([base.asset] if (base := base_of(self.model)) else [])
        return replace(credit, note=" ".join(filter(None, (credit.note, note))))

    def warm_up(self, arm: str, seed: int, run: Path, advance: Advance) -> None:
        """Keep what was made of the packages, for the pieces of work to come."""
        if not self.train_data and not (run / _CORPUS).exists():
            write_json(run / _CORPUS, self._corpus.plain())

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the encoder of this arm, or those of its domains, unless they are there."""
        levers = self.mixture(arm).levers()
        if levers.objective is None:
            return folder
        learner = self._learner(arm)
        model = folder.parents[1] / learner / folder.name / "model"
        run = self.changed_by(levers)
        places = run._places(model)
        with one_at_a_time(model):
            for number, (place, domains) in enumerate(places.items()):
                if not (place / "modules.json").exists():
                    told = partial(_told, advance, number * self.steps // len(places), self.steps)
                    run._fit(learner, levers, domains, seed, place, told)
        return model

    def _places(self, model: Path) -> dict[Path, tuple[str, ...]]:
        """Where the encoders of an arm are, each with the domains that it is for."""
        if self.apart:
            return {model / domain: (domain,) for domain in self.domains}
        return {model: self.domains}

    def _given(self, seed: int) -> "SentenceTransformer":
        texts = (text for pairs in self._corpus.train.values() for pair in pairs for text in pair)
        return networks.fresh_encoder(self.model, texts, seed, self.device)

    def _fit(
        self, arm: str, levers: Levers, domains: tuple[str, ...], seed: int, folder: Path, advance: Advance
    ) -> None:
        import torch

        from kilter.lab.encoders import save_encoder, train_encoder
        from kilter.tasks.domain_retrieval.batches import DomainBatches, training_rows

        torch.manual_seed(seed)  # of what is made new beside the encoder
        encoder = self._given(seed)
        encoder = levers.module(encoder) if levers.module is not None else encoder
        pupil = Pupil(encoder, self._corpus.domains)
        rows = training_rows(self._corpus.train)
        rows = levers.rows(rows, pupil, seed) if levers.rows is not None else rows
        plan = DomainBatches(rows["label"], self.batch_size, steps=self.steps, seed=seed)
        if self.apart:
            rows, plan = plan.of(rows, self._corpus.domains.index(domains[0]))
        rows = networks.with_domain(encoder, rows, self._corpus.domains)
        same = ("batch_size", "learning_rate", "device", "precision", "save_steps", "max_tokens")
        how: Any = {name: getattr(self, name) for name in same}
        how |= {"steps": len(plan), "warm_up_steps": len(plan) // 10}
        assert levers.objective is not None
        trained = train_encoder(
            encoder,
            rows,
            levers.objective(pupil),
            work := folder.with_name(f"{folder.name}-checkpoints"),
            seed=seed,
            advance=advance,
            callbacks=levers.callbacks(encoder) if levers.callbacks is not None else (),
            batches=lambda *_, **__: plan,
            sampler=levers.sampler,
            **how,
        )
        save_encoder(trained, folder, lambda part: self._write_card(part, arm))
        shutil.rmtree(work, ignore_errors=True)

    def _write_card(self, folder: Path, arm: str) -> None:
        from kilter.data.encoders import for_card
        from kilter.lab.card import write_model_card

        how: Any = {**for_card(self.model), "library": "sentence-transformers"}
        write_model_card(folder, self, arm, self._corpus.provenance, **how)

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """Whether texts find their own within their domain, and F1 at thresholds of the development pairs."""
        levers = self.mixture(arm).levers()
        shape = figures.shape_of(self.out, arm, seed)
        if levers.objective is not None or self.model == "random":
            return self._judge(levers, seed, model, shape)
        kept = shape.parents[1] / "judged.json"  # the same for every seed
        with one_at_a_time(kept):
            if not kept.exists():
                found = self._judge(levers, seed, model, shape)
                write_json(kept, {"metrics": found.metrics, "utterances": found.utterances})
        return Judged(**read_json(kept))

    def _judge(self, levers: Levers, seed: int, model: Path, shape: Path) -> Judged:
        from kilter.tasks.domain_retrieval.judging import judge

        run = self.changed_by(levers)
        place_of = {domain: place for place, domains in run._places(model).items() for domain in domains}

        @lru_cache(maxsize=1)  # of one model for each domain there may be many
        def encoder_at(place: Path) -> Any:
            return self._given(seed) if levers.objective is None else networks.load(place, self.device)

        def encode(texts: Sequence[str], domain: str) -> Any:
            name = domain if run.told else None
            return networks.encode(encoder_at(place_of[domain]), texts, self.max_tokens, name)

        found, drawn = judge(self._judged(), encode)
        write_json(shape, drawn)
        return found

    def _judged(self) -> "Corpus":
        return replace(self._corpus, test=self._corpus.dev) if self.split == "dev" else self._corpus

    # The report ---------------------------------------------------------------------------------------------

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not, whatever was compared."""
        return figures.remarks(summary, self._judged(), split=self.split)

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """What each domain gains, and cosines of own texts and of those most alike, before and after."""
        arms = [arm for arm in self.shown if arm in summary["arms"]]
        return figures.pictures(summary, run, arms, self.domains)


def _told(advance: Advance, before: int, total: int, done: int, _: int, unit: str = "steps") -> None:
    """Progress of one of several encoders as that of all."""
    advance(before + done, total, unit)
