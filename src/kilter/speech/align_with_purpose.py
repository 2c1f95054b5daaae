"""Align With Purpose: push probability from sampled alignments to edited, better ones.

Paper: E. Segev et al., "Align With Purpose: Optimize Desired Properties in CTC Models with a General
Plug-and-Play Framework", ICLR 2024, arXiv 2307.01715.
Departure: the mean over samples is the paper's; the published code sums them (`sample_reduction="sum"`).
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from kilter.core.checks import check_log_probs
from kilter.core.masking import length_mask
from kilter.core.objective import LossOutput, Objective
from kilter.core.paper import Claim, Paper
from kilter.ops.ctc_paths import Score, frame_scores, reduce_frames, sample_alignments

Reduction = Literal["mean", "sum"]
Property = Callable[..., Tensor]
"""`(alignments (N,B,T), input_lengths, references, generator) -> alignments`; asks by name for what it needs."""


def align_with_purpose(
    log_probs: Float[Tensor, "batch time vocab"],
    alignments: Int[Tensor, "samples batch time"],
    edited: Int[Tensor, "samples batch time"],
    input_lengths: Int[Tensor, " batch"],
    *,
    margin: float = 0.0,
    score: Score = "mean_logprob",
    sample_reduction: Reduction = "mean",
) -> Float[Tensor, ""]:
    r"""Hinge between the scores of alignments and of their edited forms.

    $$\mathcal L = \frac1B \sum_b \frac1N \sum_i \max\bigl(s(a^i) - s(\bar a^i) + \lambda,\ 0\bigr)$$

    Pairs that are equal within the utterance count as unedited and contribute 0 for any margin. The gradient is
    ±1/(L·N·B) at the frames where an active pair differs and exactly 0 elsewhere. The published code takes the
    sum over samples instead of their mean, so its weight is ours divided by N.

    Args:
        log_probs: log-softmax of the model's outputs.
        alignments: sampled token ids, see `sample_alignments`.
        edited: the same after the property; frames beyond each length are ignored.
        input_lengths: valid frames of each utterance.
        margin: λ, how much better the edited alignment must score.
        score: see `score_alignments`.
        sample_reduction: `mean` (the paper) or `sum` (the published code) over samples; the batch is averaged.

    Returns:
        Scalar; 0 when there are no samples.

    Raises:
        TypeError: see `sample_alignments`.
        ValueError: shapes that do not fit, token ids outside the vocabulary, an unknown option.

    Example:
        >>> import torch
        >>> log_probs = torch.tensor([[[0.2, 0.8], [0.6, 0.4]]]).log()
        >>> late, early = torch.tensor([[[0, 1]]]), torch.tensor([[[1, 0]]])
        >>> align_with_purpose(log_probs, late, early, torch.tensor([2])).item()
        0.0
        >>> round(align_with_purpose(log_probs, early, late, torch.tensor([2])).item(), 4)
        0.8959

    Reference: Segev et al., ICLR 2024, section 3; scoring and hinge as in the published code.
    """
    check_log_probs(log_probs, input_lengths, blank=0)
    hinge, _ = _hinge(log_probs, alignments, edited, input_lengths, margin, score)
    return _reduce(hinge, sample_reduction)


def _hinge(
    log_probs: Float[Tensor, "batch time vocab"],
    alignments: Int[Tensor, "samples batch time"],
    edited: Int[Tensor, "samples batch time"],
    input_lengths: Int[Tensor, " batch"],
    margin: float,
    score: Score,
) -> tuple[Float[Tensor, "samples batch"], Bool[Tensor, "samples batch"]]:
    if alignments.shape != edited.shape:
        raise ValueError(f"edited must be shaped like alignments {tuple(alignments.shape)}, got {tuple(edited.shape)}")
    valid = length_mask(input_lengths.to(log_probs.device), log_probs.shape[1])
    # one gather for both, so that backward writes a single (B, T, V) gradient
    scores = frame_scores(log_probs, torch.cat([alignments, edited]), valid).unflatten(0, (2, -1))
    differ = (alignments != edited) & valid
    if score == "prob":
        original, better = reduce_frames(scores.masked_fill(~valid, 0.0), input_lengths, score).unbind()
        gap = original - better
    else:  # frames that agree are left out, so that their gradient is exactly zero
        original, better = scores.unbind()
        gap = reduce_frames((original - better).masked_fill(~differ, 0.0), input_lengths, score)
    changed = differ.any(-1)
    return (gap + margin).relu().masked_fill(~changed, 0.0), changed


def _reduce(hinge: Float[Tensor, "samples batch"], sample_reduction: Reduction) -> Float[Tensor, ""]:
    _check_choice("sample_reduction", sample_reduction, Reduction)
    samples, batch = hinge.shape
    return hinge.sum() / (max(batch, 1) * (max(samples, 1) if sample_reduction == "mean" else 1))


def _check_choice(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")


class AlignWithPurpose(Objective):
    r"""Sample alignments, edit them with a property, and prefer the edited ones; a term to add to CTC.

    $$\mathcal L = \mathcal L_{\text{CTC}} + \alpha \mathcal L_{\text{AWP}}, \qquad \bar a^i = f_{\text{prop}}(a^i)$$

    It draws from the same forward pass that gives the CTC loss, and nothing flows back through the samples or the
    property. Switch it on once the model recognises most words: samples of an untrained model teach nothing, and
    too large a weight makes a model fire before it knows the word. It can only remove delay that is there.

    Args:
        property: callable `(alignments (N,B,T), input_lengths, references, generator) -> (N,B,T)`; it is given by
            name what its signature asks for. `LowLatency()`, `MinimumWER(vocabulary)` or your own function.
        samples: N, alignments drawn for each utterance; 0 switches the term off.
        margin: λ of the hinge.
        temperature: of the sampling.
        score: `mean_logprob`, `sum_logprob` or `prob`, see `score_alignments`.
        sample_reduction: `mean` (the paper) or `sum` (the published code, so its weight is ours / N).
        blank: index of the blank; None takes the property's, else 0.

    Shape:
        - `log_probs`: float `(B, T, V)`, any dtype; computed in float32 at least.
        - `input_lengths`: int `(B,)`.
        - `references`: list of B texts, for properties that compare words.
        - `generator`: where samples (N·B·T draws) and the property's choices come from.
        - returns `LossOutput`: part `awp`; stats `awp_edited` (share of pairs the property changed) and `awp_active`
          (share of pairs with a hinge above zero).

    Raises:
        TypeError, ValueError: see `sample_alignments`; a property whose blank differs, or whose result is not shaped
            like its input, or whose vocabulary has another size than `log_probs`.

    Example:
        >>> import torch
        >>> from kilter.speech import LowLatency
        >>> awp = AlignWithPurpose(LowLatency())
        >>> log_probs = torch.randn(2, 30, 8).log_softmax(-1)
        >>> out = awp(log_probs, torch.tensor([30, 25]), generator=torch.Generator().manual_seed(0))
        >>> sorted(out.stats)
        ['awp_active', 'awp_edited']

        Your own property, "emit nothing in the first 200 ms" at 40 ms a frame:

        >>> def quiet_start(alignments):
        ...     edited = alignments.clone()
        ...     edited[..., :5] = 0
        ...     return edited
        >>> awp = AlignWithPurpose(quiet_start)

    Reference: Segev et al., ICLR 2024.
    """

    def __init__(
        self,
        property: Property,
        *,
        samples: int = 5,
        margin: float = 0.0,
        temperature: float = 1.0,
        score: Score = "mean_logprob",
        sample_reduction: Reduction = "mean",
        blank: int | None = None,
    ) -> None:
        super().__init__()
        if not callable(property) or isinstance(property, type):
            raise TypeError(f"property must be a callable such as LowLatency(), got {property!r}")
        if samples < 0 or margin < 0 or not temperature > 0:
            raise ValueError(
                f"samples and margin must be at least 0 and temperature above 0, got {samples}, {margin}, {temperature}"
            )
        _check_choice("score", score, Score)
        _check_choice("sample_reduction", sample_reduction, Reduction)
        own = getattr(property, "blank", None)
        if blank is not None and own is not None and blank != own:
            raise ValueError(
                f"the property {_name(property)} has blank={own}, but the blank here is {blank}; give it blank={blank}"
            )
        self.property = property
        self.vocabulary: Sequence[str] | None = getattr(property, "vocabulary", None)
        self._asked = _asked(property)
        self.samples = samples
        self.margin = margin
        self.temperature = temperature
        self.score: Score = score
        self.sample_reduction: Reduction = sample_reduction
        self.blank = own if blank is None and own is not None else blank or 0

    def forward(
        self,
        log_probs: Float[Tensor, "batch time vocab"],
        input_lengths: Int[Tensor, " batch"],
        references: Sequence[str] | None = None,
        generator: Generator | None = None,
    ) -> LossOutput:
        """Compute the term; see the class."""
        if self.vocabulary is not None and len(self.vocabulary) != log_probs.shape[2]:
            raise ValueError(
                f"the property's vocabulary has {len(self.vocabulary)} entries, log_probs has {log_probs.shape[2]}; "
                "give one string per token id, the blank included"
            )
        alignments = sample_alignments(
            log_probs,
            input_lengths,
            self.samples,
            blank=self.blank,
            temperature=self.temperature,
            generator=generator,
        )
        edited = self._edit(alignments, input_lengths=input_lengths, references=references, generator=generator)
        hinge, changed = _hinge(log_probs, alignments, edited, input_lengths, self.margin, self.score)
        loss = _reduce(hinge, self.sample_reduction)
        pairs = max(changed.numel(), 1)
        stats = {"awp_edited": changed.sum() / pairs, "awp_active": (hinge.detach() > 0).sum() / pairs}
        return LossOutput(loss, {"awp": loss}, stats)

    def _edit(self, alignments: Int[Tensor, "samples batch time"], **given: Any) -> Int[Tensor, "samples batch time"]:
        if not len(alignments):
            return alignments
        with torch.no_grad():
            # a copy: a property that writes in place must not change the samples too
            edited = self.property(alignments.clone(), **{name: given[name] for name in self._asked})
        if not isinstance(edited, Tensor) or edited.shape != alignments.shape or edited.dtype != alignments.dtype:
            got = f"{edited.dtype} {tuple(edited.shape)}" if isinstance(edited, Tensor) else type(edited).__name__
            raise ValueError(
                f"the property {_name(self.property)} must return {alignments.dtype} {tuple(alignments.shape)} "
                f"like the alignments it was given, got {got}"
            )
        return edited


def _asked(property: Property) -> list[str]:
    """What the property's signature asks for, beside the alignments."""
    asked = inspect.signature(property.forward if isinstance(property, nn.Module) else property).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in asked.values())
    return [name for name in ("input_lengths", "references", "generator") if takes_all or name in asked]


