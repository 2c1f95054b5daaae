"""Bitext retrieval: an encoder learns from documents of several languages alone, and is judged by finding translations.

Every batch holds pairs of sentences that stand near each other in one document, all of one language. No translation is
seen in training. Sources are Debian's package descriptions, with Tatoeba as a test of another kind, or the user's own.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from kilter.lab.arms import Levers, Term
from kilter.lab.files import write_json
from kilter.lab.locks import one_at_a_time
from kilter.lab.options import NOT_NEGATIVE, above, at_least, share
from kilter.lab.recipe import SHARE, Advance, Judged, Metric, Picture, Provenance, Recipe
from kilter.lab.tuning import Tuning
from kilter.models.names import check_model_name
from kilter.tasks.bitext_retrieval import figures, sources
from kilter.tasks.bitext_retrieval.rivals import Pupil, rivals

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from kilter.tasks.bitext_retrieval.corpus import Corpus
    from kilter.tasks.bitext_retrieval.judging import Encoded

_CORPUS = "corpus.json"
_TESTS = {"debian": "held-out packages", "tatoeba": "Tatoeba", "pairs": "your pairs"}


@dataclass(kw_only=True)
class BitextRetrieval(Tuning):
    """Options of every recipe on bitext retrieval."""

    model: str = "gemma-6"
    """encoder to start from: gemma-6, gemma-4, … (so many lower layers of a multilingual model, from its wheels),
    minilm, a folder or hub id of sentence-transformers or transformers, or random"""
    languages: tuple[str, ...] = ("de", "fr", "it", "ja", "ru", "uk")
    """beside the pivot, as ISO 639-1 has them; of --train those that it names"""
    pivot: str = "en"
    """the language that translations are sought in and from"""
    train_data: Annotated[tuple[str, ...], arg(name="train")] = ()
    """your documents of each language, en=docs.txt de=more/: a folder of .txt, a .txt with blank lines between
    documents, or a .csv, .json or .jsonl"""
    eval_data: Annotated[tuple[str, ...], arg(name="eval")] = ()
    """your translations to judge on, de=pairs.csv fr=pairs.jsonl, each with the pivot beside it; else Tatoeba's"""
    window: Annotated[int, at_least(1)] = 5
    """sentences between a centre and its context, at most"""
    documents: Annotated[int, at_least(2)] = 2000
    """documents of each language to learn from, at most"""
    smoothing: Annotated[float, share()] = 0.7
    """power of a language's share of the sentences, by which its batches are drawn"""
    steps: Annotated[int, at_least(1)] = 200
    """optimiser steps of every arm (published: 200,000 in the sibling code)"""
    batch_size: Annotated[int, at_least(2)] = 32
    """pairs in a batch, all of one language (published: 2,048)"""
    learning_rate: Annotated[float, above(0)] = 1e-4
    """of AdamW, falling to 0 (published: 4e-5)"""
    max_tokens: Annotated[int, at_least(4)] = 32
    """tokens of a sentence, in training and judging; longer ones are cut"""
    freeze_embeddings: bool = True
    """leave the token embeddings as they are: of gemma-6 five sixths of all parameters"""
    freeze_layers: Annotated[int, NOT_NEGATIVE] = 0
    """lowest layers that are left as they are"""
    statistics: Annotated[int, at_least(2)] = 1000
    """sentences of each language, of those learnt from, from which a calibration takes its statistics"""
    test_pairs: Annotated[int, at_least(2)] = 500
    """pairs of each language and test, at most"""
    split: Literal["test", "dev"] = "test"
    """packages to judge on: those of the test, or others that were held out to choose settings on"""
    save_steps: Annotated[int, at_least(1)] = 100
    """steps between checkpoints; what a kill can cost"""

    of_a_loss: ClassVar[Collection[str]] = ("rows", "sampler", "callbacks", "module", "options")
    takes: ClassVar[frozenset[str]] = frozenset(
        {"objective", "rows", "sampler", "callbacks", "module", "decoder", "options"}
    )
    """An objective is made for a `Pupil` and takes centre, context and, if it asks, language; `rows` have columns
    centre, context and label; a module is put on the encoder before it learns; a decoder calibrates vectors afterwards
    (`rivals.Calibration`); other options are those of the training."""
    intervals: ClassVar[Literal["seeds", "examples"]] = "examples"
    own_by: ClassVar[tuple[str, ...]] = ("train", "train_data")
    unhashed = Recipe.unhashed | {"save_steps"}
    judging = frozenset({"model", "train_data", "eval_data", "statistics", "test_pairs", "split"})
    shown: ClassVar[tuple[str, ...]] = ()
    """arms whose vectors the report draws beside the baseline's"""
    smoke: ClassVar[Mapping[str, Any]] = {
        "model": "random",
        "languages": ("de", "fr"),
        "documents": 24,
        "statistics": 40,
        "test_pairs": 12,
        "steps": 4,
        "batch_size": 8,
        "save_steps": 2,
    }
    """sizes of a preset that takes seconds"""
    metrics: ClassVar[Mapping[str, Metric]] = {
        **{name: Metric(f"Translations found, {said}", "%", "higher", 1, SHARE) for name, said in _TESTS.items()},
        "told_apart": Metric("Sentences whose language shows", "%", "lower", 1, SHARE),
        "uniformity": Metric("Uniformity", "", "lower", 2),
        "effective_rank": Metric("Effective rank", "", "higher", 0),
    }

    def prepare(self) -> None:
        """Check that the options fit each other; what is measured is measured of each language too."""
        from kilter.data.encoders import ENCODERS, is_ours

        super().prepare()
        train, judged = self._files()
        if judged and not train:
            raise ValueError("--eval needs --train: your documents of each language to learn from")
        if train and self.pivot not in train:
            raise ValueError(f"--train has no {self.pivot}=…: give documents in the pivot, or name another --pivot")
        if unknown := [one for one in judged if one not in train or one == self.pivot]:
            raise ValueError(f"--eval {unknown[0]}=…: --train needs documents in {unknown[0]}, which is not the pivot")
        self.languages = tuple(one for one in train if one != self.pivot) if train else self.languages
        if not self.languages or self.pivot in self.languages or len({*self.languages}) < len(self.languages):
            raise ValueError(
                f"languages={', '.join(self.languages)} must be one or more, each once, and not pivot={self.pivot}"
            )
        if self.model != "random" and not is_ours(self.model):
            check_model_name(self.model, "an encoder", known=(*ENCODERS, "random"))
        each = {
            f"{test}_{one}": Metric(f"{one}, {said}", "%", "higher", 1, SHARE)
            for test, said in _TESTS.items()
            for one in self.languages
        }
        self.metrics = {**type(self).metrics, **each}  # type: ignore[misc]

    def _files(self) -> tuple[dict[str, str], dict[str, str]]:
        """The user's documents and pairs, by language."""
        return sources.by_language("train", self.train_data), sources.by_language("eval", self.eval_data)

    # Arms ---------------------------------------------------------------------------------------------------

    def rivals(self) -> Mapping[str, Term]:
        """The library's own loss, and calibrations of the vectors."""
        return rivals()

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """Debian's package descriptions and Tatoeba, or the user's documents and pairs."""
        from kilter.data.assets import credits_of
        from kilter.data.encoders import base_of

        sizes: Any = {"documents": self.documents, "test_pairs": self.test_pairs}
        self._corpus: Corpus
        if self.train_data:
            train, judged = self._files()
            self._corpus = sources.own(train, judged, self.pivot, **sizes)
        else:
            kept = self.out / _CORPUS if self.out is not None else None
            self._corpus = sources.debian(self.languages, self.pivot, split=self.split, kept=kept, **sizes)
        self._statistics = self._corpus.sample(self.statistics)
        used = [base.asset] if (base := base_of(self.model)) else []
        note = credits_of([*used, *["tatoeba"] * ("tatoeba" in self._corpus.tests)])
        return replace(self._corpus.provenance, note=" ".join(filter(None, (self._corpus.provenance.note, note))))

    def warm_up(self, arm: str, seed: int, run: Path, advance: Advance) -> None:
        """Keep what was made of the packages, for the pieces of work to come."""
        if not self.train_data and not (run / _CORPUS).exists():
            write_json(run / _CORPUS, self._corpus.plain())

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the encoder of this arm, unless it is there; a calibration has none of its own."""
        levers = self.mixture(arm).levers()
        self._run = folder.parents[2]
        if levers.objective is None:
            return self._run / "untrained"
        learner = self._learner(arm)
        model = folder.parents[1] / learner / folder.name / "model"
        with one_at_a_time(model):
            if not (model / "modules.json").exists():
                self.changed_by(levers)._fit(learner, levers, seed, model, advance)
        return model

    def _learner(self, arm: str) -> str:
        """The arm whose encoder this one uses: a calibration changes none."""
        parts = self.mixture(arm).parts
        return "+".join(part.said for part in parts if part.levers().pulled() != ("decoder",))

    def _encoder(self, seed: int) -> "SentenceTransformer":
        from kilter.tasks.bitext_retrieval.networks import fresh_encoder

        texts = (sentence for some in self._statistics.values() for sentence in some)
        return fresh_encoder(self.model, texts, seed, self.device)

    def _fit(self, arm: str, levers: Levers, seed: int, folder: Path, advance: Advance) -> None:
        import torch

        from kilter.lab.encoders import save_encoder, train_encoder
        from kilter.tasks.bitext_retrieval.networks import freeze
        from kilter.tasks.bitext_retrieval.pairs import language_pure, training_rows

        torch.manual_seed(seed)  # of what an objective learns beside the encoder
        encoder = self._encoder(seed)
        freeze(encoder, embeddings=self.freeze_embeddings and self.model != "random", layers=self.freeze_layers)
        encoder = levers.module(encoder) if levers.module is not None else encoder
        rows = training_rows(self._corpus.documents, self.window, self.steps * self.batch_size, seed)
        pupil = Pupil(encoder, self._corpus.languages)
        rows = levers.rows(rows, pupil, seed) if levers.rows is not None else rows
        same = ("steps", "batch_size", "learning_rate", "device", "precision", "save_steps", "max_tokens")
        how: Any = {name: getattr(self, name) for name in same} | {"warm_up_steps": self.steps // 10}
        assert levers.objective is not None
        trained = train_encoder(
            encoder,
            rows,
            levers.objective(pupil),
            work := folder.with_name("checkpoints"),
            seed=seed,
            advance=advance,
            callbacks=levers.callbacks(encoder) if levers.callbacks is not None else (),
            batches=language_pure(self.smoothing),
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
        """How many translations are found, both ways, by the encoder and, if the arm has one, its calibration."""
        from kilter.tasks.bitext_retrieval.judging import judge

        encoded = self._encoded(arm, seed, model)
        found, shapes = judge(self._corpus, self._statistics, encoded, self.mixture(arm).levers().decoder)
        write_json(self._shapes(self._run, arm, seed), shapes)
        return found

    def _encoded(self, arm: str, seed: int, model: Path) -> "Encoded":
        """Vectors of all texts that are asked for; kept where several arms or seeds need the same."""
        from kilter.tasks.bitext_retrieval.judging import asked
        from kilter.tasks.bitext_retrieval.networks import encode, kept_vectors

        texts = asked(self._corpus, self._statistics)
        given = not self._learner(arm)
        varies = not given or self.model == "random"
        load = (lambda: self._encoder(seed)) if given else (lambda: self._load(model))
        name = (self._learner(arm) or self.baseline) + f"-{seed}" * varies
        file = self._run / "vectors" / f"{name}.safetensors"
        shared = sum(self._learner(other) == self._learner(arm) for other in self.arms) > 1 or not varies
        if not shared:
            return encode(load(), texts, self.max_tokens)
        with one_at_a_time(file):
            return kept_vectors(file, texts, lambda: encode(load(), texts, self.max_tokens))

    def _load(self, model: Path) -> Any:
        from kilter.hosts.sentences import load_sentences

        return load_sentences("SentenceTransformer", model, self.device)

    # The report ---------------------------------------------------------------------------------------------

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not, whatever was compared."""
        return figures.remarks(summary, self._corpus)

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """The spectrum, cosines of translations and of other pairs, and a map of the languages, before and after."""
        arms = [arm for arm in (self.baseline, *self.shown) if arm in summary["arms"]]
        return figures.pictures(summary, {arm: self._shapes(run, arm, 0) for arm in arms})

    @staticmethod
    def _shapes(run: Path, arm: str, seed: int) -> Path:
        return run / "shapes" / f"{arm}-{seed}.json"
