"""The task on images: what is read, what learns, how it is judged at larger resolutions, and what is refused."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from kilter.core.paper import cards
from kilter.lab.arms import Levers, Term
from kilter.lab.files import read_json, read_rows
from kilter.lab.recipe import Provenance, Recipe
from kilter.lab.run import run
from kilter.tasks.image_classification import ImageClassification, networks, sources
from kilter.tasks.image_classification.sources import Images, Split, at_resolution, own_images

SIZES: dict[str, Any] = {"width": 32, "layers": 2, "heads": 2, "save_steps": 40}


def handwritten() -> Split:
    """scikit-learn's digits, of 8 pixels, as if they were of MNIST's 28."""
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    small = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    pixels = (255 * at_resolution(small, 28).clamp(0, 1)).byte()
    images = Images(pixels, torch.tensor(found.target).long(), tuple("0123456789"))
    parts = [
        replace(images, pixels=images.pixels[some], labels=images.labels[some])
        for some in (slice(0, 1400), slice(1400, 1797))
    ]
    return Split(*parts, Provenance("Digits of scikit-learn"))


@dataclass(kw_only=True)
class Mine(ImageClassification):
    """A method on the task."""

    paper = replace(cards()["whitened-cse"], slug="mine")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("learnt", "zero"), **ImageClassification.smoke},
        "full": {},
    }

    def brings(self) -> Mapping[str, Term]:
        return {
            "zero": Term("Without positions", lambda strength: Levers(module=without)),
            "short": Term("half the steps", lambda strength: Levers(options={"steps": 2}), after=True, role="context"),
        }


def without(model: Any) -> Any:
    """A ViT whose table of positions is 0 and stays so."""
    table = model.vit.embeddings.position_embeddings
    table.requires_grad_(False).zero_()
    return model


@pytest.fixture(autouse=True)
def digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "digits", handwritten)
    monkeypatch.setattr(Recipe, "kin", staticmethod(lambda: (Mine,)))


# Images ---------------------------------------------------------------------------------------------------------------


class TestImages:
    images = Images(torch.arange(48, dtype=torch.uint8).view(3, 1, 4, 4) * 5, torch.tensor([1, 0, 1]), ("a", "b"))

    def test_an_item_is_what_a_classifier_takes(self) -> None:
        item = self.images[1]
        assert item["pixel_values"].shape == (1, 4, 4)
        assert item["labels"] == 0
        assert torch.equal(item["pixel_values"], self.images.pixels[1] / 127.5 - 1)

    def test_larger_is_bilinear(self) -> None:
        """By hand, the corners of a pixel's four quarters; along a line 0, 1 become 0, 1/4, 3/4, 1."""
        found = replace(self.images, resolution=8).batch(slice(0, 1))[0, 0]
        given = self.images.pixels[0, 0] / 127.5 - 1
        by_hand = 0.75 * (0.75 * given[0, 0] + 0.25 * given[0, 1]) + 0.25 * (0.75 * given[1, 0] + 0.25 * given[1, 1])
        assert found[1, 1] == pytest.approx(float(by_hand), abs=1e-6)
        assert found.min() == given.min()

    def test_smaller_is_smoothed(self) -> None:
        """A pattern finer than the pixels becomes grey instead of black or white."""
        board = (torch.arange(8)[:, None] + torch.arange(8)) % 2
        assert at_resolution(board[None, None].float(), 2).sub(0.5).abs().max() < 0.1

    def test_grey_ones_are_repeated_for_three_colours(self) -> None:
        item = replace(self.images, channels=3)[0]["pixel_values"]
        assert item.shape == (3, 4, 4)
        assert torch.equal(item[0], item[2])

    def test_some_are_spread_over_all(self) -> None:
        assert self.images.some(2).labels.tolist() == [1, 1]
        assert len(self.images.some(0)) == len(self.images.some(9)) == 3


# One's own images -----------------------------------------------------------------------------------------------------


def paint(folder: Path, classes: Mapping[str, int], count: int = 10) -> Path:
    """Images of one shade a class, more or less."""
    from PIL import Image

    for name, shade in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for place in range(count):
            Image.new("L", (20 + place, 30), shade + place).save(folder / name / f"{place}.png")
    return folder


