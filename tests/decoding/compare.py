"""What a decoder returned beside what the plain-Python reference finds."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.decoding import reference
from tests.decoding.table import BOS, EOS, TableLM


def until_end(row: Sequence[int], eos: Sequence[int]) -> tuple[int, ...]:
    """Tokens up to the first that ends a sequence."""
    ends = [place for place, token in enumerate(row) if token in eos]
    return tuple(row[: ends[0] + 1] if ends else row)


def same(
    output: Any,
    start: int,
    expected: list[list[tuple[int, reference.Hypothesis]]],
    eos: Sequence[int] = (EOS,),
    within: float = 1e-4,
) -> None:
    """Each input's rows are the (group, hypothesis) `expected` of it: tokens, scores and groups."""
    rows = [row for one in expected for row in one]
    found = [until_end(row, eos) for row in output.sequences[:, start:].tolist()]
    # what ends without an end token is followed by filling, which is not compared
    assert [row[: len(h.tokens)] for row, (_, h) in zip(found, rows, strict=True)] == [h.tokens for _, h in rows]
    assert output.group_indices.tolist() == [group for group, _ in rows]
    assert output.sequences_scores.tolist() == pytest.approx([h.score for _, h in rows], abs=within)
    assert output.sequences_log_probs.tolist() == pytest.approx([h.log_prob for _, h in rows], abs=within)


def padded(prompts: Sequence[Sequence[int]], pad: int) -> dict[str, Tensor]:
    """Left padded prompts, as `generate` takes them."""
    longest = max(map(len, prompts))
    return {
        "input_ids": torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]),
        "attention_mask": torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts]),
    }


def check_table(
    model: TableLM,
    prompts: Sequence[Sequence[int]],
    decoder: Any,
    *,
    order: str | None = None,
    adjust: Any = None,
    how: dict[str, Any] | None = None,
    **asked: Any,
) -> Any:
    """Decode ragged prompts of a table in one batch, find the same by the reference, and return what was decoded.

    `asked` goes to `generate`; `how` and `adjust` (which is told the prompt) are the reference's.
    """
    eos = asked.get("eos_token_id", [EOS])
    order = order or ("score" if asked["num_return_sequences"] == asked["num_beams"] else "rounds")
    output = model.generate(
        **padded(prompts, model.config.pad_token_id), custom_generate=decoder, return_dict_in_generate=True, **asked
    )
    expected = []
    for prompt in prompts:
        groups = reference.search(
            lambda said, prompt=prompt: model.log_probs((*prompt, *said)),
            beams=asked["num_beams"],
            groups=asked.get("num_beam_groups", 1),
            penalty=asked.get("diversity_penalty", 0.0),
            max_new=asked["max_new_tokens"],
            eos=eos,
            length_penalty=asked.get("length_penalty", 1.0),
            early_stopping=asked.get("early_stopping", False),
            **(how or {}),
            **({"adjust": lambda said, p, prompt=prompt: adjust(prompt, said, p)} if adjust else {}),
        )
        expected.append(reference.ranked(groups, order)[: asked["num_return_sequences"]])
    same(output, max(map(len, prompts)), expected, eos)
    return output


def without(model: TableLM) -> reference.Model:
    """The table asked for nothing: from the first token."""
    return lambda said: model.log_probs((BOS, *said))
