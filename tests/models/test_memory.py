"""What does not fit into memory: batches are halved, a recording that does not fit alone is named, the rest goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kilter.cli import main
from kilter.models.aligning import align
from kilter.models.devices import out_of_memory
from kilter.models.recogniser import Recogniser
from kilter.tasks.continuations.ranking import scores, word_overlap
from kilter.tasks.recognition.judging import judge
from tests.own import RATE, recordings, word_model

pytestmark = pytest.mark.host

LACK = {
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    "python": MemoryError(),
    "c++": RuntimeError("std::bad_alloc"),
    "host": ValueError("Unable to convert output 'input_values' to tensor"),  # raised from numpy's
}
LACK["host"].__cause__ = MemoryError()


@pytest.fixture
def recogniser(tmp_path: Path) -> Recogniser:
    return Recogniser.load(word_model(tmp_path / "model"))


def rows(*seconds: float) -> list[dict[str, Any]]:
    return [
        {
            "id": f"r{place}",
            "audio": np.random.default_rng(place).normal(0, 0.1, int(RATE * each)).astype(np.float32),
            "text": "one two",
        }
        for place, each in enumerate(seconds)
    ]


def little(monkeypatch: pytest.MonkeyPatch, seconds: float, error: BaseException) -> list[int]:
    """Memory for so many seconds of a padded batch; returns the sizes of the batches that fit."""
    fitted: list[int] = []
    say = Recogniser._said

    def said(self: Recogniser, audio: Any) -> Any:
        if len(audio) * max(map(len, audio)) > seconds * self.rate:
            raise error
        fitted.append(len(audio))
        return say(self, audio)

    monkeypatch.setattr(Recogniser, "_said", said)
    return fitted


@pytest.mark.parametrize("kind", LACK)
def test_a_batch_is_halved_and_says_the_same(
    kind: str, recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = rows(1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.0)
    words, heard, judged = [*align(recogniser, given, 4)], [*recogniser.hear(given, 4)], judge(recogniser, given)
    fitted = little(monkeypatch, 3.2, LACK[kind])
    for found, before in zip(align(recogniser, given, 4), words, strict=True):
        assert [word[:3] for word in found.words] == [word[:3] for word in before.words]
        assert [word.score for word in found.words] == pytest.approx([word.score for word in before.words], rel=1e-5)
    assert fitted == [2, 2, 2, 1]
    assert [*recogniser.hear(given, 4)] == heard
    assert judge(recogniser, given) == judged


def test_what_does_not_fit_alone_is_named_or_left_out(recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    given = rows(1.0, 5.0, 1.2)
    little(monkeypatch, 3.0, LACK["python"])
    for found in (align(recogniser, given), recogniser.hear(given)):
        with pytest.raises(ValueError, match=r"^r1: does not fit into memory even alone; .*--window-seconds"):
            list(found)
    left: list[Any] = [[*align(recogniser, given, skip_bad=True)], [*recogniser.hear(given, skip_bad=True)]]
    for found in left:
        assert [bool(one.problem) for one in found] == [False, True, False]
        assert all(one.words for one in found if not one.problem)


def test_another_error_is_none_of_memory(recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    little(monkeypatch, 0.0, RuntimeError("shapes cannot be multiplied"))
    for found in (align(recogniser, rows(1.0), skip_bad=True), recogniser.hear(rows(1.0), skip_bad=True)):
        with pytest.raises(RuntimeError, match="shapes"):
            list(found)
    assert not out_of_memory(ValueError("out of memory"))


def test_a_recording_that_cannot_even_be_read_is_named(recogniser: Recogniser) -> None:
    class Read(list[dict[str, Any]]):
        def headers(self) -> list[Any]:
            return [type("Row", (), {"where": f"file {row['id']}"}) for row in self]

        def __getitem__(self, place: Any) -> Any:
            if place == 1:
                raise MemoryError
            return super().__getitem__(place)

    with pytest.raises(ValueError, match=r"^file r1: does not fit into memory"):
        list(align(recogniser, Read(rows(1.0, 1.0))))


@pytest.mark.parametrize("command", ["align", "latency"])
def test_the_commands_name_it_and_go_on(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [str(word_model(tmp_path / name, seed)) for name, seed in (("a", 6), ("b", 3))]
    manifest = str(recordings(tmp_path / "data", {name: "" for name in "abc"}))
    little(monkeypatch, 1.15, LACK["cpu"])  # the last has 1.2 s
    more = ["--against", models[1]] if command == "latency" else []
    out = tmp_path / ("out" if command == "latency" else "out.jsonl")
    asked = [command, manifest, "--model", models[0], *more, "--out", str(out)]
    assert main(asked) == 1
    assert "(c.wav): does not fit into memory even alone; " in capsys.readouterr().err
    out.unlink(missing_ok=True)
    assert main([*asked, "--skip-bad"]) == 0
    assert "left out: " in capsys.readouterr().err
    if command == "align":
        assert sorted(json.loads(line)["id"] for line in out.read_text().splitlines()) == ["a.wav", "b.wav"]
    else:
        assert json.loads((out / "latency.json").read_text())["utterances"] == 2
    assert main([*asked[:-1], str(tmp_path / "parts"), "--window-seconds", "0.9", "--margin-seconds", "0.1"]) == 0


def test_a_scorer_is_given_fewer_texts() -> None:
    given = [f"a{i} b{i}" for i in range(7)], [f"a{i} c" for i in range(7)]
    most: list[int] = []

    def scorer(prefixes: Any, continuations: Any) -> Any:
        if len(prefixes) > 2:
            raise LACK["cuda"]
        most.append(len(prefixes))
        return word_overlap(prefixes, continuations)

    assert scores(scorer, *given) == scores(word_overlap, *given)
    assert max(most) <= 2
    with pytest.raises(ValueError, match=r"^'a0 b0' and 'a0 c' do not fit into memory even alone"):
        scores(lambda a, b: (_ for _ in ()).throw(MemoryError()), *given)
