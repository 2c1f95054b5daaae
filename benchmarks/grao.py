"""What a reference answer costs in a step of trl's GRPO trainer.

    python benchmarks/grao.py [--repeats 15] [--sizes group] [--json FILE]

A step is generation, scoring, the loss, backward and an optimiser's update of a random Llama of two layers, with eight
samples of each prompt. `grpo` is the stock trainer, `grao` the same with `align_group`. Steps are interleaved, times
are CPU time, ratios medians of ratios. The ratio should be at most 1.10, better 1.04.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _timing import interleaved
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportPrivateImportUsage]

from kilter.hosts.trl import align_group
from kilter.preference import GroupRelativeAlignment

SAMPLES, MOST, WANTED = 8, 1.10, 1.04


class Size(NamedTuple):
    """Prompts of a step, and words of a prompt, and of an answer, be it sampled or the reference."""

    prompts: int
    prompt: int
    answer: int


SIZES = {"group": Size(1, 16, 32), "groups": Size(4, 16, 32), "long": Size(2, 64, 96)}
VOCABULARY = 4000


def tokenizer_of_words() -> PreTrainedTokenizerFast:
    """Words w0, w1, … as tokens."""
    words = ["<pad>", "<end>", *(f"w{number}" for number in range(VOCABULARY - 2))]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<end>")


def rows(size: Size) -> list[dict[str, str]]:
    """Prompts with references, every word another."""
    drawn = torch.randint(0, VOCABULARY - 2, (size.prompts, size.prompt + size.answer - 1)).tolist()
    texts = [[f"w{number}" for number in row] for row in drawn]
    return [{"prompt": " ".join(row[: size.prompt]), "chosen": " ".join(row[size.prompt :])} for row in texts]


def judge(completion_ids: list[list[int]], **_: Any) -> list[float | None]:
    """As quick as a reward can be."""
    return [float(sum(ids) % 3 - 1) for ids in completion_ids]


def trainer_of(size: Size, folder: Path, *, attached: bool) -> GRPOTrainer:
    """A trainer after its first step, its samples all as long as they may be."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        pad_token_id=0,
        eos_token_id=1,
    )
    settings = GRPOConfig(
        str(folder),
        loss_type="grpo",
        num_generations=SAMPLES,
        per_device_train_batch_size=SAMPLES * size.prompts,
        max_completion_length=size.answer,
        generation_kwargs={"min_new_tokens": size.answer},
        max_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = GRPOTrainer(
        LlamaForCausalLM(config), judge, settings, Dataset.from_list(rows(size)), processing_class=tokenizer_of_words()
    )
    trainer.remove_callback(PrinterCallback)
    if attached:
        align_group(trainer, GroupRelativeAlignment())
    trainer.train()
    return trainer


def step(trainer: Any) -> Callable[[], float]:
    """A step of training; its loss."""
    batch = [row for row in trainer.train_dataset for _ in range(SAMPLES)]

    def run() -> float:
        trainer.model.train()
        loss = trainer.training_step(trainer.model_wrapped, batch, None)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return float(loss)

    return run


def compared(name: str, repeats: int) -> dict[str, Any]:
    """Seconds of a step of either, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        kinds = {"grpo": False, "grao": True}
        steps = {kind: step(trainer_of(SIZES[name], Path(folder), attached=on)) for kind, on in kinds.items()}
        seconds = interleaved(steps, repeats, warm=2)
    ratio = statistics.median(a / b for a, b in zip(seconds["grao"], seconds["grpo"], strict=True))
    return {
        "size": name,
        **{f"{kind}_ms": round(1e3 * statistics.median(values), 1) for kind, values in seconds.items()},
        "grao_over_grpo": round(ratio, 3),
        "target": MOST,
        "wanted": WANTED,
        "met": ratio <= MOST,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = []
    for name in options.sizes:
        found.append(compared(name, options.repeats))
        print(json.dumps(found[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
