"""One of two processes that train a model with positions: its gradients are those of the whole batch.

Run by `test_positions.py` as `python -m torch.distributed.run … -m tests.distributed.positions_worker FOLDER`.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from kilter.pretraining import SeqPE, attach
from tests.hosts.positioned import model_of


def measured(rank: int) -> dict[str, float]:
    """What is compared; models are gone when it returns, since one that outlives the group of processes may hang."""
    found: dict[str, float] = {}
    ids = torch.randint(3, 50, (8, 12), generator=torch.Generator().manual_seed(0))
    for kind in ("gpt2", "llama"):
        torch.manual_seed(0)
        plain = attach(model_of(kind), SeqPE(200, contrast_weight=0, transfer_weight=0, shift_rate=0))
        plain(ids, labels=ids).loss.backward()
        wanted = {name: weight.grad.clone() for name, weight in plain.named_parameters() if weight.requires_grad}
        plain.zero_grad()
        model = DistributedDataParallel(plain)
        half = ids[4 * rank : 4 * rank + 4]
        model(half, labels=half).loss.backward()
        named = dict(plain.named_parameters())
        found[f"{kind}-gradient"] = max(float((named[name].grad - grad).abs().max()) for name, grad in wanted.items())
        torch.manual_seed(rank)  # the processes shift at different steps, and nothing waits for what is unused
        trained = DistributedDataParallel(attach(model_of(kind), SeqPE(200, shift_rate=0.5))).train()
        optimiser = torch.optim.SGD([w for w in trained.parameters() if w.requires_grad], 0.1)
        shifted = 0
        for _ in range(8):
            trained(half, labels=half).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            shifted += "position_transfer" not in trained.module.kilter_parts
        found[f"{kind}-shifted"] = shifted
        total = sum(float(weight.double().sum()) for weight in trained.parameters())
        totals = [None, None]
        dist.all_gather_object(totals, total)
        found[f"{kind}-apart"] = abs(totals[0] - totals[1])
    return found


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    found = measured(rank)
    (Path(sys.argv[1]) / f"rank-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
