"""With what a run was made: versions, commit, hardware."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import kilter


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    found = {name: version(name) for name in ("torch", "transformers")}
    return {"kilter": kilter.__version__, **found, "python": platform.python_version()}


def hardware() -> str:
    """The machine in a few words."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} cores, {gpu}, {platform.system()}"


def commit() -> str | None:
    """Commit of the source tree kilter runs from, if it is one."""
    return (_git("describe", "--always", "--dirty") or "").strip() or None


def changed_since(commit: str | None, files: Sequence[Path]) -> list[str] | None:
    """Which of these files of the source tree are others than in a commit.

    None where that is not known: outside a checkout, of a commit that is not there, or of one that was not clean.
    """
    if not re.fullmatch("[0-9a-f]{7,64}", commit or ""):
        return None
    found = _git("diff", "--name-only", str(commit), "--", *map(str, files))
    return None if found is None else found.splitlines()


def _git(*command: str) -> str | None:
    """What git says of the source tree; None where there is no git, no checkout, or it cannot."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists() or not (git := shutil.which("git")):
        return None
    done = subprocess.run([git, "-C", str(root), *command], capture_output=True, text=True)
    return None if done.returncode else done.stdout
