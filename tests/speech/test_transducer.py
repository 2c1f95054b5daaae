"""Align With Purpose for transducers against every path of small lattices, enumerated in plain Python."""

import math
from collections import Counter
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.testing import assert_close

from kilter.ops.ctc_paths import LOG_FLOOR
from kilter.ops.transducer_paths import Lattice
from kilter.speech import (
    TransducerAlignWithPurpose,
    earlier_emissions,
    sample_transducer_alignments,
    score_transducer_alignments,
    transducer_align_with_purpose,
    transducer_lattice,
    transducer_log_likelihood,
)
from tests.conformance.case import Case, Fixed


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def drawn(
    lengths: list[int], counts: list[int], vocab: int = 5, seed: int = 0, blank: int = 0, scale: float = 1.0
) -> dict[str, Tensor]:
    """Arguments of a lattice in float64."""
    g = generator(seed)
    shape = len(lengths), max(lengths), max(counts) + 1, vocab
    return {
        "log_probs": (torch.randn(shape, generator=g, dtype=torch.float64) * scale).log_softmax(-1),
        "input_lengths": torch.tensor(lengths),
        "targets": (torch.randint(1, vocab, (len(counts), max(counts)), generator=g) + blank) % vocab,
        "target_lengths": torch.tensor(counts),
    }


def fixed_samples(awp: TransducerAlignWithPurpose, inputs: dict[str, Any]) -> Fixed:
    """The loss of samples drawn and edited beforehand."""
    g = generator()
    lattice = transducer_lattice(**inputs, blank=awp.blank)
    alignments = sample_transducer_alignments(lattice, awp.samples, generator=g)
    edited = earlier_emissions(alignments, inputs["target_lengths"], generator=g)
    loss = partial(transducer_align_with_purpose, margin=awp.margin, blank=awp.blank)
    return loss, {"alignments": alignments, "edited": edited, **inputs}


def cases() -> list[Case]:
    def inputs(g: Generator, blank: int) -> dict[str, Tensor]:
        return drawn([7, 4, 3, 2], [3, 2, 0, 3], seed=g.initial_seed(), blank=blank)

    return [
        Case(lambda: TransducerAlignWithPurpose(margin=0.05), partial(inputs, blank=0), fixed_samples),
        Case(
            lambda: TransducerAlignWithPurpose(samples=9, blank=4),
            partial(inputs, blank=4),
            fixed_samples,
            label="blank",
        ),
    ]


def walk(times: tuple[int, ...], frames: int) -> list[tuple[int, int, bool]]:
    """Steps (t, u, whether the blank) of the path that emits its tokens in these frames."""
    steps, u = [], 0
    for t in range(frames):
        for _ in range(times.count(t)):
            steps.append((t, u, False))
            u += 1
        steps.append((t, u, True))
    return steps


def path_steps(one: Tensor, target: list[int], times: tuple[int, ...], frames: int, blank: int = 0) -> list[float]:
    """Log-probabilities of a path's steps, from `(time, states, vocab)` of one utterance."""
    return [float(one[t, u, blank if is_blank else target[u]]) for t, u, is_blank in walk(times, frames)]


def every_path(inputs: dict[str, Tensor], i: int, blank: int = 0) -> dict[tuple[int, ...], float]:
    """Log-probability of each alignment of one utterance's target."""
    frames, count = int(inputs["input_lengths"][i]), int(inputs["target_lengths"][i])
    target = inputs["targets"][i].tolist()
    return {
        times: sum(path_steps(inputs["log_probs"][i], target, times, frames, blank))
        for times in combinations_with_replacement(range(frames), count)
    }


def log_sum(values: Any) -> float:
    return float(torch.tensor(list(values), dtype=torch.float64).logsumexp(0))


def gradient(log_probs: Tensor, **rest: Any) -> tuple[Tensor, Tensor]:
    leaf = log_probs.detach().clone().requires_grad_()
    loss = transducer_align_with_purpose(leaf, **rest)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


