"""kilter compare: two runs side by side, or a run and evidence."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from kilter.lab.output import print_json

PLACE = 100


@dataclass
class Compare:
    """Compare two run directories or evidence files: what differs in their settings, and what in their figures.

    Example: kilter compare runs/mine evidence/align-with-purpose.json
    """

    a: Annotated[Positional[Path], arg(metavar="RUN_A")]
    """a run directory, or an evidence file"""
    b: Annotated[Positional[Path], arg(metavar="RUN_B")]
    """another"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Print the comparison."""
        from kilter.lab.report import compare

        table, found = compare(self.a, self.b)
        if self.json:
            print_json(found)
        else:
            from rich.console import Console

            Console().print(table)
        return 0


COMMAND = Compare
