"""kilter show: one method: paper, names, claims, evidence; --bibtex for the citation."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kilter.core.paper import Paper, method_card
from kilter.lab.output import print_json

if TYPE_CHECKING:
    from kilter.lab.evidence import Line

PLACE = 30


@dataclass
class Show:
    """Show one method: its paper, public names, what it claims and what was measured here."""

    method: Annotated[Positional[str], arg(metavar="METHOD")]
    """a name from `kilter list`"""
    bibtex: bool = False
    """print the citation only, ready to paste"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Print the card."""
        card = method_card(self.method)
        if self.bibtex:
            print(card.bibtex())
            return 0
        from kilter.lab.evidence import changed, claims_of, recorded

        found = recorded(card.slug)
        if self.json:
            records = {name: {**record, "changed": changed(record)} for name, record in found.items()}
            told = {**asdict(card), "ledger": [asdict(line) for line in claims_of(card)], "evidence": records}
            print_json(told)
            return 0
        print("\n".join(_about(card)))
        print("\n".join(_claims(card, claims_of(card))))
        for name, record in found.items():
            print("\n".join(_measured(name, record, changed(record))))
        if not found:
            print("\n  no evidence recorded yet")
        print(f"\n  try it   kilter run {card.slug} --preset demo")
        return 0


def _about(card: Paper) -> Iterator[str]:
    yield f"{card.slug} — {card.purpose}\n"
    yield f"  {card.title}\n  {', '.join(card.authors)}\n  {card.venue}, {card.year} · {card.url}\n"
    yield f"  lever    {card.lever}\n  names    {', '.join(card.names)}"


def _claims(card: Paper, lines: "list[Line]") -> Iterator[str]:
    """Each claim of the paper once, below it what was found of it wherever it was tried; our own are counted."""
    last, papers = None, {claim.text for claim in card.claims}
    for line in lines:
        if line.claim not in papers:
            continue
        if line.claim != last:
            yield f"\n  claim    {line.claim}" + (f" (published: {line.published})" if line.published else "")
        last = line.claim
        if line.verdict:
            yield f"  verdict  on {line.where}: {line.verdict}: {line.ours}"
        else:
            yield f"  verdict  not tried: {line.reason or 'no evidence yet'}"
    if ours := Counter(line.verdict for line in lines if line.claim not in papers):
        found = ", ".join(f"{count} {verdict}" for verdict, count in ours.most_common())
        yield f"\n  beside   {ours.total()} comparisons that only our runs make: {found}; kilter list --claims has all"


def _measured(name: str, record: Mapping[str, Any], changed: list[str] | None) -> Iterator[str]:
    data = record["data"]
    since = "not known" if changed is None else _counted(changed) or "nothing of method, recipe and task"
    yield f"\n  evidence {name}.json, of {record['created'][:10]}\n  measured {record['command']}"
    yield f"  commit   {record['commit'] or 'not recorded'}\n  changed  {since}"
    yield f"  data     {data['title']}\n  digest   {data['digest'] or 'not recorded'}"


def _counted(files: list[str]) -> str:
    """Which files, where they are few."""
    return f"{len(files)} files of method, recipe and task; --json names them" if len(files) > 3 else ", ".join(files)


COMMAND = Show
