"""GRAO on ten answers of which the reference is the third best: it is learnt, overtaken, or never left again."""

import pytest
import torch
from torch import Tensor

from kilter.preference import GroupRelativeAlignment

PROMPTS, SAMPLES, WORSE = 16, 8, 7
"""Answers 0 to 6 are worse than the reference, which is 7; 8 and 9 are better."""


def trained(objective: GroupRelativeAlignment, rare: float, steps: int, seed: int = 0) -> Tensor:
    """Probabilities of the ten answers before each step and after the last, from logits of 0 and `rare`."""
    logits = torch.tensor([0.0] * WORSE + [rare] * 3, requires_grad=True)
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(steps):
        log_probs = logits.log_softmax(0)
        found.append(log_probs.detach().exp())
        drawn = torch.multinomial(found[-1].expand(PROMPTS, -1), SAMPLES, replacement=True, generator=draw)
        advantages, of_reference = objective.advantages((drawn - WORSE).sign().float())
        loss = objective(
            log_probs[drawn.flatten(), None],
            torch.ones(PROMPTS * SAMPLES, 1, dtype=torch.bool),
            advantages.flatten(),
            log_probs[WORSE].expand(PROMPTS, 1),
            torch.ones(PROMPTS, 1, dtype=torch.bool),
            of_reference,
        ).loss
        (slope,) = torch.autograd.grad(loss, logits)
        logits.data -= 0.3 * slope
    return torch.stack([*found, logits.detach().softmax(0)])


def test_8_the_reference_is_learnt_then_overtaken() -> None:
    found = trained(GroupRelativeAlignment(), -1.0, 80)
    reference, better = found[:, WORSE], found[:, WORSE + 1 :].sum(1)
    peak = int(reference.argmax())
    assert 15 <= peak <= 35
    assert float(reference[peak]) == pytest.approx(0.75, abs=0.05)
    assert float(better[-1]) > 0.98
    assert float(reference[-1]) < 0.02  # it has fallen for good
    assert reference.log()[-1] < reference.log()[60] < reference.log()[45]


def test_8_clipped_the_reference_is_not_pushed_down() -> None:
    """What is left of it at the end is far more."""
    kept = trained(GroupRelativeAlignment(), -1.0, 80)[-1, WORSE]
    clipped = trained(GroupRelativeAlignment(clip_negative_reference=True), -1.0, 80)[-1, WORSE]
    assert clipped > 2 * kept


def test_8_where_better_answers_are_rare_it_locks_in_and_grpo_does_not() -> None:
    found = trained(GroupRelativeAlignment(), -2.0, 300)
    assert float(found[0, WORSE + 1 :].sum()) == pytest.approx(0.0365, abs=1e-3)
    assert float(found[-1, WORSE]) > 0.98
    assert float(found[-1, WORSE + 1 :].sum()) < 0.01
    grpo = GroupRelativeAlignment(beta=0, lambda_=0, reference_in_stats=False)
    assert float(trained(grpo, -2.0, 300)[-1, WORSE + 1 :].sum()) > 0.98
