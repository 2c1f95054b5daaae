"""Diversity, the best of k and copying: closed forms, slow transcriptions, other libraries, and bad input."""

import math
import unicodedata
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kilter.evaluation.copying import STOP_WORDS, rankgen_words
from kilter.evaluation.diversity import (
    distinct_n,
    ngram_similarity,
    ngram_vendi_score,
    oracle_at_k,
    overlap,
    repetition,
    self_bleu,
    sentence_bleu,
    vendi_score,
)

WORDS = st.sampled_from(["a", "red", "bus", "dog", "runs"])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=7).map(" ".join), min_size=2, max_size=6)
CAPTIONS = [
    "a train travelling down tracks next to a station",
    "a black train is on the tracks",
    "the engine train travelling down a train track",
    "a steam engine train travelling down the tracks",
]


@given(TEXTS, st.integers(1, 5))
def test_distinct_n_counts_by_hand(texts: list[str], n: int) -> None:
    grams, words = set(), 0
    for text in texts:
        split = text.split()
        words += len(split)
        for start in range(len(split)):
            if start + n <= len(split):
                grams.add(" ".join(split[start : start + n]))
    assert distinct_n(texts, n) == pytest.approx(len(grams) / words)
    assert distinct_n(texts, n, per="text") == pytest.approx(len(grams) / words * len(texts))


@pytest.mark.parametrize("text", ["un café crème à côté", "bức tranh đẹp quá", "καλή μέρα σε όλους"])
def test_forms_and_white_space_make_no_difference(text: str) -> None:
    """In what words are, n-grams, similarity, BLEU and what counts as copied."""
    other = unicodedata.normalize("NFD", text).replace(" ", "\u00a0\n")
    assert distinct_n([text, other], 2) == distinct_n([text, text], 2)
    assert ngram_vendi_score([text, other]) == pytest.approx(1.0)
    assert sentence_bleu(other, [text]) == self_bleu([text, other]) == pytest.approx(100.0)
    assert overlap(text, other, stop_words=frozenset()) == 1.0
    assert repetition(other, prefix=text) == 1.0


@given(TEXTS, st.integers(1, 4), st.integers(2, 4))
def test_saying_it_again_divides_distinct_n(texts: list[str], n: int, times: int) -> None:
    """Copies bring words and no n-gram; per mean output they change nothing."""
    assert distinct_n(texts * times, n) == pytest.approx(distinct_n(texts, n) / times)
    assert distinct_n(texts * times, n, per="text") == pytest.approx(distinct_n(texts, n, per="text"))


def test_distinct_n_of_different_outputs_exceeds_1_per_text() -> None:
    """K outputs of L words with nothing in common have K (L − n + 1) n-grams."""
    texts = [" ".join(f"{row}-{place}" for place in range(9)) for row in range(20)]
    for n in (1, 2, 3, 4):
        assert distinct_n(texts, n) == pytest.approx((9 - n + 1) / 9)
        assert distinct_n(texts, n, per="text") == pytest.approx(20 * (9 - n + 1) / 9)


def test_n_grams_do_not_reach_over_outputs() -> None:
    assert distinct_n(["a b", "c d"], 2) == 0.5
    assert distinct_n(["a", "b"], 2) == 0.0
    assert distinct_n(["", "a b"], 2) == 0.5


@pytest.mark.parametrize("measure", [lambda texts: distinct_n(texts, 2), self_bleu, ngram_vendi_score])
def test_several_inputs_are_averaged(measure: Any) -> None:
    """Each input weighs the same, however many outputs or words it has."""
    one, other = CAPTIONS, ["two dogs", "two dogs", "two dogs bark at a bus"]
    assert measure([one, other]) == pytest.approx((measure(one) + measure(other)) / 2)
    assert measure([tuple(one)]) == pytest.approx(measure(one))


@pytest.mark.parametrize(
    "measure", [lambda texts, tokenize: distinct_n(texts, 1, tokenize=tokenize), self_bleu, ngram_vendi_score]
)
def test_a_tokenizer_of_ones_own(measure: Any) -> None:
    """Letters as words: the same as if there were spaces between them."""
    spaced = [" ".join(text) for text in ("红色的公共汽车", "红色的火车在铁轨上", "火车在铁轨上")]
    together = [text.replace(" ", "") for text in spaced]
    assert measure(together, tokenize=list) == pytest.approx(measure(spaced, tokenize=str.split))
    assert measure(together, tokenize=list) != pytest.approx(measure(together, tokenize=str.split))


