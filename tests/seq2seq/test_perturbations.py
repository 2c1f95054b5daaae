"""Imposters and distant targets against plain autograd, and what a step of theirs must and must not do."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.seq2seq import SentenceProjection, distant_target, imposter
from kilter.seq2seq.nearby_states import Correction, nearby
from tests.seq2seq import plain_claps

ROWS, TOKENS, WIDTH, ENTRIES = 4, 5, 6, 11

ARGUMENTS = {
    "width": lambda: WIDTH,
    "hidden": lambda: torch.randn(ROWS, TOKENS, WIDTH, generator=Generator().manual_seed(0)),
    "labels tokens": lambda: torch.arange(ROWS * TOKENS).view(ROWS, TOKENS) % ENTRIES,
    "source_vectors": lambda: torch.randn(ROWS, WIDTH, generator=Generator().manual_seed(1)),
    "output": lambda: layer(),
    "project": lambda: project(),
    "mask tokens": lambda: torch.ones(ROWS, TOKENS, dtype=torch.bool),
    **{name: lambda: torch.eye(4) for name in ("source", "target", "imposter", "distant")},
}


def layer(bias: bool = True) -> nn.Linear:
    torch.manual_seed(5)
    return nn.Linear(WIDTH, ENTRIES, bias=bias)


def project() -> SentenceProjection:
    torch.manual_seed(6)
    return SentenceProjection(WIDTH)


def states(seed: int = 0, *, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, labels of which some are ignored, vectors of sources."""
    g = Generator().manual_seed(seed)
    hidden = torch.randn(ROWS, TOKENS, WIDTH, generator=g, dtype=dtype)
    labels = torch.randint(0, ENTRIES, (ROWS, TOKENS), generator=g)
    labels[1, 3:] = labels[2, 0] = -100
    return hidden, labels, torch.rand(ROWS, WIDTH, generator=g, dtype=dtype)


