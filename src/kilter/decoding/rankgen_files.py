"""A ranker on disk: the folder that sentence-transformers reads too, and the checkpoints of RankGen's authors.

The layout is that of sentence-transformers since 2.0 (`modules.json`, one folder for each module); safetensors and
JSON only. It is written without that library, so that saving needs transformers alone.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any

_MODULES = ("", "1_Pooling", "2_Dense")
_SETTINGS = "rankgen.json"
_PUBLISHED = "T5EncoderWithProjection"
_PUBLISHED_TOKENIZERS = {768: "google/t5-v1_1-base", 1024: "google/t5-v1_1-large", 2048: "google/t5-v1_1-xl"}


def save(scorer: Any, folder: str | PathLike[str]) -> None:
    """Write `scorer`; see `RankGenScorer.save_pretrained`."""
    from safetensors.torch import save_file

    from kilter.hosts.wrapped import unwrapped

    target = Path(folder)
    encoder = unwrapped(scorer.encoder, adapters=False)
    if hasattr(encoder, "merge_and_unload"):
        encoder = deepcopy(encoder).merge_and_unload()  # whole, for those who have no peft
    size = encoder.config.hidden_size
    kinds = ("Transformer", "Pooling", "Dense")[: 2 + (scorer.projection is not None)]
    for path in _MODULES[: len(kinds)]:
        (target / path).mkdir(parents=True, exist_ok=True)
    encoder.save_pretrained(target)
    scorer.tokenizer.save_pretrained(target)
    _write(
        target / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(zip(_MODULES, kinds, strict=False))
        ],
    )
    longest = max(scorer.prefix_tokens, scorer.continuation_tokens)
    _write(target / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
    prompts = dict(zip(("prefix", "continuation"), scorer.words, strict=True))
    _write(target / "config_sentence_transformers.json", {"prompts": prompts, "similarity_fn_name": "dot"})
    pooling = {"word_embedding_dimension": size, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    _write(target / "1_Pooling" / "config.json", pooling)
    if scorer.projection is not None:
        dense = {"in_features": size, "out_features": size, "bias": False}
        _write(target / "2_Dense" / "config.json", dense | {"activation_function": "torch.nn.modules.linear.Identity"})
        weight = scorer.projection.weight.detach().contiguous()
        save_file({"linear.weight": weight}, target / "2_Dense" / "model.safetensors", metadata={"format": "pt"})
    settings = ("prefix_tokens", "continuation_tokens", "words", "compat")
    _write(target / _SETTINGS, {name: getattr(scorer, name) for name in settings})


def load(name_or_folder: str | PathLike[str], tokenizer: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Encoder, tokenizer and constructor options; see `RankGenScorer.from_pretrained`."""
    folder = _fetch(name_or_folder)
    if (folder / "modules.json").exists():
        return _load_modules(folder, tokenizer)
    if _PUBLISHED in (_read(folder / "config.json").get("architectures") or ()):
        return _load_published(folder, tokenizer)
    raise ValueError(
        f"{name_or_folder} is no ranker: it has neither modules.json nor the architecture {_PUBLISHED}; to train one "
        "that starts from this encoder, use RankGenScorer(AutoModel.from_pretrained(…), AutoTokenizer…)"
    )


def _fetch(name_or_folder: str | PathLike[str]) -> Path:
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    from huggingface_hub import snapshot_download

    skipped = ["*.msgpack", "*.h5", "*.onnx", "onnx/*", "openvino/*", "*.py"]
    return Path(snapshot_download(str(name_or_folder), ignore_patterns=skipped))


def _load_modules(folder: Path, tokenizer: Any) -> tuple[Any, Any, dict[str, Any]]:
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoConfig, AutoModel
    from transformers import AutoModelForTextEncoding as EncoderOnly

    from kilter.hosts.loading import reading

    found = {one["type"].rpartition(".")[2]: folder / one["path"] for one in _read(folder / "modules.json")}
    others = set(found) - {"Transformer", "Pooling", "Dense"}
    if others or not {"Transformer", "Pooling"} <= set(found):
        raise ValueError(
            f"{folder} is no ranker: its modules are {', '.join(found)}, a ranker's are Transformer, Pooling and Dense "
            "(raw dot products, nothing normalised); to train one from it, give RankGenScorer its encoder"
        )
    pooling = _read(found["Pooling"] / "config.json")
    mode = pooling.get("pooling_mode") or [name for name in pooling if name.startswith("pooling_") and pooling[name]]
    if mode not in ("cls", ["cls"], ["pooling_mode_cls_token"]):
        raise ValueError(f"{folder} is no ranker: it pools by {mode}, a ranker reads position 0 (cls)")
    source = found["Transformer"]
    with reading(source, "an encoder"):
        known = type(AutoConfig.from_pretrained(source)) in MODEL_FOR_TEXT_ENCODING_MAPPING  # T5: half of it
    encoder = _whole(EncoderOnly if known else AutoModel, source)
    options: dict[str, Any] = {"projection": _projection(found["Dense"]) if "Dense" in found else False}
    prompts = _read(folder / "config_sentence_transformers.json").get("prompts") or {}
    if {"prefix", "continuation"} <= set(prompts):
        options["words"] = (prompts["prefix"], prompts["continuation"])
    return encoder, _tokenizer(source) if tokenizer is None else tokenizer, options | _read(folder / _SETTINGS)


def _projection(folder: Path) -> Any:
    from safetensors.torch import load_file

    config = _read(folder / "config.json")
    plain = config.get("activation_function", "").endswith(".Identity")
    if config.get("bias", True) or not plain or config.get("use_residual"):
        raise ValueError(f"{folder} is no ranker's projection: it must be a matrix without bias and activation")
    from kilter.hosts.loading import reading

    with reading(folder, "a projection"):
        return load_file(folder / "model.safetensors")["linear.weight"]


def _load_published(folder: Path, tokenizer: Any) -> tuple[Any, Any, dict[str, Any]]:
    from torch import nn
    from transformers import T5EncoderModel, T5PreTrainedModel

    class Published(T5PreTrainedModel):
        """The names under which the authors saved their weights."""

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.t5_encoder = T5EncoderModel(config)
            self.projection = nn.Linear(config.d_model, config.d_model, bias=False)
            self.post_init()

    model = _whole(Published, folder)
    if tokenizer is None:
        beside = any((folder / name).exists() for name in ("tokenizer.json", "spiece.model"))
        source = folder if beside else _PUBLISHED_TOKENIZERS.get(model.config.d_model)
        if source is None:
            raise ValueError(f"there is no tokenizer in {folder}: give one as tokenizer=")
        tokenizer = _tokenizer(source)
    return model.t5_encoder, tokenizer, {"projection": model.projection.weight}


def _whole(kind: Any, folder: Path) -> Any:
    from kilter.hosts.loading import load_model, reading

    with reading(folder, "an encoder"):
        return load_model(kind, folder, unused=("pooler.",))


def _tokenizer(source: str | Path) -> Any:
    from transformers import AutoTokenizer

    from kilter.hosts.loading import reading

    with reading(source, "an encoder with its tokenizer"):
        return AutoTokenizer.from_pretrained(source)


def _read(file: Path) -> Any:
    from kilter.hosts.loading import reading

    with reading(file.parent, "a ranker"):
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _write(file: Path, content: Mapping[str, Any] | list[Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
