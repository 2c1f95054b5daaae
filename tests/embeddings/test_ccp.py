"""Context prediction against plain loops and sentence-transformers' loss; bank, turns and statistics step by step."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.embeddings import ContextPrediction, context_prediction_loss
from kilter.embeddings.ccp_head import ContextHead
from tests.conformance.case import Case, Fixed

DIM = 6


def inputs(generator: Generator) -> dict[str, Any]:
    """Four pairs of two languages."""
    centre, context = torch.randn(2, 4, DIM, generator=generator, dtype=torch.float64).unbind()
    return {"centre": centre, "context": context, "language": torch.tensor([0, 1, 0, 1])}


def begun(*, gather: bool = False, **options: Any) -> Callable[[], ContextPrediction]:
    """An objective that has made a step: with rows in its bank, and running statistics."""

    def build() -> ContextPrediction:
        made = ContextPrediction(DIM, languages=["en", "de"], bank_size=8, **options)
        made(**inputs(Generator().manual_seed(7)))
        made.gather = gather  # from here on: the step before is the same whether one process makes it or two
        return made

    return build


def at_rest(objective: ContextPrediction, given: dict[str, Any]) -> Fixed:
    """The loss of a step that is taken back: each call finds bank, turn and statistics as they were."""

    def loss(
        centre: Float[Tensor, "batch dim"], context: Float[Tensor, "batch dim"], language: Int[Tensor, " batch"]
    ) -> Tensor:
        before = [buffer.clone() for buffer in objective.buffers()]
        found = objective(centre, context, language).loss
        with torch.no_grad():
            for buffer, value in zip(objective.buffers(), before, strict=True):
                buffer.copy_(value)
        return found

    return loss, given


def cases() -> list[Case]:
    skip = dict.fromkeys(
        ("padding_does_not_matter", "nan_in_the_padding_does_not_matter"), "one vector per text: nothing is padded"
    )
    alone = skip | {"processes": "each process has a bank and statistics of its own"}
    made: dict[str, dict[str, Any]] = {
        "": {},
        "no-head": {"head": False},
        "symmetric": {"asymmetric_norm": False, "bank_source": "both"},
        "one-direction": {"both_directions": False, "centres_as_negatives": False, "bank_source": "train"},
    }
    return [
        *(Case(begun(**how), inputs, at_rest, alone, label) for label, how in made.items()),
        Case(begun(gather=True), inputs, at_rest, skip, "gather"),
    ]


ARGUMENTS = {
    "centre": lambda: torch.eye(4, 128),
    "context": lambda: torch.eye(4, 128),
    "language": lambda: torch.zeros(4).long(),
    "documents": lambda: [["One.", "Two."], ["Three.", "Four."]],
    "languages": lambda: [0, 1] * 8,
    "batch_size": lambda: 4,
    "bank": lambda: torch.eye(4, 128),
    "bank_language": lambda: torch.tensor([0, -1, 0, 0]),
}


def pairs(batch: int = 4, dim: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    centre, context = torch.randn(2, batch, dim, generator=Generator().manual_seed(seed), dtype=torch.float64).unbind()
    return centre, context


def rows(count: int, dim: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(count, dim, generator=Generator().manual_seed(seed), dtype=torch.float64)


# The loss ------------------------------------------------------------------------------------------------------------


def in_loops(
    centre: Tensor,
    context: Tensor,
    language: list[int],
    bank: Tensor,
    bank_language: list[int],
    temperature: float,
    both: bool,
    others: bool,
) -> list[float]:
    """Paper's sums, one number at a time."""

    def surprise(asked: Tensor, answers: Tensor, i: int) -> float:
        def score(other: Tensor) -> float:
            return math.exp(float(F.cosine_similarity(asked[i], other, dim=0)) / temperature)

        total = sum(score(answers[j]) for j in range(len(asked)) if language[j] == language[i])
        if others:
            total += sum(score(asked[j]) for j in range(len(asked)) if j != i and language[j] == language[i])
        total += sum(score(row) for row, tag in zip(bank, bank_language, strict=True) if tag == language[i])
        return -math.log(score(answers[i]) / total)

    forward = [surprise(centre, context, i) for i in range(len(centre))]
    backward = [surprise(context, centre, i) for i in range(len(centre))]
    return [(a + b) / 2 for a, b in zip(forward, backward, strict=True)] if both else forward


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize("languages", [([0] * 4, [0] * 3), ([0, 1, 1, 0], [1, -1, 0]), ([0, 1, 2, 3], [5, -1, 0])])
def test_it_is_the_papers_sum(both: bool, others: bool, languages: tuple[list[int], list[int]]) -> None:
    centre, context = pairs()
    own, tags = languages
    found = context_prediction_loss(
        centre,
        context,
        torch.tensor(own),
        rows(3),
        torch.tensor(tags),
        temperature=0.3,
        both_directions=both,
        centres_as_negatives=others,
    )
    expected = in_loops(centre, context, own, rows(3), tags, 0.3, both, others)
    assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.host
