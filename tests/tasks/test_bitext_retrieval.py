"""The task by its parts: nothing leaks, tests are fair, every lever does something, languages count alike."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kilter.core.paper import cards
from kilter.data.documents import Document
from kilter.lab.arms import Levers, Term
from kilter.lab.files import read_json, read_rows
from kilter.lab.recipe import Provenance, Recipe
from kilter.lab.run import run
from kilter.recipes.ccp import ContextPredictionRecipe
from kilter.tasks.bitext_retrieval import BitextRetrieval, sources
from kilter.tasks.bitext_retrieval.corpus import Corpus, Count, Pair, fit_to_judge, learnt_strings, part_of, shared_out
from kilter.tasks.bitext_retrieval.judging import Encoded, asked, judge
from tests.made_descriptions import made_debian, made_descriptions

SEEN: dict[str, list[Any]] = {}
"""What the levers of the guest were given."""


@pytest.fixture(scope="module", autouse=True)
def debian() -> Iterator[None]:
    """Made-up descriptions, and the guest's recipe beside ours."""
    with pytest.MonkeyPatch.context() as patch:
        made_debian(patch)
        patch.setattr(Recipe, "kin", staticmethod(lambda: (ContextPredictionRecipe, Mine)))
        yield


# Data -----------------------------------------------------------------------------------------------------------------


def test_no_package_is_learnt_from_and_judged_on_and_none_is_learnt_from_in_two_languages() -> None:
    corpus = sources.debian(("de", "fr"), "en", documents=30, test_pairs=50, split="test")
    found = made_descriptions(("en", "de", "fr"))
    whose = {one.sentences: one.id for some in found.values() for one in some}
    learnt = {language: [whose[tuple(one)] for one in some] for language, some in corpus.documents.items()}
    every = [name for some in learnt.values() for name in some]
    judged = {pair.id.rpartition("/")[0] for pairs in corpus.tests["debian"].values() for pair in pairs}
    assert corpus.languages == ("en", "de", "fr")
    assert len(every) == len({*every})
    assert judged
    assert not judged & {*every}
    assert {part_of(name) for name in judged} == {"test"}
    dev = sources.debian(("de", "fr"), "en", documents=30, test_pairs=50, split="dev")
    assert dev.documents == corpus.documents
    assert dev.tests.keys() == {"debian"}
    assert {part_of(pair.id.rpartition("/")[0]) for pair in dev.tests["debian"]["de"]} == {"dev"}


def test_a_test_sentence_is_that_of_the_same_place_where_the_translation_has_as_many() -> None:
    texts = {"a": ("One two three four.", "Five six seven eight."), "b": ("Nine ten eleven twelve.",)}
    held = {name: Document(name, some) for name, some in texts.items()}
    foreign = [
        Document("a", ("Eins.", "Zwei.")),
        Document("b", ("Drei.", "Vier.")),  # cut otherwise: the summary alone is sure
        Document("c", ("Fünf.",)),
    ]
    found = [*sources._aligned(foreign, held)]
    assert found == [
        Pair("a/0", "Eins.", "One two three four."),
        Pair("a/1", "Zwei.", "Five six seven eight."),
        Pair("b/0", "Drei.", "Nine ten eleven twelve."),
    ]


def test_the_smallest_language_chooses_first_and_documents_of_one_sentence_teach_nothing() -> None:
    many = [Document(str(number), (f"{number}.", "And on.")) for number in range(20)]
    few = [*many[:6], Document("alone", ("Alone.",))]
    found = shared_out({"en": many, "ko": few}, 5)
    assert [len(some) for some in found.values()] == [5, 5]
    assert {one[0] for one in found["ko"]} <= {one.sentences[0] for one in many[:6]}
    assert not {one[0] for one in found["en"]} & {one[0] for one in found["ko"]}


