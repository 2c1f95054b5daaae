"""The task: a small language model is tuned by a reward, and its samples are held against those it began with.

Requests that people sent to assistants (HH harmless), short tasks with one right answer (BIG-Bench-Hard), or the user's
own prompts and reward. Nothing heavy is imported, so that `--help` answers at once.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from kilter.core.sources import check_reread
from kilter.lab.arms import Levers, Term
from kilter.lab.locks import one_at_a_time
from kilter.lab.options import NOT_NEGATIVE, above, at_least
from kilter.lab.recipe import SHARE, Advance, Judged, Metric, Picture, Provenance, Recipe
from kilter.lab.tuning import Tuning
from kilter.models.names import check_model_name
from kilter.tasks.preference.learning import Learning

if TYPE_CHECKING:
    from torch import Tensor

    from kilter.models.text_model import TextModel
    from kilter.tasks.preference.drawn import Answers
    from kilter.tasks.preference.scorers import Scorer
    from kilter.tasks.preference.sources import Item, Material

_START, _FRESH = 7_919, 104_729
"""Seeds of the answers of the model as given, and, added to the run's seed, of those that are judged."""


@dataclass(kw_only=True)
class PreferenceTuning(Tuning):
    """Options of every recipe that tunes a language model by a reward."""

    model: str = "smollm2"
    """language model to tune: smollm2 (from its wheel), a folder, hub id or GGUF, or random (tiny, says nothing)"""
    train_data: Annotated[str | None, arg(name="train")] = None
    """your pairs: a .csv or .jsonl with columns prompt and chosen, or a hub data set"""
    prompts: str | None = None
    """your prompts, where no answers are needed: a .txt with one a line, or a table with column prompt"""
    eval_data: Annotated[str | None, arg(name="eval")] = None
    """yours to judge on; by default every tenth of yours"""
    task: Literal["harmless", "short-answers"] = "harmless"
    """without --train or --prompts: requests sent to an assistant, or one-line tasks with one right answer"""
    chat: bool = False
    """give each prompt as what a user says, in the model's own chat template"""
    reward: str | None = None
    """what is learnt from: FILE.py:FUNCTION, MODULE:FUNCTION, a folder or hub id of a sequence classifier, or vader,
    bradley-terry, exact-match"""
    judge: str | None = None
    """what answers are judged by, likewise; learnt from, too, where --reward is not given"""
    train_prompts: Annotated[int, at_least(1)] = 500
    """prompts to learn from, at most"""
    test_prompts: Annotated[int, at_least(2)] = 48
    """prompts to judge on, at most"""
    prompt_words: Annotated[int, at_least(1)] = 12
    """words of a published prompt, at most"""
    max_new_tokens: Annotated[int, at_least(1)] = 12
    """tokens of an answer, at most"""
    samples: Annotated[int, at_least(2)] = 32
    """answers to each prompt that are judged"""
    n: Annotated[int, at_least(1)] = 4
    """N of best and worst of N"""
    kl_samples: Annotated[int, at_least(1)] = 512
    """answers by which the divergence from the model as given is measured, at least"""
    draws: Annotated[int, at_least(2)] = 64
    """answers of the model as given to each prompt that is learnt from, for what needs them (published: 100)"""
    lora: Annotated[int, NOT_NEGATIVE] = 8
    """rank of the LoRA that is tuned; 0 tunes all weights"""
    lora_layers: Annotated[int | None, at_least(1)] = None
    """how many of the last blocks have one; by default all"""
    half: bool = False
    """hold the model's weights in bfloat16, the LoRA's in float32: half the time on a recent CPU"""
    steps: Annotated[int, at_least(1)] = 30
    """optimiser steps of an arm"""
    batch_size: Annotated[int, at_least(1)] = 32
    """answers in a batch"""
    group: Annotated[int, at_least(2)] = 8
    """answers to each prompt of a batch, where they are sampled in training"""
    learning_rate: Annotated[float, above(0)] = 1e-3
    """of AdamW, after a rise falling to 0"""
    save_steps: Annotated[int, at_least(1)] = 10
    """steps between checkpoints; what a kill can cost"""
    answers_at_once: Annotated[int, at_least(1)] = 64
    """answers in a batch when drawing and judging; changes nothing but time and memory"""
    pictures_of: Annotated[int, NOT_NEGATIVE] = 3
    """prompts whose answers the report shows side by side"""

    baseline: ClassVar[str] = "base"
    given: ClassVar[str] = "The model as given"
    of_a_loss: ClassVar[Collection[str]] = ()
    takes: ClassVar[frozenset[str]] = frozenset({"objective", "options"})
    """An objective is `(task) -> Learning`; other options are those of the training."""
    intervals: ClassVar[Literal["seeds", "examples"]] = "examples"
    own_by: ClassVar[tuple[str, ...]] = ("train_data", "prompts")
    needs_answers: ClassVar[bool] = False
    """whether prompts need a reference answer"""
    first: ClassVar[tuple[str, ...]] = ()
    """arms whose answers the report shows first, after the baseline's"""
    unhashed = Recipe.unhashed | {"save_steps", "answers_at_once", "pictures_of"}
    judging = frozenset({"model", "eval_data", "test_prompts", "samples", "n", "kl_samples", "judge"})
    metrics: ClassVar[Mapping[str, Metric]] = {
        "win_best": Metric("Win rate of the best of N against the start's", "%", "higher", 1, SHARE),
        "win_worst": Metric("Win rate of the worst of N", "%", "higher", 1, SHARE),
        "win_plain": Metric("Win rate of one answer", "%", "higher", 1, SHARE),
        "judged_best": Metric("Best of N by the reward, won by the judge", "%", "higher", 1, SHARE),
        "judged_worst": Metric("Worst of N by the reward, won by the judge", "%", "higher", 1, SHARE),
        "judged_plain": Metric("One answer, won by the judge", "%", "higher", 1, SHARE),
        "win_rate": Metric("Win rate against the reference answer", "%", "higher", 1, SHARE),
        "net_start": Metric("Wins minus losses against the start", "%", "higher", 1, (-100.0, 100.0)),
        "all_fail": Metric("Groups of answers that all lose to the reference", "%", "lower", 1, SHARE),
        "reference_log_prob": Metric("Log-likelihood of a token of the reference", "nats", "higher", 3, (None, 0.0)),
        "kl": Metric("Divergence from the start", "nats", "lower", 3),
        "strength": Metric("Strength at which the LoRA is left", "", "higher", 2, (0.0, None)),
        "length": Metric("Tokens of an answer", "", "higher", 1, (0.0, None)),
    }
    smoke: ClassVar[Mapping[str, Any]] = {
        "model": "random",
        "train_prompts": 8,
        "test_prompts": 4,
        "max_new_tokens": 5,
        "samples": 8,
        "kl_samples": 16,
        "draws": 6,
        "lora": 2,
        "steps": 3,
        "batch_size": 4,
        "group": 2,
        "save_steps": 2,
        "answers_at_once": 32,
        "pictures_of": 1,
    }
    """sizes of a preset that takes seconds"""
    short: ClassVar[Mapping[str, Any]] = {
        "task": "short-answers",
        "prompt_words": 14,
        "train_prompts": 200,
        "test_prompts": 40,
        "max_new_tokens": 4,
        "samples": 16,
        "kl_samples": 80,
        "steps": 20,
        "batch_size": 16,
        "learning_rate": 2e-3,
        "lora_layers": 10,
        "save_steps": 10,
    }
    """sizes for tasks whose answers are a word: a step costs what its prompts cost to read"""
    requests: ClassVar[Mapping[str, Any]] = {
        "task": "harmless",
        "prompt_words": 8,
        "train_prompts": 48,
        "test_prompts": 32,
        "max_new_tokens": 8,
        "samples": 20,
        "kl_samples": 256,
        "draws": 32,
        "steps": 16,
        "batch_size": 24,
        "learning_rate": 2e-3,
        "lora_layers": 10,
        "save_steps": 8,
    }
    """sizes for requests, whose answers are cut after a few words"""

    def prepare(self) -> None:
        """Check that the options fit each other, before any work.

        Raises:
            ValueError: they do not.
        """
        super().prepare()
        if self.train_data and self.prompts:
            raise ValueError("--train and --prompts are both given; pairs have their prompts, so leave --prompts out")
        if self.eval_data and not self.own:
            raise ValueError("--eval needs --train or --prompts: yours to learn from")
        if self.eval_data and Path(self.eval_data).resolve() == Path(self.own or "").resolve():
            raise ValueError(f"--eval is {self.eval_data}, too: judge on prompts that are not learnt from")
        if self.own and not (self.reward or self.judge):
            raise ValueError("your own prompts need --reward or --judge: FILE.py:FUNCTION or a sequence classifier")
        check_reread("prompts", train=self.train_data, prompts=self.prompts, eval=self.eval_data)
        if self.needs_answers and self.prompts:
            raise ValueError("--prompts has no answers to learn from; give --train, with columns prompt and chosen")
        if self.batch_size % self.group:
            raise ValueError(f"batch_size={self.batch_size} must be a multiple of group={self.group}")
        if self.n > self.samples:
            raise ValueError(f"n={self.n} is more than samples={self.samples}; raise --samples")
        if self.half and not self.lora:
            raise ValueError("half: weights in bfloat16 cannot be tuned well; leave --half out, or give --lora a rank")
        if self.model not in (ours := ("smollm2", "random")):
            check_model_name(self.model, "a causal transformers model", known=ours)

    @property
    def own(self) -> str | None:
        """The user's file of prompts."""
        return self.train_data or self.prompts

    def made_by(self, arm: str) -> dict[str, Any]:
        """Without the options of published data, or of what the arm does not do."""
        made = super().made_by(arm)
        idle = {"task", "prompt_words"} if self.own else {"train_data", "prompts"}
        return {name: value for name, value in made.items() if name not in idle}

    # Arms ---------------------------------------------------------------------------------------------------

    def rivals(self) -> Mapping[str, Term]:
        """The likelihood of reference answers, and GRPO rewarded for answers that beat them."""

        def term(label: str, learning: Learning) -> Term:
            return Term(label, lambda strength: Levers(objective=lambda task: learning), role="context")

        return {
            "sft": term("SFT", Learning(solver="sft")),
            "grpo": term("GRPO", Learning(solver="grpo", against_reference=True)),
        }

    def learning(self, arm: str) -> Learning | None:
        """How an arm learns; None for the model as given."""
        made = self.mixture(arm).levers().objective
        return None if made is None else made(self)

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """Requests, short tasks, or the user's prompts."""
        from kilter.tasks.preference import published, sources

        if self.own:
            how: Any = {"needs_answers": self.train_data is not None, "chat": self.chat}
            self._all: Material = sources.own(self.own, self.eval_data, **how)
        else:
            self._all = published.material(self.task, words=self.prompt_words, chat=self.chat, model=self.model)
        learnings = {arm: self.learning(arm) for arm in self.arms}
        from_answers = [arm for arm, one in learnings.items() if one is not None and one.needs_answers]
        if from_answers and not self._all.referenced:
            first = from_answers[0]
            raise ValueError(f"{self.own}: {first} learns from answers; every row needs one in column 'chosen'")
        self._train = sources.spread(self._all.train, self.train_prompts)
        self._test = sources.spread(self._all.test, self.test_prompts)
        digests = [one.digest for one in self.scorers() if one is not None and one.digest]
        return replace(self._all.provenance, digest="+".join([self._all.provenance.digest, *digests]))

    def scorers(self) -> "tuple[Scorer, Scorer | None]":
        """The reward, and another one that judges, if there is one."""
        from kilter.tasks.preference import published, scorers

        if not hasattr(self, "_scorers"):
            reward, judge = self.reward or self.judge, self.judge if self.reward else None
            if reward is None:
                self._scorers: tuple[Scorer, Scorer | None] = published.scorers(self.task)
            else:
                own = scorers.named("reward" if self.reward else "judge", reward, self.device)
                self._scorers = own, None if judge is None else scorers.named("judge", judge, self.device)
        return self._scorers

    def _load(self) -> "TextModel":
        from kilter.tasks.preference import networks

        texts = [item.asked for item in (*self._all.train, *self._all.test)]
        return networks.load(self.model, texts, self.device, half=self.half)

    def _base(self) -> "TextModel":
        """The model as given, loaded when it is first needed."""
        if not hasattr(self, "_given"):
            self._given = self._load()
        return self._given

    # What arms share: answers of the model as given ---------------------------------------------------------

    def warm_up(self, arm: str, seed: int, run: Path, advance: Advance) -> None:
        """Draw the answers of the model as given, to the prompts judged on and, for what needs them, learnt from."""
        self._run = run
        learning = self.learning(arm)
        self._start = self._drawn("test", self._test, self.samples, advance)
        self._draws = None
        if learning is not None and learning.beta is not None:
            self._draws = self._drawn("train", self._train, self.draws, advance)

    def _drawn(self, name: str, items: "Sequence[Item]", count: int, advance: Advance) -> "Answers":
        from kilter.tasks.preference.drawn import kept

        file = self._run / "draws" / f"{name}.jsonl"
        with one_at_a_time(file):
            return kept(
                self._base,
                items,
                count,
                file,
                {"model": self.model, "half": self.half},
                [one for one in self.scorers() if one is not None],
                at_once=8,
                advance=partial(advance, unit="prompts"),
                seed=_START,
                new_tokens=self.max_new_tokens,
                rows_at_once=self.answers_at_once,
            )

    def drawn_rewards(self) -> "Tensor | None":
        """Rewards of the draws to the prompts learnt from, `(P, K)`, if an arm of the finished run needed any."""
        if not (self.out or Path()).joinpath("draws", "train.jsonl").exists():
            return None
        self._run = self.out or Path()
        return self._drawn("train", self._train, self.draws, lambda *_, **__: None).scores[0]

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Tune the model of this arm, unless it is there."""
        levers = self.mixture(arm).levers()
        if levers.objective is None:
            return folder
        with one_at_a_time(folder / "model"):
            if not (folder / "model" / "config.json").exists():
                self.changed_by(levers)._fit(arm, levers.objective(self), seed, folder, advance)
        return folder

    def _fit(self, arm: str, learning: Learning, seed: int, folder: Path, advance: Advance) -> None:
        from kilter.lab.card import write_model_card
        from kilter.tasks.preference import networks, training

        text, (scorer, _) = self._load(), self.scorers()
        training.train(self, text, self._train, learning, scorer, self._draws, seed, folder, advance)
        networks.save(text, folder / "model", lambda part: write_model_card(part, self, arm, self._all.provenance))
        training.clean(folder)

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """Sample answers to the prompts judged on, and hold them against the start's and the references."""
        from kilter.tasks.preference import judging, networks, training
        from kilter.tasks.preference.drawn import sampled

        tuned = (model / "model").is_dir()
        text = networks.load(str(model / "model"), (), self.device, half=self.half) if tuned else self._base()
        how: Any = {"new_tokens": self.max_new_tokens, "rows_at_once": self.answers_at_once}
        answers = sampled(text, self._test, self.samples, seed=_FRESH + seed, **how)
        totals = judging.totals(self, text, self._base() if tuned else None, self._test, answers, self._start)
        rows = judging.rows_of(text.tokenizer, self._test, answers, totals)
        figures = {}
        for name, values in totals.items():
            top, bottom = (sum(column) for column in zip(*values, strict=True))
            figures[name] = (100 if self.metrics[name].unit == "%" else 1) * top / bottom
        return Judged(figures | training.numbers_of(model), rows)

    # The report ---------------------------------------------------------------------------------------------

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not."""
        from kilter.tasks.preference import report

        return report.notes(self, summary)

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Answers of the first seed side by side."""
        from kilter.tasks.preference import report

        return report.side_by_side(self, summary, run)
