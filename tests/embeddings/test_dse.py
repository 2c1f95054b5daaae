"""Distillation of pair scores against the paper in plain loops, against its neighbours, and in its host's trainer."""

import math
from typing import Any

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.embeddings import DistilledSentenceEmbedding, PairHead, pair_distillation_loss
from tests.conformance.case import Case, Fixed

TASKS = ("binary", "multiclass", "regression")
OUTPUTS = {"binary": 1, "multiclass": 3, "regression": 1}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels_of(task: str, rows: int = 4) -> Tensor:
    """Of the kind that the task has."""
    generator = torch.Generator().manual_seed(7)
    if task == "regression":
        return 5 * torch.rand(rows, generator=generator, dtype=torch.float64)
    return torch.randint(2 if task == "binary" else 3, (rows,), generator=generator)


def inputs_of(task: str, columns: int | None = None) -> Any:
    def inputs(generator: torch.Generator) -> dict[str, Any]:
        u, v = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64).unbind()
        shape = (4, columns or OUTPUTS[task])
        teacher = torch.randn(shape, generator=generator, dtype=torch.float64)
        return {"u": u, "v": v, "teacher_logits": teacher, "labels": labels_of(task)}

    return inputs


def tensors(objective: DistilledSentenceEmbedding, inputs: dict[str, Any]) -> Fixed:
    """Teacher and labels come in several shapes; here in one."""

    def classes(
        u: Float[Tensor, "batch dim"],
        v: Float[Tensor, "batch dim"],
        teacher_logits: Float[Tensor, "batch outputs"],
        labels: Int[Tensor, " batch"],
    ) -> Tensor:
        return objective(u, v, teacher_logits, labels).loss

    def scores(
        u: Float[Tensor, "batch dim"],
        v: Float[Tensor, "batch dim"],
        teacher_logits: Float[Tensor, "batch outputs"],
        labels: Float[Tensor, " batch"],
    ) -> Tensor:
        return objective(u, v, teacher_logits, labels).loss

    return scores if objective.task == "regression" else classes, inputs


SKIP = {
    "padding_does_not_matter": "one vector per text: nothing is padded",
    "nan_in_the_padding_does_not_matter": "one vector per text: nothing is padded",
}


def built(task: Any, head: dict[str, Any] | None = None, **options: Any) -> Any:
    return lambda: DistilledSentenceEmbedding(
        PairHead(6, OUTPUTS[task], **{"hidden": 8, **(head or {})}), task=task, **options
    )


def cases() -> list[Case]:
    def case(task: str, label: str, columns: int | None = None, **how: Any) -> Case:
        return Case(built(task, **how), inputs_of(task, columns), tensors, SKIP, label)

    return [
        *(case(task, task) for task in TASKS),
        case("binary", "two logits", columns=2),
        case("multiclass", "symmetric", head={"symmetric": True}),
        case("regression", "dot", head={"features": "dot"}),
        case("binary", "labels alone", distill_weight=0),
        case("multiclass", "teacher alone", distill_weight=1),
    ]


ARGUMENTS = {
    **{name: lambda seed=seed: drawn(4, 128, seed=seed).float() for seed, name in enumerate(("u", "v"))},
    "head": lambda: PairHead(128, hidden=8),
    "logits outputs": lambda: drawn(4, 1).float(),
    "teacher_logits": lambda: drawn(4, 2).float(),
    "labels": lambda: torch.tensor([0, 1, 1, 0]),
}


def objective_of(task: Any, **options: Any) -> DistilledSentenceEmbedding:
    torch.manual_seed(0)
    return built(task, **options)()


def given_to(task: str, columns: int | None = None, seed: int = 0) -> dict[str, Any]:
    return inputs_of(task, columns)(torch.Generator().manual_seed(seed))


# 1 to 3 and 9: the loss ----------------------------------------------------------------------------------------------


def plain(y: Tensor, t: Tensor, labels: Tensor, task: str, alpha: float) -> float:
    """The loss of the paper and its release, row by row."""
    total = 0.0
    for row in range(len(y)):
        scores, wanted = y[row].tolist(), float(labels[row])
        teacher = t[row].tolist() if t.ndim == 2 else [float(t[row])]
        if task == "binary":
            p = 1 / (1 + math.exp(-scores[0]))
            told = -wanted * math.log(p) - (1 - wanted) * math.log(1 - p)
            teacher = [teacher[1] - teacher[0]] if len(teacher) == 2 else teacher
        elif task == "multiclass":
            told = math.log(sum(math.exp(score) for score in scores)) - scores[int(wanted)]
        else:
            told = (scores[0] - wanted) ** 2
        total += (1 - alpha) * told + alpha * sum((a - b) ** 2 for a, b in zip(scores, teacher, strict=True))
    return total / len(y)


