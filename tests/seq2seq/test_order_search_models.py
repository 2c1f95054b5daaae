"""The search for an order on models that are known: two elements by hand, stars by their tables, a writer of sets."""

import math
from itertools import permutations
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Generator, Tensor, nn
from torch.testing import assert_close

from kilter.data.star_models import Star
from kilter.models.set_writer import SetWriter
from kilter.seq2seq import OrderSearch

DRAWS = 6000
FIRST, AFTER = (0.6, 0.3), ((0.5, 0.2), (0.9, 0.1))
"""Of two elements: how likely each comes first, and what is said after each; the rest goes to nothing that is there."""


def two(prefix: Tensor) -> Tensor:
    if not prefix.shape[1]:
        return torch.tensor(FIRST).log().expand(len(prefix), 2)
    return torch.tensor(AFTER).log()[prefix[:, 0]]


def even(prefix: Tensor) -> Tensor:
    return torch.full((len(prefix), 3), 1 / 3).log()


def not_2_first(prefix: Tensor) -> Tensor:
    """Element 2 never comes first, and after it as the first nothing is said to come."""
    found = torch.full((len(prefix), 3), -math.inf).index_fill(1, torch.tensor([0, 1]), math.log(0.5))
    if prefix.shape[1]:
        found = torch.full((len(prefix), 3), math.log(0.5)).scatter(1, prefix, -math.inf)
        found = found.masked_fill(prefix[:, :1] == 2, -math.inf)
    return found


class TestByHand:
    def test_importance_draws_by_its_own_law(self) -> None:
        """Of 8 orders from left to right, k are the first of two: it is kept by k times its weight."""
        p = FIRST[0] * AFTER[0][1], FIRST[1] * AFTER[1][0]
        q = FIRST[0] / sum(FIRST)
        weight = p[0] / q, p[1] / (1 - q)
        share = sum(
            math.comb(8, k) * q**k * (1 - q) ** (8 - k) * weight[0] * k / (weight[0] * k + weight[1] * (8 - k))
            for k in range(9)
        )
        found = OrderSearch(sampler="importance", warmup_steps=0).draw(two, 2, 4 * DRAWS, Generator().manual_seed(0))
        first = int((found[:, 0] == 0).sum())
        expected = [4 * DRAWS * share, 4 * DRAWS * (1 - share)]
        assert chisquare([first, 4 * DRAWS - first], expected).pvalue > 1e-3
        exact = p[0] / sum(p)
        assert abs(share - exact) < 0.25 * abs(q - exact), "nearer to p than what it draws from"

    @pytest.mark.parametrize(
        ("sampler", "calls"), [("ancestral", 3), ("greedy", 3), ("importance", 24), ("uniform", 0)]
    )
    def test_how_often_the_model_is_asked(self, sampler: str, calls: int) -> None:
        asked = []

        def counted(prefix: Tensor) -> Tensor:
            asked.append(prefix)
            return even(prefix)

        OrderSearch(sampler=sampler, warmup_steps=0).draw(counted, 3, 2)  # type: ignore[arg-type]
        assert len(asked) == calls

    @pytest.mark.parametrize("sampler", ["exact", "ancestral", "importance", "greedy"])
    def test_what_cannot_be_is_not_drawn(self, sampler: str) -> None:
        search = OrderSearch(sampler=sampler, warmup_steps=0)  # type: ignore[arg-type]
        found = search.draw(not_2_first, 3, 400, Generator().manual_seed(0))
        assert (found[:, 0] != 2).all()
        assert len(found.unique(dim=0)) == (1 if sampler == "greedy" else 4)

    @pytest.mark.parametrize("kind", [torch.int32, torch.int16])
    @pytest.mark.parametrize("sampler", ["exact", "uniform", "greedy"])
    def test_candidates_are_any_integers(self, kind: torch.dtype, sampler: str) -> None:
        orders, search = torch.tensor([[0, 1, 2], [2, 1, 0]]), OrderSearch(sampler=sampler)  # type: ignore[arg-type]
        expected = search.eval()(even, 3, 5, Generator().manual_seed(0), orders)
        assert_close(search(even, 3, 5, Generator().manual_seed(0), orders.to(kind)).loss, expected.loss)
        assert search.draw(even, 3, 5, candidates=orders.to(kind)).dtype == torch.long

    def test_a_draw_that_fails_is_not_counted(self) -> None:
        search = OrderSearch(warmup_steps=0)
        with pytest.raises(ValueError, match="step_log_probs gives shape"):
            search.draw(lambda prefix: torch.zeros(len(prefix), 2), 3, 2)
        assert int(search.steps_taken) == 0

    def test_a_generator_leaves_the_global_stream_alone(self) -> None:
        before = torch.get_rng_state()
        for sampler in ("ancestral", "exact", "importance", "uniform", "greedy"):
            OrderSearch(sampler=sampler, warmup_steps=0).draw(even, 3, 4, Generator().manual_seed(1))
        assert torch.equal(torch.get_rng_state(), before)


