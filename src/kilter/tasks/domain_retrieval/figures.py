"""What the report of domain retrieval shows and remarks: what each domain gains, and own texts beside others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilter.lab.files import read_json
from kilter.lab.recipe import Picture

if TYPE_CHECKING:
    from kilter.tasks.domain_retrieval.corpus import Corpus

_ROW, _STEP = 30.0, 9.0
"""Height of a domain without its arms, and of an arm, in points."""
_MARKS = "oD^vs"


def shape_of(run: Path | None, arm: str, seed: int) -> Path:
    """Where the cosines that the pictures draw are kept."""
    return Path(run or ".", "arms", arm, f"seed-{seed}", "similarity.json")


def pictures(summary: Mapping[str, Any], run: Path, arms: Sequence[str], domains: Sequence[str]) -> list[Picture]:
    """F1max that each domain gains by each of the arms, and the cosines of all of them and the baseline."""
    from kilter.lab.embedding_plots import similarity_plot

    baseline = summary["baseline"]
    labels = {arm: found["label"] for arm, found in summary["arms"].items()}
    drawn = []
    if gains := {labels[arm]: summary["differences"][arm] for arm in arms if arm in summary["differences"]}:
        each = {arm: {one: found[f"f1_{one}"] for one in domains} for arm, found in gains.items()}
        caption = f"F1max beyond that of {labels[baseline].lower()}, with intervals."
        drawn.append(Picture("gains", "What each domain gains", caption, gains_plot(each)))
    files = {
        arm: sorted((run / "arms" / arm).glob("seed-*/similarity.json")) for arm in dict.fromkeys((baseline, *arms))
    }
    if cosines := {labels[arm]: read_json(found[0])["similarity"] for arm, found in files.items() if found}:
        caption = "The less they overlap, the surer a text is told from the most alike other one of its domain."
        drawn.append(Picture("similarity", "Own texts, and the most alike others", caption, similarity_plot(cosines)))
    return drawn


def gains_plot(gains: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Intervals by domain, one below the other, of each arm in a colour of its own.

    Args:
        gains: by arm and domain, `mean`, and `low` and `high` or None, in points.
    """
    from matplotlib.figure import Figure

    from kilter.lab.layout import PAD, Key, settle
    from kilter.lab.numbers import fixed
    from kilter.lab.theme import SERIES, colour, theme, to_svg

    domains = [*next(iter(gains.values()))]
    tall = len(domains) * (_ROW + _STEP * (len(gains) - 1))
    with theme():
        looks = [(colour(SERIES[n % len(SERIES)]), _MARKS[n % len(_MARKS)]) for n in range(len(gains))]
        entries: list[Any] = [
            (arm, ink, {"linestyle": "none", "marker": mark, "markersize": 6})
            for arm, (ink, mark) in zip(gains, looks, strict=True)
        ]
        key = Key(entries, 300.0)
        fig = Figure(figsize=(5.6, (tall + key.height + 60) / 72))
        axes = fig.subplots()
        axes.axvline(0, color=colour("baseline"), linewidth=0.8, dashes=(3, 3), zorder=1)
        for place, (found, (ink, mark)) in enumerate(zip(gains.values(), looks, strict=True)):
            off = (place - (len(gains) - 1) / 2) * _STEP / (tall / len(domains))
            for row, domain in enumerate(domains):
                one = found[domain]
                low, high = (one["mean"] if one[end] is None else one[end] for end in ("low", "high"))
                axes.plot([low, high], [row + off] * 2, color=ink, linewidth=1.3)
                axes.plot(one["mean"], row + off, color=ink, marker=mark, markersize=6, linestyle="none")
        axes.set(ylim=(len(domains) - 0.5, -0.5), yticks=range(len(domains)), xlabel="F1max gained, points  (better →)")
        axes.set_yticklabels(domains)
        axes.grid(True, axis="x")
        settle(fig, axes, top=key.height + 4, least=(200.0, tall))
        key.draw(fig, PAD, 72 * fig.get_figheight() - PAD, coloured=False)
        told = "; ".join(
            f"{arm}: " + ", ".join(f"{domain} {fixed(one['mean'], 1, signed=True)}" for domain, one in found.items())
            for arm, found in gains.items()
        )
        return to_svg(fig, title="What each domain gains", description=told)


def remarks(summary: Mapping[str, Any], corpus: "Corpus", *, split: str) -> list[str]:
    """How the figures were made, and what to bear in mind."""
    sizes = ", ".join(f"{domain} {len(corpus.test[domain])}" for domain in corpus.domains)
    learnt = ", ".join(f"{domain} {len(pairs):,}" for domain, pairs in corpus.train.items())
    chosen = "the very pairs that are judged" if split == "dev" else "other pairs of the same domain"
    notes = [
        *corpus.notes,
        f"A text is sought among those of its own domain only. Pairs judged: {sizes}; learnt from: {learnt}.",
        "F1max is of each pair and a wrong one beside it: the text with that of the other pair of its domain which "
        f"shares most words with it. A domain's threshold comes from {chosen}; where the column says so, one for all "
        "comes from the judged pairs, as in published figures.",
    ]
    if any("separate" in arm for arm in summary["arms"]):
        notes.append(
            "All arms learn from the same batches in the same order; where each domain has a model of its own, that "
            "model learns from those of its domain alone, so that all of them together have the same work."
        )
    return notes
