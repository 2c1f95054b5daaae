"""Which example comes next: a sampler that draws a domain by weights which may change at any time, then an example.

For dynamic gradient alignment (Fan, Grangier & Ablin, arXiv 2410.02498); within a domain without replacement, where the
paper draws uniformly, so that no text comes twice before all came once.
"""

import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.utils.data import Sampler

from kilter.core.checks import floating, shaped, whole


class DomainMixture(Sampler[int]):
    r"""Indices into the concatenation of k data sets, each of a domain that is drawn by weights.

    $$i \sim \alpha, \qquad x \sim D_i$$

    A domain is drawn at the moment its index is asked for, so that new weights count from the next index on. What a
    loader has asked for already keeps the old ones: with workers `num_workers · prefetch_factor` batches, and one more
    under accelerate, which looks one batch ahead.

    Within a domain examples come in a random order, each once before any comes again (`epochs` counts the passes, a
    domain of one example gives it each time). One iteration has as many indices as there are examples; the next goes on
    with the passes. Every process of a distributed run must draw the same, from a generator of the same seed.

    With `bases` the weights are those of distributions over the domains, for more domains than can be told apart:

    $$j \sim w, \qquad i \sim p_j, \qquad x \sim D_i$$

    Args:
        sizes: examples of each domain, in the order of the concatenation.
        weights: α, of each domain (with `bases` w, of each basis); scaled to sum to 1. None is equal weights.
        bases: p, each row a distribution over domains, scaled to sum to 1.
        generator: of the draws; None makes one, seeded from torch's global stream.

    Attributes:
        counts: examples drawn of each domain, since the mixture was made.

    Raises:
        TypeError, ValueError: no domains or an empty one, weights or bases that are negative, not finite or all zero,
            or of another number.

    Example:
        >>> mixture = DomainMixture([3, 5], weights=[0.0, 1.0], generator=torch.Generator().manual_seed(0))
        >>> drawn = list(mixture)
        >>> sorted(drawn[:5]), len(drawn), mixture.epochs  # the second domain's examples are 3 to 7
        ([3, 4, 5, 6, 7], 8, [0.0, 1.6])
        >>> mixture.weights = [1.0, 1.0]
        >>> mixture.weights
        tensor([0.5000, 0.5000])
        >>> mixture
        DomainMixture(sizes=[3, 5], weights=[0.5, 0.5])

    Reference: Fan, Grangier & Ablin, 2024; `bases` are its distribution reweighting.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        weights: Sequence[float] | Float[Tensor, " domains"] | None = None,
        bases: Sequence[Sequence[float]] | Float[Tensor, "bases domains"] | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.sizes = _sizes(sizes)
        self.bases = None if bases is None else _bases(bases, len(self.sizes))
        if generator is not None and not isinstance(generator, Generator):
            raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
        self.generator = generator or Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        self.counts = [0] * len(self.sizes)
        self.epoch = 0
        self._offsets = [0, *accumulate(self.sizes)]
        self._by_basis = [[*accumulate(row)] for row in self.bases or []]
        self._seed = int(torch.randint(2**62, (), generator=self.generator, device=self.generator.device))
        self._orders: dict[int, tuple[int, Tensor]] = {}
        self._going_on = False
        self._pending: list[tuple[int, list[float]]] = []
        self._weights = self._equal()
        self._open()
        self.weights = self._weights if weights is None else weights

    @property
    def weights(self) -> Float[Tensor, " domains"]:
        """Of each domain, or with `bases` of each basis: how likely it is the next; sums to 1."""
        return torch.tensor(self._weights)

    @weights.setter
    def weights(self, weights: Sequence[float] | Float[Tensor, " domains"]) -> None:
        found = _distribution("weights", weights)
        if len(found) != (wanted := len(self._equal())):
            what = "bases" if self.bases else "domains"
            raise ValueError(f"weights are {len(found)}, and there are {wanted} {what}; give one each")
        self._weights, self._pending = found, []
        self._cumulative = [*accumulate(found)]
        self._changes.append((self._done, found))

    @property
    def domain_weights(self) -> Float[Tensor, " domains"]:
        """Of each domain, also with `bases`: how likely it is the next."""
        return self.weights if self.bases is None else self.weights @ torch.tensor(self.bases)

    @property
    def epochs(self) -> list[float]:
        """How often each domain was passed through so far."""
        return [count / size for count, size in zip(self.counts, self.sizes, strict=True)]

    def __repr__(self) -> str:
        bases = "" if self.bases is None else f", bases={len(self.bases)}"
        return f"DomainMixture(sizes=[{_shown(self.sizes)}], weights=[{_shown(self._weights)}]{bases})"

    def _equal(self) -> list[float]:
        return [1.0] * len(self.sizes if self.bases is None else self.bases)

    def __len__(self) -> int:
        return self._offsets[-1]

    def __iter__(self) -> Iterator[int]:
        if not self._going_on or self._done == len(self):
            self._open()
        self._going_on = False
        while self._done < len(self):
            yield self._draw()

    def _open(self) -> None:
        """Begin an iteration; what it begins with is kept, so that its draws can be drawn again."""
        self._done = 0
        self._pending = []
        self._cumulative = [*accumulate(self._weights)]
        self._changes = [(0, self._weights)]
        self._start = {"counts": [*self.counts], "generator": read_generator(self.generator)}

    def _draw(self) -> int:
        while self._pending and self._pending[0][0] <= self._done:
            self._cumulative = [*accumulate(self._pending.pop(0)[1])]
        domain = self._pick(self._cumulative)
        if self.bases is not None:
            domain = self._pick(self._by_basis[domain])
        turn, place = divmod(self.counts[domain], self.sizes[domain])
        self.counts[domain] += 1
        self._done += 1
        return self._offsets[domain] + int(self._order(domain, turn)[place])

    def _pick(self, cumulative: list[float]) -> int:
        """A number by its weight; one without weight is never picked."""
        drawn = torch.rand((), generator=self.generator, dtype=torch.float64, device=self.generator.device)
        return bisect_right(cumulative, float(drawn) * cumulative[-1])

    def _order(self, domain: int, turn: int) -> Tensor:
        """In which a domain's examples come this time."""
        if self._orders.get(domain, (-1,))[0] != turn:
            seed = random.Random(f"{self._seed} {domain} {turn}").getrandbits(62)
            self._orders[domain] = turn, torch.randperm(self.sizes[domain], generator=Generator().manual_seed(seed))
        return self._orders[domain][1]

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch; a trainer calls it. The one that a loaded state was in goes on."""
        whole("epoch", epoch, 0)
        if epoch != self.epoch:
            self.epoch, self._going_on = epoch, False

    def replay(self) -> None:
        """Go back to where this iteration began and draw the same again, with all weights that it had since.

        For a trainer that, resumed, passes over the batches it has seen. What a loader had asked for ahead is drawn
        again too, with the weights of then.
        """
        self.counts = [*self._start["counts"]]
        write_generator(self.generator, self._start["generator"])
        self._done, self._pending, self._going_on = 0, [*self._changes], True

    def state_dict(self) -> dict[str, Any]:
        """All that the next draws depend on, as JSON can hold it."""
        return {
            "sizes": [*self.sizes],
            "bases": len(self.bases or ()),
            "seed": self._seed,
            "epoch": self.epoch,
            "done": self._done,
            "counts": [*self.counts],
            "generator": read_generator(self.generator),
            "weights": [*self._weights],
            "start": {"counts": [*self._start["counts"]], "generator": self._start["generator"]},
            "changes": [[done, [*weights]] for done, weights in self._changes],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there with the same draws: the next iteration gives what is left of the one it was in.

        Raises:
            ValueError: a state of other domains.
        """
        if [*state["sizes"]] != self.sizes or len(state["weights"]) != len(self._weights):
            raise ValueError(
                f"state is of domains of {_shown(state['sizes'])} examples, and these have {_shown(self.sizes)}; go on "
                "with the data that the run began with"
            )
        if state["bases"] != len(self.bases or ()):
            raise ValueError(
                f"state is of a mixture with {state['bases']} bases, and this has {len(self.bases or ())}; go on with "
                "the bases that the run began with"
            )
        self._seed, self.epoch, self._orders = state["seed"], state["epoch"], {}
        self.counts = [*state["counts"]]
        write_generator(self.generator, state["generator"])
        self._weights, self._pending = [*state["weights"]], []
        self._cumulative = [*accumulate(self._weights)]
        self._done, self._going_on = state["done"], True
        self._start = {name: state["start"][name] for name in ("counts", "generator")}
        self._changes = [(done, [*weights]) for done, weights in state["changes"]]