@pytest.mark.parametrize("alpha", [0, 0.3, 0.5, 1])
@pytest.mark.parametrize(("task", "columns"), [*((task, None) for task in TASKS), ("binary", 2)])
def test_9_by_plain_loops(task: Any, columns: int | None, alpha: float) -> None:
    given, objective = given_to(task, columns), objective_of(task, distill_weight=alpha)
    y = objective.head(given["u"], given["v"])
    expected = plain(y, given["teacher_logits"], given["labels"], task, alpha)
    out = objective(**given)
    assert float(out.loss.detach()) == pytest.approx(expected, abs=1e-12)
    each = pair_distillation_loss(y, given["teacher_logits"], given["labels"], distill_weight=alpha, task=task)
    assert_close(each.mean(), out.loss)
    for row in range(4):
        one = plain(*(x[row : row + 1] for x in (y, given["teacher_logits"], given["labels"])), task, alpha)
        assert float(each[row].detach()) == pytest.approx(one, abs=1e-12)


def label_loss(y: Tensor, labels: Tensor, task: str) -> Tensor:
    if task == "binary":
        return F.binary_cross_entropy_with_logits(y[:, 0], labels.double())
    return F.cross_entropy(y, labels) if task == "multiclass" else F.mse_loss(y[:, 0], labels)


@pytest.mark.parametrize("task", TASKS)
def test_1_the_ends_and_all_between(task: Any) -> None:
    given = given_to(task)
    found = {alpha: objective_of(task, distill_weight=alpha)(**given) for alpha in (0, 0.25, 0.5, 0.75, 1)}
    losses = {alpha: out.loss for alpha, out in found.items()}
    assert_close(losses[0], label_loss(objective_of(task).head(given["u"], given["v"]), given["labels"], task))
    for alpha, loss in losses.items():
        assert_close(loss, (1 - alpha) * losses[0] + alpha * losses[1])
    assert [*found[0].parts] == ["dse_label"]
    assert [*found[1].parts] == ["dse_distill"]
    other = given | {"labels": labels_of(task).flip(0) if task == "regression" else 1 - labels_of(task).clamp(max=1)}
    assert not torch.equal(given["labels"], other["labels"])
    assert torch.equal(objective_of(task, distill_weight=1)(**other).loss, losses[1])
    assert torch.equal(objective_of(task, distill_weight=1)(**given | {"labels": None}).loss, losses[1])
    changed = given | {"teacher_logits": given["teacher_logits"] + 3}
    for teacher in (changed["teacher_logits"], None):
        assert torch.equal(objective_of(task, distill_weight=0)(**given | {"teacher_logits": teacher}).loss, losses[0])


def test_2_a_sum_over_classes_and_a_mean_over_rows() -> None:
    y = torch.tensor([[1.0, 0.0, -1.0], [2.0, 2.0, 0.5]])
    t = torch.tensor([[0.0, 0.5, 1.0], [2.0, 1.0, 0.0]])
    each = pair_distillation_loss(y, t, distill_weight=1, task="multiclass")
    assert_close(each, torch.tensor([1 + 0.25 + 4, 0 + 1 + 0.25]))
    assert_close(each.mean(), torch.tensor(3.25))
    assert_close(each.mean(), 3 * nn.MSELoss()(y, t))


