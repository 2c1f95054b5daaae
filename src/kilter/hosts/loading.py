"""The one door for models of transformers: all weights that are needed are there and fit, or it is said what is wrong.

A host fills what a file lacks with random numbers and says so in its log only. Here that is an error that names the
weights. What cannot be read is told by the file, whichever library failed on it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from kilter.hosts.weight_files import fault_in

_ADAPTER = "adapter_config.json"
_WRAPPED = re.compile(r"^(_orig_mod|module)\.")
"""Where names begin that were saved from a compiled or a distributed model."""
_NEVER_READ = re.compile(r"(^|\.)masked_spec_embed$")
"""Weights that only the host's masking of training data uses."""
OURS = ("kilter.hosts.expert_sentences.ExpertsTransformer", "kilter.hosts.layer_pooling.LayerPooling")
"""Modules of sentence-transformers that kilter brings."""
_LIBRARIES_OWN = re.compile(r"sentence_transformers(\.\w+)+")


class Unloadable(ValueError):
    """What lies there is no model that can be loaded; the message names it, the file or the weights, and the mend."""


@contextmanager
def reading(name: str | PathLike[str], what: str) -> Iterator[None]:
    """Whatever a host raises on the files of a model becomes an `Unloadable`; what is not installed stays as it is.

    Args:
        name: folder or hub id.
        what: was wanted, such as "a causal transformers model with its tokenizer".
    """
    try:
        yield
    except (ImportError, MemoryError, torch.OutOfMemoryError, Unloadable):
        raise
    except Exception as error:  # each format of weights, vocabularies and settings has errors of its own
        lines = (str(error) or type(error).__name__).splitlines()
        said = " ".join(line.strip() for line in lines[: 1 + lines[0].endswith(":")])  # a heading says nothing yet
        if isinstance(error, RuntimeError) and ("memory" in said or "allocate" in said):
            raise
        place = folder_of(name)
        fault = fault_in(place) if place else ""
        raise Unloadable(fault or f"{name}: not a folder or hub id of {what} ({said})") from error


def load_model(
    auto: Any,
    name: str | PathLike[str],
    *,
    new_head: bool = False,
    unused: Sequence[str] = (),
    **how: Any,
) -> Any:
    """Load a model by a class of transformers, with all the weights that it will use; of a LoRA with its base, merged.

    Args:
        auto: the class, such as `AutoModelForCTC`.
        name: folder or hub id.
        new_head: what is on top of the base model may be missing; it begins at random, to be trained.
        unused: beginnings of the names of weights that are not used here, such as "pooler.".
        how: more for `from_pretrained`.

    Raises:
        Unloadable: weights are missing, or of another shape than `config.json` says, or of more layers.
        ModuleNotFoundError: it is a LoRA, and peft is not installed.
    """
    base = base_of(name)
    asked = {"output_loading_info": True, "ignore_mismatched_sizes": True, **how}
    if base is None:
        model, report = auto.from_pretrained(name, **asked)
        check_whole(name, model, report, new_head=new_head, unused=unused)
        return model
    model, report = auto.from_pretrained(base, **asked)
    brings = _adapter_keys(name)
    lacks = {*report["missing_keys"]} - brings
    check_whole(base, model, report | {"missing_keys": lacks}, new_head=new_head, unused=unused)
    found = import_module("peft").PeftModel.from_pretrained(model, str(name))
    if not hasattr(found.base_model, "merge_and_unload"):
        kind = found.active_peft_config.peft_type.value
        raise Unloadable(f"{name}: {kind} of peft cannot be merged into its base; take a LoRA, or the whole model")
    _check_adapter(name, found, brings)
    return found.merge_and_unload()


