"""kilter new: start the next paper from templates.

One method with its card, one recipe on a task that exists, one test, and the import line in the family's `__init__`;
nothing else is edited, and nothing that exists is overwritten. A new family is added to the import layers in
`pyproject.toml`, the one list of families.
"""

import ast
import keyword
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated, get_args

from tyro.conf import Positional, arg

from kilter.core.errors import suggest
from kilter.core.paper import Lever

PLACE = 130
LEVERS = get_args(Lever)


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
        for path in new(self.target, self.root, lever=self.lever, task=self.task, new_family=self.new_family):
            print(path)
        print(next_steps(self.target, self.lever, self.task))
        return 0


COMMAND = New


class _Text(Template):
    delimiter = "%"  # `$` is maths in our docstrings


@dataclass(frozen=True)
class Method:
    """Where a new method goes and what things in it are called.

    Example:
        >>> Method.parse("speech/fast-emit").names["cls"]
        'FastEmit'
    """

    family: str
    slug: str
    lever: str = "objective"
    task: str = ""
    """by default the first that takes the lever"""

    @classmethod
    def parse(cls, target: str, lever: str = "objective", task: str | None = None) -> "Method":
        """Read `family/name`, and check that the task takes the lever.

        Raises:
            ValueError: the target is not of that form or would not make a Python module of that name; the task takes
                another lever.
        """
        match = re.fullmatch(r"([a-z][a-z0-9]*)/([a-z][a-z0-9]*(?:-[a-z0-9]+)*)", target)
        if not match:
            raise ValueError(f"{target!r} is not family/name in lower case and hyphens, such as speech/fast-emit")
        family, slug = match.groups()
        for name in (family, slug.replace("-", "_")):
            if keyword.iskeyword(name):
                raise ValueError(f"{name!r} is a word of the Python language; choose another name")
        fitting = [one for one, levers in tasks().items() if lever in levers]
        if not fitting or (task is not None and task not in fitting):
            pairs = "; ".join(f"{one}: {', '.join(levers)}" for one, levers in tasks().items())
            asked = (
                f"no task here takes the lever {lever}"
                if task is None
                else f"{task} does not take the lever {lever} here"
            )
            raise ValueError(f"{asked}; the tasks and what one can begin on them: {pairs}")
        return cls(family, slug, lever, task or fitting[0])

    @property
    def module(self) -> str:
        """The slug as a Python name."""
        return self.slug.replace("-", "_")

    @property
    def cls(self) -> str:
        """The slug as a class name."""
        return "".join(word.capitalize() for word in self.slug.split("-"))

    @property
    def names(self) -> dict[str, str]:
        """What templates may ask for."""
        named = {name: getattr(self, name) for name in ("family", "slug", "module", "cls", "lever")}
        return {**named, "task": self.task.replace("_", "-")}


def tasks() -> Mapping[str, tuple[str, ...]]:
    """Which levers a recipe can begin with on each task: those there is a template for."""
    found: dict[str, list[str]] = {}
    for folder in sorted(files("kilter").joinpath("templates").iterdir(), key=lambda place: place.name):
        if folder.is_dir() and folder.name not in LEVERS:
            found[folder.name] = sorted(file.name.partition(".")[0] for file in folder.iterdir())
    return {name: tuple(levers) for name, levers in found.items()}


