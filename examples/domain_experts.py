"""Two lines in a training script of sentence-transformers: one encoder, a set of weights for each of several domains.

python examples/domain_experts.py MODEL OUT med=med.csv law=law.csv
"""

import sys

from datasets import DatasetDict, load_dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from kilter.embeddings import add_experts, merge_experts

name, out, *given = sys.argv[1:]
files = dict(one.split("=", 1) for one in given)  # of each domain pairs of texts: columns anchor and positive
model = SentenceTransformer(name)
pairs = DatasetDict({domain: load_dataset("csv", data_files=file)["train"] for domain, file in files.items()})

add_experts(model, domains=[*files])  # the first line

arguments = SentenceTransformerTrainingArguments(
    f"{out}-checkpoints",
    num_train_epochs=1,
    per_device_train_batch_size=64,
    learning_rate=2e-5,
    prompts={domain: f"[{domain.upper()}] " for domain in files},  # the second: a data set names its domain
    logging_steps=10,
    report_to="none",
)
loss = MultipleNegativesRankingLoss(model)
trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=pairs, loss=loss)
trainer.train()

for domain in files:  # by encode(texts, domain=…); texts of several domains at once begin with "[MED]", "[LAW]" …
    print(domain, model.encode(["a text"], domain=domain).shape)
model.save_pretrained(out)  # kilter.hosts.sentence_transformers.load(out) restores it
merge_experts(model).save_pretrained(f"{out}-merged")  # a plain model, that loads without kilter
