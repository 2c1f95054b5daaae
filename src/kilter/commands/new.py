"""kilter new: start the next paper from templates."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from kilter.core.paper import Lever

PLACE = 130


@dataclass
class New:
    """Start the next paper: one method file, one recipe and one test from templates.

    Example: kilter new speech/fast-emit
    """

    target: Annotated[Positional[str], arg(metavar="FAMILY/NAME")]
    """family and slug of the method"""
    lever: Lever = "objective"
    """what the method acts on"""
    task: str | None = None
    """what its recipe trains for and judges on, e.g. recognition; by default the first that takes the lever"""
    new_family: bool = False
    """make the family, if there is none of that name"""
    root: Path = Path()
    """root of the source tree"""

    def __call__(self) -> int:
        """Write the files."""
        from kilter.scaffold import new, next_steps

        for path in new(self.target, self.root, lever=self.lever, task=self.task, new_family=self.new_family):
            print(path)
        print(next_steps(self.target, self.lever, self.task))
        return 0


COMMAND = New
