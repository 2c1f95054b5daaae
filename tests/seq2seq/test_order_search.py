"""The search for an order: how often each is drawn against p of a table, what is taught, and bad input."""

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Generator, Tensor, nn
from torch.testing import assert_close

from kilter.seq2seq import OrderSearch

ARGUMENTS = {
    "num_elements": lambda: 3,
    "step_log_probs": lambda: even,
    "candidates": lambda: torch.tensor([[0, 1, 2], [2, 1, 0]]),
}
ORDERS = [*permutations(range(3))]
DRAWS = 6000


def even(prefix: Tensor) -> Tensor:
    return torch.full((len(prefix), 3), 1 / 3).log()


class Table(nn.Module):
    """A model of three elements that is a table: logits of what comes next, by all that came before."""

    def __init__(self, elements: int = 3, seed: int = 0, *, masked: bool = False) -> None:
        super().__init__()
        self.elements, self.masked = elements, masked
        begun = [order for length in range(elements) for order in permutations(range(elements), length)]
        self.place = {prefix: number for number, prefix in enumerate(begun)}
        drawn = torch.randn(len(begun), elements, generator=Generator().manual_seed(seed), dtype=torch.float64)
        self.logits = nn.Parameter(drawn)

    def forward(self, prefix: Tensor) -> Tensor:
        logits = self.logits[[self.place[tuple(row)] for row in prefix.tolist()]]
        return (logits.scatter(1, prefix, -math.inf) if self.masked else logits).log_softmax(1)

    def log_p(self, order: tuple[int, ...]) -> Tensor:
        said = [
            self(torch.tensor([order[:at]], dtype=torch.long).reshape(1, at))[0, one] for at, one in enumerate(order)
        ]
        return torch.stack(said).sum()

    def log_q(self, order: tuple[int, ...]) -> Tensor:
        """How likely it is drawn from left to right."""
        total = torch.zeros((), dtype=torch.float64)
        for at, one in enumerate(order):
            said = self(torch.tensor([order[:at]], dtype=torch.long).reshape(1, at))[0]
            left = [number for number in range(self.elements) if number not in order[:at]]
            total = total + said[one] - said[left].logsumexp(0)
        return total


def p_of(table: Table, order: tuple[int, ...]) -> float:
    return float(table.log_p(order).detach().exp())


def drawn(search: OrderSearch, table: Table, seed: int = 0, rows: int = DRAWS, **how: Any) -> list[tuple[int, ...]]:
    found = search.draw(table, table.elements, rows, Generator().manual_seed(seed), **how)
    assert found.dtype == torch.long
    assert not found.requires_grad
    return [tuple(order) for order in found.tolist()]


def agrees(found: list[tuple[int, ...]], share: dict[tuple[int, ...], float]) -> bool:
    """Whether draws fit their shares, by a chi-square test."""
    counted = [found.count(order) for order in share]
    assert sum(counted) == len(found), "no other order was drawn"
    total = sum(share.values())
    return bool(chisquare(counted, [len(found) * one / total for one in share.values()]).pvalue > 1e-3)


@pytest.fixture(scope="module")
def table() -> Table:
    return Table()


