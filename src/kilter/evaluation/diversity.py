"""How different are the outputs for one input, and how good is the best of them?

Distinct n-grams and oracle@k follow Vijayakumar et al., "Diverse Beam Search", AAAI 2018; self-BLEU is of Zhu et al.,
"Texygen", SIGIR 2018; the Vendi score of Friedman and Dieng, TMLR 2023. How much of an output is copied is measured by
`repetition` and `overlap`, which stand in `kilter.evaluation.copying` and can be had here.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence, Sized
from typing import Any, Literal

import torch
from torch import Tensor

from kilter.core import options
from kilter.core.errors import extra
from kilter.core.normalise import tidy
from kilter.core.normalise import words as words_of
from kilter.evaluation.copying import Tokenize
from kilter.evaluation.copying import overlap as overlap
from kilter.evaluation.copying import repetition as repetition

Texts = Sequence[str] | Sequence[Sequence[str]]

TOLERANCE = 1e-4
"""How far a similarity matrix may be from symmetric, unit on the diagonal and positive: single precision's errors."""


# How different ----------------------------------------------------------------------------------------------------


def distinct_n(
    texts: Texts, n: int, *, per: Literal["words", "text"] = "words", tokenize: Tokenize | None = None
) -> float:
    """Distinct n-grams in the outputs for one input, by the words of these outputs.

    Args:
        texts: the outputs for one input, or a list of such lists, of which the mean is taken. An output may be empty.
        n: words in an n-gram.
        per: `words` divides by all words generated, as the paper says: at most 1. `text` divides by the mean words of
            an output, which can exceed 1, as the paper's figures do.
        tokenize: from a text to its words; splits at any white space by default, letters composed.

    Raises:
        ValueError: no texts, texts without a word, or n below 1.

    Example:
        >>> distinct_n(["a red bus", "a red car"], 2)
        0.5
        >>> distinct_n(["a red bus", "a red car"], 2, per="text")
        1.0

    Reference: Vijayakumar et al. 2018, section 5; their normalisation is not published, so compare ratios.
    """
    options.whole("n", n, 1)
    options.one_of("per", per, ("words", "text"))

    def measure(outputs: Sequence[str], where: str) -> float:
        rows = [(tokenize or words_of)(text) for text in outputs]
        words = sum(map(len, rows))
        if not words:
            raise ValueError(f"{where} has no word in any text; leave this input out")
        distinct = len({gram for row in rows for gram in _ngrams(row, n)})
        return distinct / (words if per == "words" else words / len(rows))

    return _mean_over_inputs(texts, measure)


def self_bleu(texts: Texts, *, tokenize: Tokenize | None = None) -> float:
    """Mean BLEU-4 of each output against all others for the same input, 0 to 100: high where outputs are alike.

    Args:
        texts: two or more outputs for one input, or a list of such lists, of which the mean is taken.
        tokenize: from a text to its words; sacrebleu's 13a by default.

    Raises:
        ValueError: fewer than two texts, or an empty one.

    Example:
        >>> self_bleu(["the bus is red now", "the bus is red now"])
        100.0

    Reference: Zhu et al. 2018.
    """
    score = _bleu(tokenize)

    def measure(outputs: Sequence[str], where: str) -> float:
        _spoken(outputs, where)
        if len(outputs) < 2:
            raise ValueError(f"{where} has one text only, and each is compared with the others; give two or more")
        rows = [*outputs]
        return statistics.fmean(score(row, rows[:place] + rows[place + 1 :]) for place, row in enumerate(rows))

    return _mean_over_inputs(texts, measure)