class TestOwnImages:
    def test_a_folder_for_each_class(self, tmp_path: Path) -> None:
        found = own_images(str(paint(tmp_path / "train", {"dark": 0, "bright": 200})), None, 14)
        assert found.train.classes == ("bright", "dark")
        assert (len(found.train), len(found.test)) == (18, 2)
        assert found.train.pixels.shape == (18, 3, 14, 14)
        bright = found.train.pixels.float().mean((1, 2, 3)) > 100
        assert torch.equal(bright, found.train.labels == 0)
        assert found.provenance.title == "your images: 18 to learn from, 2 to judge on, 2 classes"

    def test_others_to_judge_on_have_the_numbers_of_those_that_are_learnt(self, tmp_path: Path) -> None:
        train = paint(tmp_path / "train", {"dark": 0, "grey": 100, "bright": 200})
        judged = paint(tmp_path / "eval", {"dark": 0}, count=2)
        assert own_images(str(train), str(judged), 14).test.labels.tolist() == [1, 1]

    def test_other_images_are_other_data(self, tmp_path: Path) -> None:
        train = paint(tmp_path / "train", {"dark": 0, "bright": 200})
        before = own_images(str(train), None, 14).provenance.digest
        paint(tmp_path / "train", {"bright": 210})
        assert own_images(str(train), None, 14).provenance.digest != before

    def test_what_is_no_set_of_images_is_named(self, tmp_path: Path) -> None:
        one = paint(tmp_path / "one", {"dark": 0})
        two = paint(tmp_path / "two", {"dark": 0, "bright": 200}, count=2)
        (tmp_path / "empty").mkdir()
        for given, said in (
            ((one, None), "has images of 1 class"),
            ((two, None), "4 images are too few to hold some out"),
            ((tmp_path / "empty", None), "holds no images; give a folder for each class"),
            ((one.with_name("two"), paint(tmp_path / "new", {"red": 9}, 1)), "class red is not among those of --train"),
            ((tmp_path / "no where", None), "no such folder, and no hub data set like org/name"),
        ):
            with pytest.raises(ValueError, match=said):
                own_images(str(given[0]), given[1] and str(given[1]), 14)
        (two / "dark" / "0.png").write_bytes(b"no image")
        with pytest.raises(ValueError, match=r"0\.png: is no image that can be read"):
            own_images(str(two), None, 14)


# A run ----------------------------------------------------------------------------------------------------------------


def small(out: Path, **given: Any) -> Mine:
    options = {"preset": "smoke", **Mine.presets["smoke"], **given}
    return Mine(out=out, device="cpu", **options)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run that is long enough to learn something."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "digits", handwritten)
        patch.setattr(Recipe, "kin", staticmethod(lambda: (Mine,)))
        how: Any = {**SIZES, "images": 0, "test_images": 100, "steps": 60, "batch_size": 32, "learning_rate": 2e-3}
        yield run(small(tmp_path_factory.mktemp("runs") / "run", **how), "kilter run mine")


