"""Every family of CTC models: frames, their times and lengths, and that a batch gives what a single recording gives."""

from typing import Any

import numpy as np
import pytest
import torch

from kilter.hosts.transformers import align_ctc
from kilter.models.frames import Frames, find_frames, hears_padding, noise
from kilter.models.recogniser import Recogniser
from tests.models.families import speech_model

pytestmark = [
    pytest.mark.host,
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask"),  # WavLM's own
]

KINDS: dict[str, tuple[str, dict[str, Any], int]] = {
    "kilter": ("kilter", {}, 240),
    "wav2vec2": ("wav2vec2", {}, 320),
    "wav2vec2, group norm": ("wav2vec2", {"group": True, "mask": False}, 320),
    "wav2vec2, group norm and a mask": ("wav2vec2", {"group": True}, 320),
    "wav2vec2 without a mask": ("wav2vec2", {"mask": False}, 320),
    "wav2vec2, adapter": ("wav2vec2", {"adapter": 1}, 640),
    "wav2vec2, three adapters": ("wav2vec2", {"adapter": 3}, 2560),
    "hubert": ("hubert", {}, 320),
    "hubert, group norm": ("hubert", {"group": True, "mask": False}, 320),
    "wavlm": ("wavlm", {}, 320),
    "wavlm, adapter": ("wavlm", {"adapter": 2}, 1280),
    "unispeech": ("unispeech", {}, 320),
    "unispeech-sat": ("unispeech-sat", {"group": True, "mask": False}, 320),
    "sew": ("sew", {}, 320),
    "sew-d": ("sew-d", {"mask": False}, 320),
    "data2vec-audio": ("data2vec-audio", {}, 320),
    "data2vec-audio, adapter": ("data2vec-audio", {"adapter": 1}, 640),
    "wav2vec2-conformer": ("wav2vec2-conformer", {}, 320),
    "wav2vec2-bert": ("wav2vec2-bert", {}, 320),
    "wav2vec2-bert, adapter": ("wav2vec2-bert", {"adapter": 1}, 640),
    "parakeet_ctc": ("parakeet_ctc", {}, 1280),
    "lasr_ctc": ("lasr_ctc", {}, 640),
    "granite_speech5_ctc": ("granite_speech5_ctc", {}, 1280),
    "omniasr_ctc": ("omniasr_ctc", {}, 320),
}


@pytest.fixture(params=KINDS, scope="module")
def kind(request: pytest.FixtureRequest) -> tuple[Recogniser, int]:
    family, options, shift = KINDS[request.param]
    return speech_model(family, **options), shift


def test_no_family_is_forgotten() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING_NAMES

    assert {family for family, _, _ in KINDS.values()} == {*MODEL_FOR_CTC_MAPPING_NAMES, "kilter"}


def test_frames_of_any_length_are_foretold(kind: tuple[Recogniser, int]) -> None:
    recogniser, shift = kind
    frames = recogniser.frames
    assert frames.foretold
    assert frames.shift == shift
    for samples in (frames.least, frames.least + 1, 4001, 12_345, 16_000, 23_987):
        assert recogniser.outputs([{"audio": noise(samples)}])[1].tolist() == [frames.count(samples)]
    with pytest.raises(ValueError, match=f"^a: {frames.least - 1} samples at .* no frame, which takes {frames.least};"):
        recogniser.outputs([{"id": "a", "audio": noise(frames.least - 1)}])


def test_a_batch_gives_what_a_single_recording_gives(kind: tuple[Recogniser, int]) -> None:
    recogniser, shift = kind
    rows = [{"audio": noise(samples, place)} for place, samples in enumerate((3000, 16_000, 9999, 16_000, 24_001))]
    log_probs, lengths, seconds, _ = recogniser.outputs(rows)
    assert log_probs.dtype == torch.float32
    assert seconds == shift / recogniser.rate
    for row, found, frames in zip(rows, log_probs, lengths, strict=True):
        alone, (count,), *_ = recogniser.outputs([row])
        assert frames == count
        torch.testing.assert_close(found[:frames], alone[0, :frames], atol=2e-5, rtol=0)


def test_frames_lie_within_the_recording(kind: tuple[Recogniser, int]) -> None:
    """As many as fit, and the last one begins before the end."""
    recogniser, _ = kind
    seconds, offset = recogniser.frame_times
    for samples in (16_000, 23_987):
        frames = recogniser.frames.count(samples)
        duration = samples / recogniser.rate
        assert offset + seconds * (frames - 1) < duration < seconds * (frames + 4)


def test_lengths_of_training_are_those_of_single_recordings(kind: tuple[Recogniser, int]) -> None:
    """What an objective is given in a padded batch; without a mask the model's own loss counts the padding too."""
    recogniser, _ = kind
    lengths = [16_000, 9999, 12_000]
    inputs = recogniser._inputs([noise(samples) for samples in lengths])
    seen: dict[str, Any] = {}
    model = recogniser.model
    before = model.loss_function
    model.loss_function = lambda **given: seen.update(given) or given["logits"].sum()
    try:
        masked = any(name.endswith("mask") for name in inputs)
        if masked or "input_values" in inputs:  # of features without a mask, the families' own loss fails
            model(**inputs, labels=torch.ones(3, 2, dtype=torch.long))
            expected = recogniser.frame_counts(lengths if masked else [max(lengths)] * 3)
            assert seen["logit_lengths"].tolist() == expected
    finally:
        model.loss_function = before


