"""The task on sentence similarity: what arms are made of, how encoders are judged, whitening afterwards, own files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from kilter.core.paper import cards
from kilter.data.similarity import ScoredPairs
from kilter.lab.arms import Levers, Term
from kilter.lab.files import read_json
from kilter.lab.recipe import Recipe
from kilter.lab.run import run
from kilter.recipes.whitened_cse import WhitenedCSERecipe
from kilter.tasks.sentence_similarity import SentenceSimilarity, views_of
from kilter.tasks.sentence_similarity.judging import judge
from kilter.tasks.sentence_similarity.sources import read_columns
from kilter.tasks.sentence_similarity.whitening import whitened, whitening_map
from tests.sentences import write_data

SEEN: dict[str, list[Any]] = {}
"""What the levers of the guest were given."""


class Backwards:
    """The last rows first, one by one."""

    def __init__(self, rows: Any) -> None:
        self.rows = len(rows)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        for row in range(self.rows - 1, -1, -1):
            SEEN.setdefault("drawn", []).append(row)
            yield row


def library_loss(encoder: Any) -> Any:
    """One of sentence-transformers' own."""
    try:
        from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    except ModuleNotFoundError:  # before 6.0
        from sentence_transformers.losses import MultipleNegativesRankingLoss

    SEEN.setdefault("encoder", []).append(encoder)
    return MultipleNegativesRankingLoss(encoder)


def ear(encoder: Any) -> list[Any]:
    from transformers import TrainerCallback

    class Ear(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            SEEN.setdefault("steps", []).append((state.global_step, state.max_steps))

    return [Ear()]


def doubled(encoder: Any) -> Any:
    """A module of the arm's."""
    from kilter.hosts.sentence_modules import stock

    dense = stock().Dense(32, 64, activation_function=torch.nn.Identity())
    encoder.append(dense)
    return encoder


@dataclass(kw_only=True)
class Mine(SentenceSimilarity):
    """Another method on the task."""

    rows: int = 40

    paper = replace(cards()["whitened-cse"], slug="mine")

    def brings(self) -> Mapping[str, Term]:
        return {
            "mine": Term("My loss", lambda strength: Levers(objective=library_loss, rows=views_of(2))),
            "bare": Term("Bare loss", lambda strength: Levers(objective=library_loss)),
            "few": Term("few rows", lambda strength: Levers(rows=self._few)),
            "backwards": Term("backwards", lambda strength: Levers(sampler=lambda rows, seed: Backwards(rows))),
            "ear": Term("heard", lambda strength: Levers(callbacks=ear)),
            "wide": Term("twice as wide", lambda strength: Levers(module=doubled), after=True),
            "short": Term("two steps", lambda strength: Levers(options={"steps": 2}), after=True),
            "heavy": Term("Weighed", lambda w: Levers(objective=library_loss, weight=w), usual=0.5),
            "strange": Term("Strange", lambda strength: Levers(options={"bowls": 2})),
            "decoded": Term("Decoded", lambda strength: Levers(decoder="x")),
        }

    def _few(self, rows: Any, encoder: Any, seed: int) -> Any:
        return views_of(2)(rows.select(range(self.rows)), encoder, seed)


@pytest.fixture(autouse=True)
def both_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recipe, "kin", staticmethod(lambda: (WhitenedCSERecipe, Mine)))


def small(**options: Any) -> WhitenedCSERecipe:
    return WhitenedCSERecipe(**{**WhitenedCSERecipe.presets["smoke"], "preset": "smoke", **options})


# Arms -----------------------------------------------------------------------------------------------------------------

LABELS = {
    "untrained": ("The encoder as given", "baseline"),
    "simcse": ("SimCSE, 2 views", "context"),
    "simcse-3": ("SimCSE, 3 views", "context"),
    "whitening": ("The encoder as given, whitened afterwards", "context"),
    "simcse-2+whitening": ("SimCSE, 2 views, whitened afterwards", "context"),
    "whitened-cse": ("WhitenedCSE, 3 views", "method"),
    "whitened-cse-4": ("WhitenedCSE, 4 views", "method"),
    "whitened-cse+compat": ("WhitenedCSE, 3 views, views cut as released", "method"),
    "whitened-cse-2+whitening": ("WhitenedCSE, 2 views, whitened afterwards", "method"),
    "group-whitening": ("Group whitening without shuffle, 3 views", "method"),
    "mine+wide": ("My loss, twice as wide", "method"),
}


