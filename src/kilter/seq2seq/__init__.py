"""Seq2seq: sets as inputs and as outputs, and right targets told from nearly right ones.

Torch only: transformers is loaded inside functions, its private names live in `kilter.hosts`.
"""

from kilter.seq2seq.claps import ContrastivePerturbation
from kilter.seq2seq.order_matters import PointerNetwork, ReadProcessWrite
from kilter.seq2seq.order_search import OrderSearch
from kilter.seq2seq.perturbations import distant_target, imposter
from kilter.seq2seq.perturbed_contrast import perturbed_contrast
from kilter.seq2seq.pointer_writer import PointerWriter
from kilter.seq2seq.process_block import ProcessBlock
from kilter.seq2seq.sentence_projection import SentenceProjection

__all__ = [
    "ContrastivePerturbation",
    "OrderSearch",
    "PointerNetwork",
    "PointerWriter",
    "ProcessBlock",
    "ReadProcessWrite",
    "SentenceProjection",
    "distant_target",
    "imposter",
    "perturbed_contrast",
]