def _shown(numbers: Sequence[int] | Sequence[float]) -> str:
    """The first of some numbers."""
    first = (f"{number:.3g}" if isinstance(number, float) else str(number) for number in numbers[:8])
    return ", ".join(first) + ", …" * (len(numbers) > 8)


def read_generator(generator: Generator) -> str:
    """The state of a generator as JSON can hold it."""
    return bytes(generator.get_state().tolist()).hex()


def write_generator(generator: Generator, kept: str) -> None:
    """Bring a generator to a state that was read."""
    generator.set_state(torch.tensor([*bytes.fromhex(kept)], dtype=torch.uint8))


# What is given -------------------------------------------------------------------------------------------------------


def _sizes(sizes: Sequence[int]) -> list[int]:
    if isinstance(sizes, Tensor):
        sizes = sizes.tolist()
    if isinstance(sizes, str) or not isinstance(sizes, Sequence):
        raise TypeError(f"sizes must be a list of whole numbers, got {type(sizes).__name__}; give [len(each), …]")
    for number, size in enumerate(sizes):
        whole(f"sizes[{number}]", size)
        if size < 1:
            raise ValueError(f"sizes[{number}] is {size}: domain {number} is empty; leave it out")
    if not sizes:
        raise ValueError("sizes are none; give the number of examples of each domain")
    return [*map(int, sizes)]


