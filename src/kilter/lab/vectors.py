"""What a report shows of a model's vectors: the spectrum, cosines by kind of pair and a map, as numbers and as figures.

The spectrum is of the vectors as the encoder gives them, the rest of their directions.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilter.lab.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

RANDOM_PAIRS = 5000
"""Of the histogram."""
MAPPED = 400
"""Texts of the map, at most."""
FIGURES = ("spectrum", "similarity", "map")


def shape_of(
    vectors: "Tensor", pairs: "Mapping[str, tuple[Tensor, Tensor]]", mapped: "Tensor", *, seed: int = 0
) -> dict[str, Any]:
    """What the figures need to know of one model, small enough to be kept as JSON.

    Args:
        vectors: `(n, d)` of different texts, two or more.
        pairs: by kind, `(m, d)` vectors of the pairs' first and second texts; random pairs are added.
        mapped: `(k, d)` vectors of the texts on the map.
        seed: of the random pairs.
    """
    import torch

    from kilter.evaluation.embeddings import cosines, principal_plane, spectrum

    g = torch.Generator().manual_seed(seed)
    one = torch.randint(len(vectors), (RANDOM_PAIRS,), generator=g)
    other = (one + torch.randint(1, len(vectors), (RANDOM_PAIRS,), generator=g)) % len(vectors)  # never the text itself
    kinds = {"random pairs": cosines(vectors[one], vectors[other]).tolist()}
    kinds |= {kind: cosines(*sides).tolist() for kind, sides in pairs.items()}
    return {"spectrum": spectrum(vectors).tolist(), "similarity": kinds, "map": principal_plane(mapped).tolist()}


def write_figures(folder: Path, shapes: Mapping[str, Mapping[str, Any]], groups: Sequence[str]) -> list[Path]:
    """Draw `FIGURES` of all models, each by its label, into a folder.

    Args:
        folder: made if need be.
        shapes: by label, of `shape_of`.
        groups: of each text of the map.
    """
    from kilter.lab.embedding_plots import map_plot, similarity_plot, spectrum_plot

    given = {kind: {label: shape[kind] for label, shape in shapes.items()} for kind in FIGURES}
    files = [folder / f"{kind}.svg" for kind in FIGURES]
    drawn = spectrum_plot(given["spectrum"]), similarity_plot(given["similarity"]), map_plot(given["map"], groups)
    for file, svg in zip(files, drawn, strict=True):
        write_whole(file, svg)
    return files


def spread(there: int, most: int = MAPPED) -> list[int]:
    """Rows spread evenly over all.

    Example:
        >>> spread(10, 4), spread(3, 4)
        ([0, 2, 5, 7], [0, 1, 2])
    """
    some = min(there, most)
    return [row * there // some for row in range(some)]


def by_length(texts: Sequence[str]) -> list[str]:
    """Of each text in which third it is by length, a group of the map: does the space follow length?

    Example:
        >>> by_length(["a", "bb", "ccc", "dddd", "eeeee", "ffffff"])[::2]
        ['up to 2 characters', '3 to 4', '5 and more']
    """
    lengths = sorted(map(len, texts))
    middle, long = (lengths[len(lengths) * part // 3] for part in (1, 2))
    names = (f"up to {middle - 1} characters", f"{middle} to {long - 1}", f"{long} and more")
    return [names[(len(text) >= middle) + (len(text) >= long)] for text in texts]
