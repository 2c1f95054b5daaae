"""Recipe of Align With Purpose: words earlier (or with fewer errors), against CTC on the same budget.

Default task: strings of spoken digits with exact word ends, on causal convolutions that emit words about 380 ms
after they end; the same network with residual connections does not drift and is shown beside it. The paper
trained stacked ResNets and Conformers on LibriSpeech and larger corpora; its weights and margins are not public.
"""

import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from kilter.core.paper import Claim, cards
from kilter.lab.files import MAIN_PROCESS, full_disk_said
from kilter.lab.locks import one_at_a_time
from kilter.lab.recipe import RATE, SHARE, Advance, Arm, Judged, Metric, Picture, Provenance, Recipe
from kilter.models.ctc_arms import STRENGTHS, CTCArm

if TYPE_CHECKING:
    from kilter.lab.summary import Arms
    from kilter.models.recogniser import Recogniser


_LETTERS: Any = {"hidden_size": 128, "stack": 4, "dilations": (1, 2, 1, 2, 4), "causal": False}
"""The recogniser of letters: wider, 40 ms a frame, and with a look ahead, for which it has no drift to lose."""
_EXTRA = 1000
"""Added to the seed for the extra steps, so that their strings are new."""
_CONSTANT = ("awp-0.5+constant", "awp-1+constant", "awp-1.5+constant", "awp-2+constant", "awp-3+constant")


