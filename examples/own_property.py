"""Your own idea of a better alignment: a function of a few lines.

python examples/own_property.py
"""

import torch

from kilter.speech import AlignWithPurpose

FRAME_MS = 40
S, Z = 5, 9  # ids of two letters in your vocabulary


def quiet_start(alignments):
    """Emit nothing in the first 200 ms."""
    edited = alignments.clone()
    edited[..., : 200 // FRAME_MS] = 0  # the blank
    return edited


def prefer_s(alignments):
    """Prefer the spelling with s ("organise") where the model wavers between s and z."""
    return alignments.masked_fill(alignments == Z, S)


def improve(purpose, steps: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities before and after: of anything in the first frames, and of z."""
    torch.manual_seed(0)
    logits = torch.randn(2, 30, 12, requires_grad=True)
    lengths = torch.tensor([30, 24])
    optimiser = torch.optim.Adam([logits], lr=0.1)
    awp = AlignWithPurpose(purpose, margin=0.5)  # not merely as probable as before: clearly more
    before = logits.detach().softmax(-1)
    for _ in range(steps):
        loss = awp(logits.log_softmax(-1), lengths).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return before, logits.detach().softmax(-1)


if __name__ == "__main__":
    before, after = improve(quiet_start)
    print(
        f"a token in the first 200 ms: {1 - before[:, :5, 0].mean():.2f} before, {1 - after[:, :5, 0].mean():.2f} after"
    )
    before, after = improve(prefer_s)
    print(f"z in any frame: {before[0, :, Z].mean():.2f} before, {after[0, :, Z].mean():.2f} after")