def test_3_two_logits_are_their_difference() -> None:
    teacher = 4 * drawn(200, 2)
    y = teacher[:, 1:] - teacher[:, :1]
    assert_close(torch.sigmoid(y[:, 0]), teacher.softmax(1)[:, 1], atol=1e-12, rtol=0)
    labels = torch.arange(200) % 2
    as_one = pair_distillation_loss(y, None, labels, distill_weight=0)
    assert_close(as_one, F.cross_entropy(teacher, labels, reduction="none"), atol=1e-6, rtol=0)
    for shape in (teacher, y, y[:, 0]):
        assert not pair_distillation_loss(y, shape, labels, distill_weight=1).any()
    single = pair_distillation_loss(y.float(), None, labels, distill_weight=0)
    assert_close(single.double(), as_one, atol=1e-6, rtol=0)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_labels_and_teachers_in_every_shape(task: Any) -> None:
    given, objective = given_to(task), objective_of(task)
    expected = objective(**given).loss
    teacher, labels = given["teacher_logits"], given["labels"]
    for t in (teacher, teacher[:, 0]):
        for wanted in (labels, labels[:, None], labels.float(), labels.double()[:, None]):
            assert_close(objective(given["u"], given["v"], t, wanted).loss, expected, rtol=1e-6, atol=1e-6)


def test_a_very_sure_student_stays_finite() -> None:
    y = torch.tensor([[-200.0], [200.0]], requires_grad=True)
    loss = pair_distillation_loss(y, None, torch.tensor([1, 0]), distill_weight=0)
    assert_close(loss, torch.tensor([200.0, 200.0]))
    loss.sum().backward()
    assert y.grad is not None
    assert_close(y.grad, torch.tensor([[-1.0], [1.0]]))


def test_statistics_say_how_far_the_student_is_and_what_the_teacher_is_worth() -> None:
    given, objective = given_to("multiclass"), objective_of("multiclass")
    y, t = objective.head(given["u"], given["v"]).detach(), given["teacher_logits"]
    out = objective(**given)
    assert_close(out.stats["dse_distance"], (y - t).square().mean().sqrt())
    assert_close(out.stats["dse_teacher"], F.cross_entropy(t, given["labels"]))
    sure = 6 * F.one_hot(given["labels"], 3).double()
    right = objective(**given | {"teacher_logits": sure}).stats["dse_teacher"]
    wrong = objective(**given | {"teacher_logits": sure.roll(1, 1)}).stats["dse_teacher"]  # as of other rows
    assert right < 0.1 < math.log(3) < wrong


# Neighbours ----------------------------------------------------------------------------------------------------------


def linear_head(weight: Tensor, bias: Tensor, dim: int, features: Any = "concat") -> PairHead:
    """A head without a bend: relu(x) - relu(-x)."""
    outputs = len(bias)
    head = PairHead(dim, outputs, hidden=2 * outputs, features=features)
    with torch.no_grad():
        head.first.weight.copy_(torch.cat([weight, -weight]))
        head.first.bias.zero_()
        head.last.weight.copy_(torch.cat([torch.eye(outputs), -torch.eye(outputs)], 1))
        head.last.bias.copy_(bias)
    return head


def losses_of_the_library() -> Any:
    library = pytest.importorskip("sentence_transformers")
    try:
        from sentence_transformers.sentence_transformer import losses
    except ModuleNotFoundError:
        from sentence_transformers import losses
    return library, losses


def scalar(found: Any) -> Tensor:
    return sum(found.values()) if isinstance(found, dict) else found


@pytest.mark.host
def test_without_a_teacher_it_is_softmax_loss() -> None:
    """With all four features and a head without a bend."""
    library, losses = losses_of_the_library()
    model = library.SentenceTransformer(modules=[nn.Identity()], device="cpu")
    theirs = losses.SoftmaxLoss(model, 6, 3, concatenation_sent_multiplication=True)
    u, v = drawn(8, 6).float().requires_grad_(), drawn(8, 6, seed=1).float().requires_grad_()
    labels = labels_of("multiclass", 8)
    order = torch.tensor([0, 1, 3, 2])  # theirs are u, v, |u - v|, u * v
    weight = theirs.classifier.weight.detach().view(3, 4, 6)[:, order].reshape(3, 24)
    head = linear_head(weight, theirs.classifier.bias.detach(), 6)
    found = DistilledSentenceEmbedding(head, distill_weight=0, task="multiclass")(u, v, None, labels).loss
    expected = scalar(theirs([{"sentence_embedding": u}, {"sentence_embedding": v}], labels))
    assert_close(found, expected)
    assert_close(torch.autograd.grad(found, (u, v)), torch.autograd.grad(expected, (u, v)))