@pytest.mark.recipe
@pytest.mark.host
class TestRun:
    def test_it_learns_and_positions_are_worth_something(self, learnt: Path) -> None:
        figures = {arm: read_json(learnt / "arms" / arm / "seed-0" / "metrics.json") for arm in ("learnt", "zero")}
        assert figures["learnt"]["accuracy_28"] > 40
        assert figures["learnt"]["accuracy_28"] > figures["zero"]["accuracy_28"] + 5

    def test_each_row_has_a_verdict_at_each_resolution_of_which_the_figures_are_made(self, learnt: Path) -> None:
        place = learnt / "arms" / "learnt" / "seed-0"
        rows, figures = read_rows(place / "utterances.jsonl"), read_json(place / "metrics.json")
        assert len(rows) == 100
        for one in (28, 42, 56, 84):
            right = [row["said"][str(one)] == row["label"] for row in rows]
            assert [bool(row["totals"][f"accuracy_{one}"][0]) for row in rows] == right
            assert figures[f"accuracy_{one}"] == pytest.approx(100 * sum(right) / 100)

    def test_the_report_says_what_it_is_and_has_its_picture(self, learnt: Path) -> None:
        summary = read_json(learnt / "summary.json")
        assert [Path(one["file"]).stem for one in summary["figures"]] == ["resolutions"]
        assert any("nothing is to be seen in them that was not there before" in note for note in summary["notes"])
        assert "AutoModelForImageClassification" in (learnt / "arms/learnt/seed-0/model/README.md").read_text()
        kinds = {path.suffix for path in learnt.rglob("*") if path.is_file()}
        assert kinds <= {".json", ".jsonl", ".yaml", ".html", ".svg", ".safetensors", ".md", ".lock"}

    def test_what_is_saved_says_the_same(self, learnt: Path) -> None:
        from transformers import AutoModelForImageClassification

        place = learnt / "arms" / "learnt" / "seed-0"
        model = AutoModelForImageClassification.from_pretrained(place / "model").eval()
        batch = replace(handwritten().test.some(100), resolution=42).batch(slice(0, 10))
        with torch.no_grad():
            said = model(pixel_values=batch, interpolate_pos_encoding=True).logits.argmax(1).tolist()
        assert said == [row["said"]["42"] for row in read_rows(place / "utterances.jsonl")[:10]]

    def test_a_run_goes_on_where_it_was_killed(self, tmp_path: Path) -> None:
        """Right after a step, and after the last: the numbers are those of an unbroken run."""
        from transformers import Trainer

        whole = run(small(tmp_path / "whole", arms=("zero",)), "")
        step, ends = Trainer.training_step, [3, 4]

        def killed(self: Any, *args: Any, **kwargs: Any) -> Any:
            if ends and self.state.global_step + 1 == ends[0]:
                ends.pop(0)
                raise KeyboardInterrupt
            return step(self, *args, **kwargs)

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "training_step", killed)
            for _ in range(2):
                with pytest.raises(KeyboardInterrupt):
                    run(small(tmp_path / "killed", arms=("zero",)), "")
            patch.setattr(networks, "save", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run(small(tmp_path / "killed", arms=("zero",)), "")
        run(small(tmp_path / "killed", arms=("zero",)), "")
        files = [one / "arms/zero/seed-0/model/model.safetensors" for one in (whole, tmp_path / "killed")]
        assert files[0].read_bytes() == files[1].read_bytes()

    def test_own_images_and_own_model(self, learnt: Path, tmp_path: Path) -> None:
        """The head is made anew for other classes, and grey layers are no hindrance."""
        train = paint(tmp_path / "train", {"dark": 0, "bright": 200})
        model = str(learnt / "arms/learnt/seed-0/model")
        how: Any = {"train_data": str(train), "model": model, "arms": ("learnt",), "resolutions": (28, 42)}
        with pytest.raises(ValueError, match="has 1 channel, and the images have 3"):
            run(small(tmp_path / "run", **how), "")
        from transformers import ViTConfig, ViTForImageClassification

        ViTForImageClassification(
            ViTConfig(
                hidden_size=8,
                num_hidden_layers=1,
                num_attention_heads=1,
                intermediate_size=8,
                image_size=28,
                patch_size=7,
                id2label={place: str(place) for place in range(5)},
            )
        ).save_pretrained(tmp_path / "model")
        out = run(small(tmp_path / "own", **how | {"model": str(tmp_path / "model")}), "")
        assert read_json(out / "summary.json")["arms"]["learnt"]["metrics"]["accuracy_42"]["mean"] is not None
        labels = read_json(out / "arms/learnt/seed-0/model/config.json")["id2label"]
        assert labels == {"0": "bright", "1": "dark"}


# What does not fit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"resolutions": (28, 40)}, "resolutions: 40 pixels are not made of whole patches of 7; take 35 or 42"),
        ({"resolution": 5}, "5 pixels are not made of whole patches of 7; take 7"),
        ({"resolutions": ()}, "give one or more, each once"),
        ({"resolutions": (28, 28)}, "give one or more, each once"),
        ({"width": 30, "heads": 4}, "width=30 cannot be divided into heads=4"),
        ({"eval_data": "x"}, "--eval needs --train"),
        ({"eval_data": "x", "train_data": "x"}, "--eval and --train are both x"),
        ({"model": "no/such/folder/here"}, "not a folder or hub id of an image classifier of transformers"),
        ({"arms": ("bowl",)}, "there is no 'bowl'; there are learnt, zero"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        run(small(tmp_path / "run", **given), "")
