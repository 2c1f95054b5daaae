"""The model of an arm: loaded, given a LoRA, tuned, and saved as the ordinary model that it was."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from kilter.lab.files import full_disk_said
from kilter.models.text_model import TextModel


def load(name: str, texts: Iterable[str], device: str, *, half: bool) -> TextModel:
    """smollm2, random (tiny, with a vocabulary from `texts`), or a folder, hub id or GGUF; padded on the left.

    Raises:
        ValueError: there is none, or it is no causal model.
    """
    if name == "random":
        from kilter.models.tiny_text import tiny_lm, tiny_tokenizer

        found = TextModel(tiny_lm(tokenizer := tiny_tokenizer(texts)), tokenizer)
    else:
        from kilter.data.pretrained import small_model

        found = TextModel.load(small_model(name), device=device)
    if found.encoder_decoder:
        raise ValueError(f"model: {name} is an encoder–decoder model; give a causal one")
    found.model = ordinary(found.model).to(torch.device(device), torch.bfloat16 if half else torch.float32)
    found.tokenizer.padding_side = "left"
    return found


def ordinary(model: Any) -> Any:
    """A model of a GGUF is marked as quantised, though it no longer is, and can then be neither tuned nor saved."""
    if getattr(model.config, "quantization_config", None) is None:
        return model
    settings = model.config.to_dict()
    settings.pop("quantization_config")
    plain = type(model)(type(model.config).from_dict(settings))
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain.eval()


def lora(model: Any, *, rank: int, last: int | None) -> Any:
    """Settings of a LoRA of `rank` in the attention of the `last` blocks; None of rank 0, where all is tuned."""
    if not rank:
        return None
    from peft import LoraConfig

    blocks = model.config.get_text_config().num_hidden_layers
    some: Any = {} if last is None or last >= blocks else {"layers_to_transform": [*range(blocks - last, blocks)]}
    return LoraConfig(r=rank, lora_alpha=2 * rank, task_type="CAUSAL_LM", **some)


def with_lora(model: Any, settings: Any, seed: int) -> Any:
    """The model with a LoRA, in training mode.

    Raises:
        ValueError: peft knows no places for it in such a model.
    """
    if settings is None:
        return model.train()
    from peft import get_peft_model

    torch.manual_seed(seed)
    try:
        return get_peft_model(model, settings).train()
    except ValueError as error:
        raise ValueError(
            f"lora: peft has no usual places for one in {type(model).__name__} ({str(error).splitlines()[0]}); give "
            "--lora 0 to tune all weights"
        ) from error


def scale(model: Any, factor: float) -> None:
    """Multiply what a LoRA adds; of `factor` 0 the model is as it was given."""
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in module.scaling:
                module.scaling[name] *= factor


def merged(model: Any) -> Any:
    """With the LoRA in its weights."""
    return (model.merge_and_unload() if hasattr(model, "merge_and_unload") else model).eval()


def save(text: TextModel, folder: Path, describe: Callable[[Path], None]) -> None:
    """Save whole or not at all; `describe` writes the card into the folder."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with full_disk_said(folder.parent):
        text.model.save_pretrained(part)
        text.tokenizer.save_pretrained(part)
        describe(part)
    part.replace(folder)
