"""Continuations: a ranker of what comes next in a text, and text chosen by it.

Rankers learn from three novels, of which each seed holds out another, or from the user's documents; a language model
writes what they must not prefer, and the samples among which they choose. Another ranker, which has learnt from other
passages of the same documents, judges the texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from kilter.lab.arms import Levers, Mixture, Term
from kilter.lab.locks import in_any_order, one_at_a_time
from kilter.lab.options import FINITE, NOT_NEGATIVE, at_least
from kilter.lab.recipe import SHARE, Advance, Judged, Metric, Picture, Provenance, Recipe
from kilter.lab.tuning import Tuning
from kilter.models.names import check_model_name
from kilter.tasks.continuations import networks, report, sources
from kilter.tasks.continuations.rivals import OwnProbability, rivals

if TYPE_CHECKING:
    from kilter.data.books import Pair
    from kilter.tasks.continuations.ranking import TextScorer

_JUDGE = 1000
"""Added to the seed of the ranker that judges, so that it is another than those it judges."""


@dataclass(kw_only=True)
class Continuations(Tuning):
    """Options of every recipe on continuations."""

    model: str = "minilm"
    """encoder to start from: minilm (from its wheel), a folder or hub id of one that reads both ways, or random"""
    generator: str = "smollm2"
    """language model that writes negatives and samples: smollm2 (from its wheel), a folder or hub id, or random"""
    train_data: Annotated[str | None, arg(name="train")] = None
    """your documents: a folder of long texts, one .txt for each, or a .csv, .json or .jsonl with column text"""
    eval_data: Annotated[str | None, arg(name="eval")] = None
    """documents to judge on; by default the last tenth of each of yours"""
    prefix_words: Annotated[int, at_least(1)] = 64
    """most words of a prefix (published: 256)"""
    shortest: int = 10
    """fewest words of a continuation (published: 10)"""
    longest: int = 48
    """most words of a continuation (published: 128)"""
    pairs: Annotated[int, at_least(2)] = 192
    """passages to learn from, of all texts together, each with one machine continuation; raise it if you have many"""
    steps: Annotated[int, at_least(1)] = 40
    """optimiser steps of every ranker, however many texts or pairs there are (published: 100,000)"""
    batch_size: Annotated[int, at_least(2)] = 16
    """passages in a batch, all of one document (published: 4,096)"""
    learning_rate: Annotated[float, FINITE] = 2e-4
    """of AdamW, falling to 0 (published: Adafactor at a constant 2e-3)"""
    judge_pairs: Annotated[int, NOT_NEGATIVE] = 96
    """other passages, from which the judge of the samples learns; 0 for no judge"""
    test_pairs: Annotated[int, at_least(1)] = 100
    """passages to judge the rankers on"""
    prompts: Annotated[int, NOT_NEGATIVE] = 8
    """passages to continue; 0 for no decoding"""
    samples: Annotated[int, at_least(1)] = 20
    """samples of each, among which a ranker chooses (published: 20)"""
    new_tokens: Annotated[int, at_least(1)] = 64
    """tokens of a sample (published: 128)"""
    top_p: float = 0.9
    """nucleus of the sampling (published: 0.9)"""
    compat: bool = False
    """cut texts that are too long for the ranker as RankGen's published code does: the end of a prefix is lost"""
    judgements: bool = True
    """without --train: ask whether the rankers prefer what people did, where the published judgements can be had"""
    save_steps: Annotated[int, at_least(1)] = 40
    """steps between checkpoints; what a kill can cost"""

    given: ClassVar[str] = "The encoder as given (cosine)"
    takes: ClassVar[frozenset[str]] = frozenset(
        {"objective", "rows", "sampler", "callbacks", "decoder", "reward", "options"}
    )
    """Objectives take vectors of texts, as sentence-transformers has them; `rows` are those of `training_rows`; a
    decoder is `(scorer, *, tokenizer, generator) -> custom_generate`; a reward ranks instead of what is trained; other
    options are those of the ranker and its training."""
    intervals: ClassVar[Literal["seeds", "examples"]] = "examples"
    own_by: ClassVar[tuple[str, ...]] = ("train", "train_data")
    unhashed = Recipe.unhashed | {"save_steps"}
    judging = frozenset({"model", "train_data", "eval_data", "judge_pairs", "test_pairs", "prompts", "samples"})
    judging |= {"new_tokens", "judgements"}
    smoke: ClassVar[Mapping[str, Any]] = {
        "model": "random",
        "generator": "random",
        "prefix_words": 24,
        "longest": 16,
        "pairs": 16,
        "judge_pairs": 8,
        "test_pairs": 6,
        "prompts": 2,
        "samples": 3,
        "new_tokens": 12,
        "steps": 4,
        "batch_size": 4,
        "save_steps": 2,
        "judgements": False,
    }
    """sizes of a preset that takes seconds"""
    own: ClassVar[Mapping[str, Any]] = {"judge_pairs": 0, "prompts": 0}
    """sizes of a preset for the user's documents, which leaves a ranker"""
    metrics: ClassVar[Mapping[str, Metric]] = {
        "inbook": Metric("True next passage against another of the book", "%", "higher", 1, SHARE),
        "generative": Metric("True next passage against machine text", "%", "higher", 1, SHARE),
        "human_agreement": Metric("Agreement with human judges", "%", "higher", 1, SHARE),
        "preferred": Metric("Text preferred to a plain sample, by another ranker", "%", "higher", 1, SHARE),
        "near_human": Metric("Text preferred to the author's, by another ranker", "%", "higher", 1, SHARE),
        "rep": Metric("Words repeated from the last 20", "%", "lower", 1, SHARE),
        "overlap": Metric("Words shared with the prefix", "%", "higher", 1, SHARE),
    }

    def prepare(self) -> None:
        """Check that the options fit each other."""
        super().prepare()
        if not (self.judge_pairs and self.prompts):
            self.arms = tuple(arm for arm in self.arms if arm != "judge")
        if self.eval_data and self.train_data and Path(self.eval_data).resolve() == Path(self.train_data).resolve():
            raise ValueError(f"--eval and --train are both {self.train_data}: judge on texts that are not trained on")
        if self.eval_data and not self.train_data:
            raise ValueError("--eval needs --train: a folder of your long texts to learn from")
        if self.model not in (ours := ("minilm", "random")):
            check_model_name(self.model, "an encoder that reads both ways", known=ours)
        if self.generator not in (ours := ("smollm2", "random")):
            check_model_name(self.generator, "a causal transformers model", known=ours)
        if not 0 < self.shortest <= self.longest:
            raise ValueError(f"shortest={self.shortest} must be at least 1 and at most longest={self.longest}")
        if not self.learning_rate > 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"learning_rate={self.learning_rate} must be above 0, and top_p={self.top_p} above 0 and at most 1"
            )

    # Arms ---------------------------------------------------------------------------------------------------

    def rivals(self) -> Mapping[str, Term]:
        """Simple rankers, plain samples, the author, and the ranker that judges."""
        return rivals(self._language_model)

    def mixture(self, arm: str) -> Mixture:
        """What an arm is made of.

        Raises:
            ValueError: see `Tuning.mixture`; two rankers, or one where none can choose.
        """
        found = super().mixture(arm)
        levers = found.levers()
        if isinstance(levers.decoder, str) and len(found.parts) > 1:
            raise ValueError(f"{arm!r}: {levers.decoder} stands alone, for no ranker of its own chooses there")
        if levers.objective is not None and levers.reward is not None:
            raise ValueError(f"{arm!r} has two rankers, one trained and one given; an arm takes one")
        return found

    def label(self, found: Mixture) -> str:
        """An arm in words, with what chooses where nothing searches."""
        return super().label(found) + ("" if found.levers().decoder is not None else ", best of the samples")

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """The novels, or the user's documents, as passages and what follows them."""
        from kilter.data.assets import credits_of

        own = self.train_data is not None
        self._preferences = (
            sources.preferences() if self.judgements and not own else ()
        )  # nothing fetched for one's own
        used = {"smollm2": self.generator == "smollm2", "minilm": self.model == "minilm"}
        used["rankgen-judgements"] = bool(self._preferences)
        how: dict[str, Any] = {"prefix_words": self.prefix_words, "words": (self.shortest, self.longest)}
        how["note"] = credits_of([name for name, uses in used.items() if uses])
        if self.train_data is None:
            self._passages = sources.novels(**how)
        else:
            how["halved"] = bool(self.judge_pairs)
            self._passages = sources.own_documents(self.train_data, self.eval_data, **how)
        return self._passages.provenance

    # What arms share: machine text, samples, a judge -----------------------------------------------------------

    def warm_up(self, arm: str, seed: int, run: Path, advance: Advance) -> None:
        """Machine continuations of all documents, samples for the prompts of this seed, and the judge of them."""
        self._run = run
        self._write_negatives(seed, advance)
        if self.prompts:
            with one_at_a_time(self._samples_file(seed)):
                self._draw_samples(seed, advance)
            if self.judge_pairs:
                pairs = self._passages.spread(self._passages.seen(seed), 1, self.judge_pairs)
                by = Levers(objective=_against_all)
                self._train_ranker("judge", by, pairs, seed + _JUDGE, self._judge(seed), advance)

    def _judge(self, seed: int) -> Path:
        return self._run / "judge" / f"seed-{seed}" / "model"

    def _samples_file(self, seed: int) -> Path:
        return self._run / "samples" / f"seed-{seed}.jsonl"

    def _wanted(self, seed: int) -> "dict[tuple[str, int], list[Pair]]":
        judge = self.judge_pairs if self.prompts else 0
        return self._passages.wanted(seed, learnt=self.pairs, tested=self.test_pairs, judge=judge)

    def _write_negatives(self, seed: int, advance: Advance) -> None:
        from kilter.tasks.continuations.writing import Writing, write_continuations

        writing = Writing((self.shortest, self.longest), self.top_p, whole=self.generator != "random")
        wanted = {sources.kept_in(self._run / "negatives", *of): pairs for of, pairs in self._wanted(seed).items()}
        files = list(wanted)[seed % len(wanted) :] + list(wanted)[: seed % len(wanted)]
        self._machine: dict[str, str] = {}
        for file in in_any_order(files):
            prefixes = {pair.id: pair.prefix for pair in wanted[file]}
            self._machine |= write_continuations(
                self._language_model,
                prefixes,
                file,
                writing=writing,
                name=self.generator,
                advance=partial(advance, unit="texts"),
            )

    def _language_model(self) -> tuple[Any, Any]:
        """Model and tokenizer of the generator, loaded when they are first needed."""
        if not hasattr(self, "_loaded"):
            self._loaded = networks.generator(self.generator, self._passages, self.device)
        return self._loaded

    def _draw_samples(self, seed: int, advance: Advance) -> None:
        from kilter.lab.kept import KeptRows
        from kilter.tasks.continuations.reranking import Sampling, sample

        sampling, prompts = Sampling(self.new_tokens, self.top_p), self._prompts(seed)
        settings = {"model": self.generator, "samples": self.samples, **asdict(sampling)}
        kept = KeptRows(self._samples_file(seed), settings)
        for done, pair in enumerate(prompts, 1):
            if pair.id not in kept.rows:
                drawn = sample(*self._language_model(), pair.prefix, self.samples, sampling, seed)
                kept.add([{"id": pair.id, **asdict(drawn)}])
            advance(done, len(prompts), "prompts")
        self._pool = kept.rows

    def _prompts(self, seed: int) -> "list[Pair]":
        return self._passages.spread(self._passages.held(seed), 1, self.prompts)

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the ranker of this arm, unless it is there; the others have nothing to train."""
        levers = self.mixture(arm).levers()
        if levers.objective is None:
            return folder
        ranker = self._ranker(arm)
        model = folder.parents[1] / ranker / folder.name / "model"
        pairs = self._passages.spread(self._passages.seen(seed), 0, self.pairs)
        self.changed_by(levers)._train_ranker(ranker, levers, pairs, seed, model, advance)
        return model

    def _ranker(self, arm: str) -> str:
        """The arm whose ranker this one uses: another way of decoding has none of its own."""
        parts = self.mixture(arm).parts
        trained = [part for part in parts if part.levers().pulled() != ("decoder",)]
        return arm if len(trained) == len(parts) else "+".join(part.said for part in trained)

    def _train_ranker(
        self, arm: str, levers: Levers, pairs: "Sequence[Pair]", seed: int, folder: Path, advance: Advance
    ) -> None:
        with one_at_a_time(folder):
            if (folder / "modules.json").exists():
                return
            import shutil

            from kilter.tasks.continuations.training import save_ranker, train_ranker, training_rows

            rows = training_rows(pairs, self._machine, [*self._passages.documents])
            if not len(rows):
                raise ValueError(
                    f"{arm}: no document has two passages to learn from that the generator could continue; give "
                    "longer texts, more --pairs, or another --generator"
                )
            ranker = networks.fresh_ranker(self.model, self._passages, seed, compat=self.compat)
            same = ("steps", "batch_size", "learning_rate", "device", "precision", "save_steps")
            how: Any = {name: getattr(self, name) for name in same} | {"warm_up_steps": self.steps // 10}
            work = folder.with_name("checkpoints")
            encoder = train_ranker(ranker, rows, levers, work, seed=seed, advance=advance, **how)
            save_ranker(encoder, folder, lambda part: self._write_card(part, arm), compat=self.compat)
            shutil.rmtree(work, ignore_errors=True)

    def _write_card(self, folder: Path, arm: str) -> None:
        from kilter.data.encoders import for_card
        from kilter.lab.card import write_model_card

        how: Any = {**for_card(self.model), "library": "sentence-transformers"}
        write_model_card(folder, self, arm, self._passages.provenance, **how)

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """How well the ranker tells the true passage, and the text it chooses."""
        from kilter.lab.totals import means
        from kilter.tasks.continuations.judging import agree, identify
        from kilter.tasks.continuations.reranking import Sampling
        from kilter.tasks.continuations.written import written

        levers = self.mixture(arm).levers()
        scorer = self.changed_by(levers)._scorer(levers, seed, model)
        ranks = None if callable(levers.decoder) else scorer  # what decodes by a ranker is not judged for it again
        rows = identify(ranks, self._passages, seed, self.test_pairs, self._machine)
        rows += agree(None if isinstance(ranks, OwnProbability) else ranks, self._preferences)
        if self.prompts:
            judge = self._load(self._judge(seed)) if self.judge_pairs else None
            sampling = Sampling(self.new_tokens, self.top_p)
            pool = {pair: self._pool[pair.id] for pair in self._prompts(seed)}
            rows += written(pool, levers.decoder, scorer, judge, self._language_model, sampling, seed)
        figures = means(rows, [*dict.fromkeys(name for row in rows for name in row["totals"])])  # all are shares
        return Judged(figures, rows)  # the same rows for every arm, so that arms can be paired

    def _scorer(self, levers: Levers, seed: int, model: Path) -> "TextScorer | None":
        if levers.decoder in ("nucleus", "human"):
            return None
        if levers.decoder == "judge":
            return self._load(self._judge(seed))
        if levers.objective is not None:
            return self._load(model)
        if levers.reward is not None:
            return levers.reward
        return networks.as_given(self.model, self._passages, self.device)

    def _load(self, folder: Path) -> Any:
        from kilter.decoding import RankGenScorer

        return RankGenScorer.from_pretrained(folder).to(self.device)

    # The report ---------------------------------------------------------------------------------------------

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not, whatever was compared."""
        return report.remarks(summary, novels=self.train_data is None, samples=self.samples if self.prompts else 0)

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Both kinds of suffix identification against each other, and repetition against what the judge prefers."""
        return report.pictures(summary)


def _against_all(encoder: Any) -> Any:
    """What the judge learns by."""
    from kilter.decoding import RankGenLoss

    return RankGenLoss()
