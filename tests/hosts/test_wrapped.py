"""A model that is compiled, distributed or wrapped by peft is looked through wherever its own attributes are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kilter.hosts.wrapped import unwrapped
from tests.decoding import encoders, tiny
from tests.hosts.tiny import Tiny
from tests.own import RATE, letter_model

pytestmark = [
    pytest.mark.host,
    pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`"),  # in the host's own code
]


class Adapted(nn.Module):
    """Like a `PeftModel`: the model stands in `base_model.model`, and attributes are handed on."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = model

    def get_base_model(self) -> nn.Module:
        return self.base_model.model

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_model").model, name)

    def forward(self, *given: Any, **named: Any) -> Any:
        return self.base_model.model(*given, **named)


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "compiled": compiled,
    "data parallel": nn.DataParallel,
    "adapted": Adapted,
    "all of them": lambda model: compiled(nn.DataParallel(Adapted(model))),
}


@pytest.mark.parametrize("how", WRAPPERS)
def test_the_model_inside_is_found(how: str) -> None:
    for inside in (nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)), tiny.model("gpt2")):
        assert unwrapped(WRAPPERS[how](inside)) is inside
        assert unwrapped(inside) is inside
    assert unwrapped(None) is None
    assert unwrapped(len) is len


@pytest.mark.parametrize("how", WRAPPERS)
def test_an_unconditional_model(how: str) -> None:
    from kilter.decoding import MMIBeamSearch

    model, other = tiny.model("llama", eos_bias=0.5), tiny.model("llama", eos_bias=-0.5)
    ask: Any = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 4, "do_sample": False}

    def found(unconditional: Any) -> Any:
        decoder = MMIBeamSearch(weight=0.5, unconditional=unconditional)
        return tiny.generate(model, tiny.prompt(model, 2), custom_generate=decoder, **ask)

    plain, wrapped = found(other), found(WRAPPERS[how](other))
    assert torch.equal(plain.sequences, wrapped.sequences)
    assert torch.equal(plain.sequences_scores, wrapped.sequences_scores)


@pytest.mark.parametrize("how", WRAPPERS)
def test_outputs_of_a_ctc_model(how: str, tmp_path: Path) -> None:
    from kilter.hosts.transformers import ctc_outputs

    spoken = Tiny(tmp_path)
    model = spoken("wav2vec2").eval()
    inputs = {"input_values": torch.stack([row["input_values"] for row in spoken.rows(count=2)])}
    log_probs, lengths = ctc_outputs(model, inputs)
    again = ctc_outputs(WRAPPERS[how](model), inputs)
    assert torch.equal(log_probs, again[0])
    assert torch.equal(lengths, again[1])
    assert "_loss_function" not in vars(model)


@pytest.mark.parametrize("how", WRAPPERS)
def test_a_recogniser_hears_and_saves_the_same(how: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from kilter.models.recogniser import Recogniser

    found = Recogniser.load(letter_model(tmp_path / "m"))
    audio = torch.randn(RATE, generator=torch.Generator().manual_seed(0)).numpy()
    before, *_ = found.outputs([{"audio": audio}])
    found.model.save_pretrained(tmp_path / "plain")
    wrapped = Recogniser(WRAPPERS[how](found.model), found.features, found.tokenizer)
    assert torch.equal(wrapped.outputs([{"audio": audio}])[0], before)
    wrapped.save(tmp_path / "saved")
    plain, saved = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "saved"))
    assert plain.keys() == saved.keys()


@pytest.mark.parametrize("how", WRAPPERS)
def test_an_objective_beside_the_loss(how: str, tmp_path: Path) -> None:
    from kilter.hosts.transformers import align_ctc
    from kilter.speech import AlignWithPurpose, LowLatency

    model = Tiny(tmp_path)("wav2vec2")
    handle = align_ctc(WRAPPERS[how](model), AlignWithPurpose(LowLatency()), weight=0.5)
    assert handle.model is model
    assert model.loss_function is handle
    handle.detach()


@pytest.mark.parametrize("how", WRAPPERS)
@pytest.mark.parametrize("kind", encoders.KINDS)
def test_a_ranker(how: str, kind: str, tmp_path: Path) -> None:
    from kilter.decoding import RankGenScorer

    plain = RankGenScorer(encoders.encoder(kind), encoders.tokenizer(kind)).eval()
    wrapped = RankGenScorer(WRAPPERS[how](plain.encoder), plain.tokenizer).eval()
    pairs = encoders.TEXTS[:2], encoders.TEXTS[2:]
    assert torch.equal(plain(*pairs), wrapped(*pairs))
    assert wrapped.prefix_tokens == plain.prefix_tokens
    wrapped.save_pretrained(tmp_path)
    assert torch.equal(RankGenScorer.from_pretrained(tmp_path)(*pairs), plain(*pairs))


@pytest.mark.parametrize("how", WRAPPERS)
def test_a_text_model(how: str) -> None:
    from kilter.models.text_decoding import decoding
    from kilter.models.text_model import TextModel, weights_digest
    from kilter.models.tiny_text import tiny_lm, tiny_tokenizer

    tokenizer = tiny_tokenizer(["the steam train went to town"])
    model = tiny_lm(tokenizer)
    texts = []
    for one in (model, WRAPPERS[how](model)):
        text = TextModel(one, tokenizer)
        options = {"num_beams": 3, "keep": 3, "length_penalty": 1.0}
        write = decoding(text, "beam", options, max_new_tokens=4)
        texts.append((write(text.encode(["the steam"]), [0]), weights_digest(text.model), text.positions))
    assert texts[0] == texts[1]


class Empty(nn.Module):
    """A scorer of one's own that is false: it has a length, as a vocabulary or a cache may have, of 0."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def __len__(self) -> int:
        return 0

    def forward(self, prefixes: Any, continuations: Any) -> list[float]:
        self.asked += len(prefixes)
        return [float(len(text)) for text in continuations]


def test_what_is_false_is_there_all_the_same(tmp_path: Path) -> None:
    from kilter.models.text_decoding import decoding
    from kilter.models.text_model import TextModel
    from kilter.models.tiny_text import tiny_lm, tiny_tokenizer

    tokenizer = tiny_tokenizer(["the steam train went to town"])
    text, scorer = TextModel(tiny_lm(tokenizer), tokenizer), Empty()
    options = {"n": 4, "keep": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
    write = decoding(text, "best-of", options, scorer=scorer, max_new_tokens=4)
    write(text.encode(["the steam"]), [0])
    assert scorer.asked == 4
