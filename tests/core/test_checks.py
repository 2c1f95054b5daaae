"""Bad tensors are named: the argument, the utterance, the mend."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kilter.core.checks import at_least, check_log_probs, check_targets, lengths_fit, mask_fits, whole
from kilter.core.errors import extra, suggest
from kilter.core.masking import length_mask

FRAMES = torch.tensor([4, 3])
TARGETS = torch.tensor([[1, 2, 2], [3, 1, -100]])
LENGTHS = torch.tensor([3, 2])


def check(targets: torch.Tensor = TARGETS, lengths: torch.Tensor = LENGTHS, frames: torch.Tensor = FRAMES) -> None:
    check_targets(frames, targets, lengths, vocab=4, blank=0)


def test_good_targets_pass_whatever_the_padding() -> None:
    check()
    check(TARGETS.int(), LENGTHS.int(), FRAMES.int())
    check(torch.zeros(2, 0, dtype=torch.long), torch.tensor([0, 0]), torch.tensor([0, 0]))
    check(torch.full((2, 3), 99), torch.tensor([0, 0]), torch.tensor([0, 0]))
    check(torch.ones(2, 3, dtype=torch.long), torch.tensor([1, 1]), torch.tensor([1, 1]))
    check(torch.zeros(0, 3, dtype=torch.long), LENGTHS[:0], FRAMES[:0])


def test_bad_targets_are_named() -> None:
    with pytest.raises(ValueError, match="utterance 0: target 1 is 0, the blank; check the labels' tokenizer"):
        check(torch.tensor([[1, 0, 2], [3, 1, 0]]))
    with pytest.raises(ValueError, match=r"utterance 1: target 0 is 4, outside the vocabulary 0..3"):
        check(torch.tensor([[1, 2, 2], [4, 1, 0]]))
    with pytest.raises(ValueError, match=r"utterance 1: target 1 is -100, outside the vocabulary 0..3"):
        check(torch.tensor([[1, 2, 2], [3, -100, -100]]))
    with pytest.raises(ValueError, match="utterance 0: target needs 4 frames, log_probs has 3; leave the utter"):
        check(frames=torch.tensor([3, 3]))
    with pytest.raises(ValueError, match="utterance 1: target needs 2 frames, log_probs has 0"):
        check(frames=torch.tensor([4, 0]))
    with pytest.raises(ValueError, match="utterance 0: target_lengths is 4, but targets has 3 tokens"):
        check(lengths=torch.tensor([4, 2]))
    with pytest.raises(ValueError, match="utterance 1: target_lengths is -1"):
        check(lengths=torch.tensor([3, -1]))
    with pytest.raises(TypeError, match="target_lengths must be integers"):
        check(lengths=torch.tensor([3.0, 2.0]))
    with pytest.raises(ValueError, match=r"target_lengths must have shape \(2,\)"):
        check(lengths=torch.tensor([3]))
    with pytest.raises(ValueError, match=r"targets must be \(batch, tokens\), got shape \(5,\)"):
        check(torch.tensor([1, 2, 2, 3, 1]))


@given(st.data())
def test_frames_needed_are_those_of_ctc(data: st.DataObject) -> None:
    """A target passes exactly when some alignment spells it, that is when torch's CTC loss is finite."""
    target = data.draw(st.lists(st.integers(1, 2), max_size=4))
    frames = data.draw(st.integers(1, 6))
    loss = torch.nn.functional.ctc_loss(
        torch.zeros(frames, 1, 3).log_softmax(-1),
        torch.tensor([target or [1]]),
        torch.tensor([frames]),
        torch.tensor([len(target)]),
        reduction="sum",
    )
    given = torch.tensor([frames]), torch.tensor([target or [1]]), torch.tensor([len(target)])
    if loss.isfinite():
        check_targets(*given, vocab=3, blank=0)
    else:
        with pytest.raises(ValueError, match="utterance 0: target needs"):
            check_targets(*given, vocab=3, blank=0)


def test_values_on_an_accelerator_are_not_read() -> None:
    """Shapes and dtypes are checked, values are not: reading one would wait for the device (here: meta)."""
    lengths = torch.tensor([9, 9], device="meta")
    check_log_probs(torch.zeros(2, 4, 3, device="meta"), lengths, 0)
    check_targets(lengths, TARGETS.to("meta"), lengths, vocab=2, blank=1)
    with pytest.raises(ValueError, match="blank=3"):
        check_log_probs(torch.zeros(2, 4, 3, device="meta"), lengths, 3)
    with pytest.raises(ValueError, match="shape"):
        lengths_fit("input_lengths", lengths, 3, 4, "log_probs", "frames")


def test_a_mask_that_does_not_fit_is_named() -> None:
    mask_fits("mask", torch.ones(2, 3).bool(), (2, 3), "anchor")
    with pytest.raises(TypeError, match=r"mask must be boolean, got torch\.int64; use \.bool\(\)"):
        mask_fits("mask", torch.ones(2, 3).long(), (2, 3), "anchor")
    with pytest.raises(ValueError, match=r"mask must be shaped like anchor \(2, 3\), got \(2, 4\)"):
        mask_fits("mask", torch.ones(2, 4).bool(), (2, 3), "anchor")


def test_numbers_that_are_none_are_named() -> None:
    """Truth values are no counts; numbers of numpy are numbers."""
    whole("n", np.int64(3), 1)
    at_least("weight", np.float32(0.5), 0)
    with pytest.raises(TypeError, match="n must be a whole number, got True"):
        whole("n", True)
    with pytest.raises(TypeError, match="weight must be a number, got '1'"):
        at_least("weight", "1", 0)
    for value in (float("inf"), float("nan"), -1.0):
        with pytest.raises(ValueError, match="weight must be at least 0 and finite, got"):
            at_least("weight", value, 0)


def test_masks() -> None:
    assert length_mask(torch.tensor([0, 2]), 2).tolist() == [[False, False], [True, True]]
    assert length_mask(torch.tensor([], dtype=torch.long), 2).shape == (0, 2)


def test_hints() -> None:
    assert suggest("nothing like it", ["a", "b"]) == "; there are: a, b"
    assert extra("math", "speech").sqrt(4) == 2
    with pytest.raises(ModuleNotFoundError, match=r"no_such_module is missing: pip install .*\[speech\]"):
        extra("no_such_module", "speech")
