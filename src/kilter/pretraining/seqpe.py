"""Positions of any length and any grid for a model that people have: an encoder of digits in the place of its own term.

Paper: H. Li et al., "SeqPE: Transformer with Sequential Position Encoding", 2025, arXiv 2506.13277. Departure: shifts
and pivots are drawn anew at every step.
"""

import math
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from kilter.core.checks import at_least, one_of, share, whole
from kilter.core.paper import Claim, Paper
from kilter.core.positions import HostSizes, PositionStep, PositionTerm, distinct
from kilter.pretraining.position_losses import position_contrast, position_transfer
from kilter.pretraining.position_samplers import PositionSampler, Sampler
from kilter.pretraining.sequential_position_encoder import SequentialPositionEncoder

Apply = Literal["attn_scalar", "attn_mul", "attn_add", "input_add"]
QKMap = Literal["single", "multi", "none"]

_DRAWN = {
    1: {"pivots": 16, "candidates": 32, "windows": 16, "places": 32},
    2: {"pivots": 32, "candidates": 64, "windows": 32, "places": 64},
}
"""Of a step, as published for texts and for images."""


class SeqPE(PositionTerm):
    r"""A `SequentialPositionEncoder` as the positions of a model, with the two losses that teach it distance.

    $$\mathrm{logits}_{ij} = \frac{q_i \cdot k_j + a_i \cdot b_j}{\sqrt d}, \qquad [a_i; b_i] = W\,\mathrm{PE}_i + c,
      \qquad \mathcal L = \mathcal L_\mathrm{task} + w_c \mathcal L_\mathrm{contrast}
      + w_t \mathcal L_\mathrm{transfer}$$

    The logits are those of `attn_scalar`. With `attn_mul` queries and keys are multiplied by a and b, with `attn_add`
    these are added to them, and with `input_add` PE is added to the inputs. In training a step draws pivots and windows
    far out; with probability `shift_rate` its sequences begin at random positions, and there is no transfer then, since
    the window at the origin is not trained. All positions of a step are encoded once, in one call.

    Departures: shifts are drawn without a fixed list; W begins with the deviation $0.02\sqrt{768/\mathrm{out}}$, as the
    encoder's weights do. With fewer key heads than heads and `qk_map="none"`, a vector has one part for each key head.

    Args:
        max_position: positions of an axis that are trained; longer texts run while the digits last.
        axes: 1 for texts, 2 for images.
        width: of the encoder; None is the model's.
        heads: of the encoder; None is one for each 64 of its width.
        apply: where positions enter.
        qk_map: W of all layers together (`single`), of each layer (`multi`), or a = b = PE (`none`).
        contrast_weight: $w_c$; 0 leaves the term out.
        transfer_weight: $w_t$; 0 leaves the term out.
        shift_rate: share of training steps with shifted sequences.
        sampler: where the windows of candidates are: anywhere as `released`, or `centred` on their pivot.

    Attributes:
        generator: of all draws; None is torch's own on the CPU, which a Trainer seeds and resumes.

    Shape:
        - positions: int `(rows, length)`, or `(rows, length, axes)`.

    Raises:
        TypeError: an option of another type.
        ValueError: an option out of range or unknown; positions with more digits than the encoder has.

    Example:
        >>> SeqPE(20_000, shift_rate=0.0).config()["apply"]
        'attn_scalar'

    Reference: Li et al., 2025.
    """

    def __init__(
        self,
        max_position: int,
        *,
        axes: int = 1,
        width: int | None = None,
        heads: int | None = None,
        apply: Apply = "attn_scalar",
        qk_map: QKMap = "single",
        contrast_weight: float | int = 0.1,
        transfer_weight: float | int = 0.1,
        shift_rate: float | int = 0.1,
        sampler: Sampler = "released",
    ) -> None:
        super().__init__()
        whole("max_position", max_position, 1)
        one_of("apply", apply, Apply)
        one_of("qk_map", qk_map, QKMap)
        at_least("contrast_weight", contrast_weight, 0)
        at_least("transfer_weight", transfer_weight, 0)
        share("shift_rate", shift_rate)
        whole("axes", axes, 1)
        if axes not in _DRAWN:
            raise ValueError(f"axes must be 1 for texts or 2 for images, got {axes}")
        for name, value in (("width", width), ("heads", heads)):
            if value is not None:
                whole(name, value, 1)
        self.max_position = max_position
        self.axes = axes
        self.width = width
        self.heads = heads
        self.apply_to = apply
        self.qk_map: QKMap = qk_map
        self.contrast_weight = contrast_weight
        self.transfer_weight = transfer_weight
        self.shift_rate = shift_rate
        self.sampler: Sampler = sampler
        self.shared_layers = qk_map != "multi"
        self.generator: Generator | None = None
        self._draws = PositionSampler(max_position, axes=axes, sampler=sampler, **_DRAWN[axes])

    def fit(self, sizes: HostSizes) -> None:
        """Make the encoder, and the maps that `apply` and `qk_map` use."""
        super().fit(sizes)
        inputs = self.apply_to == "input_add"
        out_dim = sizes.width if inputs or self.qk_map != "none" else sizes.key_heads * sizes.head_dim
        self.encoder = SequentialPositionEncoder(
            self.max_position,
            axes=self.axes,
            width=self.width or sizes.width,
            out_dim=out_dim,
            heads=self.heads,
        )
        self.longest = self.encoder.largest + 1
        if inputs:
            return
        spread = 0.02 * math.sqrt(768 / out_dim)
        if sizes.front:
            self.before = nn.Parameter(torch.randn(sizes.front, out_dim) * spread)
        if self.qk_map != "none":
            both = (sizes.heads + sizes.key_heads) * sizes.head_dim
            count = 1 if self.qk_map == "single" else sizes.layers
            maps = [nn.Linear(out_dim, both) for _ in range(count)]
            for each in maps:
                nn.init.normal_(each.weight, std=spread)
                nn.init.zeros_(each.bias)
            self.maps = nn.ModuleList(maps)

    def encode(self, positions: Int[Tensor, "rows *axes"]) -> Float[Tensor, "rows out_dim"]:
        """Vectors of positions; see the class."""
        return self.encoder(positions)

    def front(self) -> Float[Tensor, "front out_dim"] | None:
        """What the class token has; learnt, for the encoder gives it no position."""
        return None if self.apply_to == "input_add" else self.before

    def query_key(
        self, vectors: Float[Tensor, "rows out_dim"], layer: int
    ) -> tuple[Float[Tensor, "rows heads size"], Float[Tensor, "rows key_heads size"]]:
        """The a and b of a layer, head by head."""
        sizes = _fitted(self)
        if self.qk_map == "none":
            b = vectors.unflatten(-1, (sizes.key_heads, sizes.head_dim))
            return b.repeat_interleave(sizes.heads // sizes.key_heads, -2), b
        both = self.maps[layer](vectors).unflatten(-1, (sizes.heads + sizes.key_heads, sizes.head_dim))
        a, b = both.split([sizes.heads, sizes.key_heads], -2)
        return a, b

    def forward(self, positions: Int[Tensor, "rows length *axes"], batch: int = 1) -> PositionStep:
        """Positions of a training step, perhaps shifted, and the terms of the loss; see the class."""
        flat = positions.reshape(-1, self.axes)
        length = tuple((flat.amax(0) + 1).tolist())
        shifted = self.shift_rate > 0 and float(torch.rand((), generator=self.generator)) < self.shift_rate
        if shifted:
            start = self._draws.shift(batch, length, generator=self.generator)[:, None].to(positions.device)
            positions = positions + start
        asked = {"main": positions}
        drawn = self._draws.contrast(self.generator) if self.contrast_weight else None
        if drawn is not None:
            asked |= {"pivot": drawn.pivot, "candidates": drawn.candidates}
        windows = self._draws.transfer(length, self.generator) if self.transfer_weight and not shifted else None
        if windows is not None:
            asked |= {"student": windows.student, "teacher": windows.teacher}
        single = () if self.axes == 1 else (self.axes,)
        pieces = {name: each.to(positions.device).reshape(-1, *single) for name, each in asked.items()}
        rows, where = distinct(torch.cat([*pieces.values()]), self.axes)
        vectors = self.encode(rows)
        found = dict(zip(pieces, where.split([len(each) for each in pieces.values()]), strict=True))
        at = {name: found[name].view(each.shape[: each.ndim - len(single)]) for name, each in asked.items()}
        parts = {}
        if drawn is not None:
            nearest = drawn.positive.to(vectors.device)
            loss = position_contrast(vectors[at["pivot"]], vectors[at["candidates"]], nearest)
            parts["position_contrast"] = self.contrast_weight * loss
        if windows is not None:
            loss = position_transfer(vectors[at["student"]], vectors[at["teacher"]], heads=self._relations)
            parts["position_transfer"] = self.transfer_weight * loss
        return PositionStep(vectors, at["main"], parts)

    @property
    def _relations(self) -> int:
        """Heads whose relations are compared: those that a vector is cut into, as far as it can be."""
        sizes = _fitted(self)
        heads = sizes.key_heads if self.qk_map == "none" and self.apply_to != "input_add" else sizes.heads
        return heads if self.encoder.out_dim % heads == 0 else 1


def _fitted(term: PositionTerm) -> HostSizes:
    if term.sizes is None:
        raise RuntimeError("these positions belong to no model yet; attach(model, positions)")
    return term.sizes


def attach(model: Any, seqpe: PositionTerm) -> Any:
    """Put positions in the place of those that a model of transformers has; in place.

    The model trains with the stock Trainer, whose loss then has the parts `position_contrast` and `position_transfer`
    (`kilter.hosts.transformers.LogPositionParts` among the Trainer's `callbacks` logs them), runs beyond the length it
    was made for, generates with the key-value cache, and saves with `save_pretrained`; `kilter.hosts.transformers.load`
    loads it.

    The host's own term keeps its weights, which have no part and no gradient until `detach`. Positions count from 0 at
    the first token that `attention_mask` lets be seen, unless `position_ids` are given. Make the optimiser afterwards:
    there are new parameters.

    Args:
        model: GPT-2-like, Llama-like or ViT-like, perhaps compiled, distributed or with an adapter of peft.
        seqpe: a `SeqPE`, or other positions, which no model has yet.

    Returns:
        The model.

    Raises:
        TypeError: no model of transformers, or no positions.
        ValueError: a family that is not known, a model with positions, axes that do not fit, attention that takes none.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=4, n_embd=8, n_layer=1, n_head=2))
        >>> _ = attach(model, SeqPE(1000))
        >>> model(torch.zeros(1, 64, dtype=torch.long)).logits.shape  # 16 times the length that it was made for
        torch.Size([1, 64, 9])

    Reference: Li et al., 2025.
    """
    from kilter.hosts import positions

    return positions.attach(model, seqpe)


def detach(model: Any) -> PositionTerm:
    """Give a model back its own positions: weights, settings and results are those of before `attach`, to the bit.

    Args:
        model: with positions attached.

    Returns:
        What was attached.

    Raises:
        TypeError: no model of transformers.
        ValueError: nothing is attached.

    Example:
        >>> from transformers import GPT2Config, GPT2Model
        >>> model = GPT2Model(GPT2Config(vocab_size=9, n_positions=4, n_embd=8, n_layer=1, n_head=2))
        >>> detach(attach(model, SeqPE(100))).max_position
        100

    Reference: Li et al., 2025.
    """
    from kilter.hosts import positions

    return positions.detach(model)


PAPER = Paper(
    slug="seqpe",
    title="SeqPE: Transformer with Sequential Position Encoding",
    authors=(
        "Huayang Li",
        "Yahui Liu",
        "Hongyu Sun",
        "Deng Cai",
        "Leyang Cui",
        "Wei Bi",
        "Peilin Zhao",
        "Taro Watanabe",
    ),
    year=2025,
    venue="arXiv preprint",
    url="https://arxiv.org/abs/2506.13277",
    lever="module",
    purpose="texts and pictures larger than those that a model was trained on, by positions read digit by digit",
    names=("SeqPE", "SequentialPositionEncoder", "attach", "position_contrast", "position_transfer"),
    claims=(
        Claim(
            text="texts many times longer than those trained on are foretold better than with strong baselines",
            metric="perplexity_16x",
            better="lower",
            baseline="rope",
            arm="seqpe",
        ),
        Claim(
            text="pictures larger than those trained on are recognised better, by the same encoder, which needs no "
            "new design for two axes",
            metric="accuracy_84",
            better="higher",
            baseline="learnt",
            arm="seqpe",
        ),
        Claim(
            text="questions on long texts are answered with more exact matches",
            reason="needs a model that answers questions at all, after pretraining on 100 million words",
        ),
    ),
    arxiv="2506.13277",
)
