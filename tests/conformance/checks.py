"""What every objective must keep to, one function each; `test_objectives.py` runs them on every case.

Checks of numbers use the case's function of tensors with fixed samples, checks of behaviour the objective itself.
"""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from tests.conformance.case import RAGGED, Case, ModelCase, Pure, is_float


def gradients(case: Case) -> None:
    """The gradient is the derivative, in float64, entry by entry."""
    pure = case.pure()
    floats = [name for name, value in pure.tensors.items() if is_float(value)]

    def function(*values: Tensor) -> Tensor:
        return pure.loss({**pure.tensors, **dict(zip(floats, values, strict=True))})

    leaves = [pure.tensors[name].double().requires_grad_() for name in floats]
    assert any(gradient.any() for gradient in pure.gradient()[1].values()), "the case has no gradient to check"
    assert torch.autograd.gradcheck(function, leaves)


def parts_sum_to_the_loss(case: Case) -> None:
    """`parts` are the weighted terms: scalars that sum to `loss`."""
    out = case.call(case.build(), **case.drawn())
    assert out.loss.shape == ()
    assert out.parts
    assert_close(torch.stack(list(out.parts.values())).sum(), out.loss)
    assert all(part.shape == () for part in out.parts.values())


def stats_are_detached(case: Case) -> None:
    """`stats` carry no gradient, are scalars, and share no name with `parts`; the loss does carry one."""
    inputs = {k: v.requires_grad_() if is_float(v) else v for k, v in case.drawn().items()}
    out = case.call(case.build(), **inputs)
    assert out.loss.requires_grad
    assert not any(stat.requires_grad for stat in out.stats.values())
    assert all(stat.shape == () for stat in out.stats.values())
    assert not set(out.stats) & set(out.parts)


def inputs_stay_as_they_were(case: Case) -> None:
    """Nothing given is written to, and no `.grad` appears in forward."""
    inputs = {k: v.requires_grad_() if is_float(v) else v for k, v in case.drawn().items()}
    before = copy.deepcopy(inputs)
    out = case.call(case.build(), **inputs)
    assert all(value.grad is None for value in inputs.values() if is_float(value))
    out.loss.backward()
    for name, value in before.items():
        same = torch.equal(inputs[name], value) if isinstance(value, Tensor) else inputs[name] == value
        assert same, f"{name} was changed"


def same_seed_same_value(case: Case) -> None:
    """All chance comes from the generator: the global stream is neither read nor moved."""
    objective, inputs = case.build().eval(), case.drawn()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = case.call(objective, **inputs).loss
    assert torch.equal(torch.get_rng_state(), state), "the global random stream was moved"
    torch.manual_seed(2)
    assert torch.equal(first, case.call(objective, **inputs).loss)


def half_precision(case: Case) -> None:
    """float16 and bfloat16 are finite, computed in float32, and near float64 on the same rounded inputs."""
    pure = case.pure()
    for dtype in (torch.float16, torch.bfloat16):
        low = pure.map(lambda _, v, dtype=dtype: v.to(dtype) if is_float(v) else v)
        loss, gradients = pure.gradient(low)
        exact, expected = pure.gradient({k: v.double() if is_float(v) else v for k, v in low.items()})
        assert loss.dtype == torch.float32
        assert_close(loss.double(), exact, rtol=1e-3, atol=1e-5)
        for name, gradient in gradients.items():
            assert gradient.dtype == dtype
            assert_close(gradient.double(), expected[name], rtol=0.02, atol=1e-3)


def padding_does_not_matter(case: Case) -> None:
    """Nonsense beyond the lengths, and more of it: the same loss and gradient, exactly 0 in the padding."""
    with_padding(case, -7.0, -100)


def nan_in_the_padding_does_not_matter(case: Case) -> None:
    """The same with NaN, which survives a mask that multiplies, and a mask put on after the exponential."""
    with_padding(case, float("nan"), -100)


def with_padding(case: Case, value_beyond: float, token_beyond: int) -> None:
    """Loss and gradient with other padding, and with more, are as before."""
    pure = case.pure()
    ragged = {name: mask for name in pure.tensors if (mask := pure.padding(name)) is not None}
    assert ragged, "the case has no padding"
    loss, expected = pure.gradient()

    def spoilt(name: str, value: Any) -> Any:
        if name not in ragged:
            return value
        value = value.masked_fill(ragged[name], value_beyond if is_float(value) else token_beyond)
        for axis in set(pure.axes[name]) & set(RAGGED):
            at = pure.axes[name].index(axis)
            more = torch.full_like(value.narrow(at, 0, 1), value_beyond if is_float(value) else token_beyond)
            value = torch.cat([value, more, more], at)
        return value

    other, found = pure.gradient(pure.map(spoilt))
    assert_close(other, loss)
    for name in found:
        inside = found[name][tuple(map(slice, expected[name].shape))]
        if name in ragged:
            assert not expected[name][ragged[name]].any(), f"{name} has a gradient in the padding"
            assert not inside[ragged[name]].any(), f"{name} has a gradient in the padding"
        assert found[name].isfinite().all()
        assert_close(inside, expected[name])


