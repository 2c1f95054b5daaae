"""Every public decoder keeps to the contract; new ones are found in the families' `__all__` and need a row.

The row of `kilter.models.decoders` says with which options a decoder is made and asked for, so no test is written.
"""

import importlib
import inspect
import pickle
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from kilter.core import Decoder
from kilter.models import decoders
from kilter.models.decoders import DECODERS, OPTIONS, Row
from kilter.recipes import every
from tests.conformance.case import FAMILIES
from tests.decoding import tiny

pytestmark = pytest.mark.host

FOUND: dict[str, type[Decoder]] = {
    f"{family}.{name}": thing
    for family in FAMILIES
    for name in getattr(importlib.import_module(f"kilter.{family}"), "__all__", ())
    if inspect.isclass(thing := getattr(importlib.import_module(f"kilter.{family}"), name))
    and issubclass(thing, Decoder)
    and not inspect.isabstract(thing)
}
MODELS = ("gpt2", "t5")
NEW = 6

each = pytest.mark.parametrize("where", FOUND)
on_each_model = pytest.mark.parametrize("name", MODELS)


def row(where: str) -> Row:
    """The first row of the decoder: of the table, or one that a recipe makes."""
    rows = [row for row in (*DECODERS.values(), *brought()) if row.method == where.rpartition(".")[2]]
    assert rows, f"{where} has no row, neither in kilter.models.decoders nor in a recipe: no arm knows it"
    return rows[0]


def brought() -> Iterator[Row]:
    """The rows of the arms that recipes bring."""
    for recipe in every():
        for term in recipe().brings().values():
            decoder = term.make(term.usual or next(iter(term.grid), None)).decoder
            if isinstance(made := getattr(decoder, "row", None), Row):
                yield made


def called(options: dict[str, Any]) -> dict[str, Any]:
    return decoders.called({name: value for name, value in options.items() if value is not None})


def build(where: str, **more: Any) -> Decoder:
    own = dict(row(where).own)
    given = called(own | ({"scorer": "log_prob"} if "scorer" in own else {}))
    return FOUND[where](
        **{name: min(value, 6) if type(value) is int else value for name, value in given.items()} | more
    )


def asked(where: str, several: bool = True) -> dict[str, Any]:
    """Arguments of `generate`, as the row has them; all texts, or one."""
    found = called({name: value for name, value in row(where).asked.items() if name != "keep"})
    if row(where).samples:
        found |= {"do_sample": True}
    count = build(where).config()["beams" if row(where).counted == "beams" else "n"] if row(where).samples else 6
    return found | {"num_return_sequences": count if several else 1, "max_new_tokens": NEW}


def run(where: str, model: Any, inputs: dict[str, Tensor], decoder: Decoder | None = None, **more: Any) -> Any:
    torch.manual_seed(0)
    decoder = decoder or build(where)
    return tiny.generate(model, inputs, **{"custom_generate": decoder} | asked(where) | more)


def same(found: Any, expected: Any, start: int, other_start: int | None = None) -> None:
    """The same new tokens, scores up to rounding."""
    new, old = found.sequences[:, start:], expected.sequences[:, start if other_start is None else other_start :]
    width = min(new.shape[1], old.shape[1])
    assert torch.equal(new[:, :width], old[:, :width])
    assert ((new[:, width:] == tiny.PAD) | (new[:, width:] == tiny.EOS)).all()
    torch.testing.assert_close(found.sequences_scores, expected.sequences_scores, atol=1e-4, rtol=0)
    assert torch.equal(found.group_indices, expected.group_indices)


def test_decoders_are_found() -> None:
    assert {"decoding.DiverseBeamSearch", "decoding.RankGenSearch"} <= set(FOUND)


@each
def test_generate_reads_its_signature(where: str) -> None:
    """As transformers does: what is no argument of its own search goes to the decoder, the rest to the model."""
    parameters = inspect.signature(build(where)).parameters
    usual = ("model", "input_ids", "logits_processor", "stopping_criteria", "generation_config", "inputs_tensor")
    assert [*parameters] == [*usual, *FOUND[where].asks, "model_kwargs"]
    assert parameters["model_kwargs"].kind is inspect.Parameter.VAR_KEYWORD
    for name in FOUND[where].asks:
        assert parameters[name].default is None, "an argument that is not given must be told from one that is"


