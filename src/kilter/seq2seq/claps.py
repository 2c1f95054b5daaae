"""CLAPS: an encoder-decoder learns to tell a right target from one that is nearly right, by contrast.

Paper: S. Lee, D. B. Lee, S. J. Hwang, "Contrastive Learning with Adversarial Perturbations for Conditional Text
Generation", ICLR 2021, arXiv 2012.07280. Departure: both terms have a temperature, and no gradient leaks (`compat`).
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from kilter.core.checks import at_least, floating, one_of, positive, shaped, whole
from kilter.core.objective import LossOutput, ModelObjective
from kilter.core.paper import Claim, Paper
from kilter.ops.info_nce import info_nce
from kilter.seq2seq.nearby_states import Correction, away, divergences, nearby
from kilter.seq2seq.perturbations import check_labels
from kilter.seq2seq.perturbed_contrast import Contrast, contrast
from kilter.seq2seq.sentence_projection import SentenceProjection, check_states
from kilter.seq2seq.state_steps import Output, wide

Compat = Literal["official", "leak"]

_LOOKED_AT = 32
"""Tokens of a batch whose divergence is told: to tell it of all would cost as much as another correction."""


class ContrastivePerturbation(ModelObjective):
    r"""The likelihood of a target, and a contrast of sentences with an imposter and a distant target of each.

    $$\mathcal L = \mathrm{NLL} + \texttt{weight} \cdot \tfrac12 (\mathcal L_1 + \mathcal L_2)$$

    Vectors of sources, from the encoder's last states, and of targets, from what enters the output layer, are compared
    by `perturbed_contrast`. Each pair has an imposter (near, unlikely; `imposter`) and a distant target (far, the same
    predictions; `distant_target`), made after the one pass; they are constants, so that what they teach goes to sources
    and to the projection. Of the saved model nothing changes.

    `align_seq2seq` puts it into a stock trainer. Called with a model it makes the pass itself.

    Args:
        width: of the model's states, `model.config.d_model`.
        temperature: τ.
        positive_temperature: τ of the term with the distant target; None is `temperature`.
        negative_step: ε of the imposter (published: 1; for translation 3).
        positive_step: ε of the distant target.
        kl_steps: corrections of the distant target.
        kl_step: length of each; None is `positive_step`.
        relative: steps are in lengths of the state, whose size differs from model to model.
        use_negative: have imposters.
        use_positive: have distant targets.
        use_batch_negatives: the targets of other pairs count as negatives.
        skip_duplicates: but not those that are the same text.
        weight: of the contrast; with 0 it is not computed.
        compat: `official` is the released code's loss: no temperature in the second term, the same text counts against
            itself. `leak` adds, as terms of value zero, the gradients that its translation and summarisation scripts
            leave behind while they make a distant target, and its optimiser then uses: those of the batch's InfoNCE of
            constant states (into the projection) and of the divergence (into the output layer).

    Shape:
        - `source_states`: float `(N, S, d)`; `target_states`: float `(N, T, d)`; `labels`: int `(N, T)`, -100 ignored.
        - `source_mask`: bool `(N, S)`, True at tokens; None is all.
        - returns `LossOutput`: parts `nll` (of `forward` only), the model's own loss, and `contrast`, weighted; stats
          `claps_cosine`, `claps_imposter_cosine`, `claps_distant_cosine` (mean cosine with the source),
          `claps_kl_moved`, `claps_kl_corrected` (nats per token by which a distant target's predictions differ, before
          and after correction, of 32 tokens at most), `claps_state_length` (what a step is to be compared with).

    Raises:
        TypeError: labels that are not integer, states that are not floating point, a mask that is not boolean; a model
            that is no encoder-decoder.
        ValueError: an option out of range, or nothing to push away; no labels; another width than `width`, shapes that
            do not fit; on the CPU also a row of ignored labels or without source, NaN and infinity.

    Example:
        >>> claps = ContrastivePerturbation(4, negative_step=0.5)
        >>> source, target, layer = torch.randn(2, 5, 4), torch.randn(2, 3, 4), torch.nn.Linear(4, 9)
        >>> out = claps.from_states(source, target, torch.tensor([[5, 1, -100], [2, 7, 1]]), layer)
        >>> sorted(out.parts), len(out.stats)
        (['contrast'], 6)

    Reference: Lee, Lee and Hwang, ICLR 2021.
    """

    def __init__(
        self,
        width: int,
        *,
        temperature: float | int = 0.1,
        positive_temperature: float | int | None = None,
        negative_step: float | int = 1.0,
        positive_step: float | int = 3.0,
        kl_steps: int = 1,
        kl_step: float | int | None = None,
        relative: bool = False,
        use_negative: bool = True,
        use_positive: bool = True,
        use_batch_negatives: bool = True,
        skip_duplicates: bool = True,
        weight: float | int = 1.0,
        compat: Compat | None = None,
    ) -> None:
        super().__init__()
        whole("width", width, 1)
        positive("temperature", temperature)
        if positive_temperature is not None:
            positive("positive_temperature", positive_temperature)
        at_least("negative_step", negative_step, 0)
        at_least("positive_step", positive_step, 0)
        whole("kl_steps", kl_steps, 0)
        if kl_step is not None:
            at_least("kl_step", kl_step, 0)
        at_least("weight", weight, 0)
        if not (use_negative or use_batch_negatives):
            raise ValueError("use_negative=False without use_batch_negatives leaves nothing to push away; keep either")
        if compat is not None:
            one_of("compat", compat, Compat)
            if positive_temperature not in (None, 1):
                raise ValueError(
                    f"positive_temperature={positive_temperature} is not what compat={compat!r} has, which is 1; leave "
                    "one of them out"
                )
        self.width = width
        self.temperature = temperature
        self.positive_temperature = positive_temperature
        self.negative_step = negative_step
        self.positive_step = positive_step
        self.kl_steps = kl_steps
        self.kl_step = kl_step
        self.relative = relative
        self.use_negative = use_negative
        self.use_positive = use_positive
        self.use_batch_negatives = use_batch_negatives
        self.skip_duplicates = skip_duplicates
        self.weight = weight
        self.compat: Compat | None = compat
        self.projection = SentenceProjection(width)

    def forward(self, model: nn.Module, **batch: Any) -> LossOutput:
        """The model's loss on a batch with labels, and the contrast; see the class."""
        from kilter.hosts.seq2seq_states import output_states

        if batch.get("labels") is None:
            raise ValueError("labels: the batch has none, which are the targets; give the token ids, -100 at padding")
        found = output_states(model, **batch)
        nll = found.output["loss"]
        if self.weight == 0:
            return LossOutput(nll, {"nll": nll, "contrast": torch.zeros_like(nll)})
        out = self.from_states(
            found.source_states, found.target_states, batch["labels"], found.head, source_mask=found.source_mask
        )
        return LossOutput(nll + out.loss, {"nll": nll, **out.parts}, out.stats)

    def from_states(
        self,
        source_states: Float[Tensor, "batch source dim"],
        target_states: Float[Tensor, "batch tokens dim"],
        labels: Int[Tensor, "batch tokens"],
        output: Output,
        *,
        source_mask: Bool[Tensor, "batch source"] | None = None,
    ) -> LossOutput:
        """The weighted contrast alone, of the states of a pass.

        `output` leads from `target_states` to logits. One that is linear is told by being an `nn.Linear`, or by an
        attribute `matrix` (then with a `bias`, which may be None); one that has `logits` spares computing them.
        """
        mask = self._check(source_states, target_states, labels, source_mask)
        with torch.autocast(target_states.device.type, enabled=False):
            source = self.projection(source_states, source_mask)
            target = self.projection(target_states, mask)
            moved, wrong, far = self._perturb(source, target_states, labels, mask, output)
            found = contrast(
                source,
                target,
                None if wrong is None else self.projection(wrong, mask),
                None if far is None else self.projection(far, mask),
                self._others(labels, mask),
                temperature=self.temperature,
                positive_temperature=1.0 if self.compat else self.positive_temperature or self.temperature,
            )
            loss = found.loss
            if self.compat == "leak" and moved is not None:
                leaked = self._leaked(source_states, source_mask, target_states, moved, mask, output)
                loss = loss + (leaked - leaked.detach())
        loss = self.weight * loss
        return LossOutput(loss, {"contrast": loss}, self._stats(found, target_states, moved, far, mask, output))

    def _check(self, source: Tensor, target: Tensor, labels: Tensor, source_mask: Tensor | None) -> Tensor:
        mask = check_labels(target, labels, "target_states", width=self.width)
        floating("source_states", source, "give the states of a model")
        shaped("source_states", source, "batch, tokens, dim")
        if len(source) != len(target):
            raise ValueError(f"source_states has {len(source)} rows, target_states {len(target)}; give pairs")
        check_states("source_states", source, source_mask, self.width, "source_mask")
        return mask

    def _perturb(
        self, source: Tensor, hidden: Tensor, labels: Tensor, mask: Tensor, output: Output
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Targets that have moved away, imposters, and the first after correction."""
        moved = correction = None
        if self.use_positive:
            how = {"step": self.positive_step, "temperature": self.temperature, "relative": self.relative}
            moved = away(hidden, source, mask, self.projection, **how)
            correction = Correction(moved, self.positive_step if self.kl_step is None else self.kl_step, self.kl_steps)
        found = nearby(
            hidden,
            mask,
            output,
            logits=getattr(output, "logits", None),
            labels=labels if self.use_negative else None,
            step=self.negative_step,
            correction=correction,
            relative=self.relative,
        )
        return moved, found.imposter, found.distant

    def _others(self, labels: Tensor, mask: Tensor) -> Bool[Tensor, "batch batch"]:
        """Whose target counts against whom."""
        others = torch.full((len(labels), len(labels)), self.use_batch_negatives, device=labels.device)
        if self.use_batch_negatives and self.skip_duplicates and not self.compat:
            others = (labels[:, None] != labels).any(-1)
        return others

    def _leaked(
        self, source: Tensor, source_mask: Tensor | None, hidden: Tensor, moved: Tensor, mask: Tensor, output: Output
    ) -> Float[Tensor, ""]:
        """What the released code differentiates in order to move constants, and leaves in the parameters."""
        vectors = self.projection(source.detach(), source_mask), self.projection(hidden.detach(), mask)
        leaked = info_nce(*vectors, temperature=self.temperature).sum() / max(len(mask), 1)
        if not self.kl_steps:
            return leaked
        with torch.no_grad():
            own = output(hidden.detach())[mask].to(moved.dtype).log_softmax(-1)
        moved = moved.masked_fill(~mask[..., None], 0)
        other = output(moved.to(hidden.dtype))[mask].to(moved.dtype).log_softmax(-1)
        return leaked + F.kl_div(other, own, reduction="sum", log_target=True) / mask.sum().clamp(min=1)

    @torch.no_grad()
    def _stats(
        self, found: Contrast, hidden: Tensor, moved: Tensor | None, far: Tensor | None, mask: Tensor, output: Output
    ) -> dict[str, Tensor]:
        cosines = {"": found.target, "imposter_": found.imposter, "distant_": found.distant}
        stats = {f"claps_{name}cosine": _mean(value) for name, value in cosines.items() if value is not None}
        lengths = wide(hidden).masked_fill(~mask[..., None], 0).norm(dim=-1)
        stats["claps_state_length"] = lengths.sum() / mask.sum().clamp(min=1)
        if moved is not None and far is not None:
            kept = divergences(
                hidden, (moved, far), mask, output, logits=getattr(output, "logits", None), most=_LOOKED_AT
            )
            stats |= dict(zip(("claps_kl_moved", "claps_kl_corrected"), map(_mean, kept), strict=True))
        return stats


def _mean(values: Tensor) -> Tensor:
    """0 of no values."""
    return values.detach().sum() / max(values.numel(), 1)


PAPER = Paper(
    slug="claps",
    title="Contrastive Learning with Adversarial Perturbations for Conditional Text Generation",
    authors=("Seanie Lee", "Dong Bok Lee", "Sung Ju Hwang"),
    year=2021,
    venue="International Conference on Learning Representations (ICLR)",
    url="https://openreview.net/forum?id=Wga_hrCa3P3",
    lever="objective",
    purpose="a model that writes from a text learns to tell what is right from what is nearly right",
    names=("ContrastivePerturbation", "SentenceProjection", "imposter", "distant_target", "perturbed_contrast"),
    claims=(
        Claim(
            text="translations are better than after training by likelihood alone",
            published="29.41 against 28.21 BLEU, WMT 2016 from Romanian, T5-small",
            metric="bleu",
            better="higher",
            baseline="mle",
            arm="claps",
            by=1.2,
            guard=("step_ratio", 0.6),  # a step's time, in those of the likelihood's
        ),
        Claim(
            text="imposters and distant targets gain more than other targets of the batch as negatives",
            published="29.41 against 27.79 BLEU, WMT 2016 from Romanian, T5-small",
            metric="bleu",
            better="higher",
            baseline="batch",
            arm="claps",
        ),
        Claim(
            text="summaries are better than after training by likelihood alone",
            published="37.89 against 36.10 ROUGE-1, XSum, T5-small",
            reason="needs a pretrained model and two hundred thousand articles",
        ),
        Claim(
            text="questions made from passages are better than after training by likelihood alone",
            reason="needs a pretrained model; SQuAD's training part is not at hand",
        ),
    ),
    arxiv="2012.07280",
)
