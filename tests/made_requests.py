"""Requests with answers, and a scorer and a judge of them, for recipes that tune a language model: made in no time."""

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest

from kilter.lab.recipe import Provenance
from kilter.tasks.preference import published
from kilter.tasks.preference.scorers import Scorer
from kilter.tasks.preference.sources import Item, Material, said

_WORDS = ("red", "blue", "green", "round", "flat", "tall", "small", "old", "new", "quick", "slow", "warm", "cold")


def material(*_: Any, **__: Any) -> Material:
    """Two dozen requests and what is right."""
    items = [Item(f"Name {one} and {two}:", f" {two} {one}") for one in _WORDS for two in _WORDS[:2] if one != two]
    return Material(items[:-6], items[-6:], Provenance("made requests", digest="made"))


def liked(completions: Any, **_: Any) -> list[float]:
    """A number for each text, hardly ever the same for two."""
    return [crc32(said(text).encode()) / 2**32 for text in completions]


def disliked(completions: Any, **_: Any) -> list[float]:
    """Another."""
    return [float(len(said(text))) + value for text, value in zip(completions, liked(completions), strict=True)]


@pytest.fixture(scope="module")
def made_requests() -> Iterator[None]:
    """Published data and scorers are these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "material", material)
        patch.setattr(published, "scorers", lambda task: (Scorer("liked", liked), Scorer("disliked", disliked)))
        yield
