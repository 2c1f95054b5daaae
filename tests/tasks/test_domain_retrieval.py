"""The task by its parts: nothing leaks, all arms have the same batches, thresholds are of other pairs, levers pull."""

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kilter.core.paper import cards
from kilter.lab.arms import Levers, Term
from kilter.lab.files import read_json, read_rows
from kilter.lab.recipe import Provenance, Recipe
from kilter.lab.run import run
from kilter.recipes.moe_embeddings import ExpertsRecipe
from kilter.tasks.domain_retrieval import DomainRetrieval, sources
from kilter.tasks.domain_retrieval.batches import DomainBatches, training_rows
from kilter.tasks.domain_retrieval.corpus import Corpus, distinct, hard_negatives, parted
from kilter.tasks.domain_retrieval.judging import judge
from tests.made_domains import made_domains, made_pairs_of

SEEN: dict[str, list[Any]] = {}
"""What the levers of the guest were given."""


@pytest.fixture(scope="module", autouse=True)
def debian() -> Iterator[None]:
    """Made-up packages, and the guest's recipe beside ours."""
    with pytest.MonkeyPatch.context() as patch:
        made_domains(patch)
        patch.setattr(Recipe, "kin", staticmethod(lambda: (ExpertsRecipe, Mine)))
        yield


# Data -----------------------------------------------------------------------------------------------------------------


def texts(pairs: Sequence[tuple[str, str]]) -> set[str]:
    return {text for pair in pairs for text in pair}


def test_parts_of_a_domain_have_no_text_in_common() -> None:
    corpus = sources.debian(("python", "games"), most=30, dev=5, test=9, batch_size=4)
    assert corpus.domains == ("python", "games")
    for domain in corpus.domains:
        parts = [corpus.train[domain], corpus.dev[domain], corpus.test[domain]]
        assert [len(part) for part in parts] == [30, 5, 9]
        assert len(set.union(*map(texts, parts))) == 2 * (30 + 5 + 9)
    again = Corpus.from_plain(corpus.plain(), corpus.provenance)
    assert again == corpus


def test_of_few_pairs_a_fifth_is_judged_and_more_pairs_move_few() -> None:
    pairs = made_pairs_of(["python"], pairs=50)["python"]
    learnt, chosen, judged = parted(pairs, dev=100, test=100)
    assert [len(learnt), len(chosen), len(judged)] == [30, 10, 10]
    random.Random(0).shuffle(pairs)
    assert parted(pairs, dev=100, test=100) == (learnt, chosen, judged)
    more = parted([*pairs, ("one", "more")], dev=10, test=10)
    assert len({*more[2]} & {*judged}) >= 9


def test_a_text_that_is_judged_on_is_not_learnt_from(tmp_path: Path) -> None:
    pairs = made_pairs_of(["games"])["games"]
    rows = [f"{first},{second}" for first, second in [*pairs, (pairs[0][0].upper(), "another description")]]
    (tmp_path / "train.csv").write_text("\n".join(["text1,text2", *rows]) + "\n")
    judged = [("one of its own", "which nobody has"), pairs[3], ("another", pairs[4][1])]
    (tmp_path / "eval.csv").write_text("\n".join(["text1,text2", *(",".join(pair) for pair in judged)]) + "\n")
    sizes: Any = {"most": 0, "dev": 5, "test": 9, "batch_size": 4}
    corpus = sources.own({"games": f"{tmp_path}/train.csv"}, {"games": f"{tmp_path}/eval.csv"}, **sizes)
    assert corpus.test["games"] == judged
    assert len(corpus.train["games"]) == len(pairs) - 2 - 5
    assert not texts(corpus.train["games"]) & texts(judged)
    assert corpus.notes == ["Pairs left out since they repeat a text of another one of their domain: 3."]