class TestStar:
    star = Star.drawn(4, 3, 1.5, Generator().manual_seed(0))

    def step_log_probs(self, value: Tensor, prefix: Tensor) -> Tensor:
        """Any place that is left is as likely; its symbol is by the true tables."""
        found = torch.full((*prefix.shape[:1], 4), -math.inf, dtype=torch.float64)
        for row, begun in enumerate(prefix.tolist()):
            for place in {*range(4)} - {*begun}:
                order = [*begun, place, *({*range(4)} - {*begun, place})]
                said = self.star.log_probs_in(value[None], order)[0, len(begun)]
                found[row, place] = said - math.log(4 - len(begun))
        return found

    def test_8_the_true_tables_prefer_no_order(self) -> None:
        """Whatever is drawn, the loss is that of the set and of a choice among all orders: there is none to find."""
        value = torch.tensor([2, 0, 1, 1])
        for sampler in ("exact", "ancestral", "greedy", "uniform"):
            search = OrderSearch(sampler=sampler, warmup_steps=0)
            out = search(lambda prefix: self.step_log_probs(value, prefix), 4, 2, Generator().manual_seed(0))
            expected = self.star.nats(value[None]).double()[0] + math.log(24)
            assert_close(out.loss, expected, rtol=0, atol=1e-5)