@pytest.mark.parametrize("arm", LABELS)
def test_arms_are_told_apart_in_words_in_whichever_recipe_they_stand(arm: str) -> None:
    for recipe in (small(), Mine()):
        found = recipe.describe(arm)
        assert (found.label, found.role) == LABELS[arm]


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        (
            "bowl",
            "there is no 'bowl'; there are untrained, whitened-cse, group-whitening, no-negatives, simcse, whitening",
        ),
        ("whitened-cse+simcse", "2 losses"),
        ("whitened-cse-1", "a number of views"),
        ("simcse-2.5", "a number of views"),
        ("few", "has rows but no loss to train with"),
        ("backwards+ear", "has callbacks, sampler but no loss"),
        ("heavy", "a weight of 0.5, but there is no other loss"),
        ("strange", "changes bowls, but whitened-cse has no such option"),
        ("decoded", "a lever that this task does not take .decoder."),
        ("group-whitening+compat", "there is no 'compat'"),
    ],
)
def test_arms_that_make_no_sense_are_named(arm: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small().describe(arm)


def test_every_preset_has_arms_that_can_be_described() -> None:
    for name, preset in WhitenedCSERecipe.presets.items():
        recipe = WhitenedCSERecipe(**{"preset": name, **preset})
        assert [recipe.describe(arm).role for arm in recipe.arms].count("baseline") == 1
        baselines = {claim.baseline for claim in recipe.claims() if claim.metric}
        assert name not in ("full", "cls") or baselines <= {*recipe.arms}


# Views ----------------------------------------------------------------------------------------------------------------


def test_views_are_the_columns_in_turn() -> None:
    from datasets import Dataset

    one = views_of(3)(Dataset.from_dict({"sentence": ["a", "b"]}), None, 0)
    assert one.to_dict() == {f"view_{k}": ["a", "b"] for k in (1, 2, 3)}
    two = views_of(3)(Dataset.from_dict({"anchor": ["a"], "positive": ["A"]}), None, 0)
    assert two.to_dict() == {"view_1": ["a"], "view_2": ["A"], "view_3": ["a"]}
    with pytest.raises(ValueError, match=r"has 2 text columns \(anchor, positive\), and the arm takes 1 views"):
        views_of(1)(Dataset.from_dict({"anchor": ["a"], "positive": ["A"]}), None, 0)


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.txt", "It rains.\nIt pours.\n", {"sentence": ["It rains.", "It pours."]}),
        ("a.csv", "id,text\n1,It rains.\n", {"sentence": ["It rains."]}),
        ("a.csv", "anchor,positive,score\nRain.,It pours.,5\n", {"anchor": ["Rain."], "positive": ["It pours."]}),
        ("a.jsonl", '{"text1": "a", "text2": "b", "text_3": "c"}\n', {"text1": ["a"], "text2": ["b"], "text_3": ["c"]}),
        ("a.jsonl", '{"sentence_A": "a", "sentence_B": "b"}\n', {"sentence_A": ["a"], "sentence_B": ["b"]}),
    ],
)  # fmt: skip
def test_text_columns_of_ones_own_file(name: str, text: str, columns: dict[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_columns(str(tmp_path / name)) == columns


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,words\n1,It rains.\n", "line 2: needs a text in column 'text'"),
        ("anchor,positive\nIt rains.,\n", "line 2: the text is empty"),
    ],
)
def test_broken_files_are_named_by_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        read_columns(str(tmp_path / "a.csv"))


# Judging --------------------------------------------------------------------------------------------------------------


def random_vectors(texts: Sequence[str]) -> Tensor:
    seeds = [torch.Generator().manual_seed(1000 * len(text) + ord(text[0])) for text in texts]
    return torch.stack([torch.randn(8, generator=seed) for seed in seeds])


