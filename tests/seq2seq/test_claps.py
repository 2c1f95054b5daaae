"""CLAPS as a whole: against NumPy, and on T5, BART and Marian against plain autograd, the leaks of the release too."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.seq2seq import ContrastivePerturbation, SentenceProjection, perturbed_contrast
from tests.conformance.case import ModelCase
from tests.hosts.pairs import FAMILIES, VOCABULARY, WIDTH, batch, model_of
from tests.seq2seq import plain_claps


def model_cases() -> list[ModelCase]:
    def drawn(generator: Generator) -> dict[str, Any]:
        return batch()

    return [
        ModelCase(lambda: made(), lambda: model_of("t5").eval(), drawn),
        ModelCase(lambda: made(compat="leak", kl_steps=2), lambda: model_of("bart").eval(), drawn, label="leak"),
        ModelCase(
            lambda: made(use_positive=False, relative=True), lambda: model_of("marian").eval(), drawn, "one term"
        ),
    ]


def made(seed: int = 3, **options: Any) -> ContrastivePerturbation:
    torch.manual_seed(seed)
    return ContrastivePerturbation(WIDTH, **options)


def vectors(rows: int = 5, seed: int = 0) -> list[Tensor]:
    draw = Generator().manual_seed(seed)
    return [torch.rand(rows, 6, generator=draw, dtype=torch.float64) for _ in range(4)]


class TestTheContrast:
    @pytest.mark.parametrize("batch_negatives", [True, False])
    @pytest.mark.parametrize("second", [None, 1.0])
    @pytest.mark.parametrize("have", ["", "i", "d", "id"])
    def test_7_it_is_numpys(self, have: str, second: float | None, batch_negatives: bool) -> None:
        x, y, wrong, far = vectors()
        given = wrong if "i" in have else None, far if "d" in have else None
        how = {"temperature": 0.1, "positive_temperature": second, "batch_negatives": batch_negatives}
        if not batch_negatives and "i" not in have:
            with pytest.raises(ValueError, match="batch_negatives=False without imposter leaves nothing to push away"):
                perturbed_contrast(x, y, *given, **how)
            return
        as_numpy = [None if one is None else one.numpy() for one in (x, y, *given)]
        expected = plain_claps.in_numpy(*as_numpy, 0.1, second or 0.1, batch_negatives)
        assert float(perturbed_contrast(x, y, *given, **how)) == pytest.approx(expected, abs=1e-6)

    def test_by_hand(self) -> None:
        x, far = torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        e = math.e
        one, two = math.log(1 + 2 / e), math.log(1 + 2)  # its own at 1 or 0, the other and the imposter at 0
        assert float(perturbed_contrast(x, x, far, temperature=1.0)) == pytest.approx(one)
        assert float(perturbed_contrast(x, x, far, far, temperature=1.0)) == pytest.approx((one + two) / 2)

    def test_6_a_batch_of_one(self) -> None:
        x, y, wrong, far = vectors(1)
        assert perturbed_contrast(x, y) == perturbed_contrast(x, y, None, far) == 0
        cos = [float(F.cosine_similarity(x, other)) / 0.1 for other in (y, wrong)]
        expected = math.log(math.exp(cos[0]) + math.exp(cos[1])) - cos[0]
        assert float(perturbed_contrast(x, y, wrong)) == pytest.approx(expected)
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(perturbed_contrast(leaf, y), leaf)
        assert not gradient.any()

    @pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
    def test_1_an_imposter_that_is_the_target_costs_log_2_at_least(self, scale: float) -> None:
        x, y, _, _ = vectors()
        assert perturbed_contrast(scale * x, y, y) >= math.log(2)
        assert_close(perturbed_contrast(x, y, y, y), perturbed_contrast(x, y, y))

    def test_gradients_are_derivatives(self) -> None:
        leaves = [one.requires_grad_() for one in vectors(3)]
        assert torch.autograd.gradcheck(lambda *given: perturbed_contrast(*given, temperature=0.5), leaves)

    def test_a_vector_of_nothing_has_no_gradient(self) -> None:
        x, y, wrong, far = vectors()
        leaves = [one.requires_grad_() for one in (x.index_fill(0, torch.tensor([2]), 0), y * 0, wrong, far)]
        loss = perturbed_contrast(*leaves)
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, leaves))

    def test_of_no_pairs_it_is_0(self) -> None:
        none = torch.zeros(0, 4)
        assert perturbed_contrast(none, none, none, none) == 0


def plain_hidden(model: Any, family: str, given: dict[str, Tensor]) -> tuple[Any, Tensor, Any]:
    """The model's output, what enters its output layer, and how that becomes logits, as its source says."""
    out = model(**given, output_hidden_states=True)
    hidden = out.decoder_hidden_states[-1]
    if family == "t5" and getattr(model.config, "scale_decoder_outputs", model.config.tie_word_embeddings):
        hidden = hidden * model.config.d_model**-0.5
    bias = 0 if family == "t5" else model.final_logits_bias
    return out, hidden, lambda states: model.lm_head(states) + bias


