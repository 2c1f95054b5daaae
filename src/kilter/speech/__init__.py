"""CTC speech recognition: alignments with a purpose, search, and what they stand on.

Torch only: host adapters and data live elsewhere (`kilter.hosts`, `kilter.data`).
"""

from kilter.ops.ctc_paths import collapse, sample_alignments, score_alignments
from kilter.speech.align_with_purpose import AlignWithPurpose, align_with_purpose
from kilter.speech.ctc_search import Hypothesis, ctc_greedy
from kilter.speech.low_latency import LowLatency, low_latency
from kilter.speech.minimum_wer import MinimumWER, minimum_wer

__all__ = [
    "AlignWithPurpose",
    "Hypothesis",
    "LowLatency",
    "MinimumWER",
    "align_with_purpose",
    "collapse",
    "ctc_greedy",
    "low_latency",
    "minimum_wer",
    "sample_alignments",
    "score_alignments",
]
