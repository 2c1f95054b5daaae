"""Where inputs come from: restaurants or captions, with several references for each, or the user's own prompts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from kilter.data.reference_sets import ReferenceSet, load_reference_set
from kilter.data.referenced import Referenced, spread
from kilter.lab.recipe import Provenance

if TYPE_CHECKING:
    from kilter.models.small_seq2seq import Pair

Split = Literal["dev", "test"]


class Pairs:
    """A data set to train on, to choose strengths on and to judge on; of the latter parts are taken, spread over it."""

    def __init__(self, name: ReferenceSet, *, dev: int, test: int) -> None:
        splits, found = load_reference_set(name)
        self.train: Sequence[Pair] = splits.train
        self._judged = {"dev": spread(splits.dev, dev), "test": spread(splits.test, test)}
        self._placeholders = name == "e2e"
        self.provenance = Provenance(**found.credit())

    def items(self, split: Split) -> Sequence[Referenced]:
        """Inputs to judge on."""
        return self._judged[split]

    def note(self) -> str:
        """How many of the test inputs the model was trained on, as it reads them; nothing if none."""
        trained, items = {source for source, _ in self.train}, self.items("test")
        known = sum(item.source in trained for item in items)
        why = ": names, kinds of place and cuisines are placeholders to it" if self._placeholders else ""
        said = f"{known} of the {len(items)} test inputs read to the model as an input it was trained on{why}."
        return said if known else ""


class OwnPrompts:
    """The user's prompts, for the user's model; those with references can be judged for quality too."""

    train: Sequence["Pair"] = ()

    def __init__(self, source: str, *, test: int) -> None:
        from hashlib import sha256

        from kilter.data.text_prompts import read_prompts

        own = [Referenced(one.text, tuple(one.kept.get("references", ()))) for one in read_prompts(source)]
        told = sum(bool(one.references) for one in own)
        digest = sha256(repr([(one.source, one.references) for one in own]).encode()).hexdigest()[:16]
        title = f"your prompts: {len(own)}, {told or 'none'} with references"
        self._judged = spread(own, test)
        self.provenance = Provenance(title, source=source, digest=digest)

    def items(self, split: Split) -> Sequence[Referenced]:
        """All of them, or so many, spread over them."""
        return self._judged

    def note(self) -> str:
        """Nothing is known of what the user's model was trained on."""
        return ""


Source = Pairs | OwnPrompts
