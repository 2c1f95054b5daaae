"""Beam search in groups: what Diverse Beam Search, sibling ranks and MMI share.

Each group is a beam search that finishes by the rule of transformers 5 (length penalty, early stopping); with one
group it is that beam search. Everything is computed for all inputs at once; only the groups of a step are in turn.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import pad

OUT = -1e9
"""Score of what is not in the race."""


@runtime_checkable
class Penalty(Protocol):
    """What candidates of a group pay for being like the beams of earlier groups."""

    def __call__(self, chosen: Tensor, history: Tensor, prefix: Tensor, vocab_size: int, /) -> Tensor:
        """A penalty that broadcasts to `(N, B', V)`.

        Args:
            chosen: tokens `(N, K)` that the K beams of earlier groups have just taken.
            history: `(N, K, t)`, what these had generated before.
            prefix: `(N, B', t)`, what the beams of this group have generated.
            vocab_size: V.
        """
        ...


Rescore = Callable[[Tensor, Tensor, Tensor | None, int], Tensor]
"""`(log_probs (N, B, V), ids (N·B, t), parents (N·B,) or None at the first step, count) -> scores (N, B, V)`; of a beam
no more than `count` continuations are looked at."""


class Found(NamedTuple):
    """Finished hypotheses `(N, G, B', T)` of each group, best first."""

    sequences: Tensor
    scores: Tensor
    log_probs: Tensor
    lengths: Tensor


class _Step(NamedTuple):
    """One token of one group: candidates `(N, C)`, and which of them go on `(N, B')`."""

    scores: Tensor
    parents: Tensor
    sequences: Tensor
    ends: Tensor
    log_probs: Tensor
    on: Tensor


def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of `scores (N, M)` and where they are; of equal ones the first.

    Example:
        >>> best(torch.tensor([[1.0, 2.0, 2.0, 2.0]]), 2)
        (tensor([[2., 2.]]), tensor([[1, 2]]))
    """
    values, index = scores.topk(k)
    last = values[:, -1:]
    left_out = (scores == last).sum(-1) > (values == last).sum(-1)
    if bool((left_out & (last[:, 0] > OUT)).any()):  # topk takes any of equal ones
        values, index = scores.sort(descending=True, stable=True)
        return values[:, :k], index[:, :k]
    index, order = index.sort()
    values, again = values.gather(1, order).sort(descending=True, stable=True)
    return values, index.gather(1, again)


