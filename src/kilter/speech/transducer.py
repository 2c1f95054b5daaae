"""Align With Purpose for transducers (RNN-T): the words of the target, emitted earlier.

Paper: Segev et al., "Align With Purpose", ICLR 2024 (arXiv 2307.01715), which promises its framework for other
alignment-free losses than CTC.
Departure: alignments are drawn from the posterior of the target, since a transducer's lattice knows no other text.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from kilter.core.checks import at_least, integer, same_shape, whole
from kilter.core.objective import LossOutput, Objective
from kilter.ops.transducer_paths import (
    Lattice,
    check_emissions,
    node_scores,
    path_lengths,
    path_nodes,
    sample_transducer_alignments,
    transducer_lattice,
)
from kilter.speech.earlier_emissions import earlier_emissions


def transducer_align_with_purpose(
    log_probs: Float[Tensor, "batch time states vocab"],
    alignments: Int[Tensor, "samples batch tokens"],
    edited: Int[Tensor, "samples batch tokens"],
    input_lengths: Int[Tensor, " batch"],
    targets: Int[Tensor, "batch tokens"],
    target_lengths: Int[Tensor, " batch"],
    *,
    margin: float = 0.0,
    blank: int = 0,
) -> Float[Tensor, ""]:
    r"""Hinge between the scores of a target's alignments and of their edited forms.

    $$\mathcal L = \frac1B \sum_b \frac1N \sum_i \max\bigl(s(a^i) - s(\bar a^i) + \lambda,\ 0\bigr)$$

    s is the mean log-probability of a path's T + U steps, see `score_transducer_alignments`. Pairs that are equal
    within the target count as unedited and contribute 0 for any margin. The gradient is ±1/((T+U)·N·B) at the steps
    in which an active pair differs and exactly 0 elsewhere.

    Args:
        log_probs: log-softmax of the joint network's outputs, one state more than there are tokens.
        alignments: frame in which each token is emitted, see `sample_transducer_alignments`.
        edited: the same after the edit, e.g. by `earlier_emissions`; anything beyond each target.
        input_lengths: valid frames of each utterance.
        targets: token ids; anything beyond `target_lengths`.
        target_lengths: valid tokens of each target.
        margin: λ, how much better the edited alignment must score.
        blank: index of the blank.

    Returns:
        Scalar; 0 when there are no samples.

    Raises:
        TypeError, ValueError: see `transducer_lattice` and `check_emissions`.

    Example:
        >>> log_probs = torch.tensor([[[0.2, 0.8], [0.5, 0.5]], [[0.6, 0.4], [0.5, 0.5]]]).log()[None]
        >>> first, second = torch.tensor([[[0]]]), torch.tensor([[[1]]])
        >>> rest = torch.tensor([2]), torch.tensor([[1]]), torch.tensor([1])
        >>> transducer_align_with_purpose(log_probs, second, first, *rest).item()
        0.0
        >>> round(transducer_align_with_purpose(log_probs, first, second, *rest).item(), 4)  # log(0.4 / 0.08) / 3
        0.5365

    Reference: Segev et al., ICLR 2024, section 3, on the lattice of Graves 2012 (arXiv 1211.3711).
    """
    at_least("margin", margin, 0)
    lattice = transducer_lattice(log_probs, input_lengths, targets, target_lengths, blank=blank)
    check_emissions(lattice, alignments)
    integer("edited", edited, "hold frames of emission")
    same_shape("edited", edited, alignments.shape, "alignments")
    check_emissions(lattice, edited, "edited")
    return _mean(_hinge(lattice, torch.cat([alignments, edited]), margin)[0])


def _hinge(
    lattice: Lattice, both: Int[Tensor, "pairs batch tokens"], margin: float
) -> tuple[Float[Tensor, "samples batch"], Bool[Tensor, "samples batch"]]:
    nodes = path_nodes(lattice, both)
    original, better = node_scores(lattice, nodes).chunk(2)
    differ = torch.ne(*nodes.chunk(2))
    # steps that agree are left out, so that their gradient is exactly zero
    gap = (original - better).masked_fill(~differ, 0.0).sum(-1) / path_lengths(lattice)
    changed = differ.any(-1)
    return (gap + margin).relu().masked_fill(~changed, 0.0), changed


def _mean(pairs: Tensor) -> Float[Tensor, ""]:
    return pairs.sum() / max(pairs.numel(), 1)


class TransducerAlignWithPurpose(Objective):
    r"""Prefer the target's words one frame earlier; a term to add to the RNN-T loss.

    $$\mathcal L = \mathcal L_{\text{RNN-T}} + \alpha \mathcal L_{\text{AWP}}, \qquad
      a^i \sim P(a \mid x, y), \quad \bar a^i = f_{\text{early}}(a^i)$$

    It draws alignments of the target by `sample_transducer_alignments`, edits each by `earlier_emissions`, and compares
    the two by `transducer_align_with_purpose`; nothing flows back through the draws or the edit. It works on the
    log-probabilities the loss is computed from, whatever encoder, predictor and joint network they come from. Switch
    it on once the model recognises most words: too large a weight makes a model fire before it knows the word. It
    can only remove delay that is there.

    Args:
        samples: N, alignments drawn for each utterance; 0 switches the term off.
        margin: λ of the hinge.
        blank: index of the blank.

    Shape:
        - `log_probs`: float `(B, T, U+1, V)`, any dtype; computed in float32 at least.
        - `input_lengths`, `target_lengths`: int `(B,)`.
        - `targets`: int `(B, U)`.
        - `generator`: where the samples (N·B·U draws) and the edits (N·B draws) come from.
        - returns `LossOutput`: part `awp`; stats `awp_edited` (share of pairs the edit changed) and `awp_active`
          (share of pairs with a hinge above zero).

    Raises:
        TypeError, ValueError: see `transducer_lattice`.

    Example:
        >>> awp = TransducerAlignWithPurpose()
        >>> log_probs = torch.randn(2, 30, 4, 8).log_softmax(-1)
        >>> targets, target_lengths = torch.tensor([[3, 5, 5], [7, 1, 0]]), torch.tensor([3, 2])
        >>> generator = torch.Generator().manual_seed(0)
        >>> out = awp(log_probs, torch.tensor([30, 25]), targets, target_lengths, generator=generator)
        >>> sorted(out.stats)
        ['awp_active', 'awp_edited']

    Reference: Segev et al., ICLR 2024, worked out for CTC; the samples from the target's posterior, the edit and the
    score per step are our reading of it for transducers.
    """

    def __init__(self, *, samples: int = 5, margin: float = 0.0, blank: int = 0) -> None:
        super().__init__()
        whole("samples", samples, 0)
        at_least("margin", margin, 0)
        self.samples = samples
        self.margin = margin
        self.blank = blank

    def forward(
        self,
        log_probs: Float[Tensor, "batch time states vocab"],
        input_lengths: Int[Tensor, " batch"],
        targets: Int[Tensor, "batch tokens"],
        target_lengths: Int[Tensor, " batch"],
        generator: Generator | None = None,
    ) -> LossOutput:
        """Compute the term; see the class."""
        lattice = transducer_lattice(log_probs, input_lengths, targets, target_lengths, blank=self.blank)
        alignments = sample_transducer_alignments(lattice, self.samples, generator=generator)
        edited = earlier_emissions(alignments, lattice.target_lengths, generator=generator)
        hinge, changed = _hinge(lattice, torch.cat([alignments, edited]), self.margin)
        loss = _mean(hinge)
        stats = {"awp_edited": _mean(changed), "awp_active": _mean(hinge.detach() > 0)}
        return LossOutput(loss, {"awp": loss}, stats)