def check_whole(
    name: str | PathLike[str],
    model: Any,
    report: Mapping[str, Iterable[Any]],
    *,
    new_head: bool = False,
    unused: Sequence[str] = (),
) -> None:
    """Check what `from_pretrained(…, output_loading_info=True, ignore_mismatched_sizes=True)` reports of a model.

    Raises:
        Unloadable: see `load_model`.
    """
    kind, buffers = type(model).__name__, {key for key, _ in model.named_buffers()}
    base = "" if model.base_model is model else f"{model.base_model_prefix}."

    def of_head(key: str) -> bool:
        return not key.startswith(base) if base else "head" in key.partition(".")[0]

    def needed(key: str) -> bool:
        trained = new_head and of_head(key)
        return not (trained or key in buffers or _NEVER_READ.search(key) or key.startswith(tuple(unused)))

    if odd := sorted(report["mismatched_keys"]):
        shapes = [f"{key} is {tuple(there)} there and {tuple(here)} by config.json" for key, there, here in odd]
        raise Unloadable(
            f"{name}: weights of another shape: {_some(shapes)}; take the config.json that belongs to the weights, or "
            "fetch both again"
        )
    extra = sorted(report["unexpected_keys"])
    if lacks := sorted(filter(needed, report["missing_keys"])):
        if all(map(of_head, lacks)):
            raise Unloadable(
                f"{name}: the head of {kind} is not in the weights ({_some(lacks)}), so that what it says would be "
                "random; name a model that was trained with it, or train it first"
            )
        if any(_WRAPPED.match(key) for key in extra):
            raise Unloadable(
                f"{name}: the names of the weights begin with that of a wrapper ({_some(extra)}); save the model that "
                "is inside instead (model._orig_mod of torch.compile, model.module of DistributedDataParallel)"
            )
        instead = f"; there are others instead ({_some(extra)})" if extra else ""
        raise Unloadable(
            f"{name}: the weights lack {_some(lacks)} of {kind}{instead}; they are not whole, or another model's than "
            "config.json says: fetch both again"
        )
    here = {_layerless(key) for key in model.state_dict()}
    if more := [key for key in extra if _layerless(key) != key and _layerless(key) in here]:
        raise Unloadable(
            f"{name}: the weights have more layers than config.json says ({_some(more)}); take the config.json that "
            "belongs to the weights"
        )


def base_of(name: str | PathLike[str]) -> str | None:
    """The model under a LoRA that is saved without it; None for any other model.

    Raises:
        Unloadable: there are settings of a LoRA without its weights.
        ModuleNotFoundError: there is a LoRA, alone or beside its model, and peft is not installed.
    """
    place = folder_of(name)
    if place is None or not (place / _ADAPTER).is_file():
        return None
    with reading(name, "a LoRA"):
        base = json.loads((place / _ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
    try:
        import_module("peft")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name}: a LoRA of {base}, and peft is missing: pip install peft brings it (or name the model with the "
            "LoRA merged into it)",
            name="peft",
        ) from error
    if Path(name).is_dir() and not any(place.glob("adapter_model.*")):  # beside its model the host would go without
        raise Unloadable(f"{name}: has {_ADAPTER} and no adapter_model.safetensors; fetch the LoRA again")
    return None if (place / "config.json").is_file() else base  # beside its model the host puts the two together


def _check_adapter(name: str | PathLike[str], model: Any, brings: Iterable[str]) -> None:
    """Check that a LoRA has what its settings say, and that all of it is in the model: peft would only warn."""
    wanted = {*map(_bare, import_module("peft").get_peft_model_state_dict(model, save_embedding_layers=False))}
    mend = "fetch it again, or name its own base model in adapter_config.json"
    if lacks := sorted(wanted - {*brings}):
        raise Unloadable(f"{name}: the LoRA lacks {_some(lacks)}; it is not whole, or another model's: {mend}")
    if foreign := sorted(key for key in {*brings} - wanted if "lora_" in key):
        raise Unloadable(f"{name}: the LoRA is for parts that the model has not ({_some(foreign)}); {mend}")


def source_of(name: str | PathLike[str], *files: str) -> str | PathLike[str]:
    """Where the part of a model with one of these files lies: of a LoRA beside it, or with its base."""
    base, place = base_of(name), folder_of(name)
    beside = place is not None and any((place / file).is_file() for file in files)
    return name if base is None or beside else base


def folder_of(name: str | PathLike[str]) -> Path | None:
    """The folder, or what the hub's cache has of an id; None where that is nothing."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for file in ("config.json", _ADAPTER, "modules.json"):
        try:
            found = try_to_load_from_cache(str(name), file)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None


def code_of_others(place: Path) -> list[str]:
    """What a folder of sentence-transformers has run when it is trusted, beside the code of that library and kilter's.

    Args:
        place: with `modules.json`.
    """
    kinds = [one["type"] for one in json.loads((place / "modules.json").read_text(encoding="utf-8"))]
    found = []
    for file in sorted(place.rglob("*config*.json")):
        settings = json.loads(file.read_bytes())
        settings = settings if isinstance(settings, dict) else {}
        kinds += settings["types"].values() if isinstance(settings.get("types"), dict) else []  # of a Router
        if "auto_map" in settings:
            found.append(f"auto_map of {file.relative_to(place)}")
        activation = settings.get("activation_function", "torch.")  # of a Dense
        found += [activation] * ("." in str(activation) and not activation.startswith("torch."))
    return [kind for kind in kinds if kind not in OURS and not _LIBRARIES_OWN.fullmatch(kind)] + found


def _adapter_keys(name: str | PathLike[str]) -> set[str]:
    """Names of the weights of a LoRA, and of what it has whole, such as a head that was trained with it."""
    return {*map(_bare, import_module("peft.utils").load_peft_weights(str(name), device="cpu"))}


def _bare(key: str) -> str:
    return key.removeprefix("base_model.model.")


def _layerless(key: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", key)


def _some(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
