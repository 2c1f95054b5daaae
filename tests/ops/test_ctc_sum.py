"""The CTC sum against the enumeration of every alignment."""

import itertools

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.ops.ctc_paths import collapse
from kilter.ops.ctc_sum import ctc_sum


def test_it_sums_over_every_alignment() -> None:
    """Any scores, not only log-softmax: by enumeration, with its gradient."""
    scores = torch.randn(1, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    targets = torch.tensor([[1, 1]])
    ways = torch.tensor(list(itertools.product(range(3), repeat=5)))
    right = [
        way for way, text in zip(ways, collapse(ways, torch.tensor([5] * len(ways))), strict=True) if text == [1, 1]
    ]
    expected = -torch.stack([scores[0, torch.arange(5), way].sum() for way in right]).logsumexp(0)
    found = ctc_sum(scores, torch.tensor([5]), targets, torch.tensor([2]), blank=0)[0]
    assert_close(found, expected)
    assert_close(torch.autograd.grad(found, scores), torch.autograd.grad(expected, scores))


def test_several_targets_of_each_utterance() -> None:
    log_probs = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    lengths, targets = torch.tensor([6, 4]), torch.tensor([[1, 2], [3, 0], [2, 2], [1, 0]])
    target_lengths = torch.tensor([2, 1, 2, 1])
    found = ctc_sum(log_probs, lengths, targets, target_lengths, blank=0)
    for i in range(4):
        alone = (
            log_probs[i // 2, : lengths[i // 2]],
            targets[i, : target_lengths[i]],
            lengths[i // 2],
            target_lengths[i],
        )
        assert_close(found[i], F.ctc_loss(*alone, reduction="sum"))


def test_too_few_frames_cost_infinity() -> None:
    scores = torch.randn(1, 2, 3)
    assert ctc_sum(scores, torch.tensor([2]), torch.tensor([[1, 1]]), torch.tensor([2]), blank=0) == torch.inf


@pytest.mark.parametrize("shape", [(0, 3, 4), (0, 0, 4)])
def test_no_batch(shape: tuple[int, ...]) -> None:
    none = torch.zeros(0, dtype=torch.long)
    assert ctc_sum(torch.zeros(shape), none, torch.zeros(0, 2, dtype=torch.long), none, blank=0).shape == (0,)


def test_what_cannot_be_has_gradient_0_and_no_nan() -> None:
    scores = torch.randn(2, 3, 4)
    scores[0, :, 2] = -torch.inf  # no target uses it
    scores.requires_grad_()
    targets, target_lengths = torch.tensor([[1, 3], [1, 1]]), torch.tensor([2, 2])
    found = ctc_sum(scores, torch.tensor([3, 2]), targets, target_lengths, blank=0)
    (gradient,) = torch.autograd.grad(found.sum(), scores)
    assert found[0].isfinite()
    assert found[1] == torch.inf  # two frames are too few
    assert gradient.isfinite().all()
    assert gradient[0].any()
    assert not gradient[1].any()


def test_no_frames() -> None:
    found = ctc_sum(torch.zeros(2, 0, 4), torch.tensor([0, 0]), torch.tensor([[1], [1]]), torch.tensor([0, 1]), blank=0)
    assert found.tolist() == [0.0, float("inf")]
