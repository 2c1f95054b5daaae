"""Draw the figures of the documentation from what is kept in evidence/: python scripts/figures.py.

A test says when one is out of date. The spectrogram's sound is that of the data.
"""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
# image: (evidence file, metric to the right, metric upwards)
FIGURES = {
    "align-with-purpose-tradeoff": ("align-with-purpose", "delay_ms", "wer"),
    "align-with-purpose-residual-tradeoff": ("align-with-purpose-residual", "delay_ms", "wer"),
    "diverse-beam-search-tradeoff": ("diverse-beam-search", "distinct_4", "oracle_20"),
    "diverse-beam-search-strengths": ("diverse-beam-search", "distinct_4", "oracle_20"),
    "rankgen-identification": ("rankgen", "generative", "inbook"),
    "ccp-retrieval": ("ccp", "debian", "tatoeba"),
    "dse-cost": ("dse", "query_ms", "average"),
    "dga-cost": ("dga", "train_seconds", "loss"),
    "whitened-cse-space": ("whitened-cse", "uniformity", "alignment"),
    "whitened-cse-cls-effect": ("whitened-cse-cls", "effective_rank", "sts_average"),
}
# image: (evidence file, the metric at each place across, what is across, what is up, what was trained on)
TIMES = (1, 2, 4, 8, 16)
GROWTH: dict[str, tuple[str, dict[int, str], str, str, int]] = {
    "seqpe-length": ("seqpe", {128 * n: f"perplexity_{n}x" for n in TIMES}, "tokens", "perplexity", 128),
    "seqpe-lookups": ("seqpe-lookups", {64 * n: f"lookup_{n}x" for n in TIMES}, "tokens", "names found, %", 64),
    "seqpe-images": ("seqpe-images", {n: f"accuracy_{n}" for n in (28, 42, 56, 84)}, "pixels", "accuracy, %", 28),
}
LEFT_OUT = ("linear", "dynamic", "no-contrast", "no-transfer", "no-shift")
"""Arms that tables show and these figures do not."""


def utterance() -> str:
    """When three models emit the words of one string of digits, below its spectrogram.

    Raises:
        FileNotFoundError: The recordings are not here.
    """
    from kilter.data.assets import locate
    from kilter.data.fsdd import RATE, DigitStrings, load_takes
    from kilter.lab.timeline import timeline

    demo = example("demo")
    takes = load_takes(locate("fsdd", allow_generated=False, progress=False).path)
    row = DigitStrings(takes, count=demo["spoken"] + 1, seed=0, split="test")[demo["spoken"]]
    heard = {label: [(word, seconds) for word, seconds in words] for label, words in demo["heard"].items()}
    return timeline(row["audio"], RATE, row.get("words", []), heard)


def latency() -> str:
    """Share of words emitted by a given delay after their end, for the same models."""
    from kilter.lab.delays import delay_curves

    delays = {name: [*map(float, found)] for name, found in example("demo")["delays"].items()}
    return delay_curves(delays, "the end of the word")


def weights() -> str:
    """How the weights of eleven domains go while a model learns."""
    from kilter.tasks.language_modelling.figures import curves_plot

    kept = example("dga-weights")
    rows = [*zip(kept["steps"], kept["weights"], strict=True)]
    curves = {name: [(step, row[name]) for step, row in rows] for name in rows[0][1]}
    top = max(share for _, row in rows for share in row.values())
    return curves_plot(curves, across="step", up="weight", title="Weights of the domains", top=top)


def lock_in() -> str:
    """Who gets the mass of ten answers where those that beat the reference are rare."""
    from kilter.tasks.language_modelling.figures import curves_plot

    kept = example("grao-lock-in")["rare"]
    names = {"better": "better ones", "reference": "the reference"}
    curves = {f"{arm}: {names[key]}": [*enumerate(kept[arm][key])] for arm in ("GRAO", "GRPO") for key in names}
    return curves_plot(curves, across="step", up="probability", title="Where better answers are rare", top=1.0)


def sizes() -> str:
    """Sets that are sorted without a fault, by their size, by networks with a glimpse and without masks."""
    from kilter.lab.curves import metric_curves

    summary = json.loads((ROOT / "evidence" / "order-matters.json").read_text(encoding="utf-8"))
    apart = {"no-glimpse", "masked"}
    arms = {arm: found for arm, found in summary["arms"].items() if apart.isdisjoint(arm.split("+"))}
    at = {float(size): f"exact_{size}" for size in (5, 10, 15)}
    return metric_curves({**summary, "arms": arms}, at, across="items in a set", up="sets sorted, %")


SINGLE = {
    "align-with-purpose-utterance": utterance,
    "word-times-latency": latency,
    "dga-weights": weights,
    "grao-lock-in": lock_in,
    "order-matters-sizes": sizes,
}


def example(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "evidence" / "examples" / f"{name}.json").read_text(encoding="utf-8"))


def draw(name: str) -> str:
    """One of `FIGURES`, `GROWTH` or `SINGLE` as SVG."""
    from kilter.lab.curves import metric_curves
    from kilter.lab.plots import tradeoff

    if name in SINGLE:
        return SINGLE[name]()
    if name in GROWTH:
        file, at, across, up, mark = GROWTH[name]
        summary = json.loads((ROOT / "evidence" / f"{file}.json").read_text(encoding="utf-8"))
        arms = {arm: found for arm, found in summary["arms"].items() if arm not in LEFT_OUT}
        log = "x" if "%" in up else "xy"
        return metric_curves({**summary, "arms": arms}, at, across=across, up=up, log=log, mark=mark)

    file, x, y = FIGURES[name]
    summary = json.loads((ROOT / "evidence" / f"{file}.json").read_text(encoding="utf-8"))
    return tradeoff(tried(summary, x, y) if name.endswith("-strengths") else summary, x, y)


def tried(summary: dict[str, Any], x: str, y: str) -> dict[str, Any]:
    """Every strength that was tried on the development inputs as an arm: means over the seeds.

    Those that fall below four fifths of the best are left out.
    """
    arms = {}
    for name, arm in summary["arms"].items():
        seeds = [*summary["per_seed"][name].values()]
        for at in (key.partition(f"dev_{x}_at_")[2] for key in seeds[0] if key.startswith(f"dev_{x}_at_")):
            means = {key: {"mean": fmean(seed[f"dev_{key}_at_{at}"] for seed in seeds)} for key in (x, y)}
            told = {"label": f"{arm['label']} {at}", "role": arm["role"], "series": name, "point": at}
            arms[f"{name}-{at}"] = {**told, "metrics": means}
    best = max(arm["metrics"][y]["mean"] for arm in arms.values())
    kept = {name: arm for name, arm in arms.items() if arm["metrics"][y]["mean"] >= 0.8 * best}
    return {"metrics": summary["metrics"], "baseline": None, "arms": kept}


def main() -> None:
    for name in [*FIGURES, *GROWTH, *SINGLE]:
        (IMAGES / f"{name}.svg").write_text(draw(name), encoding="utf-8")


if __name__ == "__main__":
    main()
