"""Best-path decoding against the definition, and bad input."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kilter.speech import Hypothesis, ctc_greedy
from tests.speech import plain


def log_probs(batch: int, frames: int, vocab: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, vocab, generator=generator).mul(2).log_softmax(-1)


@given(st.data())
def test_best_path(data: st.DataObject) -> None:
    """Ragged lengths, no frames, any blank: token runs of the most probable token of each frame."""
    batch, frames, vocab = (data.draw(st.integers(low, 5)) for low in (0, 0, 1))
    blank = data.draw(st.integers(0, vocab - 1))
    lengths = data.draw(st.lists(st.integers(0, frames), min_size=batch, max_size=batch))
    lp = log_probs(batch, frames, vocab, data.draw(st.integers(0, 10**6)))
    found = ctc_greedy(lp, torch.tensor(lengths, dtype=torch.long), blank=blank)
    assert len(found) == batch
    for hypothesis, rows, length in zip(found, lp.tolist(), lengths, strict=True):
        path = [max(range(vocab), key=row.__getitem__) for row in rows[:length]]
        runs = plain.run_starts(path, blank)
        assert hypothesis.tokens == [token for token, _ in runs] == plain.collapsed(path, blank)
        assert hypothesis.times == [t for _, t in runs]
        assert hypothesis.score == pytest.approx(sum(max(row) for row in rows[:length]), abs=1e-5)


def test_by_hand() -> None:
    """Repeats parted by a blank are two tokens; times are 0-based first frames; plain Python values."""
    lp = torch.eye(3)[[0, 2, 2, 0, 2, 1]].mul(9).log_softmax(-1)[None]
    (found,) = ctc_greedy(lp, torch.tensor([6]))
    assert found == Hypothesis([2, 2, 1], found.score, [1, 4, 5])
    assert type(found.score) is float
    assert [type(x) for x in (*found.tokens, *found.times)] == [int] * 6


def test_all_blank_and_impossible_tokens() -> None:
    lp = torch.full((1, 4, 3), -torch.inf)
    lp[..., 0] = 0.0
    assert ctc_greedy(lp, torch.tensor([4])) == [Hypothesis([], 0.0, [])]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_strides_padding_and_devices(dtype: torch.dtype, device: str) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    lp, lengths = log_probs(3, 9, 5), torch.tensor([9, 4, 0])
    expected = ctc_greedy(lp, lengths)
    spoilt = lp.masked_fill((torch.arange(9) >= lengths[:, None])[..., None], float("nan"))
    found = ctc_greedy(spoilt.to(device, dtype).mT.contiguous().mT, lengths.to(device).int())
    assert [(h.tokens, h.times) for h in found] == [(h.tokens, h.times) for h in expected]
    assert [h.score for h in found] == pytest.approx([h.score for h in expected], rel=0.02)


def test_the_graph_is_left_alone() -> None:
    lp = log_probs(1, 3, 4).requires_grad_()
    assert ctc_greedy(lp, torch.tensor([3]))
    assert lp.grad is None


def test_bad_input_is_named(own_messages: None) -> None:
    lp, lengths = log_probs(2, 3, 4), torch.tensor([3, 2])
    with pytest.raises(ValueError, match=r"blank=4 is outside the vocabulary of log_probs \(0..3\)"):
        ctc_greedy(lp, lengths, blank=4)
    with pytest.raises(ValueError, match="utterance 1: input_lengths is -1"):
        ctc_greedy(lp, torch.tensor([3, -1]))
    with pytest.raises(ValueError, match="utterance 1, frame 0: log_probs holds NaN"):
        ctc_greedy(lp.index_fill(0, torch.tensor([1]), float("nan")), lengths)
    with pytest.raises(ValueError, match=r"utterance 0, frame 0: log_probs holds a positive value"):
        ctc_greedy(lp + 10, lengths)
