"""Figures of how alike SeqPE's positions are, before training and after."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kilter.lab.recipe import Picture

_DRAWN = 2048
"""Positions of a map, at most."""
_MAP = (
    "How alike positions are",
    "Cosines of the encoder's vectors of any two positions, without what all of them share, of the first seed. "
    "Training makes neighbours alike, whatever their distance from the beginning.",
)
_SQUARE = " The square holds the positions of one block, the length of training rows."


def similarity_maps(
    summary: Mapping[str, Any], run: Path, positions: Sequence[Any], across: str, mark: float | None = None
) -> list[Picture]:
    """The cosines of all positions before training and after, of SeqPE and of SeqPE without contrast."""
    import torch

    from kilter.hosts.transformers import load
    from kilter.lab.position_maps import position_maps

    shown = [arm for arm in ("seqpe", "no-contrast") if arm in summary["arms"]]
    some = torch.tensor(positions[:: -(-len(positions) // _DRAWN)])
    panels: dict[str, Any] = {}
    for arm in shown:
        place = sorted((run / "arms" / arm).glob("seed-*/model"))[0]
        term: Any = load(place).kilter_positions
        if not panels:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                fresh = type(term)(**term.config())
                fresh.fit(term.sizes)
            panels["Before training"] = _cosines(fresh, some)
        panels[summary["arms"][arm]["label"]] = _cosines(term, some)
    if not panels:
        return []
    title, caption = _MAP
    caption += _SQUARE if mark is not None else ""
    return [Picture("positions", title, caption, position_maps(panels, (0, len(positions)), across=across, mark=mark))]


def _cosines(term: Any, positions: Any) -> Any:
    import torch

    with torch.no_grad():
        vectors = term.eval().encode(positions)
        apart = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=-1)
        return (apart @ apart.T).numpy()
