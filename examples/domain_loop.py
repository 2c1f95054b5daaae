"""Domains whose weights follow a target, in a training loop of your own.

python examples/domain_loop.py
"""

import torch
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset
from transformers import GPT2Config, GPT2LMHeadModel

from kilter.pretraining import DomainMixture, DynamicGradientAlignment, gradient_alignments


def loss_fn(model, batch):
    return model(input_ids=batch[0], labels=batch[0]).loss  # the mean per token


def some(domain, size):
    return next(iter(DataLoader(domain, size, shuffle=True)))


torch.manual_seed(0)
domains = [TensorDataset(torch.randint(20 * i, 20 * i + 30, (200, 32))) for i in range(4)]
target = TensorDataset(torch.randint(45, 65, (50, 32)))  # most like the third
sizes = {"vocab_size": 100, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, loss_type="ForCausalLM"))
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)

mixture = DomainMixture([len(domain) for domain in domains])
dga = DynamicGradientAlignment(mixture, step_size=1.0, every=10)
for step, batch in enumerate(DataLoader(ConcatDataset(domains), 16, sampler=mixture), start=1):
    loss_fn(model, batch).backward()
    optimiser.step()
    optimiser.zero_grad()
    if step % dga.every == 0:
        batches = [some(domain, 8) for domain in domains]
        weights = dga.update(gradient_alignments(model, loss_fn, batches, some(target, 16)))
        print(f"step {step}: weights {', '.join(f'{weight:.2f}' for weight in weights)}")
