"""A tiny encoder of sentence-transformers with mean pooling, and its stock trainer with a loss of ours."""

from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from kilter.core import Objective
from tests.decoding.encoders import TEXTS, encoder, tokenizer

DIM = 16


def normalize() -> Any:
    """The library's last layer of most models."""
    with suppress(ModuleNotFoundError):
        return import_module("sentence_transformers.base.modules").Normalize()
    return import_module("sentence_transformers.models").Normalize()  # before 5.4


def folder_of(place: Path, **config: Any) -> Path:
    """An encoder as transformers has it; the library adds mean pooling."""
    inner = encoder("bert")
    inner.config.update(config)
    inner.save_pretrained(place)
    tokenizer("bert").save_pretrained(place)
    return place


def load(place: Path, *, normalized: bool = False) -> Any:
    """The model, with a `Normalize` at its end or without."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(place), device="cpu")
    return SentenceTransformer(modules=[*model, normalize()], device="cpu") if normalized else model


def rows(columns: int, count: int = 8, **labels: Any) -> Any:
    """Text columns `text0`, `text1` …, and others as given."""
    from datasets import Dataset

    texts = {
        f"text{column}": [TEXTS[(i + column) % 4] + " the" * (i // 4) for i in range(count)]
        for column in range(columns)
    }
    return Dataset.from_dict(texts | labels)


def trainer(model: Any, objective: Objective, data: Any, out: Path, labels: Any = None, **options: Any) -> Any:
    """As a user makes it: the model, the rows and the loss, and no more."""
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from transformers.trainer_callback import PrinterCallback

    from kilter.hosts.sentence_transformers import as_st_loss

    settings: dict[str, Any] = {
        "output_dir": str(out),
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    loss = options.pop("loss", None) or as_st_loss(objective, model, labels=labels)
    made = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**settings | options),
        train_dataset=data,
        eval_dataset=data,
        loss=loss,
    )
    made.remove_callback(PrinterCallback)
    return made


def one_batch(made: Any, count: int = 4) -> Any:
    """The loss on the first rows, without training."""
    import torch

    batch = made.data_collator([made.train_dataset[i] for i in range(count)])
    made.model.eval()
    with torch.no_grad():
        return made.compute_loss(made.model, {**batch})
