"""Tiny writers, a classifier and trainers of TRL for the tests of what is hung on them."""

from pathlib import Path
from typing import Any

import torch

from tests.own_text import SPECIAL, TEMPLATE, WORDS, word_tokenizer, writing_model

PROMPTS = ["the train", "a steam train went to town", "rain all day"]
CHATS = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]


def writer(folder: Path, *, template: bool = True) -> tuple[Any, Any]:
    """A small GPT-2 and its tokenizer, which pads."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    writing_model(folder, template=template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = "<pad>"
    return AutoModelForCausalLM.from_pretrained(folder), tokenizer


def classifier(folder: Path, *, labels: int = 1) -> Path:
    """A random GPT-2 that gives texts a number, saved with a tokenizer that has a template."""
    import transformers as hf

    torch.manual_seed(1)
    tokenizer = word_tokenizer(pad_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    sizes: dict[str, Any] = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 64, "initializer_range": 0.5}
    tokens: dict[str, Any] = {"vocab_size": len(SPECIAL) + len(WORDS), "pad_token_id": 0, "eos_token_id": 1}
    config = hf.GPT2Config(num_labels=labels, bos_token_id=1, **sizes, **tokens)  # type: ignore[call-arg]
    hf.GPT2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def settings(kind: str, folder: Path, **options: Any) -> Any:
    """Arguments of a trainer that is quiet and runs here."""
    import trl

    asked: dict[str, Any] = {
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return getattr(trl, f"{kind}Config")(str(folder), **asked | options)


def trainer_for(kind: str, folder: Path, rewards: Any, data: Any, *, template: bool = True, **options: Any) -> Any:
    """A stock trainer, `RLOO` or `GRPO`."""
    import trl
    from transformers.trainer_callback import PrinterCallback

    model, tokenizer = writer(folder / "writer", template=template)
    arguments = settings(kind, folder / "out", **options)
    trainer = getattr(trl, f"{kind}Trainer")(
        model, reward_funcs=rewards, args=arguments, train_dataset=data, processing_class=tokenizer
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
