"""What an encoder learns from: pairs of neighbouring sentences, in batches that are each of one language."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset

from kilter.embeddings import ContextPairs, LanguageBatches
from kilter.tasks.bitext_retrieval.corpus import Sentences


def training_rows(documents: Mapping[str, Sequence[Sentences]], window: int, wanted: int, seed: int) -> Dataset:
    """Columns centre, context and label (the number of the language), of as many epochs as make `wanted` rows."""
    flat = [one for some in documents.values() for one in some]
    languages = [language for language, some in documents.items() for _ in some]
    pairs = ContextPairs(flat, languages, window=window, seed=seed)
    rows = pairs.rows(epochs=math.ceil(wanted / len(pairs)))
    order = [tuple(documents).index(language) for language in sorted(documents)]  # pairs number them by the alphabet
    return Dataset.from_dict({**rows, "label": [order[label] for label in rows["label"]]})


def language_pure(smoothing: float) -> Callable[..., Any]:
    """What the trainer makes its batches with, languages drawn with smoothed shares."""

    def drawn(rows: Dataset, batch_size: int, *, seed: int = 0, **_: Any) -> Any:
        return LanguageBatches(rows["label"], batch_size, smoothing=smoothing, seed=seed)

    return drawn
