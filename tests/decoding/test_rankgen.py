"""RankGen's loss against numbers worked out by hand, and what it refuses."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.decoding import RankGenLoss, rank_gen_loss
from tests.conformance.case import Case, Fixed

DOCUMENTS = torch.tensor([0, 1, 0, 1])


def vectors(generator: Generator) -> dict[str, Any]:
    """Rows of three matrices, and no documents."""
    names = ("prefix", "continuation", "generated")
    return {name: torch.randn(4, 5, generator=generator, dtype=torch.float64) for name in names}


def one_document(generator: Generator) -> dict[str, Any]:
    """The paper's INBOOK batch."""
    return {name: value for name, value in vectors(generator).items() if name != "generated"}


def whole(objective: RankGenLoss, inputs: dict[str, Any]) -> Fixed:
    """Machine text is optional in `forward`, and so are its axes."""

    def loss(
        prefix: Float[Tensor, "batch dim"],
        continuation: Float[Tensor, "batch dim"],
        generated: Float[Tensor, "batch dim"],
    ) -> Tensor:
        return objective(prefix, continuation, generated).loss

    return loss, inputs


SKIP = {
    "padding_does_not_matter": "one vector per text: nothing is padded",
    "nan_in_the_padding_does_not_matter": "one vector per text: nothing is padded",
    "processes": "negatives come from each process's own batch",
}


def cases() -> list[Case]:
    return [
        Case(RankGenLoss, inputs=vectors, fixed=whole, skip=SKIP),
        Case(RankGenLoss, inputs=one_document, skip=SKIP, label="inbook"),
        Case(lambda: RankGenLoss(negatives="generative"), inputs=vectors, fixed=whole, skip=SKIP, label="generative"),
    ]


