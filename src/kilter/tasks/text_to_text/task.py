"""The task: an encoder–decoder learns to write a text from another, and its outputs are held against references.

Restaurants from slots and values (E2E NLG), captions from German (Multi30k), or the user's own pairs and model.
Nothing heavy is imported, so that `--help` answers at once.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from kilter.core.sources import check_reread
from kilter.lab.arms import Levers, Term
from kilter.lab.files import read_json, read_rows
from kilter.lab.locks import one_at_a_time
from kilter.lab.options import NOT_NEGATIVE, above, at_least, share
from kilter.lab.recipe import Advance, Judged, Metric, Picture, Provenance, Recipe
from kilter.lab.tuning import Tuning
from kilter.models.names import check_model_name

if TYPE_CHECKING:
    from kilter.tasks.text_to_text.networks import Data, Network
    from kilter.tasks.text_to_text.sources import Pairs

_SMALL = ("hidden_size", "layers", "dropout")
"""Options of the small network, beside the size of its vocabulary."""
_SHOWN = "What each wrote, and what people wrote; words that no text above has are in colour."


@dataclass(kw_only=True)
class TextToText(Tuning):
    """Options of every recipe that trains an encoder–decoder on pairs of texts."""

    model: str | None = None
    """folder or hub id of an encoder–decoder to go on from (T5, BART, Marian); by default a small one from scratch"""
    train_data: Annotated[str | None, arg(name="train")] = None
    """your pairs: a .csv or .jsonl with columns source and target (or references), or a hub data set"""
    eval_data: Annotated[str | None, arg(name="eval")] = None
    """your pairs to judge on; by default every tenth of yours"""
    task: Literal["e2e", "multi30k"] = "e2e"
    """without --train: restaurants from slots and values, or captions from German"""
    prefix: str = ""
    """put before each source of an own model, such as 'summarize: ' for T5"""
    longest: Annotated[int, at_least(2)] = 128
    """tokens of a text of an own model, at most"""
    hidden_size: Annotated[int, at_least(4)] = 128
    """of the small model"""
    layers: Annotated[int, at_least(1)] = 2
    """of its encoder, and of its decoder"""
    dropout: Annotated[float, share(whole=False)] = 0.2
    """of the small model"""
    vocabulary: Annotated[int, at_least(100)] = 1000
    """entries of its vocabulary, at most"""
    steps: Annotated[int, at_least(1)] = 700
    """optimiser steps of an arm; of arm mle-longer more"""
    longer: Annotated[float, above(1)] = 1.15
    """times the steps that arm mle-longer takes, so that it takes as long as one with an objective"""
    start: Annotated[int, NOT_NEGATIVE] = 0
    """steps of likelihood alone, before an objective counts"""
    ramp: Annotated[int, NOT_NEGATIVE] = 0
    """steps over which its weight rises from then on"""
    batch_size: Annotated[int, at_least(1)] = 32
    """pairs in a batch"""
    learning_rate: Annotated[float | None, above(0)] = None
    """of AdamW, after a rise falling to a twentieth as a cosine; by default 2e-3, or 5e-5 for --model"""
    save_steps: Annotated[int, at_least(1)] = 200
    """steps between checkpoints; what a kill can cost"""
    test_inputs: Annotated[int, at_least(1)] = 300
    """inputs to judge on, spread over the test set"""
    beams: Annotated[int, at_least(1)] = 4
    """of beam search (published: 4)"""
    length_penalty: float = 1.0
    """power of the length by which scores of beams are divided"""
    max_new_tokens: Annotated[int, at_least(1)] = 64
    """tokens of an output, at most"""
    inputs_at_once: Annotated[int, at_least(1)] = 32
    """inputs in a batch when decoding; changes nothing but time and memory"""
    pictures_of: Annotated[int, NOT_NEGATIVE] = 3
    """inputs whose outputs the report shows side by side"""

    baseline: ClassVar[str] = "mle"
    given: ClassVar[str] = "Likelihood alone"
    of_a_loss: ClassVar[Collection[str]] = ()
    takes: ClassVar[frozenset[str]] = frozenset({"objective", "options"})
    """An objective that is given the model (`ModelObjective`), `(model) -> objective`; other options are those of the
    training."""
    own_by: ClassVar[tuple[str, ...]] = ("model", "train_data")
    unhashed = Recipe.unhashed | {"save_steps", "inputs_at_once", "pictures_of"}
    judging = frozenset({"model", "eval_data", "test_inputs", "beams", "length_penalty", "max_new_tokens"})
    metrics: ClassVar[Mapping[str, Metric]] = {
        "bleu": Metric("BLEU", "", "higher", 2, (0.0, 100.0)),
        "chrf": Metric("chrF", "", "higher", 2, (0.0, 100.0)),
        "nll": Metric("Likelihood of the first reference, nats per token", "", "lower", 3, (0.0, None)),
        "step_ratio": Metric("Time of a pass with gradients, in plain ones", "×", "lower", 2, (0.0, None)),
    }
    smoke: ClassVar[Mapping[str, Any]] = {
        "hidden_size": 32,
        "layers": 1,
        "vocabulary": 300,
        "steps": 8,
        "batch_size": 8,
        "save_steps": 4,
        "test_inputs": 6,
        "beams": 2,
        "max_new_tokens": 12,
        "pictures_of": 1,
    }
    """sizes of a preset that takes seconds"""
    captions: ClassVar[Mapping[str, Any]] = {
        "task": "multi30k",
        "longer": 1.3,
        "dropout": 0.1,
        "vocabulary": 4000,
        "steps": 800,
        "max_new_tokens": 40,
        "test_inputs": 200,
    }
    """sizes for captions, which are longer and of more words than restaurants"""

    def prepare(self) -> None:
        """Check that the options fit each other, before any work.

        Raises:
            ValueError: they do not.
        """
        super().prepare()
        if self.model is not None and self.train_data is None:
            raise ValueError("--model needs --train: your pairs to learn from, with columns source and target")
        if self.eval_data is not None and self.train_data is None:
            raise ValueError("--eval needs --train: your pairs to learn from")
        if self.train_data and self.eval_data and Path(self.train_data).resolve() == Path(self.eval_data).resolve():
            raise ValueError(f"--eval and --train are both {self.train_data}: judge on pairs that are not learnt from")
        check_reread("pairs", train=self.train_data, eval=self.eval_data)
        if self.model is None and self.hidden_size % 4:
            raise ValueError(f"hidden_size={self.hidden_size} cannot be divided into 4 heads; make it a multiple")
        if self.model is not None:
            check_model_name(self.model, "an encoder–decoder transformers model")

    @property
    def rate(self) -> float:
        """The learning rate, given or usual."""
        return self.learning_rate or (2e-3 if self.model is None else 5e-5)

    def made_by(self, arm: str) -> dict[str, Any]:
        """Without the options of other data, of another model, or of an objective that the arm has not."""
        idle = {"longer"} | ({"prefix", "longest"} if self.model is None else {"vocabulary", *_SMALL})
        idle |= set() if self.train_data is None else {"task"}
        idle |= {"start", "ramp"} if self.mixture(arm).levers().objective is None else set()
        made = super().made_by(arm) | {"learning_rate": self.rate}
        return {name: value for name, value in made.items() if name not in idle}

    def rivals(self) -> Mapping[str, Term]:
        """The likelihood alone, for as long as an arm with an objective takes."""
        more = {"steps": round(self.longer * self.steps)}
        return {"mle-longer": Term("Likelihood alone, longer", lambda strength: Levers(options=more), role="context")}

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """A data set with several references for an input, or the user's pairs."""
        from kilter.tasks.text_to_text import sources

        if self.train_data is None:
            self._pairs: Pairs = sources.published(self.task, self.test_inputs)
        else:
            self._pairs = sources.own(self.train_data, self.eval_data, self.test_inputs)
        return self._pairs.provenance

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the network of this arm, unless it is there."""
        levers = self.mixture(arm).levers()
        with one_at_a_time(folder / "model"):
            if not (folder / "model" / "config.json").exists():
                self.changed_by(levers)._fit(arm, levers, seed, folder, advance)
        return folder

    def _fit(self, arm: str, levers: Levers, seed: int, folder: Path, advance: Advance) -> None:
        import torch

        from kilter.lab.card import write_model_card
        from kilter.tasks.text_to_text import networks, training

        torch.manual_seed(seed)
        network = self._fresh()
        training.train(self, network, self._data(network, seed), levers, seed, folder, advance)
        networks.save(network, folder / "model", lambda part: write_model_card(part, self, arm, self._pairs.provenance))
        training.clean(folder)

    def _fresh(self) -> "Network":
        from kilter.tasks.text_to_text import networks

        if self.model is not None:
            return networks.own(self.model)
        sizes: Any = {name: getattr(self, name) for name in _SMALL}
        return networks.small(self._pairs.train, entries=self.vocabulary, **sizes)

    def _data(self, network: "Network", seed: int) -> "Data":
        from kilter.tasks.text_to_text import networks

        pairs, size = self._pairs.train, self.batch_size
        if self.model is not None:
            return networks.own_data(network, pairs, prefix=self.prefix, longest=self.longest, batch_size=size)
        return networks.small_data(network, pairs, steps=self.steps, batch_size=size, seed=seed)

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """Write the test inputs' texts by beam search."""
        from kilter.tasks.text_to_text import judging, networks, training
        from kilter.tasks.text_to_text.scores import corpus_scores

        items, network = self._pairs.test, networks.load(model / "model", self.device)
        texts, likely = judging.written(
            network,
            items,
            prefix=self.prefix if self.model is not None else "",
            longest=self.longest,
            at_once=self.inputs_at_once,
            num_beams=self.beams,
            length_penalty=self.length_penalty,
            max_new_tokens=self.max_new_tokens,
        )
        scores, values = corpus_scores(texts, [item.references for item in items])
        rows = [
            {
                "input": item.filled(item.source),
                "references": [*item.references],
                "text": text,
                "totals": {"nll": nats, **{name: [value[place], 1] for name, value in values.items()}},
            }
            for place, (item, text, nats) in enumerate(zip(items, texts, likely, strict=True))
        ]
        nats, tokens = (sum(column) for column in zip(*likely, strict=True))
        return Judged({**scores, "nll": nats / tokens, **read_json(model / training.LOOKED)}, rows)

    # The report ---------------------------------------------------------------------------------------------

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not."""
        small = "The model is small and trained from scratch for minutes: read the differences, not the height of BLEU."
        return [
            *[small] * (self.model is None),
            "BLEU and chrF are sacrebleu's, of all outputs together against all references of each input.",
            *[summary["data"]["note"]] * bool(summary["data"]["note"]),
        ]

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Outputs of the first seed side by side, with what people wrote."""
        from kilter.lab.text_columns import text_columns

        shown = [arm for arm in (self.baseline, *summary["arms"]) if arm in summary["arms"]]
        found = {
            arm: read_rows(next(iter(sorted((run / "arms" / arm).glob("seed-*/utterances.jsonl")))))
            for arm in dict.fromkeys(shown[:1] + [arm for arm in shown if self.describe(arm).role == "method"][:2])
        }
        count = min(map(len, found.values()), default=0)
        pictures = []
        for place in range(min(self.pictures_of, count)):
            at = place * count // self.pictures_of
            columns = {summary["arms"][arm]["label"]: [rows[at]["text"] or "(nothing)"] for arm, rows in found.items()}
            first = next(iter(found.values()))[at]
            svg = text_columns(first["input"], {**columns, "References": first["references"][:3]})
            pictures.append(Picture(f"outputs-{place}", f"Outputs for input {at + 1}", _SHOWN, svg))
        return pictures
