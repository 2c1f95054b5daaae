"""A language model that is a fixed random table, small enough to follow by hand.

The next token's log-probabilities are the row that the tokens so far lead to. Which row that is depends on all of
them and is worked out from the model's cache alone, so a beam whose cache was not moved with it says something else.
Runs in transformers 4.56 and in 5: `scripts/golden_group_beam_search.py` loads it in both.
"""

import math
import random
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

EOS, PAD, BOS = 0, 1, 2


class TableConfig(PretrainedConfig):
    model_type = "table"

    def __init__(self, vocab_size: int = 12, memory: int = 99, seed: int = 0, scale: float = 1.0, **kwargs: Any):
        self.vocab_size, self.memory, self.seed, self.scale = vocab_size, memory, seed, scale
        self.eos_bias = kwargs.pop("eos_bias", 0.0)
        self.states = kwargs.pop("states", 211)
        self.num_hidden_layers = self.num_attention_heads = self.hidden_size = 1
        self.max_position_embeddings = 64
        special = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
        super().__init__(**special | kwargs)


class TableLM(PreTrainedModel, GenerationMixin):
    """`memory` is how many of the last tokens matter, `eos_bias` what is added to the logit of the end."""

    config_class = TableConfig
    main_input_name = "input_ids"

    def __init__(self, config: TableConfig) -> None:
        super().__init__(config)
        draw = random.Random(config.seed)
        table = [[-math.log(-math.log(draw.random())) for _ in range(config.vocab_size)] for _ in range(config.states)]
        table = torch.tensor(table) * config.scale
        table[:, config.eos_token_id] += config.eos_bias
        table[:, [config.bos_token_id, config.pad_token_id]] -= 30 * (
            torch.tensor([config.bos_token_id, config.pad_token_id]) != config.eos_token_id
        )
        self.table = torch.nn.Parameter(table, requires_grad=False)
        vectors = [[draw.random() - 0.5 for _ in range(4)] for _ in range(config.vocab_size)]
        self.vectors = torch.nn.Embedding(config.vocab_size, 4, _weight=torch.tensor(vectors))
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        pass

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.vectors

    def state(self, ids: list[int]) -> int:
        """The row after these tokens."""
        row = 0
        for place, token in enumerate(ids[-self.config.memory :]):
            row = (31 * row + 7 * place + token) % self.config.states
        return row

    def log_probs(self, ids: list[int] | tuple[int, ...]) -> list[float]:
        """log p of each next token, in float64."""
        return self.table[self.state(list(ids))].double().log_softmax(-1).tolist()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        cache: Any = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        new = input_ids.shape[1]
        seen = input_ids if attention_mask is None else input_ids.where(attention_mask[:, -new:].bool(), -1)
        cache = past_key_values if cache is None else cache  # renamed in transformers 5.24
        if cache is not None:
            kept, _ = cache.update(seen[:, None, :, None].float(), seen[:, None, :, None].float(), 0)
            seen = kept[:, 0, :, 0].long()
        ends = range(seen.shape[1] - new + 1, seen.shape[1] + 1)
        rows = [[self.state([token for token in row[:t] if token >= 0]) for t in ends] for row in seen.tolist()]
        return CausalLMOutputWithPast(logits=self.table[torch.tensor(rows)], past_key_values=cache)


def table_lm(seed: int = 0, **kwargs: Any) -> TableLM:
    """A fresh one; `pad_token_id=0` makes the padding the end, as most decoder-only models have it."""
    return TableLM(TableConfig(seed=seed, **kwargs)).eval()
