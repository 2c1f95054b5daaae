"""With what a run was made: versions, commit, hardware."""

import os
import platform
import shutil
import subprocess
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
    root = Path(__file__).parents[3]
    if not (root / ".git").exists() or not (git := shutil.which("git")):
        return None
    done = subprocess.run([git, "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or None