@given(st.data())
def test_the_likelihood_is_the_sum_over_paths(data: st.DataObject) -> None:
    """Ragged, more tokens than frames, no tokens, no frames, confident models, any blank."""
    batch = data.draw(st.integers(1, 3))
    lengths = [data.draw(st.integers(0, 5)) for _ in range(batch)]
    counts = [data.draw(st.integers(0, 4)) if length else 0 for length in lengths]
    blank, scale = data.draw(st.sampled_from([0, 2, 4])), data.draw(st.sampled_from([1.0, 20.0]))
    inputs = drawn(lengths, counts, seed=data.draw(st.integers(0, 10**6)), blank=blank, scale=scale)
    found = transducer_log_likelihood(transducer_lattice(**inputs, blank=blank))
    expected = [log_sum(every_path(inputs, i, blank).values()) for i in range(batch)]
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_the_likelihood_in_closed_form() -> None:
    """All steps equally probable: as many paths as orders of T-1 blanks and U tokens, each p^(T+U)."""
    for frames, count, dtype in [(6, 3, torch.float64), (200, 40, torch.float32), (3, 50, torch.float32)]:
        log_probs = torch.zeros(1, frames, count + 1, 4, dtype=dtype).log_softmax(-1)
        lengths = torch.tensor([frames]), torch.ones(1, count, dtype=torch.long), torch.tensor([count])
        found = transducer_log_likelihood(transducer_lattice(log_probs, *lengths))
        expected = math.log(math.comb(frames + count - 1, count)) - (frames + count) * math.log(4)
        assert found.item() == pytest.approx(expected, rel=1e-6)


def test_the_likelihood_others_publish() -> None:
    """The small test of warp-transducer: a cost of 4.495666 from these outputs before the softmax."""
    rows = "16111 11611 11281 16111 11211 71211"
    logits = torch.tensor([[int(digit) for digit in row] for row in rows.split()]).view(1, 2, 3, 5) / 10
    lattice = transducer_lattice(logits.log_softmax(-1), *map(torch.tensor, ([2], [[1, 2]], [2])))
    assert transducer_log_likelihood(lattice).item() == pytest.approx(-4.495666, abs=1e-5)


def test_the_likelihood_has_its_gradient() -> None:
    inputs = drawn([5, 3, 1, 2], [3, 2, 0, 4])
    leaf = inputs.pop("log_probs").requires_grad_()
    assert torch.autograd.gradcheck(lambda x: transducer_log_likelihood(transducer_lattice(x, **inputs)), leaf)


def test_long_utterances_in_float32() -> None:
    """Rounding of the cumulative sums stays far below what a draw can notice, against float64."""
    inputs = drawn([800], [120], vocab=16, scale=3.0)
    exact = transducer_log_likelihood(transducer_lattice(**inputs))
    inputs["log_probs"] = inputs["log_probs"].float()
    assert_close(transducer_log_likelihood(transducer_lattice(**inputs)).double(), exact, rtol=1e-6, atol=0)


def test_samples_follow_the_posterior() -> None:
    """Chi-square of 40,000 draws against the enumerated posterior, below its 99.9 % quantile."""
    inputs = drawn([4, 5, 2], [2, 3, 3], seed=1)
    samples = sample_transducer_alignments(transducer_lattice(**inputs), 40_000, generator=generator())
    for i, count in enumerate(inputs["target_lengths"].tolist()):
        paths = every_path(inputs, i)
        seen = Counter(map(tuple, samples[:, i, :count].tolist()))
        assert set(seen) <= set(paths)
        total = log_sum(paths.values())
        expected = {times: 40_000 * math.exp(value - total) for times, value in paths.items()}
        common = [times for times in paths if expected[times] >= 5]
        chi2 = sum((seen[times] - expected[times]) ** 2 / expected[times] for times in common)
        freedom = len(common) - 1
        assert chi2 < freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3


