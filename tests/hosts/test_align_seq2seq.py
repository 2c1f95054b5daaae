"""An objective attached to a stock encoder–decoder, in loops of one's own: what it adds, hides and gives back."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kilter.core import LossOutput
from kilter.core.objective import ModelObjective
from tests.hosts.pairs import FAMILIES, VOCABULARY, Nearer, batch, model_of

pytestmark = pytest.mark.host


def attach(model: Any, objective: Any = None, **options: Any) -> Any:
    from kilter.hosts.transformers import align_seq2seq

    return align_seq2seq(model, Nearer() if objective is None else objective, **options)


def gradients(*modules: nn.Module) -> dict[str, torch.Tensor]:
    named = [(f"{i}.{name}", one) for i, module in enumerate(modules) for name, one in module.named_parameters()]
    return {name: one.grad.clone() for name, one in named if one.grad is not None and "kilter" not in name}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_and_its_gradients_are_those_of_calling_the_objective(family: str, tied: bool) -> None:
    given, objective = batch(), Nearer(weight=0.5)
    plain = model_of(family, tie_word_embeddings=tied)
    wanted = objective(plain, **given)
    wanted.loss.backward()
    by_hand = gradients(plain, objective)
    objective.zero_grad(set_to_none=True)
    model = model_of(family, tie_word_embeddings=tied)
    attach(model, objective)
    out = model(given["input_ids"], given["attention_mask"], labels=given["labels"])  # by place and by name
    assert torch.equal(out.loss, wanted.loss)
    assert out.loss != wanted.parts["nll"]
    assert out["loss"] is out.loss
    assert out[0] is out.loss
    out.loss.backward()
    found = gradients(model, objective)
    assert found.keys() == by_hand.keys()
    assert {"1.project.weight", "1.project.bias"} < found.keys()
    for name, gradient in by_hand.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable")  # its new name is younger than the floor
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_changes_nothing(family: str, reentrant: bool) -> None:
    found = []
    for checkpointing in (False, True):
        model, objective = model_of(family), Nearer()
        torch.manual_seed(1)
        objective.project.reset_parameters()
        attach(model, objective)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        model(**batch()).loss.backward()
        found.append(gradients(model, objective))
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_autocast_and_bfloat16_stay_near(family: str) -> None:
    objective, given = Nearer(), batch()
    losses = []
    for how in ("float32", "autocast", "bfloat16"):
        model = model_of(family)
        handle = attach(model.bfloat16() if how == "bfloat16" else model, objective)
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
            loss = model(**given).loss
        loss.backward()
        assert all(one.isfinite().all() for one in gradients(model, objective).values())
        losses.append(loss.item())
        handle.detach()
    assert losses == pytest.approx([losses[0]] * 3, rel=0.03)


def test_evaluation_and_generation_are_the_model_s_own(tmp_path: Path) -> None:
    model, given = model_of("bart"), batch()
    own = model.eval()(**given).loss
    written = model.generate(given["input_ids"], max_new_tokens=4)
    handle = attach(model)
    assert torch.equal(model(**given).loss, own)
    assert torch.equal(model.generate(given["input_ids"], max_new_tokens=4), written)
    model.train().generate(given["input_ids"], max_new_tokens=4)  # no labels, and no graph that would need them
    handle.detach()
    attach(model, in_eval=True)
    assert model.eval()(**given).loss > own


@pytest.mark.parametrize("family", FAMILIES)
def test_the_saved_model_is_plain(family: str, tmp_path: Path) -> None:
    from safetensors import safe_open

    model = model_of(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.save_pretrained(tmp_path / "before")
    handle = attach(model)
    assert model.state_dict().keys() == before.keys()
    assert not model.load_state_dict(before).missing_keys
    model.save_pretrained(tmp_path / "attached")
    names = []
    for folder in ("before", "attached"):
        with safe_open(tmp_path / folder / "model.safetensors", "pt") as file:
            names.append(sorted(file.keys()))
    assert names[0] == names[1]
    assert sum(name.startswith("kilter_objective.") for name, _ in model.named_parameters()) == 2
    with pytest.raises(RuntimeError, match=r"Missing key.*shared"):  # others are missed as ever
        model.load_state_dict({name: value for name, value in before.items() if "shared" not in name})
    handle.detach()


@pytest.mark.parametrize("own", [None, True])
def test_detaching_gives_the_model_back(own: bool | None) -> None:
    model, given = model_of("t5"), batch()
    if own is not None:
        model.accepts_loss_kwargs = own
    loss, kept = model(**given).loss, {**model.__dict__}
    children = [name for name, _ in model.named_children()]
    handle = attach(model)
    assert model.accepts_loss_kwargs is False
    handle.detach()
    assert torch.equal(model(**given).loss, loss)
    assert model.__dict__.keys() == kept.keys()
    assert model.__dict__.get("accepts_loss_kwargs") is own
    assert [name for name, _ in model.named_children()] == children
    hooks = ("_forward_hooks", "_forward_hooks_with_kwargs", "_state_dict_hooks", "_load_state_dict_post_hooks")
    assert not any(getattr(model, name) for name in hooks)
    assert not model.get_output_embeddings()._forward_pre_hooks
    with pytest.raises(ValueError, match="not attached"):
        handle.detach()
    attach(model)


def test_weight_zero_is_the_model_s_own_loss() -> None:
    model, given = model_of("marian"), batch()
    loss, objective = model(**given).loss, Nearer(weight=0.0)
    attach(model, objective)
    out = model(**given)
    assert torch.equal(out.loss, loss)
    out.loss.backward()
    assert objective.project.weight.grad is None


class Stateless(ModelObjective):
    """Has no `from_states`."""

    def forward(self, model: nn.Module, **batch: Any) -> LossOutput:
        return LossOutput(model(**batch).loss)


def test_what_cannot_be_attached_is_named(own_messages: Any) -> None:
    import transformers as hf

    from kilter.speech import PeakFirst

    model = model_of("t5")
    causal = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(TypeError, match=r"encoder-decoder .* got GPT2LMHeadModel, a causal model"):
        attach(causal)
    with pytest.raises(TypeError, match=r"got the class Nearer; give one made from it, Nearer\(…\)"):
        attach(model, Nearer)
    with pytest.raises(TypeError, match="got PeakFirst, an Objective of tensors"):
        attach(model, PeakFirst(weight=1.0))
    with pytest.raises(TypeError, match=r"ModelObjective with from_states.* got Stateless"):
        attach(model, Stateless())
    with pytest.raises(TypeError, match="got str"):
        attach(model, "claps")
    with pytest.raises(ValueError, match=r"width=6 of Nearer does not fit T5.* are 8 wide"):
        attach(model, Nearer(6))
    attach(model)
    with pytest.raises(ValueError, match=r"attached already; call its handle's detach\(\)"):
        attach(model)


@pytest.mark.parametrize("name", ["start", "ramp"])
@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (0.5, TypeError), (True, TypeError), (None, TypeError)])
def test_steps_are_whole_numbers(own_messages: Any, name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        attach(model_of("t5"), **{name: value})


def test_batches_that_it_cannot_use_are_named(own_messages: Any) -> None:
    model, given = model_of("t5"), batch()
    handle = attach(model)
    ids, labels = given["input_ids"], given["labels"]
    with pytest.raises(ValueError, match="labels: this batch in training has none"):
        model(input_ids=ids, decoder_input_ids=labels.clamp(min=0))
    with pytest.raises(ValueError, match="return_dict must be True"):
        model(**given, return_dict=False)
    with pytest.raises(RuntimeError, match="built before align_seq2seq"):
        model(**given, num_items_in_batch=torch.tensor(20))
    handle.detach()
    attach(model, start=3)
    with pytest.raises(RuntimeError, match=r"trainer.add_callback\(handle\)"):
        model(**given)


def test_wrapped_models_are_looked_through() -> None:
    model, given = model_of("t5"), batch()
    objective = Nearer()
    attach(nn.DataParallel(model), objective)
    wanted = objective(model_of("t5"), **given).loss
    assert torch.equal(model(**given).loss, wanted)
    with pytest.raises(RuntimeError, match="or it is a copy: call align_seq2seq on that"):
        copy.deepcopy(model)(**given)
    replica = object.__new__(type(model))  # what nn.DataParallel runs on each of several devices
    replica.__dict__ = model.__dict__.copy()
    with pytest.raises(RuntimeError, match=r"nn\.DataParallel"):
        replica(**given)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # which peft calls by its old name
@pytest.mark.parametrize("layers", [["q", "v"], "all-linear"])
def test_a_model_of_peft_made_afterwards_is_said(layers: Any) -> None:
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=layers)
    model, given = model_of("t5"), batch()
    attach(model)
    late = peft.get_peft_model(model, settings)
    with pytest.raises(RuntimeError, match=r"Nearer were frozen after align_seq2seq.* call get_peft_model first"):
        late(**given)
    wrapped, objective = peft.get_peft_model(model_of("t5"), settings), Nearer()
    attach(wrapped, objective)
    wrapped(**given).loss.backward()
    assert objective.project.weight.grad is not None


def test_what_is_frozen_on_purpose_stays_so() -> None:
    model, objective = model_of("t5"), Nearer()
    objective.requires_grad_(False)
    attach(model, objective)
    model(**batch()).loss.backward()
    assert objective.project.weight.grad is None
