"""`kilter doctor`: what is installed, which data is there, and how to get what is missing."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import kilter

PACKAGES = {
    "core": ("torch", "jaxtyping", "safetensors", "tyro", "rich", "PyYAML"),
    "speech": (
        "transformers",
        "accelerate",
        "datasets",
        "soundfile",
        "scipy",
        "jiwer",
        "rapidfuzz",
        "matplotlib",
        "jinja2",
    ),
}


def examine() -> dict[str, Any]:
    """The state of things, as plain values."""
    from kilter.data.assets import ASSETS, status

    packages = {extra: {name: _version(name) for name in names} for extra, names in PACKAGES.items()}
    return {
        "kilter": kilter.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": packages,
        "torchaudio": _version("torchaudio"),
        "data_folder": os.environ.get("KILTER_DATA"),
        "assets": {name: status(name) for name in ASSETS},
        "ok": sys.version_info >= (3, 11) and all(found for names in packages.values() for found in names.values()),
    }


def show(found: dict[str, Any]) -> None:
    """Print the state of things for a person."""
    print(f"kilter {found['kilter']}, Python {found['python']}, {found['platform']}")
    for extra, names in found["packages"].items():
        missing = [name for name, there in names.items() if there is None]
        there = ", ".join(f"{name} {number}" for name, number in names.items() if number)
        print(f"\n{extra}: {there}")
        if missing:
            print(f"  missing: {', '.join(missing)}; pip install 'kilter[{extra}]'")
    if found["torchaudio"]:
        print(
            "\ntorchaudio is installed: kilter does not need it, and beside a CPU torch it breaks transformers' audio"
        )
    print(f"\ndata (KILTER_DATA is {found['data_folder'] or 'not set'}):")
    for name, state in found["assets"].items():
        print(f"  {name:<24} {', '.join(f'{key}: {value}' for key, value in state.items() if key != 'name')}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