@pytest.fixture(params=[(family, tied) for family in FAMILIES for tied in (True, False)], ids=str)
def kind(request: pytest.FixtureRequest) -> tuple[str, bool]:
    return request.param


def gradients(*modules: nn.Module) -> Iterator[Tensor | None]:
    for module in modules:
        for one in module.parameters():
            yield one.grad


def double(family: str, tied: bool) -> Any:
    return model_of(family, tie_word_embeddings=tied).double()


@pytest.mark.host
class TestWithModels:
    @pytest.mark.parametrize("compat", [None, "official", "leak"])
    def test_4_5_7_8_it_is_plain_autograds(self, kind: tuple[str, bool], compat: Any) -> None:
        """Value and every gradient; `leak` is what backward calls within the forward pass leave."""
        model, objective, given = double(*kind), made(compat=compat).double(), batch()
        leaves = [*model.parameters(), *objective.parameters()]
        out = objective(model, **given)
        assert all(one.grad is None for one in leaves)
        out.loss.backward()
        found = [None if one is None else one.clone() for one in gradients(model, objective)]
        model.zero_grad()
        objective.zero_grad()

        whole, hidden, output = plain_hidden(model, kind[0], given)
        states = whole.encoder_last_hidden_state
        mask = given["attention_mask"].bool()
        how = {"second_tau": 1.0 if compat else 0.1}
        plain = plain_claps.claps(states, hidden, mask, given["labels"], output, objective.projection, **how)
        assert_close(out.parts["nll"], whole.loss)
        assert_close(out.parts["contrast"], plain.contrast, atol=1e-8, rtol=1e-6)
        if compat == "leak":
            (plain.infonce + plain.divergence).backward()
        (whole.loss + plain.contrast).backward()
        for one, other in zip(found, gradients(model, objective), strict=True):
            if other is None:
                assert one is None or not one.any()
            else:
                assert_close(one, other, atol=1e-8, rtol=1e-5)

    def test_4_what_is_made_teaches_the_decoder_nothing(self, kind: tuple[str, bool]) -> None:
        """Without the true target in it, the contrast has a gradient for sources and projection alone."""
        from kilter.hosts.seq2seq_states import output_states

        model, given = double(*kind), batch()
        found = output_states(model, **given)
        hidden = found.target_states.detach().requires_grad_()
        source = found.source_states.detach().requires_grad_()
        objective = made().double()
        inside = objective._perturb(
            objective.projection(source, None), hidden, given["labels"], given["labels"] != -100, found.head
        )
        assert not any(one.requires_grad for one in inside if one is not None)

    @pytest.mark.parametrize("options", [{}, {"kl_steps": 3, "kl_step": 0.2, "relative": True, "negative_step": 0.1}])
    def test_the_way_by_the_matrix_is_the_way_by_autograd(self, kind: tuple[str, bool], options: Any) -> None:
        from kilter.hosts.seq2seq_states import output_states

        model, objective, given = double(*kind), made(**options).double(), batch()
        states = output_states(model, **given)
        rest = {"source_mask": states.source_mask}
        first = (states.source_states, states.target_states, given["labels"])
        fast = objective.from_states(*first, states.head, **rest)
        slow = objective.from_states(*first, lambda h: states.head(h), **rest)
        assert_close(fast.loss, slow.loss)
        assert fast.stats.keys() == slow.stats.keys()
        assert_close(dict(fast.stats), dict(slow.stats))

    def test_the_loss_is_the_sum_of_the_attached_one(self, kind: tuple[str, bool]) -> None:
        from kilter.hosts.transformers import align_seq2seq

        given, objective = batch(), made(weight=0.3)
        alone = objective(model_of(kind[0], tie_word_embeddings=kind[1]), **given)
        model = model_of(kind[0], tie_word_embeddings=kind[1])
        align_seq2seq(model, objective)
        assert_close(model(**given).loss, alone.loss)

    def test_6_weight_0_is_the_likelihood(self, kind: tuple[str, bool]) -> None:
        found = []
        for weight in (None, 0.0):
            model = model_of(kind[0], tie_word_embeddings=kind[1])
            loss = model(**batch()).loss if weight is None else made(weight=weight)(model, **batch()).loss
            loss.backward()
            found.append([loss, *gradients(model)])
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(*found, strict=True))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, None])
    def test_8_in_mixed_precision_it_is_near(self, kind: tuple[str, bool], dtype: torch.dtype | None) -> None:
        model, objective, given = model_of(kind[0], tie_word_embeddings=kind[1]), made(), batch()
        exact = objective(model, **given)
        if dtype is None:
            with torch.autocast("cpu", torch.bfloat16):
                found = objective(model, **given)
        else:
            found = objective(model.to(dtype), **given)
        assert found.parts["contrast"].dtype == torch.float32
        assert_close(found.loss.float(), exact.loss, atol=0.1, rtol=0.1)
        found.loss.backward()
        assert all(one is None or one.isfinite().all() for one in gradients(model, objective))

    @pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable")  # its new name is younger than the floor
    def test_8_gradient_checkpointing_and_accumulation_change_nothing(self, kind: tuple[str, bool]) -> None:
        found = []
        for checkpointing in (False, True):
            model, objective = double(*kind), made().double()
            if checkpointing:
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            once = []
            for weight in (1.0, 0.5, 0.5):  # a step of one batch, then one of two equal ones of half the weight
                (weight * objective(model, **batch()).loss).backward()
                if weight == 1:
                    once = [None if one is None else one.clone() for one in gradients(model, objective)]
                    model.zero_grad()
                    objective.zero_grad()
            for one, other in zip(once, gradients(model, objective), strict=True):
                assert_close(one, other) if one is not None else None
            found.append(once)
        for one, other in zip(*found, strict=True):
            assert one is other is None or torch.allclose(one, other)

    def test_without_gradients_it_is_the_same(self, kind: tuple[str, bool]) -> None:
        model, objective = double(*kind).eval(), made().double()
        found = objective(model, **batch())
        with torch.no_grad():
            quiet = objective(model, **batch())
        assert_close(quiet.loss, found.loss.detach())
        assert not quiet.loss.requires_grad

    def test_wrong_models_and_batches_are_named(self) -> None:
        import transformers as hf

        given = batch()
        with pytest.raises(ValueError, match="labels: the batch has none"):
            made()(model_of("t5"), input_ids=given["input_ids"], decoder_input_ids=given["input_ids"])
        with pytest.raises(ValueError, match="is 8 wide and width is 9"):
            ContrastivePerturbation(9)(model_of("t5"), **given)
        config = hf.GPT2Config(vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=1, n_head=2)
        with pytest.raises(TypeError, match="GPT2LMHeadModel, a causal model"):
            made()(hf.GPT2LMHeadModel(config), **given)
        ignored = given["labels"].index_fill(0, torch.tensor([1]), -100)
        with pytest.raises(ValueError, match="row 1: labels are all -100"):
            made()(model_of("bart"), **given | {"labels": ignored})


