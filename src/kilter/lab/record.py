"""Evidence: a run's summary and every seed's figures in one file that is kept with the source."""

from pathlib import Path

from kilter.lab.files import read_json, write_json


def record_evidence(run: Path, root: Path | None = None) -> Path:
    """Write `evidence/<method>.json` in the source tree from a finished run; returns its path.

    Raises:
        ValueError: kilter does not run from a source tree.
    """
    root = root or Path(__file__).parents[3]
    if not (root / "pyproject.toml").exists():
        raise ValueError("--record writes into kilter's source tree, but this kilter was installed from a wheel")
    summary = read_json(run / "summary.json")
    summary["per_seed"] = {
        arm: {str(seed): read_json(run / "arms" / arm / f"seed-{seed}" / "metrics.json") for seed in found["seeds"]}
        for arm, found in summary["arms"].items()
    }
    for where in ("out", "only", "jobs"):
        summary["settings"].pop(where, None)
    summary.pop("figures")
    file = root / "evidence" / f"{summary['method']}.json"
    write_json(file, summary)
    return file.relative_to(root)