def vendi_score(similarity: Tensor | Any) -> float:
    r"""Effective number of different things: 1 where all are the same, K where none is like another.

    Args:
        similarity: `(K, K)` positive semidefinite with ones on the diagonal, e.g. cosines; tensor, array or lists.

    Returns:
        $\exp(-\sum_i \lambda_i \log \lambda_i)$ over the eigenvalues of `similarity / K`.

    Raises:
        ValueError: another shape, NaN or infinity, not symmetric, no ones on the diagonal, or an eigenvalue below zero.

    Example:
        >>> vendi_score([[1.0, 0.0], [0.0, 1.0]])
        2.0

    Reference: Friedman and Dieng, "The Vendi Score", TMLR 2023.
    """
    matrix = _matrix(similarity, "similarity")
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"similarity must be square (K, K), got {tuple(matrix.shape)}")
    if (uneven := float((matrix - matrix.T).abs().max())) > TOLERANCE:
        raise ValueError(
            f"similarity must be symmetric, but two sides differ by {uneven:.2g}; average it with its transpose"
        )
    if ((matrix.diagonal() - 1).abs() > TOLERANCE).any():
        raise ValueError("similarity must have ones on its diagonal; divide by the root of each row's and column's")
    values = torch.linalg.eigvalsh(matrix / len(matrix))
    if values[0] < -TOLERANCE:
        raise ValueError(f"similarity has the eigenvalue {len(matrix) * values[0]:.2g}, below 0; is it a kernel?")
    return float(torch.special.entr(values.clamp(min=0)).sum().exp())


def ngram_similarity(
    texts: Sequence[str], orders: Sequence[int] = (1, 2, 3, 4), tokenize: Tokenize | None = None
) -> Tensor:
    """Cosines `(K, K)` between the texts' counts of n-grams, averaged over the orders n; float64.

    A text of fewer than n words is one n-gram of its own, so that it is like itself only.

    Raises:
        ValueError: no texts, an empty one, or an order below 1.
    """
    _spoken(texts, "texts")
    if not orders or not all(isinstance(n, int) and n >= 1 for n in orders):
        raise ValueError(f"orders must be one or more numbers of at least 1, got {orders!r}")
    rows = [tuple((tokenize or words_of)(text)) for text in texts]
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for n in orders:
        counts = [Counter(_ngrams(row, n) or [row]) for row in rows]
        place = {gram: index for index, gram in enumerate(dict.fromkeys(gram for one in counts for gram in one))}
        vectors = torch.zeros(len(rows), len(place), dtype=torch.float64)
        for vector, one in zip(vectors, counts, strict=True):
            vector[[place[gram] for gram in one]] = torch.tensor([*one.values()], dtype=torch.float64)
        vectors /= vectors.norm(dim=1, keepdim=True)
        total += vectors @ vectors.T
    return total / len(orders)


def ngram_vendi_score(texts: Texts, *, orders: Sequence[int] = (1, 2, 3, 4), tokenize: Tokenize | None = None) -> float:
    """Effective number of different outputs for one input: the Vendi score of their n-gram cosines.

    Args:
        texts: the outputs for one input, or a list of such lists, of which the mean is taken.
        orders: the n over which the cosines are averaged.
        tokenize: from a text to its words; splits at any white space by default, letters composed.

    Raises:
        ValueError: no texts, an empty one, or an order below 1.

    Example:
        >>> ngram_vendi_score(["a red bus", "a red bus", "two dogs bark"])
        1.8899

    Reference: `ngram_vendi_score` of the authors' package, from which it differs in texts of fewer than n words only.
    """
    return _mean_over_inputs(
        texts, lambda outputs, where: vendi_score(ngram_similarity(_spoken(outputs, where), orders, tokenize))
    )


# How good is the best ---------------------------------------------------------------------------------------------


