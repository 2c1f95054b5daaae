"""A tuned model's answers against those of the model as given and against references, and how far it went."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kilter.evaluation.win_rate import Decoder, win_rates
from kilter.models.text_model import TextModel
from kilter.tasks.preference.drawn import Answers, scores
from kilter.tasks.preference.likelihood import score_all
from kilter.tasks.preference.scorers import Scorer
from kilter.tasks.preference.sources import Item, said
from kilter.tasks.preference.training import reference_ids

if TYPE_CHECKING:
    from kilter.tasks.preference.task import PreferenceTuning

Totals = Sequence[tuple[float, int]]
_SHOWN = 4
"""Answers to a prompt that are kept as texts."""

DECODERS: Mapping[str, Decoder] = {"best": "best_of", "worst": "worst_of", "plain": "plain"}
"""What stands behind the model, by the name of its metrics."""


def win_shares(ours: Tensor, start: Tensor, n: int, judged: tuple[Tensor, Tensor] | None = None) -> dict[str, Any]:
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


def reference_shares(ours: Tensor, references: Tensor, start: Tensor, group: int) -> dict[str, Any]:
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


def divergences(policy: TextModel, base: TextModel, answers: Answers, most: int, rows_at_once: int) -> Totals:
    """Of each prompt the summed log-ratios of policy and base over the policy's own answers (k1), and their number."""
    each = max(1, min(len(answers.answers[0]), -(-most // len(answers.prompts))))
    some = Answers(answers.prompts, [row[:each] for row in answers.answers])
    ratios = score_all(policy, *some.flat(), rows_at_once) - score_all(base, *some.flat(), rows_at_once)
    return [(float(row.sum()), each) for row in ratios.view(-1, each)]


def totals(
    task: "PreferenceTuning",
    text: TextModel,
    base: TextModel | None,
    items: Sequence[Item],
    ours: Answers,
    start: Answers,
) -> dict[str, Totals]:
    """`(sum, count)` of each prompt, by metric.

    Args:
        task: its scorers and options.
        text: the tuned model.
        base: the model as given, None where it is the one that is judged.
        items: prompts.
        ours: the tuned model's answers.
        start: those of the model as given.
    """
    reward, judge = task.scorers()
    scored = [
        (_whole(one, items, scores(one, text.tokenizer, items, ours.answers)), _whole(one, items, begun))
        for one, begun in zip((reward, judge), start.scores, strict=False)
        if one is not None
    ]
    found, judged = win_shares(*scored[0], task.n), scored[-1]
    if judge is not None:
        found |= win_shares(*scored[0], task.n, judged=judged)
    by_prompt: dict[str, Totals] = {}
    if all(item.chosen is not None for item in items):
        references = (judge or reward).of_references(text.tokenizer, items)
        found |= reference_shares(judged[0], references, judged[1], task.group)
        ids = reference_ids(text, items, task.max_new_tokens)
        likely = score_all(text, ours.prompts, ids, task.answers_at_once).tolist()
        by_prompt["reference_log_prob"] = [(nats, len(tokens)) for nats, tokens in zip(likely, ids, strict=True)]
    by_prompt |= {name: [(float(value), 1) for value in values] for name, values in found.items()}
    by_prompt["length"] = [(sum(map(len, row)), len(row)) for row in ours.answers]
    if base is not None:
        by_prompt["kl"] = divergences(text, base, ours, task.kl_samples, task.answers_at_once)
    else:
        by_prompt["kl"] = [(0.0, 1)] * len(items)
    return by_prompt


def rows_of(
    tokenizer: Any, items: Sequence[Item], answers: Answers, by_prompt: dict[str, Totals]
) -> list[dict[str, Any]]:
    """A row of each prompt: what was asked, some answers and the reference, and the totals of its metrics."""
    return [
        {
            "input": item.asked,
            "answers": tokenizer.batch_decode(answers.answers[place][:_SHOWN], skip_special_tokens=True),
            **({} if item.chosen is None else {"reference": said(item.chosen)}),
            "totals": {name: [*values[place]] for name, values in by_prompt.items()},
        }
        for place, item in enumerate(items)
    ]


def _whole(scorer: Scorer, items: Sequence[Item], found: Tensor) -> Tensor:
    """Scores `(P, S)`, if there is one for every answer.

    Raises:
        ValueError: there is none for one of them.
    """
    if len(missing := found.isnan().nonzero()):
        place, answer = missing[0].tolist()
        raise ValueError(
            f"{scorer.name}: gave no number for answer {answer + 1} to {items[place].asked!r:.60}; answers that are "
            "judged need one each"
        )
    return found
