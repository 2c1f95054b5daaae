"""How likely a model is to give an answer: whole answers, in float32 sums, with a graph or in batches without one."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kilter.models.text_model import TextModel

Ids = Sequence[int]


def padded(prompts: Sequence[Ids], answers: Sequence[Ids], pad: int) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask (N, P+T)` and `answer_mask (N, T)`: prompts end where answers begin.

    Example:
        >>> batch = padded([[1], [1, 2]], [[3, 4], [5]], pad=0)
        >>> batch["input_ids"].tolist(), batch["answer_mask"].tolist()
        ([[0, 1, 3, 4], [1, 2, 5, 0]], [[True, True], [True, False]])
    """
    before, after = max(map(len, prompts)), max(1, *map(len, answers))
    ids = torch.full((len(prompts), before + after), pad)
    mask = torch.zeros_like(ids)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        there = slice(before - len(prompt), before + len(answer))
        ids[row, there] = torch.tensor([*prompt, *answer])
        mask[row, there] = 1
    return {"input_ids": ids, "attention_mask": mask, "answer_mask": mask[:, before:].bool()}


def log_probs(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Summed log-probabilities `(N,)` of the answers of a batch that `padded` made."""
    mask, new = batch["attention_mask"], batch["answer_mask"].shape[1]
    places = (mask.cumsum(1) - 1).clamp_min(0)
    found = model(
        input_ids=batch["input_ids"],
        attention_mask=mask,
        position_ids=places,
        logits_to_keep=new + 1,
        use_cache=False,
    )
    logits = found.logits[:, -new - 1 : -1].float()
    said = logits.gather(2, batch["input_ids"][:, -new:, None])[..., 0] - logits.logsumexp(2)
    return said.masked_fill(~batch["answer_mask"], 0).sum(1)


@torch.no_grad()
def score_all(text: TextModel, prompts: Sequence[Ids], answers: Sequence[Ids], rows_at_once: int) -> Tensor:
    """The same for pairs however many, in float64 `(N,)`; those of like length are read together."""
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), len(answers[row])))
    found = torch.zeros(len(prompts), dtype=torch.float64)
    for first in range(0, len(order), rows_at_once):
        rows = order[first : first + rows_at_once]
        batch = padded([prompts[row] for row in rows], [answers[row] for row in rows], text.tokenizer.pad_token_id)
        there = {name: value.to(text.model.device) for name, value in batch.items()}
        found[rows] = log_probs(text.model, there).double().cpu()
    return found
