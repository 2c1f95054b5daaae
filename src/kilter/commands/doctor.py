"""kilter doctor: what is installed, what is missing, how to get it."""

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import kilter
from kilter.core.installed import hint, needs, numbers
from kilter.lab.output import print_json

PLACE = 120


@dataclass
class Doctor:
    """Say what is installed, which data is there and how to get what is missing. Downloads nothing."""

    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Print the state of things; 1 if a method cannot run."""
        found = examine()
        if self.json:
            print_json(found)
        else:
            show(found)
        return 0 if found["ok"] else 1


COMMAND = Doctor


def examine() -> dict[str, Any]:
    """The state of things, as plain values."""
    from kilter.data.assets import ASSETS, status

    packages: dict[str, dict[str, dict[str, Any]]] = {"core": {}}
    for need in needs():
        found = _version(need.name)
        enough = found is not None and numbers(found) >= numbers(need.least)
        state = {"version": found, "least": need.least, "ok": enough}
        packages.setdefault(need.extra or "core", {})[need.name] = state
    return {
        "kilter": kilter.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": packages,
        "torchaudio": _version("torchaudio"),
        "data_folder": os.environ.get("KILTER_DATA"),
        "assets": {name: status(name) for name in ASSETS},
        "ok": sys.version_info >= (3, 11) and all(one["ok"] for names in packages.values() for one in names.values()),
    }


def show(found: dict[str, Any]) -> None:
    """Print the state of things for a person."""
    print(f"kilter {found['kilter']}, Python {found['python']}, {found['platform']}")
    for extra, names in found["packages"].items():
        there = [f"{name} {one['version']}" for name, one in names.items() if one["ok"]]
        print(f"\n{extra}: {', '.join(there)}")
        wanted = [
            f"{name}>={one['least']} ({one['version'] or 'missing'})" for name, one in names.items() if not one["ok"]
        ]
        if wanted:
            print(f"  needs {', '.join(wanted)}: {hint(*[extra] * (extra != 'core'))}")
    if found["torchaudio"]:
        print(
            "\ntorchaudio is installed: kilter does not need it, and beside a CPU torch it breaks transformers' audio"
        )
    print(f"\ndata (KILTER_DATA is {found['data_folder'] or 'not set'}):")
    for name, state in found["assets"].items():
        where = f"in {state['where']}" if state["present"] else f"not here; {state['get']} ({state['size_mb']} MB)"
        print(f"  {name:<18} {where}\n{'':<21}{state['title']}, {state['licence']}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
