"""Evidence: a run's summary and every seed's figures in one file that is kept with the source."""

from pathlib import Path

from kilter.lab.files import read_json, write_json


def source_tree() -> Path:
    """Root of the source tree kilter runs from.

    Raises:
        ValueError: it was installed from a wheel.
    """
    root = Path(__file__).parents[3]
    if not (root / "pyproject.toml").exists():
        raise ValueError("--record writes into kilter's source tree, but this kilter was installed from a wheel")
    return root


def record_evidence(run: Path, root: Path) -> Path:
    """Write `evidence/<method>.json`, or `<method>-<preset>.json` for another preset than `full`; returns its path.

    Raises:
        ValueError: the run was on synthetic data.
    """
    summary = read_json(run / "summary.json")
    if (data := summary["data"])["synthetic"]:
        why = f" {data['note']}" if data["note"] else ""
        raise ValueError(
            f"--record keeps no run on synthetic data, and this one was on {data['title']}.{why} Get what people made "
            "(kilter doctor says how), then run it again with another --out"
        )
    summary["per_seed"] = {
        arm: {str(seed): read_json(run / "arms" / arm / f"seed-{seed}" / "metrics.json") for seed in found["seeds"]}
        for arm, found in summary["arms"].items()
    }
    for where in ("out", "only", "jobs"):
        summary["settings"].pop(where, None)
    summary.pop("figures")
    name = summary["method"] if summary["preset"] == "full" else f"{summary['method']}-{summary['preset']}"
    file = root / "evidence" / f"{name}.json"
    write_json(file, summary)
    return file
