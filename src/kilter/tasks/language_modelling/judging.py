"""How well a model foretells text at the length it was trained on and at 2, 4, … times that, and looks up names.

The departure from perplexity by length alone: the same tokens are also scored with more and more of the text before
them, so that it shows whether the model makes use of it, or is lost there.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kilter.lab.recipe import SHARE, Judged, Metric
from kilter.tasks.language_modelling import lookups

_TOKENS = 4096
"""Tokens in a batch that is judged."""
_OVERLAP = 4
"""Windows whose last tokens are scored begin a quarter of the longest one apart."""

Told = Callable[[int, int], None]
"""So many of so many windows are judged."""


def lengths(longest: int) -> list[int]:
    """Times the block that is judged at.

    Example:
        >>> lengths(16)
        [1, 2, 4, 8, 16]
    """
    return [2**power for power in range(longest.bit_length())]


def metrics(block: int, longest: int, *, text: bool, looked_up: bool) -> dict[str, Metric]:
    """What is measured, by name."""
    found = {}
    if text:
        for times in lengths(longest):
            said = f"Perplexity at {block * times:,} tokens"
            found[f"perplexity_{times}x"] = Metric(said, "", "lower", 3, (1.0, None), exp=True)
        for times in lengths(longest) if longest > 1 else ():
            said = f"Perplexity of the last tokens of {block * times:,}"
            found[f"last_{times}x"] = Metric(said, "", "lower", 3, (1.0, None), exp=True)
        found["loss"] = Metric("Loss, nats per token", "", "lower", 4, (0.0, None))
    for times in lengths(longest) if looked_up else ():
        found[f"lookup_{times}x"] = Metric(f"Names looked up at {block * times:,} tokens", "%", "higher", 1, SHARE)
    return found


def judge_text(
    model: Any,
    tokens: Tensor,
    *,
    block: int,
    longest: int,
    most: int,
    end: int | None = None,
    told: Told = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Nats and tokens of every window of a text: a row for each.

    Args:
        model: causal, in eval mode.
        tokens: `(n,)` of the text that is judged on.
        block: tokens of the shortest window.
        longest: times the block that the longest is.
        most: tokens judged at each length, at most.
        end: tokens that the model can read at once; rows of longer windows are empty, so that arms still pair. None
            is any number.
        told: of progress.

    Raises:
        ValueError: the text is shorter than the longest window.
    """
    if len(tokens) < longest * block:
        raise ValueError(
            f"the text to judge on has {len(tokens):,} tokens, and the longest window {longest * block:,}; give more "
            "text, or lower --longest or --block"
        )
    tokens, rows = tokens[: max(most, longest * block)], []
    plan = [(times, tokens.unfold(0, times * block, times * block)) for times in lengths(longest)]
    ends = [*range(longest * block, len(tokens) + 1, max(1, longest * block // _OVERLAP))] if longest > 1 else []
    total, done = sum(len(windows) for _, windows in plan) + len(ends) * len(plan), 0
    for times, windows in plan:
        if end is not None and times * block > end:
            rows += [{"input": f"{times}x/{place}", "totals": {}} for place in range(len(windows))]
            continue
        for place, nats in enumerate(_nats(model, windows)):
            totals = {f"perplexity_{times}x": (found := [float(nats.sum()), len(nats)])}
            rows.append({"input": f"{times}x/{place}", "totals": totals | ({"loss": found} if times == 1 else {})})
        told(done := done + len(windows), total)
    last: list[dict[str, Any]] = [{"input": f"last/{at}", "totals": {}} for at in ends]
    for times, _ in plan if ends else ():
        if end is not None and times * block > end:
            break
        windows = torch.stack([tokens[at - times * block : at] for at in ends])
        for row, nats in zip(last, _nats(model, windows), strict=True):
            scored = nats[-(block // 4) :]
            row["totals"][f"last_{times}x"] = [float(scored.sum()), len(scored)]
        told(done := done + len(windows), total)
    return rows + last


@torch.no_grad()
def _nats(model: Any, windows: Tensor) -> list[Tensor]:
    """What each token of every window but its first costs."""
    found: list[Tensor] = []
    for some in windows.split(max(1, _TOKENS // windows.shape[1])):
        ids = some.to(model.device)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        nats = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        found += [*nats.view(len(ids), -1).double().cpu()]
    return found


@torch.no_grad()
def judge_lookups(
    model: Any, tokenizer: Any, *, block: int, longest: int, count: int, end: int | None = None
) -> list[dict[str, Any]]:
    """Whether the letter of a name is found, which stands in the first block of a row of 1, 2, 4, … blocks."""
    rows: list[dict[str, Any]] = [{"input": f"look-up/{place}", "totals": {}} for place in range(count)]
    for times in lengths(longest):
        if end is not None and times * block > end:
            break
        texts = [lookups.judged_row(block, times, random.Random(f"{place} {times}")) for place in range(count)]
        ids = torch.tensor(tokenizer(texts, add_special_tokens=False)["input_ids"])
        for places in torch.arange(count).split(max(1, _TOKENS // ids.shape[1])):
            some = ids[places].to(model.device)
            said = model(input_ids=some[:, :-1], use_cache=False).logits[:, -1].argmax(-1)
            for place, hit in zip(places.tolist(), (said == some[:, -1]).tolist(), strict=True):
                rows[place]["totals"][f"lookup_{times}x"] = [float(hit), 1]
    return rows


def judged(rows: Sequence[dict[str, Any]], measured: Mapping[str, Metric]) -> Judged:
    """Figures from the totals of all rows."""
    sums: dict[str, list[float]] = {}
    for row in rows:
        for name, both in row["totals"].items():
            sums[name] = [a + b for a, b in zip(sums.get(name, [0.0, 0.0]), both, strict=True)]
    figures = {name: _figure(measured[name], part / whole) for name, (part, whole) in sums.items()}
    return Judged(figures, rows)


def _figure(metric: Metric, ratio: float) -> float:
    """A figure as its metric has it, of the ratio of its totals."""
    return math.exp(ratio) if metric.exp else 100 * ratio if metric.unit == "%" else ratio
