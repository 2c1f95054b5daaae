"""One line beside the stock Trainer of transformers, for any CTC model and your recordings.

python examples/trainer.py MODEL MANIFEST OUT
"""

import sys

from transformers import Trainer, TrainingArguments

from kilter.data.manifests import load_speech
from kilter.hosts.transformers import align_ctc
from kilter.models.recogniser import Recogniser
from kilter.speech import AlignWithPurpose, LowLatency

name, manifest, out = sys.argv[1:]
recogniser = Recogniser.load(name)  # AutoModelForCTC with its feature extractor and tokenizer
recordings = load_speech(manifest, rate=recogniser.rate).rows

blank = recogniser.model.config.pad_token_id
handle = align_ctc(recogniser.model, AlignWithPurpose(LowLatency(blank=blank)), weight=1.0)  # the one line

arguments = TrainingArguments(out, max_steps=2, logging_steps=1, remove_unused_columns=False, report_to="none")
trainer = Trainer(recogniser.model, arguments, train_dataset=recordings, data_collator=recogniser.collate)
trainer.add_callback(handle)  # its parts in the log, its state in the checkpoint
trainer.train()
recogniser.save(out)
