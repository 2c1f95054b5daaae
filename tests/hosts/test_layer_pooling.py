"""Pooling of several layers against plain loops, and a student from its training to the disk and back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.decoding.encoders import TEXTS
from tests.hosts.small_encoder import DIM, folder_of, load, normalize, one_batch, rows, trainer

library = pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.host


@pytest.fixture(autouse=True)
def quiet() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("encoder"))


def pooling(*arguments: Any, **options: Any) -> Any:
    from kilter.hosts.layer_pooling import LayerPooling

    return LayerPooling(*arguments, **options)


def student(folder: Path, *arguments: Any, **options: Any) -> Any:
    from kilter.hosts.layer_pooling import with_layer_pooling

    return with_layer_pooling(load(folder, normalized=True), *arguments, **options)


def states(count: int = 5, batch: int = 4, tokens: int = 6, dim: int = 3) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(count, batch, tokens, dim, generator=generator, dtype=torch.float64))


MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]])


def pooled(said: tuple[Tensor, ...], mask: Tensor, **options: Any) -> Tensor:
    module = pooling(said[0].shape[-1], **options)
    return module({"all_layer_embeddings": said, "attention_mask": mask})["sentence_embedding"]


def plain(layers: tuple[Tensor, ...], mask: Tensor, k: int, mode: str, combine: str, skip_first: bool) -> Tensor:
    """The release's poolers, text by text and number by number."""
    last = list(layers[-k:])
    if combine == "mean":
        last = [sum(last[1:], last[0]) / k]
    found = []
    for row in range(len(mask)):
        vector = []
        for layer in last:
            for component in range(layer.shape[2]):
                start = 1 if skip_first else 0
                values = [float(layer[row, t, component]) for t in range(start, mask.shape[1]) if mask[row, t]]
                by = {"mean": len(values), "sqrt": len(values) ** 0.5, "max": 1}[mode]
                vector.append((max(values) if mode == "max" else sum(values)) / by)
        found.append(vector)
    return torch.tensor(found, dtype=torch.float64)


# 4 and 9: pooling ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip_first", [True, False])
@pytest.mark.parametrize("combine", ["concat", "mean"])
@pytest.mark.parametrize("mode", ["mean", "sqrt", "max"])
def test_9_by_plain_loops(mode: str, combine: str, skip_first: bool) -> None:
    for k in (1, 3, 4):
        found = pooled(states(), MASK, layers=k, mode=mode, combine=combine, skip_first=skip_first)
        assert_close(found, plain(states(), MASK, k, mode, combine, skip_first))
        assert found.shape[1] == pooling(3, k, mode, combine).get_embedding_dimension()


@pytest.mark.parametrize("mode", ["mean", "sqrt", "max"])
def test_4_neither_padding_nor_the_first_token_is_seen(mode: str) -> None:
    before = pooled(states(), MASK, mode=mode)
    changed = tuple(layer.masked_fill(MASK[..., None] == 0, torch.nan) for layer in states())
    for layer in changed:
        layer[:, 0] = torch.nan
    assert torch.equal(pooled(changed, MASK, mode=mode), before)
    longer = tuple(torch.cat([layer, layer], 1) for layer in changed)
    assert_close(pooled(longer, torch.cat([MASK, 0 * MASK], 1), mode=mode), before)
    moved = tuple(layer.roll(2, 1) for layer in states())  # padding on the left: the first token is found
    left = MASK[1:2].roll(2, 1)
    assert_close(pooled(tuple(layer[1:2] for layer in moved), left, mode=mode), before[1:2])


@pytest.mark.parametrize("mode", ["mean", "sqrt", "max"])
def test_4_hardly_a_token_left(mode: str) -> None:
    layers = states()
    only_sep = pooled(layers, torch.tensor([[1, 1, 0, 0, 0, 0]] * 4), mode=mode)
    assert_close(only_sep, torch.cat([layer[:, 1] for layer in layers[-4:]], 1))
    one = pooled(layers, torch.tensor([[1, 0, 0, 0, 0, 0]] * 4), mode=mode)
    assert_close(one, torch.cat([layer[:, 0] for layer in layers[-4:]], 1))
    leaf = tuple(layer.requires_grad_() for layer in states())
    none = pooled(leaf, torch.zeros(4, 6), mode=mode)
    assert torch.equal(none, torch.zeros(4, 12, dtype=torch.float64))
    assert all(not gradient.any() for gradient in torch.autograd.grad(none.sum(), leaf[-4:]))


