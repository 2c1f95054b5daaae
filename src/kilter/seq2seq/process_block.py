"""A vector of a whole set that no order of its items changes: attention, step by step, by an LSTM without inputs.

Paper: O. Vinyals, S. Bengio, M. Kudlur, "Order Matters: Sequence to sequence for sets", ICLR 2016, arXiv 1511.06391.
Departure: an LSTM without inputs can be read in two ways, which compute the same; both are here.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kilter.core.checks import one_of, whole
from kilter.core.configured import Configured
from kilter.seq2seq.sets import cleared

Form = Literal["pyg", "strict"]


class ProcessBlock(Configured):
    r"""Read a memory of items several times, with queries that an LSTM makes of what was read before.

    $$q_t, c_t = \mathrm{LSTM}(q^*_{t-1}, c_{t-1}), \qquad a_{i,t} = \mathrm{softmax}_i(m_i \cdot q_t), \qquad
      r_t = \sum_i a_{i,t} m_i, \qquad q^*_t = [q_t; r_t]$$

    with the gates $(i, f, g, o) = U q^*_{t-1} + b$, $c_t = \sigma(f) c_{t-1} + \sigma(i) \tanh(g)$ and
    $q_t = \sigma(o) \tanh(c_t)$. In the form `pyg`, that of `Set2Set` in torch_geometric, the LSTM is an ordinary cell
    with input $q^*_{t-1}$ and hidden state $q_{t-1}$, which $q^*_{t-1}$ holds already: $U = [W_q + H, W_r]$, and
    both biases add up. It is computed so, with one product a step instead of two; `fold` gives the block that has U
    itself.

    Without `learned_start` q* and c begin at zero: the first query hangs on b alone and is the same for every set. With
    one step there is no other, and U has no gradient.

    What it cannot do is count. Attention is an average, so that a set and the same set with each item k times have the
    same vector: append the size to it, or to each item, where that matters.

    Args:
        dim: width D of an item.
        steps: P, how often the memory is read; with 0 the start is returned, and nothing of the set.
        form: `pyg`, or `strict` with one matrix and one bias.
        learned_start: learn $q^*_0$, which begins at zero.

    Attributes:
        weight_ih: float `(4D, 2D)`, as of `torch.nn.LSTMCell(2 * dim, dim)`; in `strict` form it is U.
        weight_hh: float `(4D, D)`, H; None in `strict` form.
        bias_ih: float `(4D,)`; in `strict` form it is b.
        bias_hh: float `(4D,)`; None in `strict` form.
        start: float `(2D,)`, $q^*_0$; None where it is not learnt.

    Shape:
        - `memory`: float `(B, n, D)`; what stands where `mask` is False is without effect.
        - `mask`: bool `(B, n)`, True at real items; None where all are.
        - returns `(B, 2D)`, in the dtype of `memory`; computed in float32 at least, under autocast too.

    Raises:
        TypeError: an option of another type, a memory that is not floating point, a mask that is not boolean.
        ValueError: an option out of range or unknown, another width than D, sets without an item; on the CPU also rows
            that are masked throughout, NaN and infinity. On an accelerator such a row gives NaN.

    Example:
        >>> block = ProcessBlock(8, steps=3)
        >>> memory = torch.randn(2, 5, 8)
        >>> torch.allclose(block(memory), block(memory.flip(1)), atol=1e-5)
        True

    Reference: Vinyals et al., ICLR 2016, equations 3 to 7.
    """

    def __init__(self, dim: int, steps: int, *, form: Form = "pyg", learned_start: bool = False) -> None:
        super().__init__()
        whole("dim", dim, 1)
        whole("steps", steps, 0)
        one_of("form", form, Form)
        self.dim = dim
        self.steps = steps
        self.form: Form = form
        self.learned_start = bool(learned_start)
        cell = form == "pyg"
        self.weight_ih = nn.Parameter(torch.empty(4 * dim, 2 * dim))
        self.weight_hh = nn.Parameter(torch.empty(4 * dim, dim)) if cell else None
        self.bias_ih = nn.Parameter(torch.empty(4 * dim))
        self.bias_hh = nn.Parameter(torch.empty(4 * dim)) if cell else None
        self.start = nn.Parameter(torch.empty(2 * dim)) if learned_start else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin anew: weights and biases uniform within 1/√D as torch's LSTM has them, the start at zero."""
        for one in self.parameters():
            nn.init.uniform_(one, -(self.dim**-0.5), self.dim**-0.5)
        if self.start is not None:
            nn.init.zeros_(self.start)

    def forward(
        self, memory: Float[Tensor, "batch items dim"], mask: Bool[Tensor, "batch items"] | None = None
    ) -> Float[Tensor, "batch twice_dim"]:
        """The vector $q^*_P$ of each set; see the class."""
        memory = cleared("memory", memory, self.dim, "dim", mask)
        dtype = torch.promote_types(torch.promote_types(memory.dtype, self.weight_ih.dtype), torch.float32)
        with torch.autocast(memory.device.type, enabled=False):
            return self._process(memory.to(dtype), mask).to(memory.dtype)

    def _process(self, memory: Tensor, mask: Tensor | None) -> Tensor:
        weight, bias = self._folded(memory.dtype)
        rows = len(memory)
        state = None if self.start is None else self.start.to(memory.dtype).expand(rows, -1)
        cell = memory.new_zeros(rows, self.dim)
        hidden = None if mask is None else ~mask[:, None]
        keys = memory.mT
        for _ in range(self.steps):
            gates = bias.expand(rows, -1) if state is None else F.linear(state, weight, bias)
            admit, keep, new, out = gates.chunk(4, -1)
            cell = torch.addcmul(admit.sigmoid() * new.tanh(), keep.sigmoid(), cell)
            query = out.sigmoid() * cell.tanh()
            scores = query[:, None] @ keys
            if hidden is not None:
                scores = scores.masked_fill(hidden, -torch.inf)
            state = torch.cat([query, (scores.softmax(-1) @ memory)[:, 0]], -1)
        return memory.new_zeros(rows, 2 * self.dim) if state is None else state

    def _folded(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """U and b."""
        weight, bias = self.weight_ih.to(dtype), self.bias_ih.to(dtype)
        if self.weight_hh is None or self.bias_hh is None:
            return weight, bias
        return weight + F.pad(self.weight_hh.to(dtype), (0, self.dim)), bias + self.bias_hh.to(dtype)

    def fold(self) -> "ProcessBlock":
        """A new block in `strict` form that computes the same.

        Example:
            >>> block = ProcessBlock(8, steps=3)
            >>> memory = torch.randn(2, 5, 8)
            >>> torch.allclose(block(memory), block.fold()(memory))
            True
        """
        folded = ProcessBlock(self.dim, self.steps, form="strict", learned_start=self.learned_start)
        with torch.no_grad():
            weight, bias = self._folded(self.weight_ih.dtype)
            folded.to(weight).load_state_dict(
                {"weight_ih": weight, "bias_ih": bias} | ({} if self.start is None else {"start": self.start})
            )
        return folded.train(self.training)
