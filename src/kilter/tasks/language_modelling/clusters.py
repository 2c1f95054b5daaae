"""Rows grouped by what they are about instead of where they come from, so that a target can be matched closely.

For importance sampling (CRISP, arXiv 2410.03735: k-means, and the histogram of the target over the clusters). The
departure: words weighed by TF-IDF and reduced to a few dimensions, not a sentence encoder, which nothing here needs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kilter.pretraining import importance_weights
from kilter.tasks.language_modelling.rows import Rows

_DIMENSIONS = 48
_WORDS = 20_000


class Clusters(Rows):
    """The same rows, cluster after cluster; their domains are clusters then.

    Args:
        blocks: `(n, block)` tokens of each cluster.
        rows: as they were, by domain.
        shares: what share of each domain lies in each cluster, `(domains, clusters)`.
        of_target: what share of the target's examples does, `(clusters,)`.
        origin: how many rows of each domain each cluster has, `(clusters, domains)`.
    """

    def __init__(
        self, blocks: Mapping[str, Tensor], rows: Rows, *, shares: Tensor, of_target: Tensor, origin: Tensor
    ) -> None:
        super().__init__(blocks, rows.target, rows.tokenizer)
        self.shares, self.of_target, self.origin = shares, of_target, origin
        self.origins = [*rows.blocks]


def cluster(rows: Rows, count: int, seed: int) -> Clusters:
    """Group rows by k-means.

    Args:
        rows: by domain, with examples of the target.
        count: clusters; there are fewer where some stay empty.
        seed: of their starts.

    Raises:
        ValueError: there are fewer rows than clusters, no examples of a target, or no words.
    """
    from sklearn.cluster import MiniBatchKMeans

    target = rows.needed_target("importance sampling")
    if len(rows) < count:
        raise ValueError(f"clusters={count}, and there are {len(rows)} blocks to learn from; lower --clusters")
    every = torch.cat([*rows.blocks.values()])
    domain_of = np.repeat(np.arange(len(rows.blocks)), [len(one) for one in rows.blocks.values()])
    vectors, aims = _vectors(rows.texts(every), rows.texts(target), seed)
    how: Any = {"random_state": seed, "n_init": 1, "batch_size": 2048}
    means: Any = MiniBatchKMeans(count, **how).fit(vectors)
    found, hits = means.predict(vectors), means.predict(aims)
    kept = [number for number in range(count) if (found == number).any()]
    places = {number: place for place, number in enumerate(kept)}
    blocks = {f"cluster {places[number] + 1}": every[torch.from_numpy(found == number)] for number in kept}
    origin = torch.zeros(len(kept), len(rows.blocks))
    for number, domain in zip(found, domain_of, strict=True):
        origin[places[number], domain] += 1
    near = torch.tensor([places[number] for number in hits if number in places])
    shares = (origin / origin.sum(0)).T
    return Clusters(blocks, rows, shares=shares, of_target=importance_weights(near, len(kept)), origin=origin)


def _vectors(texts: list[str], aims: list[str], seed: int) -> tuple[Any, Any]:
    """Texts and examples of the target as vectors of length 1."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    how: Any = {"max_features": _WORDS, "sublinear_tf": True, "dtype": np.float32}
    words = TfidfVectorizer(**how)
    counted = words.fit_transform(texts)
    reduced = TruncatedSVD(min(_DIMENSIONS, counted.shape[1] - 1), random_state=seed, n_iter=2).fit(counted)
    return normalize(reduced.transform(counted)), normalize(reduced.transform(words.transform(aims)))
