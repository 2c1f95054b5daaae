"""The versions of a host: what its adapter says, what `pyproject.toml` allows, what is installed, what the docs say."""

import ast
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
FLOORS = {
    (need.name, str(need.specifier)) for lines in EXTRAS.values() for need in map(Requirement, lines) if need.specifier
}
HOST_OF = {"generation": "transformers"}
"""Adapters that are not called after their host."""


def adapters() -> dict[str, tuple[str, str]]:
    """Of each adapter its host and `TESTED`, read without importing it."""
    found = {}
    for file in sorted(ROOT.glob("src/kilter/hosts/*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TESTED":
                host = HOST_OF.get(file.stem, file.stem.replace("_", "-"))
                found[file.stem] = host, ast.literal_eval(node.value)
    return found


ADAPTERS = adapters()


def test_adapters_are_found() -> None:
    assert {"transformers", "generation", "sentence_transformers"} <= set(ADAPTERS)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_lowest_tested_is_the_lowest_allowed(adapter: str) -> None:
    """CI installs the lowest that `pyproject.toml` allows, and so tests what the adapter says."""
    host, wanted = ADAPTERS[adapter]
    assert re.fullmatch(r">=[\d.]+,<[\d.]+", wanted), "from the first version tested to the first that was not"
    assert {floor for name, floor in FLOORS if name == host} == {wanted.split(",")[0]}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_what_is_installed_has_been_tested(adapter: str) -> None:
    host, wanted = ADAPTERS[adapter]
    if Version(there := version(host)).is_prerelease:
        pytest.skip(f"{host} {there} is a pre-release: CI tries it beforehand, nothing is said of it")
    assert there in SpecifierSet(wanted), (
        f"hosts/{adapter}.py is tested with {host} {wanted}, and {there} is installed: run tests/hosts and "
        "tests/decoding under it, and say so in TESTED"
    )


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_page_names_the_same_floor(adapter: str) -> None:
    host, wanted = ADAPTERS[adapter]
    said = set(re.findall(rf"(?<![\w-]){host} ≥ ([\d.]+)", (ROOT / "docs/hosts.md").read_text(encoding="utf-8")))
    assert said == {wanted.split(",")[0].removeprefix(">=")}
