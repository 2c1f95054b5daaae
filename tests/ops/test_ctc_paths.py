"""Drawing, scoring and collapsing alignments: laws, brute force, every dtype, bad input."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.testing import assert_close

from kilter.ops.ctc_paths import collapse, sample_alignments, score_alignments
from tests.speech import plain


def generator(seed: int = 0, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def log_probs(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype).log_softmax(-1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_samples_follow_the_distribution(temperature: float, dtype: torch.dtype, device: str) -> None:
    """Chi-square per frame at a fixed seed; p > 1e-4 for each of twelve frames."""
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    lp, draws = log_probs(3, 4, 6).to(device, dtype), 6000
    found = sample_alignments(
        lp, torch.tensor([4, 4, 4]).to(device), draws, temperature=temperature, generator=generator(1, device)
    )
    expected = (lp.cpu().double() / temperature).softmax(-1) * draws
    for b, t in itertools.product(range(3), range(4)):
        counts = torch.bincount(found[:, b, t].cpu(), minlength=6)
        assert stats.chisquare(counts.numpy(), expected[b, t].numpy()).pvalue > 1e-4


def test_frames_samples_and_utterances_are_independent() -> None:
    """Pairs of draws from different frames, samples and utterances: chi-square of independence."""
    lp = torch.tensor([0.5, 0.3, 0.2]).log().expand(2, 2, 3)
    found = sample_alignments(lp, torch.tensor([2, 2]), 8000, generator=generator())
    pairs = [(found[:, 0, 0], found[:, 0, 1]), (found[:, 0, 0], found[:, 1, 0]), (found[::2, 0, 0], found[1::2, 0, 0])]
    for a, b in pairs:
        table = torch.bincount(a * 3 + b, minlength=9).view(3, 3)
        assert stats.chi2_contingency(table.numpy()).pvalue > 1e-3


def test_impossible_tokens_are_never_drawn() -> None:
    lp = torch.full((1, 3, 6), -torch.inf)
    lp[0, 0, 5] = 0.0
    lp[0, 1, [0, 5]] = math.log(0.5)
    lp[0, 2, 2:4] = math.log(0.5)
    found = sample_alignments(lp, torch.tensor([3]), 5000, generator=generator())
    assert [set(found[:, 0, t].tolist()) for t in range(3)] == [{5}, {0, 5}, {2, 3}]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_ends_of_the_uniform_range(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least and the greatest random number give the first and the last possible token, never an impossible one."""
    lp = torch.tensor([[[-torch.inf, math.log(0.5), math.log(0.5), -torch.inf]]])
    drawn = set()
    for value in (0.0, 1 - 2.0**-24):
        monkeypatch.setattr(torch, "rand", lambda size, value=value, **_: torch.full(size, value))
        drawn |= set(sample_alignments(lp, torch.tensor([1]), temperature=temperature).flatten().tolist())
    assert drawn == {1, 2}


def test_nearly_certain_frames() -> None:
    lp = (torch.eye(4)[[1, 3]] * 30).log_softmax(-1)[None]
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        found = sample_alignments(lp.to(dtype), torch.tensor([2]), 200, generator=generator())
        assert set(map(tuple, found[:, 0].tolist())) == {(1, 3)}


