"""What the report of bitext retrieval shows and remarks: vectors before and after, and how the tests were made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilter.lab.files import read_json
from kilter.lab.recipe import Picture

if TYPE_CHECKING:
    from kilter.tasks.bitext_retrieval.corpus import Corpus


def pictures(summary: Mapping[str, Any], shapes: Mapping[str, Path]) -> list[Picture]:
    """Spectrum, cosines and map of the arms whose vectors were kept, each under the arm's label."""
    from kilter.lab.embedding_plots import map_plot, similarity_plot, spectrum_plot

    there = {summary["arms"][arm]["label"]: read_json(file) for arm, file in shapes.items() if file.exists()}
    if not there:
        return []
    cosines = {
        label: {"other pairs": shape["others"], "translations": shape["translations"]} for label, shape in there.items()
    }
    first = next(iter(there.values()))
    return [
        Picture(
            "spectrum",
            "How many directions the vectors use",
            "Shares of the singular values, largest first; the flatter the line, the more directions count.",
            spectrum_plot({label: shape["spectrum"] for label, shape in there.items()}),
        ),
        Picture(
            "similarity",
            "Translations and other pairs",
            "Cosines of a sentence with its translation and with that of another; the less they overlap, the surer a "
            "translation is found.",
            similarity_plot(cosines),
        ),
        Picture(
            "map",
            "Where the languages lie",
            "Sentences on the two directions in which they differ most; languages that lie apart are islands.",
            map_plot({label: shape["map"] for label, shape in there.items()}, first["languages"]),
        ),
    ]


def remarks(summary: Mapping[str, Any], corpus: "Corpus") -> Sequence[str]:
    """How the tests were made, and what to bear in mind."""
    notes = [*corpus.notes]
    if "debian" in corpus.tests:
        notes.append(
            "A package that is judged on is learnt from in no language, one that is learnt from in one language only."
        )
    for name, test in corpus.tests.items():
        sizes = sorted({len(pairs) for pairs in test.values()})
        many = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        notes.append(f"{name}: a translation is sought among {many} sentences of each language.")
    if any("+transductive" in arm for arm in summary["arms"]):
        notes.append("What is marked as by the test's own statistics has seen the test's sentences, though no pairs.")
    return notes
