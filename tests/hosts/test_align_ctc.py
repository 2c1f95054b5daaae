"""The handle alone: what it adds to the loss of a saved and re-loaded model, and that it leaves nothing behind."""

import copy
import pickle
import runpy
from typing import Any

import pytest
import torch

from kilter.core import LossOutput, Objective
from kilter.speech import AlignWithPurpose, LowLatency, MinimumWER

pytestmark = [
    pytest.mark.host,
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning"),  # WavLM's own
]

FAMILIES = ("wav2vec2", "hubert", "wavlm", "parakeet", "small")


def attach(model: Any, objective: Any = None, *, weight: float = 2.0, **options: Any) -> Any:
    from kilter.hosts.transformers import align_ctc

    blank = model.config.pad_token_id
    return align_ctc(model, objective or AlignWithPurpose(LowLatency(blank=blank)), weight=weight, **options)


def loss_and_gradient(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(3)
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class Spy(Objective):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def config(self) -> dict[str, Any]:
        return {}

    def forward(self, log_probs: Any, input_lengths: Any, targets: Any, target_lengths: Any) -> LossOutput:
        self.seen.append(
            {"log_probs": log_probs, "lengths": input_lengths, "targets": targets, "target_lengths": target_lengths}
        )
        part = -log_probs.mean()
        return LossOutput(part, {"spied": part})


def identity(alignments: torch.Tensor) -> torch.Tensor:
    return alignments


@pytest.mark.parametrize("family", FAMILIES)
def test_without_weight_samples_or_edits_it_is_ctc_to_the_last_bit(tiny, family):
    batch = tiny.batch(family)
    loss, gradient = loss_and_gradient(tiny(family), batch)
    for objective, weight in (
        (AlignWithPurpose(identity), 0.0),
        (AlignWithPurpose(identity), 1.0),
        (AlignWithPurpose(identity, samples=0), 1.0),
    ):
        model = tiny(family)
        attach(model, objective, weight=weight)
        new_loss, new_gradient = loss_and_gradient(model, batch)
        assert torch.equal(loss, new_loss)
        assert gradient.keys() == new_gradient.keys()
        assert all(torch.equal(gradient[name], new_gradient[name]) for name in gradient)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_raw_loop(tiny, family, reduction):
    """`loss = ctc + weight * awp(log_probs, input_lengths).loss`, times the batch size when CTC is summed."""
    from kilter.hosts.transformers import ctc_outputs

    batch, weight = tiny.batch(family), 2.0
    raw = tiny(family, ctc_loss_reduction=reduction)
    awp = AlignWithPurpose(LowLatency(blank=raw.config.pad_token_id))
    input_lengths = ctc_outputs(raw, {name: value for name, value in batch.items() if name != "labels"})[1]
    torch.manual_seed(3)
    out = raw(**batch)
    term = awp(out.logits.log_softmax(-1), input_lengths).loss
    assert term > 0
    loss = out.loss + weight * term * (8 if reduction == "sum" else 1)
    loss.backward()

    model = tiny(family, ctc_loss_reduction=reduction)
    attach(model, awp, weight=weight)
    new_loss, gradient = loss_and_gradient(model, batch)
    assert torch.equal(loss, new_loss)
    for name in gradient:
        torch.testing.assert_close(gradient[name], raw.get_parameter(name).grad)


def test_the_term_is_left_out_of_evaluation_unless_wanted(tiny):
    batch, model = tiny.batch(), tiny()
    plain = model.eval()(**batch).loss
    handle = attach(model)
    assert torch.equal(model(**batch).loss, plain)
    handle.detach()
    attach(model, in_eval=True)
    assert model(**batch).loss > plain


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_objective_in_the_place_of_ctc(tiny, reduction):
    """Bayes-Risk CTC at risk 0 is CTC, so nothing but rounding tells the two apart; half of it is half a loss."""
    from kilter.speech import BayesRiskCTC

    batch = tiny.batch()
    plain = tiny(ctc_loss_reduction=reduction)
    torch.manual_seed(3)
    out = plain(**batch)
    losses = {}
    for weight, share in ((1.0, 0.0), (0.5, 0.5)):
        model = tiny(ctc_loss_reduction=reduction)
        attach(model, BayesRiskCTC(risk=0.0), weight=weight, ctc_weight=share)
        losses[weight], _ = loss_and_gradient(model, batch)
    expected = out.loss.detach()
    if reduction == "mean":  # torch's mean is divided by each target's length, ours is not
        summed = tiny(ctc_loss_reduction="sum")
        torch.manual_seed(3)
        expected = summed(**batch).loss.detach() / 8
    torch.testing.assert_close(losses[1.0], expected)
    torch.testing.assert_close(losses[0.5], (expected + out.loss.detach()) / 2)


def test_with_zero_infinity_what_does_not_fit_adds_nothing(tiny):
    from kilter.speech import BayesRiskCTC

    batch = tiny.batch()
    batch["labels"] = torch.cat([batch["labels"], torch.full((8, 90), -100)], 1)
    batch["labels"][0] = 3  # far more tokens than frames
    plain = tiny(ctc_loss_reduction="sum", ctc_zero_infinity=True)
    torch.manual_seed(3)
    expected = plain(**batch).loss.detach()
    model = tiny(ctc_loss_reduction="sum", ctc_zero_infinity=True)
    attach(model, BayesRiskCTC(risk=0.0), weight=1.0, ctc_weight=0.0)
    loss, gradient = loss_and_gradient(model, batch)
    torch.testing.assert_close(loss, expected)
    assert all(value.isfinite().all() for value in gradient.values())


def test_weight_0_asks_for_nothing(tiny):
    spy, model = Spy(), tiny()
    attach(model, spy, weight=0.0, ctc_weight=0.5)
    assert model(**tiny.batch()).loss > 0
    assert not spy.seen


def test_an_infinite_ctc_loss_is_left_out_with_weight_0(tiny):
    """0 times infinity is no number."""
    model, batch = tiny(ctc_zero_infinity=False), tiny.batch()
    spy = Spy()
    handle = attach(model, spy, weight=1.0, ctc_weight=0.0)
    handle._ctc = lambda **given: given["logits"].sum() * torch.inf
    assert model(**batch).loss.isfinite()


def test_detach_gives_the_model_back(tiny):
    model = tiny()
    before = dict(model.__dict__)
    handle = attach(model)
    assert model.__dict__ != before
    handle.detach()
    assert model.__dict__ == before
    with pytest.raises(ValueError, match="not attached"):
        handle.detach()

    def own(**_: Any) -> torch.Tensor:
        return torch.zeros(())

    model.loss_function, model.accepts_loss_kwargs = own, True
    attach(model).detach()
    assert model.loss_function is own
    assert model.accepts_loss_kwargs is True


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_as_if_nothing_had_happened(tiny, family, tmp_path):
    plain, model = tiny(family), tiny(family)
    attach(model)
    plain.save_pretrained(tmp_path / "plain")
    model.save_pretrained(tmp_path / "attached")
    files = {
        kind: {file.name: file.read_bytes() for file in (tmp_path / kind).iterdir()} for kind in ("plain", "attached")
    }
    assert files["plain"] == files["attached"]
    assert plain.state_dict().keys() == model.state_dict().keys()
    loaded = type(model).from_pretrained(tmp_path / "attached")
    assert loaded.__dict__.keys() == plain.__dict__.keys()


def test_a_copy_has_a_handle_of_its_own(tiny):
    batch, model = tiny.batch("small"), tiny("small")  # of the others, the weight norm cannot be pickled
    attach(model)
    loss, _ = loss_and_gradient(model, batch)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        model.eval()
        assert torch.equal(loss, loss_and_gradient(twin, batch)[0])
        twin.loss_function.detach()
        assert not torch.equal(loss, loss_and_gradient(twin, batch)[0])
        model.train()
        assert torch.equal(loss, loss_and_gradient(model, batch)[0])


def test_activation_checkpointing_runs_the_objective_once(tiny):
    batch = tiny.batch()
    losses, gradients, calls = [], [], []
    for checkpointing in (False, True):
        model, spy = tiny(), Spy()
        if checkpointing:
            (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()
        attach(model, spy)
        loss, gradient = loss_and_gradient(model, batch)
        losses.append(loss)
        gradients.append(gradient)
        calls.append(len(spy.seen))
    assert losses[0] == losses[1]
    assert calls == [1, 1]
    for name in gradients[0]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name])


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_the_term_is_computed_in_float32(tiny, family):
    batch = tiny.batch(family)
    model, spy = tiny(family), Spy()
    loss, _ = loss_and_gradient(model, batch)
    attach(model, spy, weight=1.0)
    full, _ = loss_and_gradient(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, gradient = loss_and_gradient(model, batch)
    assert [seen["log_probs"].dtype for seen in spy.seen] == [torch.float32] * 2
    assert full > loss
    assert torch.isclose(full, mixed, rtol=0.03)
    assert all(g.isfinite().all() for g in gradient.values())


def test_a_model_held_in_bfloat16(tiny):
    batch, spy = tiny.batch(), Spy()
    model = tiny(dtype=torch.bfloat16)
    attach(model, spy)
    loss, _ = loss_and_gradient(model, batch | {"input_values": batch["input_values"].bfloat16()})
    assert loss.isfinite()
    assert spy.seen[0]["log_probs"].dtype == torch.float32


@pytest.mark.filterwarnings("ignore::UserWarning")  # what Dynamo says about transformers' code
@pytest.mark.parametrize("family", ["wav2vec2", pytest.param("small", marks=pytest.mark.compile)])
def test_compiled_model_has_the_same_loss(tiny, family):
    batch, model = tiny.batch(family), tiny(family)
    attach(model)
    loss, gradient = loss_and_gradient(model, batch)
    model.zero_grad()
    compiled = torch.compile(model, backend="aot_eager")
    torch.manual_seed(3)
    new = compiled(**batch).loss
    new.backward()
    assert torch.equal(loss, new)
    for name in gradient:
        torch.testing.assert_close(gradient[name], model.get_parameter(name).grad)
    torch._dynamo.reset()


# What the objective is given --------------------------------------------------------------------------------


def test_labels_reach_the_objective_left_aligned_wherever_the_padding_is(tiny):
    model, spy = tiny("parakeet"), Spy()
    attach(model, spy)
    batch = tiny.batch("parakeet", 3)
    blank = model.config.pad_token_id
    batch["labels"] = torch.tensor([[-100, 1, -100, 2], [1, 2, -100, -100], [blank, 1, blank, 2]])
    model(**batch)
    assert spy.seen[0]["target_lengths"].tolist() == [2, 2, 2]
    assert spy.seen[0]["targets"][:, :2].tolist() == [[1, 2]] * 3
    assert spy.seen[0]["lengths"].tolist() == [20, 18, 16]


def test_labels_are_decoded_with_the_vocabulary_of_the_property(tiny):
    heard: list[list[str]] = []

    class Listening(MinimumWER):
        def __call__(self, alignments: Any, input_lengths: Any, references: Any = None, generator: Any = None) -> Any:
            heard.append(references)
            return super().__call__(alignments, input_lengths, references, generator)

    batch = tiny.batch(count=2) | {"labels": torch.tensor([[1, 2, 3, 1], [2, -100, -100, 0]])}
    model = tiny()
    attach(model, AlignWithPurpose(Listening(["", "a", "b", " ", *"cdefghij"][: tiny.vocab])))
    assert model(**batch).loss.isfinite()
    assert heard == [["ab a", "b"]]


def test_the_blank_is_the_models(tiny):
    model = tiny("parakeet")
    with pytest.raises(ValueError, match=r"blank=0.*11"):
        attach(model, AlignWithPurpose(LowLatency()))
    objective = AlignWithPurpose(identity)
    assert attach(model, objective).objective.blank == 11
    assert objective.blank == 0


# Bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_that_need_more_frames_than_there_are(tiny, family):
    batch = tiny.batch(family, 2)
    batch["labels"] = torch.cat([batch["labels"], torch.full((2, 30), -100)], 1)
    batch["labels"][1] = 1 + torch.arange(33) % 2
    model = tiny(family, ctc_zero_infinity=False)
    attach(model)
    with pytest.raises(ValueError, match=r"utterance 1: .* frames.* leave the utterance out"):
        model(**batch)
    model = tiny(family, ctc_zero_infinity=True)
    attach(model)
    assert model(**batch).loss.isfinite()


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("family", ["parakeet", "small"])  # the others look themselves, and name no utterance
def test_labels_outside_the_vocabulary(tiny, family, zero_infinity):
    batch, model = tiny.batch(family, 2), tiny(family, ctc_zero_infinity=zero_infinity)
    attach(model)
    for wrong in (tiny.vocab, -1):
        batch["labels"][1, 1] = wrong
        with pytest.raises(ValueError, match=rf"utterance 1: target 1 is {wrong}, outside the vocabulary 0..11; check"):
            model(**batch)


class Learnt(Spy):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"weight": -1.0}, ValueError, "weight"),
        ({"weight": float("nan")}, ValueError, "weight"),
        ({"ctc_weight": -1.0}, ValueError, "ctc_weight"),
        ({"weight": 0.0, "ctc_weight": 0.0}, ValueError, "ctc_weight"),
        ({"schedule": "step"}, ValueError, "constant, linear, cosine"),
        ({"start": 0.5}, TypeError, "epoch=0.5"),
        ({"objective": LowLatency()}, TypeError, "Objective"),
        ({"objective": Learnt()}, ValueError, "parameters"),
    ],
)
def test_options_that_cannot_be(tiny, own_messages, options, error, words):
    model = tiny()
    with pytest.raises(error, match=words):
        attach(model, **options)
    assert "_loss_function" not in model.__dict__


