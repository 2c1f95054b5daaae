"""A rotation from one space to another without a single pair: a start, then Procrustes on mutual CSLS neighbours.

Source: the refinement of A. Conneau et al., "Word Translation Without Parallel Data", ICLR 2018; the start from sorted
similarities of M. Artetxe et al., "A robust self-learning method for fully unsupervised cross-lingual mappings of word
embeddings", ACL 2018. Departures: no adversary and nothing random; what is judged was not fitted, and a rotation is
held back where pairs are few for the width. Without either, pairs that are wrong confirm themselves.
"""

from collections.abc import Iterator
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kilter.core.checks import whole
from kilter.ops.csls import csls_neighbours
from kilter.ops.procrustes import procrustes

_HELD_OUT = 5
"""Every fifth row judges, the others are fitted."""
_CLEARLY = 1.5
"""How many times what none gains a rotation from near by must gain: rows without partners gain a little by anything."""
_AGREES = 0.5
"""The share of rows, not fitted, whose nearest must be the one that sees its side alike."""
_ROUNDS = 50
_PATIENCE = 3
"""Rounds without a gain after which a start is done."""
_HOLD = 10.0
"""How firmly a rotation stays where it was, in units of the singular values that pairs by chance would have."""
_SAME = 0.01
"""Rows of length 1 that lie nearer than this are one and the same."""
_POINTS = 512
"""Places at which sorted similarities are compared."""
_BLOCK = 1 << 23
"""Similarities held at once."""


def unsupervised_rotation(
    x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"], *, neighbours: int = 10, sample: int = 5000
) -> Float[Tensor, "dim dim"]:
    r"""The orthogonal matrix W that lays the directions of x over those of y, as far as rows tell that it should.

    There are two starts: no rotation, for spaces that lie near to each other already; and that of rows whose sorted
    cosines with all rows of their own side are alike, which no rotation changes, for spaces of like shape. Each is
    refined: the rows of both sides that are each other's nearest by CSLS are P pairs (i, j), and

    $$W \leftarrow \arg\max_{W^\top W = I} \sum_{(i, j)} x_i W y_j^\top
        + \lambda \, \mathrm{tr}(W_{\text{before}}^\top W), \qquad \lambda = 10 \sqrt{P / D}$$

    as long as it gains. What is to gain is the mean CSLS of rows of x with their nearest of y, in units of the
    deviation of all cosines, over every fifth row, of which no pair is made. From no rotation it must become 1.5 times
    as much: where the sides say different things a nearest row is mostly none that means the same, and what is fitted
    to such pairs takes more than it brings. The second start must hold for rows that it was not fitted to. The start
    and the number of rounds that gain most are then taken with all rows; where none is good enough W is the identity.

    The result depends on the rows, not on their order. If y holds the rows of x rotated and scaled, in any order, it
    is found, whatever they are like: the second start then lays rows upon rows, and nothing is judged. A space turned
    far away of which y holds other rows is not.

    Args:
        x: vectors of one space as rows, n ≥ 2; their lengths do not matter.
        y: vectors of the other.
        neighbours: of CSLS.
        sample: how many rows of each side are looked at, spread over the widest component; time grows with its square.

    Returns:
        W, for `x @ W`, in the precision of x, float32 at least.

    Example:
        >>> x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        >>> turned = x.roll(1, 1)[torch.randperm(100)]  # another order of components, and of rows
        >>> unsupervised_rotation(x, turned).round().abs()
        tensor([[0., 1., 0., 0.],
                [0., 0., 1., 0.],
                [0., 0., 0., 1.],
                [1., 0., 0., 0.]])
    """
    whole("neighbours", neighbours, 1)
    whole("sample", sample, 2)
    x, y = (F.normalize(_spread(side, sample), dim=1) for side in (x, y))
    fitted = torch.arange(len(x), device=x.device) % _HELD_OUT != _HELD_OUT // 2
    judging = x[~fitted] if len(x) > _HELD_OUT // 2 else x
    rows, matches = _alike(x, y, neighbours)
    if (copied := _of_a_copy(x, y, rows, matches, neighbours)) is not None:
        return copied
    none = torch.eye(x.shape[1]).to(x)

    def start(which: int, taken: Tensor) -> Tensor:
        return procrustes(x[rows[taken[rows]]], y[matches[taken[rows]]]) if which else none

    def gain(rotation: Tensor) -> float:
        turned = judging @ rotation
        found = csls_neighbours(turned, y, neighbours).gain.mean()
        return float(found) / max(_deviation(turned, y), 1e-9)

    def agrees(rotation: Tensor) -> bool:
        held = ~fitted[rows]
        nearest = csls_neighbours(x[rows[held]] @ rotation, y, neighbours).forward if held.any() else rows[held]
        return bool((nearest == matches[held]).double().sum() > _AGREES * held.sum())

    best, most = (0, 0), (unturned := gain(none))
    for which, least in ((0, _CLEARLY * unturned), (1, unturned)):
        first = start(which, fitted)
        if which and not agrees(first):
            break
        waited, before = 0, -1.0
        for count, rotation in enumerate(_refined(first, x[fitted], y, neighbours)):
            now = gain(rotation)
            if now > max(most, least):
                best, most = (which, count), now
            waited, before = (0, now) if now > before else (waited + 1, before)
            if waited > _PATIENCE:
                break
    which, count = best
    *_, found = islice(_refined(start(which, torch.ones_like(fitted)), x, y, neighbours), count + 1)
    return found


