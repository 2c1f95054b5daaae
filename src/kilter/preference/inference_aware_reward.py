"""InfAlign's reward for a trainer: how often an answer beats the base model, reshaped for its decoder.

Paper: A. Balashankar et al., "InfAlign: Inference-aware language model alignment", ICML 2025, arXiv 2412.19792.
"""

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import torch

from kilter.core.checks import one_of
from kilter.preference.calibration import calibrate
from kilter.preference.decoders import Decoder
from kilter.preference.reward_transform import Transform, reward_transform

Values = list[float | None]


def inference_aware_reward(
    reward: Any,
    transform: Transform = "exp",
    *,
    decoder: Decoder = "best_of",
    n: int = 4,
    rate: float | int = 10.0,
    beta: float | int | None = None,
    normalize: bool = True,
    reference: str = "reference_rewards",
    processing_class: Any = None,
) -> Callable[..., Values] | Callable[..., Awaitable[Values]]:
    r"""A reward for TRL's `RLOOTrainer` and `GRPOTrainer` that trains a policy for its decoder.

    $$\Phi\bigl(C(x, y)\bigr),\qquad C(x, y) = \frac1K \sum_{k=1}^K \bigl[r(x, y) > r(x, z_k)\bigr] +
    \tfrac12 \bigl[r(x, y) = r(x, z_k)\bigr],\qquad z_k \sim \pi_0(\cdot \mid x)$$

    The reward is asked as TRL would ask it, with all columns. What it says of an answer is placed among what it said of
    the base model's answers to the same prompt (`calibrate`), and that is transformed (`reward_transform`).

    The KL penalty must hold the policy to the model that gave the references, and rewards must not be divided by a
    group's deviation, which would undo β: `RLOOConfig(beta=β)`, or `GRPOConfig(beta=β, scale_rewards="none")`. β is on
    the scale of the transform: with `normalize` exponentials run from 0 to 1.

    Args:
        reward: what TRL takes: a function, an async one, or a sequence classifier.
        transform: Φ.
        decoder: that the policy will stand behind ("best_of"), be attacked by ("worst_of"), or neither ("plain"); or
            g(q), the density of a calibrated procedure.
        n: samples that it draws.
        rate: of "exp".
        beta: of "fixed_point", the trainer's.
        normalize: "exp" and "poly" run from 0 to 1.
        reference: the data set's column of reference rewards, as `kilter.hosts.trl.add_reference_rewards` adds it.
        processing_class: tokenizer of a classifier; by default that which was saved with it.

    Returns:
        A function to give as `reward_funcs`, async if the reward is, with the reward's name. It returns a number for
        each completion, None where the reward does; "log" is floored at C = 1/(2K). The trainer's log has `win_rate`,
        the mean of C.

    Raises:
        TypeError: `reward` is no function and no classifier; when called, references that are no lists of numbers.
        ValueError: an option out of range, an unknown name, "fixed_point" without beta; when called, a data set without
            the column, a scored row without references, another number of rewards than of completions.

    Example:
        >>> def short(completions, **columns):
        ...     return [-len(text) for text in completions]
        >>> trained_on = inference_aware_reward(short, "identity")
        >>> asked = {"prompts": ["Why?"] * 2, "completions": ["So.", "I do not know."], "completion_ids": [[1], [2, 3]]}
        >>> trained_on(**asked, reference_rewards=[[-20, -9, -3, -3]] * 2)
        [0.75, 0.25]

    Reference: Balashankar et al., ICML 2025, §4 (CTRL). Departures: exponentials run from 0 to 1, so that β means the
    same for all rates; ties count a half.
    """
    from kilter.hosts.trl_rewards import reward_function

    shape: dict[str, Any] = {"decoder": decoder, "n": n, "rate": rate, "beta": beta, "normalize": normalize}
    one_of("transform", transform, Transform)
    reward_transform(torch.tensor([0.5]), transform, **shape)  # what is wrong with an option is said now
    if not isinstance(reference, str) or not reference:
        raise TypeError(f"reference must be the name of a column, got {reference!r}")
    asked = reward_function(reward, processing_class)
    name = asked.__name__

    def transformed(values: Values, columns: Mapping[str, Any]) -> Values:
        scored = [row for row, value in enumerate(values) if value is not None]
        if not scored:
            return values
        references = _references(columns, reference, scored, len(values))
        rewards = torch.tensor([values[row] for row in scored], dtype=torch.float64)
        places = calibrate(rewards, references)
        if "log_metric" in columns:
            columns["log_metric"]("win_rate", places.mean().item())
        least = 0.5 / (~references.isnan()).sum(1) if transform == "log" else torch.zeros(())
        found = reward_transform(places.maximum(least.to(places)), transform, **shape).tolist()
        numbers = dict(zip(scored, found, strict=True))
        return [numbers.get(row) for row in range(len(values))]

    if inspect.iscoroutinefunction(asked):

        async def late(**columns: Any) -> Values:
            return transformed(await asked(**columns), columns)

        late.__name__ = late.__qualname__ = name
        return late

    def at_once(**columns: Any) -> Values:
        return transformed(asked(**columns), columns)  # type: ignore[arg-type]

    at_once.__name__ = at_once.__qualname__ = name
    return at_once


def _references(columns: Mapping[str, Any], column: str, rows: Sequence[int], count: int) -> torch.Tensor:
    """Reference rewards `(rows, K)` of those rows, NaN where there are fewer than K."""
    if column not in columns:
        raise ValueError(
            f"reference: the data set has no column {column!r}; "
            "kilter.hosts.trl.add_reference_rewards(dataset, model, tokenizer, reward) adds it"
        )
    if len(columns[column]) != count:
        raise ValueError(f"reference: column {column!r} has {len(columns[column])} rows for {count} completions")
    cells = [_cell(columns[column][row], column, row) for row in rows]
    most = max(map(len, cells))
    return torch.tensor([cell + [math.nan] * (most - len(cell)) for cell in cells], dtype=torch.float64)


def _cell(values: Any, column: str, row: int) -> list[float]:
    """The reference rewards of a row that there are."""
    try:
        if isinstance(values, str):
            raise TypeError(f"a text, {values!r:.40}")
        found = [] if values is None else [float(value) for value in values if value is not None]
    except (TypeError, ValueError) as error:
        raise TypeError(f"reference: row {row} of column {column!r} is no list of numbers ({error})") from error
    found = [value for value in found if not math.isnan(value)]
    if not found:
        raise ValueError(
            f"reference: row {row} of column {column!r} is empty though its completion has a reward; leave the row "
            "out, or let the reward score the base model's answers too"
        )
    return found
