"""Search and forced alignment against the definitions (every alignment there is), and bad input."""

import itertools
import math
import runpy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from kilter.speech import Hypothesis, collapse, ctc_forced_align, ctc_greedy, ctc_prefix_beam_search
from tests.speech import plain

Rows = Sequence[Sequence[float]]
Prefix = tuple[int, ...]


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


def labellings(rows: Rows, blank: int) -> dict[Prefix, tuple[float, dict[Prefix, float]]]:
    """Every possible labelling: its log-probability, and the best of its alignments for each way to time the tokens."""
    mass: dict[Prefix, float] = {}
    best: dict[Prefix, dict[Prefix, float]] = {}
    for path in itertools.product(range(len(rows[0]) if rows else 1), repeat=len(rows)):
        score = alignment_score(rows, path)
        if score > -math.inf:
            runs = plain.run_starts(path, blank)
            y, times = tuple(token for token, _ in runs), tuple(t for _, t in runs)
            mass[y] = mass.get(y, 0.0) + math.exp(score)
            timings = best.setdefault(y, {})
            timings[times] = max(score, timings.get(times, -math.inf))
    return {y: (math.log(mass[y]), best[y]) for y in mass}


def alignment_score(rows: Rows, path: Sequence[int]) -> float:
    return sum(row[token] for row, token in zip(rows, path, strict=True))


def prefix_beam(rows: Rows, beam_size: int, blank: int) -> dict[Prefix, float]:
    """Prefix beam search over the whole vocabulary with a table of prefixes, in probabilities."""
    beam = {(): (1.0, 0.0)}
    for row in rows:
        p = [math.exp(x) for x in row]
        grown: dict[Prefix, list[float]] = {}
        for y, (ends_blank, ends_token) in beam.items():
            stay = grown.setdefault(y, [0.0, 0.0])
            stay[0] += (ends_blank + ends_token) * p[blank]
            stay[1] += ends_token * p[y[-1]] if y else 0.0
            for v in set(range(len(p))) - {blank}:
                mass = ends_blank if y[-1:] == (v,) else ends_blank + ends_token
                grown.setdefault((*y, v), [0.0, 0.0])[1] += mass * p[v]
        kept = sorted(grown, key=lambda y: -sum(grown[y]))[:beam_size]
        beam = {y: (grown[y][0], grown[y][1]) for y in kept if sum(grown[y])}
    return {y: math.log(sum(masses)) for y, masses in beam.items()}


@given(st.data())
def test_a_wide_beam_is_exact(data: st.DataObject) -> None:
    """Every labelling with its full sum and the times of its best alignment; impossible tokens included."""
    vocab, frames = data.draw(st.sampled_from([(1, 3), (2, 6), (3, 5), (4, 4)]))
    blank = data.draw(st.integers(0, vocab - 1))
    lengths = data.draw(st.lists(st.integers(0, frames), min_size=1, max_size=3))
    lp = log_probs(len(lengths), frames, vocab, data.draw(st.integers(0, 10**6))).double()
    if vocab > 1 and data.draw(st.booleans()):
        lp[torch.rand(lp.shape, generator=torch.Generator().manual_seed(0)) < 0.2] = -torch.inf
        lp[..., data.draw(st.integers(0, vocab - 1))] = -1.0
    lp = lp.log_softmax(-1)
    found = ctc_prefix_beam_search(lp, torch.tensor(lengths), beam_size=130, n_best=130, blank=blank)
    for hypotheses, rows, length in zip(found, lp.tolist(), lengths, strict=True):
        expected = labellings(rows[:length], blank)
        assert sorted(tuple(h.tokens) for h in hypotheses) == sorted(expected)
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        for h in hypotheses:
            total, timings = expected[tuple(h.tokens)]
            assert h.score == pytest.approx(total, abs=1e-12)
            assert timings[tuple(h.times)] == pytest.approx(max(timings.values()), abs=1e-12)


