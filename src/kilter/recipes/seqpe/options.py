"""What SeqPE on texts and SeqPE on images share: options of the method, its arms, and how rivals are attached."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from kilter.lab.arms import Levers, Term
from kilter.lab.options import NOT_NEGATIVE, above, share

Apply = Literal["attn_scalar", "attn_mul", "attn_add", "input_add"]
WITHOUT = {"no-contrast": "contrast_weight", "no-transfer": "transfer_weight", "no-shift": "shift_rate"}
"""What each of these arms has not, and the option that is 0 for it."""
METHOD = ("seqpe", *WITHOUT)


@dataclass(kw_only=True)
class PositionOptions:
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
    encoder_rate: Annotated[float | None, above(0)] = None
    """learning rate of what reads the digits; None for that of the model, as published"""

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

    def _seqpe(self, **given: Any) -> Any:
        from kilter.pretraining import SeqPE

        names = ("max_position", "apply", *WITHOUT.values(), "sampler", "qk_map")
        return SeqPE(**{**{name: getattr(self, name) for name in names}, **given})

    def _terms(self, axes: int, **variants: str) -> dict[str, Term]:
        """SeqPE, with variants of where it enters, and without each of its parts."""

        def made(strength: float | None, **said: bool) -> Levers:
            changed = dict(("sampler", word) if word == "centred" else ("apply", f"attn_{word}") for word in said)
            return Levers(module=_attached(lambda: self._seqpe(axes=axes, **changed)))

        found = {"seqpe": Term("SeqPE", made, variants={"centred": ", compared near by", **variants})}
        for name, option in WITHOUT.items():
            without = _attached(lambda option=option: self._seqpe(axes=axes, **{option: 0.0}))
            found[name] = Term(
                f"SeqPE without {name.removeprefix('no-')}", lambda strength, lever=without: Levers(module=lever)
            )
        return found


def _attached(make: Callable[[], Any]) -> Callable[[Any], Any]:
    """A lever that puts positions on a model."""

    def attached(model: Any) -> Any:
        from kilter.pretraining import attach

        return attach(model, make())

    return attached


def rivals_of(found: Mapping[str, tuple[str, Callable[[Any], Any]]]) -> dict[str, Term]:
    """Terms of other positions, each with its label and how it is made of `kilter.pretraining`."""

    def term(label: str, make: Callable[[Any], Any]) -> Term:
        def made() -> Any:
            import kilter.pretraining

            return make(kilter.pretraining)

        return Term(label, lambda strength: Levers(module=_attached(made)), role="context")

    return {name: term(*both) for name, both in found.items()}


def check_digits(max_position: int, needed: int, what: str, option: str) -> None:
    """Raise ValueError where positions are `needed` that have more digits than `max_position`."""
    reach = 10 ** len(str(max_position - 1))
    if needed > reach:
        raise ValueError(
            f"max_position={max_position} has digits for {reach} positions, and there are {needed} {what}; raise it, "
            f"or lower {option}"
        )
