"""kilter list: every method with its lever, its paper and its verdict; --claims for what was found of each claim."""

from dataclasses import asdict, dataclass

from kilter.core.paper import cards
from kilter.lab.output import print_json

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
        """Print what was asked for."""
        rows = _claims() if self.claims else _methods()
        if self.json:
            print_json(rows)
            return 0
        _print_claims(rows) if self.claims else _print_methods(rows)
        print("\n" * self.claims + "kilter show METHOD tells more; kilter run METHOD --help lists its options.")
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
    """A method a paragraph, as of the claims: a table of five columns is tall and narrow where the terminal is."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console()
    for row in rows:
        console.print(Text.assemble((row["method"], "bold"), f" · {row['lever']} · {row['paper']}"))
        console.print(Padding(Text(f"{row['purpose']}\nverdict: {row['verdict']}\n"), (0, 0, 0, 2)))


def _print_claims(rows: list[dict[str, str]]) -> None:
    """A claim a paragraph, so that it can be read at any width."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console, before = Console(), {"method": "", "claim": ""}
    for row in rows:
        if row["method"] != before["method"]:
            console.print(Text(f"\n{row['method']}", "bold"))
        if row["claim"] != before["claim"]:
            console.print(Padding(Text(f"\n{row['claim']}"), (0, 0, 0, 2)))
            if row["published"]:
                console.print(Padding(Text(f"published: {row['published']}", "dim"), (0, 0, 0, 4)))
        if row["verdict"]:
            found = Text.assemble((f"{row['verdict']} on {row['where']}", "bold"), f": {row['ours']}")
        else:
            found = Text(f"not tried: {row['reason'] or 'no evidence yet'}")
        console.print(Padding(found, (0, 0, 0, 4)))
        before = row


COMMAND = List