def test_impossible_steps_are_not_drawn_if_there_is_another_way() -> None:
    inputs = drawn([6, 4], [3, 2])
    inputs["log_probs"][:, [0, 2, 3], :, 1:] = -torch.inf
    samples = sample_transducer_alignments(transducer_lattice(**inputs), 500, generator=generator())
    assert set(samples[:, 0].unique().tolist()) == {1, 4, 5}
    assert set(samples[:, 1, :2].unique().tolist()) == {1}
    inputs["log_probs"][...] = -torch.inf
    lattice = transducer_lattice(**inputs)
    assert transducer_log_likelihood(lattice).isfinite().all()
    assert (sample_transducer_alignments(lattice).diff(dim=-1) >= 0).all()


def test_random_numbers_used_are_as_documented() -> None:
    """N·B·U draws for the samples, N·B for the edits."""
    inputs = drawn([6, 4], [3, 2])
    inputs["log_probs"] = inputs["log_probs"].float()
    used, counted = generator(), generator()
    TransducerAlignWithPurpose(samples=4)(**inputs, generator=used)
    torch.rand(4 * 2 * 3, generator=counted)
    torch.rand(4 * 2, generator=counted)
    assert torch.equal(torch.rand(4, generator=used), torch.rand(4, generator=counted))


def test_the_edit() -> None:
    """Each frame before the last token goes equally often; what comes after it moves one frame, nothing else."""
    times = (1, 3, 3, 6)
    alignments = torch.tensor([*times, 9]).expand(12_000, 1, 5)
    edited = earlier_emissions(alignments, torch.tensor([4]), generator=generator())
    seen = Counter(map(tuple, edited[:, 0].tolist()))
    outcomes = Counter((*(t - (t > j) for t in times), 9) for j in range(6))
    assert set(seen) == set(outcomes)
    assert all(seen[outcome] / 12_000 == pytest.approx(n / 6, abs=0.02) for outcome, n in outcomes.items())


def test_no_edit_where_nothing_can_move() -> None:
    at_once = torch.zeros(2, 3, 4, dtype=torch.long)
    assert torch.equal(earlier_emissions(at_once, torch.tensor([4, 2, 0])), at_once)
    assert torch.equal(earlier_emissions(at_once + 3, torch.tensor([0, 0, 0])), at_once + 3)
    assert earlier_emissions(at_once[..., :0], torch.tensor([0, 0, 0])).shape == (2, 3, 0)


def test_scores_are_those_of_the_walk() -> None:
    inputs = drawn([5, 4, 3, 1], [3, 2, 0, 3], blank=2, scale=8.0)
    lattice = transducer_lattice(**inputs, blank=2)
    alignments = sample_transducer_alignments(lattice, 6, generator=generator())
    found = score_transducer_alignments(lattice, alignments)
    for i, (frames, count) in enumerate(zip(inputs["input_lengths"], inputs["target_lengths"], strict=True)):
        for n in range(6):
            times = tuple(alignments[n, i, :count].tolist())
            steps = path_steps(inputs["log_probs"][i], inputs["targets"][i].tolist(), times, int(frames), blank=2)
            assert len(steps) == frames + count
            assert found[n, i].item() == pytest.approx(sum(max(s, LOG_FLOOR) for s in steps) / len(steps))