def test_4_half_precision_sums_in_single() -> None:
    layers = tuple(torch.full((1, 3000, 2), 0.1, dtype=torch.bfloat16) for _ in range(5))
    found = pooled(layers, torch.ones(1, 3000))
    assert found.dtype == torch.bfloat16
    assert_close(found.float(), torch.full((1, 8), 0.1), rtol=0.01, atol=0)


def test_4_a_texts_vector_does_not_depend_on_its_batch(folder: Path) -> None:
    model = student(folder, 2)
    together = model.encode(TEXTS, convert_to_tensor=True)
    alone = torch.stack([model.encode(text, convert_to_tensor=True) for text in TEXTS])
    assert together.shape == (4, 2 * DIM)
    assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_states_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="no states of the layers; set output_hidden_states=True"):
        pooling(3)({"token_embeddings": states()[0]})
    with pytest.raises(ValueError, match="layers=5, but the transformer has 4"):
        pooled(states(), MASK, layers=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dim": 0}, "dim"), ({"layers": 0}, "layers"), ({"mode": "sum"}, "mode"), ({"combine": "both"}, "combine")],
)
def test_options_out_of_range(options: dict[str, Any], message: str, own_messages: None) -> None:
    with pytest.raises(ValueError, match=message):
        pooling(**{"dim": 3, **options})


# The student ---------------------------------------------------------------------------------------------------------


def test_a_student_is_a_copy_without_normalize(folder: Path) -> None:
    from kilter.hosts.layer_pooling import with_layer_pooling

    given = load(folder, normalized=True)
    before = given.encode(TEXTS, convert_to_tensor=True)
    made = with_layer_pooling(given, 4)
    assert [type(module).__name__ for module in made] == ["Transformer", "LayerPooling", "Dropout"]
    assert made[1].layers == 2, "all that there are"
    assert torch.equal(given.encode(TEXTS, convert_to_tensor=True), before)
    assert not getattr(given[0].auto_model.config, "output_hidden_states", False)
    assert made.encode(TEXTS, convert_to_tensor=True).norm(dim=1).min() > 1.1


def test_4_it_pools_what_the_transformer_says(folder: Path) -> None:
    made = student(folder, 2, dropout=0)
    inner = made[0]
    tokens = inner.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        layers = inner.auto_model.eval()(**tokens, output_hidden_states=True).hidden_states
    expected = plain(tuple(layers), tokens["attention_mask"], 2, "mean", "concat", True)
    assert_close(made.encode(TEXTS, convert_to_tensor=True).double(), expected, atol=1e-5, rtol=1e-5)


def test_7_dropout_of_the_pooled_vector_in_training_alone(folder: Path) -> None:
    from sentence_transformers.util import batch_to_device

    def run(model: Any) -> Tensor:
        features = model.tokenize(TEXTS) if not hasattr(model, "preprocess") else model.preprocess(TEXTS)
        with torch.no_grad():
            return model(batch_to_device(features, "cpu"))["sentence_embedding"]

    made = student(folder, 2, dropout=0.5)
    for module in made[0].modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # so that only that of the pooled vector is left
    torch.manual_seed(0)
    whole, again = run(made.eval()), run(made.eval())
    assert torch.equal(whole, again)
    dropped = run(made.train())
    kept = dropped != 0
    assert 0.3 < kept.double().mean() < 0.7
    assert_close(dropped[kept], 2 * whole[kept], atol=1e-5, rtol=1e-5)
    assert not torch.equal(dropped, run(made))
    assert [type(module).__name__ for module in student(folder, 2, dropout=0)] == ["Transformer", "LayerPooling"]


