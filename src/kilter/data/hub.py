"""Data sets of the hub, by an id that also says which configuration and split."""

import re
from typing import Any

HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<config>[\w.-]+))?(:(?P<split>[\w.-]+))?")


def load_hub(name: str, config: str | None, split: str, *, streaming: bool = False) -> Any:
    """Load a data set, or of all its splits a mapping where `split` is empty; `streaming` fetches rows as they come.

    Raises:
        ValueError: The hub gives no such data set; its words are in the message.
        ModuleNotFoundError: `datasets` is not installed.
    """
    import datasets

    how: dict[str, Any] = {"streaming": True} if streaming else {}
    try:
        return datasets.load_dataset(name, config, split=split or None, **how)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{name}: no such file or folder, and the hub gives no such data set ({error})") from error
