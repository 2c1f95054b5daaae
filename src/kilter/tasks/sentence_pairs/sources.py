"""What teachers and students learn from and are judged on: STS-B, SICK and SNLI, or the user's own pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from kilter.core.sources import check_reread
from kilter.data.labelled_pairs import SETS as SETS
from kilter.lab.recipe import Provenance

if TYPE_CHECKING:
    from kilter.data.labelled_pairs import LabelledPairs

OWN = "pairs"
"""What the user's own pairs are called."""
Kind = Literal["binary", "multiclass", "regression"]
_SOUGHT = "entailment"
_HELD_OUT = 10
"""Without --eval every tenth of the user's pairs is judged on."""


@dataclass(frozen=True)
class Part:
    """A set of pairs: what is learnt from it, and what is judged on it."""

    train: "LabelledPairs"
    test: "LabelledPairs"

    @property
    def kind(self) -> Kind:
        """What its labels are."""
        classes = self.train.classes
        return "regression" if classes is None else "binary" if len(classes) == 2 else "multiclass"

    @property
    def outputs(self) -> int:
        """Numbers that a teacher or a head says of a pair."""
        return len(self.train.classes or ()) if self.kind == "multiclass" else 1

    def sought(self, name: str | None) -> int | None:
        """Of three classes or more the place of the one that is searched by; None where there is one output.

        Raises:
            ValueError: no class has this name.
        """
        classes = self.train.classes or ()
        if name is not None and name not in classes:
            known = f"there are {', '.join(classes)}" if classes else "the pairs have scores"
            raise ValueError(f"index_class={name}: no class is called so; {known}")
        if len(classes) < 3:
            return None
        return classes.index(name or (_SOUGHT if _SOUGHT in classes else classes[-1]))


@dataclass(frozen=True)
class Sets:
    """All sets of a run by name, and where they are from."""

    parts: Mapping[str, Part]
    provenance: Provenance


def published(names: Sequence[str], split: Literal["test", "dev"], note: str) -> Sets:
    """Sets by name, learnt from on their training parts and judged on another."""
    from kilter.data.assets import credits_of
    from kilter.data.labelled_pairs import load_labelled, locate_labelled

    first, *others = locate_labelled(names).items()
    parts = {name: Part(load_labelled(name, "train"), load_labelled(name, split)) for name in names}
    also = credits_of([asset for asset, _ in others])
    return Sets(parts, Provenance(**{**first[1].credit(), "note": " ".join(filter(None, (note, also)))}))


def own_pairs(train: str, judged_on: str | None, note: str) -> Sets:
    """The user's pairs, judged on others of theirs or on every tenth of them.

    Raises:
        ValueError: no such file, a pipe, a broken table, or pairs to judge on of another kind than those to learn from.
    """
    from kilter.data.labelled_pairs import read_labelled_pairs

    check_reread("pairs", train=train, eval=judged_on)
    learnt = read_labelled_pairs(train)
    if judged_on is None:
        held = [place % _HELD_OUT == _HELD_OUT - 1 for place in range(len(learnt.labels))]
        if not any(held):
            raise ValueError(f"{train}: {len(held)} pairs are too few to hold some out; give more, or --eval")
        part = Part(
            *(_rows(learnt, [place for place, out in enumerate(held) if out == side]) for side in (False, True))
        )
    else:
        part = Part(learnt, _in_the_classes_of(learnt, read_labelled_pairs(judged_on), judged_on))
    digest = sha256(repr(part).encode()).hexdigest()[:16]
    source = ", ".join(filter(None, (train, judged_on)))
    title = f"your pairs: {len(part.train):,} to learn from, {len(part.test):,} to judge on"
    return Sets({OWN: part}, Provenance(title, source=source, digest=digest, note=note))


def some_of(sets: Sets, learnt: int, judged: int) -> Sets:
    """At most so many pairs of each set to learn from and to judge on, spread over all there are; 0 for all."""
    parts = {name: Part(_spread(part.train, learnt), _spread(part.test, judged)) for name, part in sets.parts.items()}
    return replace(sets, parts=parts)


def _in_the_classes_of(learnt: "LabelledPairs", judged: "LabelledPairs", source: str) -> "LabelledPairs":
    """The pairs to judge on with labels numbered as those to learn from."""
    if (learnt.classes is None) != (judged.classes is None):
        kinds = ["scores" if one.classes is None else "classes" for one in (learnt, judged)]
        raise ValueError(f"{source}: --train has {kinds[0]} and --eval {kinds[1]}; give the same kind of labels")
    if learnt.classes is None or judged.classes is None:
        return judged
    if strange := [one for one in judged.classes if one not in learnt.classes]:
        raise ValueError(
            f"{source}: class {strange[0]!r} is none of those to learn from ({', '.join(learnt.classes)}); leave such "
            "pairs out"
        )
    places = [learnt.classes.index(one) for one in judged.classes]
    labels = tuple(places[int(label)] for label in judged.labels)
    return replace(judged, labels=labels, classes=learnt.classes)


def _spread(pairs: "LabelledPairs", count: int) -> "LabelledPairs":
    there = len(pairs.labels)
    some = min(count or there, there)
    return _rows(pairs, [place * there // some for place in range(some)])


def _rows(pairs: "LabelledPairs", rows: Sequence[int]) -> "LabelledPairs":
    first, second, labels = (tuple(side[row] for row in rows) for side in (pairs.first, pairs.second, pairs.labels))
    return replace(pairs, first=first, second=second, labels=labels)
