"""Arms × seeds on one budget, into a run directory that survives any kill.

A piece of work is one arm with one seed. It is done when its `metrics.json` is there, which is written last;
whatever else a killed run left is taken up again or replaced, so the numbers are those of an unbroken run.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

import kilter
from kilter.lab.files import MAIN_PROCESS, read_json, write_json, write_rows, write_whole
from kilter.lab.recipe import Picture, Provenance, Recipe
from kilter.lab.summary import Arms, summarise

_TELL = "KILTER_TELL_PROGRESS"
"""Set for a piece of work that runs beside others: it tells its progress on standard output."""


def run(recipe: Recipe, command: str) -> Path:
    """Do every piece of work that is not done yet, then summarise; returns the run directory.

    Raises:
        ValueError: an unknown arm, bad data, or a directory that holds a run with other settings.
        OSError: the directory cannot be written; what was finished stays.
    """
    out = recipe.out or default_folder(recipe)
    pieces = _pieces(recipe)
    _claim_folder(out, recipe)
    _set_up(recipe)
    data = recipe.build_data()
    _same_data(out / "data.json", data)
    todo = [piece for piece in pieces if not _is_done(out, *piece)]
    if recipe.jobs > 1 and len(todo) > 1:
        _side_by_side(recipe, out, todo)
    else:
        with _bars(todo, quiet=not MAIN_PROCESS or _TELL in os.environ) as bars:
            for arm, seed in todo:
                _work(recipe, out, arm, seed, bars[arm, seed])
    if recipe.only is None and MAIN_PROCESS:
        finish(recipe, out, data, command)
    return out


def default_folder(recipe: Recipe) -> Path:
    """`./runs/<method>-<preset>-<hash>`: the same settings find the same run again."""
    digest = sha256(yaml.safe_dump(_identity(recipe)).encode()).hexdigest()[:6]
    return Path("runs", f"{recipe.paper.slug}-{recipe.preset}-{digest}")


def settings(recipe: Recipe) -> dict[str, Any]:
    """Every option, as plain values."""
    return {f.name: _plain(getattr(recipe, f.name)) for f in fields(recipe)}


def finish(recipe: Recipe, out: Path, data: Provenance, command: str) -> None:
    """Write `summary.json`, the figures and the report from the finished pieces."""
    from kilter.lab.report import write_report

    done = {arm: _folders(out, arm) for arm in _arms(recipe, out) if _folders(out, arm)}
    arms = Arms(done, recipe.metrics, _baseline(recipe, list(done)))
    labels = {arm: (recipe.describe(arm).label, recipe.describe(arm).role) for arm in done}
    summary = {
        **_identity_card(recipe, command),
        "settings": settings(recipe),
        "data": asdict(data),
        **summarise(arms, recipe.paper.claims, labels),
    }
    summary["notes"] = list(recipe.notes(summary))
    summary["figures"] = [_write_picture(out, picture) for picture in recipe.pictures(summary, out)]
    write_json(out / "summary.json", summary)
    write_report(out)


def _pieces(recipe: Recipe) -> list[tuple[str, int]]:
    for arm in recipe.arms:
        recipe.describe(arm)  # an unknown arm stops the run before any work
    if recipe.seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {recipe.seeds}")
    if recipe.only is None:
        if recipe.jobs > 1:  # neighbours with different seeds do not wait for the same warm-up
            return [(arm, seed) for arm in recipe.arms for seed in range(recipe.seeds)]
        return [(arm, seed) for seed in range(recipe.seeds) for arm in recipe.arms]
    arm, _, seed = recipe.only.partition("/seed-")
    if not seed.isdigit():
        raise ValueError(f"only must look like awp/seed-3, got {recipe.only!r}")
    recipe.describe(arm)
    return [(arm, int(seed))]


def _identity(recipe: Recipe) -> dict[str, Any]:
    return {name: value for name, value in settings(recipe).items() if name not in recipe.unhashed}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _claim_folder(out: Path, recipe: Recipe) -> None:
    """Write `recipe.yaml`, or check that the run that is there has the same settings."""
    file = out / "recipe.yaml"
    if file.exists():
        there = yaml.safe_load(file.read_text(encoding="utf-8"))["settings"]
        now = _identity(recipe)
        other = [name for name in now if there.get(name) != now[name]]
        if other:
            name = other[0]
            raise ValueError(
                f"{out} holds a run with {name}={there.get(name)!r}, this one has {now[name]!r}; "
                "choose another --out, or remove that folder"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and not a run directory; choose another --out")
    if MAIN_PROCESS:
        card = {"method": recipe.paper.slug, "settings": settings(recipe), "versions": _versions(), "commit": _commit()}
        write_whole(file, yaml.safe_dump(card, sort_keys=False, allow_unicode=True))


def _same_data(file: Path, data: Provenance) -> None:
    """A run that began on recordings must not go on with synthetic speech, or the other way round."""
    if file.exists() and (before := read_json(file)["title"]) != data.title:
        raise ValueError(
            f"{file.parent} was begun with {before}, but now {data.title} is what can be had; "
            "make the first available again (kilter doctor), or choose another --out"
        )
    if MAIN_PROCESS:
        write_json(file, asdict(data))


def _set_up(recipe: Recipe) -> None:
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()  # the bars and lines of a run are ours
    logging.disable_progress_bar()

    if recipe.device.startswith("cuda:"):
        os.environ["CUDA_VISIBLE_DEVICES"] = recipe.device.removeprefix("cuda:")
    if recipe.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={recipe.device}, but torch sees no CUDA device; use --device auto or cpu")
    if recipe.device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device=mps, but torch sees no Apple GPU; use --device auto or cpu")
    if recipe.device not in ("auto", "cpu", "cuda", "mps") and not recipe.device.startswith("cuda:"):
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {recipe.device!r}")
    torch.set_num_threads(recipe.threads)


def _is_done(out: Path, arm: str, seed: int) -> bool:
    return (_folder(out, arm, seed) / "metrics.json").exists()


def _folder(out: Path, arm: str, seed: int) -> Path:
    return out / "arms" / arm / f"seed-{seed}"


def _folders(out: Path, arm: str) -> dict[int, Path]:
    found = (out / "arms" / arm).glob("seed-*/metrics.json")
    return dict(sorted((int(file.parent.name.removeprefix("seed-")), file.parent) for file in found))


def _arms(recipe: Recipe, out: Path) -> list[str]:
    """The arms asked for, then those an earlier call left in the same directory."""
    there = sorted(folder.name for folder in (out / "arms").glob("*") if folder.is_dir())
    return list(dict.fromkeys([*recipe.arms, *there]))


def _baseline(recipe: Recipe, done: list[str]) -> str:
    roles = [arm for arm in done if recipe.describe(arm).role == "baseline"]
    return recipe.baseline if recipe.baseline in done else roles[0] if roles else recipe.baseline


def _work(recipe: Recipe, out: Path, arm: str, seed: int, bar: "_Bar") -> None:
    folder = _folder(out, arm, seed)
    started = time.process_time()
    model = recipe.train(arm, seed, folder, bar.advance)
    costs = {"cost_cpu_seconds": time.process_time() - started, "cost_peak_mb": _peak_mb()}
    if MAIN_PROCESS:
        judged = recipe.evaluate(arm, seed, model)
        write_rows(folder / "utterances.jsonl", judged.utterances)
        write_json(folder / "metrics.json", {**judged.metrics, **costs})
        bar.done(judged.metrics, recipe)


def _peak_mb() -> float:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _side_by_side(recipe: Recipe, out: Path, todo: list[tuple[str, int]]) -> None:
    """Each piece in a process of its own, which tells its progress in lines."""

    def piece(work: tuple[str, int], bar: "_Bar") -> None:
        command = [sys.executable, "-m", "kilter.cli", "run", recipe.paper.slug, "--config", str(out / "recipe.yaml")]
        command += ["--out", str(out), "--only", "/seed-".join(map(str, work)), "--jobs", "1"]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
            told: Any = {"stdout": subprocess.PIPE, "stderr": said, "encoding": "utf-8"}
            with subprocess.Popen(command, **told, env={**os.environ, _TELL: "1"}) as process:
                for line in process.stdout or ():
                    if line.startswith(_TELL):
                        bar.advance(*map(int, line.split()[1:]))
            if process.returncode:
                said.seek(0)
                raise ValueError(f"{'/seed-'.join(map(str, work))} failed: {said.read().strip()[-2000:]}")
        bar.done(read_json(_folder(out, *work) / "metrics.json"), recipe)

    with _bars(todo, quiet=not MAIN_PROCESS) as bars, ThreadPoolExecutor(recipe.jobs) as pool:
        for outcome in [pool.submit(piece, work, bars[work]) for work in todo]:
            outcome.result()


class _Bar:
    """The progress of one piece of work."""

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def advance(self, done: int, total: int) -> None:
        if _TELL in os.environ:
            print(_TELL, done, total, flush=True)
        self._progress.update(self._task, completed=done, total=total)

    def done(self, metrics: Mapping[str, float], recipe: Recipe) -> None:
        shown = [(m, metrics[n]) for n, m in recipe.metrics.items() if metrics.get(n) is not None][:2]
        text = ", ".join(f"{m.label.lower()} {value:.{m.digits}f} {m.unit}" for m, value in shown)
        task = self._progress.tasks[self._task]
        self._progress.update(self._task, completed=task.total or 1, total=task.total or 1, figures=text)


@contextmanager
def _bars(todo: list[tuple[str, int]], *, quiet: bool) -> Iterator[dict[tuple[str, int], _Bar]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        yield {
            (arm, seed): _Bar(progress, progress.add_task(f"{arm}, seed {seed}", total=None, figures=""))
            for arm, seed in todo
        }


def _write_picture(out: Path, picture: Picture) -> dict[str, Any]:
    file = Path("figures", f"{picture.name}.svg")
    write_whole(out / file, picture.svg)
    audio = Path("figures", f"{picture.name}.wav") if picture.audio else None
    if audio and picture.audio:
        write_whole(out / audio, picture.audio)
    found = {"title": picture.title, "caption": picture.caption, "file": file.as_posix()}
    return {**found, "audio": audio.as_posix() if audio else None}


def _identity_card(recipe: Recipe, command: str) -> dict[str, Any]:
    paper = recipe.paper
    return {
        "method": paper.slug,
        "title": paper.title,
        "paper": {
            "authors": list(paper.authors),
            "year": paper.year,
            "venue": paper.venue,
            "url": paper.url,
            "bibtex": paper.bibtex(),
        },
        "purpose": " ".join(" ".join((type(recipe).__doc__ or paper.purpose).split("\n\n")[:2]).split()),
        "preset": recipe.preset,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "commit": _commit(),
        "hardware": _hardware(),
    }


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in ("torch", "transformers")}
    return {"kilter": kilter.__version__, **found, "python": platform.python_version()}


def _hardware() -> str:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} cores, {gpu}, {platform.system()}"


def _commit() -> str | None:
    """Commit of the source tree kilter runs from, if it is one."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists() or not (git := shutil.which("git")):
        return None
    done = subprocess.run([git, "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or None


def spoken_command(arguments: list[str]) -> str:
    """The command line as a person would type it again."""
    return shlex.join(["kilter", *arguments])
