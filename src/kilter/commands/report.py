"""kilter report: print the table of a run or of evidence again, write its report.html."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from kilter.lab.output import print_json

PLACE = 90


@dataclass
class Report:
    """Print the table of a run directory or of an evidence file, and write its report.html anew.

    Example: kilter report evidence/rankgen.json
    """

    run: Annotated[Positional[Path], arg(metavar="RUN|EVIDENCE.json")]
    """a run directory, or an evidence file"""
    out: Path | None = None
    """folder of report.html; by default that of the run, and for evidence one under ./runs"""
    json: bool = False
    """print the summary as JSON"""

    def __call__(self) -> int:
        """Write and print."""
        from kilter.lab.report import load_summary, show_run, write_report

        summary = load_summary(self.run)
        if self.json:
            print_json(summary)
            return 0
        recorded = self.run.suffix == ".json"
        out = self.out or (Path("runs", f"{self.run.stem}-evidence") if recorded else self.run)
        show_run(self.run, write_report(self.run, out))
        return 0


COMMAND = Report