class TestHowOftenEachIsDrawn:
    def test_exact_is_the_softmax_of_log_p(self, table: Table) -> None:
        share = {order: p_of(table, order) for order in ORDERS}
        found = drawn(OrderSearch(sampler="exact", warmup_steps=0), table)
        assert agrees(found, share)
        other = {order: float(table.log_q(order).detach().exp()) for order in ORDERS}
        assert not agrees(found, other), "the two are told apart"

    def test_ancestral_is_its_own_q(self, table: Table) -> None:
        found = drawn(OrderSearch(warmup_steps=0), table)
        assert agrees(found, {order: float(table.log_q(order).detach().exp()) for order in ORDERS})

    def test_ancestral_of_a_model_that_repeats_nothing_is_exact(self) -> None:
        table = Table(masked=True)
        found = drawn(OrderSearch(warmup_steps=0), table)
        assert agrees(found, {order: p_of(table, order) for order in ORDERS})

    def test_elements_that_say_nothing_of_each_other_have_no_order_and_ancestral_makes_one(self) -> None:
        """Each place is as likely; the frequent symbol comes first from left to right, by whole orders it does not."""
        symbols = torch.tensor([0.8, 0.15, 0.05], dtype=torch.float64)

        def words(prefix: Tensor) -> Tensor:
            said = (symbols / (3 - prefix.shape[1])).log().expand(len(prefix), 3)
            return said.scatter(1, prefix, -math.inf)

        def first(sampler: Any) -> float:
            search = OrderSearch(sampler=sampler, warmup_steps=0)
            return float((search.draw(words, 3, DRAWS, Generator().manual_seed(0))[:, 0] == 0).double().mean())

        assert first("exact") == pytest.approx(1 / 3, abs=0.03)
        assert first("ancestral") == pytest.approx(0.8, abs=0.03)

    def test_importance_is_nearer_to_p_than_ancestral_is(self, table: Table) -> None:
        p = torch.tensor([float(table.log_p(order).detach()) for order in ORDERS]).softmax(0)

        def apart(sampler: Any) -> float:
            found = drawn(OrderSearch(sampler=sampler, warmup_steps=0), table)
            share = torch.tensor([found.count(order) / len(found) for order in ORDERS])
            return float((share - p).abs().sum())

        assert apart("importance") < 0.5 * apart("ancestral")

    def test_uniform(self, table: Table) -> None:
        assert agrees(drawn(OrderSearch(sampler="uniform"), table), dict.fromkeys(ORDERS, 1.0))

    def test_greedy_takes_the_likeliest_of_those_left(self, table: Table) -> None:
        order: list[int] = []
        for at in range(3):
            said = table(torch.tensor([order], dtype=torch.long).reshape(1, at))[0].detach()
            order.append(max((one for one in range(3) if one not in order), key=lambda one: float(said[one])))
        assert {*drawn(OrderSearch(sampler="greedy", warmup_steps=0), table, rows=5)} == {tuple(order)}

    @pytest.mark.parametrize("sampler", ["ancestral", "exact", "importance"])
    def test_of_candidates_whole_orders_are_scored(self, table: Table, sampler: Any) -> None:
        some = [ORDERS[1], ORDERS[2], ORDERS[5]]
        found = drawn(OrderSearch(sampler=sampler, warmup_steps=0), table, candidates=torch.tensor(some))
        assert agrees(found, {order: p_of(table, order) for order in some})

    def test_uniform_and_greedy_among_candidates(self, table: Table) -> None:
        some = [ORDERS[1], ORDERS[2], ORDERS[5]]
        given = torch.tensor(some)
        assert agrees(drawn(OrderSearch(sampler="uniform"), table, candidates=given), dict.fromkeys(some, 1.0))
        best = max(some, key=lambda order: float(table.log_p(order).detach()))
        assert {*drawn(OrderSearch(sampler="greedy", warmup_steps=0), table, candidates=given, rows=4)} == {best}

    def test_rows_are_drawn_by_what_is_said_of_each(self) -> None:
        tables = [Table(seed=0), Table(seed=1)]

        def both(prefix: Tensor) -> Tensor:
            half = len(prefix) // 2
            return torch.cat([tables[0](prefix[:half]), tables[1](prefix[half:])])

        for sampler in ("exact", "ancestral"):
            search = OrderSearch(sampler=sampler, warmup_steps=0)
            found = [*map(tuple, search.draw(both, 3, 2 * DRAWS, Generator().manual_seed(3)).tolist())]
            for number, one in enumerate(tables):
                of = one.log_p if sampler == "exact" else one.log_q
                part = found[number * DRAWS : (number + 1) * DRAWS]
                assert agrees(part, {order: float(of(order).detach().exp()) for order in ORDERS})


