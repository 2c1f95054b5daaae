"""Is the tensor what its name promises? Every failure names the argument, the row and the mend.

One small function for each question (`tensors`, and `kilter.core.options` for what is no tensor), and for speech what
is asked together (`ctc`). Values are checked on CPU tensors only: on an accelerator reading a value would stop the
queue, and a checked step must cost no synchronisation. Shapes and dtypes are checked everywhere.
"""

from kilter.core.checks.ctc import (
    check_alignments,
    check_candidates,
    check_log_probs,
    check_peaks,
    check_targets,
    check_tokens,
    check_transducer,
    check_values,
    check_vocabulary,
    frames_needed,
)
from kilter.core.checks.tensors import (
    finite,
    first,
    floating,
    integer,
    lengths_fit,
    mask_fits,
    one_per_row,
    readable,
    same_shape,
    shaped,
    within,
)
from kilter.core.options import at_least, one_of, positive, share, texts, whole

__all__ = [
    "at_least",
    "check_alignments",
    "check_candidates",
    "check_log_probs",
    "check_peaks",
    "check_targets",
    "check_tokens",
    "check_transducer",
    "check_values",
    "check_vocabulary",
    "finite",
    "first",
    "floating",
    "frames_needed",
    "integer",
    "lengths_fit",
    "mask_fits",
    "one_of",
    "one_per_row",
    "positive",
    "readable",
    "same_shape",
    "shaped",
    "share",
    "texts",
    "whole",
    "within",
]
