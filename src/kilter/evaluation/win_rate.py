r"""How often does best-of-N of one model beat best-of-N of another? Exact over all subsets of the samples at hand.

Paper: Balashankar et al., "InfAlign: Inference-aware language model alignment", ICML 2025 (win rate at inference).
The departure: N are not drawn again and again; of each sample it is counted in how many subsets it is the one chosen.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kilter.core import options

Decoder = Literal["best_of", "worst_of", "plain"] | Callable[[Tensor], Any]
"""Which of the samples is shown: by name, or the density of any calibrated procedure."""

_NAMES = ("best_of", "worst_of", "plain")
_PIECES, _NODES = 4096, 4
"""Of 0..1 at least, and nodes in each, which integrate polynomials of degree 7 exactly."""
_TOLERANCE = 1e-3


def win_rates(
    ours: Any,
    theirs: Any,
    *,
    decoder: Decoder = "best_of",
    n: int = 4,
    judged_ours: Any = None,
    judged_theirs: Any = None,
) -> Float[np.ndarray, " prompts"]:
    r"""How often, on each prompt, what is shown of our samples is better than what is shown of theirs; ties count ½.

    $$W_p = \sum_{i,j} a_{pi}\, b_{pj} \left( [s_{pi} > t_{pj}] + \tfrac12 [s_{pi} = t_{pj}] \right)$$

    a and b are `selection_weights` of ours and theirs, so that W is the mean over all subsets of n of ours and all of
    theirs; s and t are the rewards, or, where a judge is given, the judge's scores of the samples that the rewards
    choose. Sorting does it in $O(S \log S)$ a prompt.

    Args:
        ours: `(P, S)` rewards of S samples for each of P prompts; arrays, tensors or lists. Any scale: only their order
            counts.
        theirs: `(P, S')` rewards of the other model's samples for the same prompts, S' may be another number.
        decoder: `best_of` shows the sample of highest reward among n, `worst_of` that of lowest, as who attacks by
            asking n times gets, `plain` any; or the density g of a calibrated procedure, see `selection_weights`.
        n: samples among which is chosen, at most S and S'; no matter for `plain` and a density.
        judged_ours: `(P, S)` what a judge that the model was not trained on says of the same samples.
        judged_theirs: `(P, S')`; needed where the other is given.

    Returns:
        `(P,)` within 0..1, float64: ½ on average between a model and itself. `t_interval` gives the mean over prompts
        with its interval.

    Raises:
        ValueError: another shape, no sample or no prompt, NaN, prompts that differ in number, n above the samples, one
            judge alone, a decoder of another name, a density that is none.

    Example:
        >>> win_rates([[1.0, 3.0, 2.0]], [[0.0, 2.0, 4.0]], n=1), win_rates([[1.0, 3.0, 2.0]], [[0.0, 2.0, 4.0]], n=2)
        (array([0.5]), array([0.2778]))
        >>> win_rates([[1.0, 3.0]], [[0.0, 2.0]], n=2, judged_ours=[[5.0, 1.0]], judged_theirs=[[0.0, 4.0]])
        array([0.])

    Reference: Balashankar et al. 2025, who define the win rate at inference.
    """
    scores = {"ours": _matrix(ours, "ours"), "theirs": _matrix(theirs, "theirs")}
    if len(scores["ours"]) != len(scores["theirs"]):
        prompts = " and ".join(str(len(one)) for one in scores.values())
        raise ValueError(f"ours and theirs must be of the same prompts, a row each; they have {prompts} rows")
    chosen, other = (_weights(one, decoder, n, name) for name, one in scores.items())
    if (judged_ours is None) != (judged_theirs is None):
        alone = "judged_ours" if judged_theirs is None else "judged_theirs"
        raise ValueError(f"{alone} is given alone; a judge must score ours and theirs, or give neither")
    if judged_ours is not None:
        judged = {"ours": judged_ours, "theirs": judged_theirs}
        for name, given in judged.items():
            judged[name] = _matrix(given, f"judged_{name}")
            if judged[name].shape != scores[name].shape:
                raise ValueError(
                    f"judged_{name} must be of the samples of {name}, {scores[name].shape}, got {judged[name].shape}"
                )
        scores = judged
    return _compared(scores["ours"], chosen, scores["theirs"], other)


def selection_weights(
    rewards: Any, *, decoder: Decoder = "best_of", n: int = 4
) -> Float[np.ndarray, "prompts samples"]:
    r"""How likely each sample is the one shown, over all subsets of n of the samples for its prompt.

    Of a level of e samples with the same reward, above l others, one is the best of n with the probability

    $$\frac{\binom{l + e}{n} - \binom{l}{n}}{\binom{S}{n}}$$

    and each of them is as likely as the others. A density g on [0, 1] stands for any procedure that reweights by the
    quantile q of the reward: a level has $\int_{l/S}^{(l+e)/S} g(q)\,dq$.

    Args:
        rewards: `(P, S)` of S samples for each of P prompts; an array, a tensor or lists. Any scale.
        decoder: `best_of`, `worst_of`, `plain` (each the same), or g: from a float64 tensor of quantiles to densities
            of integral 1.
        n: samples in a subset, at most S; no matter for `plain` and a density.

    Returns:
        `(P, S)`, float64, the sum of each row 1.

    Raises:
        ValueError: another shape, no samples, NaN, n above the samples, a decoder of another name, a density that is
            none.

    Example:
        >>> selection_weights([[0.1, 0.9, 0.5]], n=2)
        array([[0.    , 0.6667, 0.3333]])
        >>> selection_weights([[0.1, 0.9, 0.5]], decoder=lambda q: 2 * q)
        array([[0.1111, 0.5556, 0.3333]])

    Reference: Balashankar et al. 2025, who define calibrated procedures.
    """
    return _weights(_matrix(rewards, "rewards"), decoder, n, "rewards")


def _weights(matrix: np.ndarray, decoder: Decoder, n: int, name: str) -> np.ndarray:
    up_to = _up_to(matrix.shape[1], decoder, n, name)
    order = matrix.argsort(axis=1)
    below, through = _levels(np.take_along_axis(matrix, order, axis=1))
    weights = np.empty_like(matrix)
    np.put_along_axis(weights, order, (up_to[through] - up_to[below]) / (through - below), axis=1)
    return weights


def _up_to(samples: int, decoder: Decoder, n: int, name: str) -> np.ndarray:
    """How likely one of the k samples of lowest reward is shown, for k = 0…S."""
    options.whole("n", n, 1)
    places = np.arange(samples + 1)
    if callable(decoder):
        return _integral(decoder, samples)
    options.one_of("decoder", decoder, _NAMES)
    if decoder == "plain":
        return places / samples
    if n > samples:
        raise ValueError(f"n={n}: {name} has {samples} samples for each prompt; draw more, or choose among fewer")
    first = np.arange(n)
    drawn_below = ((places[:, None] - first).clip(min=0) / (samples - first)).prod(axis=1)  # C(k, n) / C(S, n)
    return drawn_below if decoder == "best_of" else 1 - drawn_below[::-1]


def _integral(density: Callable[[Tensor], Any], samples: int) -> np.ndarray:
    """Of g from 0 to k/S for k = 0…S, by Gauss and Legendre's nodes in fine pieces, for g may have a step."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    count = samples * -(-_PIECES // samples)
    quantiles = (np.arange(count)[:, None] + (nodes + 1) / 2) / count
    found = np.asarray(density(torch.from_numpy(quantiles.ravel())), dtype=np.float64)
    if found.shape != (quantiles.size,):
        raise ValueError(f"decoder must return a density for each quantile, {(quantiles.size,)}, got {found.shape}")
    if not (np.isfinite(found).all() and (found >= 0).all()):
        raise ValueError("decoder must return densities that are finite and not negative")
    pieces = found.reshape(quantiles.shape) @ weights / (2 * count)
    total = np.concatenate([[0.0], pieces.reshape(samples, -1).sum(axis=1).cumsum()])
    if abs(total[-1] - 1) > _TOLERANCE:
        raise ValueError(f"decoder is no density: its integral over 0..1 is {total[-1]:.4g}; divide by it")
    return total / total[-1]


