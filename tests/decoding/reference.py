"""Diverse Beam Search in plain Python, one input, one beam and one token at a time, written from the publication.

Slow on purpose and free of tensors: what the library computes is compared with this. A model is a function from the
tokens said so far to the log-probabilities of all next tokens.

What the publication leaves open is read as follows. Each group finishes by transformers 5's beam-search rule. The
penalty is carried forward in the running score. The beams that a group chose to go on with at this step are charged
to the groups after it, also when another of its beams ends at this step or the group has enough; a group that was
through before this step is charged no more, and ended hypotheses never are, except with `charge_eos` at the step that
ends them. Ties go to the lowest beam, then to the lowest token.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Tokens = tuple[int, ...]
Model = Callable[[Tokens], Sequence[float]]
Others = list[tuple[Tokens, int]]
"""What earlier groups chose at this step: the tokens before it, and the token."""
Diversity = Callable[[Tokens, Others, int], list[float]]
"""(the candidate's tokens so far, others, vocabulary) -> charge of each next token."""


@dataclass(frozen=True)
class Beam:
    tokens: Tokens
    total: float
    """Running score, penalties included."""
    log_prob: float
    """Running score without them."""


@dataclass(frozen=True)
class Hypothesis(Beam):
    score: float
    """What it is ranked by."""


@dataclass
class Group:
    running: list[Beam] = field(default_factory=lambda: [Beam((), 0.0, 0.0)])
    finished: list[Hypothesis] = field(default_factory=list)
    chosen: Others = field(default_factory=list)
    improvable: bool = True
    done: bool = False


def search(
    model: Model,
    *,
    beams: int,
    groups: int = 1,
    penalty: float = 0.0,
    diversity: Diversity | None = None,
    max_new: int,
    eos: Sequence[int] = (),
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    charge_eos: bool = False,
    adjust: Callable[[Tokens, Sequence[float]], Sequence[float]] = lambda _, log_probs: log_probs,
    stops: Callable[[Tokens], bool] = lambda _: False,
) -> list[list[Hypothesis]]:
    """The hypotheses of each group, best first; `adjust` changes a beam's log-probabilities before it is scored."""
    width, searched = beams // groups, [Group() for _ in range(groups)]
    for length in range(1, max_new + 1):
        others: Others = []
        for group in searched:
            if group.done:
                continue
            kept = best_extensions(model, group, others, penalty, diversity, adjust)[: max(2, 1 + len(eos)) * width]
            ended = [beam.tokens[-1] in eos or stops(beam.tokens) for beam in kept]
            finish(group, kept, ended, width, length, max_new, length_penalty, early_stopping)
            charged = list(group.running)
            if charge_eos:
                charged += [b for b, e in zip(kept[:width], ended, strict=False) if e and b.tokens[-1] in eos]
            others += [(beam.tokens[:-1], beam.tokens[-1]) for beam in charged]
        if all(group.done for group in searched):
            break
    return [group.finished for group in searched]


def best_extensions(
    model: Model, group: Group, others: Others, penalty: float, diversity: Diversity | None, adjust: Callable
) -> list[Beam]:
    """All possible extensions of a group's beams, best first."""
    found = []
    for place, beam in enumerate(group.running):
        raw = model(beam.tokens)
        scores = adjust(beam.tokens, raw)
        charge = diversity(beam.tokens, others, len(raw)) if diversity and others else [0.0] * len(raw)
        for token, log_prob in enumerate(raw):
            total = beam.total + scores[token] - penalty * charge[token]
            if total > -math.inf:
                found.append((-total, place, token, Beam((*beam.tokens, token), total, beam.log_prob + log_prob)))
    return [beam for *_, beam in sorted(found, key=lambda entry: entry[:3])]


def finish(
    group: Group,
    kept: list[Beam],
    ended: list[bool],
    width: int,
    length: int,
    max_new: int,
    length_penalty: float,
    early_stopping: bool | str,
) -> None:
    """transformers 5's beam search, after its candidates are chosen: what goes on, what has ended, is it over?"""
    group.running = [beam for beam, end in zip(kept, ended, strict=True) if not end][:width]
    over = [end or length == max_new for end in ended]
    full = len(group.finished) == width
    if group.improvable and not (full and early_stopping is True):
        new = [beam for beam, end in zip(kept[:width], over, strict=False) if end]
        scored = [Hypothesis(b.tokens, b.total, b.log_prob, b.total / length**length_penalty) for b in new]
        group.finished = sorted(group.finished + scored, key=lambda hypothesis: -hypothesis.score)[:width]
        full = len(group.finished) == width
    if group.running and full:
        reach = max_new if early_stopping == "never" and length_penalty > 0 else length
        group.improvable &= group.running[0].total / reach**length_penalty > group.finished[-1].score
    group.done = not group.improvable or (full and early_stopping is True) or all(over)


def ranked(groups: list[list[Hypothesis]], order: str = "score") -> list[tuple[int, Hypothesis]]:
    """(group, hypothesis) of all groups: by score, or the best of each group first, by score or by group."""
    all_of_them = [(rank, g, found) for g, group in enumerate(groups) for rank, found in enumerate(group)]
    if order == "rounds":
        return [(g, found) for _, g, found in sorted(all_of_them, key=lambda entry: (entry[0], -entry[2].score))]
    if order == "group":
        return [(g, found) for _, g, found in sorted(all_of_them, key=lambda entry: entry[:2])]
    return [(g, found) for _, g, found in sorted(all_of_them, key=lambda entry: -entry[2].score)]


def hamming(said: Tokens, others: Others, vocab: int) -> list[float]:
    """How many chose the token at this step."""
    return [float(sum(token == v for _, token in others)) for v in range(vocab)]


def cumulative(temperature: float = 1.0) -> Diversity:
    """exp(-differences so far / Γ), this step's included, summed over the others."""

    def charge(said: Tokens, others: Others, vocab: int) -> list[float]:
        apart = [sum(a != b for a, b in zip(said, history, strict=True)) for history, _ in others]
        return [
            sum(math.exp(-(d + (v != token)) / temperature) for d, (_, token) in zip(apart, others, strict=True))
            for v in range(vocab)
        ]

    return charge


def overlap(discount: float) -> Diversity:
    """Hamming, each count growing with the earlier agreement of the two sequences, the older the less."""

    def charge(said: Tokens, others: Others, vocab: int) -> list[float]:
        weights = []
        for history, _ in others:
            agreed = 0.0
            for mine, theirs in zip(said, history, strict=True):
                agreed = discount * (agreed + (mine == theirs))
            weights.append(1 + agreed)
        return [sum(w for w, (_, token) in zip(weights, others, strict=True) if token == v) for v in range(vocab)]

    return charge


def ngram(n: int) -> Diversity:
    """How often the n-gram that the token would complete occurs in the others."""

    def charge(said: Tokens, others: Others, vocab: int) -> list[float]:
        if len(said) < n - 1:
            return [0.0] * vocab
        start = said[len(said) - n + 1 :]
        texts = [(*history, token) for history, token in others]
        grams = [text[i : i + n] for text in texts for i in range(len(text) - n + 1)]
        return [float(grams.count((*start, v))) for v in range(vocab)]

    return charge


def embedding(vectors: Sequence[Sequence[float]]) -> Diversity:
    """Sum of the cosines between the token's vector and those of the tokens chosen at this step."""

    def cosine(a: Sequence[float], b: Sequence[float]) -> float:
        sizes = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / sizes if sizes else 0.0

    def charge(said: Tokens, others: Others, vocab: int) -> list[float]:
        return [sum(cosine(vectors[v], vectors[token]) for _, token in others) for v in range(vocab)]

    return charge


def sibling(rank_penalty: float) -> Callable[[Tokens, Sequence[float]], list[float]]:
    """Li and Jurafsky: the k-th best continuation of a beam pays k times the penalty, the first step is free."""

    def adjust(said: Tokens, log_probs: Sequence[float]) -> list[float]:
        order = sorted(range(len(log_probs)), key=lambda v: (-log_probs[v], v))
        rank = {v: k for k, v in enumerate(order, 1)}
        return [p - rank_penalty * rank[v] * bool(said) for v, p in enumerate(log_probs)]

    return adjust


def mmi(unconditional: Model, weight: float) -> Callable[[Tokens, Sequence[float]], list[float]]:
    """Li et al. 2015: log p(y | x) - weight · log U(y)."""

    def adjust(said: Tokens, log_probs: Sequence[float]) -> list[float]:
        return [p - weight * u for p, u in zip(log_probs, unconditional(said), strict=True)]

    return adjust
