"""Install a wheel into an empty environment outside the repository and use it there.

python scripts/check_wheel.py dist/kilter-0.1.0-py3-none-any.whl

Torch and the other dependencies are lent by the interpreter that runs this (through a path file, which leaves its
editable kilter behind); kilter itself can come from the wheel only.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

MUST_HOLD = (
    "kilter/py.typed",
    "kilter/evidence/",
    "kilter/commands/run.py",
    "kilter/templates/objective/method.py.tmpl",
    "kilter/data/manifests/",
)


def main(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    missing = [need for need in MUST_HOLD if not any(name.startswith(need) for name in names)]
    if missing:
        sys.exit(f"{wheel.name} lacks {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "env", with_pip=True)
        bin_ = home / "env" / ("Scripts" if os.name == "nt" else "bin")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}

        def run(*command: str) -> str:
            print("$", " ".join(command), flush=True)
            done = subprocess.run(
                [bin_ / command[0], *command[1:]], cwd=home, env=clean, text=True, capture_output=True
            )
            if done.returncode:
                sys.exit(f"{done.stdout}{done.stderr}\nfailed with exit status {done.returncode}")
            return done.stdout

        run("pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel))
        site = Path(run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        where = run("python", "-c", "import kilter, kilter.core, kilter.speech; print(kilter.__file__)").strip()
        if not Path(where).resolve().is_relative_to(home.resolve()):
            sys.exit(f"kilter was imported from {where}, not from the wheel")
        for command in ("--help", "list", "show align-with-purpose --bibtex", "run --help", "doctor"):
            run("kilter", *command.split())
    print(f"{wheel.name}: fine on its own")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