def test_large_vocabulary_reaches_both_ends() -> None:
    lp = torch.zeros(1, 1, 5000).log_softmax(-1)
    found = sample_alignments(lp, torch.tensor([1]), 50000, generator=generator()).flatten()
    counts = torch.bincount(found // 500, minlength=10)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert found.min() < 5
    assert found.max() > 4994


@given(st.data())
def test_blank_beyond_each_length(data: st.DataObject) -> None:
    """Any sizes, none included; NaN in the padding is not looked at."""
    samples, batch, frames, vocab = (data.draw(st.integers(low, 4)) for low in (0, 0, 0, 1))
    blank = data.draw(st.integers(0, vocab - 1))
    lengths = data.draw(st.lists(st.integers(0, frames), min_size=batch, max_size=batch))
    tensor = torch.tensor(lengths, dtype=torch.long)
    beyond = torch.arange(frames) >= tensor[:, None]
    lp = log_probs(batch, frames, vocab).masked_fill(beyond[..., None], float("nan"))
    found = sample_alignments(lp, tensor, samples, blank=blank, generator=generator())
    assert found.shape == (samples, batch, frames)
    assert found.dtype == torch.int64
    assert (found.masked_select(beyond) == blank).all()
    assert ((found >= 0) & (found < vocab)).all()


def test_same_seed_same_samples_whatever_the_strides_and_padding() -> None:
    lp, lengths = log_probs(3, 10, 5), torch.tensor([10, 6, 1])
    expected = sample_alignments(lp, lengths, generator=generator())
    assert torch.equal(sample_alignments(lp, lengths, generator=generator()), expected)
    assert not torch.equal(sample_alignments(lp, lengths, generator=generator(1)), expected)
    assert torch.equal(sample_alignments(lp.mT.contiguous().mT, lengths, generator=generator()), expected)
    assert torch.equal(sample_alignments(lp, lengths.int(), generator=generator()), expected)
    torch.manual_seed(0)
    assert torch.equal(sample_alignments(lp, lengths), sample_alignments(lp, lengths, generator=generator()))


def test_it_is_drawn_in_slices_of_the_same_law() -> None:
    """Larger than one slice of memory: still the distribution of every frame, and NaN found in the last."""
    lp = torch.tensor([0.7, 0.2, 0.1]).log().expand(40, 10000, 3)
    lengths = torch.full((40,), 10000)
    found = sample_alignments(lp, lengths, 1, generator=generator())
    for frames in (found[..., :5000], found[..., 5000:]):
        counts = torch.bincount(frames.flatten(), minlength=3)
        assert (
            stats.chisquare(counts.numpy(), frames.numel() * torch.tensor([0.7, 0.2, 0.1]).double().numpy()).pvalue
            > 1e-4
        )
    spoilt = lp.clone()
    spoilt[39, 9999] = float("nan")
    with pytest.raises(ValueError, match="utterance 39, frame 9999: log_probs holds NaN"):
        sample_alignments(spoilt, lengths, 1)


def test_samples_carry_no_gradient() -> None:
    lp = log_probs(1, 3, 4).requires_grad_()
    found = sample_alignments(lp, torch.tensor([3]))
    assert not found.requires_grad
    assert lp.grad is None


def test_probabilities_of_all_paths_sum_to_one() -> None:
    """Brute force: the scores of every alignment, as probabilities, logs and means."""
    lp = log_probs(2, 4, 3, dtype=torch.float64)
    lengths = torch.tensor([4, 3])
    paths = torch.tensor(list(itertools.product(range(3), repeat=4)))[:, None].expand(81, 2, 4)
    prob = score_alignments(lp, paths, lengths, score="prob")
    assert_close(prob[:, 0].sum(), torch.tensor(1.0).double())
    assert_close(prob[:, 1].sum(), torch.tensor(3.0).double())  # the last frame is padding: each path thrice
    assert_close(score_alignments(lp, paths, lengths, score="sum_logprob").exp(), prob)
    assert_close(score_alignments(lp, paths, lengths) * lengths, prob.log())
    for kind in ("mean_logprob", "sum_logprob", "prob"):
        expected = [
            [plain.score(lp[b, :n].tolist(), path[:n], kind) for b, n in enumerate(lengths.tolist())]
            for path in paths[:, 0].tolist()
        ]
        assert_close(
            score_alignments(lp, paths, lengths, score=kind), torch.tensor(expected).double(), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("kind", ["mean_logprob", "sum_logprob", "prob"])
def test_scores_are_differentiable_and_ignore_the_padding(kind: str) -> None:
    lp, lengths = log_probs(3, 4, 3, dtype=torch.float64).requires_grad_(), torch.tensor([4, 2, 0])
    paths = torch.randint(3, (2, 3, 4), generator=generator())
    assert torch.autograd.gradcheck(lambda x: score_alignments(x, paths, lengths, score=kind), lp)
    beyond = torch.arange(4) >= lengths[:, None]
    spoilt = lp.detach().masked_fill(beyond[..., None], float("nan")).requires_grad_()
    found = score_alignments(spoilt, paths.masked_fill(beyond, 2), lengths, score=kind)
    assert_close(found, score_alignments(lp, paths, lengths, score=kind))
    found.sum().backward()
    assert not spoilt.grad[beyond].any()


def test_impossible_tokens_score_the_floor() -> None:
    lp = torch.tensor([[[0.0, -torch.inf]]])
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        found = score_alignments(lp.to(dtype), torch.tensor([[[1]]]), torch.tensor([1]))
        assert found.item() == pytest.approx(math.log(1e-7))


@given(st.data())
def test_collapse_as_the_definition(data: st.DataObject) -> None:
    lead = data.draw(st.sampled_from([(3,), (2, 3), (2, 2, 3), (0, 3)]))
    frames, vocab, blank = data.draw(st.integers(0, 7)), data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2))
    lengths = data.draw(st.lists(st.integers(0, frames), min_size=3, max_size=3))
    a = torch.randint(vocab, (*lead, frames), generator=generator(data.draw(st.integers(0, 10**6))))
    found = collapse(a, torch.tensor(lengths), blank)

    def expected(nested: list) -> list:
        if len(nested) == 3 and all(not row or isinstance(row[0], int) for row in nested):
            return [plain.collapsed(row[:n], blank) for row, n in zip(nested, lengths, strict=True)]
        return [expected(inner) for inner in nested]

    assert found == expected(a.tolist())


