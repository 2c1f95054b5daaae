"""Arms × seeds on one budget, into a run directory that survives any kill.

A piece of work is one arm with one seed. It is done when its `metrics.json` is there, which is written last;
whatever else a killed run left is taken up again or replaced, so the numbers are those of an unbroken run.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from kilter.core.paper import Paper
from kilter.lab import provenance
from kilter.lab.files import MAIN_PROCESS, read_json, write_json, write_rows, write_whole
from kilter.lab.folder import (
    check_data,
    check_folder,
    default_folder,
    keep_settings,
    made_with,
    settings,
    take_up_guests,
)
from kilter.lab.options import check_bounds
from kilter.lab.progress import TELL, Bar, Piece, bars, quiet_hosts, told
from kilter.lab.recipe import Picture, Provenance, Recipe
from kilter.lab.summary import Arms, summarise


def run(recipe: Recipe, command: str) -> Path:
    """Do every piece of work that is not done yet, then summarise; returns the run directory.

    Raises:
        ValueError: an unknown arm, bad data, or a directory that holds a run with other settings or data.
        OSError: the directory cannot be written; what was finished stays.
    """
    check_bounds(recipe)
    recipe.prepare()
    out = recipe.out or default_folder(recipe)
    take_up_guests(out, recipe)
    pieces = _pieces(recipe)
    card = made_with(recipe)
    recipe.out = out  # where the recipe finds its pieces again
    check_folder(out, recipe)
    told(f"{out}: reading the data")
    _set_up(recipe)
    data = recipe.build_data()
    check_data(out / "data.json", data)
    if MAIN_PROCESS:
        keep_settings(out, card)
        if not (out / "data.json").exists():
            write_json(out / "data.json", asdict(data))
    todo = [piece for piece in pieces if not (_folder(out, piece) / "metrics.json").exists()]
    if recipe.jobs > 1 and len(todo) > 1 and "WORLD_SIZE" not in os.environ:
        _side_by_side(recipe, out, todo, card["settings"])
    else:
        with bars(todo, recipe.spoken) as bar:
            for piece in todo:
                _work(recipe, out, piece, bar[piece])
    if recipe.only is None and MAIN_PROCESS:
        finish(recipe, out, data, command)
    return out


def spoken_command(arguments: list[str]) -> str:
    """The command line as a person would type it again."""
    return shlex.join(["kilter", *arguments])


def finish(recipe: Recipe, out: Path, data: Provenance, command: str) -> None:
    """Write `summary.json`, the figures and the report from the finished pieces."""
    from kilter.lab.card import add_results
    from kilter.lab.report import write_report

    there = sorted(folder.name for folder in (out / "arms").iterdir() if folder.is_dir())
    names = dict.fromkeys([*recipe.arms, *there])  # what was asked for, then what an earlier call left here
    done = {arm: found for arm in names if (found := _done(out, arm))}
    order = {"baseline": 0, "method": 1, "context": 2}
    done = dict(sorted(done.items(), key=lambda item: order[recipe.describe(item[0]).role]))
    described = {arm: recipe.describe(arm) for arm in done}
    first = next((arm for arm in names if arm in done), recipe.baseline)  # where the baseline was not asked for
    baseline = next((arm for arm, found in described.items() if found.role == "baseline"), first)
    card = yaml.safe_load((out / "recipe.yaml").read_text(encoding="utf-8"))
    figures = Arms(done, recipe.metrics, baseline, recipe.intervals, {arm: one.label for arm, one in described.items()})
    own = recipe.own_data()
    summary = {
        "method": recipe.paper.slug,
        "title": recipe.paper.title,
        "paper": _reference(recipe.paper),
        "guests": [_reference(one) for one in _guests(recipe, done)],
        "purpose": recipe.purpose(),
        "preset": recipe.preset,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": card["versions"],
        "commit": card["commit"],
        "hardware": provenance.hardware(),
        "settings": settings(recipe),
        "data": asdict(data),
        **summarise(figures, () if own else recipe.claims(), described),
    }
    summary["verdicts"] += () if own else recipe.verdicts(figures)
    summary["notes"] = list(recipe.notes(summary))
    summary["figures"] = [_write_picture(out, picture) for picture in recipe.pictures(summary, out)]
    write_json(out / "summary.json", summary)
    for arm in done:
        for model in (out / "arms" / arm).glob("seed-*/model/README.md"):
            add_results(model.parent, summary, arm)
    write_report(out)


# One piece after another, or side by side --------------------------------------------------------------------


def _pieces(recipe: Recipe) -> list[Piece]:
    arms, seeds = recipe.arms, range(recipe.seeds)
    if recipe.only is not None:
        arm, _, seed = recipe.only.partition("/seed-")
        if not seed.isdigit():
            raise ValueError(f"only must look like awp/seed-3, got {recipe.only!r}")
        arms, seeds = (arm,), range(int(seed), int(seed) + 1)
    if not arms:
        raise ValueError("arms: there is none; name one, or leave --arms out for those of the preset")
    for arm in (arms := dict.fromkeys(arms)):  # one that is named twice is done once
        recipe.describe(arm)  # an unknown one stops the run before any work
    if recipe.jobs > 1:  # neighbours with different seeds do not wait for the same warm-up
        return [(arm, seed) for arm in arms for seed in seeds]
    return [(arm, seed) for seed in seeds for arm in arms]


def _work(recipe: Recipe, out: Path, piece: Piece, bar: Bar) -> None:
    folder = _folder(out, piece)
    recipe.warm_up(*piece, out, bar.advance)
    started = time.process_time()
    model = recipe.train(*piece, folder, bar.advance)
    costs = {"cost_cpu_seconds": time.process_time() - started}
    if TELL in os.environ and (peak := _peak_mb()):  # a process of its own, so the peak is this piece's
        costs["cost_peak_mb"] = peak
    if MAIN_PROCESS:
        judged = recipe.evaluate(*piece, model)
        write_rows(folder / "utterances.jsonl", judged.utterances)
        write_json(folder / "metrics.json", {**judged.metrics, **costs})
        bar.done(judged.metrics, recipe.metrics)


def _side_by_side(recipe: Recipe, out: Path, todo: list[Piece], options: dict[str, Any]) -> None:
    running: set[subprocess.Popen[str]] = set()
    pool = ThreadPoolExecutor(recipe.jobs)
    with bars(todo, recipe.spoken) as bar, tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "settings.yaml")
        config.write_text(yaml.safe_dump(options, allow_unicode=True), encoding="utf-8")
        work = [pool.submit(_in_a_process, recipe, out, piece, bar[piece], config, running) for piece in todo]
        try:
            for outcome in as_completed(work):
                outcome.result()
        finally:  # after a failure or an interrupt nothing goes on unseen
            pool.shutdown(wait=False, cancel_futures=True)
            for process in tuple(running):
                process.terminate()
            pool.shutdown()


def _in_a_process(
    recipe: Recipe, out: Path, piece: Piece, bar: Bar, config: Path, running: set["subprocess.Popen[str]"]
) -> None:
    arm, seed = piece
    command = [sys.executable, "-m", "kilter.cli", "run", recipe.paper.slug, "--config", str(config)]
    command += ["--out", str(out), "--only", f"{arm}/seed-{seed}", "--jobs", "1"]
    environment = {**os.environ, TELL: "1", "PYTHONUTF8": "1"}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        told: Any = {"stdout": subprocess.PIPE, "stderr": said, "encoding": "utf-8"}
        with subprocess.Popen(command, **told, env=environment) as process:
            running.add(process)
            for line in process.stdout or ():
                bar.hear(line)
        running.discard(process)
        if process.returncode:
            said.seek(0)
            failed = f"{arm}/seed-{seed} failed:\n{said.read().strip()[-4000:]}"
            raise RuntimeError(failed) if process.returncode == 3 else ValueError(failed)
    bar.done(read_json(_folder(out, piece) / "metrics.json"), recipe.metrics)


def _peak_mb() -> float | None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


# The run directory ---------------------------------------------------------------------------------------------


def _folder(out: Path, piece: Piece) -> Path:
    return out / "arms" / piece[0] / f"seed-{piece[1]}"


def _done(out: Path, arm: str) -> dict[int, Path]:
    found = (out / "arms" / arm).glob("seed-*/metrics.json")
    return dict(sorted((int(file.parent.name.removeprefix("seed-")), file.parent) for file in found))


def _set_up(recipe: Recipe) -> None:
    import torch

    quiet_hosts()
    device = recipe.device
    if device == "auto":  # without CUDA the CPU: torch has no CTC kernel for Apple's GPUs
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda:"):
        os.environ["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={device}, but torch sees no CUDA device; use --device auto or cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device=mps, but torch sees no Apple GPU; use --device auto or cpu")
    if device not in ("cpu", "cuda", "mps") and not device.startswith("cuda:"):
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {device!r}")
    recipe.device = device.partition(":")[0]
    torch.set_num_threads(recipe.threads)


def _reference(paper: Paper) -> dict[str, Any]:
    card = asdict(paper)
    return {name: card[name] for name in ("title", "authors", "year", "venue", "url")} | {"bibtex": paper.bibtex()}


def _guests(recipe: Recipe, arms: Iterable[str]) -> list[Paper]:
    """The papers of other recipes whose terms stand in these arms."""
    found = {one.paper.slug: one.paper for arm in arms for one in recipe.makers(arm) if one is not recipe}
    return [*found.values()]


def _write_picture(out: Path, picture: Picture) -> dict[str, Any]:
    file = Path("figures", f"{picture.name}.svg")
    write_whole(out / file, picture.svg)
    audio = Path("figures", f"{picture.name}.wav") if picture.audio else None
    if audio and picture.audio:
        write_whole(out / audio, picture.audio)
    found = {"title": picture.title, "caption": picture.caption, "file": file.as_posix()}
    return {**found, "audio": audio.as_posix() if audio else None}
