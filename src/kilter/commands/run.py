"""kilter run: run a method: baseline and method on the same budget, or your own model on your own data."""

import argparse
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_type_hints

from kilter.commands import EXIT_CODES
from kilter.core.errors import UsageError, suggest
from kilter.core.paper import cards, method_card
from kilter.lab.options import from_file

PLACE = 40

USAGE = """usage: kilter run METHOD [--preset smoke|demo|full] [OPTIONS]

Run a method: its arms on the same budget with several seeds, or just the method on your own model.

{methods}

kilter run METHOD --help lists the options of one."""


def main(arguments: list[str]) -> int:
    """`kilter run …`; returns the exit code."""
    if not arguments or arguments[0].startswith("-"):
        print(USAGE.format(methods="\n".join(f"  {card.slug:<22} {card.purpose}" for card in cards().values())))
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    return run_method(arguments[0], arguments[1:])


def run_method(slug: str, rest: list[str]) -> int:
    """`kilter run SLUG …`: options from the preset, then the config file, then the flags."""
    import tyro

    found: Any = import_module(f"kilter.recipes.{method_card(slug).slug.replace('-', '_')}").RECIPE
    tasks: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    first, flags = _first(rest, "preset", "config", *["task"] * bool(tasks))
    written = _read(first.config, slug)
    if tasks and first.task:
        written["task"] = first.task
    recipe_class: Any = found
    named: dict[str, str] = {}
    if tasks:
        recipe_class, named = _on_task(tasks, written.get("task"))
    given = _options(written, recipe_class, first.config)
    preset = first.preset or given.get("preset") or _preset(recipe_class, given, flags)
    if preset not in recipe_class.presets:
        raise UsageError(f"preset: there is no {preset!r}{suggest(preset, recipe_class.presets)}")
    if first.record and preset == "smoke":
        raise ValueError(
            "--record keeps evidence, and what the preset smoke does is too little for any: leave --preset out (which "
            "is full), or name another"
        )
    recipe = tyro.cli(
        recipe_class,
        args=flags,
        default=recipe_class(**{"preset": preset, **named, **recipe_class.presets[preset], **given}),
        prog=f"kilter run {slug}",
        description=_about(recipe_class, tasks),
    )
    return _run(recipe, ["run", slug, *rest], record=first.record)


def _run(recipe: Any, arguments: list[str], *, record: bool) -> int:
    from kilter.lab.files import MAIN_PROCESS
    from kilter.lab.record import record_evidence, source_tree
    from kilter.lab.report import show_run
    from kilter.lab.run import run, spoken_command

    if record and recipe.only is not None:
        raise UsageError("--record needs the whole run, --only does a piece of it")
    tree = source_tree() if record else None
    out = run(recipe, spoken_command(arguments))
    if recipe.only is None and MAIN_PROCESS:
        show_run(out, out / "report.html")
        if tree is not None:
            print(f"evidence: {record_evidence(out, tree).relative_to(tree)}")
    return 0


def _first(rest: list[str], *names: str) -> tuple[argparse.Namespace, list[str]]:
    """Take out what decides which other options there are and their defaults, and --record, which is none of them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:
        parser.add_argument(f"--{name}", type=Path if name == "config" else str)
    parser.add_argument("--record", action="store_true")
    return parser.parse_known_args(rest)


def _on_task(tasks: Mapping[str, Any], asked: Any) -> tuple[Any, dict[str, str]]:
    """The recipe's class for a task, the first unless one is asked for, and the option that keeps the task's name.

    By that option a run, and each piece of it in a process of its own, finds the class again.
    """
    task = next(iter(tasks)) if asked is None else str(asked)
    if task not in tasks:
        raise UsageError(f"task: there is no {task!r}{suggest(task, tasks)}")
    found = tasks[task]
    if "task" not in {field.name for field in fields(found)}:
        raise TypeError(f"{found.__name__}: a recipe on several tasks needs an option `task: str = {task!r}`")
    return found, {"task": task}


def _preset(recipe_class: Any, given: Mapping[str, Any], flags: list[str]) -> str:
    """Where none is asked for: `own` for one's own work, else `full`."""
    own = any(given.get(name) or any(flag.startswith(f"--{name}") for flag in flags) for name in recipe_class.own_by)
    return "own" if own and "own" in recipe_class.presets else "full"


def _read(config: Path | None, slug: str) -> dict[str, Any]:
    """Options from a YAML file, or from a run's `recipe.yaml`."""
    if config is None:
        return {}
    import yaml

    try:
        given = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{config}: not valid YAML ({error})") from error
    if not isinstance(given, dict) or not isinstance(given.get("settings", given), dict):
        raise ValueError(f"{config}: must hold options as `name: value` lines")
    if (method := given.get("method", slug)) != slug and "settings" in given:
        raise ValueError(f"{config}: holds a run of {method}, not of {slug}")
    return {**given.get("settings", given)}


def _options(written: Mapping[str, Any], recipe_class: Any, config: Path | None) -> dict[str, Any]:
    """What a file says, as a recipe has it; unknown keys are errors."""
    known, hints = [field.name for field in fields(recipe_class)], get_type_hints(recipe_class)
    values = {}
    for name, value in written.items():
        key = str(name).replace("-", "_")
        key = {"train": "train_data", "eval": "eval_data"}.get(key, key)  # as the flags are called
        if key not in known:
            raise ValueError(f"{config}: there is no option {name!r}{suggest(key, known)}")
        values[key] = from_file(key, value, hints[key])
    return values


def _about(recipe_class: Any, tasks: Mapping[str, Any]) -> str:
    chosen = ""
    if tasks:
        chosen = f"--task {{{','.join(tasks)}}} chooses what is trained for and judged on, and with it the options; "
    presets, slug = ", ".join(recipe_class.presets), recipe_class.paper.slug
    return (
        f"{cleandoc(recipe_class.__doc__ or '')}\n\n"
        f"Also: {chosen}--preset {{{presets}}} sets the defaults shown here; --config FILE.yaml reads options, flags "
        f"win; --record writes evidence/{slug}.json (for another preset than full, {slug}-PRESET.json).\n\n{EXIT_CODES}"
    )