def test_6_vectors_once_and_then_the_head_is_the_joint_forward(folder: Path, tmp_path: Path) -> None:
    """Through the host's own training step, of a model that ended with `Normalize`; and every text is read once."""
    from kilter.embeddings import DistilledSentenceEmbedding, PairHead

    made, head = student(folder, 2), PairHead(2 * DIM, 3)
    objective = DistilledSentenceEmbedding(head, task="multiclass")
    labels = [[0.3, -1.0, 2.0, row % 3] for row in range(8)]
    data = rows(2, label=labels)
    fitted = trainer(made, objective, data, tmp_path / "run")
    joint = one_batch(fitted)
    calls: list[int] = []
    hook = made[1].register_forward_hook(lambda module, given, out: calls.append(len(out["sentence_embedding"])))
    u, v = (made.encode(data[:4][name], convert_to_tensor=True) for name in ("text0", "text1"))
    hook.remove()
    assert sum(calls) == 4 + 4
    with torch.no_grad():
        scores = head.score_matrix(u, v)
        assert_close(scores.diagonal().T, head(u, v), atol=1e-6, rtol=1e-6)
        teacher = torch.tensor(labels[:4])
        expected = objective(u, v, teacher[:, :3], teacher[:, 3]).loss
    assert_close(joint, expected, atol=1e-6, rtol=1e-6)


def test_8_student_and_head_come_back_from_the_disk(folder: Path, tmp_path: Path) -> None:
    """A checkpoint and what is saved at the end; a model with a module of ours is refused without trust."""
    from kilter.embeddings import DistilledSentenceEmbedding, PairHead

    made, head = student(folder, 2, projection=8), PairHead(8)
    objective = DistilledSentenceEmbedding(head, task="regression")
    data = rows(2, label=[[0.5 * row, 0.4 * row] for row in range(8)])
    fitted = trainer(made, objective, data, tmp_path / "run", save_strategy="steps", save_steps=4)
    fitted.train()
    made.save_pretrained(str(tmp_path / "student"), create_model_card=False)
    head.save_pretrained(tmp_path / "student" / "head")

    with pytest.raises(ValueError, match="trust_remote_code"):
        library.SentenceTransformer(str(tmp_path / "student"), device="cpu")
    again = library.SentenceTransformer(str(tmp_path / "student"), device="cpu", trust_remote_code=True)
    u, v = (made.encode(TEXTS, convert_to_tensor=True), made.encode(TEXTS[::-1], convert_to_tensor=True))
    assert torch.equal(again.encode(TEXTS, convert_to_tensor=True), u)
    assert u.shape == (4, 8)
    found = PairHead.from_pretrained(tmp_path / "student" / "head")
    assert torch.equal(found(u, v), head(u, v))
    kept = DistilledSentenceEmbedding(PairHead(8), task="regression")
    fitted.loss.__class__(kept, again).load_objective(tmp_path / "run" / "checkpoint-4")
    assert torch.equal(kept.head(u, v), head(u, v))


def test_the_portable_form_needs_neither_kilter_nor_trust(folder: Path, tmp_path: Path) -> None:
    made = student(folder, None, projection=8)
    made.save_pretrained(str(tmp_path / "student"), create_model_card=False)
    kinds = [one["type"] for one in json.loads((tmp_path / "student" / "modules.json").read_text())]
    assert all(kind.startswith("sentence_transformers.") for kind in kinds)
    again = library.SentenceTransformer(str(tmp_path / "student"), device="cpu")
    expected = made.encode(TEXTS[0], convert_to_tensor=True)
    assert torch.equal(again.encode(TEXTS[0], convert_to_tensor=True), expected)
    tokens = made[0].tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        mean = made[0].auto_model(**tokens).last_hidden_state.mean(1)
        assert_close(made[-1].linear(mean)[0], expected, atol=1e-5, rtol=1e-5)


def test_what_is_no_such_model_is_said(folder: Path, own_messages: None) -> None:
    from kilter.hosts.layer_pooling import with_layer_pooling

    with pytest.raises(TypeError, match="must be a SentenceTransformer, got Identity"):
        with_layer_pooling(nn.Identity())
    with pytest.raises(ValueError, match="begins with Normalize, not with a transformer"):
        with_layer_pooling(library.SentenceTransformer(modules=[normalize()], device="cpu"))
    for options, name in (({"layers": 0}, "layers"), ({"projection": 0}, "projection"), ({"dropout": 2.0}, "dropout")):
        with pytest.raises(ValueError, match=name):
            student(folder, **options)
