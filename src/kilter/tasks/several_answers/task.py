"""The task: a model reads an input, a decoder makes several outputs of it, and they are judged together.

Sources are restaurants from slots and values (E2E NLG), captions from German (Multi30k), and the user's own prompts.
Nothing heavy is imported, so that `--help` answers at once.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from kilter.core.sources import check_reread
from kilter.lab.arms import Mixture, Part, Term, UnknownPart
from kilter.lab.files import read_json, write_json
from kilter.lab.locks import one_at_a_time
from kilter.lab.options import FINITE, NOT_NEGATIVE, above, at_least, share
from kilter.lab.recipe import SHARE, Advance, Arm, Judged, Metric, Picture, Provenance, Recipe
from kilter.models.decoders import DECODERS
from kilter.models.names import check_model_name
from kilter.tasks.several_answers.rivals import Decoded, rivals

if TYPE_CHECKING:
    from kilter.data.referenced import Referenced
    from kilter.models.text_model import TextModel
    from kilter.tasks.several_answers.sources import Source


@dataclass(kw_only=True)
class SeveralAnswers(Recipe):
    """Ask a model for several outputs of each input, and judge the best of them and how different they are."""

    model: str | None = None
    """folder or hub id of a causal or encoder–decoder model, or smollm2; by default a small one is trained here"""
    data: str | None = None
    """your prompts: a .txt with one a line, or a .csv, .json or .jsonl with prompt and, to judge quality, references"""
    chat: bool = False
    """with --model: give each prompt as what a user says, in the model's own chat template"""
    task: Literal["e2e", "multi30k"] = "e2e"
    """without --model: restaurants from slots and values, or captions from German"""
    outputs: Annotated[int, at_least(2)] = 20
    """B, the beams and the outputs for each input"""
    length_penalty: Annotated[float, FINITE] = 0.0
    """power of the length by which scores of beams are divided; outputs are ranked by log-probability anyway"""
    max_new_tokens: Annotated[int, at_least(2)] = 64
    """tokens of an output, at most"""
    test_inputs: Annotated[int, at_least(1)] = 300
    """inputs to judge on, spread over the test set"""
    dev_inputs: Annotated[int, at_least(1)] = 60
    """development inputs on which strengths are chosen, by oracle@B"""
    inputs_at_once: Annotated[int, at_least(1)] = 16
    """inputs in a batch when decoding; changes nothing but time and memory"""
    hidden_size: Annotated[int, at_least(1)] = 128
    """of the small model"""
    layers: Annotated[int, at_least(1)] = 2
    """of its encoder, and of its decoder"""
    dropout: Annotated[float, share(whole=False)] = 0.2
    """of the small model"""
    vocabulary: Annotated[int, at_least(100)] = 1000
    """entries of its vocabulary, at most"""
    steps: Annotated[int, at_least(1)] = 1000
    """optimiser steps of its training"""
    batch_size: Annotated[int, at_least(1)] = 32
    """pairs in a batch"""
    learning_rate: Annotated[float, above(0)] = 2e-3
    """of its training, falling to a twentieth"""
    withheld: Annotated[float, share(whole=False)] = 0.1
    """share of the training pairs whose input is left empty, so that MMI has p(text) of the same model"""
    save_steps: Annotated[int, at_least(1)] = 200
    """steps between checkpoints; what a kill can cost"""
    pictures_of: Annotated[int, NOT_NEGATIVE] = 2
    """inputs whose outputs the report shows side by side"""

    baseline: ClassVar[str] = "beam"
    takes: ClassVar[frozenset[str]] = frozenset({"decoder"})
    intervals: ClassVar[Literal["seeds", "examples"]] = "examples"
    unhashed = Recipe.unhashed | {"pictures_of", "save_steps", "inputs_at_once"}
    judging = frozenset(
        {"model", "data", "chat", "outputs", "length_penalty", "max_new_tokens", "test_inputs", "dev_inputs"}
    )
    shown: ClassVar[tuple[str, ...]] = ()
    """arms whose outputs the report shows first, after the baseline's"""
    metrics: ClassVar[Mapping[str, Metric]] = {
        "oracle_20": Metric("Oracle@20", "BLEU", "higher", 2, SHARE),
        "distinct_4": Metric("Distinct 4-grams", "%", "higher", 2, SHARE),
        "oracle_1": Metric("Oracle@1, the most likely output", "BLEU", "higher", 2, SHARE),
        "log_prob": Metric("Log-probability of the most likely output", "nats", "higher", 2),
        "oracle_5": Metric("Oracle@5", "BLEU", "higher", 2, SHARE),
        "oracle_10": Metric("Oracle@10", "BLEU", "higher", 2, SHARE),
        "distinct_1": Metric("Distinct words", "%", "higher", 2, SHARE),
        "distinct_2": Metric("Distinct 2-grams", "%", "higher", 2, SHARE),
        "distinct_3": Metric("Distinct 3-grams", "%", "higher", 2, SHARE),
        "repeated": Metric("Outputs that repeat another", "%", "lower", 1, SHARE),
    }
    smoke: ClassVar[Mapping[str, Any]] = {
        "outputs": 4,
        "max_new_tokens": 12,
        "test_inputs": 6,
        "dev_inputs": 3,
        "hidden_size": 32,
        "layers": 1,
        "vocabulary": 300,
        "steps": 12,
        "batch_size": 8,
        "save_steps": 6,
        "pictures_of": 1,
    }
    """sizes of a preset that takes seconds"""
    captions: ClassVar[Mapping[str, Any]] = {
        "task": "multi30k",
        "max_new_tokens": 40,
        "dropout": 0.1,
        "vocabulary": 4000,
        "steps": 1200,
        "batch_size": 64,
        "test_inputs": 120,
        "dev_inputs": 30,
    }
    """sizes for captions, which are longer and of more words than restaurants"""

    def prepare(self) -> None:
        """Check that the options fit each other, before any work."""
        if (self.model is None) != (self.data is None):
            raise ValueError("--model and --data go together: give both, or neither to train a small model here")
        if self.chat and not self.model:
            raise ValueError("--chat needs --model: the small model that is trained here has no chat template")
        check_reread("prompts", data=self.data)
        if self.model and self.seeds > 1 and not any(self._decoded(arm).row.samples for arm in self.arms):
            raise ValueError(f"seeds={self.seeds}: without sampling each seed decodes the same; leave --seeds out")
        if not self.model and not self.withheld and any(arm.startswith("mmi") for arm in self.arms):
            raise ValueError("withheld=0 leaves MMI without p(text); give a share, e.g. 0.1, or leave the arm mmi out")
        if self.model not in (None, ours := "smollm2"):
            check_model_name(self.model, "a causal or encoder–decoder transformers model", known=[ours])

    # Arms ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def brings(self) -> Mapping[str, Term]:
        """The decoders of the recipe's paper, made with its own options."""

    def rivals(self) -> Mapping[str, Term]:
        """Usual decoders without a paper here."""
        return rivals()

    def mixture(self, arm: str) -> Mixture:
        """What an arm is made of: beam search, or a decoder with or without its strength.

        Raises:
            ValueError: it is none of these.
        """
        try:
            return super().mixture(arm)
        except UnknownPart as error:
            raise ValueError(
                f"arms: there is no {arm!r}; an arm is {self.baseline}, or one of {', '.join(self.terms())} with or "
                f"without its strength, e.g. {next(iter(self.brings()))}-0.5"
            ) from error

    def describe(self, arm: str) -> Arm:
        """Label and role of an arm."""
        part = self._part(arm)
        if part is None:
            return Arm("Beam search", "baseline")
        series = part.full_name if part.given is not None else ""
        return Arm(part.label(), part.term.role, series, f"{part.given:g}" if series else "")

    def _part(self, arm: str) -> Part | None:
        """The decoder of an arm, None for beam search; there cannot be two."""
        return next(iter(self.mixture(arm).parts), None)

    def _decoded(self, arm: str, strength: float | None = None) -> Decoded:
        return self.mixture(arm).levers(strength).decoder or Decoded(DECODERS["beam"], {})

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """The user's prompts, or a data set with several references for an input."""
        from kilter.tasks.several_answers.sources import OwnPrompts, Pairs

        if self.data:
            self._source: Source = OwnPrompts(self.data, test=self.test_inputs)
        else:
            self._source = Pairs(self.task, dev=self.dev_inputs, test=self.test_inputs)
        return self._source.provenance

    # Training and choosing ------------------------------------------------------------------------------------

    def warm_up(self, arm: str, seed: int, run: Path, advance: Advance) -> None:
        """Train the small model, once for all arms of a seed."""
        if self.model:
            return
        folder = run / "warm-up" / f"seed-{seed}"
        with one_at_a_time(folder):
            if not (folder / "model" / "config.json").exists():
                from kilter.tasks.several_answers.training import train_small

                train_small(self, self._source, seed, folder, advance)

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Choose the decoder's strength on the development inputs, unless its name says it."""
        part, file, before = self._part(arm), folder / "choice.json", 0
        test = len(self._source.items("test"))
        found = read_json(file) if file.exists() else {"strength": part and part.given, "grid": []}
        if part and part.given is None and (self.model or not part.term.grid):
            found["strength"] = part.term.usual
        elif part and part.given is None:
            from kilter.tasks.several_answers.judging import widest_oracle

            text, items, grid = self._text(seed, folder), self._source.items("dev"), part.term.grid
            before = len(grid) * len(items)
            for place, strength in list(enumerate(grid))[len(found["grid"]) :]:
                at = partial(_of, advance, place * len(items), before + test)
                figures = self._judge(text, arm, strength, items, seed, at)[0]
                found["grid"].append({"strength": strength, **figures})
                write_json(file, found)
            best = max(found["grid"], key=lambda figures: figures[widest_oracle(figures)])
            found["strength"] = best["strength"]
        write_json(file, found)
        self._at = partial(_of, advance, before, before + test)
        return folder

    def _text(self, seed: int, folder: Path) -> "TextModel":
        from kilter.data.pretrained import small_model
        from kilter.models.text_model import TextModel

        shared = folder.parents[2] / "warm-up" / f"seed-{seed}" / "model"
        return TextModel.load(small_model(self.model or str(shared)), device=self.device)

    def _judge(
        self,
        text: "TextModel",
        arm: str,
        strength: float | None,
        items: Sequence["Referenced"],
        seed: int,
        at: Callable[[int], None],
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        from kilter.lab.totals import means
        from kilter.models.text_decoding import decoding
        from kilter.tasks.several_answers.judging import judge_texts, write_texts

        row, own = self._decoded(arm, strength)
        same = row.settings(None, None, outputs=self.outputs, length_penalty=self.length_penalty)
        options = {**same, **{name: self.outputs if value == "all" else value for name, value in own.items()}}
        write = decoding(text, row, options, max_new_tokens=self.max_new_tokens)
        at_once: Any = {
            "seed": seed,
            "batch_size": self.inputs_at_once,
            "max_new_tokens": self.max_new_tokens,
            "chat": self.chat,
            "advance": at,
        }
        rows = judge_texts(items, write_texts(text, write, items, **at_once))
        return means(rows, [name for name, metric in self.metrics.items() if metric.unit == "%"]), rows

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """Decode the test inputs with the strength chosen."""
        import time

        from kilter.tasks.several_answers.judging import widest_oracle

        choice = read_json(model / "choice.json")
        text, started = self._text(seed, model), time.process_time()
        figures, rows = self._judge(text, arm, choice["strength"], self._source.items("test"), seed, self._at)
        figures["cost_decoding_and_judging_cpu_seconds"] = time.process_time() - started
        if choice["strength"] is not None:
            figures["strength"] = choice["strength"]
        for tried in choice["grid"]:
            at = f"{tried['strength']:g}"
            figures |= {f"dev_{name}_at_{at}": tried[name] for name in (widest_oracle(tried), "distinct_4") if name}
        return Judged(figures, rows)

    # The report ---------------------------------------------------------------------------------------------

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """Strengths, and what to bear in mind."""
        from kilter.tasks.several_answers.figures import choice

        notes, run = [], self.out or Path()
        if not self.model:
            chosen = [
                f"{found['label']} {', '.join(part.term.at.removeprefix(', ').format(one) for one in strengths)}"
                for arm, found in summary["arms"].items()
                if (part := self._part(arm)) and not found["point"]
                if (strengths := [choice(run, arm, seed)["strength"] for seed in found["seeds"]])
            ]
            notes += [f"Strengths chosen on the development inputs, one a seed: {'; '.join(chosen)}."] if chosen else []
            notes.append(
                "The model is small and trained for minutes on a small set: read the differences between decoders, not "
                "the height of BLEU."
            )
            notes += [note] if (note := self._source.note()) else []
        if not any(name.startswith("oracle") for name in summary["metrics"]):
            notes.append(
                "The prompts have no references, so quality is not judged: give a .jsonl with prompt and references."
            )
        notes.append(
            "Every decoder's outputs are ranked by the model's log-probability. Distinct n-grams are the distinct ones "
            "among an input's outputs, by the words of these outputs; the normalisation of Vijayakumar et al. is not "
            "published."
        )
        return notes

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Quality against diversity on test and development inputs, and the outputs for a few inputs."""
        from kilter.tasks.several_answers import figures

        terms = {arm: part.term for arm in summary["arms"] if (part := self._part(arm))}
        first = (self.baseline, *self.shown, "nucleus", *summary["arms"])
        return [
            *figures.quality_against_diversity(summary),
            *figures.what_strength_does(summary, run, terms),
            *figures.outputs_side_by_side(summary, run, first, self.pictures_of),
        ]


def _of(advance: Advance, before: int, total: int, done: int) -> None:
    """So many of some inputs are done, after `before` others."""
    advance(before + done, total, "inputs")
