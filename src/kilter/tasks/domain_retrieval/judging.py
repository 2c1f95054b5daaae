"""How an encoder is judged within each domain: is the nearest text its own, and is it told from the most alike other?

Source: F1max over pairs, as Hallee et al., 2024, have it. The departures: a domain's threshold comes from its
development pairs (the sweep over the judged ones is kept beside it), and wrong pairs are those most alike by words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kilter.evaluation.classification import f1_max, f1_rows, roc_auc
from kilter.evaluation.embeddings import cosines, unit
from kilter.evaluation.retrieval import BitextRetrieval, within_domain_retrieval
from kilter.lab.recipe import Judged
from kilter.lab.totals import ratios
from kilter.tasks.domain_retrieval.corpus import Corpus, Pair, hard_negatives

Encode = Callable[[Sequence[str], str], Tensor]
"""Texts and their domain to vectors `(n, d)`."""


@dataclass(frozen=True)
class Scored:
    """Pairs of a domain with their vectors, and cosines of the true pairs and of the hard ones beside them."""

    pairs: Sequence[Pair]
    first: Tensor
    second: Tensor
    right: Tensor
    wrong: Tensor

    @classmethod
    def of(cls, pairs: Sequence[Pair], domain: str, encode: Encode) -> "Scored":
        """Encode both sides; a wrong pair is a first text with the second of its hard negative."""
        first, second = (encode([*side], domain) for side in zip(*pairs, strict=True))
        return cls(pairs, first, second, cosines(first, second), cosines(first, second[hard_negatives(pairs)]))

    def labelled(self) -> tuple[Tensor, Tensor]:
        """Scores, and which of them are of true pairs: first all of these, then all others."""
        return torch.cat([self.right, self.wrong]), torch.arange(2 * len(self.pairs)) < len(self.pairs)


def judge(corpus: Corpus, encode: Encode) -> tuple[Judged, dict[str, Any]]:
    """Rows and figures of every domain, and what the report draws.

    Args:
        corpus: with what is judged on, and what thresholds are chosen on.
        encode: the encoder of the arm; of several, each has its domain.
    """
    judged: dict[str, Scored] = {}
    thresholds: dict[str, float] = {}
    for domain, pairs in corpus.test.items():  # one domain after the other: each may have an encoder of its own
        judged[domain] = Scored.of(pairs, domain, encode)
        same = corpus.dev[domain] == pairs
        chosen = judged[domain] if same else Scored.of(corpus.dev[domain], domain, encode)
        thresholds[domain] = f1_max(*chosen.labelled()).threshold
    first, second = (torch.cat([getattr(one, side) for one in judged.values()]) for side in ("first", "second"))
    names = [domain for domain, one in judged.items() for _ in one.pairs]
    ranked = within_domain_retrieval(first, second, names).domains
    rows = [row for domain, found in judged.items() for row in _rows(domain, found, ranked[domain], thresholds[domain])]
    scores, labels = (torch.cat(some) for some in zip(*(one.labelled() for one in judged.values()), strict=True))
    swept = {"f1_max": 100 * f1_max(scores, labels).f1, "auc": 100 * roc_auc(scores, labels)}
    similarity = {
        "own text": torch.cat([one.right for one in judged.values()]).tolist(),
        "the most alike other": torch.cat([one.wrong for one in judged.values()]).tolist(),
    }
    return Judged({**ratios(rows), **swept}, rows), {"similarity": similarity}


def _rows(domain: str, found: Scored, ranked: BitextRetrieval, threshold: float) -> list[dict[str, Any]]:
    """A row for each pair, with its share of every metric; each domain counts alike in what is found."""
    many = len(found.pairs)
    told = f1_rows(*found.labelled(), threshold)
    told = (told[:many] + told[many:]).tolist()  # a true pair and the wrong one beside it
    nearest = (unit(found.first) @ unit(found.second).T).argmax(1).tolist()
    each = zip(found.pairs, ranked.hits.tolist(), ranked.reciprocals.tolist(), told, nearest, strict=True)
    return [
        {
            "input": f"{domain}/{place}",
            "text": pair[0],
            "own": pair[1],
            "found": found.pairs[at][1],
            "totals": {
                "retrieval": [hit / many, 1 / many],
                f"retrieval_{domain}": [hit, 1.0],
                "mrr": [reciprocal / many, 1 / many],
                "f1": f1,
                f"f1_{domain}": f1,
            },
        }
        for place, (pair, hit, reciprocal, f1, at) in enumerate(each)
    ]