def scored(name: str, seed: int, count: int = 40) -> ScoredPairs:
    draw = torch.Generator().manual_seed(seed)
    letters = [chr(97 + int(k)) * int(n) for k, n in torch.randint(1, 25, (2 * count, 2), generator=draw)]
    scores = torch.randint(0, 6, (count,), generator=draw).float().tolist()
    second = [
        text.upper() for text in letters[count:]
    ]  # no pair of equal texts, whose cosines are ties but for rounding
    return ScoredPairs(name, tuple(letters[:count]), tuple(second), tuple(scores))


class TestJudging:
    sets: Mapping[str, ScoredPairs] = {"sts13": scored("sts13", 0), "stsb": scored("stsb", 1, 60)}

    def test_figures_are_scipys(self) -> None:
        found = judge(random_vectors, self.sets, ["sts13", "stsb"])
        for name, pairs in self.sets.items():
            a, b = random_vectors(pairs.first), random_vectors(pairs.second)
            cosines = torch.cosine_similarity(a.double(), b.double())
            assert found.figures[name] == pytest.approx(100 * spearmanr(cosines, pairs.scores).statistic, abs=1e-6)
            alike = [row for row in found.rows if row["input"].startswith(f"{name}/") and row["kind"] == "alike"]
            assert len(alike) == sum(score >= 4 for score in pairs.scores)
            if name == "stsb":
                far = (torch.nn.functional.normalize(a) - torch.nn.functional.normalize(b)).square().sum(1)
                mean = far[torch.tensor(pairs.scores) >= 4].mean().item()
                assert found.figures["alignment"] == pytest.approx(mean, abs=1e-5)
        assert found.figures["sts_average"] == pytest.approx((found.figures["sts13"] + found.figures["stsb"]) / 2)

    def test_the_rows_add_up_to_the_figures(self) -> None:
        found = judge(random_vectors, self.sets, ["sts13", "stsb"])
        for metric in ("sts13", "stsb", "sts_average", "alignment"):
            totals = [row["totals"][metric] for row in found.rows if metric in row["totals"]]
            ratio = sum(over for over, _ in totals) / sum(under for _, under in totals)
            assert (1 if metric == "alignment" else 100) * ratio == pytest.approx(found.figures[metric], abs=1e-3)

    def test_no_average_of_one_set_and_no_text_in_the_rows(self) -> None:
        found = judge(random_vectors, {"pairs": self.sets["stsb"]}, ["pairs"])
        assert "sts_average" not in found.figures
        assert found.space["set"] == "pairs"
        assert {key for row in found.rows for key in row} == {"input", "score", "cosine", "kind", "totals"}

    def test_any_scale_of_scores(self) -> None:
        pairs = self.sets["stsb"]
        other = ScoredPairs("x", pairs.first, pairs.second, tuple(score / 5 for score in pairs.scores))
        ours, theirs = (judge(random_vectors, {"pairs": one}, []).figures for one in (pairs, other))
        assert ours == pytest.approx(theirs)

    def test_without_pairs_the_space_is_judged_alone(self) -> None:
        found = judge(random_vectors, {}, [], ["a", "bb", "ccc", "dddd"])
        assert found.figures.keys() == {"uniformity", "effective_rank", "isotropy"}
        assert not found.rows
        assert len(found.space["map"]) == len(found.space["groups"]) == 4


# Whitening afterwards -------------------------------------------------------------------------------------------------