def search(
    session: Any,
    processors: Callable[[Tensor, Tensor], Tensor],
    criteria: Callable[..., Tensor],
    *,
    beams: int,
    groups: int,
    max_length: int,
    length_penalty: float,
    early_stopping: bool | str,
    end: Tensor | None,
    fill: int,
    penalty: Penalty | None = None,
    strength: float = 0.0,
    charge_end: bool = False,
    rescore: Rescore | None = None,
    noise: Callable[[Tensor], Tensor] | None = None,
) -> Found:
    """Search.

    Args:
        session: `kilter.hosts.generation.Continuations` of N prompts.
        processors: change log-probabilities `(N·B, V)`, given the ids so far `(N·B, t)`; perhaps none.
        criteria: says which of the ids `(rows, t)` end here `(rows,)`, for other reasons than their length.
        beams: B, in all groups together.
        groups: G, which divides B into groups of B'.
        max_length: tokens of a sequence, with the prompt.
        length_penalty: power of the length by which scores are divided.
        early_stopping: True, False or "never", as in transformers.
        end: ids that end a sequence `(E,)`.
        fill: id behind the end.
        penalty: what later groups pay.
        strength: λ, by which the penalty counts.
        charge_end: whether a beam that has just ended is charged to later groups, as one that goes on is.
        rescore: scores of the next tokens other than their log-probability.
        noise: Gumbel noise like scores `(N, M)`: candidates are then drawn, without replacement.
    """
    prompts = session.prompts
    device, (inputs, start), width = prompts.device, prompts.shape, beams // groups
    shape = (inputs, groups, width)
    ids = prompts[:, None, None].expand(*shape, start)
    running = torch.full(shape, OUT, device=device)
    running[..., 0] = 0.0  # before the first token all beams are alike
    sums = torch.zeros(shape, device=device)
    nothing = torch.full_like(running, -torch.inf)
    pool = Found(ids, torch.full_like(running, OUT), nothing, torch.zeros_like(sums, dtype=torch.long))
    taken = torch.zeros(shape, dtype=torch.bool, device=device)  # places of the pool
    done = taken[..., 0]
    first_row = torch.arange(0, inputs * beams, width, device=device).view(inputs, groups, 1)
    count = max(2, 1 + (0 if end is None else len(end))) * width  # so that B' can go on whatever ends

    log_probs, parents = session.prefill().log_softmax(-1).repeat_interleave(beams, 0), None
    session.spread(beams)
    vocab = log_probs.shape[-1]
    count = min(count, width * vocab)
    for now in range(start, max_length):
        flat = ids.flatten(0, 2)
        scores = processors(flat, log_probs.clone()) if processors else log_probs
        scores = scores.view(inputs, beams, vocab)
        scores = (rescore(scores, flat, parents, count) if rescore else scores).view(*shape, vocab)
        log_probs = log_probs.view(*shape, vocab)

        steps, charged = [], []
        for group in range(groups):
            totals = scores[:, group] + running[:, group, :, None]
            if charged:
                totals -= strength * _charge(penalty, charged, ids[:, group, :, start:], vocab)
            top, index = _candidates(totals.flatten(1), count, noise)
            sequences = torch.cat([_rows(ids[:, group], index // vocab), (index % vocab)[..., None]], -1)
            ends = criteria(sequences.flatten(0, 1), None).view(inputs, count)
            before = sums[:, group].gather(1, index // vocab)
            so_far = before + log_probs[:, group].flatten(1).gather(1, index)
            on = best(top + ends * OUT, width)[1]
            steps.append(_Step(top, index // vocab, sequences, ends, so_far, on))
            if penalty is not None and strength:
                charged.append(_chargeable(steps[-1], start, done[:, group], end if charge_end else None))

        step = _Step(*(torch.stack(part, 1) for part in zip(*steps, strict=True)))
        # A hypothesis that ends is kept if it is among the first B' and its group still takes any.
        last = now + 1 == max_length
        new = (step.ends | last) & (torch.arange(count, device=device) < width) & ~done[..., None]
        length = now + 1 - start
        value = (step.scores / length**length_penalty).masked_fill(~new, OUT)
        value, order = torch.cat([pool.scores, value], -1).sort(descending=True, stable=True)
        value, order = value[..., :width], order[..., :width]
        pool = Found(
            _rows(torch.cat([pad(pool.sequences, (0, 1), value=fill), step.sequences], 2), order),
            value,
            torch.cat([pool.log_probs, step.log_probs], -1).gather(-1, order),
            torch.cat([pool.lengths, torch.full_like(step.parents, length)], -1).gather(-1, order),
        )
        taken = torch.cat([taken, new], -1).gather(-1, order)

        running = (step.scores + step.ends * OUT).gather(-1, step.on)
        sums = step.log_probs.gather(-1, step.on)
        ids = _rows(step.sequences, step.on)
        parents = (step.parents.gather(-1, step.on) + first_row).flatten()

        reach = max_length - start if early_stopping == "never" and length_penalty > 0 else length
        hope = running[..., 0] / reach**length_penalty
        worst = torch.where(taken, pool.scores, OUT).amin(-1)
        done = done | (hope <= worst) | step.ends.all(-1) | (taken.all(-1) & (early_stopping is True))
        if last or bool(done.all()):
            break
        session.select(parents)
        log_probs = session.step(ids.flatten(0, 2)).log_softmax(-1)
    return pool


def _candidates(totals: Tensor, count: int, noise: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, Tensor]:
    """The best candidates, or as many drawn without replacement: the best of the scores with Gumbel noise."""
    if noise is None:
        return best(totals, count)
    index = best(totals + noise(totals), count)[1]
    return totals.gather(1, index), index


def _chargeable(step: _Step, start: int, done: Tensor, end: Tensor | None) -> tuple[Tensor, Tensor]:
    """New tokens `(N, K, t)` of a group's beams, and which of these `(N, K)` later groups are charged for."""
    beams = _rows(step.sequences, step.on)[..., start:]
    alive = (step.scores.gather(1, step.on) > OUT / 2) & ~step.ends.gather(1, step.on)
    if end is not None:
        width = step.on.shape[1]
        over = step.sequences[:, :width, start:]
        beams = torch.cat([beams, over], 1)
        alive = torch.cat([alive, step.ends[:, :width] & torch.isin(over[..., -1], end)], 1)
    return beams, alive & ~done[:, None]


def _charge(penalty: Any, charged: list[tuple[Tensor, Tensor]], prefix: Tensor, vocab: int) -> Tensor:
    """The penalty of one group. It is asked about beams that count only, so inputs go by how many these are."""
    beams, alive = (torch.cat(part, 1) for part in zip(*charged, strict=True))
    if bool(alive.all()):
        return penalty(beams[..., -1], beams[..., :-1], prefix, vocab)
    counts = alive.sum(1)
    total = torch.zeros(*prefix.shape[:2], vocab, device=prefix.device)
    for count in counts.unique().tolist():
        if count:
            here = counts == count
            few = beams[here][alive[here]].view(-1, count, beams.shape[-1])
            total[here] = total[here] + penalty(few[..., -1], few[..., :-1], prefix[here], vocab)
    return total


def _rows(sequences: Tensor, index: Tensor) -> Tensor:
    """Of `sequences (…, M, t)` those at `index (…, k)`."""
    return sequences.gather(-2, index[..., None].expand(*index.shape, sequences.shape[-1]))
