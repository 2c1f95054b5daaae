"""BLEU and chrF of all outputs together, and what each input brings to them, for intervals over inputs.

Both are sacrebleu's. Neither is a mean over inputs, so each input's part is found by leaving it out (the jackknife).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def corpus_scores(
    texts: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Scores by name, and as many values for each as there are inputs, whose mean is the score.

    With B of all n inputs and Bᵢ of all but i, the value of input i is B + (n−1)(mean of all Bᵢ − Bᵢ). A bootstrap of
    their mean is, to first order, that of the score itself.

    Args:
        texts: what was written for each input.
        references: what people wrote for each, as many as there are.

    Example:
        >>> scores, values = corpus_scores(["a red bus"], [["a red bus", "the bus is red"]])
        >>> scores["chrf"], values["chrf"]
        (100.0, [100.0])

    Reference: Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982; sacrebleu, Post 2018.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    most = max(map(len, references))
    streams = [[row[number] if number < len(row) else None for row in references] for number in range(most)]
    scores, values = {}, {}
    for name, metric in {"bleu": BLEU(), "chrf": CHRF()}.items():
        scores[name], values[name] = _with_parts(metric, [*texts], streams)
    return scores, values


def _with_parts(metric: Any, texts: list[str], streams: list[list[str | None]]) -> tuple[float, list[float]]:
    """A score and the inputs' values, from the counts that sacrebleu sums up over inputs."""
    counts = np.array(metric._extract_corpus_statistics(texts, streams))
    whole = counts.sum(0)
    score = metric._compute_score_from_stats(whole.tolist()).score
    if len(texts) == 1:
        return score, [score]
    without = np.array([metric._compute_score_from_stats(row.tolist()).score for row in whole - counts])
    return score, (score + (len(texts) - 1) * (without.mean() - without)).tolist()
