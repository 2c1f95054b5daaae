"""Three lines in a training script of transformers: domains whose weights follow a target.

python examples/domain_trainer.py MODEL OUT target.txt a=a.txt b=b.txt
"""

import sys

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from kilter.pretraining import DomainMixture, DynamicGradientAlignment

name, out, wanted, *given = sys.argv[1:]
files = dict(one.split("=", 1) for one in given)
model, tokenizer = AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)


def blocks(file, size=32):
    """All of a text in blocks of equal length."""
    ids = tokenizer("\n".join(load_dataset("text", data_files=file)["train"]["text"]), return_tensors="pt").input_ids
    whole = ids[0, : ids.shape[1] // size * size].view(-1, size)
    return [{"input_ids": block, "labels": block} for block in whole]


domains = {name: blocks(file) for name, file in files.items()}
rows = [row for domain in domains.values() for row in domain]  # the concatenation, in the same order

mixture = DomainMixture([len(domain) for domain in domains.values()])
dga = DynamicGradientAlignment(mixture, domains=domains, target=blocks(wanted), step_size=1.0, every=10)

arguments = TrainingArguments(out, num_train_epochs=2, per_device_train_batch_size=8, report_to="none")
trainer = Trainer(model, arguments, train_dataset=rows, callbacks=[dga])
trainer.train()
trainer.save_model(out)
for row in dga.history:  # also in OUT/mixture.json
    print(row["step"], dict(zip(domains, row["drawn"], strict=True)))