def test_what_is_no_fair_question_is_left_out_and_counted() -> None:
    pairs = [
        Pair("0", "Ein Haus", "A house"),
        Pair("1", "libc6-dev.", "libc6-dev"),
        Pair("2", "Ein haus.", "One house"),
        Pair("3", "Gelernt", "Something else"),
        Pair("4", "Etwas", "Learnt"),
        Pair("5", "Ein Schiff", "A ship"),
    ]
    learnt = learnt_strings({"de": [["gelernt."]], "en": [["Learnt!"]], "fr": [["Ein Schiff"]]})
    found = fit_to_judge(pairs, "de", "en", 9, learnt, count := Count())
    assert {pair.id for pair in found} == {"0", "5"}
    assert count == Count(pairs=6, untranslated=1, repeated=1, learnt=2)
    assert "16.7% untranslated" in count.said("Debian")
    assert Count(pairs=3).said("Debian") == ""


# Judging --------------------------------------------------------------------------------------------------------------


def toy(sizes: Mapping[str, int]) -> tuple[Corpus, Encoded, dict[str, list[str]]]:
    """Languages that are exact copies of the pivot, moved away from it."""
    generator = torch.Generator().manual_seed(0)
    pivot = torch.randn(max(sizes.values()), 6, generator=generator)
    texts, vectors = [f"en {row}" for row in range(len(pivot))], [pivot]
    tests = {}
    for place, (language, size) in enumerate(sizes.items(), 1):
        tests[language] = [Pair(str(row), f"{language} {row}", f"en {row}") for row in range(size)]
        texts += [f"{language} {row}" for row in range(size)]
        vectors.append(pivot[:size] + 40 * torch.eye(6)[place])
    statistics = {language: [one for one in texts if one.startswith(language)] for language in ("en", *sizes)}
    documents = {language: [some] for language, some in statistics.items()}
    return Corpus(documents, {"pairs": tests}, Provenance("toy")), Encoded(texts, torch.cat(vectors)), statistics


def test_a_shift_brings_moved_copies_together() -> None:
    from kilter.tasks.bitext_retrieval.rivals import Calibrated

    corpus, encoded, statistics = toy({"de": 60, "fr": 60})
    assert {*asked(corpus, statistics)} == {*encoded.texts}
    before, _ = judge(corpus, statistics, encoded, None)
    after, shapes = judge(corpus, statistics, encoded, Calibrated(("shift",)))
    assert before.metrics["told_apart"] > 85
    assert before.metrics["pairs"] < 60
    assert after.metrics["pairs"] == after.metrics["pairs_de"] == 100
    assert after.metrics["told_apart"] < 50
    assert after.metrics["uniformity"] < before.metrics["uniformity"]
    assert {len(shapes[name]) for name in ("map", "languages")} == {180}


def test_every_language_counts_alike_however_many_pairs_it_has() -> None:
    corpus, encoded, statistics = toy({"de": 40, "fr": 10})
    found, _ = judge(corpus, statistics, encoded, None)
    mean = (found.metrics["pairs_de"] + found.metrics["pairs_fr"]) / 2
    assert found.metrics["pairs"] == pytest.approx(mean)
    assert len(found.utterances) == 50
    assert {row["found"].split()[0] for row in found.utterances} == {"en"}


def test_transductive_statistics_are_of_the_test_and_joint_ones_of_all_languages() -> None:
    from kilter.tasks.bitext_retrieval.rivals import Calibrated

    corpus, encoded, statistics = toy({"de": 60, "fr": 60})
    far = {language: [f"{language} {row}" for row in range(5)] for language in statistics}  # too few to know the mean
    steps = ("shift",)
    by_few, _ = judge(corpus, far, encoded, Calibrated(steps))
    by_test, _ = judge(corpus, far, encoded, Calibrated(steps, transductive=True))
    assert by_test.metrics["pairs"] == 100
    assert by_test.metrics["uniformity"] < by_few.metrics["uniformity"]
    vectors = {"en": torch.randn(30, 4), "de": torch.randn(30, 4) + 3}
    joint = Calibrated(("shift", "scale"), "joint")(vectors, "en")
    assert torch.equal(joint(vectors["en"], "en"), joint(vectors["en"], "de"))
    own = Calibrated(("shift", "scale"))(vectors, "en")
    assert own(vectors["de"], "de").mean(0).abs().max() < 1e-4


