"""How far the gradient of each domain points where the target's does: inner products, without touching the model.

Of dynamic gradient alignment (Fan, Grangier & Ablin, arXiv 2410.02498). Beyond the paper: central differences, which
need no backward pass of a domain; dropout is off, since it would only add noise.
"""

import random
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from kilter.core.checks import one_of, positive
from kilter.dist import all_sum

Method = Literal["central_difference", "gradients", "jvp", "last_layer"]
Normalise = Literal["none", "cosine", "mean_norm"]
LossFunction = Callable[[Any, Any], Tensor]

_ENOUGH = 0.5
"""Of a model's parameters: where fewer are trained, exact gradients cost no more than differences."""


class Measured(NamedTuple):
    """Alignments, and the gradients' norms as far as they were computed on the way."""

    alignments: Float[Tensor, " domains"]
    target_norm: Float[Tensor, ""]
    domain_norms: Float[Tensor, " domains"] | None


def gradient_alignments(
    model: nn.Module,
    loss_fn: LossFunction,
    domain_batches: Sequence[Any],
    target_batch: Any,
    *,
    method: Method = "central_difference",
    clip: float | None = None,
    normalise: Normalise = "none",
    step: float = 2e-3,
) -> Float[Tensor, " domains"]:
    r"""Inner products of the gradient of each domain's loss with that of the target's.

    $$a_i = \langle \nabla \ell(\theta; x_i), v \rangle, \qquad v = \nabla \ell(\theta; y)$$

    - `gradients`: as it stands, k + 1 backward passes.
    - `central_difference`: $\lVert v\rVert\,\frac{\ell(\theta + hu; x_i) - \ell(\theta - hu; x_i)}{2h}$ with
      $u = v / \lVert v\rVert$, one backward pass and 2k forward ones; parameters are restored from a copy.
    - `jvp`: forward-mode derivatives along v, exact, without storing activations; attention takes its plain kernel.
    - `last_layer`: only parameters of the last block and of what comes after it, without those tied to the embeddings.
      Cheaper, and biased.

    The model is evaluated without dropout. After the call parameters, their `.grad`, training modes and random states
    are what they were, bit for bit. Parameters that are not trained do not count, tied ones count once.

    Differences need float32: of parameters in half precision, under autocast, where less than half of the parameters
    are trained (LoRA), under FSDP, and with `clip` or `normalise`, exact gradients are computed instead; of `jvp` under
    the last two.

    Args:
        model: whose trainable parameters the gradients are of.
        loss_fn: of `(model, batch)`, a scalar: the mean per token, since else long texts count for more.
        domain_batches: a batch of each domain, as `loss_fn` takes it.
        target_batch: one of the target.
        method: how it is computed.
        clip: scale each gradient down to this norm (GRAPE's is 1); None does not.
        normalise: `cosine` divides by both norms, `mean_norm` by the mean of the domains' norms (DoGE).
        step: h, how far parameters are displaced, all together.

    Returns:
        One value for each domain, in at least float32.

    Raises:
        TypeError: a model that is no module, a loss that is no tensor.
        ValueError: no domains, a loss that is no scalar or that depends on no trainable parameter, an option out of
            range.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> loss_fn = lambda model, batch: model(batch).sum()
        >>> batches = [torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]])]
        >>> gradient_alignments(model, loss_fn, batches, torch.tensor([[1.0, 1.0]]), method="gradients")
        tensor([1., 7.])

    Reference: Fan, Grangier & Ablin, 2024; clipping: S. Fan et al., "GRAPE", NeurIPS 2025; `mean_norm`: S. Fan, M.
    Pagliardini, M. Jaggi, "DoGE", ICML 2024.
    """
    how = {"method": method, "clip": clip, "normalise": normalise, "step": step}
    return measure_alignments(model, loss_fn, domain_batches, [target_batch], **how).alignments


