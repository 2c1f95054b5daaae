"""SeqPE on texts: read many times as long as those learnt from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Mixture, Term
from kilter.lab.options import at_least
from kilter.lab.recipe import Advance, Picture, Provenance
from kilter.recipes.seqpe.maps import similarity_maps
from kilter.recipes.seqpe.options import METHOD, WITHOUT, Apply, PositionOptions, check_digits, rivals_of
from kilter.tasks.language_modelling import LanguageModelling

if TYPE_CHECKING:
    from kilter.tasks.language_modelling.networks import Network

_SCALED = {"linear": "linear", "dynamic": "dynamic NTK", "yarn": "YaRN"}
_TEXTS = ("rope", *_SCALED, "learnt", "sinusoidal", "none", "alibi", *METHOD)
_LOOKED_UP = ("rope", "yarn", "none", "alibi", "seqpe")
_WAVES = 0.02
"""How large sinusoidal positions of texts are: as large as vectors of tokens begin."""
_OWN = "The model's own positions"
"""What the baseline of an own model is called: it may have no RoPE."""


@dataclass(kw_only=True)
class SeqPETexts(PositionOptions, LanguageModelling):
    """Let a causal model read texts many times as long as those it was trained on.

    A small transformer that reads the digits of a position makes its vector, so that there is one for any position; two
    terms of the loss teach it that near positions are alike, and that far out all is as it is at the beginning.

    Without --train it learns from documentation and novels, blocks of 128 bytes, and is judged on Wikipedia at up to 16
    times that. With --train it goes on with your model on your texts and leaves it in arms/seqpe/seed-0/model: load it
    with kilter.hosts.transformers.load. --task images does the same for images of higher resolution.

    Presets: smoke is a test of seconds, demo four arms in minutes, full all arms on texts, three seeds;
    lookups: names to be found again at growing distance, and no texts;
    published: the paper's sizes, for a machine with accelerators;
    own (by default with --train or --model): your model's positions against SeqPE.
    """

    task: str = "texts"
    """texts or images"""
    max_position: Annotated[int, at_least(2)] = 20_000
    """positions that are trained; longer texts run while the digits last (published: 20,000)"""
    apply: Apply = "attn_scalar"
    """where positions enter (published: attn_scalar)"""

    paper = cards()["seqpe"]
    baseline: ClassVar[str] = "rope"
    plain: ClassVar[str] = "RoPE"
    takes: ClassVar[frozenset[str]] = LanguageModelling.takes | {"decoder"}
    """A decoder says how RoPE is scaled where texts are longer than those learnt from."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("rope", "linear", "none", "seqpe"), **LanguageModelling.smoke, "longest": 4},
        "demo": {
            "arms": ("rope", "yarn", "alibi", "seqpe"),
            "judged_on": "wikitext",
            "longest": 8,
            "steps": 500,
            "encoder_rate": 1e-3,
            "batch_size": 8,
            "judged_tokens": 20_000,
            "jobs": 2,
        },
        "full": {
            "arms": _TEXTS,
            "judged_on": "wikitext",
            "longest": 16,
            "steps": 1500,
            "batch_size": 8,
            "encoder_rate": 1e-3,
            "seeds": 3,
            "jobs": 2,
        },
        "lookups": {
            "arms": _LOOKED_UP,
            "lookups": 1.0,
            "longest": 16,
            "block": 64,
            "layers": 2,
            "steps": 3000,
            "batch_size": 32,
            "learning_rate": 2e-3,
            "encoder_rate": 1e-3,
            "seeds": 3,
            "jobs": 2,
        },
        "published": {  # the paper's own settings where they are settings, for a machine with accelerators
            "arms": _TEXTS,
            "judged_on": "wikitext",
            "longest": 32,
            "block": 512,
            "width": 768,
            "layers": 12,
            "heads": 12,
            "steps": 100_000,
            "batch_size": 128,
            "learning_rate": 5e-5,
            "save_steps": 5000,
            "judged_tokens": 1_000_000,
        },
        "own": {"arms": ("rope", "seqpe"), "longest": 4},  # what --train and --model mean
    }

    _table: ClassVar[int | None] = None
    """Positions of the model's own table, where it has one that ends before the longest text."""

    def prepare(self) -> None:
        """Check that there are digits for the longest text, and call the baseline what it is."""
        super().prepare()
        check_digits(self.max_position, self.longest * self.block, "tokens", "--longest")
        if self.model is not None:
            self.plain = _OWN  # type: ignore[misc]

    def spoken(self, arm: str) -> str:
        """What an arm is called while it is worked on: an own model's need not have the baseline's positions."""
        return _OWN if arm == self.baseline and self.model is not None else super().spoken(arm)

    def brings(self) -> Mapping[str, Term]:
        """SeqPE and its rivals, of which scalings of RoPE change how a model is judged and no training."""
        rivals: dict[str, tuple[str, Callable[[Any], Any]]] = {
            "learnt": ("Learnt positions, interpolated", lambda own: own.LearntPositions(self.block)),
            "sinusoidal": ("Sinusoidal", lambda own: own.SinusoidalPositions(scale=_WAVES)),
            "none": ("No positions", lambda own: own.NoPositions()),
            "alibi": ("ALiBi", lambda own: own.Alibi()),
        }
        scaled = {
            name: Term(said, lambda strength, name=name: Levers(decoder=name), after=True, role="context")
            for name, said in _SCALED.items()
        }
        return {**rivals_of(rivals), **scaled, **self._terms(1, mul=", attn_mul", add=", attn_add")}

    def mixture(self, arm: str) -> Mixture:
        """What an arm is made of.

        Raises:
            ValueError: see `LanguageModelling.mixture`; or RoPE scaled where there is none.
        """
        found = super().mixture(arm)
        if (levers := found.levers()).decoder is not None and levers.module is not None:
            raise ValueError(f"{arm!r}: {levers.decoder} scales RoPE, whose place other positions have taken there")
        return found

    def build_data(self) -> Provenance:
        """See `LanguageModelling`; a table of positions that ends before the longest text is judged up to its end.

        Raises:
            ValueError: it ends before a block does.
        """
        if self.model is not None and self.baseline in self.arms:
            from transformers import AutoConfig

            config = AutoConfig.from_pretrained(self.model)
            end = getattr(config, "max_position_embeddings", None)
            if end is not None and not hasattr(config, "rope_parameters") and end < self.longest * self.block:
                if end < self.block:
                    raise ValueError(
                        f"{self.model} has positions up to {end}, and a block has {self.block} tokens; lower --block, "
                        "or leave its own positions out (--arms seqpe)"
                    )
                self._table = end  # type: ignore[misc]
        return super().build_data()

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the model of this arm; those that differ in how they are judged have one."""
        parts = [part.said for part in self.mixture(arm).parts if part.levers().decoder is None]
        learner = "+".join(parts) or self.baseline
        return super().train(learner, seed, folder.parents[1] / learner / folder.name, advance)

    def _end(self, arm: str) -> int | None:
        return self._table if arm == self.baseline else None

    def _saved(self, arm: str, model: Path) -> "Network":
        from kilter.tasks.language_modelling.rope import ScaledRope

        found, scaling = super()._saved(arm, model), self.mixture(arm).levers().decoder
        return found if scaling is None else found._replace(model=ScaledRope(found.model, scaling, self.block))

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what SeqPE and each part of it are worth at the trained length and at the longest."""
        others = (*(arm for arm in _TEXTS if arm not in METHOD), *WITHOUT)
        last = f"{self.longest}x"
        if self.lookups == 1:
            ours = [Claim(f"lookup_{at}", "higher", one, "seqpe") for at in ("1x", last) for one in others]
        else:
            ours = [Claim("perplexity_1x", "lower", one, "seqpe") for one in others]
            ours += [
                Claim(f"{name}_{last}", "lower", one, "seqpe") for name in ("perplexity", "last") for one in others
            ]
        return self.with_claims(ours)

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """How RoPE was scaled, how much smaller this is than the paper, or how to load what an own run left."""
        from kilter.tasks.language_modelling import figures

        notes = figures.remarks(summary, small=self.model is None, longest=self.longest, block=self.block)
        if self._table is not None:
            notes.append(
                f"{_OWN} end at {self._table:,} tokens: they are judged up to there, and have no figure beyond it."
            )
        if any(arm in summary["arms"] for arm in _SCALED):
            notes.append(
                "RoPE is scaled by as many times as the text at hand is longer than those learnt from; its training is "
                "that of RoPE itself."
            )
        if self.own_data():
            arm = next((arm for arm in summary["arms"] if arm in METHOD), None)
            load = f'model = kilter.hosts.transformers.load("arms/{arm}/seed-0/model")'
            return [*notes, *[f"To load it, in the folder of the run: {load}."] * (arm is not None)]
        return [
            *notes,
            "The paper trains GPT-2 small on WikiText-103, 100,000 steps of 128 blocks of 512 tokens; these are "
            f"{self.steps:,} steps of {self.batch_size} blocks of {self.block} bytes. ALiBi is the standard one, which "
            "is stronger than the one it was compared with.",
        ]

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Figures against length, and how alike positions are."""
        drawn = [one for one in super().pictures(summary, run) if one.name in ("perplexity", "last", "lookup")]
        all_positions = range(self.longest * self.block)
        return [*drawn, *similarity_maps(summary, run, all_positions, "position", mark=float(self.block))]
