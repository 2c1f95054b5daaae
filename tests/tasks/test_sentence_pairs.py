"""The task on pairs of sentences: arms, own files, what a given teacher means, how scores are judged and timed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from kilter.core.paper import cards
from kilter.data.labelled_pairs import LabelledPairs
from kilter.lab.arms import Levers, Term
from kilter.lab.recipe import Provenance, Recipe
from kilter.recipes.dse import DistilledPairsRecipe
from kilter.tasks.sentence_pairs import SentencePairs, judging, sources, teachers, timing
from kilter.tasks.sentence_pairs.sources import Part, Sets
from kilter.tasks.sentence_pairs.students import training_rows
from tests.sentences import pairs

NLI = ("contradiction", "entailment", "neutral")


@dataclass(kw_only=True)
class Mine(SentencePairs):
    """Another method on the task."""

    paper = replace(cards()["dse"], slug="mine")

    def brings(self) -> Mapping[str, Term]:
        return {"mine": Term("My loss", lambda strength: Levers(objective=lambda pupil: pupil))}


@pytest.fixture(autouse=True)
def both_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recipe, "kin", staticmethod(lambda: (DistilledPairsRecipe, Mine)))


def small(**options: Any) -> DistilledPairsRecipe:
    return DistilledPairsRecipe(**{**DistilledPairsRecipe.presets["smoke"], "preset": "smoke", **options})


def scored(count: int = 40, seed: int = 1) -> LabelledPairs:
    first, second, scores = zip(*pairs(count, seed), strict=True)
    return LabelledPairs("scored", first, second, scores, None)


def classed(classes: tuple[str, ...], count: int = 40) -> LabelledPairs:
    found = scored(count)
    return replace(found, labels=tuple(row % len(classes) for row in range(count)), classes=classes)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Arms -----------------------------------------------------------------------------------------------------------------

LABELS = {
    "siamese": ("Siamese student, labels alone", "baseline"),
    "teacher": ("Teacher, both sentences together", "context"),
    "untrained": ("The encoder as given, cosines", "context"),
    "dse": ("Distilled student, α 0.5", "method"),
    "dse-1": ("Distilled student, α 1", "method"),
    "dse+dot": ("Distilled student, α 0.5, head on the dot product alone", "method"),
    "dse-0.25+portable+symmetric": (
        "Distilled student, α 0.25, mean of the last layer, both orders averaged",
        "method",
    ),
    "dot": ("Siamese student, labels alone, head on the dot product alone", "context"),
    "mine+dot": ("My loss, head on the dot product alone", "method"),
}


@pytest.mark.parametrize("arm", LABELS)
def test_arms_are_told_apart_in_words_in_whichever_recipe_they_stand(arm: str) -> None:
    for recipe in (small(), Mine()):
        found = recipe.describe(arm)
        assert (found.label, found.role) == LABELS[arm]


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("bowl", "there is no 'bowl'; there are siamese, dse, teacher, untrained"),
        ("dse-2", "the strength is α, a share from 0 to 1"),
        ("teacher+dot", "teacher stands alone"),
        ("untrained+dse", "cosine stands alone"),
        ("teacher+untrained", "2 decoders"),
        ("dse+mine", "2 losses"),
    ],
)
def test_arms_that_make_no_sense_are_named(arm: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small().describe(arm)


def test_every_preset_has_arms_that_can_be_described_and_the_full_one_what_is_claimed() -> None:
    for name, preset in DistilledPairsRecipe.presets.items():
        recipe = DistilledPairsRecipe(**{"preset": name, **preset})
        assert [recipe.describe(arm).role for arm in recipe.arms].count("baseline") == 1
        compared = {arm for claim in recipe.claims() if claim.metric for arm in (claim.baseline, claim.arm)}
        assert name != "full" or compared <= {*recipe.arms}
        assert {claim.metric for claim in recipe.claims() if claim.metric} <= recipe.metrics.keys()


# Own pairs ------------------------------------------------------------------------------------------------------------


def table(file: Path, rows: list[tuple[str, str, Any]], label: str = "label") -> str:
    lines = [f'"{first}","{second}",{value}' for first, second, value in rows]
    file.write_text("\n".join([f"sentence1,sentence2,{label}", *lines]), encoding="utf-8")
    return str(file)


def sentences(*labels: Any) -> list[tuple[str, str, Any]]:
    return [(f"First {row}.", f"Second {row}.", label) for row, label in enumerate(labels)]


def test_every_tenth_pair_is_held_out_where_none_are_given(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", sentences(*(0.5 * row for row in range(25))), "score")
    part = sources.own_pairs(file, None, "").parts["pairs"]
    assert part.test.labels == (4.5, 9.5)
    assert len(part.train) == 23
    assert (part.kind, part.outputs) == ("regression", 1)
    with pytest.raises(ValueError, match="5 pairs are too few to hold some out"):
        sources.own_pairs(table(tmp_path / "b.csv", sentences(1.5, 2, 3, 4, 5), "score"), None, "")


def test_classes_of_the_pairs_to_judge_on_are_numbered_as_those_to_learn_from(tmp_path: Path) -> None:
    learnt = table(tmp_path / "a.csv", sentences("neutral", "entailment", "contradiction"))
    judged = table(tmp_path / "b.csv", sentences("neutral", "entailment"))
    part = sources.own_pairs(learnt, judged, "").parts["pairs"]
    assert part.test.classes == part.train.classes == NLI
    assert part.test.labels == (2, 1)
    assert (part.kind, part.outputs) == ("multiclass", 3)
    with pytest.raises(
        ValueError, match=r"class 'contradiction' is none of those to learn from \(entailment, neutral\)"
    ):
        sources.own_pairs(judged, learnt, "")
    with pytest.raises(ValueError, match="--train has classes and --eval scores"):
        sources.own_pairs(learnt, table(tmp_path / "c.csv", sentences(1.5, 2), "score"), "")


def test_an_index_is_searched_by_entailment_or_the_last_class_or_the_one_that_is_named() -> None:
    of_three, of_others = (Part(classed(names), classed(names)) for names in (NLI, ("a", "b", "c")))
    assert (of_three.sought(None), of_others.sought(None), of_three.sought("neutral")) == (1, 2, 2)
    assert Part(scored(), scored()).sought(None) is None
    assert Part(classed(("no", "yes")), scored()).sought(None) is None
    with pytest.raises(ValueError, match="index_class=d: no class is called so; there are a, b, c"):
        of_others.sought("d")
    with pytest.raises(ValueError, match="no class is called so; the pairs have scores"):
        Part(scored(), scored()).sought("d")


def test_so_many_pairs_are_spread_over_all() -> None:
    part = Part(scored(40), scored(20))
    found = sources.some_of(Sets({"a": part}, Provenance("x")), 4, 0).parts["a"]
    assert found.train.first == part.train.first[::10]
    assert found.test == part.test


# A teacher that is given ----------------------------------------------------------------------------------------------


def told(labels: int, names: tuple[str, ...] = ()) -> Any:
    names = names or tuple(f"LABEL_{place}" for place in range(labels))
    return SimpleNamespace(config=SimpleNamespace(num_labels=labels, id2label=dict(enumerate(names))))


def test_a_teachers_classes_are_put_in_the_order_of_those_of_the_data() -> None:
    part, logits = Part(classed(NLI), classed(NLI)), draw(5, 3)
    read = teachers.reader_of(told(3, ("Entailment", "neutral", "contradiction")), part, "t")
    assert torch.equal(read(logits), logits[:, [2, 0, 1]])
    assert torch.equal(teachers.reader_of(told(3), part, "t")(logits), logits)


def test_two_logits_of_a_binary_teacher_become_their_difference() -> None:
    part = Part(classed(("different", "same")), classed(("different", "same")))
    logits = draw(5, 2)
    p = logits.softmax(1)
    assert torch.allclose(teachers.reader_of(told(2), part, "t")(logits).sigmoid(), p[:, 1])
    turned = teachers.reader_of(told(2, ("same", "different")), part, "t")
    assert torch.allclose(turned(logits).sigmoid(), p[:, 0])
    assert torch.equal(teachers.reader_of(told(1), part, "t")(logits[:, :1]), logits[:, 0])


@pytest.mark.parametrize(
    ("teacher", "classes", "said"),
    [
        (told(3), None, "has 3 outputs, and the data ask for one output, a score"),
        (told(1), NLI, "has 1 outputs, and the data ask for 3 outputs, contradiction, entailment, neutral"),
        (told(3, ("a", "b", "c")), NLI, "tells a, b, c, and the data contradiction, entailment, neutral"),
    ],
)
def test_a_teacher_of_something_else_is_refused(teacher: Any, classes: Any, said: str) -> None:
    pairs_ = scored() if classes is None else classed(classes)
    with pytest.raises(ValueError, match=f"--teacher mine: {said}"):
        teachers.reader_of(teacher, Part(pairs_, pairs_), "mine")


def test_a_given_teachers_scores_are_brought_to_the_scale_of_the_labels() -> None:
    logits = draw(200)
    labels = (2 + 1.5 * logits + 0.1 * draw(200, seed=1)).tolist()
    fit: Any = stats.linregress(logits.numpy(), labels)
    assert teachers.scale_of(logits, labels, "t") == pytest.approx((fit.slope, fit.intercept), abs=1e-5)
    with pytest.raises(ValueError, match=r"--teacher t: its scores do not rise with the labels .* \(slope -1"):
        teachers.scale_of(-logits, labels, "t")
    with pytest.raises(ValueError, match="do not rise"):
        teachers.scale_of(torch.ones(200), labels, "t")


def test_logits_stay_with_their_rows(tmp_path: Path) -> None:
    given, logits, file = scored(), draw(40), tmp_path / "rows.jsonl"
    teachers.keep_rows(file, given, logits)
    found = teachers.kept_rows(file, given)
    assert torch.equal(torch.tensor(found["teacher"]), logits)
    assert found["sentence2"] == [*given.second]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0)).tolist()
    sides = {name: tuple(getattr(given, name)[row] for row in order) for name in ("first", "second", "labels")}
    with pytest.raises(ValueError, match=r"rows.jsonl, row \d+: the teacher's logits are of other pairs"):
        teachers.kept_rows(file, replace(given, **sides))
    with pytest.raises(ValueError, match="row 39: the teacher's logits"):
        teachers.kept_rows(
            file, replace(given, first=given.first[:-1], second=given.second[:-1], labels=given.labels[:-1])
        )


def test_logits_that_are_not_finite_are_refused_by_row() -> None:
    broken: Any = SimpleNamespace(predict=lambda both, **how: torch.tensor([0.0] * 7 + [float("nan")] * 33))
    with pytest.raises(ValueError, match="row 7: the teacher's logits of"):
        teachers.logits_of(broken, scored())


def test_a_rows_label_is_the_logits_and_then_the_label() -> None:
    one: Any = {"sentence1": ["a", "c"], "sentence2": ["b", "d"], "teacher": [0.5, -1.0], "label": [4.5, 0.0]}
    assert training_rows(one).to_dict() == {"u": ["a", "c"], "v": ["b", "d"], "label": [[0.5, 4.5], [-1.0, 0.0]]}


# Judging --------------------------------------------------------------------------------------------------------------


def test_correlations_are_scipys() -> None:
    part, scores, teacher = Part(scored(), scored()), draw(40), draw(40, seed=1)
    rho, r, follows = (
        float(found[0])  # type: ignore[arg-type]
        for found in (
            stats.spearmanr(scores, part.test.labels),
            stats.pearsonr(scores, part.test.labels),
            stats.spearmanr(scores, teacher),
        )
    )
    found = judging.judge("stsb", part, scores, teacher).figures
    assert found == pytest.approx(
        {"stsb_spearman": 100 * rho, "stsb_pearson": 100 * r, "stsb_follows": 100 * follows}, abs=1e-4
    )


def test_labels_that_are_right() -> None:
    part = Part(classed(NLI), classed(NLI))
    right = torch.nn.functional.one_hot(torch.tensor(part.test.labels), 3).float()
    assert judging.judge("snli", part, right).figures == {"snli_accuracy": 100.0}
    assert judging.judge("snli", part, right.roll(1, 1)).figures == {"snli_accuracy": 0.0}
    part = Part(classed(("no", "yes")), classed(("no", "yes")))
    said = judging.judge("pairs", part, torch.tensor([1.0, 1.0, -1.0, 1.0] * 10)).figures
    assert said == pytest.approx({"pairs_accuracy": 75.0, "pairs_f1": 80.0})


def test_a_constant_on_all_classes_says_nothing_of_how_far_a_student_follows() -> None:
    part, teacher = Part(classed(NLI), classed(NLI)), draw(40, 3)
    found = judging.judge("snli", part, teacher + draw(40, 1, seed=2), teacher).figures
    assert found["snli_follows"] == pytest.approx(100.0)


def test_the_rows_add_up_to_the_figures_and_hold_no_text() -> None:
    parts = {"stsb": Part(scored(), scored(30)), "snli": Part(classed(NLI), classed(NLI, 50))}
    found = judging.together(
        parts,
        {
            "stsb": judging.judge("stsb", parts["stsb"], draw(30)),
            "snli": judging.judge("snli", parts["snli"], draw(50, 3)),
        },
    )
    assert found.figures["average"] == (found.figures["stsb_spearman"] + found.figures["snli_accuracy"]) / 2
    for metric, value in found.figures.items():
        totals = [row["totals"][metric] for row in found.rows if metric in row["totals"]]
        assert 100 * sum(over for over, _ in totals) / sum(under for _, under in totals) == pytest.approx(value)
    assert {key for row in found.rows for key in row} == {"input", "label", "score", "totals"}


def test_there_is_no_average_of_one_set_or_of_some() -> None:
    parts = {"stsb": Part(scored(), scored(30)), "snli": Part(classed(NLI), classed(NLI, 50))}
    some = {"stsb": judging.judge("stsb", parts["stsb"], draw(30))}
    together = judging.together(parts, some)
    assert "average" not in together.figures
    assert len(together.rows) == 30 + 50  # so that arms can be paired
    assert [row["totals"] for row in together.rows[30:]] == [{}] * 50
    assert "average" not in judging.together({"stsb": parts["stsb"]}, some).figures
    assert judging.of_scores(parts) == ["stsb"]


# Timing ---------------------------------------------------------------------------------------------------------------


def test_a_teachers_milliseconds_are_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed is told by a clock that work moves: 2 ms a pair, 1 ms a query, 5 ms a text, 1 µs a vector."""
    now = [0.0]

    def spend(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(timing, "clock", lambda device: now[0])
    monkeypatch.setattr(timing, "_read", lambda teacher, some: spend(2e-3 * len(some)))
    monkeypatch.setattr(timing, "_vectors", lambda encoder, texts: spend(5e-3 * len(texts)))
    monkeypatch.setattr(timing, "_search", lambda encoder, head, texts, stored: lambda query: spend(1e-6 * stored))
    given: Any = (SimpleNamespace(device="cpu"), [("a", "b"), ("c", "d")], timing.Sizes(8, 1000))
    assert timing.prices(*given) == pytest.approx({"query_ms": 200_000.0, "times_faster": 1.0})
    student: Any = (None, None)
    assert timing.prices(*given, student=student) == pytest.approx(
        {"query_ms": 5 + 100, "times_faster": 200_000 / 105, "store_s": 500.0}
    )


def test_work_is_timed_in_turns_and_a_first_round_does_not_count() -> None:
    done: list[str] = []
    found = timing._in_turns({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, 3, "cpu")
    assert done == ["a", "b"] * 4
    assert found.keys() == {"a", "b"}
    assert min(found.values()) >= 0
