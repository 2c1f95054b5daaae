"""Sample blocks of tokens, let a scorer choose, go on from the chosen: what RankGen's search and best of n share.

Krishna et al., "RankGen: Improving Text Generation with Large Ranking Models", EMNLP 2022, §2.3. Departures from the
published code: token ids and cache are kept between stages (it decodes to text and tokenises again), inputs go in
batches, and an end of sequence counts in the continuation only.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from kilter.decoding.beam_groups import best
from kilter.decoding.beam_search import check_outputs, returned
from kilter.decoding.streams import Streams

Scorer = Callable[[Sequence[Any], Sequence[Any]], Any]
"""`(prefixes, continuations) -> (n,)` scores of paired lists: texts where there is a tokenizer, else tensors of ids."""


@runtime_checkable
class PairScorer(Protocol):
    """A CrossEncoder of sentence-transformers, or what has its `predict`."""

    def predict(self, pairs: list[Any], /) -> Any:
        """One score for each `(prefix, continuation)`."""
        ...


AnyScorer = Scorer | PairScorer | Literal["log_prob"]
FirstStage = Literal["single", "copies"]


def decode_blocks(
    decoder: str,
    model: Any,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    inputs_tensor: Tensor | None,
    model_kwargs: dict[str, Any],
    *,
    scorer: AnyScorer,
    kept: int,
    samples: int,
    block: int | None,
    first_stage: FirstStage,
    tokenizer: Any,
    generator: Generator | Sequence[Generator] | None,
) -> Any:
    """Search and return what `generate` should; the settings are those of `RankGenSearch`."""
    from kilter.hosts.generation import Continuations, criteria_and_length, for_rows, special_tokens

    config = generation_config
    check_outputs(config)
    _check_settings(decoder, config, kept)
    session = Continuations(model, input_ids, config, model_kwargs)
    contents = session.contents(inputs_tensor)
    streams = Streams(contents, generator)
    rank = _Ranker(scorer, tokenizer, contents)
    fill = max(special_tokens(config)[1], 0)  # it is read by the model too
    criteria, limit = criteria_and_length(stopping_criteria, config)
    prompts = session.prompts
    (inputs, start), device = prompts.shape, prompts.device
    rows = samples * (kept if first_stage == "copies" else 1)

    logits = session.prefill().repeat_interleave(rows, 0)
    session.spread(rows)
    beams = _Beams.of(prompts, rows, limit, fill)
    now = start
    while True:
        processors: Any = for_rows(logits_processor, rows)
        stop = limit if block is None else min(now + block, limit)
        while True:  # one block
            scores = processors(beams.ids[..., :now].flatten(0, 1), logits.clone())
            tokens = streams.draw(scores.softmax(-1).view(inputs, rows, -1))
            beams.append(now, tokens, logits.log_softmax(-1).view(inputs, rows, -1))
            now += 1
            ends = criteria(beams.ids[..., :now].flatten(0, 1), None)
            beams.done |= ends.view(inputs, rows)
            if now == stop or bool(beams.done.all()):
                break
            logits = session.step(beams.ids[..., :now].flatten(0, 1))
        rank(beams, start)
        order = best(beams.scores, min(kept, rows))[1]
        if now == limit or bool(beams.done.gather(1, order).all()):
            break
        order = order.repeat_interleave(samples, 1)
        session.select((order + torch.arange(inputs, device=device)[:, None] * rows).flatten())
        rows = order.shape[1]
        beams = beams.take(order)
        logits = session.step(beams.ids[..., :now].flatten(0, 1))
        beams.open_stage(samples)
    chosen = beams.take(order[:, : config.num_return_sequences])
    longest = start + int(chosen.lengths.max())
    scores = chosen.scores.flatten()
    return returned(
        config,
        sequences=chosen.ids.flatten(0, 1)[:, :longest],
        sequences_scores=scores,
        sequences_log_probs=chosen.log_probs.flatten(),
        group_indices=torch.zeros_like(chosen.lengths).flatten(),
        ranker_scores=scores.clone(),
    )


class _Beams:
    """Continuations `(N, W)`: ids with their prompt, Σ log p, new tokens, whether they ended, and their score.

    A beam that ended is carried through a stage as one of its copies; the others are no candidates, as `rival` says.
    """

    def __init__(
        self, ids: Tensor, log_probs: Tensor, lengths: Tensor, done: Tensor, scores: Tensor, fill: int
    ) -> None:
        self.ids, self.log_probs, self.lengths, self.done, self.scores = ids, log_probs, lengths, done, scores
        self.fill, self.new = fill, torch.ones_like(done)

    @classmethod
    def of(cls, prompts: Tensor, rows: int, limit: int, fill: int) -> "_Beams":
        (inputs, start), device = prompts.shape, prompts.device
        ids = torch.full((inputs, rows, limit), fill, dtype=torch.long, device=device)
        ids[..., :start] = prompts[:, None]
        nothing = torch.zeros(inputs, rows, device=device)
        return cls(ids, nothing, nothing.long(), nothing.bool(), nothing.clone(), fill)

    def append(self, now: int, tokens: Tensor, log_probs: Tensor) -> None:
        """Put `tokens (N, W)` at `now`, with their `log_probs (N, W, V)`."""
        self.ids[..., now] = torch.where(self.done, self.fill, tokens)
        gained = log_probs.gather(-1, tokens[..., None])[..., 0]
        self.log_probs = self.log_probs + gained.masked_fill(self.done, 0)
        self.lengths = self.lengths + ~self.done

    def take(self, order: Tensor) -> "_Beams":
        """Beams at `order (N, k)`."""
        ids = self.ids.gather(1, order[..., None].expand(*order.shape, self.ids.shape[-1]))
        parts = (self.log_probs, self.lengths, self.done, self.scores)
        log_probs, lengths, done, scores = (part.gather(1, order) for part in parts)
        return _Beams(ids, log_probs, lengths, done, scores, self.fill)

    def open_stage(self, samples: int) -> None:
        """Beams that go on are new candidates; of one that has ended only the first copy is one, with its score."""
        first = torch.arange(self.done.shape[1], device=self.done.device) % samples == 0
        self.scores = self.scores.masked_fill(self.done & ~first, -torch.inf)
        self.new = ~self.done


class _Ranker:
    """Scores new candidates, each with its own prefix; what a user's scorer returns is checked."""

    def __init__(self, scorer: AnyScorer, tokenizer: Any, inputs: list[Tensor]) -> None:
        self.scorer, self.tokenizer = scorer, tokenizer
        if not isinstance(scorer, str):
            if tokenizer is not None and any(row.is_floating_point() for row in inputs):
                raise ValueError("tokenizer: the inputs are no tokens, so there is no prefix to read; leave it out")
            self.prefixes = inputs if tokenizer is None else self._texts(inputs)

    def __call__(self, beams: _Beams, start: int) -> None:
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
            return self.scorer.predict(list(zip(prefixes, continuations, strict=True)))
        assert callable(self.scorer)
        return self.scorer(prefixes, continuations)

    def _checked(self, scores: Any, count: int) -> Tensor:
        scores = torch.as_tensor(scores)
        if scores.shape != (count,):
            raise ValueError(
                f"scorer: {count} pairs were given and scores of shape {tuple(scores.shape)} came back; it must return "
                f"({count},), one number for each pair"
            )
        if scores.isnan().any():
            at = int(scores.isnan().nonzero()[0])
            raise ValueError(f"scorer: the score of pair {at} is NaN; return a number for every pair, such as -inf")
        return scores.float()

    def _texts(self, rows: Sequence[Tensor]) -> list[str]:
        return self.tokenizer.batch_decode([row.tolist() for row in rows], skip_special_tokens=True)


