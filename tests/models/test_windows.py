"""Long recordings in windows: the frames of the whole, where the network sees no further than the margin."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kilter.models.aligning import align
from kilter.models.frames import Frames, noise
from kilter.models.recogniser import Recogniser
from kilter.models.windows import Windows
from kilter.ops import ctc_viterbi
from kilter.speech import ctc_forced_align
from tests.models.families import speech_model
from tests.own import word_model

pytestmark = pytest.mark.host


@given(
    frames=st.integers(1, 400),
    rest=st.integers(0, 19),
    size=st.floats(0.5, 9),
    share=st.floats(0, 0.49),
    span=st.integers(1, 45),
)
def test_every_frame_is_kept_once(frames: int, rest: int, size: float, share: float, span: int) -> None:
    """Whatever the sizes; and a window has all that its frames are made of."""
    counted = Frames(shift=20.0, first=span, least=span, step=20, span=span)
    entries = (frames - 1) * 20 + span + rest
    kept: list[int] = []
    for part, inner in Windows(size, share * size).cut(entries, counted, 1000):
        assert part.start % 20 == 0
        first = part.start // 20
        kept += [first + place for place in range(*inner.indices(counted.count(part.stop - part.start)))]
    assert kept == [*range(frames)]


@pytest.mark.parametrize(
    ("seconds", "margin", "said"),
    [(0.0, 0.0, "above 0"), (float("nan"), 1.0, "above 0"), (10.0, 5.0, "less than half"), (10.0, -1.0, "at least 0")],
)
def test_windows_that_leave_nothing_are_refused(seconds: float, margin: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Windows(seconds, margin)


NEAR: dict[str, dict[str, Any]] = {
    "kilter": {},
    "wav2vec2": {},
    "wavlm": {"mask": False},
    "wav2vec2-bert": {},
    "sew": {},
    "parakeet_ctc": {},
    "lasr_ctc": {},
    "omniasr_ctc": {},
    "wav2vec2-conformer": {"adapter": 2},
    "data2vec-audio": {},
}


def hear(recogniser: Recogniser, audio: np.ndarray, windows: Windows) -> torch.Tensor:
    recogniser.windows = windows
    log_probs, (frames,), *_ = recogniser.outputs([{"audio": audio}])
    return log_probs[0, :frames]


@pytest.mark.parametrize("family", NEAR)
def test_windows_give_the_whole(family: str) -> None:
    """Normalised as one: the recording becomes ten times as loud, which a window by itself does not see."""
    recogniser = speech_model(family, layers=0, **NEAR[family])
    audio = noise(int(9.7 * recogniser.rate))
    audio[len(audio) // 2 :] *= 10
    whole = hear(recogniser, audio, Windows(60.0, 1.0))
    parts = hear(recogniser, audio, Windows(5.5, 2.0))
    assert len(whole) == recogniser.frames.count(len(audio))
    torch.testing.assert_close(parts, whole, atol=2e-5, rtol=0)
    cut = torch.cat([hear(recogniser, part, Windows(60.0, 1.0)) for part in np.array_split(audio, 3)])
    assert (len(cut) != len(whole)) or not torch.allclose(cut, whole, atol=2e-5)  # else this shows nothing


@pytest.mark.parametrize("options", [{}, {"group": True, "mask": False}], ids=["attention", "group norm"])
def test_what_sees_the_whole_is_heard_a_little_otherwise(options: dict[str, Any]) -> None:
    """As `docs/word-times.md` says: as many frames, and other numbers."""
    recogniser = speech_model("wav2vec2", **options)
    audio = noise(80_000)
    whole, parts = (hear(recogniser, audio, Windows(size, 1.0)) for size in (60.0, 3.0))
    assert len(whole) == len(parts)
    assert 1e-5 < float((whole - parts).abs().max()) < 0.5


@pytest.fixture
def spoken(tmp_path: Path) -> Recogniser:
    return Recogniser.load(word_model(tmp_path / "model"))


def tones(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(int(8000 * seconds)) / 8000
    pitch = 400 * rng.integers(1, 9, size=len(time))[(10 * time).astype(int)]
    return (0.1 * np.sin(2 * np.pi * pitch * time) + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def test_words_of_a_long_recording_are_those_of_the_whole(spoken: Recogniser) -> None:
    text = " ".join(np.random.default_rng(0).choice(["one", "two", "three"], 40))
    long = {"id": "long", "audio": tones(20), "text": text}
    short = {"id": "short", "audio": tones(1, seed=1), "text": "one two"}
    rows = [short, long, {**long, "text": ""}, short]
    whole, heard = [*align(spoken, rows)], [*spoken.hear(rows)]
    spoken.windows = Windows(6.0, 2.0)
    parts = [*align(spoken, rows)]
    for one, other in zip(whole, parts, strict=True):
        assert [word[:3] for word in one.words] == [word[:3] for word in other.words]
        assert [word.score for word in one.words] == pytest.approx([word.score for word in other.words], rel=1e-4)
    assert len(parts[1].words) == 40
    assert len(parts[2].words) > 20
    assert [*spoken.hear(rows)] == heard


def test_frames_that_are_not_even_are_not_cut(spoken: Recogniser) -> None:
    spoken.__dict__["frames"] = Frames(240.5, 360, 360, 240, 360, foretold=False)
    spoken.windows = Windows(1.0, 0.1)
    with pytest.raises(ValueError, match="not evenly spaced; cut the recording into shorter ones"):
        spoken.outputs([{"id": "a", "audio": noise(16_000)}])


@pytest.mark.parametrize("held", [1, 30, 500])
def test_an_alignment_in_blocks_is_that_of_the_whole(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties, lengths of all kinds, targets that take every frame, and none."""
    draw = torch.Generator().manual_seed(held)
    for batch, frames, tokens in ((4, 40, 6), (2, 101, 12), (1, 64, 20), (3, 7, 2), (2, 30, 0), (1, 1, 1)):
        lengths = torch.randint(frames // 2 + 1, frames + 1, (batch,), generator=draw)
        counts = torch.randint(0, min(tokens, int(lengths.min()) // 2) + 1, (batch,), generator=draw)
        targets = torch.randint(1, 4, (batch, tokens), generator=draw)
        log_probs = torch.randn(batch, frames, 4, generator=draw).round().log_softmax(-1)
        whole = ctc_viterbi.best_alignments(log_probs, lengths, targets, counts, 0)
        with monkeypatch.context() as patch:
            patch.setattr(ctc_viterbi, "_WHOLE", held)
            patch.setattr(ctc_viterbi, "_CHUNK", held)
            parts = ctc_viterbi.best_alignments(log_probs, lengths, targets, counts, 0)
        assert torch.equal(whole[0], parts[0])
        assert torch.equal(whole[1], parts[1])


def test_a_sum_over_many_frames_keeps_small_differences() -> None:
    """In float32 the end of 40,000 frames is off by more than what tells two ways apart here."""
    frames = 40_000
    log_probs = torch.full((1, frames, 3), 0.2).log()
    log_probs[..., 0] = torch.tensor(0.6).log()
    log_probs[0, frames - 100, 1] += 1e-3  # the token is best said here
    path = ctc_forced_align(log_probs, torch.tensor([frames]), torch.tensor([[1]]), torch.tensor([1]))
    assert path[0].nonzero().flatten().tolist() == [frames - 100]


HOUR = """
import resource, sys
import numpy as np, torch
from kilter.models.aligning import align
from kilter.models.recogniser import Recogniser
from kilter.models.small_speech import letter_tokenizer

torch.set_num_threads(1)
torch.manual_seed(0)
made = Recogniser.small(letter_tokenizer("abcdefgh"), "residual", 8000, hidden_size=16, stack=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rng = np.random.default_rng(0)
text = " ".join("".join(rng.choice([*"abcdefgh"], 5)) for _ in range(int(sys.argv[2])))
audio = rng.standard_normal(8000 * int(sys.argv[1]), dtype=np.float32)
(found,) = align(made, [{"id": "long", "audio": audio, "text": text}])
assert len(found.words) == int(sys.argv[2]), found.problem
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is told in other units, or not at all")
@pytest.mark.parametrize(("seconds", "words"), [("600", "2700"), ("900", "4000")])
def test_memory_is_bounded(seconds: str, words: str) -> None:
    """The lattice of a quarter of an hour with 4,000 words would take 8.6 GB, and that of ten minutes 3.9.

    Blocks of the latter are so small that the allocator does not give them back.
    """
    done = subprocess.run([sys.executable, "-c", HOUR, seconds, words], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 700
