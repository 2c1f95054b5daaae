"""Rows reach their experts, whatever their order; experts without rows are not touched; routers do not hear padding."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kilter.ops.experts import UNKNOWN, Assignment, Experts, Routing, grouped

N, DIM = 3, 6


def made(routing: Routing = "enforced", equal: bool = False, **options: int) -> tuple[Experts, Assignment]:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(DIM, 8), nn.GELU(), nn.Linear(8, DIM))
    blocks = [copy.deepcopy(first) if equal else nn.Sequential(nn.Linear(DIM, 8), nn.Linear(8, DIM)) for _ in range(N)]
    assignment = Assignment(N)
    return Experts(blocks, assignment, routing=routing, width=DIM, **options).double(), assignment


def batch(rows: int = 7) -> Tensor:
    return torch.randn(rows, 4, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_rows(experts: Experts, x: Tensor, domain: list[int]) -> Tensor:
    """The plain way."""
    every = torch.stack([expert(x) for expert in experts.experts])
    return torch.stack([every[:, i].mean(0) if d == UNKNOWN else every[d, i] for i, d in enumerate(domain)])


@pytest.mark.parametrize(
    "domain", [[0, 1, 2, 0, 1, 2, 0], [0, 0, 0, 1, 1, 2, 2], [1] * 7, [-1] * 7, [2, -1, 0, -1, 2, 1, 1]]
)
def test_each_row_goes_through_its_own_expert(domain: list[int]) -> None:
    experts, assignment = made()
    x = batch()
    with assignment.of(torch.tensor(domain)):
        assert_close(experts(x), by_rows(experts, x, domain))


def test_a_permuted_batch_is_permuted_and_a_mixed_one_is_its_parts() -> None:
    experts, assignment = made()
    x, domain, order = batch(), torch.tensor([2, 0, 1, 0, 2, -1, 1]), torch.randperm(7)
    with assignment.of(domain):
        whole = experts(x)
    with assignment.of(domain[order]):
        assert_close(experts(x[order]), whole[order])
    for each in (-1, 0, 1, 2):
        with assignment.of(domain[domain == each]):
            assert_close(experts(x[domain == each]), whole[domain == each])


@pytest.mark.parametrize("routing", ["enforced", "supervised", "top_k"])
def test_equal_experts_are_the_module_that_was_there(routing: Routing) -> None:
    experts, assignment = made(routing, equal=True)
    x = batch()
    for domain in ([0, 1, 2, -1, 0, 1, 2], [2] * 7, [-1] * 7):
        with assignment.of(torch.tensor(domain)):
            assert (experts(x) - experts.experts[0](x)).abs().max() == 0


def test_an_expert_without_rows_has_no_gradient_and_stays_as_it_is() -> None:
    experts, assignment = made()
    before = copy.deepcopy(experts)
    optimiser = torch.optim.AdamW(experts.parameters(), 0.1, weight_decay=0.5)
    for _ in range(2):
        optimiser.zero_grad()
        with assignment.of(torch.tensor([1] * 5 + [2] * 2)):
            experts(batch()).square().sum().backward()
        optimiser.step()
    assert all(p.grad is None for p in experts.experts[0].parameters())
    same = [
        all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
        for a, b in zip(experts.experts, before.experts, strict=True)
    ]
    assert same == [True, False, False]


def test_a_router_does_not_hear_padding() -> None:
    experts, assignment = made("supervised")
    x, mask = batch(), torch.ones(7, 4, dtype=torch.long)
    mask[:, 2:] = 0
    changed = torch.where(mask[..., None] == 1, x, 100.0)
    found = []
    for each in (x, changed):
        with assignment.of(torch.full((7,), UNKNOWN), mask), assignment.keeping() as kept:
            experts(each)
        found.append(kept[0][0])
    assert_close(found[0], found[1], rtol=0, atol=0)
    assert len({*found[0].argmax(1).tolist()}) > 1


def test_a_router_chooses_for_unknown_rows_only() -> None:
    experts, assignment = made("supervised")
    x, domain = batch(), torch.tensor([-1, 0, -1, 1, -1, 2, -1])
    with assignment.of(domain), assignment.keeping() as kept:
        out = experts(x)
    logits, told = kept[0]
    assert torch.equal(told, domain)
    chosen = torch.where(domain == UNKNOWN, logits.argmax(1), domain)
    assert_close(out, by_rows(experts, x, chosen.tolist()))
    assert_close(logits, x.mean(1) @ experts.router.weight.T)  # type: ignore[union-attr]


def test_the_best_experts_are_mixed_by_their_softmax() -> None:
    experts, assignment = made("top_k", k=2)
    x = batch()
    with assignment.of(torch.full((7,), UNKNOWN)), assignment.keeping() as kept:
        out = experts(x)
    for i, logits in enumerate(kept[0][0]):
        best = logits.softmax(0).topk(2)
        mixed = sum(w * experts.experts[int(e)](x[i]) for w, e in zip(best.values, best.indices, strict=True))
        assert_close(out[i], mixed / best.values.sum())
    out.sum().backward()
    assert experts.router is not None
    assert experts.router.weight.grad is not None


def test_enforced_routing_has_no_router_and_the_others_one_matrix() -> None:
    sizes = {routing: sum(p.numel() for p in made(routing)[0].parameters()) for routing in ("enforced", "top_k")}
    assert sizes["top_k"] - sizes["enforced"] == N * DIM


def test_rows_are_sorted_only_where_they_must_be() -> None:
    assert grouped(torch.tensor([-1, 0, 0, 2]), 3) == (None, None, [1, 2, 0, 1])
    mixed = grouped(torch.tensor([2, 0, 1, 0]), 3)
    assert mixed.order is not None
    assert mixed.back is not None
    assert mixed.order.tolist() == [1, 3, 2, 0]
    assert mixed.order[mixed.back].tolist() == [0, 1, 2, 3]


def test_what_is_computed_again_sees_the_rows_of_its_own_time() -> None:
    experts, assignment = made()
    x = batch(2)
    with assignment.of(torch.tensor([0, 1])):
        first, call = experts(x), assignment.again(experts)
    with assignment.of(torch.tensor([2, 2])):
        assert_close(call(x), first)
        assert_close(experts(x), experts.experts[2](x))


def test_bad_input(own_messages: None) -> None:
    experts, assignment = made()
    with pytest.raises(ValueError, match="7 rows reached a layer of experts, and a domain is known of none"):
        experts(batch())
    with assignment.of(torch.tensor([0, 1])), pytest.raises(ValueError, match="a domain is known of 2"):
        experts(batch())
    with pytest.raises(ValueError, match="experts must be 3"):
        Experts([nn.Identity()], assignment)
    with pytest.raises(ValueError, match="give width"):
        Experts([nn.Identity()] * 3, assignment, routing="top_k")
    with pytest.raises(ValueError, match="routing must be one of"):
        Experts([nn.Identity()] * 3, assignment, routing="topk")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one process per device"):
        experts._replicate_for_data_parallel()


@pytest.mark.compile
def test_compiled_it_says_the_same() -> None:
    for routing in ("enforced", "supervised"):
        experts, assignment = made(routing)
        compiled, x = torch.compile(experts, backend="aot_eager", fullgraph=True), batch()
        for domain in ([2, -1, 0, -1, 2, 1, 1], [1] * 7):
            with assignment.of(torch.tensor(domain)):
                assert_close(compiled(x), experts(x))
