"""Align With Purpose in a training loop of your own: one line more.

python examples/raw_loop.py
"""

import torch
from torch.nn import functional as F

from kilter.speech import AlignWithPurpose, LowLatency

torch.manual_seed(0)
model = torch.nn.GRU(20, 16, batch_first=True)
head = torch.nn.Linear(16, 8)
optimiser = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=1e-2)
awp = AlignWithPurpose(LowLatency())

features, input_lengths = torch.randn(4, 50, 20), torch.tensor([50, 45, 40, 38])
targets, target_lengths = torch.randint(1, 8, (4, 6)), torch.tensor([6, 6, 5, 4])

for step in range(5):
    log_probs = head(model(features)[0]).log_softmax(-1)  # (batch, time, vocab)
    ctc = F.ctc_loss(log_probs.transpose(0, 1), targets, input_lengths, target_lengths)
    out = awp(log_probs, input_lengths)
    loss = ctc + 1.0 * out.loss
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    print(f"step {step}: ctc {ctc:.3f}, awp {out.loss:.4f}, edited {out.stats['awp_edited']:.2f}")
