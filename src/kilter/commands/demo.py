"""kilter demo: watch a speech recogniser emit its words earlier, on this machine, in minutes."""

from dataclasses import dataclass
from pathlib import Path

from kilter.commands.run import run_method

PLACE = 10


@dataclass
class Demo:
    """Train a small recogniser on recorded digits and watch Align With Purpose make its words come earlier.

    The same as `kilter run align-with-purpose --preset demo`. Minutes on two cores; safe to interrupt and repeat.
    """

    out: Path | None = None
    """run directory; by default under ./runs"""

    def __call__(self) -> int:
        """Run the demo."""
        return run_method("align-with-purpose", ["--preset", "demo", *(["--out", str(self.out)] if self.out else [])])


COMMAND = Demo
