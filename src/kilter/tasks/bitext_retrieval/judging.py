"""How an encoder is judged: whether the nearest sentence is the translation, and whether languages lie apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kilter.evaluation.embeddings import cosines, effective_rank, principal_plane, spectrum, uniformity, unit
from kilter.evaluation.retrieval import bitext_retrieval
from kilter.lab.recipe import Judged
from kilter.lab.totals import ratios
from kilter.tasks.bitext_retrieval.corpus import Corpus, Pair
from kilter.tasks.bitext_retrieval.rivals import Calibration

_SHOWN = 300
"""Pairs of each language that the pictures show, at most."""


@dataclass(frozen=True)
class Encoded:
    """Texts with their vectors."""

    texts: Sequence[str]
    vectors: Tensor

    def of(self, texts: Sequence[str]) -> Tensor:
        """`(n, d)` vectors of some of them."""
        place = self.__dict__.setdefault("place", {text: row for row, text in enumerate(self.texts)})
        return self.vectors[[place[text] for text in texts]].float()


def asked(corpus: Corpus, statistics: Mapping[str, Sequence[str]]) -> list[str]:
    """Every text whose vector judging needs, once."""
    pairs = (pair for test in corpus.tests.values() for some in test.values() for pair in some)
    learnt = (text for some in statistics.values() for text in some)
    return list(dict.fromkeys([*learnt, *(text for pair in pairs for text in (pair.foreign, pair.pivot))]))


def judge(
    corpus: Corpus, statistics: Mapping[str, Sequence[str]], encoded: Encoded, calibration: Calibration | None
) -> tuple[Judged, dict[str, Any]]:
    """Rows and figures of every test, and what the pictures show of the first.

    Args:
        corpus: with the tests.
        statistics: sentences of each language that a calibration may learn from.
        encoded: all that `asked` names.
        calibration: of the arm.
    """
    learnt = {language: encoded.of(some) for language, some in statistics.items()}
    by_test = getattr(calibration, "transductive", False)
    moved = _as_it_is if calibration is None or by_test else calibration(learnt, corpus.pivot)
    rows: list[dict[str, Any]] = []
    figures: dict[str, float] = {}
    shapes: dict[str, Any] = {}
    for name, test in corpus.tests.items():
        sides = {language: _sides(encoded, pairs) for language, pairs in test.items()}
        judged = {language: foreign for language, (foreign, _) in sides.items()}
        judged[corpus.pivot] = encoded.of(list(dict.fromkeys(pair.pivot for some in test.values() for pair in some)))
        if calibration is not None and by_test:
            moved = calibration(judged, corpus.pivot)
        both = {
            language: (moved(foreign, language), moved(pivot, corpus.pivot))
            for language, (foreign, pivot) in sides.items()
        }
        for language, (foreign, pivot) in both.items():
            rows += _rows(name, language, test[language], foreign, pivot)
        if not shapes:
            every = {language: foreign for language, (foreign, _) in both.items()}
            every[corpus.pivot] = moved(judged[corpus.pivot], corpus.pivot)
            figures |= _shape(every)
            figures["told_apart"] = _told_apart({one: moved(some, one) for one, some in learnt.items()}, every)
            shapes = _pictured(both, every)
    return Judged({**ratios(rows), **figures}, rows), shapes


def _as_it_is(x: Tensor, language: str) -> Tensor:
    return x


def _sides(encoded: Encoded, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    return encoded.of([pair.foreign for pair in pairs]), encoded.of([pair.pivot for pair in pairs])


def _rows(test: str, language: str, pairs: Sequence[Pair], foreign: Tensor, pivot: Tensor) -> list[dict[str, Any]]:
    """A row for each pair: a share of both directions, weighed so that every language counts alike in the test."""
    hits = bitext_retrieval(foreign, pivot).hits.tolist()
    nearest = (unit(foreign) @ unit(pivot).T).argmax(1).tolist()
    weight = 1 / len(pairs)
    return [
        {
            "input": f"{test}/{language}/{pair.id}",
            "text": pair.foreign,
            "translation": pair.pivot,
            "found": pairs[place].pivot,
            "totals": {test: [weight * hit, weight], f"{test}_{language}": [hit, 1.0]},
        }
        for pair, hit, place in zip(pairs, hits, nearest, strict=True)
    ]


def _shape(vectors: Mapping[str, Tensor]) -> dict[str, float]:
    every = unit(torch.cat([*vectors.values()]))
    return {"uniformity": uniformity(every), "effective_rank": effective_rank(every)}


def _told_apart(learnt: Mapping[str, Tensor], judged: Mapping[str, Tensor]) -> float:
    """Share of the sentences, in per cent, whose language shows in the nearest mean of the languages' vectors.

    That is a linear classifier without any training; of each language as many sentences count.
    """
    names = [*judged]
    means = torch.stack([unit(learnt[name]).mean(0) for name in names])
    right = [
        (torch.cdist(unit(judged[name]), means).argmin(1) == place).double().mean() for place, name in enumerate(names)
    ]
    return 100 * float(torch.stack(right).mean())


def _pictured(both: Mapping[str, tuple[Tensor, Tensor]], every: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the report draws: the spectrum, cosines of translations and of other pairs, and a map of two directions."""
    some = {language: (x[:_SHOWN], y[:_SHOWN]) for language, (x, y) in both.items()}
    shown = torch.cat([x[: _SHOWN // 3] for x in every.values()])
    return {
        "spectrum": spectrum(unit(torch.cat([*every.values()]))).tolist(),
        "translations": torch.cat([cosines(x, y) for x, y in some.values()]).tolist(),
        "others": torch.cat([cosines(x, y.roll(1, 0)) for x, y in some.values()]).tolist(),
        "map": principal_plane(unit(shown)).tolist(),
        "languages": [language for language, x in every.items() for _ in x[: _SHOWN // 3]],
    }