# BLEU -------------------------------------------------------------------------------------------------------------


def plain_bleu(hypothesis: list[str], references: list[list[str]]) -> float:
    """BLEU as its paper has it, shorter orders for shorter texts, 1/2ᵏ for the k-th order without a match."""
    precisions, smooth = [], 1.0
    for n in range(1, min(4, len(hypothesis)) + 1):
        ours = Counter(tuple(hypothesis[i : i + n]) for i in range(len(hypothesis) - n + 1))
        most: Counter = Counter()
        for reference in references:
            most |= Counter(tuple(reference[i : i + n]) for i in range(len(reference) - n + 1))
        matches = (ours & most).total()
        if not matches:
            smooth *= 2
        precisions.append((matches or 1 / smooth) / ours.total())
        if n == 1 and not matches:
            return 0.0
    near = min((abs(len(reference) - len(hypothesis)), len(reference)) for reference in references)[1]
    brevity = min(1.0, math.exp(1 - near / len(hypothesis)))
    return 100 * brevity * math.exp(sum(map(math.log, precisions)) / len(precisions))


@given(TEXTS)
def test_bleu_and_self_bleu_by_hand(texts: list[str]) -> None:
    rows = [text.split() for text in texts]
    each = [plain_bleu(row, rows[:place] + rows[place + 1 :]) for place, row in enumerate(rows)]
    assert sentence_bleu(texts[0], texts[1:]) == pytest.approx(each[0], abs=1e-6)
    assert self_bleu(texts) == pytest.approx(sum(each) / len(each), abs=1e-6)


def test_bleu_takes_the_better_of_several_references() -> None:
    assert sentence_bleu(CAPTIONS[1], ["two dogs bark", CAPTIONS[1]]) == pytest.approx(100)
    assert sentence_bleu("", CAPTIONS) == 0.0
    assert sentence_bleu(CAPTIONS[1], ["two dogs bark loud"]) < 5


# Vendi ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_vendi_score_of_groups_of_copies(sizes: list[int]) -> None:
    """Blocks of ones: the exponential of the entropy of the blocks' shares."""
    similarity = torch.block_diag(*(torch.ones(size, size) for size in sizes))
    shares = [size / sum(sizes) for size in sizes]
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert vendi_score(similarity) == pytest.approx(expected, rel=1e-6)
    texts = [f"{letter} {letter} {letter}" for letter, size in zip("abcde", sizes, strict=False) for _ in range(size)]
    assert ngram_vendi_score(texts) == pytest.approx(expected, rel=1e-6)


@given(st.floats(0, 1))
def test_vendi_score_of_two(alike: float) -> None:
    """Eigenvalues (1 ± s)/2."""
    halves = [(1 + alike) / 2, (1 - alike) / 2]
    expected = math.exp(-sum(half * math.log(half) for half in halves if half > 0))
    assert vendi_score([[1.0, alike], [alike, 1.0]]) == pytest.approx(expected, rel=1e-6)


@given(TEXTS)
def test_vendi_score_lies_between_one_and_the_number_of_texts(texts: list[str]) -> None:
    score = ngram_vendi_score(texts)
    assert 1 - 1e-9 <= score <= len(set(texts)) + 1e-6
    assert ngram_vendi_score(texts[::-1]) == pytest.approx(score)


def test_short_texts_are_like_themselves_only() -> None:
    similarity = ngram_similarity(["yes", "yes", "no", "yes indeed"], orders=[2])
    assert similarity.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("orders", [(1,), (2,), (1, 2, 3, 4)])
