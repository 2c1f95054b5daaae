"""What is too long for a scorer is cut where it matters less: a prompt at its beginning, what follows it at its end."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.decoding import encoders

pytestmark = pytest.mark.host

WORDS = encoders.WORDS
LONG = " ".join(WORDS * 6)
"""Over a hundred tokens, where 40 fit."""


def pieces() -> Any:
    """A tokenizer of pieces of words, with special tokens around one text and a pair."""
    from transformers import BertTokenizer

    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rain", "##y", "##ing", "sun", "##ny", "day", "s", "##t")
    return BertTokenizer(vocab={word: place for place, word in enumerate(words)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers as hf

    place = tmp_path_factory.mktemp("cross-encoder")
    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    tokenizer = pieces()
    torch.manual_seed(0)
    config = hf.BertConfig(
        vocab_size=len(tokenizer), num_labels=1, max_position_embeddings=32, initializer_range=0.5, **sizes
    )
    hf.BertForSequenceClassification(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture
def cross_encoder(folder: Path) -> Any:
    library = pytest.importorskip("sentence_transformers")
    return library.CrossEncoder(str(folder), device="cpu")


def score(scorer: Any, prefixes: list[str], continuations: list[str]) -> list[float]:
    from kilter.decoding.candidates import Ranker

    return [float(one) for one in Ranker(scorer, scorer.tokenizer, [])._score(prefixes, continuations)]


def test_the_end_of_a_long_prompt_tells(cross_encoder: Any) -> None:
    """Of 32 tokens three are special, and the text has two."""
    ends = ["rain", "sun", "rainy day", "sunny"]
    with pytest.warns(UserWarning, match="do not fit the cross-encoder, which holds 32 tokens.*reads the end"):
        found = score(cross_encoder, [f"{'day ' * 50}{end}" for end in ends], ["sunny"] * 4)
    assert len(set(found)) == 4
    fits = [("day " * 50 + end).split()[-27:] for end in ends[:2]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = score(cross_encoder, [" ".join(words) for words in fits], ["sunny"] * 2)
    assert found[:2] == pytest.approx(whole, abs=1e-5)


def test_its_beginning_does_not(cross_encoder: Any) -> None:
    with pytest.warns(UserWarning, match="reads the end"):
        one, other = score(cross_encoder, [f"{begin} {'day ' * 60}" for begin in ("rain", "sun")], ["rain"] * 2)
    assert one == other


@pytest.mark.parametrize(("before", "after"), [(50, 20), (50, 60), (5, 60), (20, 20), (14, 40), (60, 1)])
def test_both_sides_fit_in_the_end(before: int, after: int, cross_encoder: Any) -> None:
    """Of what follows the prompt the beginning is kept: half of the room, or more where the prompt leaves it."""
    from kilter.hosts.sentences import fitting_pairs

    first, then = [f"day {'sun ' * before}rain"], [f"rain {'sun ' * after}day"]
    with pytest.warns(UserWarning, match="reads the end"):
        ((prefix, continuation),) = fitting_pairs(cross_encoder, first, then)
    room = 32 - 3
    lengths = [len(text.split()) for text in (prefix, continuation)]
    assert sum(lengths) == room
    assert first[0].endswith(prefix)
    assert then[0].startswith(continuation)
    assert lengths[1] == min(after + 2, max(room // 2, room - (before + 2)))
    ids = cross_encoder.tokenizer(prefix, continuation)["input_ids"]
    assert len(ids) == 32


def test_what_fits_is_left_as_it_is(cross_encoder: Any) -> None:
    from kilter.hosts.sentences import fitting_pairs

    first, then = ["sun  day ", "day " * 20, ""], ["rain", "sun " * 9, " day"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitting_pairs(cross_encoder, first, then) == list(zip(first, then, strict=True))
        assert fitting_pairs(cross_encoder, [], []) == []


def test_a_scorer_with_predict_that_is_no_cross_encoder_gets_all() -> None:
    from kilter.hosts.sentences import fitting_pairs

    class Own:
        def predict(self, pairs: list[Any]) -> list[float]:
            return [0.0] * len(pairs)

    assert fitting_pairs(Own(), [LONG], [LONG]) == [(LONG, LONG)]
    assert fitting_pairs(torch.compile(torch.nn.Linear(1, 1), backend="eager"), [LONG], ["a"]) == [(LONG, "a")]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("text", ["rainy sunny day rainy days", "sunny", "day\nrain\tsun", "rain" * 30, " day  sun "])
def test_a_cut_keeps_to_its_side_and_to_whole_words(text: str, fast: bool) -> None:
    from kilter.hosts.sentences import cut_text

    tokenizer = pieces()
    if not fast:
        tokenizer = Slow(tokenizer)
    length = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    for most in range(1, length + 2):
        end = cut_text(tokenizer, text, most, keep="end")
        begin = cut_text(tokenizer, text, most, keep="beginning")
        for cut in (end, begin):
            assert len(tokenizer(cut, add_special_tokens=False)["input_ids"]) <= most
        if fast:
            assert text.endswith(end)
            assert text.startswith(begin)
            whole = set(text.split())
            assert most < 2 or len(whole) == 1 or {*end.split(), *begin.split()} <= whole
        if most >= length:
            assert end == begin == text


class Slow:
    """A tokenizer without offsets."""

    is_fast = False

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, text: str, **how: Any) -> Any:
        assert "return_offsets_mapping" not in how
        return self._tokenizer(text, **how)

    def decode(self, ids: list[int], **how: Any) -> str:
        return self._tokenizer.decode(ids, **how)


def test_the_command_says_so_once(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from kilter.cli import main
    from tests.own_text import writing_model

    pytest.importorskip("sentence_transformers")
    (tmp_path / "p.txt").write_text("the steam train\n" * 3 + f"{'town ' * 25}\n")
    ask = ["--model", writing_model(tmp_path / "m"), "--prompts", tmp_path / "p.txt", "--scorer", folder]
    ask += ["--decoder", "rankgen", "--beams", 1, "--samples", 3, "--block", 2, "--max-new-tokens", 6]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        assert main(["generate", "--device", "cpu", *map(str, ask)]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["outputs"]) == 1
    assert len([one for one in said if "reads the end" in str(one.message)]) == 1