def families(root: Path) -> list[str]:
    """The families of methods: the floor between `models` and `hosts` in the import layers of a checkout."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return re.findall(r"\w+", _layer(project["tool"]["importlinter"]["contracts"][0]["layers"]))


def _layer(layers: list[str]) -> str:
    return layers[layers.index("hosts") - 1]


def new(
    target: str, root: Path, *, lever: str = "objective", task: str | None = None, new_family: bool = False
) -> list[Path]:
    """Write the files of a new method into a checkout of kilter.

    Args:
        target: `family/name`, the name being the slug used everywhere.
        root: the checkout, the folder that holds `src/kilter`.
        lever: what the method acts on.
        task: what the recipe trains for and judges on; by default the first that takes the lever.
        new_family: make the family, if there is none of that name.

    Returns:
        The files written or changed, the ones to fill in first.

    Raises:
        ValueError: a bad target, a family that is not there, a task that does not take the lever.
        FileNotFoundError: `root` is not a checkout of kilter.
        FileExistsError: one of the files is already there; then nothing is written.
    """
    method = Method.parse(target, lever, task)
    package = root / "src" / "kilter"
    if not ((package / "core").is_dir() and (root / "pyproject.toml").exists()):
        raise FileNotFoundError(
            f"{root} is not a checkout of kilter: it has no src/kilter; run this where you cloned it"
        )
    texts = _with_family(method, root, new_family)
    written = {
        package / method.family / f"{method.module}.py": f"{lever}/method.py.tmpl",
        package / "recipes" / f"{method.module}.py": f"{method.task}/{lever}.py.tmpl",
        root / "tests" / method.family / f"test_{method.module}.py": f"{lever}/test.py.tmpl",
    }
    taken = [str(path.relative_to(root)) for path in written if path.exists()]
    if taken:
        raise FileExistsError(f"already there, nothing was written: {', '.join(taken)}")
    texts = {path: _render(template, method) for path, template in written.items()} | texts
    init = package / method.family / "__init__.py"
    exported = init.read_text(encoding="utf-8") if init.exists() else _render("family.py.tmpl", method)
    texts[init] = export(exported, f"kilter.{method.family}.{method.module}", [method.cls, method.module])
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    return list(texts)


def _with_family(method: Method, root: Path, wanted: bool) -> dict[Path, str]:
    """The import layers with the family in them, where they must change for it."""
    known = families(root)
    if method.family in known:
        return {}
    file = root / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    layers = tomllib.loads(text)["tool"]["importlinter"]["contracts"][0]["layers"]
    if any(method.family in re.findall(r"\w+", layer) for layer in layers):
        raise ValueError(f"{method.family!r} is a floor of kilter, not a family of methods; see docs/new-paper.md")
    if not wanted:
        raise ValueError(
            f"there is no family {method.family!r}{suggest(method.family, known)} (or make it, with --new-family, if "
            "two papers share a host and a baseline)"
        )
    layer = _layer(layers)
    return {file: text.replace(f'"{layer}"', f'"{layer} | ({method.family})"')}


def next_steps(target: str, lever: str = "objective", task: str | None = None) -> str:
    """What the author does after `new`, in words for the terminal."""
    return _render("next_steps.txt.tmpl", Method.parse(target, lever, task))


def export(text: str, module: str, names: Iterable[str]) -> str:
    r"""Add `from module import names`, and the names to `__all__`, in the source of an `__init__`.

    Example:
        >>> print(export('from a.c import d\n\n__all__ = ["d"]', "a.b", ["E"]))
        from a.b import E
        from a.c import d
        <BLANKLINE>
        __all__ = [
            "E",
            "d",
        ]
    """
    names = sorted(names, key=_isort)
    lines = text.splitlines()
    tree = ast.parse(text)
    listed = next(
        node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    everything = sorted({*ast.literal_eval(listed.value), *names}, key=_isort)
    assert listed.end_lineno is not None
    lines[listed.lineno - 1 : listed.end_lineno] = ["__all__ = [", *(f'    "{name}",' for name in everything), "]"]
    # an import that sorts after ours keeps its place; ours goes before it
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    later = [node.lineno for node in imports if (node.module or "") > module]
    ends = [node.end_lineno or node.lineno for node in imports]
    at = later[0] - 1 if later else max(ends, default=listed.lineno - 1)
    lines.insert(at, f"from {module} import {', '.join(names)}")
    return "\n".join(lines) + "\n" * text.endswith("\n")


def _isort(name: str) -> tuple[bool, bool, str]:
    return not name.isupper(), not name[0].isupper(), name


def _render(template: str, method: Method) -> str:
    return _Text(files("kilter").joinpath("templates", template).read_text(encoding="utf-8")).substitute(method.names)
