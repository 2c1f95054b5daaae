"""Reference rewards: drawn from the model as it is, whatever the batch; kept in a file; what is wrong is named."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hosts.trl_models import CHATS, PROMPTS, classifier, writer

pytestmark = pytest.mark.host
SMALL: dict[str, Any] = {"num_ref": 6, "max_new_tokens": 4}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from transformers.utils import logging

    logging.disable_progress_bar()
    return writer(tmp_path_factory.mktemp("writer"))


def rows(prompts: Any = PROMPTS) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"prompt": prompts, "tone": [float(place) for place in range(len(prompts))]})


def length(completions: list[Any], tone: list[float], **_: Any) -> list[float | None]:
    texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
    return [number + len(text) if text else None for text, number in zip(texts, tone, strict=True)]


def added(written: tuple[Any, Any], data: Any = None, reward: Any = length, **options: Any) -> Any:
    from kilter.hosts.trl import add_reference_rewards

    model, tokenizer = written
    return add_reference_rewards(rows() if data is None else data, model, tokenizer, reward, **SMALL | options)


def column(found: Any) -> list[list[float | None]]:
    return list(found["reference_rewards"])


class TestDraws:
    def test_a_batch_changes_nothing(self, written: tuple[Any, Any]) -> None:
        found = column(added(written))
        assert [len(row) for row in found] == [6, 6, 6]
        assert column(added(written, batch_size=1)) == found
        assert column(added(written, batch_size=100)) == found
        alone = rows().select([2])
        assert column(added(written, alone)) == found[2:]
        assert column(added(written, seed=1)) != found

    def test_equal_prompts_draw_the_same_and_are_scored_each(self, written: tuple[Any, Any]) -> None:
        one, _, two = column(added(written, rows([PROMPTS[0], PROMPTS[1], PROMPTS[0]])))
        assert [None if value is None else value + 2 for value in one] == two

    def test_each_token_is_drawn_as_the_model_has_it(self, written: tuple[Any, Any]) -> None:
        from kilter.hosts.completions import draw, ends_of, prompt_ids

        model, tokenizer = written
        ids = prompt_ids(tokenizer, PROMPTS[:1])
        how: Any = {"draws": 4000, "ends": ends_of(model, tokenizer), "batch_size": 4000}
        for temperature in (1.0, 2.0):
            drawn = next(draw(model, ids, max_new_tokens=1, temperature=temperature, **how))
            logits = model(torch.tensor(ids)).logits[0, -1] / temperature
            share = torch.tensor([answer[0] for answer in drawn]).bincount(minlength=len(logits)) / 4000
            error = (share - logits.softmax(-1)) / (share.new_tensor(0.25 / 4000)).sqrt()
            assert error.abs().max() < 4

    def test_answers_end_with_their_end(self, written: tuple[Any, Any]) -> None:
        seen: list[list[int]] = []

        def watching(completion_ids: list[list[int]], **_: Any) -> list[float]:
            seen.extend(completion_ids)
            return [0.0] * len(completion_ids)

        added(written, reward=watching, num_ref=64)
        assert max(map(len, seen)) == 4
        assert all(1 not in ids[:-1] for ids in seen)
        assert any(ids[-1] == 1 for ids in seen)

    def test_settings_of_the_model_do_not_truncate(self, written: tuple[Any, Any]) -> None:
        before = column(added(written))
        model, _ = written
        model.generation_config.top_k, model.generation_config.repetition_penalty = 1, 2.0
        try:
            assert column(added(written)) == before
            assert model.generation_config.top_k == 1
        finally:
            model.generation_config.top_k = model.generation_config.repetition_penalty = None

    def test_random_state_and_modes_stay(self, written: tuple[Any, Any]) -> None:
        model, _ = written
        before = column(added(written))
        model.train()
        model.transformer.h[0].eval()
        state = torch.get_rng_state()
        torch.manual_seed(7)
        moved = torch.get_rng_state()
        assert column(added(written)) == before  # without dropout
        assert torch.equal(torch.get_rng_state(), moved)
        assert model.training
        assert not model.transformer.h[0].training
        model.eval()
        torch.set_rng_state(state)

    def test_messages_go_through_the_template(self, written: tuple[Any, Any]) -> None:
        told = [f"all {prompt} day" for prompt in PROMPTS]
        assert column(added(written, rows(CHATS))) == column(added(written, rows(told)))

    @pytest.mark.filterwarnings("ignore")
    def test_adapters_draw_as_the_model_inside(self, written: tuple[Any, Any]) -> None:
        from copy import deepcopy

        from peft import LoraConfig, get_peft_model

        model, tokenizer = written
        before = column(added(written))
        tuned = get_peft_model(deepcopy(model), LoraConfig(r=2, task_type="CAUSAL_LM"))
        assert column(added((tuned, tokenizer))) == before  # adapters begin as nothing

    def test_a_classifier_and_an_async_reward(self, written: tuple[Any, Any], tmp_path: Path) -> None:
        from transformers import AutoModelForSequenceClassification

        model = AutoModelForSequenceClassification.from_pretrained(classifier(tmp_path / "judge"))
        found = column(added(written, reward=model))
        assert found[0] == pytest.approx(column(added(written, reward=model, batch_size=2))[0], abs=1e-5)

        async def late(**columns: Any) -> Any:
            return length(**columns)

        assert column(added(written, reward=late)) == column(added(written))


class TestCache:
    def test_a_killed_call_goes_on_to_the_same_numbers(self, written: tuple[Any, Any], tmp_path: Path) -> None:
        found = column(added(written))
        file, asked = tmp_path / "kept.jsonl", 0

        def dying(**columns: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked == 3:
                raise KeyboardInterrupt
            return length(**columns)

        dying.__wrapped__ = length  # type: ignore[attr-defined]
        dying.__name__ = "length"
        with pytest.raises(KeyboardInterrupt):
            added(written, reward=dying, cache=file)
        assert len(file.read_text().splitlines()) == 3
        with file.open("ab") as handle:
            handle.write(b'{"row": "cut')
        asked = 5
        assert column(added(written, reward=dying, cache=file, batch_size=64)) == found
        assert asked == 6
        assert column(added(written, reward=dying, cache=file)) == found
        assert asked == 6
        fewer = rows().select([2, 0])
        assert column(added(written, fewer, reward=dying, cache=file)) == [found[2], found[0]]
        assert asked == 6

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"num_ref": 7}, "was made with num_ref 6, now 7"),
            ({"seed": 1}, "seed 0, now 1"),
            ({"temperature": 0.5}, "temperature 1.0, now 0.5"),
            ({"reward": lambda **_: [0.0] * 6}, "reward 'length .*', now '<lambda>"),
        ],
    )
    def test_other_settings(self, written: tuple[Any, Any], tmp_path: Path, options: Any, match: str) -> None:
        added(written, cache=tmp_path / "kept.jsonl")
        with pytest.raises(ValueError, match=match):
            added(written, cache=tmp_path / "kept.jsonl", **options)

    def test_another_model(self, written: tuple[Any, Any], tmp_path: Path) -> None:
        added(written, cache=tmp_path / "kept.jsonl")
        model, _ = written
        bias = model.transformer.ln_f.bias
        with torch.no_grad():
            bias += 1
            with pytest.raises(ValueError, match="made with model"):
                added(written, cache=tmp_path / "kept.jsonl")
            bias -= 1

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            ("not json\n", "line 1: not JSON"),
            ('{"num_ref": 6', "line 1: not JSON"),
            ("[1]\n", "line 1: holds no rewards"),
            ("{}\n", "num_ref None, now 6"),
        ],
    )
    def test_a_file_of_others(self, written: tuple[Any, Any], tmp_path: Path, content: str, match: str) -> None:
        (tmp_path / "kept.jsonl").write_text(content)
        with pytest.raises(ValueError, match=match):
            added(written, cache=tmp_path / "kept.jsonl")
        assert (tmp_path / "kept.jsonl").read_text() == content

    def test_a_line_of_others_and_a_folder(self, written: tuple[Any, Any], tmp_path: Path) -> None:
        file = tmp_path / "kept.jsonl"
        added(written, cache=file)
        first = file.read_text().splitlines()[0]
        file.write_text(f"{first}\n{json.dumps({'row': 'a', 'rewards': [1.0]})}\n")
        with pytest.raises(ValueError, match="line 2: holds no rewards of a row"):
            added(written, cache=file)
        file.write_text(f"{first}\n{json.dumps({'row': 'a', 'rewards': ['1.0'] * 6})}\n")
        with pytest.raises(ValueError, match="line 2: holds no rewards of a row"):
            added(written, cache=file)
        with pytest.raises(ValueError, match="is a folder"):
            added(written, cache=tmp_path)


def wrong() -> Iterator[Any]:
    for name in ("num_ref", "max_new_tokens", "batch_size"):
        yield pytest.param({name: 0}, ValueError, f"{name} must be at least 1", id=name)
    yield pytest.param({"temperature": 0.0}, ValueError, "temperature must be positive", id="temperature")
    yield pytest.param({"seed": True}, TypeError, "seed must be a whole number", id="seed")
    yield pytest.param({"column": "tone"}, ValueError, "has a column 'tone' already", id="column")
    yield pytest.param({"column": ""}, TypeError, "column must be a name", id="no column")
    yield pytest.param({"reward": "a/model"}, TypeError, "reward must be a function", id="reward")
    yield pytest.param({"reward": lambda prompts: []}, TypeError, r"let it end in \*\*columns", id="narrow")
    yield pytest.param({"reward": lambda **_: [1.0]}, ValueError, "returned 1 numbers for 6", id="count")
    yield pytest.param({"data": [{"prompt": "a"}]}, TypeError, "dataset must be a datasets.Dataset", id="list")


@pytest.mark.parametrize(("options", "error", "match"), [*wrong()])
def test_bad_input(written: tuple[Any, Any], options: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        added(written, **options)


def test_bad_prompts(written: tuple[Any, Any]) -> None:
    from datasets import DatasetDict

    _model, tokenizer = written
    with pytest.raises(ValueError, match=r"no column 'prompt'; did you mean 'prompts'\?"):
        added(written, rows().rename_column("prompt", "prompts"))
    with pytest.raises(TypeError, match="give one of its splits"):
        added(written, DatasetDict({"train": rows()}))
    with pytest.raises(ValueError, match="row 1: prompt has no tokens"):
        added(written, rows(["the train", ""]))
    with pytest.raises(TypeError, match="model must be a causal model of transformers"):
        added((torch.nn.Linear(1, 1), tokenizer))
    template, tokenizer.chat_template = tokenizer.chat_template, None
    try:
        with pytest.raises(ValueError, match="tokenizer has no chat template"):
            added(written, rows(CHATS))
    finally:
        tokenizer.chat_template = template


def test_an_old_trl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata
    import sys

    import kilter.hosts.trl

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.8.0")
    monkeypatch.delitem(sys.modules, "kilter.hosts.trl")
    with pytest.raises(ImportError, match=r"needs trl 1.9 or newer, found 1.8.0: pip install .*preference"):
        importlib.import_module("kilter.hosts.trl")
    assert kilter.hosts.trl.TESTED.startswith(">=1.9")
