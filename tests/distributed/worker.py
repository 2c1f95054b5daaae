"""One of two processes that share a batch: what `align_ctc` does under DDP, the Trainer and FSDP.

Run by `test_two_processes.py` as `python -m torch.distributed.run … -m tests.distributed.worker FOLDER`. Everything is
compared with one process on the joined batch; the worst difference of each kind is written to `FOLDER/rank-N.json`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from kilter.hosts.transformers import Start, align_ctc, ctc_outputs
from kilter.speech import AlignWithPurpose, ctc_greedy
from tests.hosts.tiny import Tiny

WEIGHT = 3.0


def quiet_start(alignments: Tensor) -> Tensor:
    """Nothing in the first frames."""
    edited = alignments.clone()
    edited[..., :15] = 0
    return edited


AWP = AlignWithPurpose(quiet_start, temperature=1e-6)
"""Samples the best path, always the same."""

Gradients = Mapping[str, Tensor]


def gradients(model: Any) -> Gradients:
    """Whole gradients by parameter name."""
    found = {name.removeprefix("module."): p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: g.full_tensor() if isinstance(g, DTensor) else g.clone() for name, g in found.items()}


def worst(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], scale: float = 1.0) -> float:
    """Largest difference, relative to the largest value there is."""
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    size = max(float(value.abs().max()) for value in theirs.values())
    return max(float((scale * ours[name] - theirs[name]).abs().max()) for name in theirs) / size


class Worker:
    """Two halves of eight utterances."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tiny = Tiny(folder)
        self.rank = dist.get_rank()
        self.batch = self.tiny.batch()
        self.half = {name: value[4 * self.rank : 4 * self.rank + 4] for name, value in self.batch.items()}
        self.found: dict[str, Any] = {}

    def alone(self, reduction: str) -> tuple[Tensor, Gradients]:
        """One process, the joined batch."""
        model = self.tiny(ctc_loss_reduction=reduction)
        plain = model(**self.batch).loss.detach()
        align_ctc(model, AWP, weight=WEIGHT)
        loss = model(**self.batch).loss
        assert loss > plain
        loss.backward()
        return loss.detach(), gradients(model)

    def ddp(self, reduction: str) -> None:
        """A loop of one's own. DDP takes the mean over processes, of sums too, as with plain CTC."""
        loss, gradient = self.alone(reduction)
        model = self.tiny(ctc_loss_reduction=reduction)
        align_ctc(model, AWP, weight=WEIGHT)
        self.check(f"ddp-{reduction}", DistributedDataParallel(model, find_unused_parameters=True), loss, gradient)

    def sharded(self, reduction: str) -> None:
        """`fully_shard` on a mesh of CPUs."""
        loss, gradient = self.alone(reduction)
        model = self.tiny(ctc_loss_reduction=reduction)
        align_ctc(model, AWP, weight=WEIGHT)
        mesh = init_device_mesh("cpu", (2,))
        for layer in model.wav2vec2.encoder.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        before = self.check(f"fsdp-{reduction}", model, loss, gradient)
        torch.optim.SGD(model.parameters(), 1e-4).step()
        assert self.joined(model(**self.half).loss) < before

    def check(self, name: str, model: Any, loss: Tensor, gradient: Gradients) -> Tensor:
        """One forward and backward pass on this process's half; the mean loss of both."""
        scale = 2.0 if name.endswith("sum") else 1.0
        mine = model(**self.half).loss
        mine.backward()
        both = self.joined(mine)
        self.found[f"{name}-loss"] = float((scale * both - loss).abs() / loss)
        self.found[f"{name}-gradient"] = worst(gradients(model), gradient, scale)
        return both

    def joined(self, mine: Tensor) -> Tensor:
        """The mean over processes."""
        total = mine.detach().clone()
        dist.all_reduce(total)
        return total / 2

    def by_hand(self) -> None:
        """`loss = ctc + weight * awp(log_probs, input_lengths).loss`, no handle at all."""
        loss, gradient = self.alone("mean")
        inner = self.tiny()
        audio = {name: value for name, value in self.half.items() if name != "labels"}
        lengths = ctc_outputs(inner, audio)[1]
        model = DistributedDataParallel(inner, find_unused_parameters=True)
        out = model(**self.half)
        mine = out.loss + WEIGHT * AWP(out.logits.log_softmax(-1), lengths).loss
        mine.backward()
        self.found["by-hand-loss"] = float((self.joined(mine) - loss).abs() / loss)
        self.found["by-hand-gradient"] = worst(gradients(model), gradient)

    def trainer(self, model: Any, callbacks: list[Any], **options: Any) -> Trainer:
        """The stock Trainer, plain gradient descent."""
        settings: dict[str, Any] = {
            "use_cpu": True,
            "per_device_train_batch_size": 4,
            "max_steps": 1,
            "optim": "sgd",
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
        }
        arguments = TrainingArguments(str(self.folder / "run"), **settings | options)
        trainer = Trainer(model, arguments, train_dataset=self.tiny.rows())
        trainer.remove_callback(PrinterCallback)
        for callback in callbacks:
            trainer.add_callback(callback)
        return trainer

    def stock(self, reduction: str, accumulation: int) -> None:
        """A step of the Trainer is a step of gradient descent on the joined batch."""
        loss, gradient = self.alone(reduction)
        model = self.tiny(ctc_loss_reduction=reduction)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        handle = align_ctc(model, AWP, weight=WEIGHT)
        trainer = self.trainer(
            model, [handle], per_device_train_batch_size=4 // accumulation, gradient_accumulation_steps=accumulation
        )
        trainer.train()
        after = dict(model.named_parameters())
        moved = {name: (before[name] - after[name].detach()) / 1e-2 for name in gradient}
        name = f"trainer-{reduction}-{accumulation}"
        self.found[f"{name}-gradient"] = worst(moved, gradient)
        row = trainer.state.log_history[0]
        self.found[f"{name}-loss"] = abs(row["loss"] - float(loss)) / float(loss)
        self.found[f"{name}-parts"] = abs(row["ctc"] + row["awp"] - row["loss"]) / row["loss"]

    def words(self, threshold: float) -> None:
        """This process hears every word right, the other none: together one half, at most."""
        model = self.tiny("small")
        batch = self.tiny.batch("small")
        audio = {name: value for name, value in batch.items() if name != "labels"}
        heard = [found.tokens for found in ctc_greedy(*ctc_outputs(model, audio))]

        def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
            labels = torch.full((len(rows), 16), -100)
            for i, row in enumerate(rows):
                tokens = torch.tensor(heard[row["index"]])
                labels[i, : len(tokens)] = tokens if self.rank == 0 else tokens % 10 + 1
            return {"labels": labels} | {name: torch.stack([row[name] for row in rows]) for name in audio}

        handle = align_ctc(model, AWP, weight=1.0, start=Start(word_success=threshold))
        trainer = self.trainer(model, [handle], max_steps=3, learning_rate=0.0, remove_unused_columns=False)
        trainer.train_dataset = [row | {"index": i} for i, row in enumerate(self.tiny.rows("small"))]
        trainer.data_collator = collate
        on: list[bool] = []

        class Watch(TrainerCallback):
            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                on.append(handle.on)

        trainer.add_callback(Watch)
        trainer.train()
        self.found[f"words-{threshold}"] = on

    def checkpoint(self) -> None:
        """A run of both processes, taken up again."""
        ends = []
        for resume in (None, str(self.folder / "run" / "checkpoint-2")):
            model = self.tiny("small", dropout=0.1)
            handle = align_ctc(model, AWP, weight=1.0, start=1, schedule="linear")
            options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
            trainer = self.trainer(model, [handle], **options)
            trainer.train_dataset = self.tiny.rows("small")
            trainer.train(resume_from_checkpoint=resume)
            ends.append({name: value.clone() for name, value in model.state_dict().items()})
        self.found["resume"] = worst(ends[1], ends[0])
        state = json.loads((self.folder / "run" / "checkpoint-2" / "trainer_state.json").read_text())
        self.found["state"] = state["stateful_callbacks"]["kilter.align_ctc"]
        self.found["steps"] = [row["step"] for row in state["log_history"]]


def main(folder: Path) -> None:
    """Do it all and write what was found."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    dist.init_process_group("gloo")
    worker = Worker(folder)
    for reduction in ("mean", "sum"):
        worker.ddp(reduction)
        worker.sharded(reduction)
        worker.stock(reduction, accumulation=1)
        worker.stock(reduction, accumulation=2)
    worker.by_hand()
    worker.words(0.4)
    worker.words(0.6)
    worker.checkpoint()
    (folder / f"rank-{worker.rank}.json").write_text(json.dumps(worker.found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
