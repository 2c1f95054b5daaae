"""Recipe of SeqPE: one model, trained short, that reads texts many times as long, and images that are larger.

A small Llama of bytes in the place of GPT-2, and a small ViT on handwritten digits in that of ViT-S on ImageNet; texts
are judged on WikiText as in the paper. Names looked up at growing distance stand for its question answering.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Mixture, Term
from kilter.lab.options import NOT_NEGATIVE, above, at_least, share
from kilter.lab.recipe import Advance, Picture, Provenance
from kilter.tasks.image_classification import ImageClassification
from kilter.tasks.language_modelling import LanguageModelling

if TYPE_CHECKING:
    from kilter.tasks.language_modelling.networks import Network

Apply = Literal["attn_scalar", "attn_mul", "attn_add", "input_add"]
_WITHOUT = {"no-contrast": "contrast_weight", "no-transfer": "transfer_weight", "no-shift": "shift_rate"}
"""What each of these arms has not, and the option that is 0 for it."""
_METHOD = ("seqpe", *_WITHOUT)
_SCALED = {"linear": "linear", "dynamic": "dynamic NTK", "yarn": "YaRN"}
_TEXTS = ("rope", *_SCALED, "learnt", "sinusoidal", "none", "alibi", *_METHOD)
_LOOKED_UP = ("rope", "yarn", "none", "alibi", "seqpe")
_IMAGES = ("learnt", "sinusoidal", "none", *_METHOD, "seqpe+scalar")
_WAVES = 0.02
"""How large sinusoidal positions of texts are: as large as vectors of tokens begin."""
_DRAWN = 2048
"""Positions of a map of them, at most."""
_MAP = (
    "How alike positions are",
    "Cosines of the encoder's vectors of any two positions, without what all of them share, of the first seed. "
    "Training makes neighbours alike, whatever their distance from the beginning.",
)


@dataclass(kw_only=True)
class _Options:
    """Options of the method that texts and images share."""

    contrast_weight: Annotated[float, NOT_NEGATIVE] = 0.1
    """w of the loss by which near positions become more alike than far ones (published: 0.1)"""
    transfer_weight: Annotated[float, NOT_NEGATIVE] = 0.1
    """w of the loss by which windows far out become alike to the one that is trained (published: 0.1)"""
    shift_rate: Annotated[float, share()] = 0.1
    """share of training steps in which positions begin elsewhere than at 0 (published: 0.1)"""
    sampler: Literal["released", "centred"] = "released"
    """where positions are drawn that are compared: anywhere, as released, or around their pivot"""
    qk_map: Literal["single", "multi", "none"] = "single"
    """the map to queries and keys: one for all layers, one for each, or none"""

    def _seqpe(self, **given: Any) -> Any:
        from kilter.pretraining import SeqPE

        names = ("max_position", "apply", *_WITHOUT.values(), "sampler", "qk_map")
        return SeqPE(**{**{name: getattr(self, name) for name in names}, **given})

    def _terms(self, axes: int, **variants: str) -> dict[str, Term]:
        """SeqPE, with variants of where it enters, and without each of its parts."""

        def made(strength: float | None, **said: bool) -> Levers:
            changed = dict(("sampler", word) if word == "centred" else ("apply", f"attn_{word}") for word in said)
            return Levers(module=_attached(lambda: self._seqpe(axes=axes, **changed)))

        found = {"seqpe": Term("SeqPE", made, variants={"centred": ", compared near by", **variants})}
        for name, option in _WITHOUT.items():
            without = _attached(lambda option=option: self._seqpe(axes=axes, **{option: 0.0}))
            found[name] = Term(
                f"SeqPE without {name.removeprefix('no-')}", lambda strength, lever=without: Levers(module=lever)
            )
        return found


@dataclass(kw_only=True)
class SeqPETexts(LanguageModelling, _Options):
    """Let a causal model read texts many times as long as those it was trained on.

    A small transformer that reads the digits of a position makes its vector, so that there is one for any position; two
    terms of the loss teach it that near positions are alike, and that far out all is as it is at the beginning.

    Without --train it learns from documentation and novels, blocks of 128 bytes, and is judged on Wikipedia at up to 16
    times that. With --train it goes on with your model on your texts and leaves it in arms/seqpe/seed-0/model: load it
    with kilter.hosts.transformers.load. --task images does the same for images of higher resolution.
    """

    task: str = "texts"
    """texts or images"""
    max_position: Annotated[int, at_least(2)] = 20_000
    """positions that are trained; longer texts run while the digits last (published: 20,000)"""
    apply: Apply = "attn_scalar"
    """where positions enter (published: attn_scalar)"""
    encoder_rate: Annotated[float | None, above(0)] = None
    """learning rate of what reads the digits; None for that of the model, as published"""

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
            "steps": 800,
            "batch_size": 64,
            "learning_rate": 2e-3,
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

    def prepare(self) -> None:
        """Check that there are digits for the longest text, and call the baseline what it is."""
        super().prepare()
        _check_digits(self.max_position, self.longest * self.block, "tokens", "--longest")
        if self.model is not None:
            self.plain = "The model's own positions"  # type: ignore[misc]

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
        return {**_rivals(rivals), **scaled, **self._terms(1, mul=", attn_mul", add=", attn_add")}

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
        """See `LanguageModelling`; positions of a table that ends before the longest text are refused."""
        if self.model is not None and self.baseline in self.arms:
            from transformers import AutoConfig

            config = AutoConfig.from_pretrained(self.model)
            end = getattr(config, "max_position_embeddings", None)
            if end is not None and not hasattr(config, "rope_parameters") and end < self.longest * self.block:
                raise ValueError(
                    f"{self.model} has positions up to {end}, and texts of {self.longest} times {self.block} tokens "
                    f"are judged; lower --longest or --block, or leave the arm {self.baseline} out (--arms seqpe)"
                )
        return super().build_data()

    def rates(self, model: Any, rate: float) -> list[dict[str, Any]]:
        """The encoder and its map learn at a rate of their own: at one that suits a small model they learn late."""
        from kilter.pretraining import SeqPE

        positions = getattr(model, "kilter_positions", None)
        if self.encoder_rate is None or not isinstance(positions, SeqPE):
            return []
        apart = {id(one) for one in positions.parameters()}
        trained = [one for one in model.parameters() if one.requires_grad]
        return [
            {"params": [one for one in trained if id(one) not in apart]},
            {"params": [one for one in trained if id(one) in apart], "lr": self.encoder_rate},
        ]

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the model of this arm; those that differ in how they are judged have one."""
        parts = [part.said for part in self.mixture(arm).parts if part.levers().decoder is None]
        learner = "+".join(parts) or self.baseline
        return super().train(learner, seed, folder.parents[1] / learner / folder.name, advance)

    def _saved(self, arm: str, model: Path) -> "Network":
        from kilter.tasks.language_modelling.rope import ScaledRope

        found, scaling = super()._saved(arm, model), self.mixture(arm).levers().decoder
        return found if scaling is None else found._replace(model=ScaledRope(found.model, scaling, self.block))

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what SeqPE and each part of it are worth at the trained length and at the longest."""
        others = (*(arm for arm in _TEXTS if arm not in _METHOD), *_WITHOUT)
        last = f"{self.longest}x"
        if self.lookups == 1:
            ours = [Claim(f"lookup_{at}", "higher", one, "seqpe") for at in ("1x", last) for one in others]
        else:
            ours = [Claim("perplexity_1x", "lower", one, "seqpe") for one in others]
            ours += [
                Claim(f"{name}_{last}", "lower", one, "seqpe") for name in ("perplexity", "last") for one in others
            ]
        return _with(self.paper.claims, ours)

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """How RoPE was scaled, how much smaller this is than the paper, or how to load what an own run left."""
        from kilter.tasks.language_modelling import figures

        notes = figures.remarks(summary, small=self.model is None, longest=self.longest, block=self.block)
        if any(arm in summary["arms"] for arm in _SCALED):
            notes.append(
                "RoPE is scaled by as many times as the text at hand is longer than those learnt from; its training is "
                "that of RoPE itself."
            )
        if self.own_data():
            arm = next((arm for arm in summary["arms"] if arm in _METHOD), None)
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
        return [*drawn, *_similarities(summary, run, all_positions, "position", mark=float(self.block))]


@dataclass(kw_only=True)
class SeqPEImages(ImageClassification, _Options):
    """Let a ViT see images of a higher resolution than those it was trained on.

    A small transformer that reads the digits of a patch's row and column makes its vector, so that there is one for any
    patch; two terms of the loss teach it that near patches are alike, and that far out all is as it is in the corner.

    Without --train it learns handwritten digits at 28 pixels and is judged at up to 84. With --train it learns from
    images of your own, a folder for each class, and leaves the ViT in arms/seqpe/seed-0/model: load it with
    kilter.hosts.transformers.load.
    """

    task: str = "images"
    """texts or images"""
    max_position: Annotated[int, at_least(2)] = 100
    """rows and columns that are trained (published: 100)"""
    apply: Apply = "attn_mul"
    """where positions enter (published: attn_mul)"""
    qk_map: Literal["single", "multi", "none"] = "multi"
    """the map to queries and keys: one for all layers, one for each (published), or none"""

    paper = cards()["seqpe"]
    _FULL: ClassVar[Mapping[str, Any]] = {"arms": _IMAGES, "seeds": 3, "jobs": 2}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("learnt", "none", "seqpe"), **ImageClassification.smoke},
        "demo": {"arms": ("learnt", "none", "seqpe"), "steps": 300, "test_images": 500, "jobs": 2},
        "full": _FULL,
        "images": _FULL,  # under this name it is kept as evidence beside that of the texts
        "published": {  # the paper's own settings where they are settings, for a machine with accelerators
            "arms": _IMAGES,
            "resolution": 224,
            "resolutions": (224, 320, 384, 448, 512, 640, 672),
            "patch": 16,
            "width": 384,
            "layers": 12,
            "heads": 6,
            "steps": 500_000,
            "batch_size": 1024,
            "learning_rate": 6e-4,
            "save_steps": 5000,
        },
        "own": {"arms": ("learnt", "seqpe")},  # what --train and --model mean
    }

    def prepare(self) -> None:
        """Check that there are digits for the largest image."""
        super().prepare()
        _check_digits(self.max_position, max(self.resolutions) // self.patch, "patches across", "--resolutions")

    def brings(self) -> Mapping[str, Term]:
        """SeqPE and its rivals."""
        rivals: dict[str, tuple[str, Callable[[Any], Any]]] = {
            "sinusoidal": ("Sinusoidal, rows and columns", lambda own: own.SinusoidalPositions(axes=2)),
            "none": ("No positions", lambda own: own.NoPositions(axes=2)),
        }
        return {**_rivals(rivals), **self._terms(2, scalar=", attn_scalar", add=", attn_add")}

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what SeqPE and each part of it are worth at the trained resolution and at the largest."""
        others = (*(arm for arm in _IMAGES if arm not in _METHOD), *_WITHOUT)
        at = dict.fromkeys((self.resolution, max(self.resolutions)))
        return _with(
            self.paper.claims, [Claim(f"accuracy_{one}", "higher", arm, "seqpe") for one in at for arm in others]
        )

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """How much smaller this is than the paper."""
        if self.own_data():
            return super().notes(summary)
        return [
            *super().notes(summary),
            "The paper trains ViT-S on ImageNet at 224 pixels for 400 epochs and judges at up to 672; RoPE for images, "
            "which it compares with too, is not among the arms.",
        ]

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Accuracy against resolution, and how alike positions are."""
        side = range(max(self.resolutions) // self.patch)
        grid = [(row, column) for row in side for column in side]
        return [*super().pictures(summary, run), *_similarities(summary, run, grid, "patch, row by row")]


RECIPE = {"texts": SeqPETexts, "images": SeqPEImages}


def _attached(make: Callable[[], Any]) -> Callable[[Any], Any]:
    """A lever that puts positions on a model."""

    def attached(model: Any) -> Any:
        from kilter.pretraining import attach

        return attach(model, make())

    return attached


def _rivals(found: Mapping[str, tuple[str, Callable[[Any], Any]]]) -> dict[str, Term]:
    """Terms of other positions, each with its label and how it is made of `kilter.pretraining`."""

    def term(label: str, make: Callable[[Any], Any]) -> Term:
        def made() -> Any:
            import kilter.pretraining

            return make(kilter.pretraining)

        return Term(label, lambda strength: Levers(module=_attached(made)), role="context")

    return {name: term(*both) for name, both in found.items()}


def _check_digits(max_position: int, needed: int, what: str, option: str) -> None:
    reach = 10 ** len(str(max_position - 1))
    if needed > reach:
        raise ValueError(
            f"max_position={max_position} has digits for {reach} positions, and there are {needed} {what}; raise it, "
            f"or lower {option}"
        )


def _with(published: Sequence[Claim], ours: Sequence[Claim]) -> tuple[Claim, ...]:
    """Claims of the paper, and those that only a run can state."""
    told = {(claim.metric, claim.baseline, claim.arm) for claim in published}
    return (*published, *(one for one in ours if (one.metric, one.baseline, one.arm) not in told))


def _similarities(
    summary: Mapping[str, Any], run: Path, positions: Sequence[Any], across: str, mark: float | None = None
) -> list[Picture]:
    """The cosines of all positions before training and after, of SeqPE and of SeqPE without contrast."""
    import torch

    from kilter.hosts.transformers import load
    from kilter.lab.position_maps import position_maps

    shown = [arm for arm in ("seqpe", "no-contrast") if arm in summary["arms"]]
    some = torch.tensor(positions[:: -(-len(positions) // _DRAWN)])
    panels: dict[str, Any] = {}
    for arm in shown:
        place = sorted((run / "arms" / arm).glob("seed-*/model"))[0]
        term: Any = load(place).kilter_positions
        if not panels:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                fresh = type(term)(**term.config())
                fresh.fit(term.sizes)
            panels["Before training"] = _cosines(fresh, some)
        panels[summary["arms"][arm]["label"]] = _cosines(term, some)
    if not panels:
        return []
    return [Picture("positions", *_MAP, position_maps(panels, (0, len(positions)), across=across, mark=mark))]


def _cosines(term: Any, positions: Any) -> Any:
    import torch

    with torch.no_grad():
        vectors = term.eval().encode(positions)
        apart = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=-1)
        return (apart @ apart.T).numpy()
