"""N copies of a module, and of a batch each row goes to its own: what makes one encoder serve several domains.

Source: L. Hallee et al., 2024 (arXiv 2401.15713), after its sentence-wise switch. A row without a domain is given the
mean of what all experts say; there the release has nothing.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kilter.core.checks import one_of, readable, whole

Routing = Literal["enforced", "supervised", "top_k"]

UNKNOWN = -1
"""The domain of a row of which none is known."""


class Groups(NamedTuple):
    """Which rows go together, found once and used in every layer.

    Attributes:
        order: rows sorted by expert; None where they are so already.
        back: undoes `order`.
        sizes: how many rows are of no expert, of the first, of the second …
    """

    order: Tensor | None
    back: Tensor | None
    sizes: list[int]


def grouped(expert: Int[Tensor, " rows"], count: int) -> Groups:
    """Sort rows by their expert, those of none first; one wait for a device.

    Example:
        >>> grouped(torch.tensor([1, 0, 1]), 2).sizes
        [0, 1, 2]
    """
    order = expert.argsort(stable=True)
    facts = torch.cat([torch.bincount(expert - UNKNOWN, minlength=count + 1), (order.diff() < 0).any()[None].long()])
    *sizes, mixed = facts.tolist()
    return Groups(order, order.argsort(), sizes) if mixed else Groups(None, None, sizes)


class Assignment:
    """Which row of the batch that runs belongs to which domain: one object, which all layers of a model share.

    Example:
        >>> assignment = Assignment(2)
        >>> with assignment.of(torch.tensor([1, 0, -1])):
        ...     assignment.groups(3).sizes
        [1, 1, 1]
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.domain: Tensor | None = None
        self.mask: Tensor | None = None
        self.kept: list[tuple[Tensor, Tensor]] | None = None
        self._groups: Groups | None = None
        self._heeded = count == 1

    def heed(self, domain: Int[Tensor, " rows"]) -> None:
        """Warn once where the first batch to learn from says no domain: all experts would learn the same."""
        if self._heeded or not torch.is_grad_enabled() or not readable(domain):
            return
        self._heeded = True
        if bool((domain == UNKNOWN).all()):
            warnings.warn(
                "no domain is said of the texts to learn from, so that all experts learn the same; say it by "
                "domain=, or by the domain's token at the beginning of each text (args.prompts of the trainer)",
                stacklevel=2,
            )

    @contextmanager
    def of(self, domain: Int[Tensor, " rows"], mask: Tensor | None = None) -> Iterator[None]:
        """The rows of what runs inside, and which of their positions `(rows, positions)` are no padding."""
        before = self.domain, self.mask, self._groups
        self.domain, self.mask, self._groups = domain, mask, None
        try:
            yield
        finally:
            self.domain, self.mask, self._groups = before

    @contextmanager
    def keeping(self) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Logits `(rows, experts)` of every router that runs inside, layer by layer, each with its rows' domains."""
        before, self.kept = self.kept, []
        try:
            yield self.kept
        finally:
            self.kept = before

    def again(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A function that sees the rows of now whenever it is called, as a layer that is computed a second time."""
        domain, mask, asked = self.domain, self.mask, self.kept is not None
        if domain is None:
            return call

        def called(*args: Any, **named: Any) -> Any:
            once_more = asked and self.kept is None  # routers are run again, but nobody waits for what they say
            with self.of(domain, mask), self.keeping() if once_more else nullcontext():
                return call(*args, **named)

        return called

    def rows(self, count: int) -> Tensor:
        """The domain of each of the rows that a layer is given."""
        if self.domain is None or len(self.domain) != count:
            said = "none" if self.domain is None else f"{len(self.domain)}"
            raise ValueError(
                f"{count} rows reached a layer of experts, and a domain is known of {said}; call the model that was "
                "converted itself, with padded batches (unpad_inputs=False)"
            )
        return self.domain

    def groups(self, count: int) -> Groups:
        """Of the rows that a layer is given, sorted once for all layers."""
        if self._groups is None:
            self._groups = grouped(self.rows(count), self.count)
        return self._groups


class Experts(nn.Module):
    r"""N experts in the place of one module; each row of a batch goes through its own.

    $$y_i = E_{r_i}(x_i), \qquad y_i = \tfrac1N \sum_e E_e(x_i) \text{ where } r_i \text{ is unknown}$$

    While all experts are equal, the output is that of each, to the last bit where a kernel is the same for some rows as
    for all of them (on CPUs, where widths are multiples of 16). An expert that no row goes to is not run, so
    that its parameters have no gradient (None, not zero). Under `torch.compile` and in exports all are run, and of each
    row one is taken.

    With `supervised` a router chooses for rows of no known domain; with `top_k` for every row, and the `k` best are
    mixed by their softmax, renormalised over them (the release does not, and so begins elsewhere than the pretrained
    model). A router is a linear map, without bias, of the mean over all positions that are no padding.

    Args:
        experts: the copies, of one input and output.
        assignment: whose rows they are.
        routing: see above.
        width: of the input; routers need it.
        k: experts of a row with `top_k`.

    Shape:
        - input: float `(B, …)`, with a router `(B, T, D)`.
        - output: what an expert makes of it.

    Raises:
        ValueError: no experts, options out of range, or other rows than the assignment has.

    Example:
        >>> assignment = Assignment(2)
        >>> both = Experts([nn.Identity(), nn.Flatten(0)], assignment)
        >>> with assignment.of(torch.tensor([0, 0])):
        ...     both(torch.ones(2, 3)).shape
        torch.Size([2, 3])

    Reference: Hallee et al., 2024; A. Komatsuzaki et al., "Sparse Upcycling", ICLR 2023.
    """

    def __init__(
        self,
        experts: Sequence[nn.Module],
        assignment: Assignment,
        *,
        routing: Routing = "enforced",
        width: int | None = None,
        k: int = 2,
    ) -> None:
        super().__init__()
        if len(experts) != assignment.count or not experts:
            raise ValueError(f"experts must be {assignment.count}, one for each domain, and at least one")
        one_of("routing", routing, get_args(Routing))
        whole("k", k, 1)
        if routing != "enforced" and width is None:
            raise ValueError(f"routing={routing!r} needs the width of its input; give width")
        self.experts = nn.ModuleList(experts)
        self.assignment = assignment
        self.routing: Routing = routing
        self.count = len(experts)
        self.k = min(k, self.count)
        self.router = None if routing == "enforced" or width is None else nn.Linear(width, len(experts), bias=False)

    def run(self, expert: int, x: Tensor) -> Tensor:
        """One expert."""
        return self.experts[expert](x)

    def _replicate_for_data_parallel(self) -> "Experts":
        raise ValueError("nn.DataParallel would mix the domains of its copies; start one process per device (torchrun)")

    def forward(self, x: Tensor) -> Tensor:
        """Each row through its expert; see the class."""
        domain = self.assignment.rows(len(x))
        logits = self._logits(x, domain)
        if self.routing == "top_k" and logits is not None:
            return self._mixed(x, logits)
        if logits is None:
            return self._switched(x, domain)
        return self._switched(x, torch.where(domain == UNKNOWN, logits.argmax(1), domain), new=True)

    def _logits(self, x: Tensor, domain: Tensor) -> Float[Tensor, "rows experts"] | None:
        """What the router says, in at least float32; None where nobody asks."""
        if self.router is None:
            return None
        asked = self.routing == "top_k" or self.assignment.kept is not None or not readable(domain)
        if not (asked or bool((domain == UNKNOWN).any())):
            return None
        wide = torch.promote_types(x.dtype, torch.float32)
        mask = self.assignment.mask
        weights = torch.ones(x.shape[:2], device=x.device) if mask is None else mask
        if weights.shape[1] != x.shape[1]:
            raise ValueError(
                f"routers see {x.shape[1]} of {weights.shape[1]} positions; set chunk_size_feed_forward=0 in the "
                "model's config"
            )
        weights = weights.to(wide)[..., None]
        with torch.autocast(x.device.type, enabled=False):
            mean = (x.to(wide) * weights).sum(1) / weights.sum(1).clamp(min=1)
            logits = nn.functional.linear(mean, self.router.weight.to(wide))
        if self.assignment.kept is not None:
            self.assignment.kept.append((logits, domain))
        return logits

    def _switched(self, x: Tensor, expert: Tensor, *, new: bool = False) -> Tensor:
        if torch.compiler.is_compiling():
            return self._all(x, expert)
        groups = grouped(expert, self.count) if new else self.assignment.groups(len(x))
        if len(x) in groups.sizes:
            return self._group(groups.sizes.index(len(x)) + UNKNOWN, x)
        parts = (x if groups.order is None else x[groups.order]).split(groups.sizes)
        found = torch.cat([self._group(i + UNKNOWN, part) for i, part in enumerate(parts) if len(part)])
        return found if groups.back is None else found[groups.back]

    def _group(self, expert: int, x: Tensor) -> Tensor:
        """Rows of one expert, or of none: their mean, as what each adds to the first, so that equals stay equal."""
        if expert != UNKNOWN:
            return self.run(expert, x)
        first, *others = (self.run(each, x) for each in range(self.count))
        return first + sum((other - first for other in others), torch.zeros_like(first)) / self.count

    def _all(self, x: Tensor, expert: Tensor) -> Tensor:
        """Without a shape that hangs on the data."""
        every = [self.run(each, x) for each in range(self.count)]
        mean = every[0] + sum((other - every[0] for other in every[1:]), torch.zeros_like(every[0])) / len(every)
        chosen = expert.view(-1, *[1] * (mean.ndim - 1))
        for each, found in enumerate(every):
            mean = torch.where(chosen == each, found, mean)
        return mean

    def _mixed(self, x: Tensor, logits: Tensor) -> Tensor:
        """The best experts of each row by their weights, again as what each adds to the first."""
        weights, chosen = logits.softmax(1).topk(self.k, 1)
        weights = weights / weights.sum(1, keepdim=True)
        first, *others = (self._switched(x, chosen[:, slot], new=True) for slot in range(self.k))
        shape = (-1, *[1] * (first.ndim - 1))
        shares = [weights[:, slot].view(shape).to(first.dtype) for slot in range(1, self.k)]
        return sum((share * (other - first) for share, other in zip(shares, others, strict=True)), first)
