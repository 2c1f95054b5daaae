"""Importing a family needs torch only: hosts and other heavy things are loaded inside functions.

The direction of imports is import-linter's business (`make lint`); it cannot tell a module's imports from a function's.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kilter.commands.new import families

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
LIGHT = {"torch", "jaxtyping", *sys.stdlib_module_names}
BELOW = {"core", "dist", "ops", "evaluation"}
FAMILIES = [family for family in families(ROOT) if (SRC / "kilter" / family).is_dir()]


def imported_at_once(tree: ast.AST) -> Iterator[str]:
    """Modules imported when the module is, `TYPE_CHECKING` blocks left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "kilter":
            yield from (f"kilter.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imported_at_once(node)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_needs_torch_only(family: str) -> None:
    wrong = [
        f"{path.relative_to(SRC)}: {name}"
        for path in SRC.glob(f"kilter/{family}/**/*.py")
        for name in imported_at_once(ast.parse(path.read_text(encoding="utf-8")))
        if not (name.split(".")[0] in LIGHT or name.split(".")[:2] in [["kilter", floor] for floor in (*BELOW, family)])
    ]
    assert not wrong, "import these inside the function that needs them"


def test_families_are_found() -> None:
    assert "speech" in FAMILIES
