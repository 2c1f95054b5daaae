"""The candidates of a search in blocks, and the scorer that ranks them: a callable, a CrossEncoder, or the model."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from kilter.core.checks import whole

Scorer = Callable[[Sequence[Any], Sequence[Any]], Any]
"""`(prefixes, continuations) -> (n,)` scores of paired lists: texts where there is a tokenizer, else tensors of ids."""


@runtime_checkable
class PairScorer(Protocol):
    """A CrossEncoder of sentence-transformers, or what has its `predict`."""

    def predict(self, pairs: list[Any], /) -> Any:
        """One score for each `(prefix, continuation)`."""
        ...


AnyScorer = Scorer | PairScorer | Literal["log_prob"]


class Beams:
    """Continuations `(N, W)`: ids with their prompt, Σ log p, new tokens, whether they ended, and their score.

    A beam that ended is carried through a stage as one of its copies; the others score −inf, see `open_stage`.
    """

    def __init__(
        self, ids: Tensor, log_probs: Tensor, lengths: Tensor, done: Tensor, scores: Tensor, fill: int
    ) -> None:
        self.ids, self.log_probs, self.lengths, self.done, self.scores = ids, log_probs, lengths, done, scores
        self.fill, self.new = fill, torch.ones_like(done)

    @classmethod
    def of(cls, prompts: Tensor, rows: int, fill: int) -> "Beams":
        """Nothing yet but the prompts, `rows` of each."""
        ids = prompts[:, None].expand(-1, rows, -1)
        nothing = torch.zeros(ids.shape[:2], device=prompts.device)
        precise = nothing if prompts.device.type == "mps" else nothing.double()  # Apple's GPUs have no such numbers
        return cls(ids, nothing, nothing.long(), nothing.bool(), precise.clone(), fill)

    def append(self, tokens: Tensor, log_probs: Tensor) -> None:
        """Add `tokens (N, W)`, of which `log_probs (N, W, V)` knows the probability."""
        self.ids = torch.cat([self.ids, torch.where(self.done, self.fill, tokens)[..., None]], -1)
        gained = log_probs.gather(-1, tokens[..., None])[..., 0]
        self.log_probs = self.log_probs + gained.masked_fill(self.done, 0)
        self.lengths = self.lengths + ~self.done

    def take(self, order: Tensor) -> "Beams":
        """Beams at `order (N, k)`."""
        ids = self.ids.gather(1, order[..., None].expand(*order.shape, self.ids.shape[-1]))
        parts = (self.log_probs, self.lengths, self.done, self.scores)
        log_probs, lengths, done, scores = (part.gather(1, order) for part in parts)
        return Beams(ids, log_probs, lengths, done, scores, self.fill)

    def open_stage(self, samples: int) -> None:
        """Beams that go on are new candidates; of one that has ended only the first copy is one, with its score."""
        first = torch.arange(self.done.shape[1], device=self.done.device) % samples == 0
        self.scores = self.scores.masked_fill(self.done & ~first, -torch.inf)
        self.new = ~self.done


class Ranker:
    """Scores new candidates, each with its own prefix; what a user's scorer returns is checked."""

    def __init__(self, scorer: AnyScorer, tokenizer: Any, inputs: list[Tensor]) -> None:
        self.scorer, self.tokenizer = scorer, tokenizer
        if not isinstance(scorer, str):
            if tokenizer is not None and any(row.is_floating_point() for row in inputs):
                raise ValueError("tokenizer: the inputs are no tokens, so there is no prefix to read; leave it out")
            self.prefixes = inputs if tokenizer is None else self._texts(inputs)

    def __call__(self, beams: Beams, start: int) -> None:
        """Set the scores of the beams that are new."""
        if isinstance(self.scorer, str):
            beams.scores = torch.where(beams.new, beams.log_probs, beams.scores)
            return
        owners = beams.new.nonzero()[:, 0].tolist()
        if not owners:
            return
        lengths = beams.lengths[beams.new].tolist()
        rows = [row[:length] for row, length in zip(beams.ids[beams.new][:, start:], lengths, strict=True)]
        continuations = rows if self.tokenizer is None else self._texts(rows)
        prefixes = [self.prefixes[owner] for owner in owners]
        beams.scores[beams.new] = self._checked(self._score(prefixes, continuations), len(owners)).to(beams.scores)

    def _score(self, prefixes: list[Any], continuations: list[Any]) -> Any:
        if isinstance(self.scorer, PairScorer):
            from kilter.hosts.sentences import pair_scores

            return pair_scores(self.scorer, prefixes, continuations)
        assert callable(self.scorer)
        return self.scorer(prefixes, continuations)

    def _checked(self, scores: Any, count: int) -> Tensor:
        try:
            scores = torch.as_tensor(scores)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"scorer: it must return {count} numbers, one for each pair, not {scores!r:.60}"
            ) from error
        if scores.shape != (count,):
            raise ValueError(
                f"scorer: {count} pairs were given and scores of shape {tuple(scores.shape)} came back; it must return "
                f"({count},), one number for each pair"
            )
        if scores.isnan().any():
            at = int(scores.isnan().nonzero()[0])
            raise ValueError(f"scorer: the score of pair {at} is NaN; return a number for every pair, such as -inf")
        return scores

    def _texts(self, rows: Sequence[Tensor]) -> list[str]:
        return self.tokenizer.batch_decode([row.tolist() for row in rows], skip_special_tokens=True)


def check_scorer(scorer: Any, generator: Any, **counts: int) -> None:
    """Settings that are wrong whatever they are used on."""
    if isinstance(scorer, str) and scorer != "log_prob":
        raise ValueError(
            f"scorer={scorer!r}: the only one known by name is 'log_prob', the model's own; give a callable"
        )
    if not isinstance(scorer, str) and not callable(scorer) and not hasattr(scorer, "predict"):
        raise TypeError(f"scorer: {type(scorer).__name__} is no callable (prefixes, continuations) -> scores")
    own = generator if isinstance(generator, Sequence) else [] if generator is None else [generator]
    if not all(isinstance(one, Generator) for one in own):
        raise TypeError(
            "generator: give a torch.Generator, or one for each input in a sequence; a seed is no generator"
        )
    for name, count in counts.items():
        whole(name, count, 1)
