"""Modern ways to encode a set, as rivals of reading, processing and writing: the same writer behind other encoders.

Papers: M. Zaheer et al., "Deep Sets", NeurIPS 2017; J. Lee et al., "Set Transformer", ICML 2019. The departure: both
encoders hand the vectors of the items to a `PointerWriter`, where the papers end with one vector of the set.
"""

import torch
from torch import Tensor, nn

from kilter.seq2seq.order_matters import SetToOrder


class DeepSets(SetToOrder):
    r"""A set is the mean of what a small network makes of each of its items.

    $$m_i = \phi(x_i), \qquad q^* = \rho\Big(\frac{1}{n} \sum_i m_i\Big)$$

    Args:
        in_dim: width of an item as given; 1 for numbers.
        dim: width inside.
        glimpses: attentions before a step points.
        mask_visited: give items pointed at before a probability of 0.

    Example:
        >>> DeepSets(1, 8)(torch.rand(2, 3, 1), torch.tensor([[0, 1, 2], [2, 0, 1]])).shape
        torch.Size([2, 3, 3])

    Reference: Zaheer et al., NeurIPS 2017.
    """

    def __init__(self, in_dim: int, dim: int = 128, *, glimpses: int = 1, mask_visited: bool = False) -> None:
        super().__init__(in_dim, dim, glimpses, mask_visited)
        self.read = nn.Sequential(nn.Linear(in_dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.of_the_set = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 2 * dim))

    def _encode(self, items: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The network's vector of each item, and what another makes of their mean."""
        memory = self.read(items)
        real = memory.new_ones(memory.shape[:2]) if mask is None else mask.to(memory.dtype)
        mean = (memory * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        return memory, self.of_the_set(mean)


class SetTransformer(SetToOrder):
    """A transformer without positions, so that each item sees the others, and one attention over them for the set.

    Args:
        in_dim: width of an item as given; 1 for numbers.
        dim: width inside, a multiple of `heads`.
        layers: of the transformer.
        heads: of each attention.
        glimpses: attentions before a step points.
        mask_visited: give items pointed at before a probability of 0.

    Example:
        >>> SetTransformer(1, 8)(torch.rand(2, 3, 1), torch.tensor([[0, 1, 2], [2, 0, 1]])).shape
        torch.Size([2, 3, 3])

    Reference: Lee et al., ICML 2019.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int = 128,
        *,
        layers: int = 2,
        heads: int = 4,
        glimpses: int = 1,
        mask_visited: bool = False,
    ) -> None:
        super().__init__(in_dim, dim, glimpses, mask_visited)
        self.layers = layers
        self.heads = heads
        self.read = nn.Linear(in_dim, dim)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.seed = nn.Parameter(torch.randn(1, 1, dim) * dim**-0.5)
        self.pool = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.of_the_set = nn.Linear(dim, 2 * dim)

    def _encode(self, items: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Each item after it has seen the others, and one attention over all of them."""
        absent = None if mask is None else ~mask
        memory = self.read(items)
        for block in self.blocks:
            memory = block(memory, src_key_padding_mask=absent)
        seed = self.seed.expand(len(memory), -1, -1)
        pooled, _ = self.pool(seed, memory, memory, key_padding_mask=absent, need_weights=False)
        return memory, self.of_the_set(pooled[:, 0])