@given(st.data())
def test_a_narrow_beam_keeps_the_best_prefixes(data: st.DataObject) -> None:
    """As the textbook: no token left out that could enter the beam, prefixes that come back are merged again."""
    vocab, frames, beam_size = (data.draw(st.integers(low, high)) for low, high in [(2, 12), (1, 25), (1, 6)])
    lp = log_probs(1, frames, vocab, data.draw(st.integers(0, 10**6))).double().log_softmax(-1)
    (found,) = ctc_prefix_beam_search(lp, torch.tensor([frames]), beam_size=beam_size, n_best=beam_size)
    expected = prefix_beam(lp[0].tolist(), beam_size, 0)
    assert {tuple(h.tokens): h.score for h in found} == pytest.approx(expected, abs=1e-10)


def test_a_prefix_may_leave_the_beam_and_come_back() -> None:
    """'a' is dropped while 'ab' stays, then made anew from the empty prefix: 'ab' must not appear twice."""
    seen = 0
    for seed in range(40):
        lp = log_probs(1, 30, 3, seed).double().log_softmax(-1)
        (found,) = ctc_prefix_beam_search(lp, torch.tensor([30]), beam_size=3, n_best=3)
        assert len({tuple(h.tokens) for h in found}) == len(found)
        assert {tuple(h.tokens): h.score for h in found} == pytest.approx(prefix_beam(lp[0].tolist(), 3, 0), abs=1e-10)
        seen += len(found)
    assert seen == 120


def test_the_score_is_that_of_ctc_loss() -> None:
    lp, lengths = log_probs(4, 6, 4), torch.tensor([6, 5, 3, 0])
    for hypotheses, rows, length in zip(
        ctc_prefix_beam_search(lp, lengths, beam_size=1500, n_best=20), lp, lengths, strict=True
    ):
        for h in hypotheses:
            target = torch.tensor([h.tokens], dtype=torch.long)
            loss = F.ctc_loss(rows[:, None], target, length[None], torch.tensor([len(h.tokens)]), reduction="sum")
            assert h.score == pytest.approx(-loss.item(), abs=1e-4)


def test_peaked_outputs_give_the_best_path() -> None:
    lp = (log_probs(5, 40, 9) * 30).log_softmax(-1)
    lengths = torch.tensor([40, 31, 8, 1, 0])
    for (best,), greedy in zip(ctc_prefix_beam_search(lp, lengths), ctc_greedy(lp, lengths), strict=True):
        assert (best.tokens, best.times) == (greedy.tokens, greedy.times)
        assert best.score >= greedy.score - 1e-4


def test_a_batch_is_its_utterances() -> None:
    lp, lengths = log_probs(4, 30, 50), torch.tensor([30, 7, 0, 22])
    together = ctc_prefix_beam_search(lp, lengths, beam_size=8, n_best=8)
    for hypotheses, rows, length in zip(together, lp, lengths, strict=True):
        (alone,) = ctc_prefix_beam_search(rows[None, :length], length[None], beam_size=8, n_best=8)
        assert [(h.tokens, h.times) for h in alone] == [(h.tokens, h.times) for h in hypotheses]
        assert [h.score for h in alone] == pytest.approx([h.score for h in hypotheses], abs=1e-4)
    assert ctc_prefix_beam_search(lp, lengths, beam_size=8) == [hypotheses[:1] for hypotheses in together]


@pytest.mark.parametrize(("batch", "frames"), [(0, 5), (2, 0), (0, 0)])
def test_search_without_frames_or_utterances(batch: int, frames: int) -> None:
    lengths = torch.zeros(batch, dtype=torch.long)
    assert ctc_prefix_beam_search(log_probs(batch, frames, 3), lengths) == [[Hypothesis([], 0.0, [])]] * batch


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_search_dtypes_strides_padding_and_devices(dtype: torch.dtype, device: str) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    lp, lengths = (log_probs(3, 9, 5) * 3).log_softmax(-1), torch.tensor([9, 4, 0])
    expected = ctc_prefix_beam_search(lp, lengths)
    spoilt = lp.masked_fill((torch.arange(9) >= lengths[:, None])[..., None], float("nan"))
    given_ = spoilt.to(device, dtype).mT.contiguous().mT.requires_grad_()
    found = ctc_prefix_beam_search(given_, lengths.to(device).int())
    assert [(h.tokens, h.times) for (h,) in found] == [(h.tokens, h.times) for (h,) in expected]
    assert [h.score for (h,) in found] == pytest.approx([h.score for (h,) in expected], rel=0.02)


