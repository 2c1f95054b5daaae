"""Inner products of gradients: closed forms, each estimator against autograd, and a model that stays as it was."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kilter.pretraining import gradient_alignments, reweight
from kilter.pretraining.gradient_alignments import last_layer, measure_alignments
from tests.pretraining.small_models import Tiny, next_token, regression, squared_error, tokens

ARGUMENTS = {
    "model": lambda: nn.Linear(3, 1),
    "loss_fn": lambda: lambda model, batch: model(batch).mean(),
    "domain_batches": lambda: [torch.ones(2, 3), torch.eye(3)],
    "target_batch": lambda: torch.ones(1, 3),
}

METHODS: Any = ("central_difference", "gradients", "jvp")


def by_backward(model: nn.Module, batch: Any, loss_fn: Any = next_token) -> Tensor:
    """One long gradient, of a copy, by `.backward()`."""
    other = copy.deepcopy(model).eval()
    loss_fn(other, batch).backward()
    return torch.cat([p.grad.flatten() for p in other.parameters() if p.requires_grad and p.grad is not None])


class TestLinearRegression:
    @pytest.mark.parametrize("method", METHODS)
    def test_the_closed_form(self, method: Any) -> None:
        model = nn.Linear(4, 1, bias=False).double()
        domains = [regression(5 + i, i, torch.float64) for i in range(3)]
        target = regression(6, 9, torch.float64)

        def gradient(x: Tensor, y: Tensor) -> Tensor:
            return x.T @ (x @ model.weight[0] - y) / len(x)

        expected = torch.stack([gradient(*one) @ gradient(*target) for one in domains])
        found = gradient_alignments(model, squared_error, domains, target, method=method)
        assert_close(found, expected.detach(), rtol=1e-6, atol=1e-6)

    def test_bases_are_mixed_before_or_after(self) -> None:
        """Gradients are linear in the data, so of batches as large as their share b = P a."""
        model, target = nn.Linear(4, 1, bias=False).double(), regression(6, 9, torch.float64)
        one, two = (regression(4, seed, torch.float64) for seed in (1, 2))
        mixed = tuple(torch.cat([a, a, a, b]) for a, b in zip(one, two, strict=True))  # three parts to one
        a = gradient_alignments(model, squared_error, [one, two], target, method="gradients")
        b = gradient_alignments(model, squared_error, [one, mixed], target, method="gradients")
        assert_close(b, torch.tensor([[1.0, 0.0], [0.75, 0.25]], dtype=torch.float64) @ a)


@pytest.fixture(scope="module")
def model() -> Tiny:
    return Tiny()


@pytest.fixture(scope="module")
def batches() -> tuple[list[Tensor], Tensor]:
    return [tokens(4, seed, 4 * seed, 4 * seed + 6) for seed in range(4)], tokens(4, 8, 2, 9)


@pytest.fixture(scope="module")
def expected(model: Tiny, batches: tuple[list[Tensor], Tensor]) -> Tensor:
    v = by_backward(model, batches[1])
    return torch.stack([by_backward(model, batch) @ v for batch in batches[0]])


class TestLanguageModel:
    @pytest.mark.parametrize(
        ("method", "tolerance"), [("gradients", 1e-5), ("jvp", 1e-5), ("central_difference", 2e-4)]
    )
    def test_estimators_agree(self, model: Tiny, batches: Any, expected: Tensor, method: Any, tolerance: float) -> None:
        found = gradient_alignments(model, next_token, *batches, method=method)
        assert ((found - expected).abs() / expected.abs().max()).max() < tolerance

    def test_the_last_layer_is_its_own_share(self, model: Tiny, batches: Any, expected: Tensor) -> None:
        chosen = last_layer(model)
        assert [id(p) for p in chosen] == [id(p) for p in (*model.blocks[1].parameters(), *model.norm.parameters())]
        other = copy.deepcopy(model).requires_grad_(False)
        other.blocks[1].requires_grad_()
        other.norm.requires_grad_()
        v = by_backward(other, batches[1])
        by_hand = torch.stack([by_backward(other, batch) @ v for batch in batches[0]])
        found = gradient_alignments(model, next_token, *batches, method="last_layer")
        assert_close(found, by_hand)
        assert (found - expected).abs().max() > 1e-3

    def test_clipping_is_that_of_grape(self, model: Tiny, batches: Any) -> None:
        """Of each domain and of each micro-batch of the target by itself, then the inner products."""
        domains, target = batches[0], [tokens(2, 20), tokens(2, 21), tokens(2, 22)]
        found = measure_alignments(model, next_token, domains, target, method="gradients", clip=0.5)

        def clipped(batch: Tensor) -> Tensor:
            g = by_backward(model, batch)
            return g * min(1.0, 0.5 / float(g.norm()))

        v = torch.stack([clipped(batch) for batch in target]).mean(0)
        assert_close(found.alignments, torch.stack([clipped(one) @ v for one in domains]), rtol=1e-6, atol=1e-6)
        assert found.domain_norms is not None
        assert (found.domain_norms > 0.5).all()
        log_weights = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
        expected = [float(w) + 1.5 * float(clipped(one) @ v) for w, one in zip(log_weights, domains, strict=True)]
        assert_close(
            reweight(log_weights, found.alignments, 1.5).exp(), torch.tensor(expected).softmax(0), atol=1e-6, rtol=0
        )

    def test_a_large_clip_changes_nothing_and_all_methods_clip(self, model: Tiny, batches: Any) -> None:
        plain = gradient_alignments(model, next_token, *batches, method="gradients")
        assert_close(gradient_alignments(model, next_token, *batches, method="gradients", clip=1e6), plain)
        each = [gradient_alignments(model, next_token, *batches, method=method, clip=0.5) for method in METHODS]
        assert torch.equal(each[0], each[1])
        assert torch.equal(each[0], each[2])

    def test_cosines_and_mean_norms(self, model: Tiny, batches: Any) -> None:
        g = [by_backward(model, batch) for batch in batches[0]]
        v = by_backward(model, batches[1])
        cosines = torch.stack([torch.cosine_similarity(one, v, dim=0) for one in g])
        assert_close(gradient_alignments(model, next_token, *batches, normalise="cosine"), cosines)
        scores = torch.stack([one @ v for one in g]) / torch.stack([one.norm() for one in g]).mean()
        assert_close(gradient_alignments(model, next_token, *batches, normalise="mean_norm"), scores)

    def test_several_batches_of_the_target_are_their_mean(self, model: Tiny, batches: Any) -> None:
        domains, target = batches
        found = measure_alignments(model, next_token, domains, [target[:2], target[2:]])
        assert_close(found.alignments, gradient_alignments(model, next_token, domains, target), rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("method", [*METHODS, "last_layer"])
    def test_nothing_is_touched(self, batches: Any, method: Any, own_messages: None) -> None:
        # the shape checks draw random numbers themselves
        model = Tiny()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        model.train()
        model.blocks[0].eval()
        next_token(model, batches[1]).backward()
        optimizer.step()

        def state() -> Any:
            numpy: Any = np.random.get_state()
            return copy.deepcopy(
                {
                    "parameters": [*model.parameters()],
                    "buffers": [*model.buffers()],
                    "gradients": [p.grad for p in model.parameters()],
                    "optimizer": [*optimizer.state.values()],
                    "modes": [module.training for module in model.modules()],
                    "random": [torch.get_rng_state(), random.getstate(), numpy[1].tolist(), numpy[2]],
                }
            )

        def noisy(model: nn.Module, batch: Tensor) -> Tensor:
            random.random()
            np.random.rand()
            return next_token(model, batch) + 0 * torch.rand(())

        before = state()
        gradient_alignments(model, noisy, *batches, method=method)
        assert_close(state(), before, rtol=0, atol=0)
        with torch.no_grad():
            gradient_alignments(model, noisy, *batches, method=method)
        assert_close(state(), before, rtol=0, atol=0)

    @pytest.mark.parametrize("method", ["central_difference", "jvp"])
    def test_it_is_restored_after_an_error(self, batches: Any, method: Any) -> None:
        model, calls = Tiny().train(), []

        def fails(model: nn.Module, batch: Tensor) -> Tensor:
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("out of luck")
            return next_token(model, batch)

        before = copy.deepcopy(model.state_dict())
        with pytest.raises(RuntimeError, match="out of luck"):
            gradient_alignments(model, fails, *batches, method=method)
        assert model.training
        assert model.norm.training
        assert_close(model.state_dict(), before, rtol=0, atol=0)

    def test_dropout_is_off(self, model: Tiny, batches: Any) -> None:
        model.train()
        first = gradient_alignments(model, next_token, *batches, method="gradients")
        assert torch.equal(first, gradient_alignments(model, next_token, *batches, method="gradients"))

    def test_only_what_is_trained_counts(self, batches: Any) -> None:
        """As with LoRA: few parameters, of which differences are exact gradients."""
        model = Tiny().requires_grad_(False)
        model.get_parameter("blocks.1.linear1.weight").requires_grad_()
        v = by_backward(model, batches[1])
        expected = torch.stack([by_backward(model, batch) @ v for batch in batches[0]])
        found = [gradient_alignments(model, next_token, *batches, method=method) for method in METHODS]
        for each in found:
            assert_close(each, expected)
        assert torch.equal(found[0], found[1])

    def test_half_precision_and_autocast_take_exact_gradients(self, model: Tiny, batches: Any) -> None:
        half = copy.deepcopy(model).bfloat16()
        found = gradient_alignments(half, next_token, *batches)
        assert found.dtype == torch.float32
        assert torch.equal(found, gradient_alignments(half, next_token, *batches, method="gradients"))
        with torch.autocast("cpu", torch.bfloat16):
            a, b = (gradient_alignments(model, next_token, *batches, method=method) for method in METHODS[:2])
        assert torch.equal(a, b)


class TestEdges:
    @pytest.mark.parametrize("method", METHODS)
    def test_a_target_without_gradient_is_aligned_with_nothing(self, method: Any) -> None:
        model = nn.Linear(3, 1, bias=False)
        found = gradient_alignments(
            model, lambda m, x: m(x).sum(), [torch.ones(1, 3)], torch.zeros(1, 3), method=method
        )
        assert found.tolist() == [0.0]

    @pytest.mark.parametrize("method", METHODS)
    def test_what_is_not_finite_is_handed_on(self, method: Any) -> None:
        model = nn.Linear(3, 1, bias=False)
        before = model.weight.detach().clone()
        target = torch.full((1, 3), torch.nan)
        found = gradient_alignments(model, lambda m, x: m(x).sum(), [torch.ones(1, 3)], target, method=method)
        assert found.isnan().all()
        assert torch.equal(model.weight, before)

    def test_last_layers_of_other_models(self) -> None:
        plain = nn.Linear(3, 2)
        assert [p.shape for p in last_layer(plain)] == [(2, 3), (2,)]
        nested = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 9), nn.Linear(9, 3)))
        assert [p.shape for p in last_layer(nested)][-2:] == [(3, 9), (3,)]

    def test_sparse_gradients(self) -> None:
        model, batches = nn.Embedding(5, 2, sparse=True), [torch.tensor([0, 1]), torch.tensor([3])]
        found = gradient_alignments(
            model, lambda m, x: m(x).square().sum(), batches, torch.tensor([1, 2]), method="gradients"
        )
        assert_close(found, torch.stack([4 * model.weight[1].square().sum(), torch.zeros(())]).detach())


class TestBadInput:
    def call(self, **changed: Any) -> Any:
        given = {name: make() for name, make in ARGUMENTS.items()} | changed
        return gradient_alignments(**given)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"domain_batches": []}, "domain_batches"),
            ({"model": "gpt2"}, "model must be a torch.nn.Module, got str"),
            ({"loss_fn": lambda m, x: m(torch.eye(3))}, r"loss_fn must return a scalar, of target_batch it .*\(3, 1\)"),
            ({"loss_fn": lambda m, x: 3.0}, "loss_fn must return a tensor, of target_batch it returned float"),
            ({"loss_fn": lambda m, x: m(x).mean().detach()}, "depends on no trainable parameter"),
            ({"model": nn.Linear(3, 1).requires_grad_(False)}, "model has no trainable parameters"),
            ({"method": "jpv"}, "method must be one of .*did you mean 'jvp'"),
            ({"normalise": "cosin"}, "normalise must be one of .*did you mean 'cosine'"),
            ({"clip": 0.0}, "clip must be positive"),
            ({"step": -1e-3}, "step must be positive"),
        ],
    )
    def test_it_is_named(self, changed: dict[str, Any], message: str, own_messages: None) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            self.call(**changed)