# Arms -----------------------------------------------------------------------------------------------------------------


def objective(pupil: Any) -> Any:
    from kilter.embeddings import ContextPrediction

    SEEN.setdefault("pupil", []).append((pupil.dim, pupil.languages))
    return ContextPrediction(pupil.dim, languages=pupil.languages, head=False, bank_size=0)


class Forwards:
    """The first rows of the language with the lowest number, one by one."""

    def __init__(self, rows: Any) -> None:
        self.rows = [row for row, label in enumerate(rows["label"]) if label == 0]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        SEEN.setdefault("drawn", []).append(self.rows[:3])
        return iter(self.rows)


def ear(encoder: Any) -> list[Any]:
    from transformers import TrainerCallback

    class Ear(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            SEEN.setdefault("steps", []).append((state.global_step, state.max_steps))

    return [Ear()]


def halved(vectors: Any, pivot: str) -> Any:
    SEEN.setdefault("calibrated", []).append((sorted(vectors), pivot))
    return lambda x, language: x[:, : x.shape[1] // 2]


def louder(encoder: Any) -> Any:
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.mul_(1.5)
    return encoder


@dataclass(kw_only=True)
class Mine(BitextRetrieval):
    """Another method on the task."""

    few: int = 40

    paper = replace(cards()["ccp"], slug="mine")

    def brings(self) -> Mapping[str, Term]:
        def some(rows: Any, pupil: Any, seed: int) -> Any:
            return rows.select(range(self.few))

        return {
            "mine": Term("Mine", lambda strength: Levers(objective=objective)),
            "few": Term("few rows", lambda strength: Levers(rows=some)),
            "forwards": Term("forwards", lambda strength: Levers(sampler=lambda rows, seed: Forwards(rows))),
            "ear": Term("heard", lambda strength: Levers(callbacks=ear)),
            "louder": Term("louder", lambda strength: Levers(module=louder)),
            "short": Term("two steps", lambda strength: Levers(options={"steps": 2}), after=True),
            "halved": Term("half of each vector", lambda strength: Levers(decoder=halved), after=True),
            "heavy": Term("Weighed", lambda weight: Levers(objective=objective, weight=weight), usual=0.5),
            "strange": Term("Strange", lambda strength: Levers(objective=objective, options={"bowls": 2})),
        }


def recipe(**options: Any) -> ContextPredictionRecipe:
    found = ContextPredictionRecipe(**{**ContextPredictionRecipe.presets["smoke"], "preset": "smoke", **options})
    found.prepare()
    return found


LABELS = {
    "untrained": ("The encoder as given", "baseline"),
    "standardise": ("The encoder as given, each language standardised", "context"),
    "rotate+transductive": (
        "The encoder as given, each language standardised and rotated by the test's own statistics",
        "context",
    ),
    "mnrl": ("MultipleNegativesRankingLoss", "context"),
    "ccp": ("Context prediction", "method"),
    "ccp+joint": ("Context prediction, all languages standardised as one", "method"),
    "no-bank": ("Context prediction without bank", "method"),
    "mine+halved": ("Mine, half of each vector", "method"),
}


@pytest.mark.parametrize("arm", LABELS)
def test_arms_are_told_apart_in_words_in_whichever_recipe_they_stand(arm: str) -> None:
    for one in (recipe(), Mine(languages=("de",))):
        found = one.describe(arm)
        assert (found.label, found.role) == LABELS[arm]


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("bowl", "there is no 'bowl'; there are untrained, ccp, no-bank"),
        ("ccp+mnrl", r"2 losses \(ccp, mnrl\)"),
        ("shift+rotate", r"2 decoders \(shift, rotate\)"),
        ("few+standardise", "has rows but no loss to train with"),
        ("heavy", "a weight of 0.5, but there is no other loss"),
        ("strange", "changes bowls, but ccp has no such option"),
        ("ccp+transductive", "there is no 'transductive'"),
    ],
)
def test_arms_that_make_no_sense_are_named(arm: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recipe().describe(arm)


ARMS = ("mine", "mine+halved", "mine+few+forwards+ear+louder+short", "mnrl", "agnostic-bank")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose arms pull every lever."""
    SEEN.clear()
    out = tmp_path_factory.mktemp("runs") / "run"
    return run(recipe(arms=ARMS, out=out, learning_rate=3e-3), "kilter run ccp")


def weights(done: Path, arm: str) -> bytes:
    return (done / "arms" / arm / "seed-0" / "model" / "model.safetensors").read_bytes()


@pytest.mark.recipe
@pytest.mark.host
@pytest.mark.slow
class TestLevers:
    def test_every_arm_was_judged_and_the_guest_is_kept_with_the_run(self, done: Path) -> None:
        assert {*read_json(done / "summary.json")["arms"]} == {*ARMS}
        assert yaml.safe_load((done / "recipe.yaml").read_text())["settings"]["borrowed"] == {"mine": {"few": 40}}

    def test_an_objective_is_made_for_the_encoder_and_its_languages(self, done: Path) -> None:
        assert {*SEEN["pupil"]} == {(32, ("en", "de", "fr"))}

    def test_every_way_to_train_ends_with_another_encoder(self, done: Path) -> None:
        trained = [arm for arm in ARMS if arm != "mine+halved"]
        assert len({weights(done, arm) for arm in trained}) == len(trained)

    def test_rows_sampler_callbacks_and_options(self, done: Path) -> None:
        assert len(SEEN["drawn"][0]) == 3
        assert SEEN["steps"] == [(1, 2), (2, 2)]

    def test_a_decoder_uses_the_encoder_of_the_arm_without_it(self, done: Path) -> None:
        assert not (done / "arms" / "mine+halved" / "seed-0" / "model").exists()
        assert SEEN["calibrated"] == [(["de", "en", "fr"], "en")]
        rows = {arm: read_rows(done / "arms" / arm / "seed-0" / "utterances.jsonl") for arm in ("mine", "mine+halved")}
        assert [row["input"] for row in rows["mine"]] == [row["input"] for row in rows["mine+halved"]]
        assert [row["found"] for row in rows["mine"]] != [row["found"] for row in rows["mine+halved"]]


def test_what_is_frozen_stays() -> None:
    from kilter.tasks.bitext_retrieval.networks import freeze, fresh_encoder

    encoder = fresh_encoder("random", ["a map", "a road"], 0, "cpu")
    freeze(encoder, embeddings=True, layers=1)
    model: Any = encoder[0].auto_model
    still = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert {name.split(".")[0] for name in still} == {"embeddings", "encoder"}
    assert {name.split(".")[2] for name in still if name.startswith("encoder")} == {"0"}
    with pytest.raises(ValueError, match=r"freeze_layers=2 must be less than the encoder's 2 layers"):
        freeze(encoder, embeddings=False, layers=2)


def test_batches_are_of_one_language_whose_number_is_its_place() -> None:
    from kilter.tasks.bitext_retrieval.pairs import language_pure, training_rows

    corpus = sources.debian(("fr", "de"), "en", documents=30, test_pairs=5, split="test")
    rows = training_rows(corpus.documents, 2, 500, 0)
    assert len(rows) >= 500
    endings = ("", "e", "en")
    for row in map(dict, rows):
        first = row["centre"].split()[0].lower()
        assert any(first == f"{word}{endings[row['label']]}" for word in (first.removesuffix("en"), first[:-1], first))
    for batch in language_pure(0.7)(rows, 8, seed=0):
        assert len({rows[place]["label"] for place in batch}) == 1