@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("others", [False, True])
def test_in_the_limit_it_is_sentence_transformers_loss(temperature: float, others: bool) -> None:
    """Empty bank, neither head nor norm, one direction: value and gradient."""
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses", reason="not installed")
    directions = ("query_to_doc", "query_to_query") if others else ("query_to_doc",)
    theirs = losses.MultipleNegativesRankingLoss(nn.Identity(), scale=1 / temperature, directions=directions)
    how = {"both_directions": False, "centres_as_negatives": others, "head": False, "bank_size": 0}
    ours = ContextPrediction(5, temperature=temperature, **how)
    leaves = [value.requires_grad_() for value in pairs(8)]
    expected = theirs.compute_loss_from_embeddings(leaves, None)
    found = ours(*leaves).loss
    assert_close(found, expected, rtol=1e-12, atol=0)
    assert_close(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves))


@pytest.mark.host
def test_both_directions_are_the_mean_of_sentence_transformers_losses() -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses", reason="not installed")
    theirs = losses.MultipleNegativesRankingLoss(
        nn.Identity(), scale=10.0, directions=("query_to_doc", "query_to_query")
    )
    q, k = pairs(8)
    expected = (
        theirs.compute_loss_from_embeddings([q, k], None) + theirs.compute_loss_from_embeddings([k, q], None)
    ) / 2
    assert_close(ContextPrediction(5, head=False).eval()(q, k).loss, expected)


def test_the_mask_of_one_language_is_none() -> None:
    q, k = pairs()
    one = torch.zeros(4).long()
    masked = context_prediction_loss(q, k, one, rows(6), torch.zeros(6).long())
    assert torch.equal(masked, context_prediction_loss(q, k, None, rows(6)))


@pytest.mark.parametrize("head", [True, False])
def test_rows_of_another_language_change_nothing_to_the_bit(head: bool) -> None:
    objective = ContextPrediction(5, languages=2, bank_size=6, head=head).double()
    objective.bank.push(rows(6), torch.tensor([0, 1, 0, 1, 1, 0]))
    other = copy.deepcopy(objective)
    other.bank.rows[other.bank.tags == 1] = 1e3 * rows(3, seed=2)
    q, k = (value.requires_grad_() for value in pairs())
    found = [one(q, k, torch.zeros(4).long()).loss for one in (objective, other)]
    assert torch.equal(*found)
    for one, two in zip(*(torch.autograd.grad(loss, [q, k]) for loss in found), strict=True):
        assert torch.equal(one, two)
    assert not torch.isclose(objective(q, k, torch.ones(4).long()).loss, other(q, k, torch.ones(4).long()).loss)


def test_a_mixed_batch_is_as_if_each_language_were_alone() -> None:
    q, k = pairs(6)
    language, tags = torch.tensor([1, 0, 1, 1, 0, 0]), torch.tensor([0, 1, 1, -1])
    together = context_prediction_loss(q, k, language, rows(4), tags)
    for number in (0, 1):
        here = language == number
        assert_close(together[here], context_prediction_loss(q[here], k[here], None, rows(4)[tags == number]))


