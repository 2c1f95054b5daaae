"""Two lines in a Seq2SeqTrainer script: T5, BART or Marian learns to tell right from nearly right.

python examples/seq2seq_trainer.py MODEL pairs.csv OUT [STEPS]    (columns source and target)
"""

import sys

from datasets import load_dataset
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from kilter.hosts.transformers import align_seq2seq
from kilter.seq2seq import ContrastivePerturbation

name, pairs, out = sys.argv[1:4]
steps = int((sys.argv[4:] or ["500"])[0])
model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)


def tokens(rows):
    return tokenizer(rows["source"], text_target=rows["target"], truncation=True, max_length=128)


table = load_dataset("csv", data_files=pairs, split="train")
data = table.map(tokens, batched=True, remove_columns=table.column_names)

handle = align_seq2seq(model, ContrastivePerturbation(model.config.d_model), start=steps // 10, ramp=steps // 10)

arguments = Seq2SeqTrainingArguments(out, max_steps=steps, logging_steps=steps // 5, report_to="none")
trainer = Seq2SeqTrainer(model, arguments, train_dataset=data, data_collator=DataCollatorForSeq2Seq(tokenizer))
trainer.add_callback(handle)  # its parts in the log, its projection in each checkpoint
trainer.train()

model.save_pretrained(out)  # as always: AutoModelForSeq2SeqLM reads it where there is no kilter
tokenizer.save_pretrained(out)
for row in trainer.state.log_history:
    print({part: row[part] for part in ("step", "nll", "contrast", "objective_weight") if part in row})
