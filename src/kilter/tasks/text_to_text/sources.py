"""Where pairs come from: restaurants or captions with several references for each, or the user's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from kilter.data.reference_sets import ReferenceSet, load_reference_set
from kilter.data.referenced import Referenced, spread
from kilter.lab.recipe import Provenance

_HELD_OUT = 10
"""Of the user's pairs each tenth is judged on, where there are no others for that."""


@dataclass(frozen=True)
class Pairs:
    """Pairs to learn from, inputs to judge on, and where they are from."""

    train: Sequence[tuple[str, str]]
    test: Sequence[Referenced]
    provenance: Provenance


def published(name: ReferenceSet, test: int) -> Pairs:
    """A data set, with so many inputs of its test part, spread over it."""
    splits, found = load_reference_set(name)
    return Pairs(splits.train, spread(splits.test, test), Provenance(**found.credit()))


def own(train: str, judged_on: str | None, test: int) -> Pairs:
    """The user's pairs; of those with several references each is a pair to learn.

    Raises:
        ValueError: see `kilter.data.text_pairs.read_text_pairs`; or too few to hold some out.
    """
    from kilter.data.text_pairs import read_text_pairs

    learnt = read_text_pairs(train)
    if judged_on is None:
        judged = learnt[_HELD_OUT - 1 :: _HELD_OUT]
        if not judged:
            raise ValueError(f"{train}: {len(learnt)} pairs are too few to hold some out; give more, or --eval")
        kept = {one.source for one in judged}
        learnt = [one for one in learnt if one.source not in kept]
        if not learnt:
            raise ValueError(f"{train}: its sources are too few to hold some out, {len(kept)}; give more, or --eval")
    else:
        judged = read_text_pairs(judged_on)
    digest = sha256(repr([(one.source, one.references) for one in (*learnt, *judged)]).encode()).hexdigest()[:16]
    known = {one.source for one in learnt}
    met = sum(one.source in known for one in judged)
    provenance = Provenance(
        f"your pairs: {len(learnt):,} to learn from, {len(judged):,} to judge on",
        source=train if judged_on is None else f"{train}, {judged_on}",
        digest=digest,
        note=f"{met} of the inputs that are judged are among those learnt from." if met else "",
    )
    return Pairs([(one.source, text) for one in learnt for text in one.references], spread(judged, test), provenance)
