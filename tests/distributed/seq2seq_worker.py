"""One of two processes that train an encoder–decoder with an objective attached.

Run by `test_align_seq2seq.py` as `python -m torch.distributed.run … -m tests.distributed.seq2seq_worker FOLDER`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from kilter.hosts.transformers import align_seq2seq
from tests.hosts.pairs import FAMILIES, Nearer, batch, model_of
from tests.hosts.test_seq2seq_trainer import logged, trainer_for, weights


def attached(family: str, seed: int = 0, **options: Any) -> tuple[Any, Nearer, Any]:
    """A model, its objective and their handle."""
    torch.manual_seed(seed)
    objective, model = Nearer(), model_of(family)
    return model, objective, align_seq2seq(model, objective, **options)


def gradient_apart(family: str, rank: int) -> float:
    """How far gradients of the two are from the mean of those of the halves in one process."""
    whole = batch(8)
    halves = [{name: value[4 * i : 4 * i + 4] for name, value in whole.items()} for i in range(2)]
    plain, _, _ = attached(family)
    for half in halves:
        (plain(**half).loss / 2).backward()
    wanted = {name: one.grad for name, one in plain.named_parameters() if one.grad is not None}
    model, _, _ = attached(family)
    distributed = DistributedDataParallel(model)
    distributed(**halves[rank]).loss.backward()
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    assert found.keys() == wanted.keys()
    return max(float((found[name] - gradient).abs().max()) for name, gradient in wanted.items())


def trained(folder: Path, rank: int, checkpoint: Path | None = None) -> tuple[torch.Tensor, dict[str, list[float]]]:
    """Weights and log of a training that starts late, where nothing waits in vain for what is unused."""
    # of a resumed run the draw is another; so is that of the second process, until the first one's is sent
    model, objective, handle = attached("t5", seed=rank if checkpoint is None else 5 + rank, start=2, ramp=3)
    options: dict[str, Any] = {"gradient_checkpointing": True, "ddp_find_unused_parameters": False, "max_steps": 6}
    trainer = trainer_for(model, folder, handle=handle, save_strategy="steps", save_steps=3, **options)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    history = {name: logged(trainer, name) for name in ("loss", "nll", "contrast", "objective_weight")}
    return torch.cat([weights(model), weights(objective)]), history


def measured(rank: int, folder: Path) -> dict[str, Any]:
    """What is compared; models are gone when it returns, since one that outlives the group of processes may hang."""
    found: dict[str, Any] = {f"{family}-gradient": gradient_apart(family, rank) for family in FAMILIES}
    whole, history = trained(folder / "whole", rank)
    again, _ = trained(folder / "resumed", rank, folder / "whole" / "checkpoint-3")
    everyone = [torch.empty_like(whole) for _ in range(2)]
    dist.all_gather(everyone, whole)
    found["apart"] = float((everyone[0] - everyone[1]).abs().max())
    found["resumed"] = float((again - whole).abs().max())
    return found | history


def main() -> None:
    dist.init_process_group("gloo")
    rank, folder = dist.get_rank(), Path(sys.argv[1])
    found = measured(rank, folder)
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
