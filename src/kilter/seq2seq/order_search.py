"""In which order shall a model write a set? It learns from orders that it finds likely itself, and so settles on one.

Paper: O. Vinyals, S. Bengio, M. Kudlur, "Order Matters: Sequence to Sequence for Sets", 2015, arXiv 1511.06391, 5.2.
Drawing from left to right is not drawing by p(order), which the paper calls it, and settles on no order where elements
differ in how likely they are: `OrderSearch` says why.
"""

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from kilter.core.checks import integer, readable, shaped
from kilter.core.configured import Configured
from kilter.core.objective import LossOutput
from kilter.core.options import one_of, whole

Sampler = Literal["ancestral", "exact", "greedy", "uniform", "importance"]
StepLogProbs = Callable[[Tensor], Tensor]

_MOST = 6
"""Elements of which all orders are scored, at most: 720 orders."""
_TRIED = 8
"""Orders of which importance sampling keeps one."""
_ROUNDING = 1e-3
"""By how much a log-probability may be above 0."""


class OrderSearch(Configured):
    r"""Train on the order that the model itself would write the set in, once it has seen all orders for a while.

    $$\mathcal L = -\frac1B \sum_b \log p(Y_{\pi_b}), \qquad \pi_b \sim \text{sampler}$$

    An order π is the elements of a set one after another, each given those before; log p sums what the model says of
    each, over all that it could say, and is never renormalised over the elements that are left. Drawing costs one call
    of the model for each element and keeps no graph; then the order that was drawn is taught as any target.

    In train mode the first `warmup_steps` draws are uniform, without which training locks on to what the first weights
    happen to prefer. This is the mean over the orders of log p, our reading of "replacing the max by a sum".

    Samplers: `ancestral` goes from left to right, each element as likely as the model says among those that are left
    (how the paper says it draws). `exact` draws in proportion to p of the whole order (what it says is drawn), scoring
    all of them, so of up to 6 elements; its steps climb the likelihood of the set, $\log \sum_\pi p(Y_\pi)$.
    `importance` draws 8 orders from left to right and keeps one by p over what it was drawn by, which is nearer to
    `exact` and costs 8 times `ancestral`. `greedy` takes the likeliest element of those left, and collapses; `uniform`
    draws without the model. Among given `candidates` all but `uniform` score whole orders: `greedy` takes the
    likeliest, the others draw in proportion to p.

    Take `exact` where you can. Each element is in every order, so how frequent it is by itself cancels in p of whole
    orders; from left to right it does not, frequent elements are drawn first, and the model learns to await them there.
    On groups of words `exact` settled on the order of the text and `ancestral` on none. A model that scores whole
    orders at once makes it fast: `step_log_probs.of_orders`, see `draw`.

    Stats: `order_entropy`, nats, how spread over the batch is which element comes at each step, a mean over the steps:
    0 where all rows have one order, log n where all are alike. `left_mass`, the mean of log p over q, where q is how
    likely `ancestral` draws that order: 0 where the model gives nothing to what it has already written.

    Under `torch.compile` a draw in train mode breaks the graph, where the count of draws is read, and so does looking
    for orders that begin alike (`exact` and `candidates`, unless `of_orders` scores them); all else is compiled.

    Args:
        sampler: how orders are drawn after the first draws.
        warmup_steps: draws in train mode that are uniform; their count, `steps_taken`, is a buffer.

    Raises:
        TypeError: warmup_steps that is not a whole number.
        ValueError: an unknown sampler, warmup_steps below 0.

    Example:
        >>> table = torch.tensor([0.7, 0.2, 0.1]).log()  # the same whatever came before
        >>> search = OrderSearch(sampler="greedy", warmup_steps=0)
        >>> search.draw(lambda prefix: table.expand(len(prefix), 3), num_elements=3, batch_size=2)
        tensor([[0, 1, 2],
                [0, 1, 2]])
    """

    steps_taken: Tensor

    def __init__(self, *, sampler: Sampler = "ancestral", warmup_steps: int = 1000) -> None:
        super().__init__()
        one_of("sampler", sampler, Sampler)
        whole("warmup_steps", warmup_steps, 0)
        self.sampler, self.warmup_steps = sampler, warmup_steps
        self.register_buffer("steps_taken", torch.zeros((), dtype=torch.long))

    def forward(
        self,
        step_log_probs: StepLogProbs,
        num_elements: int,
        batch_size: int,
        generator: Generator | None = None,
        candidates: Int[Tensor, "orders elements"] | None = None,
    ) -> LossOutput:
        """Draw an order for each set, and say how unlikely it is, in nats, as a mean over the batch.

        Args and errors are those of `draw`, and ValueError where the model says of an order that it cannot be.

        Example:
            >>> table = torch.tensor([0.5, 0.5]).log().requires_grad_()
            >>> search = OrderSearch(warmup_steps=0)
            >>> search(lambda prefix: table.expand(len(prefix), 2), num_elements=2, batch_size=4).loss
            tensor(1.3863, grad_fn=<NegBackward0>)
        """
        order = self.draw(step_log_probs, num_elements, batch_size, generator, candidates)
        model = _Model(step_log_probs, num_elements, batch_size, order.device)
        log_p, log_left = model.scored(order)
        if readable(log_p) and bool((log_p == -math.inf).any()):
            row = int((log_p == -math.inf).nonzero()[0])
            raise ValueError(
                f"row {row}: step_log_probs gives order {order[row].tolist()} no probability; let no element that is "
                "left have -inf while orders are drawn uniformly or given"
            )
        loss = -log_p.mean()
        stats = {"order_entropy": _entropy(order), "left_mass": log_left.detach().mean()}
        return LossOutput(loss, parts={"order": loss}, stats=stats)

    @torch.no_grad()
    def draw(
        self,
        step_log_probs: StepLogProbs,
        num_elements: int,
        batch_size: int,
        generator: Generator | None = None,
        candidates: Int[Tensor, "orders elements"] | None = None,
    ) -> Int[Tensor, "batch elements"]:
        """An order for each set of the batch, without a graph; counts as a step in train mode, unless it raises.

        Args:
            step_log_probs: `(prefix (B, s)) -> (B, n)`, log-probabilities of each element coming next after those whose
                numbers are in the prefix; what it says of elements in the prefix is not drawn. Where it also has a
                method `of_orders`, `(orders (m, n)) -> (B, m)`, log p of whole orders is asked there, all at once.
            num_elements: n, of each set.
            batch_size: B, sets.
            generator: of the draws; None is torch's own.
            candidates: orders among which the search is, `(m, n)`; None is all.

        Raises:
            TypeError: counts that are not whole; candidates that are not integers; what step_log_probs gives is not
                floating point.
            ValueError: counts below 1; candidates of another shape, that are no order of all elements, or twice the
                same; more elements than `exact` can enumerate; what step_log_probs or its `of_orders` gives has another
                shape, or on the CPU NaN, a value above 0, or nothing but -inf at what is left.

        Example:
            >>> even = lambda prefix: torch.full((len(prefix), 3), 1 / 3).log()
            >>> orders = torch.tensor([[0, 1, 2], [2, 1, 0]])
            >>> OrderSearch(warmup_steps=0).draw(even, 3, 20, torch.Generator().manual_seed(0), orders)[:, 0].unique()
            tensor([0, 2])
        """
        whole("num_elements", num_elements, 1)
        whole("batch_size", batch_size, 1)
        device = self.steps_taken.device
        if candidates is not None:
            _check_orders(candidates, num_elements)
            candidates = candidates.to(device).long()
        elif self.sampler == "exact" and num_elements > _MOST:
            raise ValueError(
                f"num_elements={num_elements} has {math.factorial(num_elements):,} orders, and sampler 'exact' scores "
                f"each; give sets of up to {_MOST}, candidates, or take 'ancestral' or 'importance'"
            )
        if self.sampler == "uniform" or (self.training and bool(self.steps_taken < self.warmup_steps)):
            size = num_elements if candidates is None else len(candidates)
            noise = _noise((batch_size, size), generator, device)
            order = noise.argsort(1) if candidates is None else candidates[noise.argmax(1)]
        else:
            order = self._by(_Model(step_log_probs, num_elements, batch_size, device), generator, candidates)
        if self.training:
            self.steps_taken += 1
        return order

    def _by(self, model: "_Model", generator: Generator | None, candidates: Tensor | None) -> Tensor:
        """Orders by what the model says."""
        greedy = self.sampler == "greedy"
        if candidates is None and self.sampler == "exact":
            candidates = torch.tensor([*permutations(range(model.elements))], device=model.device)
        if candidates is not None:
            return candidates[_pick(model.scores(candidates), generator, greedy)]
        if self.sampler != "importance":
            return model.written(generator, greedy=greedy)[0]
        tried, worth = (
            torch.stack(each, 1) for each in zip(*(model.written(generator) for _ in range(_TRIED)), strict=True)
        )
        kept = _pick(worth, generator)
        return tried.gather(1, kept[:, None, None].expand(-1, 1, model.elements))[:, 0]