def test_a_pair_without_a_rival_is_worth_nothing() -> None:
    q, k = (value.requires_grad_() for value in pairs(3))
    loss = context_prediction_loss(q, k, torch.tensor([0, 1, 0]), rows(2), torch.tensor([0, -1]))
    assert loss[1] == 0
    for gradient in torch.autograd.grad(loss.sum(), [q, k]):
        assert not gradient[1].any()
        assert gradient[0].any()
    nobody = context_prediction_loss(q, k, torch.tensor([0, 1, 2]), rows(2), torch.tensor([-1, -1]))
    assert not nobody.any()
    assert not torch.autograd.grad(nobody.sum(), [q, k])[0].any()


def test_both_directions_do_not_mind_which_is_the_centre() -> None:
    q, k = pairs()
    objective = ContextPrediction(5, head=False)
    objective.bank.push(rows(6), torch.zeros(6).long())
    assert torch.equal(objective.eval()(q, k).loss, objective.eval()(k, q).loss)
    one = ContextPrediction(5, head=False, both_directions=False).eval()
    assert not torch.isclose(one(q, k).loss, one(k, q).loss)


def test_gradients_of_the_function() -> None:
    def loss(q: Tensor, k: Tensor) -> Tensor:
        return context_prediction_loss(q, k, torch.tensor([0, 1, 0, 2]), rows(3), torch.tensor([0, 1, -1]))

    assert torch.autograd.gradcheck(loss, tuple(value.requires_grad_() for value in pairs()))


def test_lengths_of_vectors_do_not_count_and_no_length_is_no_harm() -> None:
    q, k = pairs()
    bank = rows(3)
    assert_close(context_prediction_loss(9 * q, k, None, 5 * bank), context_prediction_loss(q, 2 * k, None, bank))
    nothing = torch.zeros(4, 5, requires_grad=True)
    loss = context_prediction_loss(nothing, nothing, None, torch.zeros(2, 5)).sum()
    assert_close(loss, torch.tensor(4 * math.log(9.0)))
    assert torch.autograd.grad(loss, nothing)[0].isfinite().all()


def test_autocast_changes_no_sum() -> None:
    objective = begun()().float()
    given = {name: value.float() if value.is_floating_point() else value for name, value in inputs(Generator()).items()}
    expected = copy.deepcopy(objective)(**given).loss
    with torch.autocast("cpu", torch.bfloat16):
        found = objective(**given).loss
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


# The bank ------------------------------------------------------------------------------------------------------------


def test_a_row_is_no_negative_in_its_own_step_and_is_one_in_the_next() -> None:
    q, k = pairs()
    objective = ContextPrediction(5, head=False, bank_size=16)
    first = objective(q, k).loss
    assert_close(first, context_prediction_loss(q, k).mean())
    assert_close(objective.bank.in_order()[0].double(), k, rtol=1e-6, atol=1e-6)
    kept = objective.bank.in_order()[0]
    assert_close(objective(q, k).loss, context_prediction_loss(q, k, None, kept).mean())


def test_rows_that_are_given_get_no_gradient() -> None:
    bank = rows(3).requires_grad_()
    q, k = (value.requires_grad_() for value in pairs())
    assert torch.autograd.grad(context_prediction_loss(q, k, None, bank).sum(), [q, bank], allow_unused=True)[1] is None


def test_the_bank_gets_no_gradient_and_the_backward_pass_does_not_see_it_move() -> None:
    objective = ContextPrediction(5, bank_size=6)
    optimiser = torch.optim.SGD(objective.parameters(), 0.1)
    for seed in range(4):
        q, k = (value.float().requires_grad_() for value in pairs(seed=seed))
        objective(q, k).loss.backward()
        optimiser.step()
        assert not objective.bank.rows.requires_grad
        assert objective.bank.rows.grad is None


@pytest.mark.parametrize(
    ("source", "sides"),
    [("eval", ["context", "centre"] * 2), ("train", ["centre", "context"] * 2), ("both", ["both"] * 4)],
)
def test_the_bank_keeps_the_side_that_was_asked_for(source: Any, sides: list[str]) -> None:
    objective = ContextPrediction(5, languages=2, head=False, bank_source=source, bank_size=64).double()
    language = torch.tensor([0, 1, 1, 0])
    expected, tags = [], []
    for seed, side in enumerate(sides):
        q, k = pairs(seed=seed)
        objective(q, k, language)
        expected += [q, k] if side == "both" else [q if side == "centre" else k]
        tags += [language] * (2 if side == "both" else 1)
    found = objective.bank.in_order()
    assert torch.equal(found[0], torch.cat(expected))
    assert torch.equal(found[1], torch.cat(tags))