@each
@on_each_model
def test_it_returns_what_generate_should(where: str, name: str) -> None:
    model = tiny.model(name, eos_bias=1.0)
    inputs = tiny.prompt(model, 2, ragged=True)
    found, start = run(where, model, inputs), tiny.said_before(model, inputs)
    rows = 2 * asked(where)["num_return_sequences"]
    assert found.sequences.dtype == torch.int64
    assert len(found.sequences) == rows
    assert start < found.sequences.shape[1] <= start + NEW
    if not model.config.is_encoder_decoder:
        prompts = inputs["input_ids"].repeat_interleave(rows // 2, 0)
        assert torch.equal(found.sequences[:, :start], prompts)
    for field, dtype in (
        ("sequences_scores", torch.float32),
        ("sequences_log_probs", torch.float32),
        ("group_indices", torch.int64),
    ):
        assert found[field].shape == (rows,)
        assert found[field].dtype == dtype
    assert (found.ranker_scores is not None) == ("scorer" in row(where).own)
    assert (found.sequences_log_probs <= 0).all()
    torch.manual_seed(0)
    plain = model.generate(**inputs, custom_generate=build(where), **asked(where))
    assert torch.equal(plain, found.sequences)


@each
def test_the_best_come_first(where: str) -> None:
    model = tiny.model("gpt2", eos_bias=1.0)
    inputs = tiny.prompt(model, 2, ragged=True)
    found, one = run(where, model, inputs), run(where, model, inputs, num_return_sequences=1)
    scores = found.sequences_scores.view(2, -1)
    assert torch.equal(scores, scores.sort(-1, descending=True)[0])
    assert torch.equal(one.sequences_scores, scores[:, 0])


@each
@on_each_model
def test_a_batch_is_its_inputs_one_by_one(where: str, name: str) -> None:
    model = tiny.model(name, eos_bias=1.0)
    inputs = tiny.prompt(model, 3, ragged=True)
    together, each = run(where, model, inputs), asked(where)["num_return_sequences"]
    for i in range(3):
        one = tiny.alone(model, inputs, i)
        found = run(where, model, one)
        mine = type(together)(**{k: v[i * each : (i + 1) * each] for k, v in together.items()})
        same(mine, found, tiny.said_before(model, inputs), tiny.said_before(model, one))


@each
@on_each_model
def test_more_padding_does_not_matter(where: str, name: str) -> None:
    """On the left where the model goes on from the prompt, on the right where it reads it."""
    model = tiny.model(name, eos_bias=1.0)
    inputs = tiny.prompt(model, 2, ragged=True)
    side = (0, 3) if model.config.is_encoder_decoder else (3, 0)
    values = {"input_ids": tiny.PAD, "attention_mask": 0}
    wider = {key: torch.nn.functional.pad(value, side, value=values[key]) for key, value in inputs.items()}
    found, expected = run(where, model, wider), run(where, model, inputs)
    same(found, expected, tiny.said_before(model, wider), tiny.said_before(model, inputs))


@each
def test_chance_comes_from_the_generator(where: str) -> None:
    """The global stream is not touched where a generator is given, nor where nothing is drawn."""
    model = tiny.model("gpt2")
    inputs = tiny.prompt(model, 2)
    takes_one = "generator" in inspect.signature(FOUND[where]).parameters
    assert takes_one or not row(where).samples, "what is drawn at random takes a generator"

    def drawn(seed: int) -> Any:
        decoder = build(where, **({"generator": Generator().manual_seed(seed)} if takes_one else {}))
        torch.manual_seed(1)
        before = torch.get_rng_state()
        found = tiny.generate(model, inputs, custom_generate=decoder, **asked(where))
        assert torch.equal(torch.get_rng_state(), before), "the global random stream was moved"
        return found

    first, again, other = drawn(3), drawn(3), drawn(4)
    assert torch.equal(first.sequences, again.sequences)
    assert torch.equal(first.sequences_scores, again.sequences_scores)
    assert takes_one != torch.equal(first.sequences_scores, other.sequences_scores)


@each
def test_what_is_given_stays_as_it_was(where: str) -> None:
    model = tiny.model("gpt2")
    inputs, decoder = tiny.prompt(model, 2, ragged=True), build(where)
    before, settings, config = deepcopy(inputs), deepcopy(decoder.config()), model.generation_config.to_dict()
    run(where, model, inputs, decoder)
    assert all(torch.equal(inputs[name], value) for name, value in before.items())
    assert decoder.config() == settings
    assert model.generation_config.to_dict() == config


@each
def test_it_is_its_settings(where: str) -> None:
    """The printed form evaluates, the settings rebuild it, a pickled copy finds the same."""
    model = tiny.model("gpt2")
    inputs, decoder = tiny.prompt(model, 1), build(where)
    expected = run(where, model, inputs, decoder)
    family = importlib.import_module(f"kilter.{where.partition('.')[0]}")
    for other in (
        eval(repr(decoder), dict(vars(family))),
        type(decoder)(**decoder.config()),
        pickle.loads(pickle.dumps(decoder)),
    ):
        assert other.config() == decoder.config()
        assert repr(other) == repr(decoder)
        assert torch.equal(run(where, model, inputs, other).sequences, expected.sequences)


@each
def test_outputs_that_are_not_kept_are_said(where: str) -> None:
    model = tiny.model("gpt2")
    inputs = tiny.prompt(model, 1)
    for name in ("output_attentions", "output_hidden_states", "output_logits"):
        with pytest.raises(ValueError, match=f"{name}=True: .* run the model on the sequences"):
            run(where, model, inputs, **{name: True})
    with pytest.warns(UserWarning, match=r"output_scores=True: .* leave it out, or run the model on the sequences"):
        run(where, model, inputs, output_scores=True)


@each
def test_it_explains_itself(where: str) -> None:
    text = FOUND[where].__doc__ or ""
    missing = [mark for mark in ("custom_generate", "Args:", "Example:", ">>>") if mark not in text]
    assert not missing, f"the docstring lacks {missing}"
    for name in inspect.signature(FOUND[where]).parameters:
        assert f"{name}: " in text or f" {name}," in text, f"the docstring does not say what {name} is"


def test_every_row_is_a_decoder() -> None:
    methods = {where.rpartition(".")[2]: thing for where, thing in FOUND.items()}
    for name, row in DECODERS.items():
        assert row.method in methods, name
        constructor = inspect.signature(methods[row.method]).parameters
        assert {OPTIONS[option].called or option for option in row.own} <= set(constructor), name
        assert row.counted in row.options, name


def test_choices_are_those_of_the_method() -> None:
    """The table names them again, since importing the method would load torch."""
    from typing import get_args

    from kilter.decoding.beam_search import Order
    from kilter.decoding.diverse_beam_search import Diversity

    assert get_args(OPTIONS["diversity"].kind) == get_args(Diversity)
    assert get_args(OPTIONS["order"].kind) == get_args(Order)