def _name(property: Property) -> str:
    return getattr(property, "__name__", type(property).__name__)


PAPER = Paper(
    slug="align-with-purpose",
    title=("Align With Purpose: Optimize Desired Properties in CTC Models with a General Plug-and-Play Framework"),
    authors=(
        "Eliya Segev",
        "Maya Alroy",
        "Ronen Katsir",
        "Noam Wies",
        "Ayana Shenhav",
        "Yael Ben-Oren",
        "David Zar",
        "Oren Tadmor",
        "Jacob Bitterman",
        "Amnon Shashua",
        "Tal Rosenwein",
    ),
    year=2024,
    venue="International Conference on Learning Representations (ICLR)",
    url="https://openreview.net/forum?id=fUGhVYPVRM",
    lever="objective",
    purpose="CTC words earlier, or with fewer word errors, by one loss term beside CTC",
    names=("AlignWithPurpose", "align_with_purpose", "LowLatency", "MinimumWER", "TransducerAlignWithPurpose"),
    claims=(
        Claim(
            text="words come earlier, at nearly the same word error rate",
            published="up to 590 ms earlier, for a minor rise in WER",
            metric="delay_ms",
            better="lower",
            baseline="ctc",
            arm="awp",
            by=150.0,
            guard=("wer", 0.5),
        ),
        Claim(
            text="with the other property, fewer words are wrong",
            published="−4.5 % relative WER",
            metric="lm_wer",
            better="lower",
            baseline="ctc",
            arm="awp",
        ),
        Claim(
            text="both are so whatever the network",
            reason="needs the paper's networks, trained on hundreds of hours; two small ones are tried here",
        ),
        Claim(
            text="both are so at any scale of the training data",
            published="up to 280,000 hours",
            reason="needs 280,000 hours of speech",
        ),
        Claim(
            text="it extends to other losses without alignments, and to other fields than speech",
            reason="said of what could be done; TransducerAlignWithPurpose is tested, no transducer is trained here",
        ),
    ),
    arxiv="2307.01715",
)
