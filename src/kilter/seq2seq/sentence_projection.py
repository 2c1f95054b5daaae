"""One vector for each sentence, out of the states of its tokens: what CLAPS compares."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kilter.core.checks import finite, first, floating, mask_fits, readable, shaped, whole


class SentenceProjection(nn.Module):
    r"""An affine map and a ReLU of every token, then the mean over the tokens of the sentence.

    $$z = \frac1{|m|} \sum_{t \in m} \max(0, A h_t + b)$$

    Sources and targets share it. As no component is below zero, cosines lie within 0..1. Computed in at least float32,
    under autocast too.

    Args:
        width: components of a state, d.
        out_width: components of a vector, P; None is as many.

    Shape:
        - `states`: float `(N, L, d)`.
        - `mask`: bool `(N, L)`, True at tokens; None is all. What padding holds is without effect.
        - returns float `(N, P)`.

    Raises:
        TypeError: states that are not floating point, a mask that is not boolean.
        ValueError: shapes that do not fit, no tokens; on the CPU also a sentence without tokens, NaN and infinity.

    Example:
        >>> project = SentenceProjection(2)
        >>> _ = project.load_state_dict({"linear.weight": torch.eye(2), "linear.bias": torch.zeros(2)})
        >>> project(torch.tensor([[[1.0, -2.0], [3.0, 4.0], [9.0, 9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[2., 2.]], grad_fn=<SqueezeBackward1>)

    Reference: Lee, Lee and Hwang, ICLR 2021.
    """

    def __init__(self, width: int, out_width: int | None = None) -> None:
        super().__init__()
        whole("width", width, 1)
        if out_width is not None:
            whole("out_width", out_width, 1)
        self.width = width
        self.out_width = out_width
        self.linear = nn.Linear(width, width if out_width is None else out_width)

    def forward(
        self, states: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch out"]:
        """Vectors of sentences; see the class."""
        check_states("states", states, mask, self.width)
        states = states.to(torch.promote_types(states.dtype, torch.float32))
        states = states if mask is None else states.masked_fill(~mask[..., None], 0)
        with torch.autocast(states.device.type, enabled=False):
            each = F.linear(states, self.linear.weight.to(states), self.linear.bias.to(states)).relu()
            if mask is None:
                return each.mean(1)
            share = mask / mask.sum(1, keepdim=True).clamp(min=1)
            return (share.to(each)[:, None] @ each).squeeze(1)

    def extra_repr(self) -> str:
        """Options in the printed form of the module."""
        return f"width={self.width}, out_width={self.out_width}"


def check_states(
    name: str, states: Tensor, mask: Tensor | None, width: int | None = None, mask_name: str = "mask"
) -> None:
    """Check states `(N, L, d)` and which of them are of tokens; values on the CPU only.

    Raises:
        TypeError, ValueError: see `SentenceProjection`.
    """
    floating(name, states, "give the states of a model")
    shaped(name, states, "batch, tokens, dim")
    if width is not None and states.shape[-1] != width:
        raise ValueError(f"{name} is {states.shape[-1]} wide and width is {width}; give the model's d_model as width")
    if not states.shape[1]:
        raise ValueError(f"{name} has no tokens, got shape {tuple(states.shape)}; leave such a batch out")
    if mask is not None:
        mask_fits(mask_name, mask, states.shape[:2], name)
        if readable(mask) and (at := first(~mask.any(1))):
            raise ValueError(f"row {at[0]}: {mask_name} is False at every token of {name}; leave the pair out")
        states = states if states.detach().sum().isfinite() else states.masked_fill(~mask[..., None], 0)
    finite(name, states, mend="lower the learning rate, or look at that text")