def test_the_bank_keeps_what_the_head_made_of_the_side_with_running_statistics() -> None:
    objective = begun()().double()
    given = inputs(Generator())
    state = copy.deepcopy(objective.projection)
    assert state is not None
    expected = state(torch.stack([given["centre"], given["context"]]), objective.turn.clone(), False)
    assert objective.turn == 1  # the contexts' turn to take their own
    objective(**given)
    assert_close(objective.bank.in_order()[0][-4:], expected[0])


def test_nothing_moves_where_nothing_is_learnt() -> None:
    for quiet in (lambda one: one.eval(), lambda one: one):
        objective = quiet(begun()())
        before = {name: value.clone() for name, value in objective.state_dict().items()}
        with torch.set_grad_enabled(not objective.training):
            first = objective(**inputs(Generator()))
            assert torch.equal(first.loss, objective(**inputs(Generator())).loss)
        for name, value in objective.state_dict().items():
            assert torch.equal(value, before[name]), name
        assert set(first.stats) == {"ccp_accuracy", "bank_effective_rank", "bank_uniformity"}


def test_evaluation_takes_both_sides_by_running_statistics() -> None:
    objective = begun()().eval()
    given = inputs(Generator())
    alone = {name: value[:1] for name, value in given.items()}
    sides = torch.stack([given["centre"], given["context"]])
    head = objective.projection
    assert head is not None
    assert_close(head(sides, objective.turn, False)[:, :1], head(sides[:, :1], objective.turn, False))
    assert objective(**alone).loss.isfinite()


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_resumed_run_ends_as_one_that_was_not_stopped(at: int) -> None:
    torch.manual_seed(0)

    def run(model: nn.Linear, objective: ContextPrediction, steps: range) -> None:
        optimiser = torch.optim.SGD([*model.parameters(), *objective.parameters()], 0.1)
        for step in steps:
            q, k = pairs(seed=step)
            objective(model(q.float()), model(k.float()), torch.full((4,), step % 2)).loss.backward()
            optimiser.step()
            optimiser.zero_grad()

    model, objective = nn.Linear(5, 5), ContextPrediction(5, languages=2, bank_size=10)
    again = nn.Linear(5, 5), ContextPrediction(5, languages=2, bank_size=10)
    run(model, objective, range(at))
    for new, old in zip(again, (model, objective), strict=True):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    run(model, objective, range(at, 5))
    run(*again, range(at, 5))
    for new, old in zip(again, (model, objective), strict=True):
        for name, value in old.state_dict().items():
            assert torch.equal(new.state_dict()[name], value), name


@pytest.mark.host
def test_gradcache_pushes_once_and_has_the_whole_batches_gradient() -> None:
    """sentence-transformers' cached losses, with this objective inside."""
    cached = pytest.importorskip("sentence_transformers.base.losses.gradcache", reason="sentence-transformers below 6")

    class Encoder(nn.Linear):
        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"sentence_embedding": super().forward(features["input_ids"])}

    class Cached(cached.CachedLossMixin, nn.Module):
        mini_batch_size = 3

        def __init__(self, model: nn.Module, objective: nn.Module) -> None:
            super().__init__()
            self.model, self.objective = model, objective

        def calculate_loss(self, reps: Any, labels: Any = None, *, with_backward: bool = False) -> Tensor:
            loss = self.objective(*map(torch.cat, reps)).loss
            if with_backward:
                loss.backward()
                return loss.detach()
            return loss

    model, objective = Encoder(5, 5).double(), ContextPrediction(5, bank_size=32).double()
    plain = copy.deepcopy((model, objective))
    q, k = pairs(8)
    loss = Cached(model, objective).forward_cached([{"input_ids": q}, {"input_ids": k}])
    loss.backward()
    expected = plain[1](*(plain[0]({"input_ids": x})["sentence_embedding"] for x in (q, k))).loss
    expected.backward()
    assert_close(loss.detach(), expected.detach())
    assert_close(model.weight.grad, plain[0].weight.grad)
    assert_close(objective.state_dict(), plain[1].state_dict())
    assert len(objective.bank.in_order()[0]) == 8
    with torch.no_grad():
        Cached(model, objective).forward_cached([{"input_ids": q}, {"input_ids": k}])
    assert_close(objective.state_dict(), plain[1].state_dict())


