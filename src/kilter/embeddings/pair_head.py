"""A small network that scores two texts out of their vectors, as a cross-encoder does out of the texts themselves.

Paper: O. Barkan et al., "Scalable Attentive Sentence-Pair Modeling via Distilled Sentence Embedding", AAAI 2020, arXiv
1908.05161. Departure: where many pairs share their texts the first layer is split, and never sees four vectors a pair.
"""

import hashlib
import json
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kilter.core.checks import finite, floating, one_of, same_shape, shaped, whole
from kilter.core.files import write_whole

Features = Literal["concat", "dot"]

_CONFIG, _WEIGHTS = "config.json", "head.safetensors"
_TOO_LARGE = "vectors or weights are so large that it overflows; bring the vectors to a usual length"
_AT_ONCE = {"cpu": 1 << 19}
"""Numbers held for the pairs that are scored at once: on the CPU what its cache holds."""


class PairHead(nn.Module):
    r"""Score the vectors u, v of two texts by an MLP of one hidden layer.

    $$y = W_2\,\mathrm{ReLU}(W_1 f + b_1) + b_2, \qquad f = [u;\, v;\, u \circ v;\, |u - v|]$$

    or $f = u \cdot v$ alone. Order counts: the head of two concatenated vectors is not symmetric. A text is encoded
    once, and the head is cheap, so that a query can be scored with a million of them.

    It reads vectors as the encoder gives them before any normalisation; see `DistilledSentenceEmbedding`.

    Args:
        dim: width D of a vector.
        outputs: scores C of a pair: one, or one for each class.
        hidden: width of the hidden layer.
        features: `concat`, four vectors; `dot`, their product alone.
        symmetric: take the mean of both orders, which is the same for (u, v) and (v, u) to the last bit.

    Shape:
        - `u`, `v`: float `(B, D)`.
        - returns `(B, C)`, in float32 at least.

    Raises:
        TypeError: an option that is no number, vectors that are not floating point.
        ValueError: an option out of range, another width than D, one vector without another; on the CPU also NaN and
            infinity.

    Example:
        >>> head = PairHead(8, outputs=3)
        >>> head(torch.randn(4, 8), torch.randn(4, 8)).shape
        torch.Size([4, 3])
        >>> head.score_matrix(torch.randn(2, 8), torch.randn(5, 8)).shape  # every query with every candidate
        torch.Size([2, 5, 3])

    Reference: Barkan et al., AAAI 2020.
    """

    def __init__(
        self, dim: int, outputs: int = 1, *, hidden: int = 512, features: Features = "concat", symmetric: bool = False
    ) -> None:
        super().__init__()
        whole("dim", dim, 1)
        whole("outputs", outputs, 1)
        whole("hidden", hidden, 1)
        one_of("features", features, Features)
        self.dim = dim
        self.outputs = outputs
        self.hidden = hidden
        self.features: Features = features
        self.symmetric = bool(symmetric)
        self.first = nn.Linear(4 * dim if features == "concat" else 1, hidden)
        self.last = nn.Linear(hidden, outputs)

    def config(self) -> dict[str, Any]:
        """Constructor arguments that rebuild this head: `PairHead(**head.config())`."""
        return {name: getattr(self, name) for name in ("dim", "outputs", "hidden", "features", "symmetric")}

    def extra_repr(self) -> str:
        """Options in the printed form of the module."""
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())

    def forward(self, u: Float[Tensor, "batch dim"], v: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch outputs"]:
        """Scores of pairs; see the class."""
        self._check("u", u)
        self._check("v", v)
        same_shape("v", v, u.shape, "u", "give the vectors of both texts of each pair")
        u, v = _alike(u, v)
        with torch.autocast(u.device.type, enabled=False):
            if self.features == "dot":
                seen = [_linear(self.first, (u * v).sum(1, keepdim=True))]
            else:
                product, distance = u * v, (u - v).abs()
                orders = ((u, v), (v, u)) if self.symmetric else ((u, v),)
                seen = [_linear(self.first, torch.cat([*pair, product, distance], 1)) for pair in orders]
            found = self._end(*seen)
        finite("score", found, mend=_TOO_LARGE)
        return found

    def score_matrix(
        self, U: Float[Tensor, "queries dim"], V: Float[Tensor, "candidates dim"]
    ) -> Float[Tensor, "queries candidates outputs"]:
        r"""Scores of every u with every v, `forward` of all pairs at less than half of its cost and little memory.

        With the first layer split, $W_1 = [W_u\,W_v\,W_\circ\,W_\Delta]$, what a query adds is the same for all
        candidates, and its product is taken with the weights instead of with each of them:

        $$W_1 f + b_1 = (W_u u + b_1) + (W_v + W_\circ\,\mathrm{diag}(u))\,v + W_\Delta |u - v|$$

        Args:
            U: vectors of the first texts.
            V: vectors of the second.

        Raises:
            TypeError, ValueError: see the class.
        """
        self._check("U", U)
        self._check("V", V)
        U, V = _alike(U, V)
        with torch.autocast(U.device.type, enabled=False):
            if len(V) < len(U):  # what is fewer is taken with the weights
                found = self._in_blocks(V, U, swapped=True)
            else:
                found = self._in_blocks(U, V).transpose(0, 1).contiguous()
        finite("score", found, mend=_TOO_LARGE)
        return found

    def prepare(self, V: Float[Tensor, "candidates dim"]) -> Float[Tensor, "candidates dim"]:
        """Vectors to be kept for many calls of `score_matrix`: checked once, in the precision it computes in.

        They are no wider than they were: what the first layer makes of v alone is free there, see its formula.

        Raises:
            TypeError, ValueError: see the class.
        """
        self._check("V", V)
        return _alike(V, V)[0].contiguous()

    def _in_blocks(self, few: Tensor, many: Tensor, *, swapped: bool = False) -> Tensor:
        """Scores `(many, few, outputs)`, of so many pairs at once that they stay near the processor."""
        numbers, weights = self.hidden, 0
        if self.features == "concat":
            numbers, weights = self.dim + self.hidden * (1 + self.symmetric), self.dim * self.hidden
        room = _AT_ONCE.get(few.device.type, 1 << 25)
        rows = max(1, min(len(many), room // numbers))
        block = max(1, room // (rows * numbers + weights))
        columns = []
        for some in few.split(block):
            hidden = self._products(some) if self.features == "dot" else self._split(some, swapped)
            columns.append(torch.cat([self._end(*hidden(part)) for part in many.split(rows)]))
        return torch.cat(columns, 1)

    def _products(self, few: Tensor) -> Callable[[Tensor], list[Tensor]]:
        """The first layer `(many, few, hidden)` for products with some vectors."""
        return lambda many: [_linear(self.first, (many @ few.mT)[..., None])]

    def _split(self, few: Tensor, swapped: bool) -> Callable[[Tensor], list[Tensor]]:
        """The first layer `(many, few, hidden)` for pairs with some vectors, once for each order that is asked for."""
        one, other, product, distance = self.first.weight.to(few.dtype).split(self.dim, 1)
        from_few, from_many = (other, one) if swapped else (one, other)
        own = F.linear(few, from_few, self.first.bias.to(few.dtype))
        scaled = torch.addcmul(from_many, product, few[:, None])

        def hidden(many: Tensor) -> list[Tensor]:
            apart = (many[:, None] - few).abs_()
            found = F.linear(many, scaled.flatten(0, 1), own.flatten()).view(-1, self.hidden)
            found = found.addmm_(apart.flatten(0, 1), distance.mT).view(*apart.shape[:2], self.hidden)
            if not self.symmetric:
                return [found]
            turn = from_few - from_many  # what is added where the two change places
            return [found, found + F.linear(many, turn)[:, None] - F.linear(few, turn)]

        return hidden

    def _end(self, *orders: Tensor) -> Tensor:
        """From what the first layer says of each order, which is used up, to scores."""
        active = [order.relu_() for order in orders]
        return _linear(self.last, active[0] if len(active) == 1 else (active[0] + active[1]) / 2)

    def _check(self, name: str, x: Tensor) -> None:
        floating(name, x, "give the encoder's vectors")
        shaped(name, x, "rows, dim", "give one vector per text")
        if x.shape[1] != self.dim:
            raise ValueError(f"{name} is {x.shape[1]} wide, this head was made for dim={self.dim}; encode all alike")
        finite(name, x, mend="look where the encoder is given an empty text or overflows")

    # Files -----------------------------------------------------------------------------------------------------------

    @property
    def checksum(self) -> str:
        """SHA-256 of options and weights: another for every other head."""
        about = json.dumps(self.config(), sort_keys=True).encode()
        return hashlib.sha256(about + self._weights()).hexdigest()

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write `config.json` and `head.safetensors`, each of which is whole or not there.

        Raises:
            ValueError: there is a `config.json` of something else, such as the encoder.
        """
        place = Path(folder, _CONFIG)
        if place.is_file() and "pair_head" not in place.read_text(encoding="utf-8"):
            raise ValueError(f"{place} is of something else; give the head a folder of its own, {Path(folder, 'head')}")
        about = {"kind": "pair_head", **self.config(), "checksum": self.checksum}
        write_whole(Path(folder, _WEIGHTS), self._weights())
        write_whole(place, json.dumps(about, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | PathLike[str]) -> "PairHead":
        """Read what `save_pretrained` wrote.

        Raises:
            FileNotFoundError: there is no head.
            ValueError: it is not whole.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     PairHead(8, symmetric=True).save_pretrained(folder)
            ...     PairHead.from_pretrained(folder)
            PairHead(
              dim=8, outputs=1, hidden=512, features='concat', symmetric=True
              (first): Linear(in_features=32, out_features=512, bias=True)
              (last): Linear(in_features=512, out_features=1, bias=True)
            )
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        about, data = Path(folder, _CONFIG).read_bytes(), Path(folder, _WEIGHTS).read_bytes()
        try:
            options = json.loads(about)
            if options.pop("kind") != "pair_head":
                raise ValueError(f"{_CONFIG} is of something else")
            checksum = options.pop("checksum")
            with torch.device("meta"):
                head = cls(**options)
            head.load_state_dict(load(data), assign=True)
            if head.checksum != checksum:
                raise ValueError(f"{_CONFIG} belongs to another {_WEIGHTS}")
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{folder}: holds no pair head that is whole ({error}); save it anew") from error
        return head

    def _weights(self) -> bytes:
        from safetensors.torch import save

        return save({name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()})


def _alike(*vectors: Tensor) -> list[Tensor]:
    """All in one precision, single at least."""
    dtype = torch.float32
    for one in vectors:
        dtype = torch.promote_types(dtype, one.dtype)
    return [one.to(dtype) for one in vectors]


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """In the precision of what is given."""
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
