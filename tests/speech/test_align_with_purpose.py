"""Align With Purpose against a plain transcription and closed forms; the objective, its property and bad input."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.speech import (
    AlignWithPurpose,
    LowLatency,
    MinimumWER,
    align_with_purpose,
    sample_alignments,
    score_alignments,
)
from tests.conformance.case import VOCABULARY, Case, Fixed
from tests.speech import plain

SCORES = ["mean_logprob", "sum_logprob", "prob"]


def fixed_samples(awp: AlignWithPurpose, inputs: dict[str, Any]) -> Fixed:
    """The loss of samples drawn and edited beforehand."""
    generator = torch.Generator().manual_seed(0)
    log_probs, lengths = inputs["log_probs"], inputs["input_lengths"]
    alignments = sample_alignments(log_probs, lengths, awp.samples, blank=awp.blank, generator=generator)
    edited = awp.property(alignments, lengths, inputs["references"], generator)
    loss = partial(align_with_purpose, margin=awp.margin, score=awp.score, sample_reduction=awp.sample_reduction)
    return loss, {"log_probs": log_probs, "alignments": alignments, "edited": edited, "input_lengths": lengths}


def cases() -> list[Case]:
    return [
        Case(lambda: AlignWithPurpose(LowLatency(), margin=0.05), fixed=fixed_samples),
        Case(
            lambda: AlignWithPurpose(MinimumWER(VOCABULARY), margin=1.0, samples=9, sample_reduction="sum"),
            fixed=fixed_samples,
            label="words",
        ),
        Case(
            lambda: AlignWithPurpose(LowLatency(frames=2), margin=0.3, score="sum_logprob"),
            fixed=fixed_samples,
            label="sum",
        ),
        Case(lambda: AlignWithPurpose(LowLatency(), margin=0.1, score="prob"), fixed=fixed_samples, label="prob"),
    ]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(
    lengths: list[int], frames: int, vocab: int = 5, samples: int = 3, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probs in float64, alignments, edited, lengths; a third of the pairs equal."""
    g = generator(seed)
    log_probs = torch.randn(len(lengths), frames, vocab, generator=g, dtype=torch.float64).log_softmax(-1)
    alignments = torch.randint(vocab, (samples, len(lengths), frames), generator=g)
    edited = torch.randint(vocab, alignments.shape, generator=g)
    edited = torch.where(torch.rand(alignments.shape, generator=g) < 0.6, alignments, edited)
    edited[::3] = alignments[::3]
    return log_probs, alignments, edited, torch.tensor(lengths, dtype=torch.long)


