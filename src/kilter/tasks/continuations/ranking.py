"""What a scorer of continuations is good for: telling the true next passage from others, agreeing with people.

Source: RankGen (Krishna et al., 2022), §3 (suffix identification) and §4.2 (human judgements). The departure: of a
tie half is counted. A scorer is any callable `(prefixes, continuations) -> (n,)` on paired lists of texts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kilter.evaluation.copying import overlap
from kilter.hosts.sentences import load_sentences
from kilter.models.batches import Batch, within_memory

TextScorer = Callable[[Sequence[str], Sequence[str]], Any]


def word_overlap(prefixes: Sequence[str], continuations: Sequence[str]) -> Float[Tensor, " texts"]:
    """Share of each continuation's words that its prefix has: the simplest ranker.

    Example:
        >>> word_overlap(["The old house."], ["A new house."])
        tensor([0.5000])
    """
    return torch.tensor(
        [overlap(*pair) if pair[1].strip() else 0.0 for pair in zip(prefixes, continuations, strict=True)]
    )


class MeanLogProb:
    """How likely a language model finds each token of a continuation, on average: rank by perplexity."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 8) -> None:
        self._model, self._tokenizer, self._size = model, tokenizer, batch_size

    @torch.no_grad()
    def __call__(self, prefixes: Sequence[str], continuations: Sequence[str]) -> Float[Tensor, " texts"]:
        """Mean log-probability, `(n,)`."""
        rows = [
            (self._ids(a.strip()), self._ids(f" {b.strip()}")) for a, b in zip(prefixes, continuations, strict=True)
        ]
        order = sorted(range(len(rows)), key=lambda row: sum(map(len, rows[row])))  # little padding in each batch
        means = torch.empty(len(rows))
        for start in range(0, len(rows), self._size):
            batch = order[start : start + self._size]
            means[batch] = self._means([rows[row] for row in batch])
        return means

    def _means(self, rows: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        ids = torch.nn.utils.rnn.pad_sequence([torch.cat(row) for row in rows], batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(torch.cat(row)) for row in rows], batch_first=True)
        device = self._model.device
        logits = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits[:, :-1].float()
        told = -torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:].to(device), reduction="none")
        spans = [slice(len(before) - 1, len(before) + len(after) - 1) for before, after in rows]
        return torch.stack([row[span].mean() for row, span in zip(told, spans, strict=True)]).cpu()

    def _ids(self, text: str) -> Tensor:
        return torch.tensor(self._tokenizer(text)["input_ids"])


class Similarity:
    """Cosine of a sentence-transformers model's vectors: an encoder as it is given, before any training."""

    def __init__(self, folder: str, device: str = "cpu") -> None:
        self._model = load_sentences("SentenceTransformer", folder, device)

    def __call__(self, prefixes: Sequence[str], continuations: Sequence[str]) -> Float[Tensor, " texts"]:
        """Cosine of each pair, `(n,)`."""
        texts = [*dict.fromkeys([*prefixes, *continuations])]
        vectors = self._model.encode(texts, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False)
        place = {text: row for row, text in enumerate(texts)}
        left, right = ([place[text] for text in side] for side in (prefixes, continuations))
        return (vectors[left] * vectors[right]).sum(-1)


def scores(scorer: TextScorer, prefixes: Sequence[str], continuations: Sequence[str]) -> list[float]:
    """The score of each pair; all at once, or in as many parts as memory asks for.

    Raises:
        ValueError: a single pair does not fit into memory.

    Example:
        >>> scores(word_overlap, ["The old house."], ["A new house."])
        [0.5]
    """

    def some(batch: Batch) -> list[float]:
        found = scorer([prefixes[row] for row in batch], [continuations[row] for row in batch])
        return [float(score) for score in found]

    def alone(row: int) -> list[float]:
        raise ValueError(
            f"{prefixes[row][:60]!r} and {continuations[row][:60]!r} do not fit into memory even alone; shorten the "
            "texts, or choose another --device or a smaller scorer"
        )

    every = [[*range(len(prefixes))]] if len(prefixes) else []
    return [score for part in within_memory(every, some, alone) for score in part]


def wins(scorer: TextScorer, rows: Sequence[tuple[str, str, str]]) -> list[float]:
    """For each (prefix, one, other): 1 where the scorer prefers the one, 0 where the other, a half for a tie.

    Example:
        >>> wins(word_overlap, [("The old house.", "The house.", "A ship."), ("Rain.", "A ship.", "A mast.")])
        [1.0, 0.5]
    """
    if not rows:
        return []
    prefixes, ones, others = zip(*rows, strict=True)
    first, second = torch.tensor(scores(scorer, [*prefixes, *prefixes], [*ones, *others])).view(2, -1)
    return ((first > second).float() + 0.5 * (first == second).float()).tolist()


def suffix_identification(scorer: TextScorer, rows: Sequence[Mapping[str, str]]) -> list[dict[str, list[float]]]:
    """Totals of each row of `prefix`, `true`, `inbook` (another passage) and perhaps `generative` (machine text).

    Example:
        >>> row = {"prefix": "The old house.", "true": "The house.", "inbook": "A ship.", "generative": ""}
        >>> suffix_identification(word_overlap, [row])
        [{'inbook': [1.0, 1.0]}]
    """
    asked = [
        (row, kind) for row in range(len(rows)) for kind in ("true", "inbook", "generative") if rows[row].get(kind)
    ]
    given = [rows[row]["prefix"] for row, _ in asked], [rows[row][kind] for row, kind in asked]
    found = dict(zip(asked, scores(scorer, *given), strict=True))
    return [
        {
            kind: [(found[row, "true"] > found[row, kind]) + 0.5 * (found[row, "true"] == found[row, kind]), 1.0]
            for kind in ("inbook", "generative")
            if (row, kind) in found
        }
        for row in range(len(rows))
    ]
