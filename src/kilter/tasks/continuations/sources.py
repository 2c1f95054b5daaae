"""Where passages and what follows them come from: three novels, or the user's own documents."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilter.core.sources import check_reread
from kilter.lab.recipe import Provenance

if TYPE_CHECKING:
    from kilter.data.books import Pair
    from kilter.data.judgements import Preference

_HELD = " (held out)"


class Passages:
    """Pairs of a passage and what follows it, by document, and who may see which.

    A half of each document is for the rankers compared, the other for the one that judges them.

    Args:
        documents: the pairs of each document.
        provenance: where they are from.
        held_out: documents that are judged on and never learnt from; without any, each seed holds out another one.
        halved: whether the halves are kept apart; where nobody judges, the rankers have both.
    """

    def __init__(
        self,
        documents: "Mapping[str, Sequence[Pair]]",
        provenance: Provenance,
        held_out: Sequence[str] = (),
        *,
        halved: bool = True,
    ) -> None:
        self.documents, self.provenance, self._held_out, self._halved = documents, provenance, held_out, halved

    def held(self, seed: int) -> Sequence[str]:
        """Documents that the rankers of this seed do not see."""
        names = sorted(self.documents)
        return self._held_out or (names[seed % len(names)],)

    def seen(self, seed: int) -> list[str]:
        """The others."""
        return [name for name in sorted(self.documents) if name not in self.held(seed)]

    def spread(self, documents: Sequence[str], half: int, total: int) -> "list[Pair]":
        """`total` pairs of a half of these documents, of each as many; the same whoever asks."""
        found: list[Pair] = []
        for document in documents:
            some = self._some(document, half, min(_each(total, documents), total - len(found)))
            found += some if len(some) > 1 or not found else []  # one alone has no other passage of its document
        return found

    def _some(self, document: str, half: int, count: int) -> "list[Pair]":
        whole = document in self._held_out or not self._halved
        rows = [pair for pair in self.documents[document] if whole or pair.half == half]
        return random.Random(f"{half} {document}").sample(rows, len(rows))[:count]

    def wanted(self, seed: int, *, learnt: int, tested: int, judge: int) -> "dict[tuple[str, int], list[Pair]]":
        """Which pairs need a machine's continuation, by document and half.

        Of novels it is the same for all seeds, though each holds out another.

        Args:
            seed: decides what is held out.
            learnt: how many pairs the rankers learn from.
            tested: how many they are judged on.
            judge: how many the judge learns from; 0 without one.
        """
        seen, held = self.seen(seed), self.held(seed)
        found: dict[tuple[str, int], list[Pair]] = {}
        if self._held_out:
            for half, pairs in (
                (0, self.spread(seen, 0, learnt) + self.spread(held, 0, tested)),
                (1, self.spread(seen, 1, judge) if judge else []),
            ):
                for pair in pairs:
                    found.setdefault((pair.document, half), []).append(pair)
            return found
        for document in self.documents:
            found[document, 0] = self._some(document, 0, max(_each(learnt, seen), _each(tested, held)))
            if judge:
                found[document, 1] = self._some(document, 1, _each(judge, seen))
        return found

    def texts(self) -> Iterator[str]:
        """Prefixes of every document, from which a tiny tokenizer can learn."""
        return (pair.prefix for pairs in self.documents.values() for pair in pairs[:200])


def novels(*, note: str, **how: Any) -> Passages:
    """The three novels; `how` passages are cut is what `kilter.data.books.pairs_of` takes."""
    from kilter.data.assets import locate
    from kilter.data.books import load_pairs

    found = locate("books")
    credit = Provenance(**{**found.credit(), "note": note})
    return Passages(load_pairs(found.path, **how), credit)


def own_documents(folder: str, judged_on: str | None, *, halved: bool, note: str, **how: Any) -> Passages:
    """The user's texts, judged on others of theirs or on the last tenth of each.

    Raises:
        ValueError: no such folder or table, a pipe, or no text in it that is long enough.
    """
    from kilter.data.books import load_long_pairs

    check_reread("documents", train=folder, eval=judged_on)
    own, skipped = load_long_pairs(folder, **how)
    judged, left = load_long_pairs(judged_on, **how) if judged_on else ({}, [])
    documents, short = _with_held_out(own, judged, ".txt" * Path(folder).is_dir())
    held = tuple(name for name in documents if name.endswith(_HELD))
    credit = Provenance(
        f"your documents: {len(documents) - len(held)} texts, {sum(map(len, documents.values()))} passages",
        source=", ".join(filter(None, (folder, judged_on))),
        digest=sha256(repr(sorted(documents.items())).encode()).hexdigest()[:16],
        note=note,
        skipped=[*skipped, *left, *short],
    )
    return Passages(documents, credit, held, halved=halved)


def preferences() -> "Sequence[Preference]":
    """What people preferred, where the published judgements can be had."""
    from kilter.data.assets import locate
    from kilter.data.judgements import load_judgements

    with suppress(FileNotFoundError):
        return load_judgements(locate("rankgen-judgements", progress=False).path)
    return ()


def kept_in(folder: Path, document: str, half: int) -> Path:
    """The file of the machine's continuations of a half of a document."""
    safe = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in document)
    return folder / f"{safe}-{sha256(document.encode()).hexdigest()[:6]}-{half}.jsonl"


def _each(total: int, documents: Sequence[str]) -> int:
    """Passages of each document, so that there are `total` in all; two at least, each of them the other's negative."""
    return max(2, -(-total // len(documents)))


def _with_held_out(
    own: "Mapping[str, list[Pair]]", judged: "Mapping[str, list[Pair]]", ending: str
) -> "tuple[dict[str, list[Pair]], list[tuple[str, str]]]":
    """The user's documents; those to judge on under names of their own, or the last tenth of each; what is left out."""
    from kilter.data.books import before

    if judged:
        return {**own, **{f"{name}{_HELD}": pairs for name, pairs in judged.items()}}, []
    found: dict[str, list[Pair]] = {}
    skipped = []
    for name, pairs in own.items():
        cut = len(pairs) - max(2, len(pairs) // 10)
        if cut < 2 or len(learnt := before(pairs, cut)) < 2:
            skipped.append((f"{name}{ending}", f"only {len(pairs)} passages, too few to hold some out"))
        else:
            found |= {name: learnt, f"{name}{_HELD}": pairs[cut:]}
    if not found:
        raise ValueError(f"{skipped[0][0]}: {skipped[0][1]}; add longer texts, or --eval")
    return found, skipped