# The norm that differs for the sides ---------------------------------------------------------------------------------


def head_and_sides(batch: int = 8) -> tuple[ContextHead, Tensor]:
    torch.manual_seed(0)
    head = ContextHead(5).double()
    head(torch.stack(pairs(batch, seed=3)), torch.tensor(0), True)
    return head, torch.stack(pairs(batch))


@pytest.mark.parametrize("turn", [0, 1])
def test_running_statistics_follow_the_side_whose_turn_it_is(turn: int) -> None:
    head, sides = head_and_sides()
    before = head.mean.clone(), head.variance.clone()
    head(sides, torch.tensor(turn), True)
    hidden = sides[turn] @ head.inner.weight.T
    assert_close(head.mean, (before[0] + hidden.mean(0)) / 2)  # the second batch of the first ten
    assert_close(head.variance, (before[1] + hidden.var(0, correction=0)) / 2)
    other = copy.deepcopy(head)
    changed = sides.clone()
    changed[1 - turn] *= 100
    head(sides, torch.tensor(turn), True)
    other(changed, torch.tensor(turn), True)
    assert torch.equal(head.mean, other.mean)
    assert torch.equal(head.variance, other.variance)


def test_running_statistics_are_a_mean_first_and_then_move_by_a_tenth() -> None:
    head = ContextHead(5).double()
    sides = torch.stack(pairs(8))
    for seed in range(10):
        head(torch.stack(pairs(8, seed=seed)), torch.tensor(0), True)
    means = [(pairs(8, seed=seed)[0] @ head.inner.weight.T).mean(0) for seed in range(10)]
    assert_close(head.mean, torch.stack(means).mean(0).detach())
    before = head.mean.clone()
    head(sides, torch.tensor(0), True)
    assert_close(head.mean, 0.9 * before + 0.1 * (sides[0] @ head.inner.weight.T).mean(0).detach())


def test_sides_take_turns_centre_first() -> None:
    objective = ContextPrediction(5).double()
    head = objective.projection
    assert head is not None
    for step in range(4):
        before = head.mean.clone(), int(head.steps)
        q, k = pairs(8, seed=step)
        objective(q, k)
        own = ((q if step % 2 == 0 else k) @ head.inner.weight.T).mean(0)
        assert_close(head.mean, before[0] + (own - before[0]).detach() / (before[1] + 1))


@pytest.mark.parametrize("turn", [0, 1])
def test_in_the_first_step_the_other_side_takes_what_this_one_has(turn: int) -> None:
    head, sides = ContextHead(5).double(), torch.stack(pairs(8)) + 100
    theirs = nn.Sequential(head.inner, nn.BatchNorm1d(5, momentum=1.0).double(), nn.ReLU(), head.outer)
    theirs[1].running_mean.copy_((sides[turn] @ head.inner.weight.T).mean(0).detach())
    theirs[1].running_var.copy_((sides[turn] @ head.inner.weight.T).var(0, correction=0).detach())
    assert_close(head(sides, torch.tensor(turn), True)[1 - turn], theirs.eval()(sides[1 - turn]))


def test_with_running_statistics_of_the_batch_both_modes_are_one() -> None:
    head, sides = head_and_sides()
    alike = sides[:1].expand(2, -1, -1)
    hidden = sides[0] @ head.inner.weight.T
    head.mean.copy_(hidden.mean(0))
    head.variance.copy_(hidden.var(0, correction=0))
    for turn in (0, 1):
        out = head(alike, torch.tensor(turn), False)
        assert_close(out[0], out[1])


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("turn", [0, 1])
def test_no_row_sees_another_of_the_side_with_running_statistics(turn: int, begun: bool) -> None:
    """The leak that the norm is for, by its gradient."""
    head, sides = head_and_sides() if begun else (ContextHead(5).double(), torch.stack(pairs(8)))
    leaf = sides.clone().requires_grad_()
    out = head(leaf, torch.tensor(turn), False)
    for side in (0, 1):
        (gradient,) = torch.autograd.grad(out[side, 2].sum(), leaf, retain_graph=True)
        seen = gradient[side].any(-1)
        assert seen.sum() == (8 if side == turn else 1)
        assert not gradient[1 - side].any()


