"""Text to text: how outputs are scored, what arms are made of, whence pairs come, how an objective is looked at."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from torch import nn

from kilter.core import LossOutput, ModelObjective
from kilter.data.referenced import Referenced
from kilter.evaluation.intervals import ratio_bootstrap
from kilter.recipes.claps import ContrastivePerturbationRecipe
from kilter.tasks.text_to_text import judging, networks, sources, training
from kilter.tasks.text_to_text.scores import corpus_scores

pytestmark = pytest.mark.host

ADJECTIVES = ("red", "old", "slow", "big")
PAIRS = [(f"rot {one} {row}", f"the {one} bus number {row} is here") for row in range(5) for one in ADJECTIVES]


@pytest.fixture(scope="module")
def network() -> networks.Network:
    """An untrained one that knows the words of the pairs."""
    torch.manual_seed(0)
    made = networks.small(PAIRS, entries=120, hidden_size=16, layers=1, dropout=0.0)
    return networks.Network(made.model.eval(), made.tokenizer)


# Scores ---------------------------------------------------------------------------------------------------------------


def texts_and_references(count: int) -> tuple[list[str], list[list[str]]]:
    """Outputs that are right in part, with one to three references each."""
    rng = np.random.default_rng(0)
    words = ["the", "a", "red", "old", "bus", "car", "stands", "waits", "here", "there", "now", "again"]
    wanted = [[" ".join(rng.choice(words, 9)) for _ in range(1 + at % 3)] for at in range(count)]
    said = [" ".join(w if rng.random() < 0.7 else rng.choice(words) for w in row[0].split()) for row in wanted]
    return said, wanted


def test_scores_are_sacrebleus_with_any_number_of_references() -> None:
    texts, references = texts_and_references(40)
    streams: Any = [[([*row, None, None])[at] for row in references] for at in range(3)]
    scores, _ = corpus_scores(texts, references)
    assert scores["bleu"] == pytest.approx(BLEU().corpus_score(texts, streams).score, rel=1e-12)
    assert scores["chrf"] == pytest.approx(CHRF().corpus_score(texts, streams).score, rel=1e-12)
    fewer, _ = corpus_scores(texts, [row[:1] for row in references])
    assert fewer["bleu"] != scores["bleu"]


@pytest.mark.parametrize(("name", "metric"), [("bleu", BLEU()), ("chrf", CHRF())])
def test_values_of_inputs_have_the_score_as_mean_and_its_interval(name: str, metric: Any) -> None:
    texts, references = texts_and_references(200)
    scores, values = corpus_scores(texts, references)
    totals = np.array([[value, 1] for value in values[name]])
    found = ratio_bootstrap(totals)
    assert found.mean == pytest.approx(scores[name], rel=1e-9)
    rng = np.random.default_rng(1)
    counts = np.array(
        metric._extract_corpus_statistics(texts, [[(r + [None] * 2)[k] for r in references] for k in range(3)])
    )
    drawn = [
        metric._compute_score_from_stats(counts[rng.integers(0, 200, 200)].sum(0).tolist()).score for _ in range(500)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(high - low, rel=0.2)


def test_outputs_of_nothing_and_a_single_input_have_scores() -> None:
    assert corpus_scores(["", "a red bus is here"], [["a"], ["a red bus is here"]])[0]["bleu"] > 0
    assert corpus_scores([""], [["a red bus"]])[1] == {"bleu": [0.0], "chrf": [0.0]}


# Judging --------------------------------------------------------------------------------------------------------------


def written(network: networks.Network, items: list[Referenced], at_once: int, prefix: str = "") -> Any:
    how: Any = {"num_beams": 2, "length_penalty": 1.0, "max_new_tokens": 6}
    return judging.written(network, items, prefix=prefix, longest=32, at_once=at_once, **how)


def test_inputs_that_share_a_batch_change_nothing(network: networks.Network) -> None:
    items = [Referenced("rot red " + "old " * row, ("the bus is here" + " now" * row,)) for row in (3, 0, 5, 1)]
    one, other = written(network, items, 1), written(network, items, 3)
    assert one[0] == other[0]
    assert np.allclose(one[1], other[1], rtol=1e-5)
    assert written(network, items[2:3], 1)[0] == one[0][2:3]


def test_likelihood_is_of_the_first_reference_as_the_model_would_write_it(network: networks.Network) -> None:
    item = Referenced("rot NAME", ("the Mill is here", "another"), {"NAME": "Mill"})
    _, [[nats, tokens]] = written(network, [item], 1)
    read = network.tokenizer("rot NAME", return_tensors="pt").input_ids
    labels = network.tokenizer("the NAME is here", return_tensors="pt").input_ids
    with torch.no_grad():
        loss = network.model(input_ids=read, labels=labels).loss
    assert tokens == labels.shape[1]
    assert nats == pytest.approx(float(loss) * tokens, rel=1e-5)


def test_values_are_filled_in_and_a_prefix_is_read(network: networks.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def generate(input_ids: Any, **how: Any) -> Any:
        read.extend(network.tokenizer.batch_decode(input_ids, skip_special_tokens=True))
        return network.tokenizer(["the red bus"], return_tensors="pt").input_ids

    monkeypatch.setattr(network.model, "generate", generate)
    texts, _ = written(network, [Referenced("old", ("a",), {"red": "green"})], 1, prefix="rot ")
    assert texts == ["the green bus"]
    assert read == ["rot old"]


# Arms -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe() -> ContrastivePerturbationRecipe:
    made = ContrastivePerturbationRecipe(steps=100)
    made.prepare()
    return made


@pytest.mark.parametrize(
    ("name", "label", "role"),
    [
        ("mle", "Likelihood alone", "baseline"),
        ("mle-longer", "Likelihood alone, longer", "context"),
        ("batch", "Other targets of the batch alone", "method"),
        ("claps", "CLAPS", "method"),
        ("claps-0.5", "CLAPS, weight 0.5", "method"),
        ("claps-ramp", "CLAPS, likelihood alone at first", "method"),
        ("official", "CLAPS as its code computes it", "method"),
    ],
)
def test_labels(recipe: ContrastivePerturbationRecipe, name: str, label: str, role: str) -> None:
    found = recipe.describe(name)
    assert (found.label, found.role) == (label, role)


def test_an_arm_changes_the_steps_the_weight_or_the_objective(recipe: ContrastivePerturbationRecipe) -> None:
    def changed(arm: str) -> Any:
        return recipe.changed_by(recipe.mixture(arm).levers())

    assert changed("mle-longer").steps == 115
    assert (changed("claps-ramp").start, changed("claps-ramp").ramp) == (20, 20)
    assert (changed("claps").steps, changed("claps").start) == (100, 0)
    assert recipe.steps == 100


@pytest.mark.parametrize(
    ("arm", "switched"),
    [
        ("claps", {}),
        ("batch", {"use_negative": False, "use_positive": False}),
        ("no-imposter", {"use_negative": False}),
        ("no-distant", {"use_positive": False}),
        ("official", {"compat": "official"}),
    ],
)
def test_an_arms_objective_is_of_the_models_width(
    recipe: ContrastivePerturbationRecipe, network: networks.Network, arm: str, switched: dict[str, Any]
) -> None:
    recipe.negative_step, recipe.weight = 2.0, 0.5
    made: Any = recipe.mixture(arm).levers().objective(network.model)  # type: ignore[misc]
    other: Any = recipe.mixture(f"{arm}-2").levers().objective(network.model)  # type: ignore[misc]
    assert other.weight == 2
    usual = {"use_negative": True, "use_positive": True, "use_batch_negatives": True, "compat": None}
    wanted = {**usual, "width": 16, "negative_step": 2.0, "weight": 0.5, **switched}
    assert {name: getattr(made, name) for name in wanted} == wanted


def test_a_card_has_the_options_that_made_the_model() -> None:
    small, own = ContrastivePerturbationRecipe(), ContrastivePerturbationRecipe(model="m", train_data="a.csv")
    made, plain, longer = small.made_by("claps-ramp"), small.made_by("mle"), small.made_by("mle-longer")
    assert (made["hidden_size"], made["task"], made["learning_rate"], made["ramp"]) == (128, "e2e", 2e-3, 140)
    assert {"prefix", "longest", "longer", "beams"}.isdisjoint(made)
    assert {"ramp", "start", "weight", "temperature"}.isdisjoint(plain)
    assert (plain["steps"], longer["steps"]) == (700, 805)
    assert small.made_by("claps-0.5")["weight"] == 0.5
    found = own.made_by("claps")
    assert {"hidden_size", "layers", "dropout", "vocabulary", "task"}.isdisjoint(found)
    assert (found["longest"], found["learning_rate"], found["train_data"]) == (128, 5e-5, "a.csv")


# Data -----------------------------------------------------------------------------------------------------------------


def table(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return str(file)


def test_each_reference_is_a_pair_to_learn_and_all_of_them_judge(tmp_path: Path) -> None:
    learnt = table(
        tmp_path / "a.jsonl", [{"source": "x", "references": ["one", "two"]}, {"source": "y", "target": "z"}]
    )
    judged = table(
        tmp_path / "b.jsonl", [{"source": "x", "references": ["one", "two"]}, {"source": "w", "target": "v"}]
    )
    found = sources.own(learnt, judged, 10)
    assert found.train == [("x", "one"), ("x", "two"), ("y", "z")]
    assert [item.references for item in found.test] == [("one", "two"), ("v",)]
    assert found.provenance.note == "1 of the inputs that are judged are among those learnt from."


def test_a_source_that_is_held_out_is_not_learnt_from_elsewhere(tmp_path: Path) -> None:
    rows = [{"source": "same" if row in (2, 9) else f"s{row}", "target": f"t{row}"} for row in range(20)]
    found = sources.own(table(tmp_path / "a.jsonl", rows), None, 10)
    assert [item.source for item in found.test] == ["same", "s19"]
    assert {"same", "s19"}.isdisjoint(source for source, _ in found.train)
    assert len(found.train) == 17


def test_data_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    rows = [{"source": f"s{row}", "target": f"t{row}"} for row in range(12)]
    first = sources.own(table(tmp_path / "a.jsonl", rows), None, 10).provenance.digest
    assert sources.own(table(tmp_path / "b.jsonl", rows), None, 10).provenance.digest == first
    rows[3]["target"] = "another"
    assert sources.own(table(tmp_path / "a.jsonl", rows), None, 10).provenance.digest != first


def test_tokens_of_ones_own_pairs_have_the_prefix_and_end_where_they_are_too_long(network: networks.Network) -> None:
    data = networks.own_data(network, PAIRS[:3], prefix="bus ", longest=4, batch_size=2)
    whole = network.tokenizer("bus " + PAIRS[0][0]).input_ids
    assert data.rows[0]["input_ids"][:3] == whole[:3]
    assert all(len(row[name]) <= 4 for row in data.rows for name in ("input_ids", "labels"))
    batch = data.collate(data.rows[:2])
    assert batch["labels"].shape[0] == 2
    assert "decoder_input_ids" in batch


# Options --------------------------------------------------------------------------------------------------------------


def test_one_file_by_two_names_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("source,target\na,b\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    for other in ("./a.csv", str(tmp_path / "a.csv"), "link.csv"):
        with pytest.raises(ValueError, match=r"--eval and --train are both a\.csv"):
            ContrastivePerturbationRecipe(train_data="a.csv", eval_data=other).prepare()
    ContrastivePerturbationRecipe(train_data="a.csv", eval_data="b.csv").prepare()


def test_every_preset_can_be_and_the_published_one_asks_for_pairs() -> None:
    for name, given in ContrastivePerturbationRecipe.presets.items():
        recipe = ContrastivePerturbationRecipe(preset=name, **given)
        if name == "published":
            with pytest.raises(ValueError, match="--model needs --train"):
                recipe.prepare()
            continue
        recipe.prepare()
        assert all(recipe.describe(arm) for arm in recipe.arms)


# What an objective is looked at ---------------------------------------------------------------------------------------


class Counting(ModelObjective):
    """The model's loss, a share of it, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.asked = 0.0

    def forward(self, model: nn.Module, **batch: Any) -> LossOutput:
        """So many times the model's loss."""
        self.asked += 1
        loss = model(**batch).loss * self.scale
        return LossOutput(loss, parts={"nll": loss.detach()}, stats={"asked": torch.tensor(self.asked)})