class _Model:
    """What is asked of the model, once it is known for log-probabilities of each element of each set."""

    def __init__(self, step_log_probs: StepLogProbs, elements: int, rows: int, device: torch.device) -> None:
        self.step_log_probs, self.elements, self.rows, self.device = step_log_probs, elements, rows, device

    def next(self, prefix: Tensor, *, may_end: bool = False) -> tuple[Tensor, Tensor]:
        """Log-probabilities after a prefix, and the same with -inf at elements that have been.

        After a prefix that cannot be, which `may_end`, there may be nothing left.
        """
        found = self.step_log_probs(prefix)
        shape = self.rows, self.elements
        found = self._floating(found, "step_log_probs", shape, f"after {prefix.shape[1]} elements", "element")
        left = found.scatter(1, prefix.to(found.device), -math.inf)
        if readable(found):
            self._check(found.detach(), left.detach(), prefix.shape[1], may_end)
        return found, left

    def written(self, generator: Generator | None, *, greedy: bool = False) -> tuple[Tensor, Tensor]:
        """From left to right, each element among those that are left; and of that order log p less log q."""
        order, log_left = torch.zeros(self.rows, 0, dtype=torch.long, device=self.device), []
        for _ in range(self.elements):
            left = self.next(order)[1]
            log_left.append(left.logsumexp(1))
            order = torch.cat([order, _pick(left, generator, greedy)[:, None].to(self.device)], 1)
        return order, torch.stack(log_left).sum(0)

    def scored(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """Of an order for each set log p, and how much of it is lost to elements that have been: log p less log q."""
        log_p, log_left = [], []
        for step in range(self.elements):
            said, left = self.next(order[:, :step])
            log_p.append(said.gather(1, order[:, step, None].to(said.device))[:, 0])
            log_left.append(left.logsumexp(1))
        return torch.stack(log_p).sum(0), torch.stack(log_left).sum(0)

    def scores(self, orders: Tensor) -> Tensor:
        """Log p of each of some orders, for each set: `(B, m)`; what they begin with alike is asked once."""
        at_once = getattr(self.step_log_probs, "of_orders", None)
        found = self._step_by_step(orders) if at_once is None else self._whole(at_once(orders), len(orders))
        if readable(found) and bool((lost := (found == -math.inf).all(1)).any()):
            raise ValueError(
                f"row {int(lost.nonzero()[0])}: step_log_probs gives none of the orders any probability; look at what "
                "is masked there"
            )
        return found

    def _whole(self, found: Any, orders: int) -> Tensor:
        """What the model says of whole orders, checked."""
        of = "step_log_probs.of_orders"
        found = self._floating(found, of, (self.rows, orders), f"of {orders} orders", "order")
        wrong = found.isnan() | (found > self.elements * _ROUNDING)
        if readable(found) and wrong.any():
            row, at = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"row {row}: {of} gives {float(found[row, at]):g} for order {at}; give log-probabilities, at most 0"
            )
        return found

    def _step_by_step(self, orders: Tensor) -> Tensor:
        found = torch.zeros((), device=self.device)
        for step in range(self.elements):
            prefixes, which = orders[:1, :0], orders.new_zeros(len(orders))
            if step:
                prefixes, which = orders[:, :step].unique(dim=0, return_inverse=True)
            said = torch.stack([self.next(one.expand(self.rows, step), may_end=True)[0] for one in prefixes], 1)
            found = found + said[:, which.to(said.device), orders[:, step].to(said.device)]
        return found

    @staticmethod
    def _floating(found: Any, name: str, shape: tuple[int, int], when: str, each: str) -> Tensor:
        """What the model gave: log-probabilities of that shape, in float32 at least."""
        if not isinstance(found, Tensor) or not found.is_floating_point():
            got = found.dtype if isinstance(found, Tensor) else type(found).__name__
            raise TypeError(f"{name} must give a floating point tensor, got {got}")
        if found.shape != shape:
            raise ValueError(
                f"{name} gives shape {tuple(found.shape)} {when}; {shape} is needed, a log-probability for each {each} "
                "of each set"
            )
        return found.float() if found.dtype in (torch.float16, torch.bfloat16) else found

    def _check(self, found: Tensor, left: Tensor, step: int, may_end: bool) -> None:
        wrong = found.isnan() | (found > _ROUNDING)
        if wrong.any():
            row, at = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"row {row}: step_log_probs gives {float(found[row, at]):g} for element {at} after {step} elements; "
                "give log-probabilities, at most 0 (log_softmax)"
            )
        if not may_end and (gone := (left == -math.inf).all(1)).any():
            raise ValueError(
                f"row {int(gone.nonzero()[0])}: step_log_probs gives no element that is left after {step} any "
                "probability; leave each some"
            )