def test_bad_input_is_named(own_messages: None) -> None:
    lp, lengths = log_probs(2, 4, 3), torch.tensor([4, 3])
    with pytest.raises(TypeError, match=r"log_probs must be floating point, got torch.int64; apply log_softmax"):
        sample_alignments(lp.long(), lengths)
    with pytest.raises(ValueError, match=r"log_probs must be \(batch, time, vocab\), got shape \(4, 3\)"):
        sample_alignments(lp[0], lengths)
    with pytest.raises(TypeError, match=r"input_lengths must be integers .*; use .long\(\)"):
        sample_alignments(lp, torch.tensor([4.0, 3.0]))
    with pytest.raises(TypeError, match="input_lengths must be integers"):
        sample_alignments(lp, torch.tensor([True, False]))
    with pytest.raises(ValueError, match=r"input_lengths must have shape \(2,\) like the batch of log_p.*, got \(3,\)"):
        sample_alignments(lp, torch.tensor([4, 3, 1]))
    with pytest.raises(ValueError, match="utterance 1: input_lengths is 5, but log_probs has 4 frames"):
        sample_alignments(lp, torch.tensor([4, 5]))
    with pytest.raises(ValueError, match="utterance 0: input_lengths is -1, but"):
        sample_alignments(lp, torch.tensor([-1, 4]))
    for blank in (3, -1):
        with pytest.raises(ValueError, match=rf"blank={blank} is outside the vocabulary of log_probs \(0..2\)"):
            sample_alignments(lp, lengths, blank=blank)
    with pytest.raises(ValueError, match="num_samples must be at least 0, got -1"):
        sample_alignments(lp, lengths, -1)
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature must be positive"):
            sample_alignments(lp, lengths, temperature=temperature)
    with pytest.raises(ValueError, match="score must be one of mean_logprob, sum_logprob, prob, got 'probability'"):
        score_alignments(lp, torch.zeros(1, 2, 4, dtype=torch.long), lengths, score="probability")  # ty: ignore
    with pytest.raises(ValueError, match=r"token 3, outside the vocabulary 0..2 of log_probs"):
        score_alignments(lp, torch.full((1, 2, 4), 3), lengths)
    with pytest.raises(ValueError, match=r"alignments must be \(samples, 2, 4\), got \(samples, 3, 4\)"):
        score_alignments(lp, torch.zeros(1, 3, 4, dtype=torch.long), lengths)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "log_probs holds NaN"),
        (0.5, r"log_probs holds a positive value \(0.5\)"),
        (float("inf"), r"log_probs holds a positive value \(inf\)"),
        (-float("inf"), "log_probs holds only -inf"),
    ],
)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_bad_log_probs_are_named(value: float, message: str, temperature: float) -> None:
    lp, lengths = log_probs(2, 4, 3), torch.tensor([4, 3])
    lp[1, 2] = value
    with pytest.raises(ValueError, match=f"utterance 1, frame 2: {message}; give log_softmax"):
        sample_alignments(lp, lengths, temperature=temperature)
    assert sample_alignments(lp, lengths - 1, temperature=temperature).shape == (5, 2, 4)


def test_one_bad_value_among_good_ones_is_named() -> None:
    for value in (float("nan"), 0.5, float("inf")):
        lp = log_probs(2, 4, 3)
        lp[0, 3, 2] = value
        with pytest.raises(ValueError, match="utterance 0, frame 3: log_probs holds"):
            sample_alignments(lp, torch.tensor([4, 4]))
