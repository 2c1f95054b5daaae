"""Bayes-Risk CTC against the enumeration of every alignment."""

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.speech import BayesRiskCTC, bayes_risk_ctc
from tests.conformance.case import Case

VARIANTS = ["end", "end_mean", "exp_rel"]


def cases() -> list[Case]:
    unrolled = {"compile": "its sweep over the frames is a Python loop with an autograd function of its own"}
    return [Case(lambda v=v: BayesRiskCTC(risk=3.0, variant=v), label=v, skip=unrolled) for v in VARIANTS]


def last_frames(path: Sequence[int], target: Sequence[int]) -> list[int] | None:
    """1-based last frame of each token if the path spells the target."""
    runs = [(token, sum(1 for _ in group)) for token, group in itertools.groupby(path)]
    ends = list(itertools.accumulate(count for _, count in runs))
    spelled = [(token, end) for (token, _), end in zip(runs, ends, strict=True) if token]
    return [end for _, end in spelled] if [token for token, _ in spelled] == list(target) else None


def enumerated(log_probs: Tensor, target: Sequence[int], risk: float, variant: str) -> float:
    """The definition, path by path."""
    frames, vocab = log_probs.shape
    mass = torch.zeros(len(target), frames + 1, dtype=torch.float64)
    for path in itertools.product(range(vocab), repeat=frames):
        if (ends := last_frames(path, target)) is not None:
            probability = log_probs[range(frames), path].sum().exp()
            for token, end in enumerate(ends):
                mass[token, end] += probability
    frame = torch.arange(frames + 1)
    offsets = mass.argmax(-1, keepdim=True) if variant == "exp_rel" else 0
    weighted = -(mass * torch.exp(-risk * (frame - offsets) / frames)).sum(-1).log()
    return float(weighted[-1] if variant == "end" else weighted.mean())


def one(log_probs: Tensor, target: Sequence[int], **options: object) -> Tensor:
    given = torch.tensor([len(log_probs)]), torch.tensor([list(target)], dtype=torch.long), torch.tensor([len(target)])
    return bayes_risk_ctc(log_probs[None], *given, **options)[0]  # type: ignore[arg-type]


