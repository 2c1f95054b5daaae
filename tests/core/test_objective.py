"""The objective contract by itself."""

from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor, nn

import kilter.core
from kilter.core import LossOutput, ModelObjective, Objective
from kilter.core.objective import check_objective


class Doubled(Objective):
    """A least objective."""

    def __init__(self, layer: nn.Module, *, weight: float = 2.0, name: str = "x") -> None:
        super().__init__()
        self.layer, self.weight, self.name = layer, weight, name

    def forward(self, log_probs: Tensor, generator: torch.Generator | None = None) -> LossOutput:
        loss = self.weight * self.layer(log_probs).sum()
        return LossOutput(loss, {"doubled": loss})


class Regularised(ModelObjective):
    """A least objective that is given the model."""

    def __init__(self, weight: float = 0.5) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, model: nn.Module, **batch: Tensor) -> LossOutput:
        fit, small = model(**batch).square().mean(), sum(self.weight * one.square().sum() for one in model.parameters())
        return LossOutput(fit + small, {"fit": fit, "small": torch.as_tensor(small)})


def test_inputs_are_read_off_the_signature() -> None:
    assert Objective.inputs == ()
    assert Doubled.inputs == ("log_probs", "generator")


def test_it_is_a_module_with_its_parameters() -> None:
    objective = Doubled(nn.Linear(3, 1))
    assert [name for name, _ in objective.named_parameters()] == ["layer.weight", "layer.bias"]
    objective(torch.ones(2, 3)).loss.backward()
    assert objective.layer.weight.grad is not None


def test_config_and_printed_form() -> None:
    objective = Doubled(nn.Identity(), weight=3.0)
    assert objective.config() == {"layer": objective.layer, "weight": 3.0, "name": "x"}
    assert "weight=3.0, name='x'" in repr(objective)
    assert type(objective)(**objective.config())(torch.ones(1, 2)).loss.item() == 6.0


def test_forward_must_be_written() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Objective()  # ty: ignore


def test_one_that_is_given_the_model() -> None:
    objective = Regularised(weight=2.0)
    assert repr(objective) == "Regularised(weight=2.0)"
    out = objective(nn.Linear(2, 1), input=torch.ones(3, 2))
    assert torch.equal(out.loss, sum(out.parts.values()))
    assert type(objective)(**objective.config()).weight == 2.0
    with pytest.raises(TypeError, match="abstract"):
        ModelObjective()  # ty: ignore


def test_output_is_frozen_with_empty_parts() -> None:
    out = LossOutput(torch.tensor(1.0))
    assert out.parts == out.stats == {}
    with pytest.raises(FrozenInstanceError):
        out.loss = torch.tensor(2.0)  # ty: ignore


def test_what_is_no_objective_is_told_where_it_belongs() -> None:
    check_objective(Doubled(nn.Identity()))
    for other, said in [
        (
            lambda alignments: alignments,
            r"the property <lambda>; give an objective that has it, AlignWithPurpose\(prop",
        ),
        (Doubled, r"the class Doubled; give one made from it, Doubled\(…\)"),
        (Regularised(), r"Regularised, which needs the model: use align_seq2seq\(model, objective\)"),
        (Regularised, r"the class Regularised; give one made from it, Regularised\(…\)"),
        (nn.Linear(1, 1), "Linear$"),
        (torch.clone, "builtin_function_or_method"),
        (None, "NoneType"),
    ]:
        with pytest.raises(TypeError, match=f"objective must be a kilter Objective, got {said}"):
            check_objective(other)


def test_names_resolve_lazily() -> None:
    assert {name: getattr(kilter.core, name).__name__ for name in kilter.core.__all__} == {
        name: name for name in ("Claim", "Decoder", "LossOutput", "ModelObjective", "Objective", "Paper")
    }
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        kilter.core.Nothing  # noqa: B018