def surprise(output: Any, hidden: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(output(hidden).flatten(0, 1), labels.flatten(), ignore_index=-100)


def divergence(output: Any, hidden: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    own, new = (output(one).log_softmax(-1)[mask] for one in (hidden, other))
    return F.kl_div(new, own, log_target=True, reduction="sum") / mask.sum()


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("relative", [True, False])
class TestAgainstAutograd:
    def test_the_imposter(self, linear: bool, relative: bool) -> None:
        hidden, labels, _ = states()
        matrix = layer().double()
        leaf = hidden.clone().requires_grad_()
        slope = torch.autograd.grad(surprise(matrix, leaf, labels), leaf)[0]
        length = 0.7 * (hidden.norm(dim=-1, keepdim=True) if relative else 1)
        expected = plain_claps.stepped(hidden, slope, length)
        found = imposter(hidden, labels, matrix if linear else lambda h: matrix(h), step=0.7, relative=relative)
        assert_close(found, expected)

    @pytest.mark.parametrize("kl_steps", [0, 1, 3])
    def test_the_distant_target(self, linear: bool, relative: bool, kl_steps: int) -> None:
        hidden, labels, source = states()
        matrix, projection, mask = layer().double(), project().double(), labels != -100
        sizes = hidden.norm(dim=-1, keepdim=True) if relative else 1
        leaf = hidden.clone().requires_grad_()
        loss = plain_claps.contrasts(source, plain_claps.pooled(projection, leaf, mask), 0.2)
        expected = plain_claps.stepped(hidden, torch.autograd.grad(loss, leaf)[0], 2.0 * sizes)
        for _ in range(kl_steps):
            leaf = expected.clone().requires_grad_()
            slope = torch.autograd.grad(divergence(matrix, hidden, leaf, mask), leaf)[0]
            expected = plain_claps.stepped(expected, -slope, 0.5 * sizes)
        output = matrix if linear else lambda h: matrix(h)
        how = {"step": 2.0, "temperature": 0.2, "kl_step": 0.5, "kl_steps": kl_steps, "relative": relative}
        assert_close(distant_target(hidden, source, mask, output, projection, **how), expected)


class TestSteps:
    def test_1_no_step_is_no_move(self) -> None:
        hidden, labels, source = states(dtype=torch.float32)
        assert torch.equal(imposter(hidden, labels, layer(), step=0.0), hidden)
        for kl_step in (None, 3.0):
            found = distant_target(hidden, source, labels != -100, layer(), project(), step=0.0, kl_step=kl_step)
            assert torch.equal(found, hidden), "rounding is no direction"

    @settings(max_examples=15, deadline=None)
    @given(st.floats(0.01, 20), st.integers(0, 5), st.booleans())
    def test_2_steps_are_as_long_as_they_should_be(self, step: float, seed: int, relative: bool) -> None:
        hidden, labels, source = states(seed)
        mask = labels != -100
        wanted = step * mask.double() * (hidden.norm(dim=-1) if relative else 1)
        how: dict[str, Any] = {"step": step, "relative": relative}
        away = imposter(hidden, labels, layer().double(), **how) - hidden
        assert_close(away.norm(dim=-1), wanted, atol=1e-5, rtol=1e-5)
        both = (hidden, source, mask, layer().double(), project().double())
        first = distant_target(*both, **how, kl_steps=0) - hidden
        assert_close(first.norm(dim=-1)[mask], wanted[mask], atol=1e-5, rtol=1e-5)
        assert not first[~mask].any()
        assert ((distant_target(*both, **how) - hidden).norm(dim=-1) <= 2 * wanted + 1e-5).all()

    def test_3_a_small_step_goes_where_it_should(self) -> None:
        hidden, labels, source = states()
        matrix, projection, mask = layer().double(), project().double(), labels != -100
        near = imposter(hidden, labels, matrix, step=0.05)
        assert surprise(matrix, near, labels) > surprise(matrix, hidden, labels)
        both = (hidden, source, mask, matrix, projection)
        moved = distant_target(*both, step=0.5, kl_steps=0)
        pool = [
            plain_claps.contrasts(source, plain_claps.pooled(projection, one, mask), 0.1) for one in (hidden, moved)
        ]
        assert pool[1] > pool[0]
        before, after, more = (
            divergence(matrix, hidden, distant_target(*both, step=0.5, kl_step=0.05, kl_steps=steps), mask)
            for steps in (0, 1, 4)
        )
        assert more < after < before

    def test_3_a_large_correction_may_overshoot_where_several_small_ones_do_not(self) -> None:
        hidden, labels, source = states()
        matrix = nn.Linear(WIDTH, ENTRIES).double()
        matrix.weight.data = 3 * layer().weight.data.double()
        mask, both = labels != -100, (hidden, source, labels != -100, matrix, project().double())
        found = [distant_target(*both, step=0.3, kl_step=size, kl_steps=n) for size, n in ((0, 0), (3.0, 1), (0.1, 3))]
        before, large, small = (divergence(matrix, hidden, one, mask) for one in found)
        assert small < before < large

    def test_a_batch_of_one_stays_where_it_is(self) -> None:
        hidden, _, source = states(dtype=torch.float32)
        for output in (layer(), lambda h: layer()(h)):
            assert torch.equal(distant_target(hidden[:1], source[:1], None, output, project()), hidden[:1])

    def test_what_did_not_move_is_not_corrected_by_rounding(self) -> None:
        hidden, labels, _ = states(dtype=torch.float32)
        logits = layer().double()(hidden.double()).float()  # other digits than its own layer gives
        assert not torch.equal(logits, layer()(hidden))
        found = nearby(hidden, labels != -100, layer(), logits=logits, correction=Correction(hidden, 3.0, 1))
        assert torch.equal(found.distant, hidden)

    def test_a_token_that_is_all_but_certain_moves_as_far(self) -> None:
        hidden, labels = torch.full((1, 1, 2), 15.0), torch.tensor([[0]])
        output = nn.Linear(2, 2, bias=False)
        output.weight.data = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
        moved = imposter(hidden, labels, output) - hidden
        assert_close(moved, torch.tensor([[[-1.0, 0.0]]]))

    @pytest.mark.parametrize("linear", [True, False])
    def test_a_batch_in_parts_is_the_batch(self, linear: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        hidden, labels, source = states()
        matrix = layer().double()
        output, mask = matrix if linear else lambda h: matrix(h), labels != -100

        def both() -> tuple[Tensor, Tensor]:
            far = distant_target(hidden, source, mask, output, project().double(), kl_steps=2)
            return imposter(hidden, labels, output), far

        whole = both()
        monkeypatch.setattr("kilter.seq2seq.nearby_states._TOKENS", 3)
        assert_close(both(), whole)

    def test_logits_that_are_known_are_not_computed(self) -> None:
        hidden, labels, _ = states()
        matrix = layer().double()
        mask = labels != -100
        moved = hidden + 0.3
        how: dict[str, Any] = {"labels": labels, "step": 1.0, "correction": Correction(moved, 0.1, 2)}
        plain = nearby(hidden, mask, matrix, **how)
        assert_close(nearby(hidden, mask, matrix, logits=matrix(hidden), **how), plain)
        other = nearby(hidden, mask, matrix, logits=matrix(hidden).flip(-1), **how)
        assert not torch.allclose(other.imposter, plain.imposter)


class TestPadding:
    @pytest.mark.parametrize("linear", [True, False])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -7.0])
    def test_what_padding_holds_does_not_matter(self, linear: bool, value: float) -> None:
        hidden, labels, source = states()
        matrix = layer().double()
        output, mask = matrix if linear else lambda h: matrix(h), labels != -100
        spoilt = hidden.masked_fill(~mask[..., None], value)
        pairs = [
            (imposter(one, labels, output), distant_target(one, source, mask, output, project().double()))
            for one in (hidden, spoilt)
        ]
        for plain, other in zip(*pairs, strict=True):
            assert_close(other[mask], plain[mask])
            assert_close(other[~mask], spoilt[~mask], equal_nan=True)

    def test_more_of_it_does_not_matter(self) -> None:
        hidden, labels, source = states()
        longer = torch.cat([hidden, torch.full((ROWS, 3, WIDTH), math.nan, dtype=torch.float64)], 1)
        more = F.pad(labels, (0, 3), value=-100)
        matrix, projection = layer().double(), project().double()
        assert_close(imposter(longer, more, matrix)[:, :TOKENS], imposter(hidden, labels, matrix))
        far = [distant_target(h, source, y != -100, matrix, projection) for h, y in ((longer, more), (hidden, labels))]
        assert_close(far[0][:, :TOKENS], far[1])

    def test_another_label_may_be_ignored(self) -> None:
        hidden, labels, _ = states()
        other = labels.masked_fill(labels == -100, -1)
        assert_close(
            imposter(hidden, other, layer().double(), ignore_index=-1), imposter(hidden, labels, layer().double())
        )

    def test_the_order_of_the_batch_does_not_matter(self) -> None:
        hidden, labels, source = states()
        pick, matrix, projection = [2, 0, 3, 1], layer().double(), project().double()
        assert_close(imposter(hidden[pick], labels[pick], matrix), imposter(hidden, labels, matrix)[pick])
        mask = labels != -100
        far = distant_target(hidden[pick], source[pick], mask[pick], matrix, projection)
        assert_close(far, distant_target(hidden, source, mask, matrix, projection)[pick])

    def test_no_mask_is_all_tokens(self) -> None:
        hidden, _, source = states()
        rest = (source, torch.ones(ROWS, TOKENS, dtype=torch.bool), layer().double(), project().double())
        assert_close(distant_target(hidden, source, None, *rest[2:]), distant_target(hidden, *rest))


@pytest.mark.parametrize("linear", [True, False])
class TestConstants:
    def test_5_there_is_no_graph_and_no_gradient_is_written(self, linear: bool) -> None:
        hidden, labels, source = states()
        matrix, projection = layer().double(), project().double()
        hidden, source = hidden.requires_grad_(), source.requires_grad_()
        output = matrix if linear else lambda h: matrix(h)
        found = imposter(hidden, labels, output), distant_target(hidden, source, labels != -100, output, projection)
        assert not any(one.requires_grad for one in found)
        leaves = [hidden, source, *matrix.parameters(), *projection.parameters()]
        assert all(one.grad is None for one in leaves)
        assert all(one.requires_grad for one in leaves)
        with torch.no_grad():
            again = imposter(hidden, labels, output), distant_target(hidden, source, labels != -100, output, projection)
        assert_close(again, found)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_near(self, linear: bool, dtype: torch.dtype) -> None:
        hidden, labels, source = states(dtype=torch.float32)
        hidden, matrix, projection = hidden.to(dtype), layer().to(dtype), project()
        output = matrix if linear else lambda h: matrix(h)
        found = imposter(hidden, labels, output), distant_target(hidden, source, labels != -100, output, projection)
        exact = hidden.double(), layer().to(dtype).double()
        expected = imposter(exact[0], labels, exact[1])
        assert found[0].dtype == found[1].dtype == dtype
        mask = labels != -100
        ways = [F.normalize((one.double() - exact[0])[mask], dim=-1) for one in (found[0], expected)]
        assert (ways[0] * ways[1]).sum(-1).min() > 0.99
        assert found[1].isfinite().all()


class TestBadInput:
    @pytest.mark.parametrize("linear", [True, False])
    def test_labels_outside_the_vocabulary(self, linear: bool) -> None:
        hidden, labels, _ = states(dtype=torch.float32)
        labels[3, 2] = ENTRIES
        with pytest.raises(ValueError, match=r"row 3: labels holds 11, outside the vocabulary 0\.\.10 of output"):
            imposter(hidden, labels, layer() if linear else lambda h: layer()(h))

    def test_a_row_without_labels(self) -> None:
        hidden, labels, source = states(dtype=torch.float32)
        labels[2] = -100
        with pytest.raises(ValueError, match="row 2: labels are all -100"):
            imposter(hidden, labels, layer())
        with pytest.raises(ValueError, match="row 2: mask is False at every token of hidden"):
            distant_target(hidden, source, labels != -100, layer(), project())

    def test_an_output_that_does_not_fit(self, own_messages: None) -> None:
        hidden, labels, source = states(dtype=torch.float32)
        with pytest.raises(ValueError, match=r"output takes states 7 wide, hidden is 6 wide"):
            imposter(hidden, labels, nn.Linear(7, ENTRIES))
        with pytest.raises(TypeError, match=r"output must be an nn\.Linear or a function"):
            imposter(hidden, labels, torch.eye(WIDTH))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"output\(hidden\) must be shaped like the tokens of hidden"):
            imposter(hidden, labels, lambda h: layer()(h).mean(1))
        with pytest.raises(ValueError, match=r"project\(hidden, mask\) must be shaped like source_vectors"):
            distant_target(hidden, source, None, layer(), lambda h, mask: h.mean(1)[:, :3])
        with pytest.raises(ValueError, match="has no gradient with respect to its states"):
            imposter(hidden, labels, lambda h: layer()(h).detach())
        with pytest.raises(ValueError, match="has no gradient with respect to its states"):
            distant_target(hidden, source, None, layer(), lambda h, mask: h.detach().mean(1))
        with torch.inference_mode(), pytest.raises(ValueError, match=r"instead of torch\.inference_mode use"):
            distant_target(hidden, source, None, layer(), project())
        with pytest.raises(TypeError, match="project must be a function"):
            distant_target(hidden, source, None, layer(), None)  # type: ignore[arg-type]