def pairs(rows: int = 4, *, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """States of sources and targets without a model, with padding in both."""
    draw = Generator().manual_seed(2)
    labels = torch.randint(0, 11, (rows, 5), generator=draw)
    labels[0, 3:] = -100
    torch.manual_seed(4)
    return {
        "source_states": torch.randn(rows, 7, WIDTH, generator=draw, dtype=dtype),
        "target_states": torch.randn(rows, 5, WIDTH, generator=draw, dtype=dtype),
        "labels": labels,
        "output": nn.Linear(WIDTH, 11, dtype=dtype),
        "source_mask": torch.arange(7) < torch.tensor([[7], [4], [6], [5]])[:rows],
    }


class TestStates:
    def test_4_its_gradient_is_the_derivative_where_what_is_made_stays(self) -> None:
        """Without steps nothing that counts as constant depends on what is differentiated."""
        given, objective = pairs(2), made(negative_step=0.0, positive_step=0.0, temperature=0.5).double()
        source, hidden = given.pop("source_states"), given.pop("target_states")

        def loss(source: Tensor) -> Tensor:
            return objective.from_states(source, hidden, **given).loss

        assert torch.autograd.gradcheck(loss, source.requires_grad_())
        matrix = objective.projection.linear.weight
        (slope,) = torch.autograd.grad(loss(source), matrix)
        way = torch.randn(matrix.shape, generator=Generator().manual_seed(0), dtype=matrix.dtype)
        with torch.no_grad():
            matrix += 1e-6 * way
            above = loss(source)
            matrix -= 2e-6 * way
            assert_close((above - loss(source)) / 2e-6, (slope * way).sum(), rtol=1e-5, atol=1e-8)

    @pytest.mark.parametrize("compat", [None, "leak"])
    def test_6_padding_does_not_matter(self, compat: Any) -> None:
        given, objective = pairs(), made(compat=compat).double()
        found = []
        for value, more in ((0.0, 0), (math.nan, 3)):
            source = given["source_states"].masked_fill(~given["source_mask"][..., None], value)
            hidden = given["target_states"].masked_fill((given["labels"] == -100)[..., None], value)
            longer = {
                **given,
                "source_states": F.pad(source, (0, 0, 0, more), value=value).requires_grad_(),
                "target_states": F.pad(hidden, (0, 0, 0, more), value=value).requires_grad_(),
                "labels": F.pad(given["labels"], (0, more), value=-100),
                "source_mask": F.pad(given["source_mask"], (0, more)),
            }
            leaves = [longer["source_states"], longer["target_states"], *objective.parameters()]
            out = objective.from_states(**longer)
            slopes = torch.autograd.grad(out.loss, leaves)
            found.append([out.loss, dict(out.stats), slopes[0][:, :7], slopes[1][:, :5], *slopes[2:]])
        assert_close(found[1], found[0])

    def test_6_the_order_of_the_pairs_does_not_matter(self) -> None:
        given, objective, pick = pairs(), made().double(), [2, 0, 3, 1]
        other = {name: one[pick] if isinstance(one, Tensor) else one for name, one in given.items()}
        assert_close(objective.from_states(**other).loss, objective.from_states(**given).loss)

    def test_the_same_text_twice_is_no_negative(self) -> None:
        given = pairs()
        given["labels"][2] = given["labels"][1]
        off = {"use_positive": False, "negative_step": 0.0}
        objective = made(**off).double()
        found = objective.from_states(**given).loss
        x, y = (
            objective.projection(given[name], mask)
            for name, mask in (
                ("source_states", given["source_mask"]),
                ("target_states", given["labels"] != -100),
            )
        )
        scores = F.cosine_similarity(x[:, None], y[None], dim=-1) / 0.1
        kept = scores.clone()
        kept[1, 2] = kept[2, 1] = -math.inf
        for these, options in ((kept, {}), (scores, {"skip_duplicates": False}), (scores, {"compat": "official"})):
            wanted = F.cross_entropy(torch.cat([these, scores.diagonal()[:, None]], 1), torch.arange(4))
            assert_close(made(**off, **options).double().from_states(**given).loss, wanted)
        assert found < made(**off, skip_duplicates=False).double().from_states(**given).loss

    def test_switches_leave_out_what_they_say(self) -> None:
        given = pairs()
        plain = dict(made().double().from_states(**given).stats)
        assert {name for name in plain if "imposter" in name or "distant" in name or "kl" in name} == {
            *("claps_imposter_cosine", "claps_distant_cosine"),
            *("claps_kl_moved", "claps_kl_corrected"),
        }
        assert "claps_imposter_cosine" not in made(use_negative=False).double().from_states(**given).stats
        assert set(made(use_positive=False).double().from_states(**given).stats) == {
            *("claps_cosine", "claps_imposter_cosine", "claps_state_length")
        }
        alone = made(use_batch_negatives=False).double()
        one = {name: value[:1] if isinstance(value, Tensor) else value for name, value in given.items()}
        assert_close(
            made(use_positive=False, use_batch_negatives=False).double().from_states(**one).loss,
            made(use_positive=False).double().from_states(**one).loss,
        )
        assert alone.from_states(**given).loss < made().double().from_states(**given).loss

    def test_weight_scales_all_of_it(self) -> None:
        given = pairs()
        for compat in (None, "leak"):
            whole, half = (made(compat=compat, weight=weight).double() for weight in (1.0, 0.5))
            outs = [one.from_states(**given).loss for one in (whole, half)]
            assert_close(outs[1], outs[0] / 2)
            slopes = [
                torch.autograd.grad(out, [*one.parameters()]) for out, one in zip(outs, (whole, half), strict=True)
            ]
            assert_close([2 * one for one in slopes[1]], list(slopes[0]))

    def test_a_leak_has_no_value(self) -> None:
        given = pairs()
        leak, official = (made(compat=compat).double() for compat in ("leak", "official"))
        assert torch.equal(leak.from_states(**given).loss, official.from_states(**given).loss)
        slopes = []
        for objective in (leak, official):
            parameters = [*objective.parameters(), *given["output"].parameters()]
            loss = objective.from_states(**given).loss
            slopes.append(torch.autograd.grad(loss, parameters, allow_unused=True))
        assert slopes[1][2] is None
        assert slopes[0][2].any()
        assert not torch.allclose(slopes[0][0], slopes[1][0])

    def test_the_divergences_told_are_those_there_are(self) -> None:
        given, objective = pairs(), made().double()
        mask, output = given["labels"] != -100, given["output"]
        source = objective.projection(given["source_states"], given["source_mask"])
        moved, _, far = objective._perturb(source, given["target_states"], given["labels"], mask, output)
        stats = objective.from_states(**given).stats
        own = output(given["target_states"]).log_softmax(-1)[mask]
        for name, states in (("claps_kl_moved", moved), ("claps_kl_corrected", far)):
            other = output(states).log_softmax(-1)[mask]
            assert_close(stats[name], F.kl_div(other, own, log_target=True, reduction="sum") / mask.sum())
        lengths = given["target_states"][mask].norm(dim=-1)
        assert_close(stats["claps_state_length"], lengths.mean())

    def test_nothing_of_a_batch_of_none(self) -> None:
        none = {name: one[:0] if isinstance(one, Tensor) else one for name, one in pairs().items()}
        out = made(compat="leak").double().from_states(**none)
        assert out.loss == 0
        assert all(stat == 0 for stat in out.stats.values())

    def test_its_only_parameters_are_the_projections(self) -> None:
        objective = made()
        assert isinstance(objective.projection, SentenceProjection)
        assert [tuple(one.shape) for one in objective.parameters()] == [(WIDTH, WIDTH), (WIDTH,)]


@pytest.mark.usefixtures("own_messages")
class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "error", "said"),
        [
            ({"labels": torch.ones(4, 5)}, TypeError, "labels must hold token ids, got torch.float32"),
            ({"labels": torch.ones(4, 5).bool()}, TypeError, "labels must hold token ids, got torch.bool"),
            ({"labels": torch.ones(4, 6).long()}, ValueError, "labels must be shaped like the tokens of target_states"),
            ({"labels": torch.full((4, 5), 11)}, ValueError, "row 0: labels holds 11, outside the vocabulary 0..10"),
            ({"labels": torch.full((4, 5), -100)}, ValueError, "row 0: labels are all -100"),
            ({"source_states": torch.ones(4, 7, 9)}, ValueError, "source_states is 9 wide and width is 8"),
            ({"target_states": torch.ones(4, 5, 9)}, ValueError, "target_states is 9 wide and width is 8"),
            ({"target_states": torch.ones(4, 5)}, ValueError, "target_states must be (batch, tokens, dim)"),
            ({"target_states": torch.ones(4, 5, 8).long()}, TypeError, "target_states must be floating point"),
            ({"source_states": torch.ones(3, 7, 8)}, ValueError, "source_states has 3 rows, target_states 4"),
            ({"source_mask": torch.ones(4, 7)}, TypeError, "source_mask must be boolean"),
            ({"source_mask": torch.ones(4, 6).bool()}, ValueError, "source_mask must be shaped like source_states"),
            ({"source_mask": torch.zeros(4, 7).bool()}, ValueError, "row 0: source_mask is False at every token"),
            ({"source_states": torch.full((4, 7, 8), math.nan)}, ValueError, "row 0: source_states is NaN"),
            ({"target_states": torch.full((4, 5, 8), math.inf)}, ValueError, "row 0: target_states is infinite"),
            ({"output": nn.Linear(7, 11)}, ValueError, "output takes states 7 wide"),
            ({"output": None}, TypeError, "output must be an nn.Linear or a function from states to logits"),
        ],
        ids=str,
    )
    def test_states(self, change: dict[str, Any], error: type[Exception], said: str) -> None:
        import re

        with pytest.raises(error, match=re.escape(said)):
            made().from_states(**{**pairs(dtype=torch.float32), **change})

    @pytest.mark.parametrize("name", ["temperature", "positive_temperature"])
    @pytest.mark.parametrize("value", [0, -0.1, math.nan, math.inf])
    def test_temperatures(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=f"{name} must be positive and finite"):
            ContrastivePerturbation(4, **{name: value})

    @pytest.mark.parametrize("name", ["negative_step", "positive_step", "kl_step", "kl_steps", "weight"])
    def test_no_option_is_negative(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} must be at least 0"):
            ContrastivePerturbation(4, **{name: -1})
        with pytest.raises((ValueError, TypeError), match=f"{name} must be"):
            ContrastivePerturbation(4, **{name: math.nan})

    def test_nothing_to_push_away(self) -> None:
        with pytest.raises(ValueError, match="leaves nothing to push away"):
            ContrastivePerturbation(4, use_negative=False, use_batch_negatives=False)

    def test_compat(self) -> None:
        with pytest.raises(ValueError, match="compat must be one of official, leak, got 'other'"):
            ContrastivePerturbation(4, compat="other")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"positive_temperature=0\.1 is not what compat='leak' has"):
            ContrastivePerturbation(4, compat="leak", positive_temperature=0.1)
