"""Stars: random variables of which all hang on one, the head, with the true tables that a model has to learn.

Source: Vinyals, Bengio, Kudlur, "Order Matters", ICLR 2016, section 5.1, which draws them too. How tables are drawn
is not said there; here they are softmaxes of normal numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilter.core.options import positive, whole

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Star:
    r"""The head's probabilities, and of every other variable those that each symbol of the head gives it.

    $$p(x) = p(x_0) \prod_{i > 0} p(x_i \mid x_0)$$

    Place 0 is the head. By the chain rule the entropy of a set is the same in every order in which its variables are
    written; a model that learns one order better than another does so because its tables are simpler.

    Attributes:
        head: `(symbols,)`, sums to 1.
        others: `(variables - 1, symbols, symbols)`, of each variable a row for each symbol of the head, that sums to 1.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> star = Star.drawn(4, 3, 2.0, generator)
        >>> values = star.draw(5, generator)
        >>> values.shape
        torch.Size([5, 4])
        >>> forwards, backwards = (star.log_probs_in(values, order).sum(1) for order in ([0, 1, 2, 3], [3, 2, 1, 0]))
        >>> bool(torch.allclose(forwards, backwards)), bool(torch.allclose(-forwards.float(), star.nats(values)))
        (True, True)
    """

    head: "Float[Tensor, ' symbols']"
    others: "Float[Tensor, 'others symbols symbols']"

    @classmethod
    def drawn(cls, variables: int, symbols: int, peak: float, generator: "Generator | None" = None) -> "Star":
        """Softmaxes of normal numbers times `peak`: the higher, the surer is one symbol.

        Raises:
            TypeError, ValueError: fewer than two variables or symbols, or a peak that is not above 0 and finite.
        """
        import torch

        whole("variables", variables, 2)
        whole("symbols", symbols, 2)
        positive("peak", peak)
        head, others = (
            (peak * torch.randn(*shape, generator=generator)).softmax(-1)
            for shape in ((symbols,), (variables - 1, symbols, symbols))
        )
        return cls(head, others)

    def draw(self, count: int, generator: "Generator | None" = None) -> "Int[Tensor, 'count variables']":
        """Sets of symbols, by the probabilities of the star.

        Raises:
            TypeError, ValueError: a count that is not whole, or below 1.
        """
        import torch

        whole("count", count, 1)
        head = torch.multinomial(self.head, count, replacement=True, generator=generator)
        given = self.others[:, head].flatten(0, 1)
        others = torch.multinomial(given, 1, generator=generator).view(-1, count).T
        return torch.cat([head[:, None], others], 1)

    def nats(self, values: "Int[Tensor, 'sets variables']") -> "Float[Tensor, ' sets']":
        """Minus the log-probability of each set.

        Raises:
            TypeError, ValueError: values that are no symbols of these variables.
        """
        import torch

        self._check(values)
        head, others = values[:, 0], values[:, 1:]
        places = torch.arange(len(self.others))
        return -self.head[head].log() - self.others[places, head[:, None], others].log().sum(1)

    def entropy(self) -> "Float[Tensor, '']":
        r"""$H(x_0) + \sum_{i > 0} H(x_i \mid x_0)$, nats of a set in whatever order, without sampling, in float64."""
        import torch

        head, others = self.head.double(), self.others.double()
        return torch.special.entr(head).sum() + (head * torch.special.entr(others).sum((0, 2))).sum()

    def log_probs_in(
        self, values: "Int[Tensor, 'sets variables']", order: Sequence[int]
    ) -> "Float[Tensor, 'sets variables']":
        """The true log-probability, float64, of each variable given those written before it, in the order given.

        What is known of the head is carried from step to step, so that a step costs its symbols and not all sets.

        Args:
            values: symbols of the sets, by place.
            order: places in the order in which they are written.

        Raises:
            TypeError, ValueError: values that are no symbols of these variables, or an order that has not each place
                once.
        """
        import torch

        self._check(values)
        if sorted(order) != [*range(places := 1 + len(self.others))]:
            raise ValueError(f"order is {[*order]}, which is no order of {places} variables; give each place once")
        joint = self.head.double().log().expand(len(values), -1)  # of each symbol of the head with what is written
        symbols, before, found = torch.arange(len(self.head)), torch.zeros(len(values)).double(), []
        for place in order:
            if place:
                joint = joint + self.others[place - 1].double().log()[:, values[:, place]].T
            else:
                joint = joint.masked_fill(symbols != values[:, :1], -torch.inf)
            after = joint.logsumexp(1)
            found.append(after - before)
            before = after
        return torch.stack(found, 1)

    def _check(self, values: "Tensor") -> None:
        from kilter.core.checks import integer, shaped, within

        integer("values", values, "hold symbols")
        shaped("values", values, "sets, variables", "give each set in a row")
        if values.shape[1] != 1 + len(self.others):
            raise ValueError(
                f"values has {values.shape[1]} variables and the star {1 + len(self.others)}; give each one"
            )
        symbols = len(self.head)
        within("values", values, 0, symbols - 1, f"but a variable has symbols 0 to {symbols - 1}", row="row")
