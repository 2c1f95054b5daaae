"""What an arm writes after each prompt, and how another ranker finds it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kilter.tasks.continuations.judging import copying, preferred
from kilter.tasks.continuations.reranking import Sampling, best, decode, finished

if TYPE_CHECKING:
    from kilter.data.books import Pair
    from kilter.tasks.continuations.ranking import TextScorer


def written(
    pool: "Mapping[Pair, Mapping[str, Any]]",
    decoder: Any,
    scorer: "TextScorer | None",
    judge: "TextScorer | None",
    language_model: Callable[[], tuple[Any, Any]],
    sampling: Sampling,
    seed: int,
) -> list[dict[str, Any]]:
    """A row for each prompt.

    Args:
        pool: the samples of each prompt.
        decoder: of the arm: `human`, `judge`, `nucleus`, None for the best of the samples, or one by a scorer.
        scorer: that chooses; None for plain sampling, of which the mean is taken.
        judge: the other ranker, if there is one.
        language_model: gives the generator and its tokenizer.
        sampling: how a decoder draws.
        seed: of what it draws.
    """
    rows = []
    for pair, samples in pool.items():
        row = {"input": pair.id, "prefix": pair.prefix}
        if decoder == "judge":  # what it chooses, it would prefer
            rows.append({**row, "totals": {}})
            continue
        plain = [finished(text) for text in samples["texts"]]
        if decoder == "human":
            texts = [pair.continuation]
        elif scorer is None:
            texts = plain
        elif decoder is None:
            texts = [finished(best(pair.prefix, samples, scorer))]
        else:
            texts = [finished(decode(*language_model(), pair.prefix, decoder, scorer, sampling, seed))]
        totals = copying(pair.prefix, texts)
        if judge is not None:
            totals |= preferred(judge, pair, texts, plain, by_author=decoder == "human")
        rows.append({**row, "text": texts[0], "totals": totals})
    return rows
