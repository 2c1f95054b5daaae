"""One of two processes that compute every case's loss and gradient on half a batch each, through DDP.

Run by `test_objectives.py` as `python -m tests.conformance.two_processes RANK FOLDER`.
"""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.conformance.case import Case, all_cases, cannot_run, is_float


class Scaled(nn.Module):
    """A case's function behind one learnt factor (of ones) on each float input, as a model would stand before it."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.objective = case.build()
        self.pure = case.pure(self.objective)
        self.scales = nn.ParameterDict(
            {
                name: torch.ones_like(value.select(self.pure.axes[name].index("batch"), 0))
                for name, value in self.pure.tensors.items()
                if is_float(value) and "batch" in self.pure.axes[name]
            }
        )

    def forward(self, pick: list[int]) -> Tensor:
        tensors: dict[str, Any] = self.pure.batch(pick)
        for name, scale in self.scales.items():
            tensors[name] = tensors[name] * scale.unsqueeze(self.pure.axes[name].index("batch"))
        return self.pure.loss(tensors)


def loss_and_gradient(model: nn.Module, pick: list[int]) -> dict[str, Tensor]:
    """Loss and the gradient of every parameter, by name."""
    loss = model(pick)
    loss.backward()
    inner = getattr(model, "module", model)
    return {"loss": loss.detach()} | {n: p.grad for n, p in inner.named_parameters() if p.grad is not None}


def main(rank: int, folder: Path) -> None:
    """Join the other process and write what came out of each case."""
    dist.init_process_group("gloo", init_method=(folder / "meet").as_uri(), rank=rank, world_size=2)
    found = {}
    for case in all_cases():
        if "processes" in case.skip:
            continue
        torch.manual_seed(0)
        try:  # an input that has no weight has no gradient
            model = DistributedDataParallel(Scaled(case), find_unused_parameters=True)
            mine = loss_and_gradient(model, [2 * rank, 2 * rank + 1])
        except ModuleNotFoundError as error:  # in both processes alike; the test itself says so
            cannot_run(error)
            continue
        dist.all_reduce(mine["loss"])
        mine["loss"] /= 2
        found |= {f"{case}/{name}": value.clone() for name, value in mine.items()}
    if rank == 0:
        save_file(found, folder / "found.safetensors")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
