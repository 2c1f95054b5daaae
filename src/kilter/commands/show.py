"""kilter show: one method: paper, names, claims, evidence; --bibtex for the citation."""

import json
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from kilter.core.paper import method_card

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
        from kilter.lab.evidence import evidence

        record = evidence(card.slug)
        if self.json:
            from dataclasses import asdict

            print(json.dumps({**asdict(card), "evidence": record}, indent=2, ensure_ascii=False))
            return 0
        print(f"{card.slug} — {card.purpose}\n")
        print(f"  {card.title}\n  {', '.join(card.authors)}\n  {card.venue}, {card.year} · {card.url}\n")
        print(f"  lever    {card.lever}\n  names    {', '.join(card.names)}")
        for found in (record or {}).get("verdicts", []):
            print(f"  claim    {found['claim']}\n  verdict  {found['verdict']}: {found['why']}")
        if record is None:
            print("  verdict  no evidence recorded yet")
        else:
            print(f"  measured {record['command']}")
        print(f"\n  try it   kilter run {card.slug} --preset demo")
        return 0


COMMAND = Show
