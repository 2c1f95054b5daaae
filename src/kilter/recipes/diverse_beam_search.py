"""Recipe of Diverse Beam Search: several different and good answers, against beam search with as many beams.

The paper decoded captions, questions and news from networks of its time; here it is restaurants from slots and values
(E2E NLG) and captions from German (Multi30k), by a small encoder–decoder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Term
from kilter.lab.options import at_least
from kilter.models.decoders import DECODERS
from kilter.tasks.several_answers import SeveralAnswers, decoded_by

_ALL = ("beam", "dbs", "dbs-cumulative", "dbs-overlap", "dbs-ngram", "dbs-embedding", "sibling", "mmi", "nucleus")
_WIDELY = 1.5
"""So many times the distinct 4-grams of beam search are expected of DBS."""
PUBLISHED = {
    "COCO": {"beam": (27.34, 5.67), "sibling": (27.59, 8.94), "dbs": (28.09, 13.44), "mmi": (27.94, 6.10)},
    "PASCAL-50S": {"beam": (8.74, 2.50), "sibling": (8.91, 5.31), "dbs": (9.29, 7.33), "mmi": (8.56, 8.42)},
    "VQG": {"beam": (26.74, 5.23), "dbs": (27.94, 12.24)},
    "newstest2013": {"beam": (18.44, 3.23), "sibling": (18.34, 4.61), "dbs": (18.77, 5.54), "mmi": (18.86, 4.31)},
}
"""Oracle@20 (SPICE; BLEU-4 for newstest2013) and distinct 4-grams of 20 outputs, of the paper's Tables 1 to 3."""


@dataclass(kw_only=True)
class DiverseBeamSearchRecipe(SeveralAnswers):
    """Get several answers that differ, of which the best is better than the best of beam search.

    Diverse Beam Search puts the beams in groups and decodes them one after another at every step; a later group pays
    for the tokens that earlier ones have just chosen.

    Without --model it trains a small model, chooses each decoder's strength on the development inputs, and compares
    the decoders on the test inputs. With --model and --data it shows what the decoders do with your model and prompts.
    """

    groups: Annotated[int | None, at_least(1)] = None
    """G of the arms dbs…; by default as many as outputs, as published"""

    paper = cards()["diverse-beam-search"]
    shown: ClassVar[tuple[str, ...]] = ("dbs", "dbs-0.5")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("beam", "dbs", "nucleus-0.9"), **SeveralAnswers.smoke},
        "demo": {"arms": ("beam", "dbs", "nucleus"), "steps": 600, "test_inputs": 100, "dev_inputs": 30, "jobs": 2},
        "full": {"arms": _ALL, "seeds": 3, "jobs": 2},  # 20 outputs and no length penalty, as published
        "multi30k": {"arms": _ALL, "seeds": 3, "jobs": 2, **SeveralAnswers.captions},
        "own": {  # what --model means
            "arms": ("beam", "dbs-0.2", "dbs-0.5", "dbs-0.8", "nucleus"),
            "outputs": 10,
            "inputs_at_once": 4,
        },
    }

    def prepare(self) -> None:
        """Settle the groups, which must divide the beams."""
        super().prepare()
        self.groups = self.groups or self.outputs
        if self.outputs % self.groups:
            raise ValueError(f"outputs={self.outputs} cannot be divided into groups={self.groups}; make it a multiple")

    def brings(self) -> Mapping[str, Term]:
        """The paper's diversities; `dbs+compat` charges the end of a sequence too, as the authors' code does."""
        row = DECODERS["diverse-beam"]
        theirs = {"compat": (", ends charged as published", replace(row, own={**row.own, "charge_eos": True}))}
        groups = self.groups or "all"
        return {name: decoded_by(row, at, variants=theirs, groups=groups) for name, at in row.arms.items()}

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and how many times the distinct 4-grams of beam search are expected of it."""
        return (*self.paper.claims, Claim("distinct_4", "higher", "beam", "dbs", times=_WIDELY))

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """The published figures beside ours."""
        beside = (_beside_published(summary["arms"], arm) for arm in ("dbs", "sibling", "mmi"))
        return [*super().notes(summary), *filter(None, beside)]


RECIPE = DiverseBeamSearchRecipe


def _beside_published(arms: Mapping[str, Any], arm: str) -> str | None:
    """The ratios to beam search, ours and the published ones; None where a figure is missing."""
    mean = {
        name: {key: figure["mean"] for key, figure in arms[name]["metrics"].items()}
        for name in (arm, "beam")
        if name in arms
    }
    if len(mean) < 2 or any("oracle_20" not in figures or not figures["distinct_4"] for figures in mean.values()):
        return None
    ours = [mean[arm][key] / mean["beam"][key] for key in ("distinct_4", "oracle_20") if mean["beam"][key]]
    if len(ours) < 2:
        return None
    published = "; ".join(
        f"{data} ×{figures[arm][1] / figures['beam'][1]:.2f} and ×{figures[arm][0] / figures['beam'][0]:.3f}"
        for data, figures in PUBLISHED.items()
        if arm in figures
    )
    return (
        f"{arms[arm]['label']} by beam search, distinct 4-grams and oracle@20: ×{ours[0]:.2f} and ×{ours[1]:.3f} here. "
        f"Published: {published}."
    )