def test_whitened_vectors_have_mean_0_and_covariance_1() -> None:
    generator = torch.Generator().manual_seed(0)  # one that leaves no direction next to empty
    x = torch.randn(500, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 3
    weight, bias = whitening_map(x)
    y = x.double() @ weight.double().T + bias.double()
    assert y.mean(0).abs().max() < 1e-4
    assert (y.T @ y / len(y) - torch.eye(6)).abs().max() < 1e-3
    assert torch.equal(weight, weight.T)


def test_dead_and_missing_directions_are_left_out() -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    x[:, 3] = 1e-33
    weight, bias = whitening_map(x)
    assert weight.isfinite().all()
    assert bias.isfinite().all()
    assert torch.linalg.matrix_rank(weight) == 4
    assert (x @ weight.T + bias)[:, 3].abs().max() < 1e-3


@pytest.mark.host
def test_whitening_stands_before_a_normalize_and_is_saved_as_a_stock_module(tmp_path: Path) -> None:
    from kilter.hosts.sentence_modules import stock
    from kilter.hosts.sentences import encode
    from kilter.tasks.sentence_similarity.networks import fresh_encoder, load
    from tests.sentences import sentences

    texts = sentences(120)
    encoder = fresh_encoder("random", texts, "cpu", "given")
    encoder.append(stock().Normalize())
    encoder = whitened(encoder, texts)
    encoder.save_pretrained(str(tmp_path), create_model_card=False)
    kinds = [part["type"] for part in read_json(tmp_path / "modules.json")]
    assert [kind.rpartition(".")[2] for kind in kinds] == ["Transformer", "Pooling", "Dense", "Normalize"]
    assert all(kind.startswith("sentence_transformers.") for kind in kinds)
    found = encode(load(tmp_path, "cpu"), texts)
    assert found.norm(dim=1).sub(1).abs().max() < 1e-5
    assert found.mean(0).norm() < 0.2


@pytest.mark.host
def test_pooling_is_changed_where_that_is_asked_for() -> None:
    from kilter.hosts.sentences import encode
    from kilter.tasks.sentence_similarity.networks import fresh_encoder
    from tests.sentences import sentences

    texts = sentences(20)
    given, mean, first = (
        encode(fresh_encoder("random", texts, "cpu", pooling), texts) for pooling in ("given", "mean", "cls")
    )
    assert torch.equal(given, mean)
    assert not torch.allclose(mean, first, atol=1e-3)


# A run with every lever -----------------------------------------------------------------------------------------------

ARMS = ("mine+backwards+ear", "bare+few+short", "mine+whitening", "wide")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run whose arms pull every lever."""
    from kilter.data.catalogue import Asset

    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recipe, "kin", staticmethod(lambda: (WhitenedCSERecipe, Mine)))
        patch.setattr(Asset, "checksums", lambda self: {})
        patch.setenv("KILTER_DATA", str(folder))
        SEEN.clear()
        yield run(small(arms=ARMS, test_pairs=40, out=folder / "run"), "kilter run whitened-cse")


def weights(done: Path, arm: str) -> bytes:
    return (done / "arms" / arm / "seed-0" / "model" / "model.safetensors").read_bytes()


@pytest.mark.recipe
@pytest.mark.host
class TestLevers:
    def test_every_arm_was_judged(self, done: Path) -> None:
        summary = read_json(done / "summary.json")
        assert {*summary["arms"]} == {*ARMS}
        assert all({"stsb", "alignment", "uniformity"} <= one["metrics"].keys() for one in summary["arms"].values())

    def test_sampler_callbacks_and_options(self, done: Path) -> None:
        assert SEEN["drawn"][:16] == [*range(199, 183, -1)]
        assert SEEN["steps"] == [(step, 4) for step in range(1, 5)]

    def test_a_loss_of_the_library_trains_the_encoder(self, done: Path) -> None:
        assert all(hasattr(encoder, "encode") for encoder in SEEN["encoder"])
        assert len({weights(done, arm) for arm in ARMS}) == len(ARMS)

    def test_a_module_is_attached_before_and_whitening_after(self, done: Path) -> None:
        from kilter.hosts.sentences import encode
        from kilter.tasks.sentence_similarity.networks import load

        shapes = {
            arm: encode(load(done / "arms" / arm / "seed-0" / "model", "cpu"), ["a", "b"]).shape[1]
            for arm in ("mine+whitening", "wide")
        }
        assert shapes == {"mine+whitening": 32, "wide": 64}
        parts = read_json(done / "arms" / "mine+whitening" / "seed-0" / "model" / "modules.json")
        assert parts[-1]["type"].endswith("Dense")
        assert "`whiten` True" in (done / "arms" / "mine+whitening" / "seed-0" / "model" / "README.md").read_text()
