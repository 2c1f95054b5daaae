"""kilter list: every method with its lever, its paper and its verdict."""

import json
from dataclasses import dataclass

PLACE = 20


@dataclass
class List:
    """List every method: what it is for, its lever, its paper and the verdict of the evidence."""

    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Print the table."""
        from kilter.core.paper import cards
        from kilter.lab.evidence import verdict

        rows = [
            {
                "method": card.slug,
                "lever": card.lever,
                "purpose": card.purpose,
                "paper": f"{card.authors[0].rsplit(' ', 1)[-1]} et al., {card.year}",
                "verdict": verdict(card.slug),
            }
            for card in cards().values()
        ]
        if self.json:
            print(json.dumps(rows, indent=2, ensure_ascii=False))
            return 0
        from rich.console import Console
        from rich.table import Column, Table

        method = Column("method", no_wrap=True)
        table = Table(method, "lever", "what for", "paper", "verdict", box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(row["method"], row["lever"], row["purpose"], row["paper"], row["verdict"])
        Console().print(table)
        print("\nkilter show METHOD tells more; kilter run METHOD --help lists its options.")
        return 0


COMMAND = List