def test_a_domain_of_too_few_pairs_is_named(tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("text1,text2\n" + "".join(f"text {n},its own {n}\n" for n in range(9)))
    with pytest.raises(ValueError, match=r"law has 9 different pairs: 7 to learn from, 1 to choose .* 1 to judge"):
        sources.own({"law": f"{tmp_path}/few.csv"}, {}, most=0, dev=5, test=5, batch_size=2)


@pytest.mark.parametrize("names", [(), ("a/b",), ("law", "Law"), ("law", "law"), ("",), ("-x",)])
def test_names_of_domains_are_checked(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="--train: "):
        sources.check_domains("--train", names)


def test_what_repeats_is_left_out_whatever_its_capitals_and_full_stop() -> None:
    pairs = [("A map", "of a town."), ("A road", "of a  Town"), ("same", "Same."), ("a map", "else"), ("sea", "water")]
    assert distinct(pairs) == [pairs[0], pairs[4]]


def test_the_hard_pair_is_the_most_alike_by_rare_words() -> None:
    pairs = made_pairs_of(["sound"], pairs=17, seed=4)["sound"]
    bags = [{*re.findall(r"\w+", f"{a} {b}")} for a, b in pairs]
    rarity = {word: math.log(17 / sum(word in bag for bag in bags)) for bag in bags for word in bag}

    def alike(i: int, j: int) -> float:
        shared = sum(rarity[word] ** 2 for word in bags[i] & bags[j])
        return shared / math.prod(math.sqrt(sum(rarity[word] ** 2 for word in bags[k])) for k in (i, j))

    for i, found in enumerate(hard_negatives(pairs)):
        assert found != i
        assert alike(i, found) == pytest.approx(max(alike(i, j) for j in range(17) if j != i))


# Batches --------------------------------------------------------------------------------------------------------------


def test_batches_are_of_one_domain_and_of_all_domains_as_many() -> None:
    rows = training_rows(made_pairs_of(["python", "games", "sound"], pairs=21))
    plan = DomainBatches(rows["label"], 8, steps=12, seed=3)
    drawn = [*plan]
    labels = [{rows["label"][row] for row in batch} for batch in drawn]
    assert all(len(one) == 1 for one in labels)
    assert [sorted(set.union(*labels[start : start + 3])) for start in (0, 3, 6, 9)] == [[0, 1, 2]] * 4
    assert all(len({*batch}) == 8 for batch in drawn)
    first_two = [batch for batch, label in zip(drawn, labels, strict=True) if label == {1}][:2]
    assert len({*first_two[0], *first_two[1]}) == 16  # none twice before the domain is through
    assert [*DomainBatches(rows["label"], 8, steps=12, seed=3)] == drawn
    assert [*DomainBatches(rows["label"], 8, steps=12, seed=4)] != drawn


def test_the_model_of_one_domain_learns_from_the_batches_that_the_model_of_all_has_of_it() -> None:
    rows = training_rows(made_pairs_of(["python", "games"]))
    plan = DomainBatches(rows["label"], 4, steps=9, seed=0)
    parts = [plan.of(rows, domain) for domain in (0, 1)]
    assert sum(len(part) for _, part in parts) == 9
    for domain, (own, part) in enumerate(parts):
        whole = [[rows["anchor"][row] for row in batch] for batch in plan.order() if rows["label"][batch[0]] == domain]
        assert [[own["anchor"][row] for row in batch] for batch in part] == whole


def test_too_few_rows_for_a_batch_are_named() -> None:
    with pytest.raises(ValueError, match="domain 1 has 3 rows, and batch_size=4"):
        DomainBatches([0] * 4 + [1] * 3, 4, steps=2, seed=0)
    with pytest.raises(ValueError, match="there are no rows"):
        DomainBatches([], 4, steps=2, seed=0)


# Judging --------------------------------------------------------------------------------------------------------------


def toy(sizes: Mapping[str, int]) -> Corpus:
    parts: list[dict[str, list[tuple[str, str]]]] = [
        {
            domain: [(f"{part} {domain} {n} here", f"{part} {domain} {n} there {n + 1}") for n in range(size)]
            for domain, size in sizes.items()
        }
        for part in ("dev", "test")
    ]
    return Corpus({domain: [] for domain in sizes}, *parts, Provenance("toy"))


def one_hot(some: Sequence[str], domain: str) -> Tensor:
    return torch.eye(50)[[int(text.split()[2]) for text in some]]


def only_domains(some: Sequence[str], domain: str) -> Tensor:
    return torch.eye(50)[[len(domain)] * len(some)]


def test_an_encoder_that_knows_all_has_everything_and_one_that_knows_domains_alone_has_chance() -> None:
    corpus = toy({"law": 4, "medicine": 8})
    best, drawn = judge(corpus, one_hot)
    for name in ("f1", "retrieval", "mrr", "f1_max", "auc", "f1_law", "retrieval_medicine"):
        assert best.metrics[name] == pytest.approx(100)
    assert {*drawn["similarity"]["own text"]} == {1.0}
    worst = judge(corpus, only_domains)[0].metrics
    assert worst["retrieval_law"] == pytest.approx(25)
    assert worst["retrieval"] == pytest.approx((25 + 12.5) / 2)
    for name in ("f1", "f1_max"):
        assert worst[name] == pytest.approx(200 / 3)  # all of them called a pair
    assert worst["auc"] == pytest.approx(50)


def test_the_threshold_is_that_of_the_development_pairs() -> None:
    corpus = toy({"law": 6})
    steep = {"dev": 0.9, "test": 0.5}  # cosine of what belongs together; what does not has 0.2

    def encode(some: Sequence[str], domain: str) -> Tensor:
        rows = []
        for text in some:
            part, _, number, side, *_ = text.split()
            row = torch.zeros(60)
            row[int(number)] = 1.0 if side == "here" else steep[part]
            row[50] = 0.0 if side == "here" else math.sqrt(1 - steep[part] ** 2)
            rows.append(row)
        return torch.stack(rows)

    found = judge(corpus, encode)[0].metrics
    assert found["f1"] == 0  # at 0.9, which no pair of the test reaches
    assert found["f1_max"] == pytest.approx(100)
    same = replace(corpus, dev=corpus.test)
    assert judge(same, encode)[0].metrics["f1"] == pytest.approx(100)


def test_figures_are_ratios_of_what_the_rows_hold() -> None:
    generator = torch.Generator().manual_seed(0)
    found = judge(toy({"law": 5, "med": 9}), lambda some, domain: torch.randn(len(some), 6, generator=generator))[0]
    assert [row["input"] for row in found.utterances][4:6] == ["law/4", "med/0"]
    for name in ("f1", "f1_med", "retrieval", "retrieval_law", "mrr"):
        sums = torch.tensor([row["totals"].get(name, [0, 0]) for row in found.utterances]).sum(0)
        assert found.metrics[name] == pytest.approx(100 * float(sums[0] / sums[1]))


# Arms -----------------------------------------------------------------------------------------------------------------


class Forwards:
    """The first rows, one by one."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        SEEN.setdefault("drawn", []).append(len(self.rows))
        return iter(range(len(self.rows)))


def objective(pupil: Any) -> Any:
    from kilter.embeddings import DomainContrast

    SEEN.setdefault("domains", []).append(pupil.domains)
    return DomainContrast(form="mnr")


def louder(encoder: Any) -> Any:
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.mul_(1.5)
    return encoder


@dataclass(kw_only=True)
class Mine(DomainRetrieval):
    """Another method on the task."""

    few: int = 16

    paper = replace(cards()["moe-embeddings"], slug="mine")

    def brings(self) -> Mapping[str, Term]:
        def some(rows: Any, pupil: Any, seed: int) -> Any:
            kept = [row for label in range(len(pupil.domains)) for row in _of(rows, label)[: self.few]]
            return rows.select(kept)

        return {
            "mine": Term("Mine", lambda strength: Levers(objective=objective)),
            "few": Term("few rows", lambda strength: Levers(rows=some)),
            "forwards": Term("forwards", lambda strength: Levers(sampler=lambda rows, seed: Forwards(rows))),
            "louder": Term("louder", lambda strength: Levers(module=louder)),
            "short": Term("two steps", lambda strength: Levers(options={"steps": 2}), after=True),
            "strange": Term("Strange", lambda strength: Levers(objective=objective, options={"bowls": 2})),
        }


def _of(rows: Any, label: int) -> list[int]:
    return [row for row, one in enumerate(rows["label"]) if one == label]


def recipe(**options: Any) -> ExpertsRecipe:
    found = ExpertsRecipe(**{**ExpertsRecipe.presets["smoke"], "preset": "smoke", **options})
    found.prepare()
    return found


LABELS = {
    "untrained": ("The encoder as given", "baseline"),
    "dense": ("One dense model", "context"),
    "separate": ("Dense model for each domain", "context"),
    "dense+tokens": ("One dense model, told the domain by a token", "context"),
    "experts": ("Model with experts", "method"),
    "experts+lora": ("Model with experts as LoRAs", "method"),
    "experts+released": ("Model with experts, converted as released", "method"),
    "experts+middle": ("Model with experts in the middle layer", "method"),
    "experts+untold": ("Model with experts, domain not told", "method"),
    "mine+louder": ("Mine + louder", "method"),
}


@pytest.mark.parametrize("arm", LABELS)
def test_arms_are_told_apart_in_words_in_whichever_recipe_they_stand(arm: str) -> None:
    for one in (recipe(), Mine()):
        found = one.describe(arm)
        assert (found.label, found.role) == LABELS[arm]


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("bowl", "there is no 'bowl'; there are untrained, experts, tokens"),
        ("dense+experts", r"2 losses \(dense, experts\)"),
        ("experts+tokens", r"2 modules \(experts, tokens\)"),
        ("tokens", "has module but no loss to train with"),
        ("untold", "has options but no loss to train with"),
        ("strange", "changes bowls, but moe-embeddings has no such option"),
    ],
)
def test_arms_that_make_no_sense_are_named(arm: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recipe().describe(arm)


ARMS = ("mine", "mine+few+forwards+louder+short", "dense+tokens", "dense+tokens+untold", "experts+released")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose arms pull every lever."""
    SEEN.clear()
    out = tmp_path_factory.mktemp("runs") / "run"
    return run(recipe(arms=ARMS, out=out, learning_rate=3e-3), "kilter run moe-embeddings")


@pytest.mark.recipe
@pytest.mark.host
class TestLevers:
    def test_every_arm_was_judged_on_the_same_pairs(self, done: Path) -> None:
        assert {*read_json(done / "summary.json")["arms"]} == {*ARMS}
        rows = [read_rows(done / "arms" / arm / "seed-0" / "utterances.jsonl") for arm in ARMS]
        assert all([row["input"] for row in one] == [row["input"] for row in rows[0]] for one in rows)

    def test_an_objective_is_made_for_the_domains(self, done: Path) -> None:
        assert {*SEEN["domains"]} == {("python", "games")}

    def test_every_way_to_train_ends_with_another_encoder(self, done: Path) -> None:
        trained = [arm for arm in ARMS if "untold" not in arm]
        weights = {(done / "arms" / arm / "seed-0" / "model" / "model.safetensors").read_bytes() for arm in trained}
        assert len(weights) == len(trained)

    def test_rows_and_sampler(self, done: Path) -> None:
        assert SEEN["drawn"] == [32]

    def test_an_arm_that_is_not_told_judges_the_same_encoder(self, done: Path) -> None:
        assert not (done / "arms" / "dense+tokens+untold" / "seed-0" / "model").exists()
        told, untold = (
            read_json(done / "arms" / arm / "seed-0" / "similarity.json")["similarity"]["own text"]
            for arm in ("dense+tokens", "dense+tokens+untold")
        )
        assert told != untold

    def test_the_domain_of_a_dense_model_is_a_prompt_of_an_ordinary_one(self, done: Path) -> None:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(done / "arms" / "dense+tokens" / "seed-0" / "model"), device="cpu")
        assert model.prompts["games"] == "[GAMES]"
        told, written = model.encode(["a castle"], prompt_name="games"), model.encode(["[GAMES] a castle"])
        assert torch.allclose(torch.tensor(told), torch.tensor(written))
