"""One of two processes that train an objective of its own parameters under sentence-transformers' trainer.

Run by `test_st_loss.py` as `python -m torch.distributed.run … -m tests.distributed.st_worker FOLDER`. Steps are
compared with those of one process on the joined batch, whose ends lie in `FOLDER`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from kilter.dist import as_first, gather
from tests.hosts.learning import Gathered, Remembering, Scaled
from tests.hosts.small_encoder import load, rows, trainer

STEPS: dict[str, Any] = {
    "optim": "sgd",
    "max_grad_norm": 0.0,
    "lr_scheduler_type": "constant",
    "max_steps": 2,
    "learning_rate": 0.1,
    "ddp_find_unused_parameters": True,  # what pools words alone has no use for the pooler
}
OBJECTIVES = {"scaled": Scaled, "gathered": Gathered}


def ends(made: Any) -> dict[str, Tensor]:
    """All that a run leaves behind, in this process."""
    return {
        f"{whose}.{name}": value.detach().clone()
        for whose, module in (("model", made.model), ("objective", made.loss.objective))
        for name, value in module.state_dict().items()
    }


def run(
    folder: Path, name: str, rows_at_once: int, accumulation: int = 1, mini: int | None = None
) -> dict[str, Tensor]:
    """Two steps of plain descent."""
    from kilter.hosts.sentence_transformers import as_st_loss

    model = load(folder / "still", normalized=True)
    objective = OBJECTIVES[name]()
    how = {"per_device_train_batch_size": rows_at_once, "gradient_accumulation_steps": accumulation}
    loss = as_st_loss(objective, model, mini_batch_size=mini)
    made = trainer(model, objective, rows(2, 16), folder / "run", loss=loss, **STEPS, **how)
    made.train()
    return ends(made)


def worst(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Largest difference."""
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def apart(values: dict[str, Tensor]) -> float:
    """Largest difference from the first process."""
    firsts = {name: value.clone() for name, value in values.items()}
    as_first([value for value in firsts.values()])
    return worst(values, firsts)


def gathers(rank: int) -> dict[str, Any]:
    """The gradient of a gather, against one process; and what does not fit."""
    whole = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    mine = whole.detach()[3 * rank : 3 * rank + 3].clone().requires_grad_()

    def loss(left: Tensor, right: Tensor, first: int) -> Tensor:
        return torch.nn.functional.cross_entropy(left @ right.T, torch.arange(len(left)) + first)

    loss(whole, whole, 0).backward()
    (loss(mine, gather(mine), 3 * rank) / 2).backward()  # of the mean over processes
    assert whole.grad is not None
    assert mine.grad is not None
    found: dict[str, Any] = {"gradient": float((mine.grad - whole.grad[3 * rank : 3 * rank + 3]).abs().max())}
    numbers = gather(torch.tensor([rank, 5]))
    found["numbers"] = numbers.tolist()
    try:
        gather(torch.zeros(2 + rank, 3))
    except ValueError as error:
        found["ragged"] = str(error)
    return found


def main(folder: Path) -> None:
    """Do it all and write what was found."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    found = gathers(rank)
    for key, name, each, accumulation, mini in (
        ("scaled", "scaled", 4, 1, None),
        ("scaled-accumulated", "scaled", 2, 2, None),
        ("scaled-in-pieces", "scaled", 4, 1, 2),
        ("gathered", "gathered", 4, 1, None),
    ):
        mine = run(folder, name, each, accumulation, mini)
        found[f"{key}-apart"] = apart(mine)
        found[f"{key}-one"] = worst(mine, load_file(folder / f"{name}.safetensors"))

    torch.manual_seed(rank)  # what differs at first is the first process's
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "ddp_find_unused_parameters": True}
    whole = trainer(load(folder / "still"), Remembering(), rows(2, 16), folder / "whole", **saving)
    with torch.no_grad():
        whole.loss.objective.head.weight.add_(rank)
    whole.train()
    found["remembering-apart"] = apart({k: v for k, v in ends(whole).items() if "model" in k or "head" in k})
    found["pushed"] = int(whole.loss.objective.pushed)
    again = trainer(load(folder / "still"), Remembering(), rows(2, 16), folder / "again", **saving)
    again.train(resume_from_checkpoint=str(folder / "whole" / "checkpoint-2"))
    found["resumed"] = worst(ends(again), ends(whole))
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
