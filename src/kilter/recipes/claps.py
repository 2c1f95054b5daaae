"""Recipe of CLAPS: likelihood alone against a contrast with imposters and distant targets beside it.

The paper fine-tunes T5-small; a small encoder–decoder from scratch, on restaurants (E2E NLG) and captions (Multi30k),
is its weak case: a table of a later paper has it below likelihood alone there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Term
from kilter.lab.options import NOT_NEGATIVE, above
from kilter.lab.recipe import Metric
from kilter.tasks.text_to_text import TextToText

_PARTS = {
    "batch": ("Other targets of the batch alone", {"use_negative": False, "use_positive": False}),
    "no-imposter": ("CLAPS without imposters", {"use_negative": False}),
    "no-distant": ("CLAPS without distant targets", {"use_positive": False}),
    "official": ("CLAPS as its code computes it", {"compat": "official"}),
}
_ALL = ("mle", "mle-longer", "batch", "no-imposter", "no-distant", "claps", "claps-ramp", "official")


@dataclass(kw_only=True)
class ContrastivePerturbationRecipe(TextToText):
    """Teach an encoder–decoder to tell a right target from one that is nearly right, and so to write better.

    Beside the likelihood, sources and targets are compared: each pair has an imposter, near the target and unlikely,
    and a distant target, far from it and with the same predictions. Both are made from the decoder's states in the one
    pass, and nothing of them is in the model that is saved.

    Without --train a small model learns from scratch. With --model DIR --train pairs.csv --eval dev.csv it goes on from
    your T5, BART or Marian; the model is left in arms/claps/seed-0/model, a folder of transformers.

    Presets: smoke is a test of seconds, demo three arms in minutes, full all arms on restaurants, five seeds;
    multi30k: the same on captions from German;
    published: the paper's settings for T5-small, on pairs that --train and --eval name, for a machine with a GPU;
    own (by default with --train or --model): likelihood alone against CLAPS.
    """

    weight: Annotated[float, NOT_NEGATIVE] = 1.0
    """of the contrast (published: 1); arm claps-0.5 has another"""
    temperature: Annotated[float, above(0)] = 0.1
    """τ (published: 0.1)"""
    negative_step: Annotated[float, NOT_NEGATIVE] = 1.0
    """ε of imposters (published: 1, for translation 3)"""
    positive_step: Annotated[float, NOT_NEGATIVE] = 3.0
    """ε of distant targets (published: 3)"""
    relative: bool = False
    """steps are in lengths of the decoder's states, which differ from model to model"""

    paper = cards()["claps"]
    metrics: ClassVar[Mapping[str, Metric]] = {
        **TextToText.metrics,
        "claps_kl_moved": Metric("Distant target's divergence, before", "nats", "lower", 2),
        "claps_kl_corrected": Metric("and after correction", "nats", "lower", 2),
        "claps_cosine": Metric("Cosine of source and target", "", "higher", 2),
        "claps_imposter_cosine": Metric("of source and imposter", "", "lower", 2),
        "claps_distant_cosine": Metric("of source and distant target", "", "higher", 2),
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("mle", "batch", "claps", "claps-ramp"), **TextToText.smoke},
        "demo": {"arms": ("mle", "batch", "claps"), "steps": 300, "test_inputs": 100, "jobs": 2},
        "full": {"arms": _ALL, "seeds": 5, "jobs": 2},
        "multi30k": {"arms": _ALL, "seeds": 5, "jobs": 2, **TextToText.captions},
        "published": {  # the paper's for translation, but AdamW; --train has the pairs, WMT 2016 with Romanian sources
            "model": "google-t5/t5-small",
            "prefix": "translate Romanian to English: ",
            "arms": ("mle", "batch", "claps"),
            "steps": 95_000,  # 20 times 610,000 pairs
            "batch_size": 128,
            "learning_rate": 3e-4,
            "negative_step": 3.0,
            "save_steps": 5000,
            "max_new_tokens": 128,
            "test_inputs": 2000,
        },
        "own": {"arms": ("mle", "claps")},  # what --train means
    }

    def brings(self) -> Mapping[str, Term]:
        """CLAPS, without each of its parts, with a slow start, and as its code has it."""

        def term(label: str, changed: Mapping[str, Any], options: Mapping[str, Any]) -> Term:
            def made(weight: float) -> Levers:
                return Levers(objective=lambda model: self._claps(model, weight, **changed), options=options)

            return Term(label, made, usual=self.weight, at=", weight {:g}", option="weight")

        slow = {"start": self.steps // 5, "ramp": self.steps // 5}
        return {
            "claps": term("CLAPS", {}, {}),
            "claps-ramp": term("CLAPS, likelihood alone at first", {}, slow),
            **{name: term(label, changed, {}) for name, (label, changed) in _PARTS.items()},
        }

    def _claps(self, model: Any, weight: float, **changed: Any) -> Any:
        from kilter.seq2seq import ContrastivePerturbation

        names = ("temperature", "negative_step", "positive_step", "relative")
        how: Any = {"weight": weight, **{name: getattr(self, name) for name in names}, **changed}
        return ContrastivePerturbation(model.get_output_embeddings().weight.shape[1], **how)

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what each part and an equal time are worth."""
        others = [arm for arm in _ALL if arm not in ("claps", "mle")]
        return self.with_claims(Claim("bleu", "higher", one, "claps") for one in others)

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """How much smaller this is than the paper."""
        if self.train_data is not None:
            return super().notes(summary)
        return [
            *super().notes(summary),
            "The paper fine-tunes T5-small, which has read much before, for 20 epochs on hundreds of thousands of "
            f"pairs; here nothing was read before, and training is {self.steps} steps of {self.batch_size} pairs. "
            "Published of a model from scratch (by a later paper): 23.59 BLEU with CLAPS, 25.78 by likelihood alone.",
        ]


RECIPE = ContrastivePerturbationRecipe