class TestWhatIsTaught:
    def test_loss_is_minus_log_p_of_what_was_drawn_and_not_renormalised(self, table: Table) -> None:
        search = OrderSearch(warmup_steps=0)
        out = search(table, 3, 7, Generator().manual_seed(5))
        same = drawn(search, table, seed=5, rows=7)
        assert_close(out.loss, -torch.stack([table.log_p(order) for order in same]).mean())
        assert_close(out.parts["order"], out.loss)
        left = torch.stack([table.log_p(order) - table.log_q(order) for order in same]).mean()
        assert_close(out.stats["left_mass"], left.detach())

    def test_no_gradient_goes_through_the_draw(self, table: Table) -> None:
        search = OrderSearch(warmup_steps=0)
        (found,) = torch.autograd.grad(search(table, 3, 6, Generator().manual_seed(1)).loss, [table.logits])
        orders = drawn(search, table, seed=1, rows=6)
        (wanted,) = torch.autograd.grad(-torch.stack([table.log_p(one) for one in orders]).mean(), [table.logits])
        assert_close(found, wanted)

    def test_one_element_is_its_likelihood(self) -> None:
        table = Table(elements=1)
        assert_close(
            OrderSearch()(lambda prefix: table(prefix) - 0.5, 1, 3).loss, torch.tensor(0.5, dtype=torch.float64)
        )

    @pytest.mark.parametrize("sampler", ["ancestral", "exact", "greedy", "uniform", "importance"])
    def test_one_candidate_is_teacher_forcing(self, table: Table, sampler: Any) -> None:
        out = OrderSearch(sampler=sampler, warmup_steps=0)(table, 3, 4, candidates=torch.tensor([[2, 0, 1]]))
        assert_close(out.loss, -table.log_p((2, 0, 1)))
        assert out.stats["order_entropy"] == 0

    def test_the_first_draws_are_the_mean_over_orders(self, table: Table) -> None:
        out = OrderSearch(sampler="greedy", warmup_steps=1)(table, 3, DRAWS, Generator().manual_seed(0))
        mean = -torch.stack([table.log_p(order) for order in ORDERS]).mean()
        spread = torch.stack([table.log_p(order) for order in ORDERS]).std()
        assert abs(float((out.loss - mean).detach())) < 4 * float(spread.detach()) / math.sqrt(DRAWS)
        assert_close(out.stats["order_entropy"], torch.tensor(math.log(3)), atol=1e-3, rtol=0)

    def test_first_steps_are_counted_in_a_buffer_and_in_train_mode_only(self, table: Table) -> None:
        search = OrderSearch(sampler="greedy", warmup_steps=2)
        search.eval()
        assert len({*drawn(search, table, rows=50)}) == 1
        assert int(search.steps_taken) == 0
        search.train()
        assert len({*drawn(search, table, rows=50)}) > 1
        search(table, 3, 2)
        assert len({*drawn(search, table, rows=50)}) == 1
        other = OrderSearch(sampler="greedy", warmup_steps=2)
        other.load_state_dict(search.state_dict())
        assert int(other.steps_taken) == 3
        assert len({*drawn(other, table, rows=50)}) == 1

    def test_a_generator_repeats_the_draws(self, table: Table) -> None:
        for sampler in ("ancestral", "exact", "uniform", "importance"):
            search = OrderSearch(sampler=sampler, warmup_steps=0)
            assert drawn(search, table, seed=3, rows=20) == drawn(search, table, seed=3, rows=20)
            assert drawn(search, table, seed=3, rows=20) != drawn(search, table, seed=4, rows=20)

    def test_half_precision_is_summed_in_full(self, table: Table) -> None:
        out = OrderSearch(warmup_steps=0)(lambda prefix: table(prefix).bfloat16(), 3, 4)
        assert out.loss.dtype == torch.float32

    def test_a_row_asks_for_what_begins_alike_once(self, table: Table) -> None:
        asked: list[Tensor] = []

        def counted(prefix: Tensor) -> Tensor:
            asked.append(prefix)
            return table(prefix)

        OrderSearch(sampler="exact", warmup_steps=0).draw(counted, 3, 2)
        assert len(asked) == 1 + 3 + 6
        asked.clear()
        OrderSearch(warmup_steps=0).draw(counted, 3, 2)
        assert [tuple(one.shape) for one in asked] == [(2, 0), (2, 1), (2, 2)]