@pytest.mark.host
def test_of_the_product_alone_it_is_cosine_similarity_loss() -> None:
    library, losses = losses_of_the_library()
    model = library.SentenceTransformer(modules=[nn.Identity()], device="cpu")
    u, v = drawn(8, 6).float(), drawn(8, 6, seed=1).float()
    wanted = labels_of("regression", 8).float() / 5
    head = linear_head(torch.ones(1, 1), torch.zeros(1), 6, "dot")
    found = DistilledSentenceEmbedding(head, distill_weight=0, task="regression")(
        F.normalize(u, dim=1), F.normalize(v, dim=1), None, wanted
    )
    theirs = losses.CosineSimilarityLoss(model)
    assert_close(found.loss, scalar(theirs([{"sentence_embedding": u}, {"sentence_embedding": v}], wanted)))


# Bad input -----------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[str, Any, str]] = {
    "labels missing": ("binary", {"labels": None}, r"labels are needed, since distill_weight=0.5"),
    "teacher missing": ("binary", {"teacher_logits": None}, r"teacher_logits are needed, since distill_weight=0.5"),
    "teacher of other rows": ("binary", {"teacher_logits": drawn(5, 1)}, "5 rows, and there are 4 pairs.*beside"),
    "too few classes": ("multiclass", {"teacher_logits": drawn(4, 2)}, "has 2 columns, and a pair 3 scores"),
    "three logits": ("binary", {"teacher_logits": drawn(4, 3)}, "has 3 columns.*two columns, or their difference"),
    "two scores": ("regression", {"teacher_logits": drawn(4, 2)}, "has 2 columns"),
    "teacher NaN": ("binary", {"teacher_logits": drawn(4, 1).index_fill(0, torch.tensor(2), math.nan)}, "row 2: .*NaN"),
    "no class": ("multiclass", {"labels": torch.tensor([0, 1, 3, 2])}, "row 2: labels is 3.*classes 0 to 2"),
    "negative": ("binary", {"labels": torch.tensor([0, -1, 1, 1])}, "row 1: labels is -1.*0 and 1"),
    "half a class": ("multiclass", {"labels": torch.tensor([0, 0.5, 1, 1])}, "row 1: labels is 0.5"),
    "label NaN": ("regression", {"labels": torch.tensor([0, 1, 1, math.nan])}, "row 3: labels is NaN"),
    "labels of other rows": ("binary", {"labels": torch.tensor([0, 1])}, r"labels must have shape \(4,\)"),
    "booleans": ("binary", {"labels": torch.tensor([True] * 4)}, "labels must be a tensor of numbers"),
    "one vector less": ("binary", {"v": drawn(3, 6)}, "v must be shaped like u"),
    "another width": ("binary", {"u": drawn(4, 5), "v": drawn(4, 5)}, "u is 5 wide, this head was made for dim=6"),
}


@pytest.mark.parametrize("wrong", BAD)
def test_what_does_not_fit_is_said(wrong: str, own_messages: None) -> None:
    task, changed, message = BAD[wrong]
    with pytest.raises((TypeError, ValueError), match=message):
        objective_of(task)(**given_to(task) | changed)


@pytest.mark.parametrize(("task", "outputs"), [("binary", 2), ("regression", 3), ("multiclass", 1)])
def test_a_head_must_have_the_tasks_outputs(task: Any, outputs: int) -> None:
    with pytest.raises(ValueError, match=f"head has outputs={outputs}, the task {task}"):
        DistilledSentenceEmbedding(PairHead(6, outputs), task=task)
    with pytest.raises(ValueError, match=f"logits has {outputs} columns, the task {task}"):
        pair_distillation_loss(drawn(4, outputs), drawn(4, outputs), labels_of(task), task=task)


def test_a_head_must_be_one(own_messages: None) -> None:
    wrong: Any = nn.Linear(6, 1)
    with pytest.raises(TypeError, match="head must be a PairHead, got Linear"):
        DistilledSentenceEmbedding(wrong)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_probabilities_of_a_teacher_are_noticed_once(task: Any) -> None:
    objective = objective_of(task)
    u, v = drawn(8, 6), drawn(8, 6, seed=1)
    logits = drawn(8, OUTPUTS[task], seed=2)
    objective(u, v, logits, labels_of(task, 8))
    probabilities = logits.softmax(1) if task == "multiclass" else logits.sigmoid()
    objective.eval()(u, v, probabilities, labels_of(task, 8))
    with pytest.warns(UserWarning, match="look like probabilities; give logits"):
        objective.train()(u, v, probabilities, labels_of(task, 8))
    objective(u, v, probabilities, labels_of(task, 8))
