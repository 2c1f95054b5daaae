"""Trains a small GPT-2 on three made domains with transformers' Trainer; as a script, the process that is killed.

python -m tests.pretraining.small_trainer OUT [STEP AT WHICH IT DIES]
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Generator
from torch.utils.data import ConcatDataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from kilter.pretraining import DomainMixture, DynamicGradientAlignment
from tests.pretraining.small_models import rows_of

DOMAINS = {"low": rows_of(40, 0, 10, 0), "middle": rows_of(30, 10, 20, 1), "high": rows_of(20, 20, 30, 2)}
TARGET = rows_of(20, 10, 20, 5)


class Indices:
    """The concatenation of the domains, which remembers what was asked for."""

    def __init__(self, domains: Any = None) -> None:
        each: Any = [*(domains or DOMAINS).values()]
        self.rows = ConcatDataset(each)
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return self.rows[index]


def gpt2(dropout: float = 0.1) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    ids: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "loss_type": "ForCausalLM"}
    drop: dict[str, Any] = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    return GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2, **ids, **drop))


def mixture(seed: int = 3) -> DomainMixture:
    return DomainMixture([len(one) for one in DOMAINS.values()], generator=Generator().manual_seed(seed))


def dga(**options: Any) -> DynamicGradientAlignment:
    given: dict[str, Any] = {"domains": DOMAINS, "target": TARGET, "step_size": 1.0, "every": 5, "ema": 0.5}
    return DynamicGradientAlignment(options.pop("mixture", None) or mixture(), **{**given, **options})


def trainer(out: Path | str, callbacks: Any, rows: Any = None, model: Any = None, **changed: Any) -> Trainer:
    data: Any = rows or Indices()
    given: dict[str, Any] = {
        "max_steps": 30,
        "per_device_train_batch_size": 8,
        "save_steps": 7,
        "logging_steps": 10,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "logging_nan_inf_filter": False,
    }
    arguments = TrainingArguments(str(out), **{**given, **changed})
    return Trainer(model or gpt2(), arguments, train_dataset=data, callbacks=callbacks)


class Dies(TrainerCallback):
    """As by a power cut, when a step begins."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    made = trainer(out, [dga(), *(Dies(int(step)) for step in sys.argv[2:])])
    made.train(resume_from_checkpoint=any(out.glob("checkpoint-*")))
    made.save_model(str(out / "last"))
