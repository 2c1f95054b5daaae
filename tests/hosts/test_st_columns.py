"""What an objective is given of sentence-transformers' columns: views, labels of several kinds, raw vectors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kilter.core import LossOutput, Objective
from tests.decoding.encoders import TEXTS
from tests.hosts.small_encoder import DIM, folder_of, load, one_batch, rows, trainer

pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.host


@pytest.fixture(autouse=True)
def quiet() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("encoder"))


def keeps(objective: Any, given: dict[str, Any]) -> LossOutput:
    objective.seen.append(given)
    floats = [value for value in given.values() if value is not None and value.is_floating_point()]
    part = torch.stack([value.pow(2).mean() for value in floats]).sum()
    return LossOutput(part, {"square": part})


class Keeper(Objective):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def config(self) -> dict[str, Any]:
        return {}


class Views(Keeper):
    def forward(self, views: Any, generator: Any = None, group: Any = None) -> LossOutput:
        return keeps(self, {"views": views, "group": group})


class Pair(Keeper):
    def forward(self, centre: Any, context: Any, language: Any = None) -> LossOutput:
        return keeps(self, {"centre": centre, "context": context, "language": language})


class Own(Keeper):
    """Names that are in no glossary."""

    def forward(self, left: Any, likeness: Any, right: Any, language: Any, gain: Any = None) -> LossOutput:
        return keeps(self, {"left": left, "likeness": likeness, "right": right, "language": language, "gain": gain})


def seen(made: Any) -> dict[str, Tensor]:
    one_batch(made)
    return made.loss.objective.seen[-1]


def vectors(model: Any, made: Any, column: int) -> Tensor:
    return model.encode(made.train_dataset[:4][f"text{column}"], convert_to_tensor=True)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_views_are_all_text_columns_in_one_pass(folder: Path, tmp_path: Path, columns: int) -> None:
    from kilter.hosts import sentence_transformers as host

    model = load(folder)
    made = trainer(model, Views(), rows(columns, label=[*range(8)]), tmp_path)
    passes: list[int] = []
    model[0].register_forward_hook(lambda *_: passes.append(1))
    given = seen(made)
    assert sum(passes) == (1 if host._together() else columns)
    assert given["views"].shape == (columns, 4, DIM)
    for column in range(columns):
        assert_close(given["views"][column], vectors(model, made, column))
    assert given["group"].tolist() == [0, 1, 2, 3]
    made.data_collator = made.loss.by_name(made.data_collator)
    made.train_dataset = made.train_dataset.rename_column("label", "group")
    named = seen(made)
    assert torch.equal(named["views"], given["views"])
    assert torch.equal(named["group"], given["group"])


def test_the_objective_sees_what_goes_into_the_last_normalize(folder: Path, tmp_path: Path) -> None:
    plain, unit = load(folder), load(folder, normalized=True)
    for objective in (Views(), Pair()):
        made = trainer(unit, objective, rows(2), tmp_path)
        given = seen(made)
        raw = given["views"] if "views" in given else torch.stack([given["centre"], given["context"]])
        assert_close(raw, torch.stack([vectors(plain, made, 0), vectors(plain, made, 1)]))
        assert not torch.allclose(raw.norm(dim=-1), torch.ones(()))
    assert_close(unit.encode(TEXTS, convert_to_tensor=True).norm(dim=-1), torch.ones(4))
    found = unit.encode(TEXTS[:1], output_value=None)[0]
    assert {*found} == {*plain.encode(TEXTS[:1], output_value=None)[0]}, "and nothing of ours is left in its output"


def test_raw_vectors_come_through_wrappers(folder: Path, tmp_path: Path) -> None:
    """What is run is the wrapper: DDP and the like keep their processes in step by it."""
    unit = load(folder, normalized=True)
    made = trainer(unit, Pair(), rows(2), tmp_path)
    alone = seen(made)
    calls: list[int] = []

    class Wrapper(torch.nn.DataParallel):
        def forward(self, *inputs: Any, **named: Any) -> Any:
            calls.append(1)
            return self.module(*inputs, **named)

    made.loss.model = Wrapper(unit)
    made.model_wrapped = made.loss.model
    batch = made.data_collator([made.train_dataset[i] for i in range(4)])
    with torch.no_grad():
        made.compute_loss(made.model_wrapped, {**batch})
    assert len(calls) == 2
    assert_close(made.loss.objective.seen[-1]["centre"], alone["centre"])


@pytest.mark.parametrize("by_name", [False, True])
def test_a_column_of_lists_is_split_in_the_order_of_labels(folder: Path, tmp_path: Path, by_name: bool) -> None:
    numbers = [[i / 4, i % 3] for i in range(8)]
    if by_name:
        data = rows(2).rename_columns({"text0": "right", "text1": "left"}).select_columns(["right", "left"])
        data = data.add_column("language", [n[1] for n in numbers]).add_column("likeness", [n[0] for n in numbers])
    else:
        data = rows(2, label=numbers)
    made = trainer(load(folder), Own(), data, tmp_path, labels=("likeness", "language"))
    assert made.loss.vectors == ("left", "right")
    if by_name:
        made.data_collator = made.loss.by_name(made.data_collator)
    given = seen(made)
    assert given["likeness"].tolist() == [0, 0.25, 0.5, 0.75]
    assert given["likeness"].is_floating_point()
    assert given["language"].tolist() == [0, 1, 2, 0]
    assert given["language"].dtype == torch.long
    assert given["gain"] is None
    first = vectors(made.model, made, 0) if not by_name else made.model.encode(data[:4]["left"], convert_to_tensor=True)
    assert_close(given["left"], first)


@pytest.mark.parametrize("label", [[0, 1, 2, 0], [0.5, 1.5, -1.0, 2.0]])
def test_one_name_takes_integers_or_floats(folder: Path, tmp_path: Path, label: list[Any]) -> None:
    class Scored(Keeper):
        def forward(self, centre: Any, context: Any, score: Any) -> LossOutput:
            return keeps(self, {"centre": centre, "context": context, "score": score})

    given = seen(trainer(load(folder), Scored(), rows(2, 4, label=label), tmp_path, labels="score"))
    assert given["score"].tolist() == label
    assert given["score"].is_floating_point() == isinstance(label[0], float)
    assert seen(trainer(load(folder), Pair(), rows(2, 4, label=[3, 1, 2, 0]), tmp_path))["language"].tolist() == [
        3, 1, 2, 0
    ]  # fmt: skip


def test_what_labels_and_columns_do_not_fit_is_said(folder: Path, tmp_path: Path) -> None:
    from kilter.hosts.sentence_transformers import as_st_loss

    model = load(folder)
    with pytest.raises(ValueError, match=r"labels: Own takes no 'likenes'; did you mean 'likeness'\?"):
        as_st_loss(Own(), model, labels="likenes")
    with pytest.raises(ValueError, match="labels: each argument once"):
        as_st_loss(Own(), model, labels=("likeness", "likeness"))
    with pytest.raises(TypeError, match="Own asks for language"):
        as_st_loss(Own(), model, labels="likeness")

    class Both(Keeper):
        def forward(self, views: Any, centre: Any) -> LossOutput:
            return keeps(self, {"views": views, "centre": centre})

    with pytest.raises(TypeError, match="Both asks for centre, views; sentence-transformers has"):
        as_st_loss(Both(), model)
    made = trainer(model, Own(), rows(2, label=[[0.0, 1.0, 2.0]] * 8), tmp_path, labels=("likeness", "language"))
    with pytest.raises(
        ValueError, match="rows of the label column hold 3 numbers; they feed likeness, language of Own"
    ):
        one_batch(made)
    made = trainer(model, Own(), rows(2), tmp_path, labels=("likeness", "language"))
    with pytest.raises(ValueError, match="the data has no language, likeness; Own takes text columns left, right, and"):
        one_batch(made)
    made.data_collator = made.loss.by_name(made.data_collator)
    with pytest.raises(ValueError, match="the data lacks the columns language, left, likeness, right; it has text0"):
        one_batch(made)


@pytest.mark.parametrize("label", [list("abcdefgh"), [["de", "en"]] * 8])
def test_a_label_column_of_texts_is_refused_when_the_trainer_is_made(folder: Path, tmp_path: Path, label: Any) -> None:
    with pytest.raises(ValueError, match=r"column 'label' holds texts; .* ContextPrediction\.numbers"):
        trainer(load(folder), Pair(), rows(2, label=label), tmp_path)


def test_no_fraction_becomes_an_integer_without_a_word(folder: Path, tmp_path: Path) -> None:
    made = trainer(load(folder), Pair(), rows(2, label=[0.0, 1.0, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0]), tmp_path)
    with pytest.raises(ValueError, match=r"row 2 of the label column has 0\.5 for language, an integer"):
        one_batch(made)


class Taught(Keeper):
    def forward(self, u: Any, v: Any, teacher_logits: Any, labels: Any = None) -> LossOutput:
        return keeps(self, {"u": u, "v": v, "teacher_logits": teacher_logits, "labels": labels})


def test_what_takes_several_numbers_of_a_row_has_what_the_others_leave() -> None:
    """A teacher's logits and the label in one list, without a word of which is which."""
    from kilter.hosts.st_columns import Columns

    vectors, table = [torch.zeros(2, 3)] * 2, torch.tensor([[0.5, -1.0, 2.0, 1.0], [0.1, 0.2, 0.3, 0.0]])
    columns = Columns(Taught())
    assert (columns.vectors, columns.labels) == (("u", "v"), ("teacher_logits", "labels"))
    for width in (4, 2):
        given = columns.arguments(["u", "v"], vectors, table[:, -width:])
        assert_close(given["teacher_logits"], table[:, -width:-1])
        assert_close(given["labels"], table[:, -1])
    alone = Columns(Taught(), "teacher_logits").arguments(["u", "v"], vectors, table)
    assert_close(alone["teacher_logits"], table)
    assert "labels" not in alone
    with pytest.raises(ValueError, match="hold 1 numbers; they feed teacher_logits, labels of Taught, so 2 or more"):
        columns.arguments(["u", "v"], vectors, table[:, 0])


def test_columns_by_name_may_hold_lists() -> None:
    from kilter.hosts.st_columns import ByName, Columns

    row = {"labels": 1, "v": "b", "teacher_logits": [0.5, -1.0], "u": "a"}
    seen: list[Any] = []
    ByName(lambda rows: seen.extend(rows) or {}, Columns(Taught()))([row])
    assert seen == [{"u": "a", "v": "b", "label": [0.5, -1.0, 1]}]
