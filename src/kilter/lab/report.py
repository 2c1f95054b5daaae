"""What people read of a run: one self-contained page, and the same table for the terminal.

Source: the run directory (summary.json and the figures it names).
Departure from most report generators: no script, nothing fetched; the page's own policy forbids both.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilter.lab.files import read_json, write_whole
from kilter.lab.numbers import MINUS, NOTHING, fixed
from kilter.lab.numbers import estimate as ends_of
from kilter.lab.theme import theme_css

if TYPE_CHECKING:
    from rich.table import Table

Summary = Mapping[str, Any]  # of summary.json
Estimate = Mapping[str, Any]  # {"mean", "low", "high"}: numbers, or None where there is nothing to say

AUDIO_TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
SYNTHETIC = "The data in this run are synthetic."
MARKS = {"holds": "✓", "holds in direction": "↗", "not seen here": "○", "contradicted": "✕"}
SMOKE = "No verdicts: the preset smoke only tries whether all runs, and is too small to say anything of a claim."
NO_FIGURES = "This page is made from recorded evidence, which keeps numbers only; the command above draws the figures."
HEADLINES = 4  # metrics that get a card at the top of the page; the table has all
WHO = ("method", "title", "paper", "purpose", "preset")
HOW = ("command", "created", "versions", "commit", "hardware", "settings", "data")
WHAT = ("metrics", "baseline", "arms", "interval", "differences", "verdicts", "notes", "figures")


@dataclass(frozen=True)
class Cell:
    """One number as printed; `reading` is said of differences only: better, worse or no clear change."""

    value: str
    interval: str = ""
    reading: str = ""

    def __str__(self) -> str:
        """The lines of the cell in a terminal."""
        return "\n".join(filter(None, (self.value, self.interval, self.reading)))


@dataclass(frozen=True)
class Row:
    """One line of the table: an arm, or what an arm changes against the baseline (role "difference")."""

    label: str
    note: str
    role: str
    cells: list[Cell]


def load_summary(run: Path) -> Summary:
    """Read summary.json of a run directory, or an evidence file, and say what is wrong if it cannot be a summary."""
    recorded = run.suffix == ".json"
    path = run if recorded else run / "summary.json"
    if not path.is_file():
        hint = "" if recorded else f"; `kilter run … --out {run}` writes it when its arms are done"
        raise ValueError(f"{path}: no such file{hint}")
    summary = read_json(path)
    if recorded:
        summary = {"figures": [], **summary, "notes": [*summary.get("notes", ()), NO_FIGURES]}
    if missing := [key for key in (*WHO, *HOW, *WHAT) if key not in summary]:
        raise ValueError(f"{path}: no {', '.join(missing)}; the same `kilter run` again rewrites it")
    if summary["preset"] == "smoke" and summary["verdicts"]:
        summary = {**summary, "verdicts": [], "notes": [SMOKE, *summary["notes"]]}
    return summary


def rows(summary: Summary, *, most: int | None = None) -> list[Row]:
    """The arms in their order, then the paired differences from the baseline; none without any figure.

    Args:
        summary: of a run.
        most: how many metrics, the first ones; all by default.
    """
    metrics, table = dict(islice(summary["metrics"].items(), most)), []
    for name, arm in summary["arms"].items():
        count = len(arm["seeds"])
        note = f"{name} · {count} seed{'s' if count != 1 else ''}"
        cells = [_cell(arm["metrics"].get(key), metric) for key, metric in metrics.items()]
        table.append(Row(arm["label"], note, arm["role"], cells))
    for name, change in summary["differences"].items():
        cells = [_cell(change.get(key), metric, change=True) for key, metric in metrics.items()]
        table.append(Row(f"{name} {MINUS} {summary['baseline']}", "paired difference", "difference", cells))
    return [row for row in table if any(cell.value != NOTHING for cell in row.cells)]


def _left_out(summary: Summary, shown: list[Row]) -> str:
    """Which arms have no row, as a sentence that follows another."""
    there = {row.label for row in shown}
    without = [arm["label"] for arm in summary["arms"].values() if arm["label"] not in there]
    return f" None of these figures: {'; '.join(without)}." if without else ""


def table(summary: Summary, *, most: int | None = None) -> "Table":
    """The same table for the terminal: the method in bold, intervals below the numbers.

    Args:
        summary: of a run.
        most: how many metrics to show, the first ones; all by default.
    """
    from rich.table import Table
    from rich.text import Text

    synthetic = f". {SYNTHETIC}" if summary["data"]["synthetic"] else ""
    metrics = list(summary["metrics"].values())[:most]
    hidden = len(summary["metrics"]) - len(metrics)
    shown = rows(summary, most=most)
    left_out = _left_out(summary, shown) + (f" The report has {hidden} more figure{'s' * (hidden > 1)}." * bool(hidden))
    printed = Table(
        title=Text(f"{summary['method']}, {summary['preset']} preset{synthetic}"),
        caption=Text(f"Second lines: {summary['interval']}. Differences are paired.{left_out}"),
        caption_justify="left",
        show_lines=True,
    )
    printed.add_column("arm")
    for metric in metrics:
        heading = Text(f"{', '.join(filter(None, (metric['label'], metric['unit'])))}\n{metric['better']} is better")
        printed.add_column(heading, justify="right")
    styles = {"baseline": "", "method": "bold", "context": "dim", "difference": "italic"}
    for row in shown:
        label = Text.assemble(row.label, "\n", (row.note, "not bold dim"))
        printed.add_row(label, *(Text(str(cell)) for cell in row.cells), style=styles[row.role])
    return printed


def compare(run_a: Path, run_b: Path) -> tuple["Table", dict[str, Any]]:
    """Two runs side by side, as a table and as plain data: shared arms and metrics, and what else differs."""
    from rich.table import Table
    from rich.text import Text

    a, b = load_summary(run_a), load_summary(run_b)
    names = [name for name in a["arms"] if name in b["arms"]]
    keys = [key for key in a["metrics"] if key in b["metrics"]]
    if not names or not keys:
        raise ValueError(
            f"{run_a} and {run_b} share no arm and metric: arms {', '.join(a['arms'])} against "
            f"{', '.join(b['arms'])}, metrics {', '.join(a['metrics'])} against {', '.join(b['metrics'])}"
        )
    printed = Table(title=Text(f"a: {run_a}\nb: {run_b}"), title_justify="left", caption_justify="left")
    for heading in ("arm", "metric", "a", "b", f"b {MINUS} a"):
        printed.add_column(heading, justify="left" if heading in ("arm", "metric") else "right")
    arms: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name, key in product(names, keys):
        metric = a["metrics"][key]
        pair = [run["arms"][name]["metrics"].get(key, {}) for run in (a, b)]
        means = [estimate.get("mean") for estimate in pair]
        change = None if None in means else means[1] - means[0]
        arms[name][key] = {"a": pair[0], "b": pair[1], "change": change}
        cells = [_cell(pair[0], metric), _cell(pair[1], metric), _cell({"mean": change}, metric, change=True)]
        what = ", ".join(filter(None, (metric["label"], metric["unit"])))
        printed.add_row(*map(Text, (name, what, *map(str, cells))), end_section=key == keys[-1])
    here, there = _conditions(a), _conditions(b)
    pairs = {name: {"a": here.get(name), "b": there.get(name)} for name in {**here, **there}}
    differs = {name: pair for name, pair in pairs.items() if pair["a"] != pair["b"]}
    said = "; ".join(f"{name} {pair['a']} → {pair['b']}" for name, pair in differs.items())
    printed.caption = Text(f"What differs: {said}." if said else "Same settings, versions, data and hardware.")
    return printed, {"a": str(run_a), "b": str(run_b), "arms": arms, "differs": differs}


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write `<out>/report.html`, whole or not at all; the same run directory gives the same bytes.

    Args:
        run: a run directory, or an evidence file.
        out: folder of the report; by default the run directory.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    summary = load_summary(run)
    figures = [
        {
            **figure,
            "svg": Markup(_inline_svg(_figure_file(run, figure["file"]).read_text("utf-8"), f"f{place}")),
            "audio": _data_uri(_figure_file(run, figure["audio"])) if figure.get("audio") else None,
        }
        for place, figure in enumerate(summary["figures"])
    ]
    loader = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    html = template.get_template("report.html.jinja").render(
        run=summary,
        rows=(shown := rows(summary)),
        left_out=_left_out(summary, shown),
        settings={name: _said(value) for name, value in summary["settings"].items()},
        headline=_headline(summary),
        figures=figures,
        marks=MARKS,
        synthetic=SYNTHETIC,
        theme_css=Markup(theme_css()),
    )
    page = (out or run) / "report.html"
    write_whole(page, html)
    return page


def show_run(run: Path, report: Path) -> None:
    """Print the table of a finished run, its verdicts and remarks, and where its report is."""
    from rich.console import Console

    summary = load_summary(run)
    console = Console()
    console.print(table(summary, most=max(2, (console.width - 24) // 18)))
    for found in summary["verdicts"]:
        print(f"{found['verdict']}: {found['claim']} ({found['why']})")
    if skipped := summary["data"]["skipped"]:
        print(f"skipped: {len(skipped)} of your files or rows, listed in the report")
    if any((run / "arms").glob("*/seed-*/model")) and summary["settings"].get("model"):
        print(f"models: {run / 'arms' / '<arm>' / 'seed-<n>' / 'model'}")
    for note in summary["notes"]:
        print(f"note: {note}")
    print(f"report: {report}")


def _headline(summary: Summary) -> dict[str, Any] | None:
    """Before and after of the method itself, else of the first arm that is one; None where the run has no such pair."""
    arms, baseline = summary["arms"], summary["arms"].get(summary["baseline"])
    methods = [name for name, arm in arms.items() if arm["role"] == "method"]
    name = summary["method"] if summary["method"] in methods else next(iter(methods), None)
    if baseline is None or name not in summary["differences"]:
        return None
    changed = summary["differences"][name]
    both = {key: metric for key, metric in summary["metrics"].items() if changed.get(key, {}).get("mean") is not None}
    cards = [
        {
            "label": metric["label"],
            "unit": metric["unit"],
            "before": _cell(baseline["metrics"].get(key), metric).value,
            "after": _cell(arms[name]["metrics"].get(key), metric).value,
            "change": _cell(changed[key], metric, change=True),
            "change_unit": "points" if metric["unit"] == "%" else metric["unit"],
        }
        for key, metric in list(both.items())[:HEADLINES]
    ]
    return {"before": baseline["label"], "after": arms[name]["label"], "cards": cards}


def _cell(estimate: Estimate | None, metric: Mapping[str, Any], *, change: bool = False) -> Cell:
    mean, low, high = ends_of(estimate or {}, metric, change=change)
    if mean is None:
        return Cell(NOTHING)
    value, *ends = (
        fixed(number, metric["digits"], signed=change) for number in (mean, low, high) if number is not None
    )
    if low is None or high is None:
        return Cell(value)
    reading = ""
    if change:
        improved = (mean > 0) == (metric["better"] == "higher")
        reading = "no clear change" if low <= 0 <= high else "better" if improved else "worse"
    return Cell(value, " to ".join(ends), reading)


def _said(value: Any) -> str:
    """A setting in words."""
    if value is None or value in ("", []):
        return "not set"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _conditions(summary: Summary) -> dict[str, Any]:
    """All that could make two runs differ, flat."""
    told = {key: summary[key] for key in ("method", "preset", "commit", "hardware")}
    return {**told, "data": summary["data"]["title"], **summary["versions"], **summary["settings"]}


def _figure_file(run: Path, name: str) -> Path:
    if not (run / name).is_file():
        raise ValueError(f"{run / name}: no such file, but summary.json names it; run the recipe again")
    return run / name


def _inline_svg(svg: str, prefix: str) -> str:
    """An SVG file as part of a page: its ids made unique, its style left to the page, scaled between bounds.

    A printed point is one CSS pixel at least (text stays legible on a phone, the box scrolls), 1.55 at most.
    """
    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    root, rest = svg.split(">", 1)
    width = float(root.split('viewBox="')[1].split()[2])
    root = re.sub(r' (width|height)="[^"]*"', "", root)
    return f'{root} style="min-width:{width:.0f}px;max-width:{1.55 * width:.0f}px">{rest}'


def _data_uri(path: Path) -> str:
    if path.suffix not in AUDIO_TYPES:
        raise ValueError(f"{path}: a report plays {', '.join(AUDIO_TYPES)}, not {path.suffix!r}")
    return f"data:{AUDIO_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
