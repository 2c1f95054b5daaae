"""Two lines in a training script of transformers: a small GPT-2 for texts longer than those of its training.

python examples/longer_texts.py TEXT OUT [STEPS]
"""

import sys
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from kilter.hosts.transformers import LogPositionParts, load
from kilter.pretraining import SeqPE, attach

text, out, steps = sys.argv[1], sys.argv[2], int((sys.argv[3:] or ["500"])[0])
blocks = torch.tensor([*Path(text).read_bytes()]).unfold(0, 128, 128)  # a byte is a token, so no tokenizer is needed

config = GPT2Config(vocab_size=256, n_positions=128, n_embd=128, n_layer=4, n_head=4, bos_token_id=10, eos_token_id=10)
model = attach(GPT2LMHeadModel(config), SeqPE(max_position=20_000))  # the one line

arguments = TrainingArguments(out, max_steps=steps, learning_rate=1e-3, logging_steps=10, report_to="none")
rows = [{"input_ids": block, "labels": block} for block in blocks]
trainer = Trainer(model, arguments, train_dataset=rows, callbacks=[LogPositionParts()])  # logs what it adds to the loss
trainer.train()

model.save_pretrained(out)
model = load(out)  # AutoModel refuses it: it would read a model without positions
begin = blocks[:8].flatten()[None]  # 8 times as long as any text of the training
written = model.generate(begin, attention_mask=torch.ones_like(begin), max_new_tokens=50, do_sample=False)
print(bytes(written[0, begin.shape[1] :].tolist()).decode(errors="replace"))