def measure_alignments(
    model: nn.Module,
    loss_fn: LossFunction,
    domain_batches: Sequence[Any],
    target_batches: Sequence[Any],
    *,
    method: Method = "central_difference",
    clip: float | None = None,
    normalise: Normalise = "none",
    step: float = 2e-3,
) -> Measured:
    """`gradient_alignments` with several batches of the target, over which v is the mean, and with norms.

    Args:
        model: see there, as for the rest.
        loss_fn: see there.
        domain_batches: a batch of each domain.
        target_batches: parts of the target's batch; with `clip` each is clipped by itself.
        method: see there.
        clip: see there.
        normalise: see there.
        step: see there.
    """
    check_method(method, clip, normalise, step)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(domain_batches, Sequence) or not len(domain_batches):
        raise ValueError("domain_batches must be a list with one batch of each domain, and holds none")
    if not len(target_batches):
        raise ValueError("target_batches must hold one batch at least")
    parameters = [p for p in model.parameters() if p.requires_grad]
    if method == "last_layer":
        parameters = last_layer(model)
    if not parameters:
        raise ValueError("model has no trainable parameters that count; set requires_grad of some")
    sharded = _is_sharded(model, parameters)
    exact = clip is not None or normalise != "none" or sharded
    if method == "central_difference" and not (exact or _fit_for_differences(model, parameters)):
        exact = True
    with untouched(model):
        gradients = _Gradients(model, loss_fn, parameters, sharded)
        v, sizes = None, []
        for batch in target_batches:
            found, size = _clipped(gradients, gradients.of(batch, "target_batch"), clip)
            sizes.append(size)
            v = found if v is None else [a + b for a, b in zip(v, found, strict=True)]
        v = [one / len(target_batches) for one in v or []]
        if exact or method in ("gradients", "last_layer"):
            return _products(gradients, domain_batches, v, torch.stack(sizes).mean(), clip, normalise)
        size = gradients.dot(v, v).sqrt()
        find = _derivatives if method == "jvp" else _differences
        return Measured(find(gradients, domain_batches, v, size, step), size, None)


def check_method(method: str, clip: float | None, normalise: str, step: float) -> None:
    """Check how alignments are to be computed.

    Raises:
        TypeError, ValueError: see `gradient_alignments`.
    """
    one_of("method", method, Method)
    one_of("normalise", normalise, Normalise)
    positive("step", step)
    if clip is not None:
        positive("clip", clip)


# Gradients -----------------------------------------------------------------------------------------------------------


class _Gradients:
    """Losses of batches and their gradients, which never touch `.grad`."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction, parameters: list[nn.Parameter], sharded: bool) -> None:
        self.model, self.loss_fn, self.parameters, self.sharded = model, loss_fn, parameters, sharded

    def loss(self, batch: Any, name: str, model: nn.Module | None = None) -> Tensor:
        """Of a batch, a scalar."""
        loss = self.loss_fn(self.model if model is None else model, batch)
        if not isinstance(loss, Tensor):
            raise TypeError(f"loss_fn must return a tensor, of {name} it returned {type(loss).__name__}")
        if loss.numel() != 1:
            raise ValueError(
                f"loss_fn must return a scalar, of {name} it returned shape {tuple(loss.shape)}; take its mean"
            )
        return loss.reshape(())

    def of(self, batch: Any, name: str) -> list[Tensor]:
        """The gradient of a batch's loss."""
        loss = self.loss(batch, name)
        if not loss.requires_grad:
            raise ValueError(f"loss_fn of {name} depends on no trainable parameter; was it computed without gradients?")
        if self.sharded:
            return _sharded(loss, self.parameters)
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
        return [one.to_dense() if one.is_sparse else one for one in found]

    def dot(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Float[Tensor, ""]:
        """Inner product over all parameters, in at least float32; of shards the sum over processes."""
        each = [_wide(one).flatten().dot(_wide(other).flatten()) for one, other in zip(a, b, strict=True)]
        total = torch.stack([one.to(each[0].device) for one in each]).sum()
        return all_sum(total) if self.sharded else total


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _clipped(gradients: _Gradients, found: list[Tensor], clip: float | None) -> tuple[list[Tensor], Tensor]:
    """A gradient of norm `clip` at most, and its norm before."""
    size = gradients.dot(found, found).sqrt()
    if clip is None or not size > clip:
        return found, size
    return [one * (clip / size).to(one.dtype) for one in found], size


def _products(
    gradients: _Gradients,
    batches: Sequence[Any],
    v: list[Tensor],
    target_norm: Tensor,
    clip: float | None,
    normalise: Normalise,
) -> Measured:
    """Exact gradients of the domains, one at a time, times v."""
    found, sizes = [], []
    for number, batch in enumerate(batches):
        gradient, size = _clipped(gradients, gradients.of(batch, f"domain_batches[{number}]"), clip)
        found.append(gradients.dot(gradient, v))
        sizes.append(size)
    alignments, norms = torch.stack(found), torch.stack(sizes)
    clipped = norms if clip is None else norms.clamp(max=clip)
    if normalise == "cosine":
        alignments = alignments / (clipped * gradients.dot(v, v).sqrt()).clamp(min=1e-30)
    if normalise == "mean_norm":
        alignments = alignments / clipped.mean().clamp(min=1e-30)
    return Measured(alignments, target_norm, norms)


def _differences(
    gradients: _Gradients, batches: Sequence[Any], v: list[Tensor], size: Tensor, step: float
) -> Float[Tensor, " domains"]:
    """What the loss of each batch changes along v, by forward passes on both sides."""
    length = float(size)
    if not 0 < length < float("inf"):
        return size.new_full((len(batches),), 0.0 if length == 0 else torch.nan)
    kept = [parameter.detach().clone() for parameter in gradients.parameters]
    losses = []
    with torch.no_grad():
        try:
            for side in (step, -step):
                for parameter, before, along in zip(gradients.parameters, kept, v, strict=True):
                    parameter.copy_(before).add_(along, alpha=side / length)
                each = [gradients.loss(batch, f"domain_batches[{i}]") for i, batch in enumerate(batches)]
                losses.append(torch.stack(each).cpu().double())
        finally:
            for parameter, before in zip(gradients.parameters, kept, strict=True):
                parameter.copy_(before)  # to subtract what was added would round
    return ((losses[0] - losses[1]) * (length / (2 * step))).to(size)


def _derivatives(
    gradients: _Gradients, batches: Sequence[Any], v: list[Tensor], size: Tensor, step: float
) -> Float[Tensor, " domains"]:
    """Derivatives of the losses along v, by dual numbers."""
    called = _Called(gradients)
    along = {id(parameter): one for parameter, one in zip(gradients.parameters, v, strict=True)}
    trained = {f"model.{name}": p for name, p in gradients.model.named_parameters() if id(p) in along}
    found = []
    for number, batch in enumerate(batches):
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)  # torch's own, on its first dual
            duals = {name: forward_ad.make_dual(p.detach(), along[id(p)]) for name, p in trained.items()}
            loss = torch.func.functional_call(called, duals, (batch, f"domain_batches[{number}]"))
            tangent = forward_ad.unpack_dual(loss).tangent
            found.append(size.new_zeros(()) if tangent is None else tangent.to(size))
    return torch.stack(found)


