"""Tiny encoder–decoders as their library makes them, pairs for them, and an objective that sees their states."""

from typing import Any

import torch
from torch import Tensor, nn

from kilter.core import LossOutput
from kilter.core.objective import ModelObjective

WIDTH, VOCABULARY = 8, 20
FAMILIES = ("t5", "bart", "marian")


def model_of(family: str, *, dropout: float = 0.0, seed: int = 0, **more: Any) -> Any:
    import transformers as hf

    torch.manual_seed(seed)
    common: dict[str, Any] = {"vocab_size": VOCABULARY, "d_model": WIDTH, "pad_token_id": 0, "eos_token_id": 1}
    if family == "t5":
        small: dict[str, Any] = {
            "d_kv": 4,
            "d_ff": 16,
            "num_layers": 2,
            "num_heads": 2,
            "dropout_rate": dropout,
            "decoder_start_token_id": 0,
        }
        config = hf.T5Config(**common, **small, **more)
        return hf.T5ForConditionalGeneration(config).train()
    sizes = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
    small = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sizes.items()}
    special = {"decoder_start_token_id": 0, "bos_token_id": 0, "forced_eos_token_id": 1, "max_position_embeddings": 24}
    made: tuple[Any, Any] = {
        "bart": (hf.BartConfig, hf.BartForConditionalGeneration),
        "marian": (hf.MarianConfig, hf.MarianMTModel),
    }[family]
    model = made[1](made[0](**common, **small, **special, dropout=dropout, **more)).train()
    model.final_logits_bias.normal_()
    return model


def rows(count: int = 8) -> list[dict[str, Tensor]]:
    """Pairs, padded to one length; every source and target has another length than the next."""
    draw = torch.Generator().manual_seed(1)
    found = []
    for i in range(count):
        ids = torch.randint(2, VOCABULARY, (7,), generator=draw)
        labels = torch.randint(2, VOCABULARY, (5,), generator=draw)
        mask = (torch.arange(7) < 7 - i % 3).long()
        labels[5 - i % 2 :] = -100
        found.append({"input_ids": ids * mask, "attention_mask": mask, "labels": labels})
    return found


def batch(count: int = 4) -> dict[str, Tensor]:
    drawn = rows(count)
    return {name: torch.stack([row[name] for row in drawn]) for name in drawn[0]}


class Nearer(ModelObjective):
    """Source and target vectors of a pair come nearer, and logits smaller: each state has a say, and the projection."""

    def __init__(self, width: int = WIDTH, *, weight: float = 1.0) -> None:
        super().__init__()
        self.width, self.weight = width, weight
        self.project = nn.Linear(width, 3)

    def forward(self, model: nn.Module, **batch: Any) -> LossOutput:
        from kilter.hosts.seq2seq_states import output_states

        states = output_states(model, **batch)
        seen = self.from_states(
            states.source_states, states.target_states, batch["labels"], states.head, source_mask=states.source_mask
        )
        nll: Tensor = states.output["loss"]
        return LossOutput(nll + seen.loss, {"nll": nll, **seen.parts}, seen.stats)

    def from_states(
        self, source_states: Tensor, target_states: Tensor, labels: Tensor, output: Any, *, source_mask: Any = None
    ) -> LossOutput:
        source_mask = torch.ones(source_states.shape[:2]).bool() if source_mask is None else source_mask
        source = self._mean(source_states.float(), source_mask)
        target = self._mean(target_states.float(), labels != -100)
        height = output(target_states.detach()).float().square().mean()
        loss = self.weight * ((source - target).square().sum(-1).mean() + 0.1 * height)
        return LossOutput(loss, {"contrast": loss}, {"height": height.detach()})

    def _mean(self, states: Tensor, mask: Tensor) -> Tensor:
        return (self.project(states) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