def test_a_fused_score_is_added_to_every_labelling() -> None:
    """With a wide beam: CTC's full sum, each token's score, and the score of the end; asked once for each prefix."""
    lp = log_probs(2, 4, 3, seed=3).double().log_softmax(-1)
    lp[1, 2:] = float("nan")
    table = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).double()
    asked: list[Prefix] = []

    def fuse(prefixes: list[list[int]]) -> torch.Tensor:
        assert not torch.is_inference_mode_enabled(), "what it computes may be kept and trained with"
        asked.extend(map(tuple, prefixes))
        return table[[2 * (len(y) > 1) + sum(y) % 2 for y in prefixes]]

    found = ctc_prefix_beam_search(lp, torch.tensor([4, 2]), beam_size=40, n_best=40, fuse=fuse)
    assert asked[0] == ()
    assert len(asked) == len(set(asked))
    for hypotheses, rows in zip(found, (lp[0], lp[1, :2]), strict=True):
        expected = {}
        for y, (total, _) in labellings(rows.tolist(), 0).items():
            steps = [table[2 * (u > 1) + sum(y[:u]) % 2] for u in range(len(y) + 1)]
            expected[y] = total + sum(float(row[v]) for row, v in zip(steps, (*y, 0), strict=True))
        assert {tuple(h.tokens): h.score for h in hypotheses} == pytest.approx(expected, abs=1e-10)
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)


def test_fused_zeros_change_nothing() -> None:
    lp, lengths = log_probs(3, 20, 12), torch.tensor([20, 13, 0])
    plainly = ctc_prefix_beam_search(lp, lengths, beam_size=4, n_best=4)
    fused = ctc_prefix_beam_search(lp, lengths, beam_size=4, n_best=4, fuse=lambda y: torch.zeros(len(y), 12))
    assert [[h.tokens for h in hs] for hs in fused] == [[h.tokens for h in hs] for hs in plainly]


def test_a_language_model_may_count_as_false() -> None:
    class Layers(list):
        def __call__(self, prefixes: list[list[int]]) -> torch.Tensor:
            return torch.tensor([0.0, -torch.inf, -torch.inf, -torch.inf]).expand(len(prefixes), 4)

    (found,) = ctc_prefix_beam_search(log_probs(1, 8, 4), torch.tensor([8]), n_best=4, fuse=Layers())
    assert [h.tokens for h in found] == [[]]


def test_what_is_forbidden_is_not_found() -> None:
    lp, lengths = log_probs(2, 8, 4), torch.tensor([8, 8])
    only_2 = torch.tensor([0.0, -torch.inf, 0.0, -torch.inf])
    for hypotheses in ctc_prefix_beam_search(lp, lengths, n_best=16, fuse=lambda y: only_2.expand(len(y), 4)):
        assert hypotheses
        assert {token for h in hypotheses for token in h.tokens} <= {2}
    never = torch.full((4,), -torch.inf)
    assert ctc_prefix_beam_search(lp, lengths, fuse=lambda y: never.expand(len(y), 4)) == [[], []]


def test_bad_search_is_named(own_messages: None) -> None:
    lp, lengths = log_probs(2, 3, 4), torch.tensor([3, 2])
    with pytest.raises(ValueError, match="n_best=17 must be between 1 and beam_size=16"):
        ctc_prefix_beam_search(lp, lengths, n_best=17)
    with pytest.raises(ValueError, match="n_best=1 must be between 1 and beam_size=0"):
        ctc_prefix_beam_search(lp, lengths, beam_size=0)
    with pytest.raises(ValueError, match=r"blank=-1 is outside the vocabulary of log_probs \(0..3\)"):
        ctc_prefix_beam_search(lp, lengths, blank=-1)
    with pytest.raises(ValueError, match="utterance 1, frame 0: log_probs holds NaN"):
        ctc_prefix_beam_search(lp.index_fill(0, torch.tensor([1]), float("nan")), lengths)
    with pytest.raises(ValueError, match="utterance 0, frame 1: log_probs holds only -inf"):
        ctc_prefix_beam_search(lp.index_fill(1, torch.tensor([1]), -torch.inf), lengths)
    with pytest.raises(ValueError, match=r"fuse must return scores \(1, 4\), \(prefixes, vocab\), got \(1, 3\)"):
        ctc_prefix_beam_search(lp, lengths, fuse=lambda y: torch.zeros(len(y), 3))
    with pytest.raises(TypeError, match=r"fuse must return a tensor of scores, .*, got list"):
        ctc_prefix_beam_search(lp, lengths, fuse=lambda y: [[0.0] * 4] * len(y))  # pyright: ignore[reportArgumentType]
    for sizes in ({"beam_size": 4.0}, {"n_best": 1.5}, {"beam_size": "4"}):
        (name,) = sizes
        with pytest.raises(TypeError, match=f"{name} must be a whole number, got "):
            ctc_prefix_beam_search(lp, lengths, **sizes)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"fuse returned NaN or \+inf for prefix \(\); give log-scores"):
        ctc_prefix_beam_search(lp, lengths, fuse=lambda y: torch.full((len(y), 4), torch.nan))