class _Called(nn.Module):
    """The loss as a module, whose parameters can be replaced for one call."""

    def __init__(self, gradients: _Gradients) -> None:
        super().__init__()
        self.model = gradients.model
        self.gradients = gradients

    def forward(self, batch: Any, name: str) -> Tensor:
        return self.gradients.loss(batch, name, self.model)


# What counts ---------------------------------------------------------------------------------------------------------


def last_layer(model: nn.Module) -> list[nn.Parameter]:
    """Trainable parameters of the last block and of what is registered after it.

    The block is the last entry of that list (`nn.ModuleList`, `nn.Sequential`) which holds most parameters; of a model
    without, the module with the last parameters of all.

    Example:
        >>> [tuple(one.shape) for one in last_layer(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))]
        [(2, 3), (2,)]
    """
    lists = [one for one in model.modules() if isinstance(one, nn.ModuleList | nn.Sequential)]
    lists = [kept for one in lists if len(kept := [b for b in one if any(True for _ in b.parameters())]) > 1]
    if lists:
        block = max(lists, key=lambda one: sum(p.numel() for b in one for p in b.parameters()))[-1]
    else:
        block = [one for one in model.modules() if one._parameters][-1:] or [model]
        block = block[0]
    ids = [id(parameter) for parameter in model.parameters()]
    start = min((ids.index(id(parameter)) for parameter in block.parameters()), default=len(ids))
    return [parameter for parameter in [*model.parameters()][start:] if parameter.requires_grad]


def _fit_for_differences(model: nn.Module, parameters: list[nn.Parameter]) -> bool:
    """Whether losses are precise enough, and gradients dear enough."""
    if any(p.dtype not in (torch.float32, torch.float64) for p in parameters):
        return False
    if torch.is_autocast_enabled(parameters[0].device.type):
        return False
    return sum(p.numel() for p in parameters) >= _ENOUGH * sum(p.numel() for p in model.parameters())


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and gradients on; random states and modes are as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    numpy = sys.modules.get("numpy")
    drawn = random.getstate(), numpy.random.get_state() if numpy else None
    fast = torch.backends.mha.get_fastpath_enabled()  # a kernel of its own, without forward derivatives
    devices = {parameter.device for parameter in model.parameters()} - {torch.device("cpu")}
    kind = next((device.type for device in devices), "cuda")
    with torch.random.fork_rng([device.index or 0 for device in devices], device_type=kind), torch.enable_grad():
        try:
            model.eval()
            torch.backends.mha.set_fastpath_enabled(False)
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for module, mode in modes:
                module.training = mode
            random.setstate(drawn[0])
            if numpy:
                numpy.random.set_state(drawn[1])


# Shards --------------------------------------------------------------------------------------------------------------


def _is_sharded(model: nn.Module, parameters: list[nn.Parameter]) -> bool:
    """Whether each process holds a part of each parameter."""
    wrapped = any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())
    return wrapped or any(hasattr(parameter, "to_local") for parameter in parameters)


def _sharded(loss: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """This process's shards of the mean gradient over processes.

    FSDP reduces gradients as it accumulates them, so they must pass through `.grad`, which has its own back afterwards.
    """
    before = [parameter.grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    finally:
        for parameter, kept in zip(parameters, before, strict=True):
            parameter.grad = kept
    return [getattr(one.detach(), "to_local", one.detach)() for one in found]
