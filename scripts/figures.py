"""Draw the figures of the documentation that evidence gives: python scripts/figures.py.

A test says when one is out of date. The other images are of single runs and inputs.
"""

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
# image: (evidence file, metric to the right, metric upwards)
FIGURES = {
    "align-with-purpose-tradeoff": ("align-with-purpose", "delay_ms", "wer"),
    "align-with-purpose-residual-tradeoff": ("align-with-purpose-residual", "delay_ms", "wer"),
    "diverse-beam-search-tradeoff": ("diverse-beam-search", "distinct_4", "oracle_20"),
    "rankgen-identification": ("rankgen", "generative", "inbook"),
}


def draw(name: str) -> str:
    """One of `FIGURES` as SVG."""
    from kilter.lab.plots import tradeoff

    file, x, y = FIGURES[name]
    return tradeoff(json.loads((ROOT / "evidence" / f"{file}.json").read_text(encoding="utf-8")), x, y)


def main() -> None:
    for name in FIGURES:
        (IMAGES / f"{name}.svg").write_text(draw(name), encoding="utf-8")


if __name__ == "__main__":
    main()
