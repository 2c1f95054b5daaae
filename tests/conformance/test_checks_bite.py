"""The conformance checks find what they are for: one faulty objective for each."""

import pytest
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from kilter.core import LossOutput, Objective
from kilter.core.masking import length_mask
from tests.conformance.case import Case
from tests.conformance.checks import CHECKS


class Faulty(Objective):
    """Mean squared log-probability of the valid frames, with one fault or none."""

    def __init__(self, *, fault: str = "") -> None:
        super().__init__()
        self.fault = "" if fault == "config_rebuilds" else fault
        self.noise = torch.rand(()) if fault in ("state_dict_restores", "config_rebuilds") else torch.ones(())
        self.unpicklable = (lambda: 0) if fault == "pickles" else None

    def forward(
        self,
        log_probs: Float[Tensor, "batch time vocab"],
        input_lengths: Int[Tensor, " batch"],
        generator: Generator | None = None,
    ) -> LossOutput:
        fault, given = self.fault, log_probs
        if fault == "inputs_stay_as_they_were":
            log_probs.data.add_(1)
        dtype = log_probs.dtype if fault == "half_precision" else torch.promote_types(log_probs.dtype, torch.float32)
        valid = length_mask(input_lengths, log_probs.shape[1])
        if fault != "nan_in_the_padding_does_not_matter":
            log_probs = log_probs.masked_fill(~valid[..., None], 0.0)
        frames = log_probs.to(dtype).square().mean(-1)
        frames = frames + 1.0 if fault == "padding_does_not_matter" else frames * valid
        loss = (frames.sum(-1) / input_lengths).mean()
        if fault == "gradients":
            loss = loss + loss.detach()
        if fault == "batch_order_does_not_matter":
            loss = loss + frames[0].sum()
        if fault == "strides_do_not_matter":
            loss = loss + given.as_strided((2,), (1,)).sum()
        if fault == "same_seed_same_value":
            loss = loss * torch.rand(())
        loss = loss * self.noise.to(dtype)
        parts = {"a": loss / 2 if fault == "parts_sum_to_the_loss" else loss}
        return LossOutput(loss, parts, {"s": loss if fault == "stats_are_detached" else loss.detach()})


def test_a_sound_objective_passes() -> None:
    for name, check in CHECKS.items():
        if name != "documented":
            check(Case(Faulty))


@pytest.mark.parametrize("name", CHECKS)
def test_a_faulty_one_does_not(name: str) -> None:
    with pytest.raises((AssertionError, RuntimeError, AttributeError)):
        CHECKS[name](Case(lambda: Faulty(fault=name)))