def oracle_at_k(scores: Tensor | Any, ks: Sequence[int] = (1, 5, 10, 20)) -> dict[int, float]:
    """Best score among the first k outputs for each input, averaged over inputs.

    Args:
        scores: `(N, K)` of any metric that is better when higher, outputs in their order; tensor, array or lists.
        ks: how many of the first outputs may be chosen from.

    Raises:
        ValueError: another shape, NaN or infinity, or a k that is not in 1…K.

    Example:
        >>> oracle_at_k([[0.1, 0.3, 0.2], [0.5, 0.1, 0.9]], ks=[1, 3])
        {1: 0.3, 3: 0.6}

    Reference: Vijayakumar et al. 2018, section 5.
    """
    matrix = _matrix(scores, "scores")
    for k in ks:
        options.whole("ks", k)
    if wrong := [k for k in ks if not 1 <= k <= matrix.shape[1]]:
        raise ValueError(
            f"ks holds {wrong[0]}, but scores has {matrix.shape[1]} outputs for each input; give 1 to that"
        )
    best = matrix.cummax(dim=1).values.mean(dim=0)
    return {k: float(best[k - 1]) for k in ks}


def sentence_bleu(text: str, references: Sequence[str], *, tokenize: Tokenize | None = None) -> float:
    """BLEU-4 of one text against one or several references, 0 to 100: a metric for `oracle_at_k`.

    Args:
        text: the output; an empty one has 0.
        references: at least one, none empty.
        tokenize: from a text to its words; sacrebleu's 13a by default.

    Raises:
        ValueError: no reference, or an empty one.

    Example:
        >>> sentence_bleu("the red bus is here", ["a bus", "the red bus is here now"])
        81.87

    Reference: sacrebleu, exponential smoothing and effective order; the order is lower for texts of fewer than 4 words.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    return _bleu(tokenize)(text, [*_spoken(references, "references")])


def _mean_over_inputs(texts: Texts, measure: Callable[[Sequence[str], str], float]) -> float:
    if isinstance(texts, str):
        raise ValueError("texts is one text; give the list of outputs for one input")
    if not isinstance(texts, Sized):
        raise TypeError(f"texts must be a list, got {type(texts).__name__}")
    if not len(texts):
        raise ValueError("texts is empty; give the outputs for one input, or a list of such lists")
    single = [isinstance(one, str) for one in texts]
    if all(single):
        return measure(texts, "texts")  # type: ignore[arg-type]
    for place, one in enumerate(texts):
        if not isinstance(one, str):
            options.texts(f"texts[{place}]", one, row="text")
    if any(single):
        raise ValueError(f"texts[{single.index(True)}] is a text among lists; give texts only, or lists only")
    return statistics.fmean(measure(one, f"texts[{place}]") for place, one in enumerate(texts))


def _spoken(texts: Sequence[str], where: str) -> Sequence[str]:
    """The texts, once it is sure that there are some and none is blank."""
    if isinstance(texts, str):
        raise ValueError(f"{where} is one text; give a list")
    if not len(options.texts(where, texts, row="text")):
        raise ValueError(f"{where} is empty; give at least one text")
    for place, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"{where}[{place}] is an empty text; leave it out")
    return texts


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]


def _matrix(values: Any, name: str) -> Tensor:
    try:
        matrix = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be a matrix of numbers, rows equally long ({error})") from error
    if matrix.ndim != 2 or not matrix.numel():
        raise ValueError(f"{name} must be a matrix that is not empty, got the shape {tuple(matrix.shape)}")
    if not matrix.isfinite().all():
        row, column = (~matrix.isfinite()).nonzero()[0].tolist()
        value = "NaN" if matrix[row, column].isnan() else "infinite"
        raise ValueError(f"{name}[{row}][{column}] is {value}; leave this input out")
    return matrix


def _bleu(tokenize: Tokenize | None) -> Callable[[str, list[str]], float]:
    metrics = extra("sacrebleu.metrics", "generation")
    bleu = metrics.BLEU(effective_order=True, tokenize="13a" if tokenize is None else "none")

    def words(text: str) -> str:
        return tidy(text) if tokenize is None else " ".join(tokenize(text))

    return lambda text, references: bleu.sentence_score(words(text), [words(one) for one in references]).score
