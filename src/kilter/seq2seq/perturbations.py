"""Where to move decoder states to: to what is near and unlikely, or far and predicts the same (CLAPS)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kilter.core.checks import at_least, finite, first, floating, integer, positive, readable, same_shape, shaped, whole
from kilter.seq2seq.nearby_states import Correction, away, nearby
from kilter.seq2seq.sentence_projection import check_states
from kilter.seq2seq.state_steps import Output, Project


def imposter(
    hidden: Float[Tensor, "batch tokens dim"],
    labels: Int[Tensor, "batch tokens"],
    output: Output,
    *,
    step: float | int = 1.0,
    relative: bool = False,
    ignore_index: int = -100,
) -> Float[Tensor, "batch tokens dim"]:
    r"""States of a target that is near the true one and unlikely: a hard negative.

    $$H^-_t = H_t + \epsilon\, \frac{g_t}{\lVert g_t \rVert}, \qquad g = \nabla_H \mathrm{CE}(W H, y) = (p - y) W$$

    Every token makes one step of the same length up its surprise. For a small step that is the steepest way, for a
    larger one nothing is promised.

    Args:
        hidden: states as they enter the output layer.
        labels: ids of the tokens that they are to predict.
        output: from states to logits; an `nn.Linear`, or anything that can be differentiated.
        step: ε.
        relative: ε is in lengths of the state, not in units of its components.
        ignore_index: the label of padding, where states stay as they are.

    Returns:
        States without a graph, whether gradients are on or off; no `.grad` is written.

    Raises:
        TypeError: `hidden` not floating point, `labels` not integer, an `output` that cannot be called.
        ValueError: shapes that do not fit, ε negative or NaN, an `output` without gradient; on the CPU also labels
            outside the vocabulary, a row of ignored labels, NaN and infinity.

    Example:
        >>> layer = torch.nn.Linear(2, 2, bias=False)
        >>> _ = layer.load_state_dict({"weight": torch.eye(2)})
        >>> imposter(torch.zeros(1, 2, 2), torch.tensor([[0, -100]]), layer)
        tensor([[[-0.7071,  0.7071],
                 [ 0.0000,  0.0000]]])

    Reference: Lee, Lee and Hwang, ICLR 2021.
    """
    at_least("step", step, 0)
    whole("ignore_index", ignore_index)
    mask = check_labels(hidden, labels, "hidden", ignore_index)
    found = nearby(hidden, mask, output, labels=labels, step=step, relative=relative)
    return found.imposter.to(hidden.dtype)  # type: ignore[union-attr]


def distant_target(
    hidden: Float[Tensor, "batch tokens dim"],
    source_vectors: Float[Tensor, "batch out"],
    mask: Bool[Tensor, "batch tokens"] | None,
    output: Output,
    project: Project,
    *,
    step: float | int = 3.0,
    temperature: float | int = 0.1,
    kl_step: float | int | None = None,
    kl_steps: int = 1,
    relative: bool = False,
) -> Float[Tensor, "batch tokens dim"]:
    r"""States of a target that is far from its source and predicts the same: a hard positive.

    $$\tilde H_t = H_t + \epsilon\, \frac{g_t}{\lVert g_t \rVert}, \quad
      g = \nabla_H\, \mathrm{InfoNCE}(z_x, z(H)); \qquad
      H^+_t = \tilde H_t - \epsilon' \frac{r_t}{\lVert r_t \rVert}, \quad
      r = \nabla_{\tilde H}\, \mathrm{KL}\bigl(p(H) \,\Vert\, p(\tilde H)\bigr) = (q - p) W$$

    The first step leads away from the source, the next back to the same predictions. At the usual size the correction
    may overshoot: then a smaller `kl_step`, or several, do better. A token that the first step leaves where it is, as
    all of a batch of one, is not corrected.

    Args:
        hidden: states as they enter the output layer.
        source_vectors: of the sources, from the same `project`.
        mask: True at tokens; None is all. Other states stay as they are.
        output: from states to logits; an `nn.Linear`, or anything that can be differentiated.
        project: `project(states, mask)` gives a vector for each row, such as a `SentenceProjection`.
        step: ε.
        temperature: τ of the InfoNCE, whose candidates are the targets of the batch.
        kl_step: ε'; None is `step`.
        kl_steps: how many corrections, each from where the last one led; 0 is the first step alone.
        relative: steps are in lengths of the (first) state.

    Returns:
        States without a graph, whether gradients are on or off; no `.grad` is written.

    Raises:
        TypeError: tensors that are not floating point, a mask that is not boolean, an `output` or a `project` that
            cannot be called.
        ValueError: shapes that do not fit, a step negative or NaN, τ not above 0, an `output` or a `project` without
            gradient, as all are within `torch.inference_mode`; on the CPU also a row without tokens, NaN and infinity.

    Example:
        >>> output, project = torch.nn.Linear(4, 9), lambda states, mask: states.mean(1)
        >>> far = distant_target(torch.randn(3, 2, 4), torch.randn(3, 4), None, output, project, kl_steps=0)
        >>> far.shape
        torch.Size([3, 2, 4])

    Reference: Lee, Lee and Hwang, ICLR 2021. The released code makes one correction of the length of the first step.
    """
    for name, value in {"step": step, "kl_step": step if kl_step is None else kl_step}.items():
        at_least(name, value, 0)
    positive("temperature", temperature)
    whole("kl_steps", kl_steps, 0)
    check_states("hidden", hidden, mask)
    floating("source_vectors", source_vectors)
    shaped("source_vectors", source_vectors, "batch, out")
    if len(source_vectors) != len(hidden):
        raise ValueError(f"source_vectors has {len(source_vectors)} rows, hidden {len(hidden)}; give one each")
    finite("source_vectors", source_vectors, mend="look at what projects the sources")
    moved = away(hidden, source_vectors, mask, project, step=step, temperature=temperature, relative=relative)
    every = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device) if mask is None else mask
    correction = Correction(moved, step if kl_step is None else kl_step, kl_steps)
    found = nearby(hidden, every, output, correction=correction, relative=relative)
    return found.distant.to(hidden.dtype)  # type: ignore[union-attr]


def check_labels(
    hidden: Tensor, labels: Tensor, name: str = "hidden", ignore_index: int = -100, width: int | None = None
) -> Tensor:
    """Check states and their labels, and give back where labels count.

    Raises:
        TypeError, ValueError: see `imposter`.
    """
    floating(name, hidden, "give the states of a model")
    shaped(name, hidden, "batch, tokens, dim")
    integer("labels", labels, "hold token ids")
    same_shape("labels", labels, hidden.shape[:2], f"the tokens of {name}")
    mask = labels != ignore_index
    if readable(mask) and (at := first(~mask.any(1))):
        raise ValueError(f"row {at[0]}: labels are all {ignore_index}, which is ignored; leave the pair out")
    check_states(name, hidden, mask, width)
    return mask
