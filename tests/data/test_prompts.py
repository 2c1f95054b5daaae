"""Prompts in letters: what is unsure is left out, folds share no sentence, strings are repeatable."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kilter.data.assets import cache_dir
from kilter.data.prompts import (
    FOLDS,
    GAP,
    LEAD,
    LETTERS,
    RATE,
    TAIL,
    Prompt,
    Prompts,
    PromptStrings,
    load_prompts,
    spelled,
)

TEXTS = ("one", "two words", "now three words", "alpha", "bravo", "charlie", "delta", "echo")


def prompts(copies: int = 2) -> list[Prompt]:
    """Prompts that can be told apart by their (constant) samples, each sentence recorded more than once."""
    return [
        Prompt(f"en/{place}-{copy}.wav", text, np.full(3000 + 100 * place, 0.1 * (place + 5), dtype=np.float32))
        for place, text in enumerate(TEXTS)
        for copy in range(copies)
    ]


@pytest.mark.parametrize(
    ("text", "language", "letters"),
    [
        ("Press 1 -- it\u2019s quick!", "en", "press one it's quick"),
        ("Re-enter your PIN.", "en", None),
        ("¿Qué número marcó?", "es", "que numero marco"),
        ("Tapez 2, s'il vous plaît", "fr", "tapez deux s'il vous plait"),
        ("Dial 500", "en", None),
        ("3D audio", "en", None),
        ("press # to exit", "en", None),
        ("M I S D N", "en", None),
        ("...", "en", None),
    ],
)
def test_texts_are_spelled_or_refused(text, language, letters):
    assert spelled(text, language) == letters


def test_folds_share_no_sentence_and_lose_none():
    every = prompts()
    held_out = [{row["text"] for row in Prompts(every, fold=fold)} for fold in range(FOLDS)]
    assert sorted(text for texts in held_out for text in texts) == sorted(TEXTS)
    assert sum(len(Prompts(every, fold=fold)) for fold in range(FOLDS)) == len(every)
    for fold in range(FOLDS):
        heard = {item["text"] for item in PromptStrings(every, count=60, seed=0, fold=fold, seconds=0.1)}
        assert heard == set(TEXTS) - held_out[fold]


def test_a_string_is_prompts_with_silence_around_them():
    every = prompts()
    item = PromptStrings(every, count=9, seed=3, fold=0, seconds=1.0)[7]
    audio = item["audio"]
    assert audio.dtype == np.float32
    loud = np.abs(audio) > 0.035  # the noise is below, the softest prompt above
    assert RATE <= loud.sum() < 2 * RATE
    assert LEAD[0] <= loud.argmax() < LEAD[1]
    assert loud[::-1].argmax() == TAIL
    edges = np.flatnonzero(np.diff(loud.astype(int)))
    gaps = edges[2:-1:2] - edges[1:-2:2]
    assert len(edges) >= 4
    assert ((gaps >= GAP[0]) & (gaps < GAP[1])).all()


def test_items_depend_on_seed_fold_and_index_alone():
    one, other = (PromptStrings(rows, count=n, seed=5, fold=1) for rows, n in ((prompts(), 4), (prompts(), 9)))
    np.testing.assert_array_equal(one[3]["audio"], other[3]["audio"])
    assert len({item["text"] for item in one}) > 1
    assert one[0]["text"] != PromptStrings(prompts(), count=1, seed=6, fold=1)[0]["text"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fold": 5}, "fold must be between 0 and 4, got 5"),
        ({"seed": -1}, "seed=-1"),
        ({"prompts": []}, "prompts: none is outside fold 0"),
    ],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        PromptStrings(**({"prompts": prompts(), "count": 1, "seed": 0, "fold": 0} | wrong))


def test_an_index_outside_raises_index_error():
    strings = PromptStrings(prompts(), count=2, seed=0, fold=0)
    assert len(strings) == 2
    for index in (2, -1):
        with pytest.raises(IndexError):
            strings[index]


def test_prompts_are_read_trimmed_and_in_order(tmp_path):
    rows = [("en", "b", "Two words."), ("en", "a", "One"), ("es", "c", "Uno"), ("en", "d", "X"), ("en", "e", "Long")]
    for language, name, _ in rows:
        (tmp_path / language).mkdir(exist_ok=True)
        samples = np.concatenate([np.zeros(RATE), np.full(17 * RATE if name == "e" else RATE, 0.5), np.zeros(RATE)])
        soundfile.write(tmp_path / language / f"{name}.wav", samples, RATE)
    lines = [json.dumps({"audio": f"{lang}/{name}.wav", "text": text, "language": lang}) for lang, name, text in rows]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines) + "\n", "utf-8")

    found = load_prompts(tmp_path, "en")
    assert [(prompt.name, prompt.text) for prompt in found] == [("en/a.wav", "one"), ("en/b.wav", "two words")]
    assert all(len(prompt.samples) < 1.1 * RATE for prompt in found)
    with pytest.raises(ValueError, match="has no prompts in 'it'; try `kilter fetch asterisk-prompts`"):
        load_prompts(tmp_path, "it")
    with pytest.raises(ValueError, match="prompts are spelled in en, es, fr, it, not in 'ru'"):
        load_prompts(tmp_path, "ru")


def test_the_real_recordings():
    places = [Path(os.environ.get("KILTER_DATA") or "nowhere"), cache_dir()]
    folder = next((place / "asterisk-prompts" for place in places if (place / "asterisk-prompts").is_dir()), None)
    if folder is None:
        pytest.skip("the Asterisk prompts are not on this machine: `kilter fetch asterisk-prompts` brings them")
    real = load_prompts(folder, "es")
    assert 400 < len(real) < 450
    assert set("".join(prompt.text for prompt in real)) <= set(LETTERS + " ")
    words = [sum(len(row["text"].split()) for row in Prompts(real, fold=fold)) for fold in range(FOLDS)]
    assert min(words) > sum(words) / 10