def check_scorer(scorer: Any, generator: Any, **counts: int | None) -> None:
    """Settings that are wrong whatever they are used on."""
    if isinstance(scorer, str) and scorer != "log_prob":
        raise ValueError(
            f"scorer={scorer!r}: the only one known by name is 'log_prob', the model's own; give a callable"
        )
    if not isinstance(scorer, str) and not callable(scorer) and not hasattr(scorer, "predict"):
        raise TypeError(f"scorer: {type(scorer).__name__} is no callable (prefixes, continuations) -> scores")
    for name, count in counts.items():
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError(f"{name}={count} must be a whole number from 1")


def _check_settings(decoder: str, config: Any, kept: int) -> None:
    if config.num_beams != 1:
        raise ValueError(f"num_beams={config.num_beams}: {decoder} samples and ranks; leave num_beams out")
    if config.num_return_sequences > kept:
        raise ValueError(
            f"num_return_sequences={config.num_return_sequences} is more than the {kept} that {decoder} keeps; "
            "ask for fewer, or keep more"
        )
    if not config.do_sample:
        for name, neutral in (("temperature", 1.0), ("top_p", 1.0), ("typical_p", 1.0)):
            if (value := getattr(config, name, None)) not in (None, neutral):
                raise ValueError(f"{name}={value} has no effect without do_sample=True; set that too")
