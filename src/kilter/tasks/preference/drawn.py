"""Answers of the model as it was given: drawn once for all arms and seeds of a run, scored, and kept in a file.

A killed drawing goes on with the same answers, since each prompt has a stream of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
        scores: `(J, P, S)` of J scorers, NaN where one says nothing; likewise.
    """

    prompts: list[Ids]
    answers: list[list[Ids]]
    log_probs: Tensor = field(default_factory=lambda: torch.empty(0))
    scores: Tensor = field(default_factory=lambda: torch.empty(0))

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
        found.append(some)
        advance(len(found))
    return Answers(prompts, found)


def kept(
    load: Callable[[], TextModel],
    items: Sequence[Item],
    count: int,
    file: Path,
    settings: Mapping[str, Any],
    scorers: Sequence[Scorer],
    *,
    at_once: int,
    advance: Callable[[int, int], None],
    **how: Any,
) -> Answers:
    """The same with log-probabilities and scores, out of a file if they are there.

    Args:
        load: gives the model, if something is left to draw.
        items: prompts.
        count: answers of each.
        file: JSON lines, one for each prompt.
        settings: what else decides what they are.
        scorers: of the answers.
        at_once: prompts after which the file is written.
        advance: told how many prompts are done, of how many.
        how: of `sampled`.
    """
    settings = {**settings, "scorers": [[one.name, one.digest] for one in scorers], "answers": count}
    rows = KeptRows(file, settings | {name: how[name] for name in ("seed", "new_tokens")})
    names = [str(item.prompt) for item in items]
    missing = [place for place, name in enumerate(names) if name not in rows.rows]
    for first in range(0, len(missing), at_once):
        text, places = load(), missing[first : first + at_once]
        some = [items[place] for place in places]
        found = sampled(text, some, count, **how)
        likely = score_all(text, *found.flat(), how["rows_at_once"]).view(len(places), count).tolist()
        each = [scores(one, text.tokenizer, some, found.answers).tolist() for one in scorers]
        rows.add(
            {
                "id": names[place],
                "prompt": found.prompts[at],
                "answers": found.answers[at],
                "log_probs": likely[at],
                "scores": [one[at] for one in each],
            }
            for at, place in enumerate(places)
        )
        advance(len(names) - len(missing) + first + len(places), len(names))
    there = [rows.rows[name] for name in names]
    columns = {name: [row[name] for row in there] for name in ("prompt", "answers", "log_probs", "scores")}
    return Answers(
        columns["prompt"],
        columns["answers"],
        torch.tensor(columns["log_probs"], dtype=torch.float64),
        torch.tensor(columns["scores"], dtype=torch.float64).transpose(0, 1),
    )


def scores(scorer: Scorer, tokenizer: Any, items: Sequence[Item], answers: Sequence[Sequence[Ids]]) -> Tensor:
    """What a scorer says of each answer, `(P, S)`; NaN where it says nothing."""
    rows = [(item, ids) for item, some in zip(items, answers, strict=True) for ids in some]
    return scorer.of(tokenizer, [item for item, _ in rows], [ids for _, ids in rows]).view(len(items), -1)
