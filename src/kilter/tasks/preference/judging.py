"""What is said of a tuned model's answers: against those of the model as given, against references, and how far it went."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kilter.evaluation.win_rate import win_rates
from kilter.models.text_model import TextModel
from kilter.tasks.preference.drawn import Answers
from kilter.tasks.preference.likelihood import score_all
from kilter.tasks.preference.sources import Item

DECODERS = {"best": "best_of", "worst": "worst_of", "plain": "plain"}
"""What stands behind the model, by the name of its metrics."""


def win_totals(ours: Tensor, start: Tensor, n: int, judged: tuple[Tensor, Tensor] | None = None) -> dict[str, Any]:
    """Of each prompt the win rates against the answers of the model as given, by metric.

    Args:
        ours: rewards `(P, S)`.
        start: of the model as given `(P, S')`.
        n: N of best and worst of N.
        judged: another scorer's of the same answers, which then says who wins among those that the reward chose.
    """
    found = {}
    name = "win" if judged is None else "judged"
    more: Any = {} if judged is None else {"judged_ours": judged[0].numpy(), "judged_theirs": judged[1].numpy()}
    for short, decoder in DECODERS.items():
        found[f"{name}_{short}"] = win_rates(ours.numpy(), start.numpy(), decoder=decoder, n=n, **more)
    return found


def reference_totals(ours: Tensor, references: Tensor, start: Tensor, group: int) -> dict[str, Any]:
    """Of each prompt how its answers stand against the reference answer and those of the model as given.

    Args:
        ours: scores `(P, S)`.
        references: of the reference answers `(P,)`.
        start: of the model as given `(P, S')`.
        group: answers of a group, for the share of groups that fail whole.
    """
    wins = (ours > references[:, None]).double() + (ours == references[:, None]).double() / 2
    net = (ours[:, :, None] > start[:, None]).double() - (ours[:, :, None] < start[:, None]).double()
    groups = (ours < references[:, None])[:, : ours.shape[1] // group * group].unflatten(1, (-1, group)).all(2)
    return {
        "win_rate": wins.mean(1).numpy(),
        "net_start": net.mean((1, 2)).numpy(),
        "all_fail": groups.double().mean(1).numpy(),
    }


def kl_totals(
    policy: TextModel, base: TextModel, answers: Answers, most: int, rows_at_once: int
) -> tuple[np.ndarray, int]:
    """Summed log-ratios of policy and base over its own answers (k1), by prompt, and of how many answers of each."""
    each = max(1, min(len(answers.answers[0]), -(-most // len(answers.prompts))))
    some = Answers(answers.prompts, [row[:each] for row in answers.answers], torch.empty(0))
    ratios = score_all(policy, *some.flat(), rows_at_once) - score_all(base, *some.flat(), rows_at_once)
    return ratios.view(-1, each).sum(1).numpy(), each


def reference_nats(
    text: TextModel, prompts: Sequence[list[int]], ids: Sequence[list[int]], rows_at_once: int
) -> np.ndarray:
    """Summed log-probability of each reference answer."""
    return score_all(text, prompts, ids, rows_at_once).numpy()


def rows_of(
    items: Sequence[Item],
    texts: Sequence[Sequence[str]],
    references: Sequence[str] | None,
    totals: dict[str, Sequence[tuple[float, float]]],
) -> list[dict[str, Any]]:
    """A row of each prompt: what was asked, some answers, and `(sum, count)` of each metric that it has."""
    return [
        {
            "input": item.asked,
            "answers": [*texts[place]],
            **({"reference": references[place]} if references is not None else {}),
            "totals": {
                name: [float(top), float(bottom)]
                for name, values in totals.items()
                for top, bottom in [values[place]]
                if top == top
            },
        }
        for place, item in enumerate(items)
    ]
