"""Where pairs come from: sections of Debian's package descriptions, or the user's own files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from kilter.core.sources import by_name, check_reread
from kilter.lab.files import read_json
from kilter.lab.recipe import Provenance
from kilter.tasks.domain_retrieval.corpus import Corpus, Pair, Pairs, distinct, parted

_NAME = re.compile(r"[^\W_][\w.+-]*")
_LEAST = 2
"""Pairs of a domain to judge on, and to choose a threshold on."""


def by_domain(option: str, given: Sequence[str]) -> dict[str, str]:
    """What `--train med=med.csv law=law.jsonl` says, by domain; see `kilter.core.sources.by_name`."""
    return by_name(option, given, of="domain", example="med")


def check_domains(option: str, domains: Sequence[str]) -> None:
    """Check that there are domains, each once, with names that can be those of tokens and folders.

    Raises:
        ValueError: which is not, and how to mend it.

    Example:
        >>> check_domains("sections", ["games", "Games"])
        Traceback (most recent call last):
        ValueError: sections: games and Games are one name; give each domain one of its own
    """
    if not domains:
        raise ValueError(f"{option}: there is no domain; name one at least")
    seen: dict[str, str] = {}
    for name in domains:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{option}: {name!r} is no name of a domain; take letters, digits, -, _, + and .")
        if (other := seen.setdefault(name.casefold(), name)) != name or domains.count(name) > 1:
            raise ValueError(f"{option}: {other} and {name} are one name; give each domain one of its own")


def debian(
    sections: Sequence[str], *, most: int, dev: int, test: int, batch_size: int, kept: Path | None = None
) -> Corpus:
    """Summaries and descriptions of Debian's packages, each section a domain.

    To read all of them takes a quarter of a minute; `kept` is a file that may hold what was made of them.

    Raises:
        FileNotFoundError: they are not here and cannot be fetched.
        ValueError: there is no such section, or it has too few packages.
    """
    from kilter.data.debian_descriptions import locate_descriptions
    from kilter.data.domains import debian_domains

    credit = Provenance(**locate_descriptions().credit())
    if kept is not None and kept.exists():
        return Corpus.from_plain(read_json(kept), credit)
    return _corpus(debian_domains(sections), {}, credit, most=most, dev=dev, test=test, batch_size=batch_size)


def own(
    train: Mapping[str, str], judged: Mapping[str, str], *, most: int, dev: int, test: int, batch_size: int
) -> Corpus:
    """The user's pairs of each domain, of which a part is kept to judge on where there are no others for that.

    Raises:
        ValueError: a file is not what it should be, has too few pairs, or is a pipe.
    """
    from kilter.data.domains import read_domains

    for option, files in (("train", train), ("eval", judged)):
        for source in files.values():
            check_reread("pairs", **{option: source})
    learnt, asked = read_domains(train), read_domains(judged) if judged else {}
    digest = sha256(repr((sorted(learnt.items()), sorted(asked.items()))).encode()).hexdigest()[:16]
    source = ", ".join([*train.values(), *judged.values()])
    credit = Provenance("your pairs", source=source, digest=digest)
    found = _corpus(learnt, asked, credit, most=most, dev=dev, test=test, batch_size=batch_size)
    of = [f"of {one} {len(found.train[one])} to learn from and {len(found.test[one])} to judge on" for one in learnt]
    return replace(found, provenance=replace(credit, title=f"your pairs: {'; '.join(of)}"))


def _corpus(
    pairs: Pairs, asked: Pairs, credit: Provenance, *, most: int, dev: int, test: int, batch_size: int
) -> Corpus:
    """Three parts of each domain; `asked` are pairs to judge on, of domains that have such."""
    learnt: dict[str, list[Pair]] = {}
    chosen: dict[str, list[Pair]] = {}
    judged: dict[str, list[Pair]] = {}
    repeated = 0
    for domain, some in pairs.items():
        given = distinct(asked.get(domain, ()))[:test]
        once = distinct(some, (text for pair in given for text in pair))
        repeated += len(some) - len(once)
        left, chosen[domain], held = parted(once, dev=dev, test=0 if given else test)
        learnt[domain], judged[domain] = left[:most] if most else left, given or held
        counts = len(learnt[domain]), len(chosen[domain]), len(judged[domain])
        if counts[0] < batch_size or min(counts[1:]) < _LEAST:
            raise ValueError(
                f"domain {domain} has {len(once)} different pairs: {counts[0]} to learn from, {counts[1]} to choose a "
                f"threshold on, {counts[2]} to judge on; at least {batch_size} (a batch), {_LEAST} and {_LEAST} are "
                "needed: give more, lower --batch-size, or leave the domain out"
            )
    notes = [f"Pairs left out since they repeat a text of another one of their domain: {repeated:,}."] * bool(repeated)
    return Corpus(learnt, chosen, judged, credit, notes)
