"""Write an order of the items of a set: an LSTM that points, step by step, at one of them.

Paper: O. Vinyals, S. Bengio, M. Kudlur, "Order Matters: Sequence to sequence for sets", ICLR 2016, arXiv 1511.06391.
Departure: the paper gives no form of the scores; here they are those of pointer networks.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kilter.core.checks import finite, floating, same_shape, whole
from kilter.core.configured import Configured
from kilter.seq2seq.sets import check_pointers, cleared

_AT_ONCE = {"cpu": 1 << 18}
"""Numbers of the steps that are compared at once: on the CPU what its cache holds."""


class PointerWriter(Configured):
    r"""Log-probabilities of the item that each step points at, given the items of the steps before.

    $$g_s = \mathrm{LSTM}(g_{s-1}, m_{y_{s-1}}), \qquad u_i = v^\top \tanh(W_1 m_i + W_2 g_s + b), \qquad
      p(y_s = i) = \mathrm{softmax}_i(u_i)$$

    A glimpse is an attention with weights of its own before that: scores as above, a read $r = \sum_i \alpha_i m_i$,
    and the query $W [g_s; r] + c$ in the place of $g_s$. The LSTM begins with $h_0 = A q^* + a$, a cell of zeros
    and a learnt vector as its first input. With targets given, all steps run at once.

    As the paper has it, nothing keeps a step from pointing at an item again. `mask_visited` does, which raises accuracy
    much: say so with any result. Where all items of a set are visited, all may be pointed at again, so that orders of
    ragged sets can be as long as the largest.

    Args:
        dim: width D of an item.
        glimpses: attentions before a step points, 0 or more.
        mask_visited: give items pointed at before a probability of 0.

    Shape:
        - `memory`: float `(B, n, D)`; what stands where `mask` is False is without effect.
        - `state`: float `(B, 2D)`, what `ProcessBlock` returns.
        - `targets`: int `(B, s)` in 0..n-1; orders may be shorter or longer than n, and repeat items.
        - `mask`: bool `(B, n)`, True at real items; None where all are.
        - returns float `(B, s, n)`, log-probabilities in float32 at least; -inf at what cannot be pointed at. All steps
          at once take the memory of $(1 + \mathrm{glimpses}) \cdot s n D$ numbers for each set.

    Raises:
        TypeError: an option of another type; memory or state not floating point, targets not integer, a mask that is
            not boolean.
        ValueError: an option out of range, shapes that do not fit, sets without an item; on the CPU also rows that are
            masked throughout, targets outside their set, NaN and infinity.

    Example:
        >>> writer = PointerWriter(8, mask_visited=True)
        >>> memory, state = torch.randn(2, 3, 8), torch.randn(2, 16)
        >>> found = writer(memory, state, torch.tensor([[0, 2, 1], [1, 0, 2]]))
        >>> found.exp().sum(-1)
        tensor([[1.0000, 1.0000, 1.0000],
                [1.0000, 1.0000, 1.0000]], grad_fn=<SumBackward1>)
        >>> found[0, 2].isinf()  # two of three are visited
        tensor([ True, False,  True])

    Reference: Vinyals et al., ICLR 2016, section 4.3; O. Vinyals, M. Fortunato, N. Jaitly, "Pointer networks", NeurIPS
    2015.
    """

    def __init__(self, dim: int, *, glimpses: int = 1, mask_visited: bool = False) -> None:
        super().__init__()
        whole("dim", dim, 1)
        whole("glimpses", glimpses, 0)
        self.dim = dim
        self.glimpses = glimpses
        self.mask_visited = bool(mask_visited)
        self.begin = nn.Linear(2 * dim, dim)
        self.first = nn.Parameter(torch.empty(dim))
        self.lstm = nn.LSTM(dim, dim, batch_first=True)
        self.glimpse = nn.ModuleList(_Scores(dim) for _ in range(glimpses))
        self.mix = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(glimpses))
        self.point = _Scores(dim)
        nn.init.uniform_(self.first, -(dim**-0.5), dim**-0.5)

    def forward(
        self,
        memory: Float[Tensor, "batch items dim"],
        state: Float[Tensor, "batch twice_dim"],
        targets: Int[Tensor, "batch steps"],
        mask: Bool[Tensor, "batch items"] | None = None,
    ) -> Float[Tensor, "batch steps items"]:
        """Log-probabilities with the order given; see the class."""
        memory = self._check(memory, state, mask)
        check_pointers(targets, memory, mask)
        if not targets.shape[1]:
            return memory.new_zeros(*targets.shape, memory.shape[1])
        targets = targets.long()
        with torch.autocast(memory.device.type, enabled=False):
            memory = memory.to(self.first.dtype)
            inputs = torch.cat([self._first(memory), _items(memory, targets[:, :-1])], 1)
            hidden, _ = self.lstm(inputs, self._begin(state))
            visited = _visited(targets, memory.shape[1]) if self.mask_visited else None
            return self._log_probs(hidden, memory, self._keys(memory), *_open(mask, visited))

    @torch.no_grad()
    def decode(
        self,
        memory: Float[Tensor, "batch items dim"],
        state: Float[Tensor, "batch twice_dim"],
        mask: Bool[Tensor, "batch items"] | None = None,
    ) -> Int[Tensor, "batch items"]:
        """The likeliest item of each step in turn, n steps.

        Of a row with m real items the first m numbers are its order; what follows points at some of them again.

        Raises:
            TypeError, ValueError: see the class.
        """
        memory = self._check(memory, state, mask)
        with torch.autocast(memory.device.type, enabled=False):
            memory = memory.to(self.first.dtype)
            keys, carried, given = self._keys(memory), self._begin(state), self._first(memory)
            visited = memory.new_zeros(len(memory), 1, memory.shape[1], dtype=torch.bool) if self.mask_visited else None
            order = []
            for _ in range(memory.shape[1]):
                hidden, carried = self.lstm(given, carried)
                found = self._log_probs(hidden, memory, keys, *_open(mask, visited)).argmax(-1)
                visited = None if visited is None else visited.scatter(2, found[..., None], True)
                given = _items(memory, found)
                order.append(found)
        return torch.cat(order, 1)

    def _check(self, memory: Tensor, state: Tensor, mask: Tensor | None) -> Tensor:
        """The memory, with 0 where there is no item."""
        memory = cleared("memory", memory, self.dim, "dim", mask)
        floating("state", state)
        same_shape("state", state, (len(memory), 2 * self.dim), "what ProcessBlock makes of these sets")
        finite("state", state, mend="lower the learning rate")
        return memory

    def _first(self, memory: Tensor) -> Tensor:
        return self.first.expand(len(memory), 1, -1)

    def _begin(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """State and cell of the LSTM before the first step."""
        hidden = self.begin(state.to(self.first.dtype))[None]
        return hidden, torch.zeros_like(hidden)

    def _keys(self, memory: Tensor) -> list[Tensor]:
        """What every step compares its queries with: of each glimpse, and of the pointer."""
        return [scores.key(memory) for scores in (*self.glimpse, self.point)]  # type: ignore[union-attr]

    def _log_probs(
        self, hidden: Tensor, memory: Tensor, keys: list[Tensor], real: Tensor | None, left: Tensor | None
    ) -> Tensor:
        """From the states `(B, s, D)` of some steps to where they point; glimpses see what is `real`."""
        query = hidden
        for scores, mix, key in zip(self.glimpse, self.mix, keys, strict=False):
            read = scores(key, query, real).softmax(-1).to(memory.dtype) @ memory
            query = mix(torch.cat([query, read], -1))
        return self.point(keys[-1], query, left).log_softmax(-1)


class _Scores(nn.Module):
    """How well each item fits each query, in float32 at least."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.key = nn.Linear(dim, dim, bias=False)
        self.query = nn.Linear(dim, dim)
        self.vector = nn.Linear(dim, 1, bias=False)

    def forward(self, key: Tensor, query: Tensor, may: Tensor | None) -> Tensor:
        """Scores `(B, s, n)`, -inf where `may` is False."""
        steps = max(1, _AT_ONCE.get(key.device.type, 1 << 25) // max(1, key.numel()))
        parts = [
            self.vector((key[:, None] + some[:, :, None]).tanh_())[..., 0] for some in self.query(query).split(steps, 1)
        ]
        scores = torch.cat(parts, 1)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return scores if may is None else scores.masked_fill(~may, -torch.inf)


def _items(memory: Tensor, numbers: Tensor) -> Tensor:
    """The items `(B, s, D)` with these numbers `(B, s)`."""
    return memory.gather(1, numbers[..., None].expand(-1, -1, memory.shape[2]))


def _visited(targets: Tensor, items: int) -> Tensor:
    """True `(B, s, n)` at items that an earlier step points at."""
    now = torch.zeros(*targets.shape, items, dtype=torch.long, device=targets.device)
    now = now.scatter(2, targets[..., None], 1)
    return now.cumsum(1) > now


def _open(mask: Tensor | None, visited: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Which items are real, and which may be pointed at; None where all are."""
    real = None if mask is None else mask[:, None]
    if visited is None:
        return real, real
    left = ~visited if real is None else real & ~visited
    again = ~left.any(-1, keepdim=True)  # nothing is left
    return real, left | (again if real is None else again & real)
