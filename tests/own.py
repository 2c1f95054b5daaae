"""Models and recordings as users have them: tiny, random, saved to a folder with all that belongs to them."""

import json
from pathlib import Path

import numpy as np
import torch

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", "A", "B", "C", "D", "E", "F", "G")
RATE = 8000


def letter_model(folder: Path) -> Path:
    """A wav2vec2 of letters, a frame each 2 ms, as a hub model lies in a folder."""
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    from tests.hosts.tiny import QUIET, SIZES, WAVES

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(LETTERS)}))
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**SIZES, **QUIET, **WAVES | {"vocab_size": len(LETTERS)}))
    with torch.no_grad():
        model.lm_head.bias[1:4] = -100  # special tokens are not said
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=RATE, return_attention_mask=True).save_pretrained(folder)
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    return folder


def word_model(folder: Path, seed: int = 6) -> Path:
    """The small recogniser of whole words, untrained, but loud enough to say something."""
    from kilter.models.recogniser import Recogniser

    torch.manual_seed(seed)
    recogniser = Recogniser.small(("one", "two", "three"), "residual", RATE)
    with torch.no_grad():
        recogniser.model.lm_head.weight.mul_(4)
        recogniser.model.lm_head.bias[recogniser.tokenizer.unk_token_id] = -100
    recogniser.save(folder)
    return folder


def recordings(folder: Path, texts: dict[str, str], seconds: float = 1.0) -> Path:
    """A manifest of tones and noise in turn, each recording a little longer than the one before it."""
    import soundfile

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for place, (name, text) in enumerate(texts.items()):
        time = np.arange(int(RATE * (seconds + 0.1 * place))) / RATE
        pitch = rng.integers(1, 9, size=len(time))[(10 * time).astype(int)] * 400
        sound = np.sin(2 * np.pi * pitch * time) + 0.1 * rng.standard_normal(len(time))
        soundfile.write(folder / f"{name}.wav", 0.1 * sound, RATE)
        rows.append({"audio": f"{name}.wav", **({"text": text} if text else {})})
    manifest = folder / "mine.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest
