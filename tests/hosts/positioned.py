"""Tiny models of each family, and positions that are easily told apart, for the tests of positions."""

from typing import Any

import torch
from torch import Tensor, nn

from kilter.core.positions import HostSizes, PositionTerm

SIZE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "max_position_embeddings": 16,
}
KINDS = ("gpt2", "llama", "qwen3", "mistral")


def model_of(kind: str, **more: Any) -> Any:
    """A model for 16 tokens, or for pictures of 16 pixels, with random weights; the same at every call."""
    import transformers as t

    torch.manual_seed(0)
    if kind == "gpt2":
        sizes = {"n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50}
        special = {"bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3}
        return t.GPT2LMHeadModel(t.GPT2Config(**sizes, **special, **more)).eval()
    if kind in ("vit", "deit"):
        config, model = {"vit": (t.ViTConfig, t.ViTForImageClassification)}.get(
            kind, (t.DeiTConfig, t.DeiTForImageClassification)
        )
        picture = {"image_size": 16, "patch_size": 4, "num_channels": 1, "num_labels": 3, "initializer_range": 0.3}
        shared = {
            name: value for name, value in SIZE.items() if name.startswith(("hidden", "inter", "num_h", "num_at"))
        }
        found = model(config(**shared, **picture, **more)).eval()
        for name, weight in found.named_parameters():
            if name.endswith("position_embeddings"):  # some begin as zeros
                weight.data.normal_()
        return found
    config, model, extra = {
        "llama": (t.LlamaConfig, t.LlamaForCausalLM, {}),
        "qwen3": (t.Qwen3Config, t.Qwen3ForCausalLM, {"head_dim": 16}),
        "mistral": (t.MistralConfig, t.MistralForCausalLM, {"sliding_window": 6}),
    }[kind]
    return model(config(**SIZE | extra | more)).eval()


class Waves(PositionTerm):
    """Waves of random length, and random maps of them."""

    def __init__(
        self, *, apply: Any = "attn_scalar", axes: int = 1, shared: bool = True, most: int | None = None
    ) -> None:
        super().__init__()
        self.apply_to, self.axes, self.shared = apply, axes, shared
        self.shared_layers = shared
        self.most = self.longest = most

    def fit(self, sizes: HostSizes) -> None:
        super().fit(sizes)
        out_dim = sizes.width if self.apply_to == "input_add" else 8
        heads = (sizes.heads + sizes.key_heads) * sizes.head_dim
        self.enter, self.leave = nn.Linear(self.axes, 8), nn.Linear(8, out_dim)
        if self.apply_to not in ("input_add", "none"):
            self.maps = nn.ModuleList(nn.Linear(8, heads) for _ in range(1 if self.shared else sizes.layers))
            self.first = nn.Parameter(torch.randn(sizes.front, 8))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(std=0.5)

    def encode(self, positions: Tensor) -> Tensor:
        if self.most is not None and int(positions.max()) >= self.most:
            raise ValueError("positions: too long")
        return self.leave(self.enter(positions.view(-1, self.axes).to(self.enter.weight.dtype) / 10).sin())

    def front(self) -> Tensor | None:
        return None if self.apply_to == "input_add" else self.first

    def query_key(self, vectors: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        sizes = self.sizes
        assert sizes is not None
        both = self.maps[layer](vectors).unflatten(-1, (sizes.heads + sizes.key_heads, sizes.head_dim))
        a, b = both.split([sizes.heads, sizes.key_heads], -2)
        return a, b
