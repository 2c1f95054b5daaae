"""The small recogniser of letters: it spells and reads texts, keeps its settings, and words stay as they were."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kilter.data.prompts import LETTERS
from kilter.models.letter_ngram import LetterNGram
from kilter.models.recogniser import Heard, Recogniser
from kilter.models.small_speech import SmallSpeechConfig, SmallSpeechForCTC, letter_tokenizer
from kilter.speech.minimum_wer import Vocabulary, token_strings


@pytest.mark.parametrize("text", ["it's quick", "a", "one two three"])
def test_letters_are_spelled_and_read_back(text: str) -> None:
    tokenizer = letter_tokenizer(LETTERS)
    ids = tokenizer(text).input_ids
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text
    assert [word.text for word in Vocabulary(token_strings(tokenizer), 0).words(ids)] == text.split()


def test_a_saved_recogniser_hears_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = Recogniser.small(letter_tokenizer(LETTERS), "residual", 8000, hidden_size=16, stack=4, dilations=(1, 2))
    assert fresh.model.config.inputs_to_logits_ratio == 320
    with torch.no_grad():
        fresh.model.lm_head.weight.mul_(4)  # loud enough to say something
    fresh.save(tmp_path)
    audio = np.random.default_rng(0).normal(0, 0.1, 12_000).astype(np.float32)
    rows = [{"id": "a", "audio": audio, "text": "hello"}]
    (before,), (after,) = fresh.hear(rows), Recogniser.load(tmp_path).hear(rows)
    assert before.text
    assert before == after


@pytest.mark.parametrize("encoder", ["conv", "residual"])
def test_a_look_ahead_sees_what_comes_and_no_padding(encoder: Any) -> None:
    torch.manual_seed(0)
    model = SmallSpeechForCTC(SmallSpeechConfig(encoder=encoder, hidden_size=16, causal=False)).eval()
    audio = torch.randn(1, 16_000)
    alone = model(audio).logits
    changed = torch.cat([audio[:, :12_000], torch.randn(1, 4000)], 1)
    ahead = (model(changed).logits != alone).any(-1)[0].nonzero()[0].item()
    frame = model.config.inputs_to_logits_ratio
    assert ahead == 12_000 // frame - 22 - 1  # 2 * (1 + 2 + 4 + 4) frames ahead; the windows of a frame overlap

    padded = torch.cat([audio, torch.zeros(1, 8000)], 1)
    mask = (torch.arange(24_000) < 16_000).long()[None]
    torch.testing.assert_close(model(padded, mask).logits[:, : alone.shape[1]], alone)
    with pytest.raises(ValueError, match="encoder gru is causal"):
        SmallSpeechConfig(encoder="gru", causal=False)


def test_a_letter_that_is_not_known_is_named() -> None:
    recogniser = Recogniser.small(letter_tokenizer("abc"), "gru", 8000)
    recogniser.check_texts([("row 1", "a cab")])
    with pytest.raises(ValueError, match="row 2: the tokenizer does not know every letter or word of 'taxi'"):
        recogniser.check_texts([("row 1", "a cab"), ("row 2", "taxi")])


def test_a_recogniser_of_words_is_that_of_its_settings() -> None:
    torch.manual_seed(0)
    found = Recogniser.small(("yes", "no"), "conv", 8000).model
    torch.manual_seed(0)
    expected = SmallSpeechForCTC(SmallSpeechConfig(vocab_size=4))
    assert found.config.to_dict() == expected.config.to_dict()
    for name, value in found.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name


def test_a_language_model_has_its_say() -> None:
    """What the texts never have after one another is not heard, however loud the model says it."""
    torch.manual_seed(1)
    recogniser = Recogniser.small(letter_tokenizer("ab"), "gru", 8000, hidden_size=8)
    rows = [{"id": "a", "audio": np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32), "text": "ab"}]
    known = LetterNGram(["abab", "ab"], recogniser.tokenizer, weight=50.0, bonus=0.0)
    (heard,) = recogniser.hear(rows, fuse=known)
    assert heard.text in ("ab", "abab")
    assert heard.text != next(recogniser.hear(rows)).text
    (heard,) = recogniser.hear(rows, fuse=lambda prefixes: torch.full((len(prefixes), 5), -torch.inf))
    assert heard == Heard("", [])


def test_the_language_model_is_one_of_probabilities() -> None:
    tokenizer = letter_tokenizer("its")
    model = LetterNGram(["it is", "is it"], tokenizer, order=3, weight=1.0, bonus=0.0)
    space, i, t, s = tokenizer(" its").input_ids
    prefixes = [[], [i], [i, t], [t, t, t, t], [i, s, space, i]]
    assert torch.allclose(model(prefixes).exp().sum(-1), torch.ones(len(prefixes)))
    after = model([[i, t, space, i]])[0]
    assert after[[s, t]].min() > after[[space, i]].max()
    assert torch.equal(after, model([[s, s, space, i]])[0])  # no more than two tokens are looked back on
    double = LetterNGram(["it is", "is it"], tokenizer, order=3, weight=2.0, bonus=0.5)(prefixes)
    assert torch.allclose(double[:, 1:], 2 * model(prefixes)[:, 1:] + 0.5)
    assert torch.allclose(double[:, 0], 2 * model(prefixes)[:, 0])
