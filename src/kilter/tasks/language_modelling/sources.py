"""Where texts come from: documentation of Debian and three novels, look-ups made here, or the user's own."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Literal

from kilter.core.sources import by_name, check_reread
from kilter.lab.recipe import Provenance

NOVELS = "novels"
DOMAINS = ("politics", "python", "perl", "databases", "git", "debian", "computing", "glosses", "sayings", "jargon")
"""Of the documentation those that are learnt from by default, beside the novels."""
LOOK_UPS = Provenance("look-ups made here", licence="none needed", digest="1")
"""No stand-in for anything: the task is made up, whoever tries it."""

Split = Literal["test", "dev"]
JudgedOn = Literal["target", "wikitext"]

_HELD_OUT = 5
"""Of the user's texts, where there are no others to judge on, every fifth piece is."""
_PIECE = 600
"""Characters of such a piece at least."""
_FEWEST = 20
"""Documents below which they are cut into pieces to hold some out."""


@dataclass(frozen=True)
class Texts:
    """What is learnt from, by domain, and what is judged on.

    Attributes:
        domains: to learn from.
        target: examples of what is judged on, by which domains may be weighed; never learnt from.
        test: judged on.
        dev: judged on where settings are chosen.
        provenance: where they are from.
    """

    domains: Mapping[str, Sequence[str]]
    target: Sequence[str]
    test: Sequence[str]
    dev: Sequence[str] = ()
    provenance: Provenance = field(default_factory=lambda: LOOK_UPS)

    def judged(self, split: Split) -> Sequence[str]:
        """The texts to judge on.

        Raises:
            ValueError: there are none to choose settings on.
        """
        if split == "dev" and not self.dev:
            raise ValueError("split=dev: your own texts have no development part; leave --split out")
        return self.dev if split == "dev" else self.test


def given(names: Sequence[str], judged_on: JudgedOn) -> Texts:
    """Documentation of Debian's packages and the novels; judged on manual pages, or on Wikipedia's articles.

    Of the manual pages a quarter are examples of the target, a quarter the development part, and half are judged on.

    Raises:
        FileNotFoundError: they are not here and cannot be fetched.
        ValueError: there is no domain of such a name.
    """
    from kilter.data.assets import credit_of, locate
    from kilter.data.books import load_texts, strip_gutenberg
    from kilter.data.debian_documentation import TARGET, documentation_domains, locate_documentation

    if TARGET in names:
        raise ValueError(f"corpora: {TARGET}: it is what is judged on; leave it out")
    located = [locate_documentation()]
    found = documentation_domains([*(name for name in names if name != NOVELS), TARGET])
    pages = _mixed(found.pop(TARGET))
    if NOVELS in names:
        located.append(locate("books", progress=False))
        found[NOVELS] = [strip_gutenberg(text) for text in load_texts(located[-1].path).values()]
    domains = {name: found[name] for name in names}
    quarter = len(pages) // 4
    test: Sequence[str] = pages[2 * quarter :]
    if judged_on == "wikitext":
        from kilter.data.wikitext import locate_wikitext, wikitext_articles

        test = wikitext_articles("test")
        located.append(locate_wikitext())
    credit = Provenance(**credit_of(located))
    return Texts(domains, pages[:quarter], test, pages[quarter : 2 * quarter], credit)


def own(
    train: Sequence[str], domains: Mapping[str, str], target: Sequence[str], judged: Sequence[str], *, most: int
) -> Texts:
    """The user's texts.

    Args:
        train: sources of one domain.
        domains: a source for each domain.
        target: sources of examples of the target; without `judged` every fifth piece is judged on instead.
        judged: sources to judge on; without them and without a target, every fifth piece of what is learnt from.
        most: characters of each domain at most; 0 for all.

    Raises:
        ValueError: a source is not what it should be, holds too little, is a pipe, or is target and learnt from.
    """
    from kilter.data.texts import without_lines

    learnt = {"train": _read("train", train, most)} if train else {}
    learnt |= {name: _read("domains", [source], most) for name, source in domains.items()}
    known = {Path(one): "--train" for one in train} | {Path(one): f"domain {name}" for name, one in domains.items()}
    for source in target:
        if (what := known.get(Path(source))) is not None:
            raise ValueError(
                f"--target {source}: {what} is the same, and the target is never learnt from; give other texts for one "
                "of the two"
            )
    aims = _read("target", target, 0) if target else []
    test = _read("eval", judged, 0) if judged else []
    if not test and aims:
        aims, test = _held_out("--target", aims)
    elif not test:
        parted = {
            name: _held_out(f"domain {name}" if name in domains else "--train", texts) for name, texts in learnt.items()
        }
        learnt = {name: kept for name, (kept, _) in parted.items()}
        test = [text for _, held in parted.values() for text in held]
    aims, _ = without_lines(aims, test)
    left = 0
    for name, texts in learnt.items():
        learnt[name], lines = without_lines(texts, test)
        left += lines
        if not learnt[name]:
            raise ValueError(
                f"domain {name}: all of its lines are in the text that is judged on too, which is never learnt from; "
                "give others"
            )
    if target and not aims:
        raise ValueError("--target: all of its lines are in the text that is judged on too; give others")
    digest = sha256(repr((sorted(learnt.items()), aims, test)).encode()).hexdigest()[:16]
    named = ", ".join([*train, *domains.values(), *target, *judged])
    count = sum(map(len, (text for texts in learnt.values() for text in texts)))
    _, both = without_lines(aims, [text for texts in learnt.values() for text in texts])
    note = " ".join(
        f"{what}: {lines:,}."
        for what, lines in (
            ("Lines not learnt from since they are in the text that is judged on", left),
            ("Lines of the target that are learnt from too", both),
        )
        if lines
    )
    title = f"your texts: {len(learnt)} domain{'s' * (len(learnt) != 1)}, {count:,} characters to learn from"
    return Texts(learnt, aims, test, (), Provenance(title, source=named, digest=digest, note=note))


def by_domain(given: Sequence[str]) -> dict[str, str]:
    """What `--domains a=a.txt b=b.jsonl` says, by domain."""
    return by_name("domains", given, of="domain", example="news")


def _read(option: str, given: Iterable[str], most: int) -> list[str]:
    from kilter.data.texts import read_texts

    found: list[str] = []
    for source in given:
        check_reread("texts", **{option: source})
        found += read_texts(source, most=most)
    return found


def _held_out(what: str, texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Texts to keep, and every fifth to judge on; of few the pieces are parted.

    Raises:
        ValueError: there is one piece only.
    """
    from kilter.data.texts import pieces

    some = [*texts] if len(texts) >= _FEWEST else [piece for text in texts for piece in pieces(text, _PIECE)]
    if len(some) < 2:
        raise ValueError(
            f"{what} is one short text, of which nothing can be held out to judge on; give more, or --eval"
        )
    held = [*islice(some, 0, None, _HELD_OUT)]
    return [text for place, text in enumerate(some) if place % _HELD_OUT], held


def _mixed(texts: Sequence[str]) -> list[str]:
    return random.Random(0).sample([*texts], len(texts))