def test_time_and_diagnostics_are_of_the_same_batches(
    network: networks.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter([0.0, 1.0, 1.0, 4.0] * 2)  # a pass with the objective takes three of plain ones
    monkeypatch.setattr(training, "clock", lambda device: next(ticks))
    data = networks.own_data(network, PAIRS[:8], prefix="", longest=32, batch_size=4)
    objective = Counting()
    found = training.looked_at(network, objective, training.batches(data))
    assert found == {"step_ratio": 3.0, "asked": 3.5}  # two batches timed, then the third and fourth call
    assert all(one.grad is None for one in (*network.model.parameters(), *objective.parameters()))


def test_fewer_pairs_than_a_batch_are_one_batch(network: networks.Network) -> None:
    data = networks.own_data(network, PAIRS[:3], prefix="", longest=32, batch_size=8)
    assert [len(batch["labels"]) for batch in training.batches(data)] == [3]
    many = networks.small_data(network, PAIRS, steps=40, batch_size=4, seed=0)
    assert [len(batch["labels"]) for batch in training.batches(many)] == [4] * 12


def test_a_model_that_was_being_saved_when_it_was_killed_is_saved_anew(
    network: networks.Network, tmp_path: Path
) -> None:
    (tmp_path / "model.part").mkdir()
    (tmp_path / "model.part" / "half").write_text("")
    networks.save(network, tmp_path / "model", lambda part: None)
    assert not (tmp_path / "model" / "half").exists()
    found = networks.load(tmp_path / "model", "cpu")
    assert found.model.state_dict().keys() == network.model.state_dict().keys()
    assert found.model.config.d_model == 16
