"""A stock GRPO trainer of a tiny Llama whose tokens are words, on a few prompts with a reference answer each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

WORDS = 24
SPECIAL = ("<pad>", "<end>", "<|user|>", "<|assistant|>", "\n")
PAD, END, USER, ASSISTANT, LINE = range(5)
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }} <end> \n {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
QUESTIONS = ("w1 w2", "w3", "w4 w5 w6", "w7 w8")
ANSWERS = ("w9 w10", "w11 w12 w13", "w14", "w15 w16")


def tokenizer_of_words(template: str | None = TEMPLATE) -> Any:
    """Ids 0 to 4 are SPECIAL, word n is 5 + n; the template ends a message with EOS and a line's end."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *(f"w{n}" for n in range(WORDS))])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<end>", pad_token="<pad>", additional_special_tokens=list(SPECIAL[2:4])
    )
    tokenizer.chat_template = template
    return tokenizer


def ids(text: str) -> list[int]:
    """Token ids of words."""
    return [5 + int(word[1:]) for word in text.split()]


def model_of_words(**more: Any) -> Any:
    """A Llama of two layers, always the same."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + WORDS,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=PAD,
        initializer_range=0.4,
        **sizes,
        **more,
    )
    return LlamaForCausalLM(config)


def pairs(*, chat: bool = True, messages: bool = False) -> list[dict[str, Any]]:
    """Prompts with a reference answer, as a text or `messages`, and another column."""
    rows = []
    for number, (question, answer) in enumerate(zip(QUESTIONS, ANSWERS, strict=True)):
        prompt: Any = [{"role": "user", "content": question}] if chat else question
        chosen: Any = [{"role": "assistant", "content": answer}] if messages else answer
        rows.append({"prompt": prompt, "chosen": chosen, "number": number})
    return rows


class Judge:
    """Scores completions by their tokens, and remembers what it was asked."""

    __name__ = "judge"

    def __init__(self, silent: Sequence[int] = (), flat: bool = False) -> None:
        self.silent = silent
        self.flat = flat
        self.calls: list[dict[str, Any]] = []

    def __call__(self, prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float | None]:
        found = [None if row in self.silent else self.of(ids) for row, ids in enumerate(completion_ids)]
        asked = {"prompts": prompts, "completions": completions, "ids": completion_ids, "scores": found, **columns}
        self.calls.append(asked)
        columns["log_metric"]("asked", float(len(prompts)))
        columns["log_extra"]("seen", [len(one) for one in completion_ids])
        return found

    def of(self, ids: Sequence[int]) -> float:
        return -1.0 if self.flat else sum(token * (place + 1) % 7 for place, token in enumerate(ids)) / 5


def trainer_of(folder: Path, reward: Any, *, chat: bool = True, model: Any = None, rows: Any = None, **how: Any) -> Any:
    """A trainer of one step of plain SGD on eight samples of two prompts, four each."""
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportPrivateImportUsage]

    peft_config, tokenizer = how.pop("peft_config", None), how.pop("tokenizer", None)
    settings: dict[str, Any] = {
        "loss_type": "grpo",
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "max_completion_length": 6,
        "temperature": 1.3,
        "max_steps": 1,
        "learning_rate": 0.5,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    trainer = GRPOTrainer(
        model=model_of_words() if model is None else model,
        reward_funcs=reward,
        args=GRPOConfig(str(folder), **settings | how),
        train_dataset=Dataset.from_list(pairs(chat=chat) if rows is None else rows),
        processing_class=tokenizer_of_words() if tokenizer is None else tokenizer,
        peft_config=peft_config,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
