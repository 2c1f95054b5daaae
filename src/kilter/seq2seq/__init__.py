"""Seq2seq: sets as inputs and as outputs.

Torch only: transformers is loaded inside functions, its private names live in `kilter.hosts`.
"""

from kilter.seq2seq.order_matters import PointerNetwork, ReadProcessWrite
from kilter.seq2seq.pointer_writer import PointerWriter
from kilter.seq2seq.process_block import ProcessBlock

__all__ = ["PointerNetwork", "PointerWriter", "ProcessBlock", "ReadProcessWrite"]
