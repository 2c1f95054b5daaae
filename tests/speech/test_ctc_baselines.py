"""Peak-First and the delay penalty against their definitions, and what CTC of unnormalised scores is."""

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.speech import DelayPenalty, PeakFirst, delay_penalty, peak_first
from tests.conformance.case import Case, Fixed


def with_teacher(objective: PeakFirst, inputs: dict[str, Tensor]) -> Fixed:
    """The term against the right neighbours of constant log-probabilities."""
    weight = objective.weight

    def loss(
        log_probs: Float[Tensor, "batch time vocab"],
        input_lengths: Int[Tensor, " batch"],
        teacher: Float[Tensor, "batch time vocab"],
    ) -> Tensor:
        return weight * peak_first(log_probs, input_lengths, teacher).mean()

    return loss, {**inputs, "teacher": inputs["log_probs"].detach().clone()}


def cases() -> list[Case]:
    return [
        Case(lambda: PeakFirst(weight=0.3), fixed=with_teacher),
        Case(
            lambda: DelayPenalty(penalty=0.1, threshold=0.4),
            skip={"compile": "torch.compile breaks its graph at torch's own CTC"},
        ),
    ]


def drawn(batch: int = 3, frames: int = 9, vocab: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, vocab, generator=generator, dtype=torch.float64).mul(2).log_softmax(-1)


def test_peak_first_is_the_sum_of_divergences_from_the_right_neighbour() -> None:
    log_probs, lengths = drawn(), torch.tensor([9, 5, 1])
    expected = [
        sum(F.kl_div(row[t], row[t + 1], reduction="sum", log_target=True) for t in range(length - 1))
        for row, length in zip(log_probs, lengths.tolist(), strict=True)
    ]
    assert_close(
        peak_first(log_probs, lengths), torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in expected])
    )


def test_peak_first_teaches_the_left_frame_only() -> None:
    log_probs = drawn(1, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(peak_first(log_probs, torch.tensor([2])).sum(), log_probs)
    assert_close(gradient[0, 0], -log_probs[0, 1].detach().exp())
    assert not gradient[0, 1].any()


def test_peak_first_beside_ctc_moves_a_peak_to_the_left() -> None:
    def mean_frame(weight: float) -> float:
        logits = torch.zeros(1, 8, 2)
        logits[..., 0], logits[0, 6] = 3.0, torch.tensor([0.0, 3.0])
        logits.requires_grad_()
        for _ in range(100):
            log_probs = logits.log_softmax(-1)
            ctc = F.ctc_loss(log_probs.transpose(0, 1), torch.tensor([[1]]), torch.tensor([8]), torch.tensor([1]))
            loss = ctc + weight * peak_first(log_probs, torch.tensor([8])).sum()
            (gradient,) = torch.autograd.grad(loss, logits)
            logits = (logits - 0.5 * gradient).detach().requires_grad_()
        share = logits.detach().softmax(-1)[0, :, 1]
        return float((share * torch.arange(8)).sum() / share.sum())

    assert mean_frame(0.0) > mean_frame(0.1) > mean_frame(0.3)


def test_peak_first_of_tokens_that_cannot_come_is_finite() -> None:
    log_probs = torch.randn(1, 4, 5)
    log_probs[..., 3] = -torch.inf
    log_probs = log_probs.log_softmax(-1).requires_grad_()
    (gradient,) = torch.autograd.grad(peak_first(log_probs, torch.tensor([4])).sum(), log_probs)
    assert gradient.isfinite().all()


def test_delay_penalty_counts_from_the_last_sure_blank() -> None:
    blank = torch.tensor([0.5, 0.4, 0.995, 0.3, 0.2, 0.991, 0.992, 0.1])
    log_probs = torch.stack([blank, 1 - blank], -1).log()[None]
    bonus = (delay_penalty(log_probs, torch.tensor([8]), penalty=1.0) - log_probs)[0]
    assert_close(bonus[:, 0], torch.tensor([0.0, 1, 0, 1, 2, 0, 0, 1]), atol=1e-6, rtol=0)
    assert not bonus[:, 1].any()


def test_delay_penalty_is_plain_ctc_at_penalty_0() -> None:
    log_probs, targets = drawn().requires_grad_(), torch.tensor([[1, 1, 2], [3, 2, 0], [1, 0, 0]])
    lengths, target_lengths = torch.tensor([9, 5, 3]), torch.tensor([3, 2, 1])
    found = DelayPenalty(penalty=0.0)(log_probs, lengths, targets, target_lengths).loss
    ctc = F.ctc_loss(log_probs.transpose(0, 1), targets, lengths, target_lengths, reduction="none").mean()
    assert_close(found, ctc)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PeakFirst(weight=-1.0), "weight must be at least 0"),
        (lambda: PeakFirst(weight=float("nan")), "weight must be at least 0"),
        (lambda: PeakFirst(weight=float("inf")), "weight must be at least 0 and finite"),
        (lambda: peak_first(drawn() + 3, torch.tensor([9, 9, 9])), "log_probs holds a positive value"),
        (lambda: peak_first(drawn(), torch.tensor([9, 9, 9]), drawn(1)), "teacher must be shaped like log_probs"),
        (lambda: DelayPenalty(penalty=-0.1), "penalty must be at least 0"),
        (lambda: DelayPenalty(penalty=0.1, threshold=2.0), "threshold must be within 0..1"),
        (lambda: delay_penalty(drawn(), torch.tensor([9, 9, 9]), penalty=-1.0), "penalty must be at least 0"),
        (lambda: delay_penalty(drawn(), torch.tensor([9, 9, 9]), penalty=1.0, blank=4), "blank=4 is outside"),
        (lambda: peak_first(drawn(), torch.tensor([9, 10, 9])), "utterance 1: input_lengths is 10"),
        (
            lambda: DelayPenalty(penalty=0.1)(
                drawn(1, 3), torch.tensor([3]), torch.tensor([[1, 1, 2]]), torch.tensor([3])
            ),
            "utterance 0: target needs 4 frames, log_probs has 3",
        ),
    ],
)
def test_bad_input(make: object, said: str, own_messages: None) -> None:
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]


def test_no_frames_no_batch() -> None:
    empty = torch.zeros(2, 0, 4)
    none = torch.tensor([0, 0])
    assert not peak_first(empty, none).any()
    assert delay_penalty(empty, none, penalty=0.1).shape == empty.shape
    assert PeakFirst(weight=1.0)(torch.zeros(0, 3, 4), torch.zeros(0, dtype=torch.long)).loss == 0
