"""A reward learnt from pairs: its likelihood, its one maximum, what it hears, and pairs that are none."""

import json
import math
import subprocess
import sys
from typing import Any

import pytest
import torch

from kilter.models.bradley_terry import BradleyTerry

POLITE, RUDE = (
    ["I am sorry, no.", "I would rather not.", "sorry, I can not"],
    ["Sure, here is how.", "Of course!", "Sure"],
)
OPTIONS: dict[str, Any] = {"ngrams": 2, "buckets": 512}


def test_of_one_pair_the_answer_has_a_closed_form() -> None:
    """Two words alone in their buckets: weights ±w, where 2σ(-2w) = 4λw."""
    reward = BradleyTerry.fit(["yes"], ["no"], ngrams=1, buckets=2**20, decay=0.1)
    low, high = 0.0, 10.0
    for _ in range(100):
        middle = (low + high) / 2
        slope = -2 / (1 + math.exp(2 * middle)) + 4 * 0.1 * middle  # of -log σ(2w) + 2λw²
        low, high = (middle, high) if slope < 0 else (low, middle)
    weights = reward.weights[reward.weights != 0].sort().values
    assert weights.tolist() == pytest.approx([-low, low], abs=2e-6)
    assert reward(["yes", "no", "maybe"]) == pytest.approx([low, -low, 0], abs=2e-6)


def test_at_the_maximum_the_gradient_is_zero() -> None:
    reward = BradleyTerry.fit(POLITE, RUDE, **OPTIONS, decay=0.01)
    step = 1e-5 * torch.randn(512, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(weights: torch.Tensor) -> float:
        one = BradleyTerry(weights, 2)
        wrong = [math.log1p(math.exp(b - a)) for a, b in zip(one(POLITE), one(RUDE), strict=True)]
        return sum(wrong) / len(wrong) + 0.01 * float(weights.square().sum())

    around = [loss(reward.weights + sign * step) for sign in (1, -1)]
    assert abs(around[0] - around[1]) < 1e-9
    assert min(around) > loss(reward.weights)


def test_what_people_preferred_scores_higher_also_where_it_is_new() -> None:
    reward = BradleyTerry.fit(POLITE, RUDE, **OPTIONS)
    assert reward.accuracy(POLITE, RUDE) == 1
    assert reward.accuracy(RUDE, POLITE) == 0
    assert reward.accuracy(["sorry no"], ["sure here is"]) == 1
    assert reward.accuracy(["same"], ["same"]) == 0.5


def test_a_text_has_one_score_whatever_stands_beside_it() -> None:
    reward = BradleyTerry.fit(POLITE, RUDE, **OPTIONS)
    alone = [reward(completions=[text], prompts=["?"], other=[3])[0] for text in (*POLITE, "")]
    assert reward([*POLITE, ""]) == alone
    assert reward([[{"role": "assistant", "content": text}] for text in (*POLITE, "")]) == alone
    assert reward([]) == []
    again = BradleyTerry.fit(POLITE, RUDE, **OPTIONS)
    assert torch.equal(again.weights, reward.weights)
    assert (reward.__name__, BradleyTerry.__name__) == ("bradley_terry", "BradleyTerry")


def test_saying_the_same_again_does_not_count() -> None:
    reward = BradleyTerry.fit(["no, never"], ["yes"], ngrams=1)
    once, often = reward(["no never", "no never " * 40])
    assert once == pytest.approx(often)
    assert once > 0


def test_another_process_hears_the_same() -> None:
    """Python's own hash differs between processes; this one must not."""
    code = (
        "from kilter.models.bradley_terry import BradleyTerry as B; "
        "print(B.fit(['no, sorry'], ['sure thing'], buckets=64)(['sorry']))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == BradleyTerry.fit(["no, sorry"], ["sure thing"], buckets=64)(["sorry"])


def test_learning_leaves_the_global_stream_and_works_without_gradients() -> None:
    before = torch.get_rng_state()
    with torch.no_grad():
        assert BradleyTerry.fit(POLITE, RUDE, **OPTIONS).accuracy(POLITE, RUDE) == 1
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"chosen": [], "rejected": []}, "as many answers, one at least; got 0 and 0"),
        ({"chosen": ["a", "b"]}, "as many answers, one at least; got 2 and 1"),
        ({"ngrams": 0}, "ngrams must be at least 1, got 0"),
        ({"buckets": 0}, "buckets must be at least 1, got 0"),
        ({"decay": 0.0}, "decay must be positive and finite"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BradleyTerry.fit(**{"chosen": ["a"], "rejected": ["b"]} | wrong)


@pytest.mark.parametrize("wrong", [3, None, ["a"], [{"role": "assistant", "content": 3}]])
def test_what_is_no_answer_is_named(wrong: Any) -> None:
    with pytest.raises(TypeError, match="a completion must be a text or a list of messages with texts, got"):
        BradleyTerry.fit(["a"], ["b"])([wrong])