def pairs(inputs: dict[str, Tensor], samples: int = 5, **options: int) -> dict[str, Tensor]:
    g = generator()
    alignments = sample_transducer_alignments(transducer_lattice(**inputs, **options), samples, generator=g)
    return {"alignments": alignments, "edited": earlier_emissions(alignments, inputs["target_lengths"], generator=g)}


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_gradient_is_sparse(margin: float) -> None:
    """±1/((T+U)·N·B) at the steps in which an active pair differs, else exactly 0; the loss is the plain hinge."""
    inputs = drawn([7, 4, 3, 2], [3, 2, 0, 4])
    made = pairs(inputs)
    loss, found = gradient(**inputs, **made, margin=margin)
    expected, total = torch.zeros_like(found), 0.0
    for i, (frames, count) in enumerate(zip(inputs["input_lengths"].tolist(), [3, 2, 0, 4], strict=True)):
        target = inputs["targets"][i].tolist()
        for one, other in zip(made["alignments"][:, i].tolist(), made["edited"][:, i].tolist(), strict=True):
            a, b = tuple(one[:count]), tuple(other[:count])
            score = [sum(path_steps(inputs["log_probs"][i], target, x, frames)) / (frames + count) for x in (a, b)]
            hinge = score[0] - score[1] + margin
            if a == b or hinge <= 0:
                continue
            total += hinge / 20
            for times, sign in ((a, 1), (b, -1)):
                for t, u, is_blank in walk(times, frames):
                    expected[i, t, u, 0 if is_blank else target[u]] += sign / (frames + count) / 20
    assert loss.item() == pytest.approx(total)
    assert total > 0
    assert_close(found, expected, rtol=0, atol=1e-15)
    assert not (found != 0)[expected.abs() < 1e-12].any()


def test_hinge() -> None:
    """0 when the edited alignment is better by the margin; equal pairs give 0 for any margin."""
    log_probs = torch.tensor([[[0.2, 0.8], [0.5, 0.5]], [[0.6, 0.4], [0.5, 0.5]]]).log()[None]
    better, worse = torch.tensor([[[0, 0]]]), torch.tensor([[[1, 0]]])
    loss = partial(
        transducer_align_with_purpose,
        log_probs.repeat(1, 1, 2, 1)[:, :, :3],
        input_lengths=torch.tensor([2]),
        targets=torch.tensor([[1, -100]]),
        target_lengths=torch.tensor([1]),
    )
    gap = math.log(0.8 * 0.5 / (0.2 * 0.4)) / 3
    for margin in (0.0, gap - 0.01, gap, gap + 0.01, 5.0):
        assert loss(worse, better, margin=margin).item() == pytest.approx(max(margin - gap, 0.0), abs=1e-6)
        assert loss(better, worse, margin=margin).item() == pytest.approx(gap + margin)
        assert loss(worse, worse, margin=margin).item() == 0.0
        assert loss(worse, worse + torch.tensor([0, 1]), margin=margin).item() == 0.0


def test_padding_does_not_matter_to_the_draws() -> None:
    """NaN and nonsense beyond the lengths: the same draws, and the same loss, from the same generator."""
    inputs = drawn([7, 4, 3, 2], [3, 2, 0, 3])
    spoilt = {name: value.clone() for name, value in inputs.items()}
    for i, (frames, count) in enumerate(zip([7, 4, 3, 2], [3, 2, 0, 3], strict=True)):
        spoilt["log_probs"][i, frames:] = spoilt["log_probs"][i, :, count + 1 :] = torch.nan
        spoilt["targets"][i, count:] = -100
    awp = TransducerAlignWithPurpose(margin=0.1)
    one, other = (awp(**given, generator=generator()) for given in (inputs, spoilt))
    assert torch.equal(one.loss, other.loss)
    assert one.stats == other.stats


