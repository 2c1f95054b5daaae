"""Recognition of speech by a CTC model: where the speech comes from, how a recogniser is trained, how it is judged.

The small recogniser is trained on strings of recorded digits with exact word ends (or recorded sentences) on plain CTC
first, once for all arms of a seed; each arm then has the same extra steps. The user's own model begins as it is.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from kilter.core.normalise import TextPart
from kilter.evaluation.word_errors import weak_model_note
from kilter.lab.arms import Arm, Levers, Mixture, Part, Term
from kilter.lab.files import MAIN_PROCESS, full_disk_said
from kilter.lab.locks import one_at_a_time
from kilter.lab.options import NOT_NEGATIVE, above, at_least, share
from kilter.lab.recipe import Advance, Judged, Metric, Picture, Provenance, Recipe
from kilter.models.names import check_model_name
from kilter.tasks.recognition import figures
from kilter.tasks.recognition.rivals import NETWORKS, rivals

if TYPE_CHECKING:
    from kilter.models.recogniser import Recogniser
    from kilter.tasks.recognition.sources import Source

_EXTRA = 1000
"""Added to the seed for the extra steps, so that their strings are new."""


@dataclass(kw_only=True)
class Recognition(Recipe):
    """Options of every recipe on the recognition of speech."""

    model: str | None = None
    """folder or hub id of a transformers …ForCTC model; by default a small one is trained here"""
    train_data: Annotated[str | None, arg(name="train")] = None
    """your recordings: a .csv or .jsonl with columns audio and text, a folder of audio, or a hub dataset"""
    eval_data: Annotated[str | None, arg(name="eval")] = None
    """recordings to judge on, in the same formats; needed with --train"""
    text_column: str = "text"
    """column of the transcripts"""
    audio_column: str = "audio"
    """column of the recordings"""
    skip_bad: bool = False
    """leave out recordings that cannot be read or do not fit their text (the report counts them) instead of stopping"""
    keep: tuple[TextPart, ...] = ()
    """of your texts leave as it is: white space, the Unicode form, case; by default they become the vocabulary's"""
    speech: Literal["digits", "prompts"] = "digits"
    """without --model: strings of digits as words, or recorded sentences (telephone prompts) as letters"""
    language: Literal["en", "es", "fr", "it"] = "en"
    """of the prompts"""
    start_step: Annotated[int, at_least(0)] = 0
    """optimiser step at which an arm's loss switches on, after the warm-up"""
    start_word_success: Annotated[float | None, share()] = None
    """switch on when this share of the words in recent batches is right, e.g. 0.85, instead of at a step"""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """the weight of a loss beside CTC over the extra steps: constant (as in an arm …+constant), or falling to 0, which
    leaves CTC the last word on the words"""
    encoder: Literal["conv", "residual", "gru"] = "conv"
    """the small recogniser's encoder; conv is the one whose words come late"""
    warm_up_steps: Annotated[int, at_least(0)] = 1200
    """steps of plain CTC before the arms part, shared by all arms of a seed (0 with --model)"""
    steps: Annotated[int, at_least(1)] = 1200
    """extra steps of every arm"""
    batch_size: Annotated[int, at_least(1)] = 16
    """utterances in a batch"""
    learning_rate: Annotated[float | None, above(0)] = None
    """of the extra steps, falling to a twentieth; by default 1e-3 for the small recogniser, 3e-5 for --model"""
    warm_up_learning_rate: Annotated[float, above(0)] = 2e-3
    """of the warm-up, falling to 6e-4"""
    test_strings: Annotated[int, at_least(1)] = 300
    """digit strings to judge on"""
    save_steps: Annotated[int, at_least(1)] = 150
    """steps between checkpoints; what a kill can cost"""
    pictures_of: Annotated[int, NOT_NEGATIVE] = 3
    """utterances drawn in the report"""

    baseline: ClassVar[str] = "ctc"
    takes: ClassVar[frozenset[str]] = frozenset({"objective", "rows", "sampler", "callbacks", "options"})
    words: ClassVar[frozenset[str]] = frozenset({"constant"})
    unhashed = Recipe.unhashed | {"pictures_of", "save_steps"}
    judging = frozenset({"model", "train_data", "eval_data", "text_column", "audio_column", "skip_bad", "test_strings"})
    smoke: ClassVar[Mapping[str, Any]] = {
        "warm_up_steps": 24,
        "steps": 12,
        "batch_size": 4,
        "test_strings": 12,
        "save_steps": 6,
        "pictures_of": 1,
    }
    """sizes of a preset that takes seconds"""
    metrics: ClassVar[Mapping[str, Metric]] = figures.METRICS

    def prepare(self) -> None:
        """Check that the options fit each other; with one's own model, the model as given is an arm too."""
        if (self.train_data is None) != (self.eval_data is None):
            raise ValueError("--train and --eval go together: give both, or neither for the digit strings")
        if self.model and not self.train_data:
            raise ValueError("--model needs your recordings: add --train and --eval")
        if self.train_data and not self.model:
            raise ValueError("--train needs --model: a folder or hub id of a transformers …ForCTC model")
        if self.model:
            check_model_name(self.model, "a transformers …ForCTC model")
            self.warm_up_steps = 0
            self.arms = tuple(dict.fromkeys(("before", *self.arms)))

    # Arms ---------------------------------------------------------------------------------------------------

    def made_by(self, arm: str) -> dict[str, Any]:
        """Of the task's options those of the source and of the loss that the arm has."""
        found = self.mixture(arm)
        levers = found.levers()
        idle = ({"language"} if self.speech == "digits" else set()) | (set() if self.keep else {"keep"})
        idle |= {"speech", "language", "encoder", "warm_up_learning_rate"} if self.model else set()
        idle |= set() if _falls(levers) else {"schedule", "start_step", "start_word_success"}
        made = super().made_by(arm) | ({"schedule": "constant"} if "constant" in found.words else {})
        return {name: value for name, value in made.items() if name not in idle} | dict(levers.options)

    def rivals(self) -> Mapping[str, Term]:
        """Usual CTC losses, trimmed audio, and the networks."""
        return rivals()

    def mixture(self, arm: str) -> Mixture:
        """What an arm is made of.

        Raises:
            ValueError: see `Recipe.mixture`; nothing in it could fall, or the model is given and it asks for another.
        """
        found = super().mixture(arm)
        levers = found.levers()
        if found.words and not (levers.objective and levers.beside):
            fall = [name for name, term in self.terms().items() if _falls(term.make(term.usual))]
            raise ValueError(f"{arm!r}: only {' and '.join(fall)} have a weight that could fall or stay constant")
        if levers.options and self.model:
            raise ValueError(f"{arm!r} asks for an encoder, but the model is given")
        return found

    def describe(self, arm: str) -> Arm:
        """Label and role of an arm."""
        if arm == "before" and self.model:
            return Arm("The model as given", "context" if "ctc" in self.arms else "baseline")
        if arm == "warm-up" and not self.model:
            return Arm("After the warm-up, before the extra steps", "context")
        try:
            found = self.mixture(arm)
        except ValueError as error:
            terms = ", ".join(name for name in self.terms() if name not in NETWORKS)
            raise ValueError(
                f"arms: {error}; an arm is {'before, ' if self.model else 'warm-up, '}ctc, or one loss with or without "
                f"its strength ({terms}; e.g. peak-first-0.01), +trim-tail, +constant (no falling weight)"
                + ("" if self.model else ", and residual+ or gru+ before it for that encoder")
            ) from None
        falling = self.schedule != "constant" and "constant" not in found.words

        def falls(part: Part) -> bool:
            return falling and _falls(part.levers())

        label = found.label("CTC only", lambda part: " falling to 0" if falls(part) else "")
        if arm == "ctc":
            return Arm(f"{label}, the same extra steps", "baseline")
        role = "method" if any(part.term.role == "method" for part in found.parts) else "context"
        if (part := found.single()) is None:
            return Arm(label, role)
        return Arm(label, role, f"{part.full_name}{', falling' * falls(part)}", f"{part.strength:g}")

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """The user's recordings, or digit strings with exact word ends."""
        from kilter.tasks.recognition import sources

        self._source: Source
        if self.train_data and self.eval_data:
            from kilter.models.recogniser import Recogniser

            columns: Any = {name: getattr(self, name) for name in ("text_column", "audio_column", "skip_bad")}
            own = Recogniser.load(str(self.model), keep=self.keep)
            self._source = sources.OwnRecordings(own, self.train_data, self.eval_data, **columns)
        elif self.speech == "digits":
            self._source = sources.Digits(self.test_strings)
        else:
            self._source = sources.Sentences(self.language)
        return self._source.provenance

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """The extra steps of this arm, from the warm-up or the model as given."""
        if arm == "before":
            return Path(str(self.model))
        shared = self._shared(arm, seed, folder.parents[2]) / "model"
        model = folder / "model"
        if arm == "warm-up" or (model / "config.json").exists():
            return shared if arm == "warm-up" else model
        import torch

        from kilter.models.recogniser import Recogniser

        torch.manual_seed(seed)
        recogniser = Recogniser.load(self.model or shared, keep=self.keep)
        found = self.mixture(arm)
        self._fit(
            recogniser,
            work=folder / "checkpoints",
            steps=self.steps,
            rate=self.learning_rate or (3e-5 if self.model else 1e-3),
            final=0.05,
            warm=0,
            seed=seed + _EXTRA,
            advance=lambda done, steps: advance(self.warm_up_steps + done, self.warm_up_steps + steps),
            levers=found.levers(),
            schedule="constant" if "constant" in found.words else self.schedule,
        )
        self._save(recogniser, model, arm)
        return model

    def _encoder(self, arm: str) -> Any:
        changed = {} if arm in ("before", "warm-up") else self.mixture(arm).levers().options
        return changed.get("encoder", self.encoder)

    def _shared(self, arm: str, seed: int, run: Path) -> Path:
        return run / "warm-up" / f"{self._encoder(arm)}-{seed}"

    def warm_up(self, arm: str, seed: int, run: Path, advance: Advance) -> None:
        """Plain CTC from scratch, once for all arms of a seed."""
        if self.model:
            return
        folder = self._shared(arm, seed, run)
        total = self.warm_up_steps + (0 if arm == "warm-up" else self.steps)
        with one_at_a_time(folder):
            if (folder / "model" / "config.json").exists():
                return
            import torch

            torch.manual_seed(seed)
            recogniser = self._source.fresh(self._encoder(arm))  # type: ignore[union-attr]
            self._fit(
                recogniser,
                work=folder / "checkpoints",
                steps=self.warm_up_steps,
                rate=self.warm_up_learning_rate,
                final=0.3,
                warm=min(100, self.warm_up_steps // 4),
                seed=seed,
                advance=lambda done, _: advance(done, total),
            )
            self._save(recogniser, folder / "model", "ctc")

    def _fit(
        self,
        recogniser: "Recogniser",
        *,
        work: Path,
        steps: int,
        rate: float,
        final: float,
        warm: int,
        seed: int,
        advance: Advance,
        levers: Levers | None = None,
        schedule: Any = "constant",
    ) -> None:
        from transformers import Trainer

        from kilter.lab.training import arguments, fit

        levers = levers or Levers()
        handle = self._attach(recogniser, levers, schedule)
        rows = self._source.training(steps * self.batch_size, seed, fold=seed % _EXTRA)
        rows = levers.rows(rows, recogniser, seed) if levers.rows is not None else rows
        summed = recogniser.model.config.ctc_loss_reduction == "sum"
        settings = arguments(
            work,
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=rate,
            warm_up_steps=warm,
            seed=seed,
            device=self.device,
            precision=self.precision,
            save_steps=self.save_steps,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr": final * rate},
            max_grad_norm=5.0 * (self.batch_size if summed else 1),
            remove_unused_columns=False,
        )
        trainer = Trainer(recogniser.model, settings, train_dataset=rows, data_collator=recogniser.collate)
        callbacks = [*([] if levers.callbacks is None else levers.callbacks(recogniser)), *([handle] if handle else [])]
        sampler = None if levers.sampler is None else levers.sampler(rows, seed)
        fit(trainer, advance, callbacks=callbacks, sampler=sampler)
        if handle:
            handle.detach()

    def _attach(self, recogniser: "Recogniser", levers: Levers, schedule: Any) -> Any:
        """Hang the arm's loss on the model; None where it is plain CTC."""
        if levers.objective is None or not levers.weight:
            return None
        from kilter.hosts.transformers import Start, align_ctc

        waits = self.start_word_success is not None
        return align_ctc(
            recogniser.model,
            levers.objective(recogniser),
            weight=levers.weight,
            ctc_weight=1.0 if levers.beside else 0.0,
            start=Start(word_success=self.start_word_success) if waits else Start(step=self.start_step),
            schedule=schedule if levers.beside else "constant",
        )

    def _save(self, recogniser: "Recogniser", folder: Path, arm: str) -> None:
        """Save whole or not at all, with a model card; the checkpoints have done their work."""
        from kilter import dist
        from kilter.lab.card import write_model_card

        if MAIN_PROCESS:
            part = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            with full_disk_said(folder.parent):
                part.mkdir(parents=True)
                recogniser.save(part)
                write_model_card(part, self, arm, self._source.provenance)
            part.replace(folder)
            shutil.rmtree(folder.with_name("checkpoints"), ignore_errors=True)
        dist.barrier()

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """Word errors and emission times on the test recordings."""
        from kilter.models.recogniser import Recogniser
        from kilter.tasks.recognition.judging import judge, ratios

        percent = {name for name, metric in self.metrics.items() if metric.unit == "%"}
        recogniser = Recogniser.load(str(self.model) if arm == "before" else model, keep=self.keep).to(self.device)
        before = Recogniser.load(self.model, keep=self.keep).to(self.device) if self.model and arm != "before" else None
        rows = judge(recogniser, self._source.judged("test", seed), before)
        if (letters := self._source.language_model(recogniser, seed)) is not None:
            searched = judge(recogniser, self._source.judged("test", seed), fuse=letters)
            for row, found in zip(rows, searched, strict=True):
                row["totals"]["lm_wer"] = found["totals"]["wer"]
                row["heard_with_lm"] = found["heard"]
        metrics = ratios(rows, percent)
        if self._source.has_dev:
            dev = ratios(judge(recogniser, self._source.judged("dev", seed)), percent)
            metrics |= {f"dev_{name}": dev[name] for name in ("wer", "delay_ms") if name in dev}
        return Judged(metrics, rows)

    # The report ---------------------------------------------------------------------------------------------

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What is to be borne in mind, whatever was compared."""
        return [*self._remarks(summary["arms"], summary["data"])]

    def _remarks(self, arms: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[str]:
        if self.model and data["note"]:
            yield data["note"]
        if self.model and "ctc" not in arms:
            yield (
                "No arm trained with plain CTC for the same steps, so part of the change may come from more training "
                "alone: --arms ctc awp tells them apart."
            )
        given = arms.get("before", {}).get("metrics", {}).get("wer", {}).get("mean")
        if given is not None and (note := weak_model_note(given / 100)):
            yield note
        if data["synthetic"]:
            yield "The speech is synthetic (espeak-ng): no recordings could be had. Read no more into it."
        if (delay := self.delays(arms).get("ctc", 0.0)) < 0:
            yield (
                f"Plain CTC emits words {-delay:.0f} ms before their end here: there is no drift to remove, "
                "and what an arm gains in time it pays for in word errors."
            )
        if self.speech == "prompts":
            yield (
                "Each seed holds out another fifth of the sentences. The letter n-gram is made of the texts of the "
                "other four. The arms share learning rate and steps."
            )

    @staticmethod
    def delays(arms: Mapping[str, Any]) -> dict[str, float]:
        """Mean emission delay of each arm of a summary that has one, in milliseconds."""
        return {arm: row["metrics"]["delay_ms"]["mean"] for arm, row in arms.items() if "delay_ms" in row["metrics"]}

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """The trade-off, and a few utterances with each arm's emissions."""
        spoken = self._source.judged("test", 0) if self._source.has_spans else ()
        return [*figures.front(summary), *figures.utterances(summary, run, spoken, self.pictures_of)]


def _falls(levers: Levers) -> bool:
    """Whether it has a weight that a schedule can lower; a loss of its own in the place of CTC has not."""
    return levers.objective is not None and levers.beside