def _distribution(name: str, weights: Any) -> list[float]:
    """Weights as numbers that sum to 1."""
    if isinstance(weights, Tensor):
        floating(name, weights)
        shaped(name, weights, "domains", "give one number each")
        weights = weights.detach().double().cpu().tolist()
    if isinstance(weights, str) or not isinstance(weights, Sequence):
        raise TypeError(f"{name} must be a list of numbers or a tensor, got {type(weights).__name__}")
    for number, weight in enumerate(weights):
        if isinstance(weight, bool) or not isinstance(weight, Real):
            raise TypeError(f"{name}[{number}] must be a number, got {weight!r}")
        if not 0 <= float(weight) < float("inf"):
            raise ValueError(f"{name}[{number}] must be at least 0 and finite, got {weight}")
    weights = [*map(float, weights)]
    if not (total := sum(weights)):
        raise ValueError(f"{name} are all 0; give one domain at least a weight above 0")
    if total == float("inf"):
        raise ValueError(f"{name} are so large that their sum is infinite; divide them by the largest")
    return [weight / total for weight in weights]


def _bases(bases: Any, domains: int) -> list[list[float]]:
    if isinstance(bases, str) or not isinstance(bases, Sequence | Tensor) or not len(bases):
        raise ValueError("bases must be a list of distributions over the domains, or a tensor (bases, domains)")
    rows = [_distribution(f"bases[{number}]", row) for number, row in enumerate(bases)]
    for number, row in enumerate(rows):
        if len(row) != domains:
            raise ValueError(f"bases[{number}] has {len(row)} numbers, and there are {domains} domains; give one each")
    return rows