def bad(change: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    return lambda prefix: change(even(prefix))


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "error", "said"),
        [
            ({"sampler": "ancestrl"}, ValueError, "did you mean 'ancestral'"),
            ({"warmup_steps": -1}, ValueError, "warmup_steps must be at least 0, got -1"),
            ({"warmup_steps": 1.5}, TypeError, "warmup_steps must be a whole number"),
        ],
    )
    def test_options(self, options: dict[str, Any], error: type[Exception], said: str, own_messages: None) -> None:
        with pytest.raises(error, match=said):
            OrderSearch(**options)

    @pytest.mark.parametrize(
        ("candidates", "error", "said"),
        [
            (torch.tensor([[0, 1, 2], [0, 0, 2]]), ValueError, r"candidates\[1\] is \[0, 0, 2\], which is no order"),
            (torch.tensor([[1, 2, 3]]), ValueError, r"give each of 0 to 2 once"),
            (torch.tensor([[0, 1]]), ValueError, "candidates have 2 elements each, the sets have 3"),
            (torch.zeros(0, 3, dtype=torch.long), ValueError, "candidates has no order"),
            (torch.tensor([[0.0, 1.0, 2.0]]), TypeError, "candidates must"),
            (torch.tensor([0, 1, 2]), ValueError, "candidates"),
            (torch.tensor([[0, 1, 2], [0, 1, 2]]), ValueError, r"\[0, 1, 2\] is there more than once"),
        ],
    )
    def test_orders_that_are_none(
        self, candidates: Tensor, error: type[Exception], said: str, own_messages: None
    ) -> None:
        with pytest.raises(error, match=said):
            OrderSearch(warmup_steps=0).draw(even, 3, 2, candidates=candidates)

    @pytest.mark.parametrize("counts", [(0, 2), (3, 0), (3, -1)])
    def test_counts(self, counts: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="must be at least 1"):
            OrderSearch().draw(even, *counts)

    def test_more_elements_than_exact_can_enumerate(self) -> None:
        with pytest.raises(ValueError, match="num_elements=7 has 5,040 orders"):
            OrderSearch(sampler="exact").draw(lambda prefix: torch.zeros(len(prefix), 7) - 2, 7, 2)

    @pytest.mark.parametrize(
        ("model", "error", "said"),
        [
            (bad(lambda said: said[:, :2]), ValueError, r"gives shape \(2, 2\) after 0 elements; \(2, 3\) is needed"),
            (bad(lambda said: said * math.nan), ValueError, "row 0: step_log_probs gives nan for element 0"),
            (bad(lambda said: said.exp() + 1), ValueError, "at most 0"),
            (bad(lambda said: said - math.inf), ValueError, "no element that is left after 0 any probability"),
            (bad(lambda said: said.long()), TypeError, "must give a floating point tensor, got torch.int64"),
            (bad(lambda said: said.tolist()), TypeError, "must give a floating point tensor, got list"),
        ],
    )
    def test_models(self, model: Any, error: type[Exception], said: str, own_messages: None) -> None:
        with pytest.raises(error, match=said):
            OrderSearch(warmup_steps=0).draw(model, 3, 2)

    def test_an_order_that_cannot_be(self) -> None:
        never = torch.tensor([0.0, -math.inf, 0.0])
        with pytest.raises(ValueError, match=r"row 0: step_log_probs gives order \[0, 1, 2\] no probability"):
            OrderSearch(sampler="uniform")(bad(lambda said: said + never), 3, 1, candidates=torch.tensor([[0, 1, 2]]))
        with pytest.raises(ValueError, match="row 0: step_log_probs gives none of the orders any probability"):
            OrderSearch(warmup_steps=0)(bad(lambda said: said + never), 3, 1, candidates=torch.tensor([[0, 1, 2]]))