def test_without_asymmetry_both_sides_take_and_move_their_own() -> None:
    head = ContextHead(5, asymmetric=False).double()
    sides = torch.stack(pairs(8))
    out = head(sides, torch.tensor(0), True)
    theirs = nn.Sequential(head.inner, nn.BatchNorm1d(5).double(), nn.ReLU(), head.outer)
    for side in (0, 1):
        assert_close(out[side], theirs(sides[side]))
    assert_close(head.mean, (sides.flatten(0, 1) @ head.inner.weight.T).mean(0).detach())


def test_the_batches_statistics_are_torchs() -> None:
    head, sides = head_and_sides()
    theirs = nn.Sequential(head.inner, nn.BatchNorm1d(5).double(), nn.ReLU(), head.outer)
    leaf, leaf_too = (sides.clone().requires_grad_() for _ in range(2))
    mine, its = head(leaf, torch.tensor(1), False)[1], theirs(leaf_too[1])
    assert_close(mine, its)
    assert_close(*(torch.autograd.grad(out.square().sum(), x)[0] for out, x in ((mine, leaf), (its, leaf_too))))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_constant_or_tiny_batch_is_finite(batch: int) -> None:
    objective = ContextPrediction(5)
    leaf = torch.full((batch, 5), 3.0, requires_grad=True)
    for _ in range(3):
        out = objective(leaf, leaf)
        (gradient,) = torch.autograd.grad(out.loss, leaf)
        assert gradient.isfinite().all()
        assert all(value.isfinite() for value in (out.loss, *out.stats.values()))
    assert all(value.isfinite().all() for value in objective.state_dict().values())


# Collapse ------------------------------------------------------------------------------------------------------------


def toy(agnostic: bool, seed: int) -> tuple[float, float]:
    """Two languages that mark their sentences: how well a line tells them apart, and how often a translation is found.

    A sentence has six components of meaning, a mark of its language and noise; the encoder has room for four.
    """
    torch.manual_seed(seed)
    g = Generator().manual_seed(seed)

    def sentences(language: int, meaning: Tensor) -> Tensor:
        mark = F.one_hot(torch.full((len(meaning),), language), 2)
        return torch.cat([meaning, mark, torch.randn(len(meaning), 4, generator=g) / 2], 1)

    encoder = nn.Linear(12, 4, bias=False)
    objective = ContextPrediction(4, languages=1 if agnostic else 2, bank_size=256, head=False)
    optimiser = torch.optim.Adam(encoder.parameters(), 3e-2)
    for step in range(150):
        topic = torch.randn(32, 6, generator=g)
        near = (topic + 0.3 * torch.randn(32, 6, generator=g) for _ in range(2))
        q, k = (encoder(sentences(step % 2, meaning)) for meaning in near)
        optimiser.zero_grad()
        objective(q, k, torch.full((32,), 0 if agnostic else step % 2)).loss.backward()
        optimiser.step()
    meaning = torch.randn(300, 6, generator=g)
    one, two = (F.normalize(encoder(sentences(language, meaning)).detach(), dim=-1) for language in (0, 1))
    points = F.pad(torch.cat([one, two]), (0, 1), value=1.0)
    side = torch.cat([-torch.ones(300), torch.ones(300)])
    line = torch.linalg.lstsq(points, side[:, None]).solution
    told = ((points @ line)[:, 0].sign() == side).float().mean()
    found = ((one @ two.T).argmax(1) == torch.arange(300)).float().mean()
    return float(told), float(found)


def test_a_bank_of_any_language_tells_languages_apart_and_one_of_each_finds_translations() -> None:
    told, found = toy(True, 0)
    own_told, own_found = toy(False, 0)
    assert told > 0.95
    assert own_told < 0.75
    assert own_found > 3 * found