def batch_order_does_not_matter(case: Case) -> None:
    """The same sequences in another order: the same loss, and each its own gradient."""
    pure = case.pure()
    pick = [2, 0, 3, 1]
    loss, expected = pure.gradient()
    other, found = pure.gradient(pure.batch(pick))
    assert_close(other, loss)
    for name, gradient in found.items():
        at = pure.axes[name].index("batch") if "batch" in pure.axes[name] else None
        assert_close(gradient, expected[name] if at is None else expected[name].index_select(at, torch.tensor(pick)))


def strides_do_not_matter(case: Case) -> None:
    """Non-contiguous inputs give the same loss and gradient."""
    pure = case.pure()
    loss, expected = pure.gradient()
    strided = pure.map(lambda _, v: v.mT.contiguous().mT if isinstance(v, Tensor) and v.ndim > 1 else v)
    other, found = pure.gradient(strided)
    assert_close(other, loss)
    assert_close(found, expected)


def pickles(case: Case) -> None:
    """A pickled copy computes the same."""
    objective = case.build()
    same_loss(case, objective, pickle.loads(pickle.dumps(objective)))


def state_dict_restores(case: Case) -> None:
    """A new object with the old one's state computes the same."""
    objective, other = case.build(), case.build()
    other.load_state_dict(objective.state_dict())
    same_loss(case, objective, other)


def config_rebuilds(case: Case) -> None:
    """`type(o)(**o.config())` is the same objective, and says the same of itself."""
    objective = case.build()
    other = type(objective)(**objective.config())
    other.load_state_dict(objective.state_dict())
    assert repr(other) == repr(objective)
    same_loss(case, objective, other)


def documented(case: Case) -> None:
    """The class explains itself: equation, shapes, an example and a reference."""
    text = type(case.build()).__doc__ or ""
    missing = [mark for mark in ("$$", "Shape:", "Example:", ">>>", "Reference") if mark not in text]
    assert not missing, f"the docstring lacks {missing}"


def model_stays_as_it_was(case: ModelCase) -> None:
    """The pass writes to no weight, no buffer and no `.grad`, leaves no hook, and changes no tensor of the batch."""
    objective, inputs = case.build(), case.drawn()
    model = inputs["model"]
    objective(**inputs)  # lazily made buffers are there
    before = copy.deepcopy({name: value for name, value in inputs.items() if isinstance(value, Tensor)})
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = count_hooks(model)
    objective(**inputs).loss.detach()
    assert count_hooks(model) == hooks
    assert all(one.grad is None for one in [*model.parameters(), *objective.parameters()]), "forward wrote a .grad"
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(inputs[name], value) for name, value in before.items())


def count_hooks(model: Any) -> int:
    """Hooks of a model and of all that is in it."""
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules())


def model_is_trained(case: ModelCase) -> None:
    """Every parameter of the model and of the objective that has a gradient has a finite one, and there are such."""
    objective, inputs = case.build(), case.drawn()
    objective(**inputs).loss.backward()
    for module in (inputs["model"], objective):
        found = [one.grad for one in module.parameters() if one.grad is not None]
        assert all(gradient.isfinite().all() for gradient in found)
        assert not list(module.parameters()) or any(gradient.any() for gradient in found)


def same_loss(case: Any, one: Any, other: Any) -> None:
    """Both compute the same on the case's inputs."""
    assert torch.equal(case.call(one, **case.drawn()).loss, case.call(other, **case.drawn()).loss)


def compiles(pure: Pure) -> None:
    """One graph, with the eager loss and gradient."""
    names = list(pure.tensors)

    def function(*values: Any) -> Tensor:
        return pure.loss(dict(zip(names, values, strict=True)))

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    expected = pure.gradient()
    found = Pure(lambda **tensors: compiled(*tensors.values()), pure.tensors, pure.axes).gradient()
    assert_close(found, expected)


CHECKS: dict[str, Callable[[Case], None]] = {
    check.__name__: check
    for check in (
        gradients,
        parts_sum_to_the_loss,
        stats_are_detached,
        inputs_stay_as_they_were,
        same_seed_same_value,
        half_precision,
        padding_does_not_matter,
        nan_in_the_padding_does_not_matter,
        batch_order_does_not_matter,
        strides_do_not_matter,
        pickles,
        state_dict_restores,
        config_rebuilds,
        documented,
    )
}

MODEL_CHECKS: dict[str, Callable[[Any], None]] = {
    check.__name__: check
    for check in (
        parts_sum_to_the_loss,
        stats_are_detached,
        same_seed_same_value,
        model_stays_as_it_was,
        model_is_trained,
        pickles,
        state_dict_restores,
        config_rebuilds,
        documented,
    )
}
"""What objectives that are given the model must keep to."""
