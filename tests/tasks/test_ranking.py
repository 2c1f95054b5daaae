"""What scorers are good for: suffix identification, preferences, likelihood, and what they choose among samples."""

from functools import partial

import pytest
import torch

from kilter.decoding import RankGenSearch
from kilter.models.tiny_text import tiny_lm, tiny_tokenizer
from kilter.tasks.continuations.ranking import MeanLogProb, suffix_identification, wins, word_overlap
from kilter.tasks.continuations.reranking import Sampling, best, decode, finished, sample
from kilter.tasks.continuations.rivals import OwnProbability
from tests.prose import prose

pytestmark = pytest.mark.host

PREFIX = "Ada saw the harbour and feared the storm."


def length(prefixes, continuations):
    return torch.tensor([float(len(text)) for text in continuations])


@pytest.fixture(scope="module")
def tiny():
    tokenizer = tiny_tokenizer([prose(200)])
    return tiny_lm(tokenizer), tokenizer


def test_suffix_identification_by_hand():
    rows = [
        {"prefix": "p", "true": "long text", "inbook": "short", "generative": "a longer text"},
        {"prefix": "p", "true": "same", "inbook": "size", "generative": ""},
    ]
    assert suffix_identification(length, rows) == [
        {"inbook": [1.0, 1.0], "generative": [0.0, 1.0]},
        {"inbook": [0.5, 1.0]},
    ]
    assert suffix_identification(length, []) == []


def test_each_text_is_scored_once_with_its_own_prefix():
    asked = []

    def scorer(prefixes, continuations):
        asked.extend(zip(prefixes, continuations, strict=True))
        return length(prefixes, continuations)

    suffix_identification(scorer, [{"prefix": "p", "true": "t", "inbook": "i", "generative": "g"}])
    assert asked == [("p", "t"), ("p", "i"), ("p", "g")]


def test_wins_and_ties():
    assert wins(length, [("p", "aaa", "b"), ("p", "a", "bb"), ("p", "a", "b")]) == [1.0, 0.0, 0.5]
    assert wins(length, []) == []
    assert word_overlap(["The old house"], [" "]).tolist() == [0.0]


def test_mean_log_probability_is_the_models_own(tiny):
    model, tokenizer = tiny
    texts = ["Brand praised the storm.", "no", "Clara forgot a letter and saw the harbour again and again."]
    found = MeanLogProb(model, tokenizer, batch_size=2)([PREFIX] * 3, texts)
    for text, value in zip(texts, found, strict=True):
        before, after = tokenizer(PREFIX)["input_ids"], tokenizer(f" {text}")["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
        steps = range(len(before) - 1, len(before) + len(after) - 1)
        expected = sum(logits[step, token].item() for step, token in zip(steps, after, strict=True)) / len(after)
        assert value.item() == pytest.approx(expected, abs=1e-4)


def test_samples_are_the_seeds_and_their_likelihoods_the_models(tiny):
    model, tokenizer = tiny
    first, again = (sample(model, tokenizer, PREFIX, 5, Sampling(new_tokens=8), 3) for _ in range(2))
    assert first == again
    assert first != sample(model, tokenizer, PREFIX, 5, Sampling(new_tokens=8), 4)
    assert len(first.texts) == len(first.likelihoods) == 5
    assert all(PREFIX not in text for text in first.texts)
    assert all(value < 0 for value in first.likelihoods)


def test_a_decoder_follows_its_scorer(tiny):
    model, tokenizer = tiny
    seen = []

    def scorer(prefixes, continuations):
        seen.append((set(prefixes), len(continuations)))
        return length(prefixes, continuations)

    blocks = partial(RankGenSearch, beams=2, samples=3, block=4)
    text = decode(model, tokenizer, PREFIX, blocks, scorer, Sampling(new_tokens=8), 0)
    assert [count for _, count in seen] == [3, 6]
    assert all(prefixes == {PREFIX} for prefixes, _ in seen)
    plain = sample(model, tokenizer, PREFIX, 1, Sampling(new_tokens=8), 0).texts[0]
    assert len(text) > len(plain)


def test_the_best_of_the_samples_is_the_scorers_and_their_own_probability_is_known():
    drawn = {"texts": ["aa", "aaaa", "a"], "likelihoods": [-3.0, -2.0, -1.0]}
    assert best(PREFIX, drawn, length) == "aaaa"
    assert best(PREFIX, drawn, OwnProbability(lambda: pytest.fail("the generator was loaded for nothing"))) == "a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is so. We go. And then he", "It is so. We go."),
        ("and then he", "and then he"),
        ("It is so.", "It is so."),
        ("", ""),
    ],
)
def test_a_text_ends_with_its_last_whole_sentence(text, expected):
    assert finished(text) == expected