def test_the_banks_spread_says_when_a_model_has_collapsed() -> None:
    apart, alike = (ContextPrediction(16, head=False, bank_size=512) for _ in range(2))
    for seed in range(8):
        q, k = (value.float() for value in pairs(64, 16, seed))
        fine = apart(q, k).stats
        gone = alike(q[:1] + 0.01 * q, q[:1] + 0.01 * k).stats
        assert gone["ccp_accuracy"] < fine["ccp_accuracy"] + 0.5
    assert fine["bank_effective_rank"] == pytest.approx(16, rel=0.1)
    assert 1 <= gone["bank_effective_rank"] < 10
    assert fine["bank_uniformity"] < -2 < gone["bank_uniformity"] <= 0


def test_accuracy_counts_only_what_is_found_before_all_else() -> None:
    eye = torch.eye(4)
    assert ContextPrediction(4, head=False)(eye, eye).stats["ccp_accuracy"] == 1
    assert ContextPrediction(4, head=False)(eye, eye.roll(1, 0)).stats["ccp_accuracy"] == 0
    assert ContextPrediction(4, head=False)(torch.ones(4, 4), torch.ones(4, 4)).stats["ccp_accuracy"] == 0


# Languages -----------------------------------------------------------------------------------------------------------


def test_languages_by_name() -> None:
    objective = ContextPrediction(4, languages=["en", "de", "sk"])
    assert objective.names == ("en", "de", "sk")
    assert objective.numbers(["sk", "en"]).tolist() == [2, 0]
    with pytest.raises(ValueError, match=r"row 1: there is no language 'fr'; there is en, de, sk"):
        objective.numbers(["en", "fr"])
    assert ContextPrediction(4, languages=3).names is None
    with pytest.raises(ValueError, match="none by name"):
        ContextPrediction(4, languages=3).numbers(["en"])


@pytest.mark.parametrize("languages", [["en", "en"], [], [""], [1, 2], "en", 0, None, 1.5])
def test_languages_are_names_or_a_number(languages: Any, own_messages: None) -> None:
    with pytest.raises((TypeError, ValueError), match="languages"):
        ContextPrediction(4, languages=languages)


def test_several_languages_need_labels() -> None:
    eye = torch.eye(4)
    with pytest.raises(ValueError, match=r"language is needed, since there are 2 languages \(0 en, 1 de\); .* `label`"):
        ContextPrediction(4, languages=["en", "de"])(eye, eye)
    with pytest.raises(ValueError, match="row 2: language is 2, but the languages are 0 en, 1 de"):
        ContextPrediction(4, languages=["en", "de"])(eye, eye, torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ValueError, match="row 0: language is 1, but the languages are 0 en"):
        ContextPrediction(4, languages=["en"])(eye, eye, torch.ones(4).long())


def test_where_there_is_one_language_whatever_is_given_is_of_it() -> None:
    centre, context = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0)).unbind()
    plain, told = (ContextPrediction(4, head=False, bank_size=8) for _ in range(2))
    for _ in range(2):
        assert_close(told(centre, context, torch.tensor([0, 1, 7, 1])).loss, plain(centre, context).loss)
    assert torch.equal(told.bank.tags, plain.bank.tags)


def test_vectors_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="centre has 5 components, this objective was made for dim=4"):
        ContextPrediction(4)(torch.eye(5), torch.eye(5))


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(0, 9), st.integers(1, 3), st.integers(0, 2**20))
def test_never_nan(batch: int, filled: int, languages: int, seed: int) -> None:
    g = Generator().manual_seed(seed)
    objective = ContextPrediction(3, languages=languages, bank_size=5)
    objective.bank.push(torch.randn(filled, 3, generator=g), torch.randint(languages, (filled,), generator=g))
    q, k = (10 ** torch.randint(-6, 6, (2, batch, 3), generator=g)).float().requires_grad_().unbind()
    for _ in range(2):
        out = objective(q, k, torch.randint(languages, (batch,), generator=g))
        assert all(value.isfinite() for value in (out.loss, *out.stats.values()))
        assert out.loss >= -1e-5
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(out.loss, [q, k]))
