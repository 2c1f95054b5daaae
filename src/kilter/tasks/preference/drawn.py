"""Answers of the model as it was given: drawn once for all arms and seeds of a run, scored, and kept in a file.

A killed drawing goes on with the same answers, since each prompt has a stream of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kilter.hosts.completions import draw, ends_of, prompt_ids
from kilter.lab.kept import KeptRows
from kilter.models.text_model import TextModel
from kilter.tasks.preference.likelihood import score_all
from kilter.tasks.preference.scorers import Scorer
from kilter.tasks.preference.sources import Item

Ids = list[int]


@dataclass(frozen=True)
class Answers:
    """Of each prompt as many answers.

    Attributes:
        prompts: token ids of each prompt.
        answers: of each its answers, token ids up to and with the end.
        log_probs: `(P, S)`, summed, of the model that gave them; empty where they were not asked for.
    """

    prompts: list[Ids]
    answers: list[list[Ids]]
    log_probs: Tensor

    def flat(self) -> tuple[list[Ids], list[Ids]]:
        """Prompt and answer of each row, those of one prompt after each other."""
        prompts = [prompt for prompt, some in zip(self.prompts, self.answers, strict=True) for _ in some]
        return prompts, [answer for some in self.answers for answer in some]


def sampled(
    text: TextModel,
    items: Sequence[Item],
    count: int,
    *,
    seed: int,
    new_tokens: int,
    rows_at_once: int,
    advance: Callable[[int], None] = lambda done: None,
) -> Answers:
    """`count` answers of each prompt, at temperature 1 from the whole distribution, without their log-probabilities."""
    prompts = prompt_ids(text.tokenizer, [item.prompt for item in items])
    how = {"ends": ends_of(text.model, text.tokenizer), "max_new_tokens": new_tokens, "batch_size": rows_at_once}
    found: list[list[Ids]] = []
    for some in draw(text.model, prompts, draws=count, seed=seed, **how):
        found += some
        advance(len(found))
    return Answers(prompts, found, torch.empty(0))


def kept(
    load: Callable[[], TextModel],
    items: Sequence[Item],
    count: int,
    file: Path,
    settings: Mapping[str, Any],
    *,
    at_once: int,
    advance: Callable[[int, int], None],
    **how: Any,
) -> Answers:
    """The same with log-probabilities, out of a file if they are there.

    Args:
        load: gives the model, if something is left to draw.
        items: prompts.
        count: answers of each.
        file: JSON lines, one for each prompt.
        settings: what else decides what they are.
        at_once: prompts after which the file is written.
        advance: told how many prompts are done, of how many.
        how: of `sampled`.
    """
    rows = KeptRows(file, {**settings, "answers": count, **{name: how[name] for name in ("seed", "new_tokens")}})
    names = [str(item.prompt) for item in items]
    missing = [place for place, name in enumerate(names) if name not in rows.rows]
    for first in range(0, len(missing), at_once):
        places = missing[first : first + at_once]
        text = load()
        found = sampled(text, [items[place] for place in places], count, **how)
        likely = score_all(text, *found.flat(), how["rows_at_once"]).view(len(places), count)
        rows.add(
            {"id": names[place], "prompt": prompt, "answers": answers, "log_probs": row.tolist()}
            for place, prompt, answers, row in zip(places, found.prompts, found.answers, likely, strict=True)
        )
        advance(len(names) - len(missing) + first + len(places), len(names))
    there = [rows.rows[name] for name in names]
    return Answers(
        [row["prompt"] for row in there],
        [row["answers"] for row in there],
        torch.tensor([row["log_probs"] for row in there], dtype=torch.float64),
    )


def scores(scorer: Scorer, tokenizer: Any, items: Sequence[Item], answers: Sequence[Sequence[Ids]]) -> Tensor:
    """What a scorer says of each answer, `(P, S)`; NaN where it says nothing."""
    counts = [len(some) for some in answers]
    found = scorer.of(tokenizer, [item for item, some in zip(items, answers, strict=True) for _ in some], answers)
    return found.view(len(items), counts[0])
