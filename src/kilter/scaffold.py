"""`kilter new family/name`: the three files of a new paper, from templates that work as they stand.

One method with its card, one recipe, one test, and the import line in the family's `__init__`; nothing else is
edited, and nothing that exists is overwritten.
"""

import ast
import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

NOT_FAMILIES = {"core", "data", "evaluation", "evidence", "hosts", "lab", "models", "ops", "recipes", "templates"}


class _Text(Template):
    delimiter = "%"  # `$` is maths in our docstrings


@dataclass(frozen=True)
class Method:
    """Where a new method goes and what things in it are called.

    Example:
        >>> Method.parse("speech/fast-emit").names
        {'family': 'speech', 'slug': 'fast-emit', 'module': 'fast_emit', 'cls': 'FastEmit'}
    """

    family: str
    slug: str

    @classmethod
    def parse(cls, target: str) -> "Method":
        """Read `family/name`.

        Raises:
            ValueError: the target is not of that form, or would not make a Python module of that name.
        """
        match = re.fullmatch(r"([a-z][a-z0-9]*)/([a-z][a-z0-9]*(?:-[a-z0-9]+)*)", target)
        if not match:
            raise ValueError(f"{target!r} is not family/name in lower case and hyphens, such as speech/fast-emit")
        method = cls(*match.groups())
        if method.family in NOT_FAMILIES:
            raise ValueError(f"{method.family!r} is a floor of kilter, not a family of methods; see docs/new-paper.md")
        for name in (method.family, method.module):
            if keyword.iskeyword(name):
                raise ValueError(f"{name!r} is a word of the Python language; choose another name")
        return method

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
        return {"family": self.family, "slug": self.slug, "module": self.module, "cls": self.cls}


def new(target: str, root: Path) -> list[Path]:
    """Write the files of a new method into a checkout of kilter.

    Args:
        target: `family/name`, the name being the slug used everywhere.
        root: the checkout, the folder that holds `src/kilter`.

    Returns:
        The files written or changed, the ones to fill in first.

    Raises:
        ValueError: a bad target.
        FileNotFoundError: `root` is not a checkout of kilter.
        FileExistsError: one of the files is already there; then nothing is written.
    """
    method = Method.parse(target)
    package = root / "src" / "kilter"
    if not (package / "core").is_dir():
        raise FileNotFoundError(
            f"{root} is not a checkout of kilter: it has no src/kilter; run this where you cloned it"
        )
    written = {
        package / method.family / f"{method.module}.py": "method.py.tmpl",
        package / "recipes" / f"{method.module}.py": "recipe.py.tmpl",
        root / "tests" / method.family / f"test_{method.module}.py": "test.py.tmpl",
    }
    taken = [str(path.relative_to(root)) for path in written if path.exists()]
    if taken:
        raise FileExistsError(f"already there, nothing was written: {', '.join(taken)}")
    texts = {path: _render(template, method) for path, template in written.items()}
    init = package / method.family / "__init__.py"
    exported = init.read_text(encoding="utf-8") if init.exists() else _render("family.py.tmpl", method)
    texts[init] = export(exported, f"kilter.{method.family}.{method.module}", [method.cls, method.module])
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    return list(texts)


def next_steps(target: str) -> str:
    """What the author does after `new`, in words for the terminal."""
    return _render("next_steps.txt.tmpl", Method.parse(target))


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