@given(st.data())
def test_the_best_alignment(data: st.DataObject) -> None:
    """Ragged batches, repeats, empty targets, any blank: no alignment that spells the target is more probable."""
    vocab, frames = data.draw(st.sampled_from([(2, 7), (3, 6), (4, 5)]))
    blank = data.draw(st.integers(0, vocab - 1))
    tokens = st.lists(st.sampled_from([v for v in range(vocab) if v != blank]), max_size=3)
    texts = data.draw(st.lists(tokens, max_size=4))
    needed = [len(y) + sum(a == b for a, b in itertools.pairwise(y)) for y in texts]
    lengths = [data.draw(st.integers(n, frames)) for n in needed]
    lp = log_probs(len(texts), frames, vocab, data.draw(st.integers(0, 10**6))).double().log_softmax(-1)
    width = max(map(len, texts), default=0)
    targets = torch.tensor([[*y, *[-7] * (width - len(y))] for y in texts], dtype=torch.long).view(len(texts), width)
    ints = torch.tensor(lengths, dtype=torch.long), targets, torch.tensor([len(y) for y in texts], dtype=torch.long)
    found = ctc_forced_align(lp, *ints, blank=blank)
    assert found.shape == lp.shape[:2]
    assert found.dtype == torch.long
    assert collapse(found, ints[0], blank) == texts
    for path, rows, length, y in zip(found.tolist(), lp.tolist(), lengths, texts, strict=True):
        assert path[length:] == [blank] * (frames - length)
        best = max(labellings(rows[:length], blank)[tuple(y)][1].values())
        assert alignment_score(rows[:length], path[:length]) == pytest.approx(best, abs=1e-12)


def test_long_targets_and_many_frames() -> None:
    """Beyond one block of back-pointers: the score is that of the best path where that spells the target."""
    lp, lengths = (log_probs(3, 300, 6) * 30).log_softmax(-1), torch.tensor([300, 170, 64])
    greedy = ctc_greedy(lp, lengths)
    counts = torch.tensor([len(h.tokens) for h in greedy])
    targets = torch.nn.utils.rnn.pad_sequence([torch.tensor(h.tokens) for h in greedy], batch_first=True)
    path = ctc_forced_align(lp, lengths, targets, counts)
    assert all(torch.equal(p[:n], rows[:n].argmax(-1)) for p, rows, n in zip(path, lp, lengths, strict=True))


def test_ties_come_early() -> None:
    """Ends in the blank and stays as long as it can: the last token first, then the one before it."""
    lp = torch.full((1, 5, 3), 1 / 3).log()
    assert ctc_forced_align(lp, torch.tensor([5]), torch.tensor([[1, 2]]), torch.tensor([2])).tolist() == [
        [1, 2, 0, 0, 0]
    ]
    assert ctc_forced_align(lp, torch.tensor([5]), torch.tensor([[1, 1]]), torch.tensor([2])).tolist() == [
        [1, 0, 1, 0, 0]
    ]