class TestWriter:
    def test_the_loss_is_the_writers_and_its_orders_are_drawn_by_it(self) -> None:
        torch.manual_seed(0)
        model = SetWriter(3, 4, 6).eval()
        with torch.no_grad():
            for one in model.parameters():
                one *= 3
        values, orders = torch.tensor([[0, 3, 1]]), [*permutations(range(3))]
        rows = values.expand(DRAWS, -1)
        search = OrderSearch(sampler="exact", warmup_steps=0)
        drawn = search.draw(model.step_log_probs(rows), 3, DRAWS, Generator().manual_seed(0))
        with torch.no_grad():
            share = sum(model(values.expand(6, -1), torch.tensor(orders))).sum(1).softmax(0)  # type: ignore[union-attr]
        seen = [int((drawn == torch.tensor(order)).all(1).sum()) for order in orders]
        assert chisquare(seen, (DRAWS * share.double() / share.double().sum()).tolist()).pvalue > 1e-3
        out = search(model.step_log_probs(rows[:9]), 3, 9, Generator().manual_seed(1))
        same = search.draw(model.step_log_probs(rows[:9]), 3, 9, Generator().manual_seed(1))
        assert_close(out.loss, -sum(model(rows[:9], same)).sum(1).mean())  # type: ignore[union-attr]

    def test_whole_orders_are_scored_at_once_and_drawn_as_step_by_step(self) -> None:
        torch.manual_seed(0)
        model, values = SetWriter(4, 5, 6).double().eval(), torch.randint(5, (50, 4))
        said, asked = model.step_log_probs(values), []

        class Counted:
            def __call__(self, prefix: Tensor) -> Tensor:
                asked.append(prefix)
                return said(prefix)

            def of_orders(self, orders: Tensor) -> Tensor:
                return said.of_orders(orders)

        some = torch.tensor([[3, 1, 0, 2], [0, 1, 2, 3], [3, 1, 2, 0]])
        for candidates in (None, some):
            search = OrderSearch(sampler="exact", warmup_steps=0)
            found = search.draw(Counted(), 4, 50, Generator().manual_seed(0), candidates)
            assert not asked
            steps = search.draw(lambda prefix: said(prefix), 4, 50, Generator().manual_seed(0), candidates)
            assert torch.equal(found, steps)

    def test_orders_are_drawn_without_dropout_and_learnt_with_it(self) -> None:
        torch.manual_seed(0)
        model, values = SetWriter(4, 5, 32, dropout=0.5).train(), torch.randint(5, (50, 4))
        orders = torch.tensor([*permutations(range(4))])
        said = model.step_log_probs(values)
        with torch.no_grad():
            assert torch.equal(said.of_orders(orders), said.of_orders(orders))
            assert torch.equal(said(orders[:1, :2].expand(50, -1)), said(orders[:1, :2].expand(50, -1)))
        assert not torch.equal(said(orders[:1, :2].expand(50, -1)), said(orders[:1, :2].expand(50, -1)))

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            (torch.zeros(2, 5), ValueError, r"of_orders gives shape \(2, 5\) of 6 orders; \(2, 6\) is needed"),
            (torch.zeros(2, 6).long(), TypeError, "of_orders must give a floating point tensor, got torch.int64"),
            (torch.full((2, 6), math.nan), ValueError, "row 0: .*of_orders gives nan for order 0"),
            (torch.eye(2, 6), ValueError, "row 0: .*of_orders gives 1 for order 0"),
            (torch.zeros(2, 6).log(), ValueError, "row 0: .*none of the orders any probability"),
        ],
    )
    def test_whole_orders_of_no_use(self, given: Tensor, error: type[Exception], message: str) -> None:
        class Whole:
            def __call__(self, prefix: Tensor) -> Tensor:
                return even(prefix)

            def of_orders(self, orders: Tensor) -> Tensor:
                return given

        with pytest.raises(error, match=message):
            OrderSearch(sampler="exact", warmup_steps=0).draw(Whole(), 3, 2)


class Told(nn.Module):
    """A model of four elements: what comes next hangs on which have been."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.said = nn.Linear(4, 4)

    def forward(self, prefix: Tensor) -> Tensor:
        return self.said(torch.zeros(len(prefix), 4).scatter(1, prefix, 1.0)).log_softmax(1)


@pytest.mark.compile
class TestCompiled:
    @pytest.mark.parametrize("sampler", ["ancestral", "greedy", "uniform", "importance"])
    def test_without_a_count_it_is_one_graph(self, sampler: Any) -> None:
        torch.compiler.reset()
        model, search = Told(), OrderSearch(sampler=sampler).eval()
        compiled = torch.compile(search, backend="aot_eager", fullgraph=True)
        losses, grads = [], []
        for one in (search, compiled):
            torch.manual_seed(1)
            out = one(model, 4, 8)
            losses.append(out.loss)
            grads.append(torch.autograd.grad(out.loss, [*model.parameters()]))
        assert_close(losses[1], losses[0])
        assert_close(grads[1], grads[0])

    @pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch asks it of what crosses a graph break
    @pytest.mark.parametrize("sampler", ["ancestral", "exact"])
    @pytest.mark.parametrize("candidates", [None, torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])])
    def test_in_train_mode_it_counts_and_draws_the_same(self, sampler: Any, candidates: Tensor | None) -> None:
        torch.compiler.reset()
        model, (plain, search) = Told(), (OrderSearch(sampler=sampler, warmup_steps=1) for _ in range(2))
        compiled = torch.compile(search, backend="aot_eager")
        for seed in range(3):
            expected, found = (
                one(model, 4, 8, generator=Generator().manual_seed(seed), candidates=candidates)
                for one in (plain, compiled)
            )
            assert_close(found.loss, expected.loss)
        assert int(search.steps_taken) == 3