def drawn(seed: int = 0, batch: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p, c, g = torch.randn(3, batch, 5, generator=generator, dtype=torch.float64).unbind()
    return p, c, g


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_when_all_is_alike_the_loss_is_the_log_of_the_choices(batch: int) -> None:
    nothing = torch.zeros(batch, 3)
    loss = RankGenLoss()
    assert_close(loss(nothing, nothing, nothing).loss, torch.tensor(math.log(2 * batch)))
    assert_close(loss(nothing, nothing).loss, torch.tensor(math.log(batch)))
    machine = RankGenLoss(negatives="generative")(nothing, nothing, nothing).loss
    assert_close(machine, torch.tensor(math.log(1 + batch)))


def test_by_hand_two_prefixes_four_candidates() -> None:
    p, c, g = torch.eye(2), torch.tensor([[3.0, 1.0], [0.0, 2.0]]), torch.tensor([[1.0, -1.0], [2.0, 0.5]])
    logits = torch.tensor([[3.0, 0.0, 1.0, 2.0], [1.0, 2.0, -1.0, 0.5]])
    label = torch.tensor([0, 1])
    out = RankGenLoss()(p, c, g)
    assert_close(out.loss, F.cross_entropy(logits, label))
    assert_close(rank_gen_loss(p, c, g), F.cross_entropy(logits, label, reduction="none"))
    assert_close(RankGenLoss()(p, c).loss, F.cross_entropy(logits[:, :2], label))
    assert_close(RankGenLoss(negatives="inbook")(p, c, g).loss, F.cross_entropy(logits[:, :2], label))
    alone = torch.tensor([[3.0, 1.0, 2.0], [2.0, -1.0, 0.5]])
    assert_close(RankGenLoss(negatives="generative")(p, c, g).loss, F.cross_entropy(alone, torch.tensor([0, 0])))


def test_the_gradient_pulls_to_the_truth_and_pushes_from_the_softmax() -> None:
    p, c, g = (value.requires_grad_() for value in drawn())
    gradient = torch.autograd.grad(rank_gen_loss(p, c, g).sum(), p)[0]
    candidates = torch.cat([c, g])
    share = (p @ candidates.T).softmax(-1)
    assert_close(gradient, share @ candidates - c)


@pytest.mark.parametrize("negatives", ["all", "inbook", "generative"])
def test_gradients_with_documents(negatives: Any) -> None:
    def loss(p: Tensor, c: Tensor, g: Tensor) -> Tensor:
        return RankGenLoss(negatives=negatives)(p, c, g, DOCUMENTS).loss

    assert torch.autograd.gradcheck(loss, tuple(value.requires_grad_() for value in drawn()))


def test_order_of_the_batch_and_of_the_machine_text_alone_is_nothing() -> None:
    p, c, g = drawn()
    order = torch.tensor([2, 0, 3, 1])
    expected = RankGenLoss()(p, c, g).loss
    assert_close(RankGenLoss()(p[order], c[order], g[order]).loss, expected)
    assert_close(RankGenLoss()(p, c, g[order]).loss, expected)
    assert not torch.isclose(RankGenLoss()(p, c[order], g).loss, expected)


def test_length_of_the_vectors_counts() -> None:
    p, c, g = drawn()
    plain, longer = RankGenLoss()(p, c, g).loss, RankGenLoss()(2 * p, 2 * c, 2 * g).loss
    assert not torch.isclose(plain, longer)
    assert_close(longer, rank_gen_loss(4 * p, c, g).mean())


def test_every_machine_text_counts_against_every_prefix() -> None:
    p, c, g = drawn()
    g.requires_grad_()
    for i in range(4):
        (gradient,) = torch.autograd.grad(rank_gen_loss(p, c, g)[i], g)
        assert gradient.any(-1).all()


@pytest.mark.parametrize("negatives", ["all", "inbook", "generative"])
def test_documents_in_one_batch_are_as_if_each_were_alone(negatives: Any) -> None:
    p, c, g = drawn(batch=6)
    document = torch.tensor([7, 3, 7, 7, 3, 7])
    together = rank_gen_loss(p, c, g, document, negatives=negatives)
    for number in (3, 7):
        here = document == number
        assert_close(together[here], rank_gen_loss(p[here], c[here], g[here], negatives=negatives))
    assert not torch.isclose(together, rank_gen_loss(p, c, g, negatives=negatives)).any()


def test_statistics_are_shares_of_right_choices() -> None:
    p = torch.eye(4)
    c = 2 * torch.eye(4)
    c[1, 0] = 3.0  # the second continuation draws the first prefix
    g = torch.diag(torch.tensor([1.0, 5.0, 1.0, 1.0]))
    stats = RankGenLoss()(p, c, g).stats
    assert_close(stats["rankgen_inbook"], torch.tensor(0.75))
    assert_close(stats["rankgen_generative"], torch.tensor(0.75))
    assert "rankgen_generative" not in RankGenLoss()(p, c).stats
    apart = RankGenLoss()(p, c, g, torch.tensor([0, 1, 2, 3])).stats
    assert apart["rankgen_inbook"] == 1, "a document of its own has no rivals"
    assert RankGenLoss()(p, torch.zeros(4, 4)).stats["rankgen_inbook"] == 0, "a tie is not right"


def test_under_autocast_the_scores_are_float32() -> None:
    p, c, g = (10 * value.float() for value in drawn())
    expected = RankGenLoss()(p, c, g).loss
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(RankGenLoss()(p, c, g).loss, expected, rtol=0, atol=0)
        low = RankGenLoss()(p.bfloat16(), c.bfloat16(), g.bfloat16()).loss
    assert low.dtype == torch.float32
    assert_close(low, RankGenLoss()(*(value.bfloat16().double() for value in (p, c, g))).loss.float())


def test_large_scores_stay_finite() -> None:
    p, c, g = (100 * value.float() for value in drawn())
    out = RankGenLoss()(p.requires_grad_(), c, g)
    assert out.loss.isfinite()
    assert torch.autograd.grad(out.loss, p)[0].isfinite().all()


def test_nothing_in_the_batch() -> None:
    assert RankGenLoss()(torch.zeros(0, 3), torch.zeros(0, 3)).loss == 0


ROWS = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: RankGenLoss(negatives="hard"), ValueError, "negatives must be one of all, inbook, generative"),  # type: ignore[arg-type]
        (lambda: RankGenLoss(negatives="generative")(ROWS, ROWS), ValueError, "'generative' needs generated"),
        (lambda: rank_gen_loss(torch.zeros(3), torch.zeros(3)), ValueError, r"prefix must be \(batch, dim\)"),
        (
            lambda: rank_gen_loss(ROWS, ROWS[:1]),
            ValueError,
            r"continuation must be shaped like prefix \(2, 3\), got \(1",
        ),
        (lambda: rank_gen_loss(ROWS, ROWS, ROWS[:, :2]), ValueError, r"generated must be shaped like prefix \(2, 3\)"),
        (lambda: rank_gen_loss(ROWS.long(), ROWS), TypeError, "prefix must be floating point, got torch.int64"),
        (lambda: rank_gen_loss(ROWS, ROWS + torch.tensor([[0.0], [torch.nan]])), ValueError, "row 1: continuation is"),
        (lambda: rank_gen_loss(ROWS, ROWS, ROWS * torch.nan), ValueError, "row 0: generated is NaN"),
        (lambda: rank_gen_loss(ROWS, ROWS, None, ROWS[:, 0]), TypeError, "document must hold integers"),
        (
            lambda: rank_gen_loss(ROWS, ROWS, None, torch.zeros(3).long()),
            ValueError,
            r"document must have shape \(2,\)",
        ),
    ],
)
def test_bad_input(make: Callable[[], Any], error: type[Exception], said: str, own_messages: None) -> None:
    with pytest.raises(error, match=said):
        make()
