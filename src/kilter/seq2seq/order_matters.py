"""Sets in, orders out: a model whose answer does not hang on how its input happens to be stored, and the one before it.

Paper: O. Vinyals, S. Bengio, M. Kudlur, "Order Matters: Sequence to sequence for sets", ICLR 2016, arXiv 1511.06391.
Departure: sizes, scores and the read network are not given there; they are said with each class.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kilter.core.checks import whole
from kilter.core.configured import Configured
from kilter.core.paper import Claim, Paper
from kilter.seq2seq.pointer_writer import PointerWriter
from kilter.seq2seq.process_block import ProcessBlock
from kilter.seq2seq.sets import cleared


class SetToOrder(Configured, ABC):
    """What encodes a set, and a `PointerWriter` behind it."""

    def __init__(self, in_dim: int, dim: int, glimpses: int, mask_visited: bool) -> None:
        super().__init__()
        whole("in_dim", in_dim, 1)
        whole("dim", dim, 1)
        self.in_dim = in_dim
        self.dim = dim
        self.glimpses = glimpses
        self.mask_visited = bool(mask_visited)
        self.write = PointerWriter(dim, glimpses=glimpses, mask_visited=mask_visited)

    def encode(
        self, items: Float[Tensor, "batch items in_dim"], mask: Bool[Tensor, "batch items"] | None = None
    ) -> tuple[Float[Tensor, "batch items dim"], Float[Tensor, "batch twice_dim"]]:
        """The memory of the items, and the state that the writer begins with; see the class."""
        items = cleared("items", items, self.in_dim, "in_dim", mask)
        return self._encode(items.to(self.write.first.dtype), mask)

    @abstractmethod
    def _encode(self, items: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        items: Float[Tensor, "batch items in_dim"],
        targets: Int[Tensor, "batch steps"],
        mask: Bool[Tensor, "batch items"] | None = None,
    ) -> Float[Tensor, "batch steps items"]:
        """Log-probabilities of the item at each step, given the items of the steps before; see the class."""
        return self.write(*self.encode(items, mask), targets, mask)

    @torch.no_grad()
    def decode(
        self, items: Float[Tensor, "batch items in_dim"], mask: Bool[Tensor, "batch items"] | None = None
    ) -> Int[Tensor, "batch items"]:
        """The likeliest item of each step in turn; of a row with m real items, the first m numbers are its order.

        Raises:
            TypeError, ValueError: see the class.
        """
        return self.write.decode(*self.encode(items, mask), mask)


class ReadProcessWrite(SetToOrder):
    r"""Write an order of the items of a set, whatever order they are stored in.

    $$m_i = W_2\,\mathrm{ReLU}(W_1 x_i + b_1) + b_2, \qquad q^* = \mathrm{Process}(m), \qquad
      p(y_s \mid y_{<s}, x) = \mathrm{Write}(m, q^*)$$

    `ProcessBlock` and `PointerWriter` say the rest. To store a set in another order changes the numbers of its items
    and nothing else. Which order is written is what the targets teach: $-\sum_s \log p(y_s)$ is the loss.

    Args:
        in_dim: width of an item as given; 1 for numbers.
        dim: width D inside.
        steps: how often the memory is read before writing; with 0 the writer begins blind and sees the set by its
            pointers and glimpses alone.
        glimpses: attentions before a step points.
        mask_visited: give items pointed at before a probability of 0; the paper does not.

    Attributes:
        read: the network of each item.
        process: the `ProcessBlock`.
        write: the `PointerWriter`.

    Shape:
        - `items`: float `(B, n, in_dim)`; what stands where `mask` is False is without effect.
        - `targets`: int `(B, s)` in 0..n-1, the numbers of the items in the order to be written.
        - `mask`: bool `(B, n)`, True at real items; None where all are.
        - returns float `(B, s, n)`, log-probabilities in float32 at least; `decode` int `(B, n)`.

    Raises:
        TypeError: an option of another type; items not floating point, targets not integer, a mask that is not boolean.
        ValueError: an option out of range, shapes that do not fit, sets without an item; on the CPU also rows that are
            masked throughout, targets outside their set, NaN and infinity.

    Example:
        >>> model = ReadProcessWrite(1, 16, steps=2)
        >>> numbers = torch.tensor([[[0.3], [0.1], [0.2]]])
        >>> log_probs = model(numbers, targets=numbers[..., 0].argsort(1))  # sort them
        >>> loss = torch.nn.functional.nll_loss(log_probs.flatten(0, 1), numbers[..., 0].argsort(1).flatten())
        >>> loss.backward()
        >>> model.decode(numbers).shape
        torch.Size([1, 3])

    Reference: Vinyals et al., ICLR 2016, section 4.
    """

    def __init__(
        self, in_dim: int, dim: int = 128, *, steps: int = 5, glimpses: int = 1, mask_visited: bool = False
    ) -> None:
        super().__init__(in_dim, dim, glimpses, mask_visited)
        self.steps = steps
        self.read = nn.Sequential(nn.Linear(in_dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.process = ProcessBlock(dim, steps)

    def _encode(self, items: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        memory = self.read(items)
        return memory, self.process(memory, mask)


class PointerNetwork(SetToOrder):
    r"""The baseline that reads its items one after another, so that how they are stored matters.

    $$m_i, c_i = \mathrm{LSTM}(m_{i-1}, c_{i-1}, x_i), \qquad q^* = [m_n; c_n]$$

    and $m$ and $q^*$ enter the same `PointerWriter` as in `ReadProcessWrite`. Items that `mask` leaves out are skipped:
    the state goes from a real item to the next.

    Args:
        in_dim: width of an item as given; 1 for numbers.
        dim: width D inside.
        glimpses: attentions before a step points.
        mask_visited: give items pointed at before a probability of 0; the paper does not.

    Shape:
        - as of `ReadProcessWrite`.

    Raises:
        TypeError, ValueError: see `ReadProcessWrite`.

    Example:
        >>> model = PointerNetwork(2, 16)
        >>> model(torch.randn(4, 5, 2), torch.arange(5).expand(4, 5)).shape
        torch.Size([4, 5, 5])

    Reference: Vinyals et al., ICLR 2016, section 4.4; O. Vinyals, M. Fortunato, N. Jaitly, "Pointer networks", NeurIPS
    2015.
    """

    def __init__(self, in_dim: int, dim: int = 128, *, glimpses: int = 1, mask_visited: bool = False) -> None:
        super().__init__(in_dim, dim, glimpses, mask_visited)
        self.lstm = nn.LSTM(in_dim, dim, batch_first=True)

    def _encode(self, items: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        with torch.autocast(items.device.type, enabled=False):
            if mask is None or not len(items):
                memory, last = self.lstm(items)
            else:  # real items first, as they follow one another, and back
                order = (~mask).long().argsort(dim=1, stable=True)
                sorted_items = items.gather(1, order[..., None].expand_as(items))
                packed = pack_padded_sequence(sorted_items, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
                packed, last = self.lstm(packed)
                memory, _ = pad_packed_sequence(packed, batch_first=True, total_length=items.shape[1])
                memory = memory.gather(1, order.argsort(1)[..., None].expand_as(memory))
        return memory, torch.cat([each[0] for each in last], -1)


PAPER = Paper(
    slug="order-matters",
    title="Order Matters: Sequence to sequence for sets",
    authors=("Oriol Vinyals", "Samy Bengio", "Manjunath Kudlur"),
    year=2016,
    venue="International Conference on Learning Representations (ICLR)",
    url="https://arxiv.org/abs/1511.06391",
    lever="module",
    purpose="models that take sets, whatever order they are stored in, and that learn in which order to write one",
    names=("ReadProcessWrite", "OrderSearch", "PointerNetwork", "ProcessBlock", "PointerWriter"),
    claims=(
        Claim(
            text="a model that reads its input as a set sorts more sets of ten numbers without any fault",
            published="57% against 28% of sets of ten numbers, with five steps and one glimpse",
            metric="exact_10",
            better="higher",
            baseline="pointer-network",
            arm="process-5",
            by=29.0,
        ),
        Claim(
            text="the order of the input matters: steps of processing before writing sort better than none",
            published="57% against 30% of sets of ten numbers, with one glimpse",
            metric="exact_10",
            better="higher",
            baseline="process-0",
            arm="process-5",
            by=27.0,
        ),
        Claim(
            text="the order of the output matters: a star of random variables is modelled better from its centre on",
            metric="star_nll",
            better="lower",
            baseline="head-last",
            arm="head-first",
        ),
        Claim(
            text="a loss that searches over orders while training finds one that is better than a bad one given",
            published="perplexity 225 against 280 of (5, 1, 3, 4, 2), for groups of five words",
            metric="perplexity",
            better="lower",
            baseline="scrambled",
            arm="search",
            by=55.0,
        ),
        Claim(
            text="a language model of whole texts does not care for their direction, but for an unnatural order",
            published="perplexity 86 forwards, 86 backwards, 96 with every three words reversed",
            reason="needs the licensed Penn treebank's text and an LSTM of 20 million weights; words in groups of five "
            "are tried instead",
        ),
        Claim(
            text="a parser that writes trees depth first is better than one that writes them breadth first",
            published="89.5 against 81.5 F1",
            reason="needs a treebank, and no free one was found",
        ),
    ),
    arxiv="1511.06391",
)
