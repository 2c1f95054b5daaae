"""Data sets of inputs with several references each, by name, with whom to credit."""

from typing import Literal

from kilter.data.assets import Located, locate
from kilter.data.referenced import Splits

ReferenceSet = Literal["e2e", "multi30k"]
"""Restaurants from slots and values, or captions from German."""


def load_reference_set(name: ReferenceSet) -> tuple[Splits, Located]:
    """Find a data set, fetching it if need be, and read it.

    Raises:
        ValueError: A file is corrupt or not what it should be.
        FileNotFoundError: No source could serve; the message lists each with its reason.
    """
    from kilter.data.e2e import load_e2e
    from kilter.data.multi30k import load_multi30k

    found = locate(name)
    return {"e2e": load_e2e, "multi30k": load_multi30k}[name](found.path), found
