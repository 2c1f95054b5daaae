"""The projection head of contrastive context prediction, with batch normalisation that differs for the two sides.

Paper: Wu et al., IJCAI 2022, arXiv 2206.03281; layers as in the authors' next system (MSM). The departure: running
statistics are the plain mean of the first ten batches and a moving one after, since those of torch, which begin as 0
and 1, take a hundred steps to reach activations of some hundreds.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

_MOMENTUM = 0.1
_EPSILON = 1e-5
"""Added to variances. MSM has 1e-12, which multiplies the rounding of a dead channel by a million."""


class ContextHead(nn.Module):
    r"""Two linear layers without bias, between them batch normalisation and ReLU.

    $$z = W_2\, \mathrm{ReLU}\Big(\gamma \frac{W_1 x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta\Big)$$

    In training one side takes μ and σ² of its own batch, with their gradient, and moves the running ones; the other
    takes the running ones of earlier batches: what comes out for a row then depends on no other row, and nothing of
    this batch tells a row its partner. In the very first step, before there are any, it takes those of the other side.

    Args:
        dim: components of the vectors, before and after.
        asymmetric: else each side takes its own batch's statistics, and both move the running ones.

    Example:
        >>> head = ContextHead(4)
        >>> head(torch.randn(2, 8, 4), torch.tensor(0), True).shape
        torch.Size([2, 8, 4])

    Reference: Wu et al., IJCAI 2022, asymmetric batch normalisation.
    """

    mean: Float[Tensor, " dim"]
    variance: Float[Tensor, " dim"]
    steps: Int[Tensor, ""]

    def __init__(self, dim: int, *, asymmetric: bool = True) -> None:
        super().__init__()
        self.asymmetric = asymmetric
        self.inner = nn.Linear(dim, dim, bias=False)
        self.outer = nn.Linear(dim, dim, bias=False)
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(
        self, sides: Float[Tensor, "2 batch dim"], turn: Int[Tensor, ""], learns: bool
    ) -> Float[Tensor, "2 batch dim"]:
        """Project centres (side 0) and contexts (side 1).

        Args:
            sides: the encoder's vectors.
            turn: the side that takes its own batch's statistics.
            learns: move the running statistics.
        """
        hidden = F.linear(sides, self.inner.weight.to(sides.dtype))
        mean, variance = self._statistics(hidden, turn, learns)
        normed = (hidden - mean) * (variance + _EPSILON).rsqrt()
        active = (normed * self.weight.to(sides.dtype) + self.bias.to(sides.dtype)).relu()
        return F.linear(active, self.outer.weight.to(sides.dtype))

    def _statistics(self, hidden: Tensor, turn: Tensor, learns: bool) -> tuple[Tensor, Tensor]:
        """Mean and variance to take, `(dim,)` or one for each side `(2, 1, dim)`."""
        running = torch.stack([self.mean, self.variance]).to(hidden.dtype)
        if not self.training or not hidden.shape[1]:
            return running[0], running[1]
        variance, mean = torch.var_mean(hidden, 1, correction=0)
        batch = torch.stack([mean, variance], 1)  # side, what, dim
        sides = torch.arange(2, device=hidden.device)
        own = (sides == turn if self.asymmetric else sides >= 0).view(2, 1, 1)
        seen = (batch.detach() * own).sum(0) / own.sum()
        taken = torch.where(own, batch, torch.where(self.steps == 0, seen, running))
        if learns:
            self._move(seen)
        return taken[:, :1], taken[:, 1:]

    @torch.no_grad()
    def _move(self, seen: Float[Tensor, "2 dim"]) -> None:
        self.steps.add_(1)
        share = (1 / self.steps).clamp(min=_MOMENTUM)
        self.mean.add_(share * (seen[0] - self.mean))
        self.variance.add_(share * (seen[1] - self.variance))