def _levels(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each place in sorted rows, the first place of what equals it, and the place after the last."""
    rows, columns = ordered.shape
    places = np.arange(columns)
    new = np.ones((rows, columns), dtype=bool)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=new[:, 1:])
    below = np.maximum.accumulate(np.where(new, places, 0), axis=1)
    ends = np.where(np.roll(new, -1, axis=1), places + 1, columns)
    return below, np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]


def _compared(ours: np.ndarray, chosen: np.ndarray, theirs: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Wins of weighted samples over weighted samples, row by row: both sorted together, theirs summed from below."""
    both = np.concatenate([ours, theirs], axis=1)
    order = both.argsort(axis=1)
    below, through = _levels(np.take_along_axis(both, order, axis=1))
    weights = np.concatenate([np.zeros_like(chosen), other], axis=1)
    beaten = np.zeros((len(both), both.shape[1] + 1))
    np.take_along_axis(weights, order, axis=1).cumsum(axis=1, out=beaten[:, 1:])
    share = (np.take_along_axis(beaten, below, axis=1) + np.take_along_axis(beaten, through, axis=1)) / 2
    mine = np.take_along_axis(np.concatenate([chosen, np.zeros_like(other)], axis=1), order, axis=1)
    return np.einsum("ps,ps->p", mine, share).clip(0, 1)  # sums of ones may end just above


def _matrix(values: Any, name: str) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    try:
        if np.iscomplexobj(values):
            raise TypeError("complex ones have no order")
        matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, a row a prompt, rows equally long ({error})") from error
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"{name} must be (prompts, samples) and not empty, got the shape {matrix.shape}")
    if np.isnan(matrix).any():
        row, column = np.argwhere(np.isnan(matrix))[0]
        raise ValueError(f"{name}[{row}][{column}] is NaN; every sample needs a number")
    return matrix