@pytest.mark.parametrize(("batch", "frames"), [(0, 5), (2, 0), (0, 0)])
def test_alignment_without_frames_or_utterances(batch: int, frames: int) -> None:
    zeros = torch.zeros(batch, dtype=torch.long)
    for width in (0, 2):
        path = ctc_forced_align(log_probs(batch, frames, 3), zeros, zeros[:, None].expand(-1, width), zeros)
        assert path.shape == (batch, frames)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_alignment_dtypes_strides_padding_and_devices(dtype: torch.dtype, device: str) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    lp, lengths = (log_probs(3, 9, 5) * 3).log_softmax(-1), torch.tensor([9, 5, 0])
    targets, counts = torch.tensor([[1, 1, 4, 2], [3, 1, 9, 9], [9, 9, 9, 9]]), torch.tensor([4, 2, 0])
    expected = ctc_forced_align(lp, lengths, targets, counts)
    spoilt = lp.masked_fill((torch.arange(9) >= lengths[:, None])[..., None], float("nan"))
    given_ = spoilt.to(device, dtype).mT.contiguous().mT.requires_grad_()
    found = ctc_forced_align(given_, lengths.to(device).int(), targets.to(device).int(), counts.to(device))
    assert found.device.type == device
    assert not found.requires_grad
    assert not found.is_inference(), "may index what has a gradient"
    assert found.tolist() == expected.tolist()


def test_bad_alignment_is_named(own_messages: None) -> None:
    lp, lengths = log_probs(2, 3, 4), torch.tensor([3, 2])
    targets, counts = torch.tensor([[1, 2], [3, 3]]), torch.tensor([2, 1])
    with pytest.raises(ValueError, match="utterance 1: target needs 3 frames, log_probs has 2"):
        ctc_forced_align(lp, lengths, targets, torch.tensor([2, 2]))
    with pytest.raises(ValueError, match="utterance 1: target 0 is 3, the blank"):
        ctc_forced_align(lp, lengths, targets, counts, blank=3)
    with pytest.raises(ValueError, match="utterance 0: target_lengths is 3, but targets has 2 tokens"):
        ctc_forced_align(lp, lengths, targets, torch.tensor([3, 1]))
    with pytest.raises(ValueError, match="utterance 1, frame 0: log_probs holds NaN"):
        ctc_forced_align(lp.index_fill(0, torch.tensor([1]), float("nan")), lengths, targets, counts)
    with pytest.raises(ValueError, match="utterance 1: targets have probability zero"):
        ctc_forced_align(lp.index_fill(2, torch.tensor([3]), -torch.inf), lengths, targets, counts)


EXAMPLE = str(Path(__file__).parents[2] / "examples" / "ctc_with_language_model.py")


def test_a_word_bigram_mends_the_spelling(capsys: pytest.CaptureFixture) -> None:
    example = runpy.run_path(EXAMPLE, run_name="__main__")
    assert capsys.readouterr().out == "without: we pee the pea\nwith a word bigram: we see the sea\n"
    bigram = example["WordBigram"]("a b . a a", weight=2.0)
    spaced = bigram([[], [2], [2, 1], [2, 1, 3], [2, 1, 25]])
    assert spaced[:, 0].tolist() == pytest.approx([0.0, 0.0, 0.0, 2 * math.log(0.5), -24.0])
    assert torch.equal(spaced[:, 0], spaced[:, 1])
    assert not spaced[:, 2:].any()


@pytest.mark.host
def test_a_causal_model_of_transformers() -> None:
    """Prefixes of unlike length in one call are scored as each would be alone."""
    from transformers import GPT2Config, GPT2LMHeadModel

    example = runpy.run_path(EXAMPLE)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=7, n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=5, eos_token_id=6)
    model = GPT2LMHeadModel(config).eval()
    fuse = example["causal"](model, start=5, end=6)
    together = fuse([[], [1, 2, 3], [4]])
    for row, prefix in zip(together, ([], [1, 2, 3], [4]), strict=True):
        alone = 0.5 * model(torch.tensor([[5, *prefix]])).logits[0, -1].log_softmax(-1)
        assert torch.allclose(row[1:], alone[1:], atol=1e-5)
        assert torch.allclose(row[0], alone[6], atol=1e-5)
    (best,) = ctc_prefix_beam_search(log_probs(1, 20, 7), torch.tensor([20]), fuse=fuse)[0]
    assert math.isfinite(best.score)
