"""The low-latency property against a plain transcription, its law of drawing, and bad input."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from kilter.speech import LowLatency, collapse, low_latency
from tests.speech import plain

PHI = 28


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_alignments(samples: int, batch: int, frames: int, vocab: int = 4, seed: int = 0) -> Tensor:
    """Runs of every kind: few tokens, so that repeats, lone blanks between repeats and all-blank rows abound."""
    return torch.randint(vocab, (samples, batch, frames), generator=generator(seed))


def test_what_is_spelled_stays_and_what_follows_comes_earlier() -> None:
    """Check 2: 10^4 alignments keep what they spell, their frames and their padding; runs after j start one earlier."""
    lengths = torch.tensor([12, 9, 5, 2, 1])
    alignments = random_alignments(2000, 5, 12, vocab=3)
    edited = low_latency(alignments, lengths, generator=generator())
    assert edited.shape == alignments.shape
    assert collapse(edited, lengths) == collapse(alignments, lengths)
    for before, after in zip(alignments.tolist(), edited.tolist(), strict=True):
        for length, a, e in zip(lengths.tolist(), before, after, strict=True):
            assert e[length:] == a[length:]
            a, e = a[:length], e[:length]
            where = [j for j in plain.candidates(a) if plain.without(a, [j]) == e]
            assert where or (a == e and not plain.candidates(a))
            starts = plain.run_starts(a)
            assert not where or any(
                plain.run_starts(e) == [(token, start - (start > j)) for token, start in starts] for j in where
            )


def frequencies(options: dict, draws: int = 8000) -> dict[tuple[int, ...], int]:
    a = torch.tensor([PHI, 0, 0, 1, 1, PHI, PHI]).expand(draws, 1, 7)
    edited = low_latency(a, torch.tensor([7]), blank=PHI, generator=generator(3), **options)
    rows, counts = edited[:, 0].unique(dim=0, return_counts=True)
    return {tuple(row): count for row, count in zip(rows.tolist(), counts.tolist(), strict=True)}


DELETED = {j: tuple(plain.without([PHI, 0, 0, 1, 1, PHI, PHI], [j], PHI)) for j in (0, 2, 4, 6)}


def test_each_candidate_has_its_share() -> None:
    """Check 3: candidates {0, 2, 4, 6} with frequency 1/4 each (chi-square, p > 0.001)."""
    found = frequencies({})
    assert set(found) == set(DELETED.values())
    assert stats.chisquare([found[DELETED[j]] for j in DELETED]).pvalue > 1e-3


def test_the_published_code_never_picks_the_last() -> None:
    """Check 3: `compat` gives 1/3 to the first three candidates and 0 to the last."""
    found = frequencies({"compat": True})
    assert set(found) == {DELETED[j] for j in (0, 2, 4)}
    assert stats.chisquare(list(found.values())).pvalue > 1e-3


def test_other_candidates() -> None:
    assert set(frequencies({"candidates": "nonblank"}, 200)) == {DELETED[2], DELETED[4]}
    assert set(frequencies({"skip_noops": True}, 200)) == {DELETED[0], DELETED[2], DELETED[4]}
    assert set(frequencies({"skip_noops": True, "candidates": "nonblank"}, 200)) == {DELETED[2], DELETED[4]}


def test_several_frames_are_a_uniform_set() -> None:
    """k = 2 draws two distinct candidates, each pair alike."""
    found = frequencies({"frames": 2})
    expected = plain.low_latency_outcomes([PHI, 0, 0, 1, 1, PHI, PHI], PHI, k=2)
    assert set(found) == {tuple(e) for e in expected}
    assert stats.chisquare([found[tuple(e)] for e in expected]).pvalue > 1e-3


@given(st.data())
def test_as_the_transcription(data: st.DataObject) -> None:
    """Ragged lengths, zero and one frame, blanks only, any blank index: what comes out is what may come out."""
    samples, batch, frames = (data.draw(st.integers(low, 4)) for low in (1, 1, 0))
    k, blank, vocab = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2)), data.draw(st.integers(1, 3))
    lengths = data.draw(st.lists(st.integers(0, frames), min_size=batch, max_size=batch))
    alignments = random_alignments(samples, batch, frames, vocab, data.draw(st.integers(0, 10**6)))
    edited = low_latency(alignments, torch.tensor(lengths), blank=blank, frames=k, generator=generator())
    for before, after in zip(alignments.tolist(), edited.tolist(), strict=True):
        for length, a, e in zip(lengths, before, after, strict=True):
            assert e[:length] in plain.low_latency_outcomes(a[:length], blank, k)
            assert e[length:] == a[length:]


def test_nothing_to_delete() -> None:
    a = torch.tensor([[[1, 0, 1, 2]]])
    assert torch.equal(low_latency(a, torch.tensor([4])), a)
    one = torch.tensor([[[0, 1, 2, 3]]])  # exactly one candidate: the published code crashes here
    assert low_latency(one, torch.tensor([4])).tolist() == [[[1, 2, 3, 0]]]
    assert torch.equal(low_latency(one, torch.tensor([4]), compat=True), one)


def test_compat_works_on_the_padding_too() -> None:
    """The published code shifts over the padded length, so a padded token may be pulled into the utterance."""
    a = torch.tensor([[[1, 1, 2, 0, 0]]]).expand(200, 1, 5)
    lengths = torch.tensor([2])
    assert set(map(tuple, low_latency(a, lengths, compat=True)[:, 0].tolist())) == {(1, 2, 0, 0, 0)}
    assert set(map(tuple, low_latency(a, lengths)[:, 0].tolist())) == {(1, 0, 2, 0, 0)}


def test_sizes_of_nothing() -> None:
    for shape in [(0, 2, 3), (2, 0, 3), (2, 2, 0)]:
        a = torch.zeros(shape, dtype=torch.long)
        assert low_latency(a, torch.zeros(shape[1], dtype=torch.long)).shape == shape


def test_the_input_stays_and_strides_and_dtypes_do_not_matter() -> None:
    a = random_alignments(3, 2, 8)
    before, lengths = a.clone(), torch.tensor([8, 5])
    expected = low_latency(a, lengths, generator=generator())
    assert torch.equal(a, before)
    assert torch.equal(low_latency(a.mT.contiguous().mT, lengths, generator=generator()), expected)
    assert torch.equal(low_latency(a, lengths.int(), generator=generator()), expected)
    small = low_latency(a.int(), lengths, generator=generator())
    assert small.dtype == torch.int32
    assert torch.equal(small.long(), expected)


def test_on_every_device(device: str) -> None:
    a, lengths = random_alignments(50, 3, 9).to(device), torch.tensor([9, 4, 1]).to(device)
    edited = low_latency(a, lengths, generator=torch.Generator(device).manual_seed(0))
    assert edited.device.type == device
    assert collapse(edited, lengths) == collapse(a, lengths)


def test_the_class_is_the_function() -> None:
    a, lengths = random_alignments(5, 2, 8), torch.tensor([8, 6])
    options = {"blank": 1, "frames": 2, "candidates": "nonblank", "skip_noops": True, "compat": True}
    expected = low_latency(a, lengths, **options, generator=generator())
    assert torch.equal(LowLatency(**options)(a, lengths, generator=generator()), expected)
    assert torch.equal(LowLatency(**options)(a, lengths, ["not", "needed"], generator()), expected)


def test_bad_input_is_named(own_messages: None) -> None:
    a, lengths = random_alignments(1, 2, 4), torch.tensor([4, 4])
    with pytest.raises(ValueError, match="frames must be at least 1, got 0"):
        low_latency(a, lengths, frames=0)
    with pytest.raises(ValueError, match="candidates must be one of repeats, nonblank, got 'letters'"):
        low_latency(a, lengths, candidates="letters")  # ty: ignore
    with pytest.raises(ValueError, match=r"utterance 1: input_lengths is 5, but alignments has 4 frames"):
        low_latency(a, torch.tensor([4, 5]))
    with pytest.raises(TypeError, match="input_lengths must be integers"):
        low_latency(a, torch.tensor([4.0, 2.0]))
    with pytest.raises(TypeError, match="alignments must hold token ids"):
        low_latency(a.float(), lengths)
    with pytest.raises(ValueError, match=r"alignments must be \(samples, batch, time\)"):
        low_latency(a[0], lengths)
