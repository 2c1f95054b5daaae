"""A small model of sets of variables, each a place with a symbol, which it writes in any order: an LSTM over the pairs.

Paper: O. Vinyals, S. Bengio, M. Kudlur, "Order Matters: Sequence to sequence for sets", ICLR 2016, section 5. The
departure: the paper does not say how a place is foretold; here it comes before its symbol, among those not yet written.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from kilter.core.checks import whole
from kilter.core.configured import Configured
from kilter.models.saved_modules import load_module, save_module

_AT_ONCE = 512
"""Rows of log-probabilities of all symbols that a processor computes at once: they stay in its cache."""


class SetWriter(Configured):
    r"""How likely a set is in an order: $\prod_s p(\pi_s \mid \text{pairs before})\, p(y_{\pi_s} \mid \pi_s, \ldots)$.

    Args:
        places: n, the variables of a set.
        symbols: values that each can have.
        dim: width.
        dropout: of what enters the LSTM and leaves it, in train mode where a graph is kept, so not as orders are drawn.

    Shape:
        - `values`: int `(B, n)`, the symbol of each place.
        - `order`: int `(B, n)`, places in the order in which they are written.
        - returns two float `(B, n)`: log-probabilities of the place of each step, and of its symbol.

    Example:
        >>> model = SetWriter(3, 10, dim=8)
        >>> places, symbols = model(torch.tensor([[4, 0, 9]]), torch.tensor([[2, 0, 1]]))
        >>> bool((places[0, 0] < 0) & (places[0, 2] == 0)), symbols.shape  # the last place is certain
        (True, torch.Size([1, 3]))

    Reference: Vinyals et al., ICLR 2016.
    """

    def __init__(self, places: int, symbols: int, dim: int = 64, *, dropout: float = 0.0) -> None:
        super().__init__()
        whole("places", places, 1)
        whole("symbols", symbols, 2)
        whole("dim", dim, 1)
        self.places = places
        self.symbols = symbols
        self.dim = dim
        self.dropout = dropout
        self.place = nn.Embedding(places, dim)
        self.symbol = nn.Embedding(symbols, dim)
        self.first = nn.Parameter(torch.zeros(dim))
        self.lstm = nn.LSTM(dim, dim, batch_first=True)
        self.next_place = nn.Linear(dim, places)
        self.at_place = nn.Linear(2 * dim, dim)
        self.of_symbols = nn.Linear(dim, symbols)

    def forward(
        self, values: Int[Tensor, "batch places"], order: Int[Tensor, "batch places"]
    ) -> tuple[Float[Tensor, "batch places"], Float[Tensor, "batch places"]]:
        """Log-probabilities of each place and of its symbol, given the pairs before; see the class."""
        states = self._states(values, order[:, :-1])
        said = self._symbol_log_probs(states, order, values.gather(1, order))
        now = F.one_hot(order, self.places)
        free = now.cumsum(1) - now == 0
        return self._place_log_probs(states, free).gather(2, order[..., None])[..., 0], said

    def step_log_probs(self, values: Int[Tensor, "batch places"]) -> "NextPlaces":
        """Of these sets, what `kilter.seq2seq.OrderSearch` asks for: `(prefix (B, s)) -> (B, n)`; see `NextPlaces`."""
        return NextPlaces(self, values)

    def next_log_probs(
        self, values: Int[Tensor, "batch places"], prefix: Int[Tensor, "batch steps"]
    ) -> Float[Tensor, "batch places"]:
        """How likely each place comes next, with the symbol that it has; -inf for those in the prefix."""
        state = self._states(values, prefix)[:, -1:]
        free = torch.ones_like(values, dtype=torch.bool).scatter(1, prefix, False)
        left = free.long().argsort(1, descending=True)[:, : self.places - prefix.shape[1]]
        places = self._place_log_probs(state[:, 0], free)
        symbols = self._symbol_log_probs(state.expand(-1, left.shape[1], -1), left, values.gather(1, left))
        return torch.full_like(places, -torch.inf).scatter(1, left, places.gather(1, left) + symbols)

    def log_probs_of(
        self, values: Int[Tensor, "batch places"], orders: Int[Tensor, "orders places"]
    ) -> Float[Tensor, "batch orders"]:
        """Log-probability of each set in each of these orders; what they begin with alike is computed once.

        All 120 orders of 5 places are 325 pairs, where `forward` writes 600.

        Example:
            >>> model = SetWriter(3, 10, dim=8)
            >>> model.log_probs_of(torch.tensor([[4, 0, 9]]), torch.tensor([[2, 0, 1], [2, 1, 0]])).shape
            torch.Size([1, 2])
        """
        rows = len(values)
        _, (hidden, cell) = self.lstm(self._drop(self.first.expand(rows, 1, -1)))
        found, which = torch.zeros(rows, 1, device=values.device), orders.new_zeros(len(orders))
        for step in range(self.places):
            begun, longer = orders[:, : step + 1].unique(dim=0, return_inverse=True)
            # Of each beginning the one that is shorter by a pair: any order that has both says which.
            before = torch.zeros_like(begun[:, 0]).scatter(0, longer, which)
            last, which = begun[:, -1], longer
            hidden, cell = (one.view(rows, -1, self.dim)[:, before] for one in (hidden, cell))
            free = torch.ones(len(begun), self.places, dtype=torch.bool, device=values.device)
            free = free.scatter(1, begun[:, :-1], False)
            said = self._drop(hidden)
            places = self._place_log_probs(said, free).gather(2, last.expand(rows, -1)[..., None])[..., 0]
            symbols = values[:, last]
            found = found[:, before] + places + self._symbol_log_probs(said, last.expand(rows, -1), symbols)
            if step + 1 < self.places:
                pairs = self._drop(self.place(last) + self.symbol(symbols)).flatten(0, 1)[:, None]
                _, (hidden, cell) = self.lstm(pairs, (hidden.flatten(0, 1)[None], cell.flatten(0, 1)[None]))
        return found[:, which]

    @torch.no_grad()
    def preferred(self, values: Int[Tensor, "batch places"]) -> Int[Tensor, "batch places"]:
        """The order in which the likeliest place comes next, whatever its symbol is, which is read once it is there."""
        order = values.new_zeros(len(values), 0)
        for _ in range(self.places):
            free = torch.ones_like(values, dtype=torch.bool).scatter(1, order, False)
            found = self._place_log_probs(self._states(values, order)[:, -1], free).argmax(1, keepdim=True)
            order = torch.cat([order, found], 1)
        return order

    def save(self, folder: str | PathLike[str], **about: Any) -> None:
        """Write `config.json`, with what is said `about` the model, and `model.safetensors`."""
        save_module(folder, self, architectures=["SetWriter"], options=self.config(), **about)

    @classmethod
    def load(cls, folder: str | PathLike[str], device: str = "cpu") -> "SetWriter":
        """Read what `save` wrote.

        Raises:
            ValueError: the folder holds no such model that is whole.
        """
        model, _ = load_module(folder, "model of sets", lambda about: cls(**about["options"]))
        return model.to(device).eval()

    def _states(self, values: Tensor, order: Tensor) -> Tensor:
        """States `(B, s + 1, D)` before the first pair and after each."""
        pairs = self.place(order) + self.symbol(values.gather(1, order))
        given = torch.cat([self.first.expand(len(values), 1, -1), pairs], 1)
        return self._drop(self.lstm(self._drop(given))[0])

    def _drop(self, states: Tensor) -> Tensor:
        # Not without a graph: orders are drawn there, and by noise all of them would be drawn alike.
        return F.dropout(states, self.dropout, self.training and torch.is_grad_enabled())

    def _place_log_probs(self, states: Tensor, free: Tensor) -> Tensor:
        return self.next_place(states).float().masked_fill(~free, -torch.inf).log_softmax(-1)

    def _symbol_log_probs(self, states: Tensor, places: Tensor, symbols: Tensor) -> Tensor:
        at = self.at_place(torch.cat([states, self.place(places)], -1)).tanh()
        rows, symbols_of = self._drop(at).flatten(0, 1), symbols.flatten()
        each = _AT_ONCE if at.device.type == "cpu" else len(rows)
        said = [
            -F.cross_entropy(self.of_symbols(some).float(), those, reduction="none")
            for some, those in zip(rows.split(each), symbols_of.split(each), strict=True)
        ]
        return torch.cat(said).view(symbols.shape)


class NextPlaces:
    """What a writer says of some sets, as `kilter.seq2seq.OrderSearch` asks for it, of a step or of whole orders.

    Example:
        >>> said = SetWriter(3, 10, dim=8).step_log_probs(torch.tensor([[4, 0, 9]]))
        >>> said(torch.tensor([[2]])).isinf()
        tensor([[False, False,  True]])
    """

    def __init__(self, model: SetWriter, values: Int[Tensor, "batch places"]) -> None:
        self.model, self.values = model, values

    def __call__(self, prefix: Int[Tensor, "batch steps"]) -> Float[Tensor, "batch places"]:
        """How likely each place comes next, with the symbol that it has; -inf for those in the prefix."""
        return self.model.next_log_probs(self.values, prefix)

    def of_orders(self, orders: Int[Tensor, "orders places"]) -> Float[Tensor, "batch orders"]:
        """See `SetWriter.log_probs_of`."""
        return self.model.log_probs_of(self.values, orders)


def log_sum_over(
    model: SetWriter, values: Int[Tensor, "batch places"], orders: Sequence[Sequence[int]]
) -> Float[Tensor, " batch"]:
    """Log-probability of each set, whatever the order among these: the sum over them of all that is in `SetWriter`."""
    return model.log_probs_of(values, torch.tensor(orders, device=values.device)).logsumexp(1)
