"""kilter report: print the table of a run again, rewrite its report.html."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

PLACE = 90


@dataclass
class Report:
    """Print the table of a run directory again, and write its report.html anew."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """a run directory"""
    json: bool = False
    """print the summary as JSON"""

    def __call__(self) -> int:
        """Write and print."""
        from kilter.lab.report import load_summary, show_run, write_report

        summary = load_summary(self.run)
        if self.json:
            print(json.dumps(summary, indent=2, ensure_ascii=False))
            return 0
        show_run(self.run, write_report(self.run))
        return 0


COMMAND = Report
