"""What teaches the geometry of positions: by hand, against plain loops, and that an encoder learns it."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kilter.evaluation.correlation import spearman
from kilter.pretraining import PositionSampler, SequentialPositionEncoder, position_contrast, position_transfer
from tests.pretraining.published import drawn as published

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "seqpe.json").read_text(encoding="utf-8"))
MAIN = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
TEACHER = MAIN[[2, 0]][None]
STUDENT = torch.tensor([[[1.0, 1], [2, 0]]])

ARGUMENTS = {
    "pivot": lambda: torch.eye(4, 3),
    "candidates pivots": lambda: torch.ones(4, 5, 3),
    "positive pivots": lambda: torch.tensor([0, 4, 2, 1]),
    "student": lambda: torch.eye(3).expand(2, 3, 3),
    "teacher windows": lambda: torch.ones(2, 3, 3),
}


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# 4: contrast ----------------------------------------------------------------------------------------------------------


def test_4_contrast_by_hand() -> None:
    candidates = torch.tensor([[[1.0, 0], [0, 1], [1, 1]]])
    found = position_contrast(torch.tensor([[1.0, 2]]), candidates, torch.tensor([2]))
    assert float(found) == pytest.approx(0.4076059, abs=1e-6)
    assert float(found) == pytest.approx(math.log(1 + math.exp(-1) + math.exp(-2)), abs=1e-6)


def test_contrast_by_plain_loops() -> None:
    pivot, candidates, positive = drawn(5, 3), drawn(5, 4, 3, seed=1), torch.tensor([0, 3, 1, 2, 2])
    each = []
    for v, others, number in zip(pivot.tolist(), candidates.tolist(), positive.tolist(), strict=True):
        products = [sum(a * b for a, b in zip(v, other, strict=True)) for other in others]
        each.append(math.log(sum(map(math.exp, products))) - products[number])
    assert float(position_contrast(pivot, candidates, positive)) == pytest.approx(sum(each) / 5)


def test_contrast_pulls_the_nearest_alone() -> None:
    pivot, candidates = drawn(1, 3), drawn(1, 4, 3, seed=1).requires_grad_()
    gradient = torch.autograd.grad(position_contrast(pivot, candidates, torch.tensor([1])), candidates)[0]
    along = (gradient[0] @ pivot[0]).tolist()
    assert [value < 0 for value in along] == [False, True, False, False]
    assert sum(along) == pytest.approx(0, abs=1e-12)


# 5: transfer ----------------------------------------------------------------------------------------------------------


def test_5_transfer_by_hand() -> None:
    student = STUDENT.clone().requires_grad_()
    loss = position_transfer(student, TEACHER)
    assert loss.item() == pytest.approx(0.24816316, abs=1e-6)
    gradient = torch.autograd.grad(loss, student)[0]
    expected = torch.tensor([[[-0.2954, -0.2405], [0.5634, -0.0274]]])
    assert_close(gradient, expected, rtol=0, atol=5e-5)
    assert float(position_transfer(STUDENT, TEACHER, metric="mse")) == pytest.approx(0.72629672, abs=1e-6)


def log_softmax(row: list[float]) -> list[float]:
    return [value - math.log(sum(map(math.exp, row))) for value in row]


@pytest.mark.parametrize("metric", ["kl", "mse"])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_transfer_by_plain_loops(metric: Any, heads: int) -> None:
    student, teacher = drawn(2, 3, 8), drawn(2, 3, 8, seed=1)
    total, count, size = 0.0, 0, 8 // heads
    for far, home in zip(student.tolist(), teacher.tolist(), strict=True):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for place in range(3):
                rows = [
                    log_softmax([sum(a * b for a, b in zip(v[place][part], w[part], strict=True)) for w in v])
                    for v in (far, home)
                ]
                for s, t in zip(*rows, strict=True):
                    total += (t - s) ** 2 if metric == "mse" else (math.exp(t) - math.exp(s)) * (t - s)
                    count += 1
    found = position_transfer(student, teacher, heads=heads, metric=metric)
    assert float(found) == pytest.approx(total / count)


def test_5_alike_is_nothing_and_the_teacher_stays() -> None:
    student, teacher = drawn(2, 3, 4).requires_grad_(), drawn(2, 3, 4).requires_grad_()
    loss = position_transfer(student, teacher)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, student)[0].any()
    assert torch.autograd.grad(position_transfer(2 * student, teacher), teacher, allow_unused=True) == (None,)


def test_transfer_looks_at_relations_only() -> None:
    vectors = drawn(2, 3, 4)
    turned = vectors @ torch.linalg.qr(drawn(4, 4)).Q
    assert float(position_transfer(turned, vectors)) == pytest.approx(0, abs=1e-12)
    assert float(position_transfer(turned, vectors, heads=2)) > 1e-3


def test_mix_shares_the_gradient() -> None:
    student, teacher = drawn(2, 3, 4).requires_grad_(), drawn(2, 3, 4, seed=1).requires_grad_()
    whole = [
        torch.autograd.grad(position_transfer(student, teacher, mix=mix), (student, teacher), allow_unused=True)
        for mix in (1.0, 0.75, 0.0)
    ]
    assert_close(whole[1][0], 0.75 * whole[0][0])
    assert_close(whole[1][1], 0.25 * whole[2][1])
    assert position_transfer(student, teacher, mix=0.75).item() == pytest.approx(
        position_transfer(student, teacher).item()
    )


@pytest.mark.parametrize("case", GOLDEN["transfer"])
def test_4_and_5_as_the_authors_code(case: str) -> None:
    pivot, candidates = published("pivot", (5, 8)), published("candidates", (5, 7, 8))
    assert float(position_contrast(pivot, candidates, torch.arange(5))) == pytest.approx(GOLDEN["contrast"], abs=1e-6)
    metric, mix, heads = case.split()
    teacher = published("main", (10, 8))[torch.arange(12).remainder(10)].view(3, 4, 8)
    options: dict[str, Any] = {"heads": int(heads), "metric": metric.removesuffix("_div"), "mix": float(mix)}
    found = position_transfer(published("student", (3, 4, 8)), teacher, **options)
    assert float(found) == pytest.approx(GOLDEN["transfer"][case], abs=1e-6)


# 7: an encoder learns it ----------------------------------------------------------------------------------------------


def test_7_windows_far_out_become_alike_and_near_positions_are() -> None:
    torch.manual_seed(0)
    encoder, length = SequentialPositionEncoder(1000, width=32, heads=2, layers=1), 64
    sampler = PositionSampler(1000, sampler="centred", span=40, candidates=16, pivots=8, windows=8, places=16)
    starts, places = torch.tensor([301, 555, 910])[:, None], torch.arange(length)

    def taught(encoder: SequentialPositionEncoder, transfer: float) -> SequentialPositionEncoder:
        optimiser, generator = torch.optim.AdamW(encoder.parameters(), lr=3e-3), torch.Generator().manual_seed(0)
        for _ in range(100):
            near, far = sampler.contrast(generator), sampler.transfer(length, generator)
            loss = position_contrast(encoder(near.pivot), encoder(near.candidates), near.positive)
            if transfer:
                loss = loss + transfer * position_transfer(encoder(far.student), encoder(far.teacher), heads=2)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return encoder

    def judged(encoder: SequentialPositionEncoder) -> tuple[float, float]:
        """Divergence from the window at home, and rank correlation of inner product and distance, far out."""
        with torch.no_grad():
            far, home = encoder(starts + places), encoder(places).expand(3, -1, -1)
        distance = (places[:, None] - places).abs().expand(3, -1, -1)
        order = spearman((far @ far.mT).flatten().tolist(), distance.flatten().tolist())
        return float(position_transfer(far[:, ::4], home[:, ::4], heads=2)), order

    begun = taught(encoder, 0.0)
    contrast, both = judged(taught(copy.deepcopy(begun), 0.0)), judged(taught(copy.deepcopy(begun), 30.0))
    assert both[0] < 0.4 * contrast[0]
    assert contrast[1] < -0.1
    assert both[1] < -0.1


# Numbers and empty batches --------------------------------------------------------------------------------------------


def test_gradients_by_differences() -> None:
    pivot, candidates = drawn(2, 3).requires_grad_(), drawn(2, 4, 3, seed=1).requires_grad_()
    positive = torch.tensor([3, 0])
    assert torch.autograd.gradcheck(lambda p, c: position_contrast(p, c, positive), (pivot, candidates))
    student, teacher = drawn(2, 3, 4).requires_grad_(), drawn(2, 3, 4, seed=1)
    for metric in ("kl", "mse"):
        assert torch.autograd.gradcheck(lambda s, m=metric: position_transfer(s, teacher, heads=2, metric=m), student)


def test_sums_are_in_float32() -> None:
    pivot, candidates, positive = drawn(6, 64).bfloat16(), drawn(6, 9, 64).bfloat16(), torch.arange(6)
    student, teacher = drawn(2, 5, 64).bfloat16(), drawn(2, 5, 64, seed=1).bfloat16()
    contrast = position_contrast(pivot.float(), candidates.float(), positive)
    transfer = position_transfer(student.float(), teacher.float(), heads=4)
    assert position_contrast(pivot, candidates, positive).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(position_contrast(pivot.float(), candidates.float(), positive), contrast, rtol=0, atol=0)
        assert_close(position_contrast(pivot, candidates, positive), contrast)
        assert_close(position_transfer(student, teacher, heads=4), transfer)


def test_large_products_stay_finite() -> None:
    pivot, candidates = 1e3 * drawn(3, 8), 1e3 * drawn(3, 4, 8, seed=1)
    assert position_contrast(pivot, candidates, torch.tensor([0, 1, 2])).isfinite()
    student = (1e3 * drawn(2, 5, 8)).requires_grad_()
    loss = position_transfer(student, drawn(2, 5, 8, seed=1))
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_nothing_is_nothing() -> None:
    pivot = torch.zeros(0, 3, requires_grad=True)
    loss = position_contrast(pivot, torch.zeros(0, 4, 3), torch.zeros(0, dtype=torch.long))
    assert loss.item() == 0
    loss.backward()
    assert position_transfer(torch.zeros(0, 3, 4), torch.zeros(0, 3, 4)).item() == 0


@pytest.mark.compile
def test_compiled_they_are_one_graph() -> None:
    torch.compiler.reset()
    pivot, candidates, positive = drawn(3, 4), drawn(3, 5, 4), torch.tensor([1, 0, 4])
    compiled = torch.compile(position_contrast, backend="aot_eager", fullgraph=True)
    assert_close(compiled(pivot, candidates, positive), position_contrast(pivot, candidates, positive))
    compiled = torch.compile(position_transfer, backend="aot_eager", fullgraph=True)
    assert_close(compiled(STUDENT, TEACHER, heads=2), position_transfer(STUDENT, TEACHER, heads=2))


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"candidates": torch.ones(3, 5, 3)}, ValueError, r"candidates must be shaped like pivot, .* \(4, 5, 3\)"),
        ({"candidates": torch.ones(4, 5, 2)}, ValueError, "candidates must be shaped like"),
        ({"positive": torch.tensor([0, 1, 2, 5])}, ValueError, "pivot 3: positive is 5, but candidates has 5"),
        ({"positive": torch.tensor([0, 1])}, ValueError, "positive must have shape"),
        ({"pivot": torch.full((4, 3), torch.nan)}, ValueError, "row 0: pivot is NaN"),
    ],
)
def test_bad_contrast_is_named(given: Any, error: type[Exception], message: str, own_messages: None) -> None:
    good = {name.partition(" ")[0]: make() for name, make in list(ARGUMENTS.items())[:3]}
    with pytest.raises(error, match=message):
        position_contrast(**good | given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teacher": torch.ones(2, 4, 3)}, "teacher must be shaped like student"),
        ({"heads": 2}, "heads must divide the width of a vector, got heads=2 and 3"),
        ({"metric": "ls"}, "metric must be one of kl, mse"),
        ({"mix": 1.5}, "mix must be within 0..1"),
    ],
)
def test_bad_transfer_is_named(given: Any, message: str, own_messages: None) -> None:
    good = {"student": ARGUMENTS["student"](), "teacher": ARGUMENTS["teacher windows"]()}
    with pytest.raises(ValueError, match=message):
        position_transfer(**good | given)
