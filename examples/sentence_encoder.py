"""One line in a training script of sentence-transformers: a sentence encoder, better from plain sentences alone.

python examples/sentence_encoder.py MODEL TEXTS OUT
"""

import sys
from pathlib import Path

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments

from kilter.embeddings import WhitenedCSE
from kilter.hosts.sentence_transformers import as_st_loss

name, texts, out = sys.argv[1:]
model = SentenceTransformer(name)
dim = len(model.encode("its width"))
sentences = [line for line in Path(texts).read_text(encoding="utf-8").splitlines() if line]
rows = Dataset.from_dict({column: sentences for column in ("view1", "view2", "view3")})  # they differ by dropout

loss = as_st_loss(WhitenedCSE(dim), model)  # the one line; before: losses.MultipleNegativesRankingLoss(model)

arguments = SentenceTransformerTrainingArguments(
    f"{out}-checkpoints",
    num_train_epochs=1,
    per_device_train_batch_size=128,
    learning_rate=1e-5,
    dataloader_drop_last=True,  # whitening wants as many rows as a group has channels
    logging_steps=10,
    report_to="none",
)
trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=rows, loss=loss)
trainer.train()
model.save_pretrained(out)
