"""What an objective learns or remembers, where its host looks after the model only: files, processes, means.

Parameters of a loss are optimised by sentence-transformers' trainer, but neither shared between processes nor saved;
buffers, such as a bank of vectors or running statistics, are nobody's business. Torch only.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from weakref import WeakSet

from safetensors.torch import load_file, save
from torch import Tensor, nn

from kilter import __version__, dist

_IN_STEP: WeakSet[nn.Module] = WeakSet()


def keep_in_step(objective: nn.Module) -> None:
    """Average the gradients of an objective's parameters over processes, as the host does with the model's only.

    After every backward pass: so also where several make a step, and before what looks at gradients for overflow.
    Every process must use the same parameters, as with the model's.
    """
    if objective in _IN_STEP:  # losses of several data sets share it
        return
    _IN_STEP.add(objective)
    for parameter in filter(lambda one: one.requires_grad, objective.parameters()):
        parameter.register_post_accumulate_grad_hook(_average)


def _average(parameter: Tensor) -> None:
    if dist.world_size() > 1 and parameter.grad is not None:
        parameter.grad.copy_(dist.all_sum(parameter.grad) / dist.world_size())


class Means:
    """Means of statistics over batches, apart for training and evaluation."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._sums: dict[bool, dict[str, tuple[Tensor, int]]] = {True: {}, False: {}}

    def add(self, stats: Mapping[str, Tensor], *, training: bool) -> None:
        """Those of one batch; nothing waits for the device."""
        sums = self._sums[training]
        for name, value in stats.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = (total + value.detach().float(), count + 1)

    def take(self, *, training: bool) -> dict[str, float]:
        """The means, of this process; and begin anew."""
        sums, self._sums[training] = self._sums[training], {}
        return {name: float(f"{float(total) / count:.5g}") for name, (total, count) in sums.items()}


def save_objective(objective: nn.Module, folder: Path, name: str = "objective") -> None:
    """Write parameters and buffers to `<name>.safetensors`, and what they belong to to `<name>.json`.

    Each file is whole or not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in objective.state_dict().items()}
    about = {"objective": type(objective).__name__, "options": repr(objective), "kilter": __version__}
    _write(folder / f"{name}.json", json.dumps(about, indent=2, ensure_ascii=False).encode() + b"\n")
    _write(folder / f"{name}.safetensors", save(tensors))


def load_objective(objective: nn.Module, folder: Path, name: str = "objective") -> None:
    """Take up what `save_objective` wrote.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it belongs to another objective, or to one with other sizes.
    """
    file = folder / f"{name}.safetensors"
    try:
        objective.load_state_dict(load_file(file))
    except RuntimeError as error:
        about = folder / f"{name}.json"
        whose = json.loads(about.read_text(encoding="utf-8"))["objective"] if about.is_file() else "another objective"
        raise ValueError(
            f"{file} is of {whose} and does not fit this {type(objective).__name__}; resume with the objective and the "
            f"options the run began with ({error})"
        ) from error


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
