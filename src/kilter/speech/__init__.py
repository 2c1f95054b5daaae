"""Speech recognition: alignments with a purpose, their rivals, search, and what they stand on.

Torch only: host adapters and data live elsewhere (`kilter.hosts`, `kilter.data`).
"""

from kilter.ops.ctc_paths import collapse, sample_alignments, score_alignments
from kilter.ops.transducer_paths import (
    sample_transducer_alignments,
    score_transducer_alignments,
    transducer_lattice,
    transducer_log_likelihood,
)
from kilter.speech.align_with_purpose import AlignWithPurpose, align_with_purpose
from kilter.speech.bayes_risk_ctc import BayesRiskCTC, bayes_risk_ctc
from kilter.speech.ctc_align import ctc_forced_align
from kilter.speech.ctc_search import Hypothesis, ctc_greedy, ctc_prefix_beam_search
from kilter.speech.delay_penalty import DelayPenalty, delay_penalty
from kilter.speech.earlier_emissions import earlier_emissions
from kilter.speech.low_latency import LowLatency, low_latency
from kilter.speech.minimum_wer import MinimumWER, minimum_wer
from kilter.speech.minimum_word_error_rate import MinimumWordErrorRate, minimum_word_error_rate
from kilter.speech.peak_first import PeakFirst, peak_first
from kilter.speech.transducer import TransducerAlignWithPurpose, transducer_align_with_purpose
from kilter.speech.trim_tail import TrimTail, trim_tail

__all__ = [
    "AlignWithPurpose",
    "BayesRiskCTC",
    "DelayPenalty",
    "Hypothesis",
    "LowLatency",
    "MinimumWER",
    "MinimumWordErrorRate",
    "PeakFirst",
    "TransducerAlignWithPurpose",
    "TrimTail",
    "align_with_purpose",
    "bayes_risk_ctc",
    "collapse",
    "ctc_forced_align",
    "ctc_greedy",
    "ctc_prefix_beam_search",
    "delay_penalty",
    "earlier_emissions",
    "low_latency",
    "minimum_wer",
    "minimum_word_error_rate",
    "peak_first",
    "sample_alignments",
    "sample_transducer_alignments",
    "score_alignments",
    "score_transducer_alignments",
    "transducer_align_with_purpose",
    "transducer_lattice",
    "transducer_log_likelihood",
    "trim_tail",
]