@pytest.mark.parametrize("given", [{}, {"step": 1, "epoch": 1.0}, {"step": -1}, {"word_success": 85.0}])
def test_start_is_exactly_one_rule(given):
    from kilter.hosts.transformers import Start

    with pytest.raises(ValueError, match="exactly one of step, epoch, or word_success"):
        Start(**given)


def test_only_ctc_models_are_taken_and_one_objective_each(tiny, own_messages):
    from transformers import PreTrainedModel, Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2ForSequenceClassification

    from kilter.hosts.transformers import align_ctc

    model = tiny()

    class DeafForCTC(PreTrainedModel):  # computes its CTC loss itself
        config_class = Wav2Vec2Config
        _supports_sdpa = True

        def forward(self) -> None: ...

    for other in (
        Wav2Vec2ForSequenceClassification(model.config),
        DeafForCTC(model.config),
        torch.nn.Sequential(model),
        None,
    ):
        with pytest.raises(TypeError, match="ForCTC model whose forward calls self"):
            align_ctc(other, AlignWithPurpose(identity), weight=1.0)
    with pytest.raises(
        TypeError, match=r"got the property LowLatency; give an objective that has it, AlignWithPurpose"
    ):
        align_ctc(model, LowLatency(), weight=1.0)  # type: ignore[arg-type]

    class Mine(Wav2Vec2ForCTC):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs)

    attach(Mine(model.config))
    attach(model)
    with pytest.raises(ValueError, match="attached already"):
        attach(model)


@pytest.mark.parametrize("options", [{"start": 3}, {"schedule": "linear"}])
def test_start_and_schedule_without_the_callback(tiny, options):
    model = tiny()
    attach(model, **options)
    with pytest.raises(RuntimeError, match=r"trainer\.add_callback\(handle\)"):
        model(**tiny.batch())
    assert model.eval()(**tiny.batch()).loss.isfinite()


def test_an_older_transformers_is_refused(monkeypatch):
    import transformers

    import kilter.hosts.transformers as host

    monkeypatch.setattr(transformers, "__version__", "5.20.2")
    with pytest.raises(ImportError, match=r"needs transformers 5\.21 or newer, found 5\.20\.2: pip install"):
        runpy.run_path(host.__file__)
