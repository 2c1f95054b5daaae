"""A model by its name: a folder, or an id of the hub. What is neither is refused before anything waits for a network.

transformers would try an id for half a minute where no hub answers. So a name is looked at, then looked for in the
hub's cache, and only then is the hub asked, once and briefly. Imports nothing heavy.
"""

import difflib
import json
import threading
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

SECONDS = 5.0
"""How long the hub may take to say whether it has a model."""

_MODEL_FILES = ("config.json", "modules.json", "*.gguf")


def check_model_name(name: str | Path, what: str, *, file: str = "config.json", known: Sequence[str] = ()) -> None:
    """Refuse a name that is neither a folder nor a model that the hub, or its cache here, has.

    Offline (`HF_HUB_OFFLINE`) only the cache is asked. Whether what lies there is a model of the kind that is wanted
    shows when it is loaded.

    Args:
        name: as the user gave it; of `folder/file.gguf` the folder is asked for.
        what: the kind of model that is wanted, e.g. "a transformers …ForCTC model".
        file: a file that it has on the hub.
        known: names that kilter itself has for such models; the nearest of them and of the folders nearby is named.

    Raises:
        ValueError: it is neither, or nobody could say within 5 s.

    Example:
        >>> check_model_name("./smolm2", "a causal model", known=["smollm2"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: ./smolm2: not a folder or hub id of a causal model: there is no such folder, ...
    """
    if Path(name).suffix.lower() == ".gguf":
        name, file = Path(name).parent, Path(name).name
    if Path(name).is_dir():
        _check_base(Path(name), known)
        return
    if reason := _why_not(str(name), file):
        raise ValueError(f"{name}: not a folder or hub id of {what}: {reason}{_nearest(Path(name), known)}")


def _check_base(folder: Path, known: Sequence[str]) -> None:
    """Refuse a LoRA whose base model is not to be had; without peft the loading says so, and asks for no base."""
    settings = folder / "adapter_config.json"
    if not settings.is_file() or (folder / "config.json").is_file() or find_spec("peft") is None:
        return
    try:
        base = json.loads(settings.read_bytes())["base_model_name_or_path"]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{settings}: names no base_model_name_or_path; fetch the file again") from error
    if not (isinstance(base, str) and base):
        raise ValueError(f"{settings}: base_model_name_or_path is {base!r}; write the base's folder or hub id there")
    if not Path(base).is_dir() and (reason := _why_not(base, "config.json")):
        raise ValueError(f"{folder}: a LoRA of {base}: {reason}{_nearest(Path(base), known)}")


def _why_not(name: str, file: str) -> str:
    """Why the hub cannot have served it; empty where it can."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if Path(name).exists():
        return "it is a file; name the folder in which the whole model lies"
    try:
        validate_repo_id(name)
    except HFValidationError:
        return "there is no such folder, and it is no id like org/name"
    if try_to_load_from_cache(name, file) is not None:
        return ""
    if constants.HF_HUB_OFFLINE:
        return (
            "there is no such folder, the hub's cache has none of that name, and HF_HUB_OFFLINE forbids to ask the hub"
        )
    return _ask(name, file)


@cache
def _ask(name: str, file: str) -> str:
    """The same, as the hub says it; in a thread, since the limit of a request does not count a name server's time."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(_answer(name, file)), daemon=True)
    thread.start()
    thread.join(SECONDS)
    unasked = f"there is no such folder, and the hub did not answer within {SECONDS:g} s"
    return next(iter(answers), f"{unasked}; go online, or name a folder")


def _answer(name: str, file: str) -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        get_hf_file_metadata(hf_hub_url(name, file), timeout=SECONDS)
    except GatedRepoError:
        return ""  # it is there; what to do about the gate is said by who loads it
    except RepositoryNotFoundError:
        return "there is no such folder, and the hub has no model of that name, or none that you may see"
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            return ""  # the model is there, without that file
        return f"there is no such folder, and the hub is out of order ({error.response.status_code})"
    except Exception as error:  # of whichever library speaks to the network
        said = (str(error) or type(error).__name__).splitlines()[0]
        return f"there is no such folder, and the hub cannot be reached ({said:.120}); go online, or name a folder"
    return ""


def _nearest(name: Path, known: Sequence[str]) -> str:
    """A hint at the nearest of the known names and of the models in the folder where one was looked for."""
    here = [path.name for path in name.parent.iterdir()] if name.parent.is_dir() else []
    beside = [name.parent / near for near in difflib.get_close_matches(name.name, here, n=5)]
    models = [str(path) for path in beside if any(any(path.glob(file)) for file in _MODEL_FILES)]
    near = difflib.get_close_matches(str(name), [*known, *models], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