def table() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(6, 4, dtype=torch.float64).log_softmax(-1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_risk_0_is_ctc(variant: str) -> None:
    assert_close(one(table(), [1, 1, 2], risk=0.0, variant=variant).item(), 7.164119750205598)


def test_published_check() -> None:
    assert_close(one(table(), [1, 1, 2], risk=3.0, variant="end").item(), 9.596693928111746)
    assert_close(one(table(), [1, 1, 2], risk=3.0, variant="end_mean").item(), 8.724077756031233)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("target", [[1], [1, 1], [2, 1, 2], [1, 1, 1], [3, 2]])
def test_equals_the_enumeration(variant: str, target: list[int]) -> None:
    assert_close(one(table(), target, risk=2.0, variant=variant).item(), enumerated(table(), target, 2.0, variant))


def ragged() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    log_probs = torch.randn(5, 11, 6, dtype=torch.float64, generator=g).log_softmax(-1)
    targets = torch.randint(1, 6, (5, 4), generator=g)
    return log_probs, torch.tensor([11, 7, 5, 9, 1]), targets, torch.tensor([4, 2, 0, 1, 1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient(variant: str) -> None:
    log_probs, *rest = ragged()
    log_probs.requires_grad_()

    def loss(log_probs: Tensor) -> Tensor:
        return bayes_risk_ctc(log_probs, *rest, risk=4.0, variant=variant)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(loss, log_probs)
    (gradient,) = torch.autograd.grad(loss(log_probs).sum(), log_probs)
    inside = torch.arange(11) < rest[0][:, None]
    assert_close(gradient.sum(-1), -inside.double())  # every frame is somewhere


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_is_its_utterances(variant: str) -> None:
    log_probs, lengths, targets, target_lengths = ragged()
    together = bayes_risk_ctc(log_probs, lengths, targets, target_lengths, risk=2.0, variant=variant)  # type: ignore[arg-type]
    for i in range(5):
        alone = one(log_probs[i, : lengths[i]], targets[i, : target_lengths[i]].tolist(), risk=2.0, variant=variant)
        assert_close(together[i], alone)


def test_an_empty_target_is_ctc_of_silence() -> None:
    log_probs, lengths, targets, target_lengths = ragged()
    found = bayes_risk_ctc(log_probs, lengths, targets, target_lengths, risk=2.0)
    assert_close(found[2], -log_probs[2, :5, 0].sum())


def test_the_gradient_of_risk_0_is_that_of_ctc() -> None:
    log_probs, lengths, targets, target_lengths = ragged()
    logits = log_probs.clone().requires_grad_()
    ours = bayes_risk_ctc(logits.log_softmax(-1), lengths, targets, target_lengths, risk=0.0, variant="end_mean").sum()
    theirs = F.ctc_loss(logits.log_softmax(-1).transpose(0, 1), targets, lengths, target_lengths, reduction="sum")
    assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))


def test_more_risk_means_earlier_ends() -> None:
    """The gradient moves the mass of the last token to the left, more so with more risk."""
    where = []
    for risk in (0.0, 5.0, 20.0):
        logits = torch.zeros(1, 12, 2, dtype=torch.float64, requires_grad=True)
        for _ in range(30):
            args = torch.tensor([12]), torch.tensor([[1]]), torch.tensor([1])
            loss = bayes_risk_ctc(logits.log_softmax(-1), *args, risk=risk, variant="exp_rel").sum()
            (gradient,) = torch.autograd.grad(loss, logits)
            logits = (logits - gradient).detach().requires_grad_()
        share = logits.detach().softmax(-1)[0, :, 1]
        where.append(float((share * torch.arange(12)).sum() / share.sum()))
    assert where[0] > where[1] > where[2]


def test_extreme_log_probs_stay_finite() -> None:
    """A model that is sure of other words: the mass underflows any float, its logarithm does not."""
    log_probs = torch.full((1, 60, 4), -90.0)
    log_probs[..., 3] = 0.0
    log_probs.requires_grad_()
    target = torch.tensor([[1, 2] * 10])
    loss = bayes_risk_ctc(log_probs, torch.tensor([60]), target, torch.tensor([20]), risk=1.0, variant="end_mean")
    (gradient,) = torch.autograd.grad(loss.sum(), log_probs)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()


def test_an_impossible_token_costs_infinity_and_teaches_nothing() -> None:
    log_probs = torch.randn(1, 5, 4).log_softmax(-1)
    log_probs[..., 2] = -torch.inf
    log_probs.requires_grad_()
    loss = bayes_risk_ctc(log_probs, torch.tensor([5]), torch.tensor([[1, 2]]), torch.tensor([2]), risk=1.0)
    (gradient,) = torch.autograd.grad(loss.sum(), log_probs)
    assert math.isinf(loss.item())
    assert not gradient.any()


def call(**changed: object) -> Callable[[], object]:
    given: dict[str, object] = dict(
        zip(("log_probs", "input_lengths", "targets", "target_lengths"), ragged(), strict=True)
    )
    return lambda: bayes_risk_ctc(**{**given, "risk": 1.0, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BayesRiskCTC(risk=-1.0), "risk must be at least 0"),
        (lambda: BayesRiskCTC(risk=1.0, variant="start"), "variant must be one of end, end_mean, exp_rel"),  # type: ignore[arg-type]
        (call(variant="late"), "variant must be one of"),
        (call(log_probs=ragged()[0] + 5), "utterance 0, frame 0: log_probs holds a positive value"),
        (call(log_probs=ragged()[0] * float("nan")), "utterance 0, frame 0: log_probs holds NaN"),
        (call(targets=ragged()[2][:2], target_lengths=torch.tensor([2, 2])), "targets has 2 rows, log_probs 5"),
        (call(target_lengths=torch.tensor([4, 2, 0, 1, 3])), "utterance 4: target needs . frames, log_probs has 1"),
        (call(targets=torch.zeros(5, 4, dtype=torch.long)), "utterance 0: target 0 is 0, the blank"),
        (call(input_lengths=torch.tensor([11, 12, 5, 9, 1])), "utterance 1: input_lengths is 12"),
        (call(target_lengths=torch.tensor([5, 2, 0, 1, 1])), "utterance 0: target_lengths is 5"),
    ],
)
def test_bad_input(make: Callable[[], object], said: str, own_messages: None) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_lengths_in_one_byte() -> None:
    log_probs = torch.randn(1, 125, 5, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    targets = torch.tensor([[1, 2] * 55])
    wide = bayes_risk_ctc(log_probs, torch.tensor([125]), targets, torch.tensor([110]), risk=1.0)
    narrow = torch.tensor([125], dtype=torch.int8), targets.to(torch.int8), torch.tensor([110], dtype=torch.int8)
    assert_close(bayes_risk_ctc(log_probs, *narrow, risk=1.0), wide)


def test_half_precision_and_integers_of_any_width() -> None:
    log_probs, lengths, targets, target_lengths = ragged()
    loss = bayes_risk_ctc(log_probs.bfloat16(), lengths.int(), targets.int(), target_lengths.int(), risk=2.0)
    assert loss.dtype == torch.float32
    assert_close(
        loss, bayes_risk_ctc(log_probs.float(), lengths, targets, target_lengths, risk=2.0), rtol=0.02, atol=0.02
    )


def test_no_batch() -> None:
    none = torch.zeros(0, dtype=torch.long)
    assert bayes_risk_ctc(torch.zeros(0, 3, 4), none, torch.zeros(0, 2, dtype=torch.long), none, risk=1.0).shape == (0,)