def test_the_class_is_the_function() -> None:
    inputs = drawn([9, 6, 1, 2], [3, 2, 0, 4], blank=3)
    out = TransducerAlignWithPurpose(samples=4, margin=0.1, blank=3)(**inputs, generator=generator())
    made = pairs(inputs, 4, blank=3)
    assert torch.equal(out.loss, transducer_align_with_purpose(**inputs, **made, margin=0.1, blank=3))
    lattice = transducer_lattice(**inputs, blank=3)
    inside = torch.arange(4) < inputs["target_lengths"][:, None]
    changed = ((made["alignments"] != made["edited"]) & inside).any(-1)
    gap = score_transducer_alignments(lattice, made["alignments"]) + 0.1
    active = (gap > score_transducer_alignments(lattice, made["edited"])) & changed
    assert out.stats["awp_edited"].item() == pytest.approx(changed.float().mean().item())
    assert out.stats["awp_active"].item() == pytest.approx(active.float().mean().item())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_and_devices(dtype: torch.dtype, device: str) -> None:
    """Also with 32-bit integers; the loss is computed in float32 at least."""
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    inputs = drawn([20, 11], [6, 4])
    leaf = inputs.pop("log_probs").to(device, dtype).requires_grad_()
    rest = {name: value.to(device, torch.int32) for name, value in inputs.items()}
    out = TransducerAlignWithPurpose(margin=0.1)(leaf, **rest, generator=Generator(device).manual_seed(0))
    out.loss.backward()
    assert out.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert leaf.grad.dtype == dtype
    assert leaf.grad.isfinite().all()
    made = pairs({"log_probs": leaf.detach().cpu().double(), **inputs})
    low = {name: value.to(device, torch.int32) for name, value in made.items()}
    found = transducer_align_with_purpose(leaf, **low, **rest, margin=0.1)
    expected = transducer_align_with_purpose(leaf.detach().cpu().double(), **made, **inputs, margin=0.1)
    assert_close(found.double().cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("lengths", "counts", "samples"), [([4, 2], [0, 0], 5), ([4, 2], [3, 1], 0), ([0], [0], 2)])
def test_nothing_to_edit(lengths: list[int], counts: list[int], samples: int) -> None:
    inputs = drawn(lengths, counts)
    leaf = inputs.pop("log_probs").requires_grad_()
    out = TransducerAlignWithPurpose(samples=samples, margin=1.0)(leaf, **inputs)
    assert out.loss.item() == out.stats["awp_edited"].item() == 0.0
    assert not torch.autograd.grad(out.loss, leaf)[0].any()


@pytest.mark.compile
def test_all_of_it_compiles_as_one_graph() -> None:
    """Sampling and the edit included; the recursion is unrolled over the tokens."""
    torch.compiler.reset()
    inputs = drawn([9, 5, 1], [3, 1, 4])
    awp = TransducerAlignWithPurpose(margin=0.1)
    leaf = inputs.pop("log_probs").requires_grad_()
    results = []
    for function in (torch.compile(awp, fullgraph=True, backend="aot_eager"), awp):
        torch.manual_seed(0)
        loss = function(leaf, **inputs).loss
        results.append((loss.detach(), torch.autograd.grad(loss, leaf)[0]))
    assert_close(*results)


def emission(lattice: Lattice) -> float:
    return sample_transducer_alignments(lattice, 500, generator=generator()).double().mean().item()


def test_beside_the_loss_it_brings_words_forward() -> None:
    """Free log-probabilities that emit late, 150 steps: earlier with the term, and the target nearly as probable."""
    late = torch.zeros(1, 10, 4, 5)
    late[..., 0], late[:, 6:, :, 1:4] = 2.0, 2.0
    rest = torch.tensor([10]), torch.tensor([[1, 2, 3]]), torch.tensor([3])
    awp, found = TransducerAlignWithPurpose(), {}
    for weight in (0.0, 5.0):
        logits, g = late.clone().requires_grad_(), generator()
        for _ in range(150):
            log_probs = logits.log_softmax(-1)
            loss = -transducer_log_likelihood(transducer_lattice(log_probs, *rest)).mean()
            loss = loss + weight * awp(log_probs, *rest, generator=g).loss
            logits.data -= 0.5 * torch.autograd.grad(loss, logits)[0]
        lattice = transducer_lattice(logits.detach().log_softmax(-1), *rest)
        found[weight] = emission(lattice), transducer_log_likelihood(lattice).item()
    assert found[5.0][0] < found[0.0][0] - 1.5, found
    assert found[5.0][1] > found[0.0][1] - 0.3, found