def test_the_blank_is_what_the_settings_call_so() -> None:
    model = speech_model("omniasr_ctc").model
    model.config.blank_token_id = 7
    assert Recogniser(model, None, None).blank == 7
    assert speech_model("parakeet_ctc").blank == 11


def test_what_is_tried_leaves_the_model_as_it_was() -> None:
    recogniser = speech_model("wav2vec2")
    model = recogniser.model.train()
    model.wav2vec2.feature_extractor.eval()  # as where it is frozen
    before = {name: part.training for name, part in model.named_modules()}
    state = torch.get_rng_state()
    assert not recogniser.hears_padding
    assert {name: part.training for name, part in model.named_modules()} == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("shift", "first"), [(320, 400), (1280, 160), (640, 2320), (16, 16), (7, 100), (2560, 400), (320, 1)]
)
def test_any_even_spacing_is_found(shift: int, first: int) -> None:
    found = find_frames(lambda samples: (max(0, (samples - first) // shift + 1), samples // 10, True), 16_000)
    assert (found.shift, found.first, found.least) == (shift, first, first)
    assert [found.count(first + 10 * shift - 1), found.count(first + 10 * shift)] == [10, 11]


def test_what_is_too_short_to_be_read_is_found() -> None:
    def tried(samples: int) -> tuple[int, int, bool]:
        if samples < 1000:
            raise RuntimeError("Calculated padded input size per channel: (9). Kernel size: (10)")
        return samples // 320, samples, True

    found = find_frames(tried, 16_000)
    assert (found.least, found.count(999), found.count(1000)) == (1000, 0, 3)


def test_what_is_too_short_for_a_number_is_found() -> None:
    """As features that are scaled by the spread of a single one."""
    found = find_frames(lambda samples: (samples // 320, samples, samples >= 640), 16_000)
    assert (found.first, found.least) == (320, 640)
    broken = find_frames(lambda samples: (samples // 320, samples, False), 16_000)
    assert (broken.first, broken.least) == (320, 320)


def test_memory_is_not_taken_for_shortness() -> None:
    def tried(samples: int) -> tuple[int, int, bool]:
        if samples < 1000:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return samples // 320, samples, True

    with pytest.raises(RuntimeError, match="can't allocate"):
        find_frames(tried, 16_000)


def test_uneven_spacing_is_not_foretold() -> None:
    found = find_frames(lambda samples: (int(samples**0.5) // 4, samples, True), 16_000)
    assert not found.foretold
    with pytest.raises(ValueError, match=r"makes 1 frames of .* is this its rate\?"):
        find_frames(lambda samples: (1, samples, True), 16_000)


def test_a_little_padding_is_heard_too() -> None:
    """One frame that differs by a hundredth is enough; rounding is not."""
    frames = Frames(shift=320.0, first=400, least=400, step=320, span=400)

    def hear(leak: float) -> Any:
        def say(audio: Any) -> tuple[torch.Tensor, torch.Tensor]:
            counts = [frames.count(len(one)) for one in audio]
            found = torch.zeros(len(audio), max(counts), 5)
            for row, (one, count) in enumerate(zip(audio, counts, strict=True)):
                levels = torch.from_numpy(np.stack([one[320 * t : 320 * t + 400][:5] for t in range(count)]))
                found[row, :count] = levels.log_softmax(-1)
                if count < max(counts):
                    found[row, count - 1, 0] += leak
            return found, torch.tensor(counts)

        return say

    assert hears_padding(hear(1e-2), frames, 16_000)
    assert not hears_padding(hear(1e-7), frames, 16_000)


def test_an_objective_is_given_what_the_loss_is_given() -> None:
    """Through `align_ctc`, an adapter's frames and a mask's lengths."""
    recogniser = speech_model("wav2vec2", adapter=2)
    seen: dict[str, Any] = {}

    from kilter.core.objective import LossOutput, Objective

    class Spy(Objective):
        inputs = ("log_probs", "input_lengths")

        def config(self) -> dict[str, Any]:
            return {}

        def forward(self, log_probs: torch.Tensor, input_lengths: torch.Tensor) -> LossOutput:
            seen.update(frames=log_probs.shape[1], lengths=input_lengths.tolist())
            loss = 0.0 * log_probs.sum()
            return LossOutput(loss, {"spy": loss}, {})

    handle = align_ctc(recogniser.model.train(), Spy(), weight=1.0)
    try:
        inputs = recogniser._inputs([noise(16_000), noise(9000)])
        recogniser.model(**inputs, labels=torch.ones(2, 2, dtype=torch.long))
    finally:
        handle.detach()
    assert seen == {"frames": 13, "lengths": [13, 7]}
