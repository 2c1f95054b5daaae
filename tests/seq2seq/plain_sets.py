"""The paper's equations one set, one step and one item at a time, and numbers that are drawn by their names."""

import math
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import torch
from torch import Generator, Tensor

SIZES = [4, 1, 3, 6, 2]
"""Of the ragged sets that the golden numbers are of."""
CASES: list[dict[str, Any]] = [{"dim": 3, "steps": 1}, {"dim": 3, "steps": 4}, {"dim": 5, "steps": 7}]


def drawn(name: str, shape: Sequence[int], spread: float = 0.7) -> Tensor:
    """Numbers of a name, in float64."""
    generator = Generator().manual_seed(crc32(name.encode()))
    return spread * torch.randn(*shape, generator=generator, dtype=torch.float64)


def cell_weights(dim: int) -> dict[str, Tensor]:
    """What was drawn for the LSTM of torch_geometric's Set2Set."""
    shapes = {
        "weight_ih": (4 * dim, 2 * dim),
        "weight_hh": (4 * dim, dim),
        "bias_ih": (4 * dim,),
        "bias_hh": (4 * dim,),
    }
    return {name: drawn(f"{name} {dim}", shape) for name, shape in shapes.items()}


def ragged(dim: int) -> tuple[Tensor, Tensor]:
    """Sets of `SIZES` items, in a row and beside one another: `(items, dim)` and the number of each item's set."""
    index = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
    return drawn(f"items {dim}", (len(index), dim)), index


def padded(items: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """The same as a batch with a mask, and NaN where there is nothing."""
    rows = [items[index == number] for number in range(int(index.max()) + 1)]
    memory = torch.full((len(rows), max(map(len, rows)), items.shape[1]), torch.nan, dtype=items.dtype)
    mask = torch.zeros(memory.shape[:2], dtype=torch.bool)
    for number, row in enumerate(rows):
        memory[number, : len(row)], mask[number, : len(row)] = row, True
    return memory, mask


def processed(weights: dict[str, Tensor], items: Tensor, steps: int) -> Tensor:
    """The vector q* of one set `(n, D)`; an ordinary LSTM cell with input q*, or U and b where these are given."""
    dim = items.shape[1]
    star = weights.get("start", torch.zeros(2 * dim, dtype=items.dtype))
    hidden, cell = star[:dim], torch.zeros(dim, dtype=items.dtype)
    for _ in range(steps):
        gates = weights["weight_ih"] @ star + weights["bias_ih"]
        if "weight_hh" in weights:
            gates = gates + weights["weight_hh"] @ hidden + weights["bias_hh"]
        i, f, g, o = gates.split(dim)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        scores = torch.stack([sum(a * b for a, b in zip(item, hidden, strict=True)) for item in items])
        share = torch.exp(scores - scores.max())
        read = sum(a / share.sum() * item for a, item in zip(share, items, strict=True))
        star = torch.cat([hidden, read])
    return star


def written(writer: Any, memory: Tensor, state: Tensor, targets: list[int]) -> list[list[float]]:
    """Log-probabilities of one set `(n, D)`, step after step, by the weights of a `PointerWriter`."""
    w = {name: one.detach() for name, one in writer.named_parameters()}
    dim = memory.shape[1]

    def scores(name: str, query: Tensor, over: list[int]) -> dict[int, Tensor]:
        asked = w[f"{name}.query.weight"] @ query + w[f"{name}.query.bias"]
        return {
            i: w[f"{name}.vector.weight"][0] @ torch.tanh(w[f"{name}.key.weight"] @ memory[i] + asked) for i in over
        }

    def softmax(of: dict[int, Tensor]) -> dict[int, Tensor]:
        total = sum(torch.exp(one) for one in of.values())
        return {i: torch.exp(one) / total for i, one in of.items()}

    hidden, cell = w["begin.weight"] @ state + w["begin.bias"], torch.zeros(dim, dtype=memory.dtype)
    given, visited, found = w["first"], set[int](), []
    for target in targets:
        gates = w["lstm.weight_ih_l0"] @ given + w["lstm.bias_ih_l0"]
        gates = gates + w["lstm.weight_hh_l0"] @ hidden + w["lstm.bias_hh_l0"]
        i, f, g, o = gates.split(dim)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        query, everything = hidden, list(range(len(memory)))
        for number in range(writer.glimpses):
            share = softmax(scores(f"glimpse.{number}", query, everything))
            read = sum(share[i] * memory[i] for i in everything)
            query = w[f"mix.{number}.weight"] @ torch.cat([query, read]) + w[f"mix.{number}.bias"]
        left = [i for i in everything if not (writer.mask_visited and i in visited)] or everything
        point = softmax(scores("point", query, left))
        found.append([math.log(float(point[i])) if i in point else -math.inf for i in everything])
        visited.add(target)
        given = memory[target]
    return found