def _check_orders(candidates: Tensor, elements: int) -> None:
    integer("candidates", candidates, "hold numbers of elements")
    shaped("candidates", candidates, "orders, elements", "give each order in a row")
    if not len(candidates):
        raise ValueError("candidates has no order; give some, or None for all")
    if candidates.shape[1] != elements:
        raise ValueError(f"candidates have {candidates.shape[1]} elements each, the sets have {elements}")
    if not readable(candidates):
        return
    wrong = (candidates.sort(1).values != torch.arange(elements, device=candidates.device)).any(1)
    if wrong.any():
        at = int(wrong.nonzero()[0])
        raise ValueError(
            f"candidates[{at}] is {candidates[at].tolist()}, which is no order of {elements} elements; give each of 0 "
            f"to {elements - 1} once"
        )
    kinds, times = candidates.unique(dim=0, return_counts=True)
    if (times > 1).any():
        raise ValueError(f"candidates: {kinds[times > 1][0].tolist()} is there more than once; give each order once")


def _noise(shape: tuple[int, int], generator: Generator | None, device: torch.device) -> Tensor:
    """Uniform numbers, drawn where the generator is."""
    return torch.rand(shape, generator=generator, device=generator.device if generator else device).to(device)


def _pick(log_weights: Tensor, generator: Generator | None, greedy: bool = False) -> Tensor:
    """Of each row one, in proportion to its weight (the largest after Gumbel noise), or the heaviest."""
    if greedy:
        return log_weights.argmax(1)
    noise = _noise((log_weights.shape[0], log_weights.shape[1]), generator, log_weights.device)
    tiny = torch.finfo(noise.dtype).tiny
    return (log_weights - (-noise.clamp(min=tiny).log()).log()).argmax(1)


def _entropy(order: Tensor) -> Tensor:
    """Of which element comes at each step over the rows of a batch, nats, a mean over the steps."""
    share = torch.nn.functional.one_hot(order, order.shape[1]).float().mean(0)
    return torch.special.entr(share).sum(1).mean()