def test_vendi_score_as_scikit_learn_counts(orders: tuple[int, ...]) -> None:
    """The kernel of the authors' package: normalised counts of scikit-learn, averaged over orders."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    kernels = []
    for n in orders:
        counts = text.CountVectorizer(
            tokenizer=str.split, token_pattern=None, lowercase=False, ngram_range=(n, n)
        ).fit_transform(CAPTIONS)
        vectors = torch.nn.functional.normalize(torch.as_tensor(counts.toarray(), dtype=torch.float64), dim=1)
        kernels.append(vectors @ vectors.T)
    kernel = torch.stack(kernels).mean(0)
    torch.testing.assert_close(ngram_similarity(CAPTIONS, orders), kernel)
    entropy = torch.special.entr(torch.linalg.eigvals(kernel / 4).real).sum()
    assert ngram_vendi_score(CAPTIONS, orders=orders) == pytest.approx(float(entropy.exp()))


# Oracle -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 99))
def test_oracle_is_the_mean_of_the_best(inputs: int, outputs: int, seed: int) -> None:
    scores = torch.rand(inputs, outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = oracle_at_k(scores, range(1, outputs + 1))
    for k in range(1, outputs + 1):
        assert found[k] == pytest.approx(sum(max(row[:k]) for row in scores.tolist()) / inputs)
    assert list(found.values()) == sorted(found.values())
    assert (
        oracle_at_k(scores.tolist(), [outputs]) == oracle_at_k(scores.numpy(), [outputs]) == {outputs: found[outputs]}
    )


# Copying ----------------------------------------------------------------------------------------------------------

TOKENS = st.lists(st.sampled_from("abcdef"), max_size=12)


@given(TOKENS, TOKENS.filter(bool), st.integers(1, 6))
def test_repetition_by_hand(prefix: list[str], tokens: list[str], window: int) -> None:
    past, copied = list(prefix), 0
    for token in tokens:
        copied += token in past[-window:]
        past.append(token)
    assert repetition(tokens, window, prefix=prefix) == pytest.approx(copied / len(tokens))


@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 40))
def test_repetition_of_a_cycle(length: int, cycles: int, window: int) -> None:
    """A cycle that fits into the window is new once only, a longer one always."""
    expected = 1 - 1 / cycles if length <= window else 0.0
    assert repetition([*range(length)] * cycles, window) == pytest.approx(expected)


def test_texts_are_split_as_rankgen_does() -> None:
    assert rankgen_words("An A-Team: the “best”, isn’t it?") == ["ateam", "“best”", "isn’t", "it"]
    assert repetition("Yes, the yes!") == 0.5
    assert repetition("bus", prefix="A bus; ") == 1.0
    assert repetition("...") == 0.0
    assert not {word for word in STOP_WORDS if rankgen_words(word) != [word]} - {"a", "an", "the"}


@given(TOKENS.filter(bool), TOKENS.filter(bool), st.frozensets(st.sampled_from("abc")))
def test_overlap_by_hand(prefix: list[str], continuation: list[str], stop_words: frozenset[str]) -> None:
    left = [word for word in prefix if word not in stop_words]
    counted = [word for word in continuation if word not in stop_words]
    shared = 0
    for word in counted:
        if word in left:
            left.remove(word)
            shared += 1
    expected = shared / len(counted) if counted else 0.0
    assert overlap(prefix, continuation, stop_words=stop_words) == pytest.approx(expected)
    spoken = " ".join(prefix), " ".join(continuation)
    assert overlap(*spoken, stop_words=stop_words, tokenize=str.split) == pytest.approx(expected)


def test_overlap_leaves_out_stop_words() -> None:
    assert overlap("The dog and the bus", "It was the DOG, and I ran") == 0.5
    assert overlap("The dog", "It was") == 0.0
    assert overlap("der Hund", "der Bus", stop_words=frozenset()) == 0.5


# What is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: distinct_n(None, 1), "texts must be a list, got NoneType"),
        (lambda: distinct_n(["a"], 1.5), "n must be a whole number, got 1.5"),
        (lambda: self_bleu([["a", 2]]), r"text 1: texts\[0\] must hold texts, got int"),
        (lambda: sentence_bleu(3, ["a"]), "text must be a string, got int"),
        (lambda: sentence_bleu("a", [3]), "text 0: references must hold texts, got int"),
        (lambda: oracle_at_k([[1.0, 2.0]], [1.5]), "ks must be a whole number, got 1.5"),
        (lambda: repetition(None), "tokens must be a text or a list of tokens, got NoneType"),
        (lambda: repetition(["a"], prefix=3), "prefix must be a text or a list of tokens, got int"),
    ],
)
def test_wrong_types_are_named(call: Any, said: str, own_messages: None) -> None:
    with pytest.raises(TypeError, match=said):
        call()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: distinct_n([], 1), "texts is empty; give"),
        (lambda: distinct_n("a bus", 1), "texts is one text; give the list"),
        (lambda: distinct_n(["a"], 1, per="word"), "per must be one of words, text, got 'word'; did you mean 'words'?"),  # type: ignore[arg-type]
        (lambda: distinct_n([1, 2], 1), r"texts\[0\] must be a list of texts, got 1"),  # type: ignore[list-item]
        (lambda: distinct_n(["a"], 0), "n must be at least 1, got 0"),
        (lambda: distinct_n(["", " "], 1), "texts has no word in any text"),
        (lambda: distinct_n([["a"], [""]], 1), r"texts\[1\] has no word in any text"),
        (lambda: distinct_n([["a"], "b"], 1), r"texts\[1\] is a text among lists"),
        (lambda: self_bleu(["a"]), "texts has one text only"),
        (lambda: self_bleu([["a", "b"], ["a"]]), r"texts\[1\] has one text only"),
        (lambda: self_bleu([["a", "b"], ["a", " "]]), r"texts\[1\]\[1\] is an empty text; leave it out"),
        (lambda: self_bleu([["a", "b"], []]), r"texts\[1\] is empty"),
        (lambda: sentence_bleu("a", []), "references is empty"),
        (lambda: sentence_bleu("a", ["a", ""]), r"references\[1\] is an empty text"),
        (lambda: sentence_bleu("a", "a"), "references is one text; give a list"),
        (lambda: ngram_vendi_score(["a", ""]), r"texts\[1\] is an empty text"),
        (lambda: ngram_vendi_score(["a"], orders=[]), "orders must be one or more numbers"),
        (lambda: ngram_similarity(["a"], orders=[0]), "orders must be one or more numbers"),
        (lambda: vendi_score([[1.0, 0.0]]), r"similarity must be square \(K, K\), got \(1, 2\)"),
        (lambda: vendi_score([1.0]), r"similarity must be a matrix that is not empty, got the shape \(1,\)"),
        (lambda: vendi_score(torch.ones(0, 0)), "similarity must be a matrix that is not empty"),
        (lambda: vendi_score([[1.0, 0.5], [0.2, 1.0]]), "similarity must be symmetric, but two sides differ by 0.3"),
        (lambda: vendi_score([[2.0, 0.5], [0.5, 1.0]]), "similarity must have ones on its diagonal"),
        (lambda: vendi_score([[1.0, 2.0], [2.0, 1.0]]), "similarity has the eigenvalue -1, below 0"),
        (lambda: vendi_score([[1.0, float("nan")], [0.0, 1.0]]), r"similarity\[0\]\[1\] is NaN"),
        (lambda: oracle_at_k([[1.0, 2.0], [1.0]], [1]), "scores must be a matrix of numbers, rows equally long"),
        (lambda: oracle_at_k([["a"]], [1]), "scores must be a matrix of numbers"),
        (lambda: oracle_at_k([], [1]), "scores must be a matrix that is not empty"),
        (lambda: oracle_at_k([[1.0, 2.0]], [3]), "ks holds 3, but scores has 2 outputs for each input"),
        (lambda: oracle_at_k([[1.0, 2.0]], [0]), "ks holds 0"),
        (lambda: oracle_at_k([[1.0, float("nan")]], [1]), r"scores\[0\]\[1\] is NaN; leave this input out"),
        (lambda: oracle_at_k([[1.0], [float("-inf")]], [1]), r"scores\[1\]\[0\] is infinite; leave this input out"),
        (lambda: vendi_score([[1.0, float("inf")], [float("inf"), 1.0]]), r"similarity\[0\]\[1\] is infinite"),
        (lambda: repetition([]), "tokens is empty; leave this output out"),
        (lambda: repetition(" "), "tokens is empty"),
        (lambda: repetition(["a"], 0), "window must be at least 1, got 0"),
        (lambda: overlap("", "a"), "prefix is empty"),
        (lambda: overlap("a", " "), "continuation is empty"),
    ],
)
def test_what_is_wrong_is_named(call: Any, said: str, own_messages: None) -> None:
    with pytest.raises(ValueError, match=said):
        call()