def _spread(side: Tensor, most: int) -> Tensor:
    """At most so many rows, in an order and at places that do not depend on the order in which they came."""
    side = side.to(torch.promote_types(side.dtype, torch.float32))
    ordered = side[side[:, side.var(0).argmax()].argsort(stable=True)]
    return ordered[torch.linspace(0, len(side) - 1, min(most, len(side)), device=side.device).long()]


def _alike(x: Tensor, y: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Rows of x and of y that see their own side in the same way."""
    points = min(len(x), len(y), _POINTS)
    seen_x, seen_y = _sorted_similarities(x, points), _sorted_similarities(y, points)
    usual = torch.cat([seen_x, seen_y]).mean(0)
    return csls_neighbours(seen_x - usual, seen_y - usual, neighbours).mutual()


def _of_a_copy(x: Tensor, y: Tensor, rows: Tensor, matches: Tensor, neighbours: int) -> Tensor | None:
    """The rotation of rows that are alike, if it lays half of all upon their matches; then of all that are nearest."""
    if 2 * len(rows) < max(len(x), len(y)):
        return None
    rotation = procrustes(x[rows], y[matches])
    if torch.linalg.vector_norm(x[rows] @ rotation - y[matches], dim=1).median() > _SAME:
        return None
    rows, matches = csls_neighbours(x @ rotation, y, neighbours).mutual()
    return procrustes(x[rows], y[matches])


def _sorted_similarities(side: Tensor, points: int) -> Tensor:
    """For each row its cosines with all rows of its side, sorted, at evenly spaced places."""
    at = torch.linspace(0, len(side) - 1, points, device=side.device, dtype=side.dtype)
    low, high = at.floor().long(), at.ceil().long()
    found = []
    for part in side.split(max(1, _BLOCK // len(side))):
        cosines = (part @ side.mT).sort(1).values
        found.append(torch.lerp(cosines[:, low], cosines[:, high], at - low))
    return torch.cat(found)


def _deviation(x: Tensor, y: Tensor) -> float:
    """The standard deviation of all cosines between rows of length one, without a matrix of them."""
    mean = x.mean(0) @ y.mean(0)
    square = ((x.mT @ x) * (y.mT @ y)).sum() / (len(x) * len(y))
    return float((square - mean.square()).clamp(min=0).sqrt())


def _refined(rotation: Tensor, x: Tensor, y: Tensor, neighbours: int) -> Iterator[Tensor]:
    """A start, and what Procrustes on mutual neighbours makes of it round by round, until the pairs stay."""
    before = None
    for _ in range(_ROUNDS):
        yield rotation
        rows, matches = csls_neighbours(x @ rotation, y, neighbours).mutual()
        pairs = torch.stack([rows, matches])
        if before is not None and torch.equal(pairs, before):
            return
        before = pairs
        weight = _HOLD * (len(rows) / x.shape[1]) ** 0.5
        rotation = procrustes(x[rows], y[matches], prior=rotation, weight=weight)
