"""Sentence similarity: an encoder, sentences or texts of one meaning to train it on, scored pairs to judge it on.

By default the first three layers of MiniLM, which were never tuned to end there, learn from Wikipedia's sentences and
are judged on the STS sets; or it is the user's own encoder, sentences and pairs.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from kilter.data.similarity import SETS, STANDARD
from kilter.lab.arms import Levers, Term
from kilter.lab.files import read_json, write_json
from kilter.lab.locks import one_at_a_time
from kilter.lab.options import NOT_NEGATIVE, above, at_least
from kilter.lab.recipe import Advance, Judged, Metric, Picture, Provenance, Recipe
from kilter.lab.tuning import Tuning
from kilter.models.names import check_model_name
from kilter.tasks.sentence_similarity import figures, networks, sources
from kilter.tasks.sentence_similarity.rivals import rivals

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_FITTED_ON = 4096
"""Sentences of those to train on, spread over them, on which whitening is fitted."""


@dataclass(kw_only=True)
class SentenceSimilarity(Tuning):
    """Options of every recipe on sentence similarity."""

    model: str = "minilm-3"
    """encoder to start from: minilm-3 (its first three layers, of its wheel), minilm, a folder or hub id, or random"""
    pooling: Literal["given", "mean", "cls"] = "given"
    """how the vectors of tokens become one: the encoder's own way, their mean, or the first token's (published: cls)"""
    train_data: Annotated[str | None, arg(name="train")] = None
    """your sentences: a .txt with one a line, or a .csv, .json, .jsonl or hub dataset with a column text; several text
    columns (text1, text2, … or anchor, positive) are texts of one meaning, and so views of each other"""
    eval_data: Annotated[str | None, arg(name="eval")] = None
    """your scored pairs to judge on, a table with columns sentence1, sentence2, score; by default the sets"""
    sets: tuple[str, ...] = STANDARD
    """without --eval: sets to judge on; choose settings on stsb-dev"""
    sentences: Annotated[int, NOT_NEGATIVE] = 0
    """most sentences to learn from, spread over those there are; 0 for all"""
    test_pairs: Annotated[int, NOT_NEGATIVE] = 0
    """most pairs of each set to judge on; 0 for all"""
    steps: Annotated[int, at_least(1)] = 40
    """optimiser steps of every arm that is trained (published: one epoch of 1,000,000 sentences, 7,812 steps)"""
    batch_size: Annotated[int, at_least(2)] = 32
    """sentences in a batch (published: 128)"""
    learning_rate: Annotated[float, above(0)] = 3e-5
    """of AdamW, after a tenth of the steps falling to 0 (published: 1e-5)"""
    simcse_rate: Annotated[float | None, above(0)] = None
    """that of SimCSE's arms; by default the same"""
    max_tokens: Annotated[int, at_least(4)] = 32
    """tokens of a sentence that are read while training (published: 32)"""
    temperature: Annotated[float, above(0)] = 0.05
    """of the contrastive losses (published: 0.05)"""
    head: bool = True
    """put a dense layer with tanh on the vectors while training, as published; it is dropped afterwards"""
    whiten: bool = False
    """whiten the finished encoder's vectors by those of the training sentences, as a stock Dense module at its end"""
    save_steps: Annotated[int, at_least(1)] = 50
    """steps between checkpoints; what a kill can cost"""

    takes: ClassVar[frozenset[str]] = frozenset({"objective", "rows", "sampler", "callbacks", "module", "options"})
    """Objectives are ours, of vectors of the text columns, or losses of sentence-transformers. What all of them are
    functions of is the `SentenceTransformer`; rows are a `datasets.Dataset` of text columns."""
    intervals: ClassVar[Literal["seeds", "examples"]] = "seeds"
    own_by: ClassVar[tuple[str, ...]] = ("train", "train_data")
    unhashed = Recipe.unhashed | {"save_steps"}
    judging = frozenset({"model", "train_data", "eval_data", "sets", "test_pairs"})
    smoke: ClassVar[Mapping[str, Any]] = {
        "model": "random",
        "sets": ("stsb",),
        "sentences": 200,
        "test_pairs": 100,
        "steps": 4,
        "batch_size": 16,
        "save_steps": 2,
    }
    """sizes of a preset that takes seconds"""
    metrics: ClassVar[Mapping[str, Metric]] = figures.METRICS

    def prepare(self) -> None:
        """Check that the options fit each other."""
        super().prepare()
        from kilter.data.encoders import ENCODERS, is_ours

        if self.model != "random" and not is_ours(self.model):
            check_model_name(self.model, "an encoder of sentences", known=(*ENCODERS, "random"))
        if self.eval_data and self.eval_data == self.train_data:
            raise ValueError(f"--eval and --train are both {self.train_data}: judge on texts that are not trained on")
        if not self.sets and not self.eval_data:
            raise ValueError(f"sets: name one to judge on ({', '.join(SETS)}), or give --eval")

    # Arms ---------------------------------------------------------------------------------------------------

    def rivals(self) -> Mapping[str, Term]:
        """SimCSE, and whitening afterwards."""
        return rivals(self.temperature, head=self.head, rate=self.simcse_rate)

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """The sentences to learn from and the pairs to judge on.

        Raises:
            ValueError: they are not what they should be, or too few for a batch.
        """
        from kilter.data.assets import credits_of
        from kilter.data.encoders import base_of

        note = credits_of([base.asset] if (base := base_of(self.model)) else [])
        if self.train_data is not None:
            found = sources.own_texts(self.train_data, self.eval_data, self.sets, note)
        else:
            found = sources.published(() if self.eval_data else self.sets, note)
            found = sources.judged_by_own(found, self.eval_data) if self.eval_data else found
        self._texts = sources.some_of(found, self.sentences, self.test_pairs)
        if len(self._texts) < self.batch_size:
            raise ValueError(
                f"there are {len(self._texts)} sentences to learn from, and a batch has {self.batch_size}: give more, "
                "or lower --batch-size"
            )
        return self._texts.provenance

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the encoder of this arm, unless it is there; the encoder as given has nothing to train."""
        levers = self.mixture(arm).levers()
        if not levers.pulled():
            return folder
        model = (folder if _drawn(levers) else folder.with_name("seed-0")) / "model"
        with one_at_a_time(model):
            if not (model / "modules.json").exists():
                self.changed_by(levers)._make(arm, levers, seed, model, advance)
        return model

    def _make(self, arm: str, levers: Levers, seed: int, folder: Path, advance: Advance) -> None:
        import torch

        from kilter.lab.encoders import save_encoder

        torch.manual_seed(seed)
        encoder = self._given()
        if levers.module is not None:
            encoder = levers.module(encoder)
        work = folder.with_name("checkpoints")
        if levers.objective is not None:
            encoder = self._fit(encoder, levers, seed, work, advance)
        if self.whiten:
            from kilter.tasks.sentence_similarity.whitening import whitened

            encoder = whitened(encoder, self._sentences(_FITTED_ON))
        save_encoder(encoder, folder, lambda part: self._write_card(part, arm))
        shutil.rmtree(work, ignore_errors=True)

    def _given(self) -> "SentenceTransformer":
        return networks.fresh_encoder(self.model, self._sentences(), self.device, self.pooling)

    def _sentences(self, count: int = 0) -> Sequence[str]:
        found = next(iter(self._texts.columns.values()))
        return found[:: max(1, len(found) // count)][:count] if count else found

    def _fit(
        self, encoder: "SentenceTransformer", levers: Levers, seed: int, work: Path, advance: Advance
    ) -> "SentenceTransformer":
        from datasets import Dataset

        from kilter.lab.encoders import train_encoder

        assert levers.objective is not None
        objective = levers.objective(encoder)
        rows: Any = Dataset.from_dict({name: [*column] for name, column in self._texts.columns.items()})
        rows = levers.rows(rows, encoder, seed) if levers.rows is not None else rows
        same = ("steps", "batch_size", "learning_rate", "max_tokens", "device", "precision", "save_steps")
        how: Any = {name: getattr(self, name) for name in same} | {"warm_up_steps": self.steps // 10}
        callbacks = levers.callbacks(encoder) if levers.callbacks is not None else ()
        more: Any = {"callbacks": callbacks, "sampler": levers.sampler}
        return train_encoder(encoder, rows, objective, work, seed=seed, advance=advance, **more, **how)

    def _write_card(self, folder: Path, arm: str) -> None:
        from kilter.data.encoders import for_card
        from kilter.lab.card import write_model_card

        how: Any = {**for_card(self.model), "library": "sentence-transformers"}
        write_model_card(folder, self, arm, self._texts.provenance, **how)

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """Whether cosines follow people's scores, and how vectors fill their space."""
        levers = self.mixture(arm).levers()
        place = figures.space_of(self.out, arm, seed)
        if _drawn(levers):
            return self._judge(model, place)
        kept = place.parents[1] / "judged.json"  # the same for every seed
        with one_at_a_time(kept):
            if not kept.exists():
                found = self._judge(model if levers.pulled() else None, place)
                write_json(kept, {"metrics": found.metrics, "utterances": found.utterances})
        return Judged(**read_json(kept))

    def _judge(self, model: Path | None, place: Path) -> Judged:
        from functools import partial

        from kilter.hosts.sentences import encode
        from kilter.tasks.sentence_similarity.judging import judge

        encoder = self._given() if model is None else networks.load(model, self.device)
        averaged = [name for name in self._texts.sets if name not in map(sources.metric_of, figures.DEV)]
        found = judge(partial(encode, encoder, batch_size=64), self._texts.sets, averaged, self._sentences(_FITTED_ON))
        write_json(place, found.space)
        return Judged(found.figures, found.rows)

    # The report ---------------------------------------------------------------------------------------------

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not, whatever was compared."""
        seen = self.steps * self.batch_size
        return figures.remarks(summary, trained_on=seen, own=self.train_data is not None)

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Alignment against uniformity; the spectrum, cosines of pairs and a map, before and after."""
        return figures.pictures(summary, run)


def _drawn(levers: Levers) -> bool:
    """Whether another seed makes another encoder of it."""
    return levers.objective is not None or levers.module is not None