@dataclass(kw_only=True)
class AlignWithPurposeRecipe(Recipe):
    """Make a CTC recogniser emit its words earlier, at nearly the same word error rate.

    Align With Purpose samples alignments from the model, edits each into a better one (the same words, a frame
    earlier), and moves probability from the one to the other.

    Without --model it trains a small recogniser on recorded digit strings and shows before and after. With --model
    and --train it tunes your own model and leaves it, in the host's format, in arms/awp/seed-0/model.
    """

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
    """leave out unreadable or empty recordings (they are counted in the report) instead of stopping"""
    property: Literal["low-latency", "minimum-wer"] = "low-latency"
    """what makes an alignment better"""
    speech: Literal["digits", "prompts"] = "digits"
    """without --model: strings of digits as words, or recorded sentences (telephone prompts) as letters"""
    language: Literal["en", "es", "fr", "it"] = "en"
    """of the prompts"""
    weight: float = 1.5
    """α, weight of the term in arm awp; arm awp-0.5 has weight 0.5"""
    samples: int = 5
    """N, alignments drawn for each utterance (published code: 5)"""
    margin: float = 0.0
    """λ of the hinge (published code: 0)"""
    temperature: float = 1.0
    """of the sampling (published code: 1)"""
    start_step: int = 0
    """optimiser step at which the term switches on, after the warm-up"""
    start_word_success: float | None = None
    """switch on when this share of the words in recent batches is right, e.g. 0.85, instead of at a step"""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """the weight of awp or peak-first over the extra steps: constant (as in arm awp+constant), or falling to 0, which
    leaves CTC the last word on the words"""
    encoder: Literal["conv", "residual", "gru"] = "conv"
    """the small recogniser's encoder; conv is the one whose words come late"""
    warm_up_steps: int = 1200
    """steps of plain CTC before the arms part, shared by all arms of a seed (0 with --model)"""
    steps: int = 1200
    """extra steps of every arm"""
    batch_size: int = 16
    """utterances in a batch"""
    learning_rate: float | None = None
    """of the extra steps, falling to a twentieth; by default 1e-3 for the small recogniser, 3e-5 for --model"""
    warm_up_learning_rate: float = 2e-3
    """of the warm-up, falling to 6e-4"""
    test_strings: int = 300
    """digit strings to judge on"""
    save_steps: int = 150
    """steps between checkpoints; what a kill can cost"""
    pictures_of: int = 3
    """utterances drawn in the report"""

    paper = cards()["align-with-purpose"]
    baseline: ClassVar[str] = "ctc"
    unhashed = Recipe.unhashed | {"pictures_of", "save_steps"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "arms": ("ctc", "awp"),
            "warm_up_steps": 24,
            "steps": 12,
            "batch_size": 4,
            "test_strings": 12,
            "save_steps": 6,
            "pictures_of": 1,
        },
        "demo": {"arms": ("ctc", "residual", "awp"), "steps": 900, "weight": 2.0, "jobs": 2},
        "full": {
            "arms": (
                "ctc",
                "awp",
                *_CONSTANT,
                "peak-first",
                "peak-first-0.003+constant",
                "trim-tail",
                "awp+trim-tail",
                "delay-penalty",
                "bayes-risk",
                "residual",
                "warm-up",
            ),
            "seeds": 5,
            "steps": 900,
            "test_strings": 600,
            "jobs": 2,
        },
        "residual": {
            "arms": (
                "ctc",
                "awp",
                *_CONSTANT,
                "peak-first",
                "trim-tail",
                "awp+trim-tail",
                "delay-penalty",
                "bayes-risk",
                "warm-up",
            ),
            "encoder": "residual",
            "seeds": 5,
            "steps": 450,
            "jobs": 2,
        },
        "words": {  # the other property: recorded sentences in letters, of which each seed holds out a fifth
            "arms": ("ctc", "awp", "awp-150", "mwer", "warm-up"),
            "speech": "prompts",
            "language": "es",
            "property": "minimum-wer",
            "weight": 50.0,
            "schedule": "constant",
            "encoder": "residual",
            "seeds": 5,
            "batch_size": 8,
            "warm_up_steps": 1000,
            "warm_up_learning_rate": 4e-3,
            "steps": 300,
            "learning_rate": 5e-4,
            "jobs": 2,
        },
        "own": {"arms": ("ctc", "awp"), "warm_up_steps": 0},  # what --model means
    }
    metrics: ClassVar[Mapping[str, Metric]] = {
        "wer": Metric("Word error rate", "%", "lower", 2, RATE),
        "delay_ms": Metric("Mean emission delay", "ms", "lower", 0),
        "shift_ms": Metric("Emission against the model as given", "ms", "lower", 0),
        "median_delay_ms": Metric("Median emission delay", "ms", "lower", 0),
        "onset_ms": Metric("Emission after word onset", "ms", "lower", 0),
        "early": Metric("Words emitted before their end", "%", "higher", 1, SHARE),
        "cer": Metric("Character error rate", "%", "lower", 2, RATE),
        "lm_wer": Metric("Word error rate with a letter n-gram", "%", "lower", 2, RATE),
        "dev_wer": Metric("Word error rate, development takes", "%", "lower", 2, RATE),
        "dev_delay_ms": Metric("Mean emission delay, development takes", "ms", "lower", 0),
    }

    def prepare(self) -> None:
        """Check that the options fit each other; with one's own model, the model as given is an arm too."""
        if (self.train_data is None) != (self.eval_data is None):
            raise ValueError("--train and --eval go together: give both, or neither for the digit strings")
        if self.model and not self.train_data:
            raise ValueError("--model needs your recordings: add --train and --eval")
        if self.train_data and not self.model:
            raise ValueError("--train needs --model: a folder or hub id of a transformers …ForCTC model")
        if self.model:
            if not Path(self.model).is_dir() and (self.model.count("/") != 1 or self.model[0] in "./~"):
                raise ValueError(f"model: there is no folder {self.model}, and it is no hub id like org/name")
            self.warm_up_steps = 0
            self.arms = tuple(dict.fromkeys(("before", *self.arms)))
        for name, least in (("weight", 0), ("margin", 0), ("warm_up_steps", 0), ("start_step", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("samples", "steps", "batch_size", "save_steps", "test_strings"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("temperature", "warm_up_learning_rate", "learning_rate"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        if self.start_word_success is not None and not 0 <= self.start_word_success <= 1:
            raise ValueError(f"start_word_success is a share between 0 and 1, got {self.start_word_success}")

    # Arms ---------------------------------------------------------------------------------------------------

    def describe(self, arm: str) -> Arm:
        """Label and role of an arm."""
        if arm == "before":
            return Arm("The model as given", "context" if "ctc" in self.arms else "baseline")
        if arm == "warm-up" and not self.model:
            return Arm("After the warm-up, before the extra steps", "context")
        try:
            parts = self._parts(arm)
        except ValueError as error:
            terms = ", ".join(STRENGTHS)
            raise ValueError(
                f"arms: {error}; an arm is {'before, ' if self.model else 'warm-up, '}ctc, or one loss with or without "
                f"its strength ({terms}; e.g. awp-0.5), +trim-tail, +constant (no falling weight)"
                + ("" if self.model else ", and residual+ or gru+ before it for that encoder")
            ) from None
        label = parts.label(falling=self.schedule != "constant")
        if arm == "ctc":
            return Arm(f"{label}, the same extra steps", "baseline")
        series, point = parts.series(falling=self.schedule != "constant")
        return Arm(label, "method" if parts.terms else "context", series, point)

    def _parts(self, arm: str) -> CTCArm:
        parts = CTCArm.parse(arm, {**STRENGTHS, "awp": self.weight})
        if parts.encoder and self.model:
            raise ValueError(f"{arm!r} asks for an encoder, but the model is given")
        return parts

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """The user's recordings, or digit strings with exact word ends."""
        if self.train_data and self.eval_data:
            return self._own_data(self.train_data, self.eval_data)
        from kilter.data.assets import locate
        from kilter.data.fsdd import load_takes
        from kilter.data.prompts import load_prompts

        found = locate("fsdd" if self.speech == "digits" else "asterisk-prompts")
        if self.speech == "digits":
            self._takes = load_takes(found.path)
        else:
            self._prompts = load_prompts(found.path, self.language)
        asset = found.asset
        self._provenance = Provenance(
            asset.title, asset.licence, asset.attribution, asset.page, found.source, found.synthetic, found.note
        )
        return self._provenance

    def _own_data(self, train: str, evaluation: str) -> Provenance:
        from kilter.data.manifests import load_speech
        from kilter.models.recogniser import Recogniser

        recogniser = Recogniser.load(str(self.model))
        rate = recogniser.rate
        columns: Any = {"text_column": self.text_column, "audio_column": self.audio_column, "skip_bad": self.skip_bad}
        own = load_speech(train, split="train", rate=rate, **columns)
        judged = load_speech(evaluation, split="test", rate=rate, **columns)
        recogniser.check_texts(own.rows.texts())
        self._train, self._judged = own.rows, judged.rows
        self._provenance = Provenance(
            f"your recordings: {len(own.rows)} to train, {len(judged.rows)} to judge",
            source=f"{train}, {evaluation}",
            skipped=[*own.skipped, *judged.skipped],
            digest=_digest(own.rows.texts(), judged.rows.texts()),
        )
        return self._provenance

    def _rows(self, split: Literal["test", "dev"], seed: int) -> Any:
        """What is judged; of the prompts, each seed has a fold of its own."""
        from kilter.data.fsdd import DigitStrings
        from kilter.data.prompts import FOLDS, Prompts

        if self.model:
            return self._judged
        if self.speech == "prompts":
            return Prompts(self._prompts, fold=seed % FOLDS)
        return DigitStrings(self._takes, count=self.test_strings, seed=0, split=split)

    def _strings(self, count: int, seed: int) -> Any:
        """Training strings, new ones for every step."""
        from kilter.data.fsdd import DigitStrings
        from kilter.data.prompts import FOLDS, PromptStrings

        if self.speech == "prompts":
            return PromptStrings(self._prompts, count=count, seed=seed, fold=seed % _EXTRA % FOLDS)
        return DigitStrings(self._takes, count=count, seed=seed, split="train")

    def _fresh(self, encoder: Any) -> "Recogniser":
        """An untrained recogniser of the digits' words, or of letters."""
        from kilter.data import fsdd, prompts
        from kilter.models.recogniser import Recogniser
        from kilter.models.small_speech import letter_tokenizer

        if self.speech == "prompts":
            return Recogniser.small(letter_tokenizer(prompts.LETTERS), encoder, prompts.RATE, **_LETTERS)
        return Recogniser.small(fsdd.WORDS, encoder, fsdd.RATE)

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """The extra steps of this arm, from the warm-up or the model as given."""
        if arm == "before":
            return Path(str(self.model))
        shared = self._shared(arm, seed, folder.parents[2]) / "model"
        model = folder / "model"
        if arm == "warm-up" or (model / "config.json").exists():
            return shared if arm == "warm-up" else model
        recogniser = self._load(self.model or shared, seed)
        self._fit(
            recogniser,
            work=folder / "checkpoints",
            steps=self.steps,
            rate=self.learning_rate or (3e-5 if self.model else 1e-3),
            final=0.05,
            warm=0,
            seed=seed + _EXTRA,
            advance=lambda done, steps: advance(self.warm_up_steps + done, self.warm_up_steps + steps),
            parts=self._parts(arm),
        )
        self._save(recogniser, model, arm)
        return model

    def _encoder(self, arm: str) -> Any:
        return (arm != "warm-up" and self._parts(arm).encoder) or self.encoder

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
            recogniser = self._fresh(self._encoder(arm))
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

    def _load(self, name: str | Path, seed: int) -> "Recogniser":
        import torch

        from kilter.models.recogniser import Recogniser

        torch.manual_seed(seed)
        return Recogniser.load(name)

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
        parts: CTCArm | None = None,
    ) -> None:
        from kilter.lab.training import fit

        handle = self._attach(recogniser, parts) if parts else None
        summed = recogniser.model.config.ctc_loss_reduction == "sum"
        fit(
            recogniser.model,
            dataset=self._training_rows(recogniser, steps, seed, parts),
            collate=recogniser.collate,
            folder=work,
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=rate,
            final_learning_rate=final * rate,
            warm_up_steps=warm,
            max_grad_norm=5.0 * (self.batch_size if summed else 1),
            seed=seed,
            device=self.device,
            precision=self.precision,
            save_steps=self.save_steps,
            advance=advance,
            callbacks=[handle] if handle else [],
        )
        if handle:
            handle.detach()

    def _attach(self, recogniser: "Recogniser", parts: CTCArm) -> Any:
        """Hang the arm's loss on the model; None where it is plain CTC."""
        from kilter.hosts.transformers import Start, align_ctc
        from kilter.speech import AlignWithPurpose, LowLatency, MinimumWER

        blank = int(recogniser.model.config.pad_token_id)
        earlier = self.property == "low-latency"
        awp = AlignWithPurpose(
            LowLatency(blank=blank) if earlier else MinimumWER(recogniser.tokenizer, blank=blank),
            samples=self.samples,
            margin=self.margin,
            temperature=self.temperature,
        )
        objective = parts.objective(recogniser, awp)
        if objective is None:
            return None
        waits = self.start_word_success is not None
        return align_ctc(
            recogniser.model,
            objective,
            weight=parts.terms[parts.loss] if parts.loss in ("awp", "mwer") else 1.0,
            ctc_weight=1.0 if parts.adds else 0.0,
            start=Start(word_success=self.start_word_success) if waits else Start(step=self.start_step),
            schedule="constant" if parts.constant or not parts.adds else self.schedule,
        )

    def _training_rows(self, recogniser: "Recogniser", steps: int, seed: int, parts: CTCArm | None) -> Any:
        rows: Any = self._train if self.train_data else None
        if rows is None:
            rows = self._strings(steps * self.batch_size, seed)
        if parts and (frames := int(parts.terms.get("trim-tail", 0))):
            from kilter.speech import TrimTail

            rows = TrimTail(rows, max_frames=frames, frame=recogniser.rate // 100, seed=seed)
        return rows

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
                write_model_card(part, self, self.describe(arm).label, self._provenance)
            part.replace(folder)
            shutil.rmtree(folder.with_name("checkpoints"), ignore_errors=True)
        dist.barrier()

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """Word errors and emission times on the test recordings."""
        from kilter.models.judging import judge, ratios
        from kilter.models.recogniser import Recogniser

        percent = {name for name, metric in self.metrics.items() if metric.unit == "%"}
        recogniser = Recogniser.load(str(self.model) if arm == "before" else model).to(self.device)
        before = Recogniser.load(self.model).to(self.device) if self.model and arm != "before" else None
        rows = judge(recogniser, self._rows("test", seed), before)
        if not self.model and self.speech == "prompts":
            searched = judge(recogniser, self._rows("test", seed), fuse=self._letters(recogniser, seed))
            for row, found in zip(rows, searched, strict=True):
                row["totals"]["lm_wer"] = found["totals"]["wer"]
                row["heard_with_lm"] = found["heard"]
        metrics = ratios(rows, percent)
        if not self.model and self.speech == "digits":
            dev = ratios(judge(recogniser, self._rows("dev", seed)), percent)
            metrics |= {f"dev_{name}": dev[name] for name in ("wer", "delay_ms") if name in dev}
        return Judged(metrics, rows)

    def _letters(self, recogniser: "Recogniser", seed: int) -> Any:
        """A language model of the texts that this seed trains on."""
        from kilter.data.prompts import FOLDS
        from kilter.models.letter_ngram import LetterNGram

        texts = [prompt.text for prompt in self._prompts if prompt.fold != seed % FOLDS]
        return LetterNGram(texts, recogniser.tokenizer)

    # The report ---------------------------------------------------------------------------------------------

    def purpose(self) -> str:
        """Of the property of this run."""
        if self.property == "low-latency":
            return super().purpose()
        return (
            "Make a CTC recogniser get more words right. Align With Purpose samples alignments from the model, mends "
            "one almost right word in each, and moves probability from the one to the other."
        )

    def claims(self) -> Sequence[Claim]:
        """Of the paper's two, that on the property of this run."""
        if self.property == "low-latency":
            return self.paper.claims
        return tuple(Claim(wer, "lower", "ctc", arm) for arm in ("awp", "mwer") for wer in ("lm_wer", "wer"))

    def verdicts(self, arms: "Arms") -> Sequence[Mapping[str, str]]:
        """Whether Align With Purpose is on the front of delay and word errors among the rivals that were run."""
        from kilter.lab.summary import front

        parts = {arm: self._parts(arm) for arm in arms.figures if arm not in ("before", "warm-up")}
        here = {arm: found for arm, found in parts.items() if found.encoder in (None, self.encoder)}
        own = [arm for arm, found in here.items() if tuple(found.terms) == ("awp",)]
        rivals = [arm for arm, found in here.items() if found.terms and "awp" not in found.terms]
        found = front(arms, "delay_ms", "wer", own, rivals, "Align With Purpose")
        return [found] if found and self.property == "low-latency" else []

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """When one needs this, in plain words."""
        arms, notes = summary["arms"], []
        if self.model and "ctc" not in arms:
            notes.append(
                "No arm trained with plain CTC for the same steps, so part of the change may come from more training "
                "alone: --arms ctc awp tells them apart."
            )
        if summary["data"]["synthetic"]:
            notes.append("The speech is synthetic (espeak-ng): no recordings could be had. Read no more into it.")
        delays = {
            arm: found["metrics"]["delay_ms"]["mean"] for arm, found in arms.items() if "delay_ms" in found["metrics"]
        }
        if delays.get("ctc", 0.0) < 0:
            notes.append(
                f"Plain CTC emits words {-delays['ctc']:.0f} ms before their end here: there is no drift to remove, "
                "and what an arm gains in time it pays for in word errors."
            )
        if self.speech == "prompts":
            notes.append(
                "Each seed holds out another fifth of the sentences. The letter n-gram is made of the texts of the "
                "other four; the paper too decodes with a language model. The arms share learning rate and steps."
            )
        if "ctc" in delays and "residual" in delays:
            notes.append(
                f"Plain CTC emits words {delays['ctc']:.0f} ms after their end here; the same network with residual "
                f"connections {delays['residual']:+.0f} ms. ".replace("-", "−")
                + "The drift is avoidable by design: Align With Purpose is for the model you already have. "
                "Measure its drift first; only drift that is there can be removed."
            )
        return notes

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """The trade-off, and a few utterances with each arm's emissions."""
        from kilter.lab.plots import tradeoff
        from kilter.lab.timeline import timeline

        pictures = []
        delay = next((name for name in ("delay_ms", "shift_ms") if name in summary["metrics"]), None)
        if delay is not None:
            svg = tradeoff(summary, x=delay, y="wer")
            caption = "Further left is earlier, further down is fewer word errors; bars are the intervals of the table."
            pictures.append(Picture("tradeoff", "Delay against word errors", caption, svg))
        spoken = self._rows("test", 0)
        spans = not self.model and self.speech == "digits"
        for index in range(min(self.pictures_of, len(spoken)) if spans else 0):
            row: Any = spoken[index]
            emissions = {
                found["label"]: [tuple(word) for word in _utterance(run, arm, index)["emissions"]]
                for arm, found in summary["arms"].items()
            }
            svg = timeline(row["audio"], 8000, row["words"], emissions)
            caption = f"“{row['text']}”, spoken by {row['speaker']}. A bar runs from a word's true end to its emission."
            pictures.append(Picture(f"utterance-{index}", f"Utterance {index + 1}", caption, svg, _wav(row["audio"])))
        return pictures


RECIPE = AlignWithPurposeRecipe


def _digest(*parts: Sequence[tuple[str, str]]) -> str:
    """Changes with the places and texts of one's own data; the audio is not read for it."""
    from hashlib import sha256

    return sha256(repr(parts).encode()).hexdigest()[:16]


def _utterance(run: Path, arm: str, index: int) -> Mapping[str, Any]:
    """Row of one utterance as the first finished seed of an arm heard it."""
    from kilter.lab.files import read_rows

    return read_rows(next(iter(sorted((run / "arms" / arm).glob("seed-*/utterances.jsonl")))))[index]


def _wav(audio: Any) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, audio, 8000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
