"""kilter list: every method with its lever, its paper and its verdict; --claims for what was found of each claim."""

import json
from dataclasses import asdict, dataclass

from kilter.core.paper import cards

PLACE = 20


@dataclass
class List:
    """List every method: what it is for, its lever, its paper and the verdict of the evidence.

    With --claims, the ledger: every result that a paper's abstract claims, the published figure, ours with its 95 %
    interval, and the verdict or the reason why it cannot be tried here; then the claims that only our runs make.
    """

    claims: bool = False
    """print the ledger of claims"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Print the table."""
        rows = _claims() if self.claims else _methods()
        if self.json:
            print(json.dumps(rows, indent=2, ensure_ascii=False))
            return 0
        _print_claims(rows) if self.claims else _print_methods(rows)
        print("\nkilter show METHOD tells more; kilter run METHOD --help lists its options.")
        return 0


def _methods() -> list[dict[str, str]]:
    from kilter.lab.evidence import verdict

    return [
        {
            "method": card.slug,
            "lever": card.lever,
            "purpose": card.purpose,
            "paper": f"{card.authors[0].rsplit(' ', 1)[-1]} et al., {card.year}",
            "verdict": verdict(card.slug),
        }
        for card in cards().values()
    ]


def _claims() -> list[dict[str, str]]:
    from kilter.lab.evidence import ledger

    return [asdict(line) for line in ledger()]


def _print_methods(rows: list[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    method = Column("method", no_wrap=True)
    table = Table(method, "lever", "what for", "paper", "verdict", box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


def _print_claims(rows: list[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("method", "claim", "published", "ours", "verdict", "on", header_style="bold", show_lines=True)
    for row in rows:
        cells = (row[name] for name in ("method", "claim", "published", "ours"))
        found = row["verdict"] or f"not tried: {row['reason'] or 'no evidence yet'}"
        table.add_row(*map(Text, (*cells, found, row["where"])))
    Console().print(table)


COMMAND = List