def gradient(log_probs: Tensor, *rest: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    leaf = log_probs.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    loss = align_with_purpose(leaf, *rest, **options)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_as_the_transcription(score: str, reduction: str) -> None:
    log_probs, alignments, edited, lengths = drawn([6, 3, 1, 0], 6, samples=5)
    for margin in (0.0, 0.2):
        found = align_with_purpose(
            log_probs, alignments, edited, lengths, margin=margin, score=score, sample_reduction=reduction
        )
        expected = plain.loss(
            log_probs.tolist(), alignments.tolist(), edited.tolist(), lengths.tolist(), margin, score, reduction
        )
        assert found.item() == pytest.approx(expected, abs=2e-5)  # the published 1e-7 inside the log


class Nothing:
    """A property that changes nothing."""

    def __call__(self, alignments: Tensor) -> Tensor:
        return alignments


@pytest.mark.parametrize(
    ("awp", "weight"),
    [
        (AlignWithPurpose(LowLatency(), margin=0.1), 0.0),
        (AlignWithPurpose(LowLatency(), samples=0, margin=0.1), 1.0),
        (AlignWithPurpose(Nothing(), margin=0.1), 1.0),
    ],
    ids=["no weight", "no samples", "identity"],
)
def test_switched_off_it_is_ctc(awp: AlignWithPurpose, weight: float) -> None:
    """Check 1: weight 0, no samples, or an identity property: loss and gradient are CTC's to the last bit."""
    lengths, targets = torch.tensor([9, 7, 4]), torch.tensor([[1, 2, 2], [3, 1, 0], [4, 0, 0]])
    results = []
    for on in (False, True):
        logits = torch.randn(3, 9, 5, generator=generator()).requires_grad_()
        log_probs = logits.log_softmax(-1)
        loss = F.ctc_loss(log_probs.transpose(0, 1), targets, lengths, torch.tensor([3, 2, 1]))
        if on:
            loss = loss + weight * awp(log_probs, lengths, generator=generator()).loss
        loss.backward()
        results.append((loss.detach(), logits.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_random_numbers_used_are_as_documented() -> None:
    """Check 1: N·B·T draws for the samples, N·B for each frame shifted, none for an identity property."""
    log_probs, lengths = torch.zeros(2, 7, 3).log_softmax(-1), torch.tensor([7, 5])
    for awp, draws in [(AlignWithPurpose(Nothing()), 70), (AlignWithPurpose(LowLatency(frames=2)), 70 + 20)]:
        used, counted = generator(), generator()
        awp(log_probs, lengths, generator=used)
        torch.rand(draws, generator=counted)
        assert torch.equal(torch.rand(4, generator=used), torch.rand(4, generator=counted))


def test_gradient_is_sparse() -> None:
    """Check 4: gradcheck; ±1/(L·N·B) where an active pair differs, else exactly 0; each frame sums to 0."""
    log_probs, alignments, edited, lengths = drawn([8, 5, 2, 0], 8, samples=4)
    leaf = log_probs.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: align_with_purpose(x, alignments, edited, lengths, margin=0.05), leaf)
    _, found = gradient(log_probs, alignments, edited, lengths, margin=0.05)
    expected = torch.zeros_like(found)
    samples, batch, _ = alignments.shape
    score = partial(score_alignments, log_probs, input_lengths=lengths)
    active = (score(alignments) - score(edited) + 0.05) > 0
    for n in range(samples):
        for b, length in enumerate(lengths.tolist()):
            for t in range(length if active[n, b] else 0):
                if alignments[n, b, t] != edited[n, b, t]:
                    expected[b, t, alignments[n, b, t]] += 1 / (length * samples * batch)
                    expected[b, t, edited[n, b, t]] -= 1 / (length * samples * batch)
    assert expected.any()
    assert_close(found, expected, rtol=0, atol=1e-15)
    assert torch.equal(found != 0, expected.abs() > 1e-12)
    assert found.sum(-1).abs().max() < 1e-15


def test_gradient_at_the_logits_is_the_same() -> None:
    """Check 4: the softmax Jacobian term vanishes."""
    log_probs, alignments, edited, lengths = drawn([6, 4], 6)
    _, expected = gradient(log_probs, alignments, edited, lengths)
    logits = (log_probs + 3).requires_grad_()
    align_with_purpose(logits.log_softmax(-1), alignments, edited, lengths).backward()
    assert_close(logits.grad, expected)


@pytest.mark.parametrize("score", SCORES)
def test_padding_does_not_matter(score: str) -> None:
    """Check 5: a padded batch is the mean of its utterances alone, each with its own gradient, 0 in the padding."""
    log_probs, alignments, edited, lengths = drawn([7, 4, 1, 0], 7)
    options = {"margin": 0.05, "score": score}
    spoilt = log_probs.masked_fill((torch.arange(7) >= lengths[:, None])[..., None], float("nan"))
    loss, found = gradient(spoilt, alignments, edited, lengths, **options)
    total = 0.0
    for b, length in enumerate(lengths.tolist()):
        one, alone = gradient(
            log_probs[b : b + 1, :length],
            alignments[:, b : b + 1, :length],
            edited[:, b : b + 1, :length],
            lengths[b : b + 1],
            **options,
        )
        total += one.item() / 4
        assert_close(found[b, :length], alone[0] / 4)
        assert not found[b, length:].any()
    assert loss.item() == pytest.approx(total)


def test_hinge() -> None:
    """Check 6: zero when the edited alignment is better by the margin; unedited pairs give 0 for any margin."""
    log_probs = torch.tensor([[[0.2, 0.8], [0.6, 0.4]]]).log()
    worse, better = torch.tensor([[[0, 1]]]), torch.tensor([[[1, 0]]])
    lengths = torch.tensor([2])
    gap = (math.log(0.8 * 0.6) - math.log(0.2 * 0.4)) / 2
    for margin in (0.0, gap - 0.01, gap, gap + 0.01, 5.0):
        loss = align_with_purpose(log_probs, worse, better, lengths, margin=margin)
        assert loss.item() == pytest.approx(max(margin - gap, 0.0), abs=1e-6)
        assert align_with_purpose(log_probs, better, worse, lengths, margin=margin).item() == pytest.approx(
            gap + margin
        )
        assert align_with_purpose(log_probs, worse, worse, lengths, margin=margin).item() == 0.0
    beyond = worse.clone()
    beyond[..., 1] = 0
    assert align_with_purpose(log_probs, worse, beyond, torch.tensor([1]), margin=5.0).item() == 0.0


def test_official_scores() -> None:
    """Check 7: the published scorer's values."""
    torch.manual_seed(0)
    log_probs = torch.randn(2, 29, 1, 6).squeeze(2).transpose(1, 2).log_softmax(-1)
    paths = torch.tensor([[[28, 0, 0, 1, 28, 28], [3, 3, 28, 4, 0, 0]]])
    found = score_alignments(log_probs, paths, torch.tensor([6, 4]))
    assert found.flatten().tolist() == pytest.approx([-4.4769, -3.8849], abs=1e-4)


@given(st.data())
def test_any_sizes(data: st.DataObject) -> None:
    """Ragged lengths down to no frames, any number of samples, impossible tokens: as the transcription, finite."""
    batch, frames, vocab, samples = (data.draw(st.integers(low, 5)) for low in (1, 1, 1, 1))
    lengths = data.draw(st.lists(st.integers(0, frames), min_size=batch, max_size=batch))
    log_probs, alignments, edited, lengths = drawn(lengths, frames, vocab, samples, data.draw(st.integers(0, 10**6)))
    if data.draw(st.booleans()) and vocab > 1:
        log_probs = log_probs.exp().clone()
        log_probs[..., 0] = 0
        log_probs = (log_probs / log_probs.sum(-1, keepdim=True)).log()
    margin = data.draw(st.sampled_from([0.0, 0.3]))
    loss, found = gradient(log_probs, alignments, edited, lengths, margin=margin)
    expected = plain.loss(log_probs.tolist(), alignments.tolist(), edited.tolist(), lengths.tolist(), margin)
    assert loss.item() == pytest.approx(expected, abs=2e-4)
    assert found.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_and_devices(dtype: torch.dtype, device: str) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    log_probs, *rest = drawn([40, 25], 40)
    awp = AlignWithPurpose(LowLatency(), margin=0.1)
    leaf = log_probs.to(device, dtype).requires_grad_()
    out = awp(leaf, rest[2].to(device), generator=torch.Generator(device).manual_seed(0))
    out.loss.backward()
    assert out.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert leaf.grad.dtype == dtype
    assert leaf.grad.isfinite().all()
    there = [x.to(device) for x in rest]
    expected = align_with_purpose(leaf.detach().cpu().double(), *rest)
    assert_close(align_with_purpose(leaf, *there).double().cpu(), expected, rtol=1e-4, atol=1e-5)


def test_under_autocast() -> None:
    log_probs, *rest = drawn([9, 5], 9)
    with torch.autocast("cpu", torch.bfloat16):
        loss = align_with_purpose(log_probs.float(), *rest)
    assert loss.dtype == torch.float32
    assert_close(loss.double(), align_with_purpose(log_probs, *rest), rtol=1e-5, atol=1e-6)


def test_impossible_tokens_cost_much_but_not_infinity() -> None:
    log_probs = torch.tensor([[[0.0, -torch.inf], [0.0, -torch.inf]]])
    possible, impossible = torch.tensor([[[0, 0]]]), torch.tensor([[[0, 1]]])
    loss, found = gradient(log_probs, possible, impossible, torch.tensor([2]))
    assert loss.item() == pytest.approx(-math.log(1e-7) / 2)
    assert found.isfinite().all()
    assert AlignWithPurpose(LowLatency())(log_probs, torch.tensor([2])).loss.item() == 0.0


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_class_is_the_function(score: str, reduction: str) -> None:
    """Drawn from the same generator, edited, and compared: the class adds nothing."""
    log_probs, _, _, lengths = drawn([9, 6, 1, 0], 9)
    awp = AlignWithPurpose(
        LowLatency(blank=2), samples=4, margin=0.1, temperature=0.7, score=score, sample_reduction=reduction
    )
    out = awp(log_probs, lengths, generator=generator())
    g = generator()
    alignments = sample_alignments(log_probs, lengths, 4, blank=2, temperature=0.7, generator=g)
    edited = LowLatency(blank=2)(alignments, lengths, generator=g)
    expected = align_with_purpose(
        log_probs, alignments, edited, lengths, margin=0.1, score=score, sample_reduction=reduction
    )
    assert torch.equal(out.loss, expected)
    assert list(out.parts) == ["awp"]
    changed = (alignments != edited).any(-1)
    assert out.stats["awp_edited"].item() == pytest.approx(changed.float().mean().item())
    gap = score_alignments(log_probs, alignments, lengths, score=score)
    gap = gap - score_alignments(log_probs, edited, lengths, score=score) + 0.1
    assert out.stats["awp_active"].item() == pytest.approx(((gap > 0) & changed).float().mean().item())


def test_blank_is_the_propertys() -> None:
    assert AlignWithPurpose(LowLatency(blank=3)).blank == 3
    assert AlignWithPurpose(Nothing()).blank == 0
    assert AlignWithPurpose(Nothing(), blank=2).blank == 2
    assert AlignWithPurpose(LowLatency(blank=3), blank=3).blank == 3
    with pytest.raises(ValueError, match="LowLatency has blank=3, but the blank here is 0"):
        AlignWithPurpose(LowLatency(blank=3), blank=0)


@pytest.mark.compile
@pytest.mark.parametrize("score", SCORES)
def test_all_of_it_compiles_as_one_graph(score: str) -> None:
    """Sampling and the low-latency edit included; only text stands outside."""
    torch.compiler.reset()
    log_probs, _, _, lengths = drawn([9, 5, 1], 9)
    awp = AlignWithPurpose(LowLatency(), margin=0.1, score=score)
    compiled = torch.compile(lambda x, n: awp(x, n).loss, fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, lambda x, n: awp(x, n).loss):
        torch.manual_seed(0)
        leaf = log_probs.clone().requires_grad_()
        loss = function(leaf, lengths)
        results.append((loss.detach(), torch.autograd.grad(loss, leaf)[0]))
    assert_close(*results)


def test_descending_the_gradient_brings_words_forward() -> None:
    """The term alone moves the mean emission frame of a late token earlier, and keeps what is spelled."""
    late = torch.full((1, 12, 3), -2.0)
    late[0, :8, 0] = late[0, 8:11, 1] = late[0, 11, 0] = 1.0
    logits, awp, lengths = late.requires_grad_(), AlignWithPurpose(LowLatency()), torch.tensor([12])
    g, frames = generator(), torch.arange(12.0)

    def centre() -> float:
        token = logits.detach().softmax(-1)[0, :, 1]
        return float((token * frames).sum() / token.sum())

    before = centre()
    for _ in range(200):
        (gradient,) = torch.autograd.grad(awp(logits.log_softmax(-1), lengths, generator=g).loss, logits)
        logits.data -= 2.0 * gradient
    assert centre() < before - 0.5


def quiet_start(alignments: Tensor) -> Tensor:
    """The documented five-line property: emit nothing in the first five frames."""
    edited = alignments.clone()
    edited[..., :5] = 0
    return edited


def test_a_property_of_ones_own() -> None:
    log_probs, _, _, lengths = drawn([9, 6], 9)
    leaf = log_probs.requires_grad_()
    out = AlignWithPurpose(quiet_start, samples=50)(leaf, lengths, generator=generator())
    out.loss.backward()
    assert out.stats["awp_edited"].item() > 0.9
    assert leaf.grad[:, 5:].abs().max() == 0
    assert (leaf.grad[:, :5, 0] <= 0).all()


def test_a_property_is_given_what_it_asks_for() -> None:
    seen: dict[str, Any] = {}

    def curious(alignments: Tensor, references: Any, input_lengths: Tensor, generator: Any) -> Tensor:
        seen.update(
            references=references, input_lengths=input_lengths, generator=generator, grad=torch.is_grad_enabled()
        )
        return alignments

    log_probs, _, _, lengths = drawn([9, 6], 9)
    g = generator()
    AlignWithPurpose(curious)(log_probs, lengths, ["a", "b"], g)
    assert seen["references"] == ["a", "b"]
    assert seen["input_lengths"] is lengths
    assert seen["generator"] is g
    assert not seen["grad"]


def test_a_property_may_write_in_place() -> None:
    """It gets its own copy: otherwise the samples would change with it and the loss would silently be 0."""

    def in_place(alignments: Tensor) -> Tensor:
        alignments[..., :5] = 0
        return alignments

    log_probs, _, _, lengths = drawn([9, 6], 9)
    found = [AlignWithPurpose(f)(log_probs, lengths, generator=generator()) for f in (quiet_start, in_place)]
    assert found[0].stats["awp_edited"] > 0
    assert torch.equal(found[0].loss, found[1].loss)


def test_words_need_references() -> None:
    log_probs, _, _, lengths = drawn([9, 6], 9, vocab=6)
    awp = AlignWithPurpose(MinimumWER(VOCABULARY))
    assert awp(log_probs, lengths, ["a b", "cab"], generator()).loss.isfinite()
    with pytest.raises(ValueError, match="references must be a list of 2 texts, one per utterance, got none"):
        awp(log_probs, lengths)
    with pytest.raises(ValueError, match="got 1"):
        awp(log_probs, lengths, ["a"])
    with pytest.raises(ValueError, match="the property's vocabulary has 6 entries, log_probs has 5; give one string"):
        awp(log_probs[..., :5].log_softmax(-1), lengths, ["a b", "cab"])


def test_a_property_that_cannot_be_called_is_refused_at_once() -> None:
    for asks, said in [
        (
            lambda alignments, input_lenghts: alignments,
            "asks for 'input_lenghts'.*did you mean 'input_lengths'.*partial",
        ),
        (lambda alignments, *, speed: alignments, "asks for 'speed'.*there are: input_lengths, references, generator"),
        (lambda: None, "must take the alignments as its first argument"),
        (lambda **everything: None, "must take the alignments as its first argument"),
    ]:
        with pytest.raises(TypeError, match=f"property <lambda> {said}"):
            AlignWithPurpose(asks)
    for fits in (lambda alignments, speed=2: alignments, lambda *given, **named: given[0], torch.nn.Identity()):
        log_probs, _, _, lengths = drawn([4, 3], 4)
        assert AlignWithPurpose(fits)(log_probs, lengths).loss == 0


def test_bad_options_are_named(own_messages: None) -> None:
    with pytest.raises(TypeError, match="property must be a callable such as LowLatency"):
        AlignWithPurpose("low latency")  # ty: ignore
    with pytest.raises(TypeError, match="property must be"):
        AlignWithPurpose(None)  # ty: ignore
    for wrong in ({"samples": -1}, {"margin": -0.1}, {"temperature": 0.0}, {"temperature": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AlignWithPurpose(LowLatency(), **wrong)


def test_bad_input_is_named(own_messages: None) -> None:
    log_probs, alignments, edited, lengths = drawn([4, 3], 4)
    awp = AlignWithPurpose(LowLatency())
    for option in ({"score": "logprob"}, {"sample_reduction": "max"}):
        name = next(iter(option))
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            AlignWithPurpose(LowLatency(), **option)
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            align_with_purpose(log_probs, alignments, edited, lengths, **option)
    with pytest.raises(ValueError, match=r"edited must be shaped like alignments \(3, 2, 4\), got \(2, 2, 4\)"):
        align_with_purpose(log_probs, alignments, edited[:2], lengths)
    with pytest.raises(ValueError, match=r"alignments must be \(samples, 2, 4\), got \(samples, 2, 3\)"):
        align_with_purpose(log_probs, alignments[..., :3], edited[..., :3], lengths)
    for token in (-1, 5):
        with pytest.raises(ValueError, match=f"token {token}, outside the vocabulary 0..4"):
            align_with_purpose(log_probs, alignments, torch.full_like(edited, token), lengths)
    with pytest.raises(ValueError, match="utterance 0: input_lengths is 5, but log_probs has 4 frames"):
        awp(log_probs, torch.tensor([5, 3]))
    with pytest.raises(TypeError, match="input_lengths must be integers"):
        awp(log_probs, torch.tensor([4.0, 3.0]))
    with pytest.raises(TypeError, match="log_probs must be floating point"):
        awp(torch.zeros(2, 4, 5, dtype=torch.long), lengths)
    with pytest.raises(ValueError, match=r"blank=7 is outside the vocabulary of log_probs \(0..4\)"):
        AlignWithPurpose(LowLatency(blank=7))(log_probs, lengths)
    with pytest.raises(ValueError, match="utterance 1, frame 2: log_probs holds NaN; give log_softmax"):
        awp(log_probs.index_put((torch.tensor([1]), torch.tensor([2])), torch.tensor(torch.nan).double()), lengths)
    with pytest.raises(ValueError, match="utterance 0, frame 0: log_probs holds a positive value"):
        awp(log_probs + 9, lengths)


@pytest.mark.parametrize(
    "wrong",
    [lambda alignments: alignments[..., 1:], lambda alignments: alignments.float(), lambda alignments: None],
    ids=["shape", "dtype", "nothing"],
)
def test_a_property_must_return_alignments(wrong: Any, own_messages: None) -> None:
    log_probs, _, _, lengths = drawn([4, 3], 4)
    with pytest.raises(ValueError, match=r"the property <lambda> must return torch.int64 \(5, 2, 4\)"):
        AlignWithPurpose(wrong)(log_probs, lengths)
