"""Progress of long work: one bar, or one for each piece of a run, or lines for a parent that draws the bars."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kilter.lab.files import MAIN_PROCESS
from kilter.lab.numbers import fixed
from kilter.lab.recipe import Metric

TELL = "KILTER_TELL_PROGRESS"
"""Set for a piece of work that runs beside others: it tells its progress in lines."""

Piece = tuple[str, int]
"""Arm and seed."""


class Bar:
    """The progress of one piece of work."""

    def __init__(self, progress: Any, task: Any, *, lines: bool = False) -> None:
        self._progress, self._task, self._lines, self._begun = progress, task, lines, False

    def advance(self, done: int, total: int, unit: str = "steps") -> None:
        """Move to `done` of `total` units, e.g. steps of training or inputs."""
        if TELL in os.environ:
            print(TELL, done, total, unit, flush=True)
        self._progress.update(self._task, completed=done, total=total, unit=f"of {total} {unit}")
        if not self._begun:
            self._begun = True
            self._say(f"has begun, {total} {unit}")

    def hear(self, line: str) -> None:
        """Move to what a piece of work in another process tells."""
        if line.startswith(TELL):
            _, done, total, unit = line.strip().split(" ", 3)
            self.advance(int(done), int(total), unit)

    def done(self, figures: Mapping[str, float], metrics: Mapping[str, Metric]) -> None:
        """Fill the bar and show the first two figures."""
        shown = [(name, metric, figures[name]) for name, metric in metrics.items() if name in figures][:2]
        text = ", ".join(f"{name} {fixed(value, one.digits)} {one.unit}".strip() for name, one, value in shown)
        total = self._progress.tasks[self._task].total or 1
        self._progress.update(self._task, completed=total, total=total, figures=text)
        count, ready = len(self._progress.tasks), sum(task.finished for task in self._progress.tasks)
        self._say(f"{ready} of {count} done: {text}")

    def _say(self, what: str) -> None:
        """A line for a file, which shows no bars."""
        if self._lines:
            name = self._progress.tasks[self._task].description
            self._progress.console.print(f"{name}, {what}", highlight=False, soft_wrap=True)


@contextmanager
def bars(pieces: Sequence[Piece], spoken: Callable[[str], str] = str) -> Iterator[dict[Piece, Bar]]:
    """A bar for each piece of work, on standard error, its arm called as `spoken` says."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[figures]}"),
    )
    quiet = not MAIN_PROCESS or TELL in os.environ
    console = Console(stderr=True)
    seen = console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, disable=quiet or not seen) as progress:
        named = {(arm, seed): f"{spoken(arm)}, seed {seed}" for arm, seed in pieces}
        tasks = {one: progress.add_task(said, total=None, unit="", figures="") for one, said in named.items()}
        yield {one: Bar(progress, task, lines=not (quiet or seen)) for one, task in tasks.items()}


def told(what: str) -> None:
    """A line on standard error before there are bars, since what then happens can take long."""
    if MAIN_PROCESS and TELL not in os.environ:
        print(what, file=sys.stderr, flush=True)


def quiet_hosts() -> None:
    """Keep the bars and lines of transformers off the terminal: those of a command are ours."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextmanager
def bar(what: str, total: float | int, unit: str = "inputs") -> Iterator[Callable[[float], None]]:
    """One bar on standard error, for a person; call what it gives with how many more units are done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn(f"of {total:.0f} {unit}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.advance(task, more)
