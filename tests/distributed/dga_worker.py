"""One of two processes that train with dynamic gradient alignment: under transformers' Trainer (DDP), and FSDP alone.

Run by `test_dga_processes.py` as `python -m torch.distributed.run … -m tests.distributed.dga_worker FOLDER`.
"""

import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from kilter.pretraining import gradient_alignments
from tests.pretraining.small_models import Tiny, next_token, tokens
from tests.pretraining.small_trainer import Indices, dga, mixture, trainer


def ddp(folder: Path) -> dict[str, Any]:
    """A run of twelve steps, and one that is taken up at the seventh; each process with another seed to begin with."""
    found: dict[str, Any] = {}
    for name, resumed in (("whole", None), ("resumed", str(folder / "whole" / "checkpoint-7"))):
        one, rows = dga(mixture=mixture(seed=3 + dist.get_rank())), Indices()
        made = trainer(folder / name, [one], rows, max_steps=12, per_device_train_batch_size=4)
        made.train(resume_from_checkpoint=resumed)
        model: Any = made.model
        parameters = torch.cat([p.detach().flatten() for p in model.parameters()])
        found[name] = {"history": one.history, "asked": rows.asked, "sum": float(parameters.double().sum())}
    return found


def fsdp() -> dict[str, Any]:
    """Alignments of sharded parameters, each process with its half, and of a whole model with all."""
    batches = [tokens(4, seed, 4 * seed, 4 * seed + 6) for seed in range(3)]
    target = tokens(4, 8, 2, 9)
    expected = gradient_alignments(Tiny(), next_token, batches, target, method="gradients")
    model: Any = Tiny()
    mesh = init_device_mesh("cpu", (2,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    half = slice(2 * dist.get_rank(), 2 * dist.get_rank() + 2)
    next_token(model.eval(), target[half]).backward()  # the batch norm counts nothing
    model.train()
    before = [p.grad.to_local().clone() for p in model.parameters()]
    values = [p.to_local().clone() for p in model.parameters()]
    found = gradient_alignments(model, next_token, [batch[half] for batch in batches], target[half])
    return {
        "error": float(((found - expected).abs() / expected.abs().max()).max()),
        "gradients": all(torch.equal(a, p.grad.to_local()) for a, p in zip(before, model.parameters(), strict=True)),
        "values": all(torch.equal(a, p.to_local()) for a, p in zip(values, model.parameters(), strict=True)),
        "training": model.training,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    dist.init_process_group("gloo")
    out = {"fsdp": fsdp(), "ddp": ddp(folder)}
    (folder / f"rank-{dist.get_rank()}.json").write_text(json.dumps(out))
    gc.collect()  # a trainer and its callbacks hold each other, and its model must be gone before the group is
    dist.destroy_process_group()