def test_bad_input_is_named(own_messages: None) -> None:
    inputs = drawn([4, 3], [2, 1])
    awp = TransducerAlignWithPurpose()

    def given(**changed: Any) -> None:
        awp(**{**inputs, **changed})

    log_probs, targets = inputs["log_probs"], inputs["targets"]
    for wrong in ({"samples": -1}, {"margin": -0.1}, {"margin": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TransducerAlignWithPurpose(**wrong)
    with pytest.raises(TypeError, match="log_probs must be floating point"):
        given(log_probs=log_probs.long())
    with pytest.raises(ValueError, match=r"log_probs must be \(batch, time, states, vocab\), got shape \(2, 4, 5\)"):
        given(log_probs=log_probs[:, :, 0])
    with pytest.raises(ValueError, match=r"targets must be \(2, 1\), since log_probs has 2 states .* got \(2, 2\)"):
        given(log_probs=log_probs[:, :, 1:])
    with pytest.raises(ValueError, match=r"targets must be \(batch, tokens\), got shape \(2,\)"):
        given(targets=targets[:, 0])
    with pytest.raises(TypeError, match=r"targets must hold token ids, got torch\.float32"):
        given(targets=targets.float())
    with pytest.raises(ValueError, match="utterance 1: target 0 is 0, the blank; check the labels' tokenizer"):
        given(targets=torch.tensor([[1, 2], [0, 0]]))
    with pytest.raises(ValueError, match="utterance 0: target 1 is 7, outside the vocabulary"):
        given(targets=torch.tensor([[1, 7], [1, 0]]))
    with pytest.raises(ValueError, match="utterance 0: target_lengths is 3, but targets has 2 tokens"):
        given(target_lengths=torch.tensor([3, 1]))
    with pytest.raises(ValueError, match="utterance 1: input_lengths is 5, but log_probs has 4 frames"):
        given(input_lengths=torch.tensor([4, 5]))
    with pytest.raises(ValueError, match="utterance 1: input_lengths is 0, but its target has 1 tokens"):
        given(input_lengths=torch.tensor([4, 0]))
    with pytest.raises(ValueError, match=r"blank=9 is outside the vocabulary of log_probs \(0..4\)"):
        TransducerAlignWithPurpose(blank=9)(**inputs)
    with pytest.raises(ValueError, match="utterance 0, frame 0, state 0: log_probs holds a positive value"):
        given(log_probs=log_probs + 9)
    log_probs[1, 2, 1, 0] = torch.nan
    with pytest.raises(ValueError, match="utterance 1, frame 2, state 1: log_probs holds NaN; give log_softmax"):
        given(log_probs=log_probs)


def test_bad_alignments_are_named(own_messages: None) -> None:
    inputs = drawn([4, 3], [2, 1])
    good = torch.tensor([[[1, 3], [2, -100]]])
    loss = partial(transducer_align_with_purpose, **inputs)
    assert loss(alignments=good, edited=good).item() == 0.0
    with pytest.raises(ValueError, match=r"edited must be shaped like alignments \(1, 2, 2\), got \(0, 2, 2\)"):
        loss(alignments=good, edited=good[:0])
    with pytest.raises(ValueError, match=r"alignments must be \(samples, 2, 2\), got \(1, 2, 1\)"):
        loss(alignments=good[..., :1], edited=good[..., :1])
    with pytest.raises(TypeError, match=r"alignments must hold frames of emission, got torch.float32"):
        loss(alignments=good.float(), edited=good.float())
    for bad, what in [
        ([[1, 0], [2, 0]], "utterance 0: edited emit token 1 in frame 0, before the token it follows"),
        ([[1, 3], [3, 0]], "utterance 1: edited emit token 0 in frame 3, .* outside the 3 frames"),
    ]:
        with pytest.raises(ValueError, match=what):
            loss(alignments=good, edited=torch.tensor([bad]))
