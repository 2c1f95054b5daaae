"""Dynamic gradient alignment in transformers' Trainer: what is drawn, kept and logged, and runs that are taken up."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader, IterableDataset

pytest.importorskip("transformers")

from transformers import TrainerCallback

from kilter.pretraining import DomainMixture, MixtureCallback, gradient_alignments
from tests.pretraining.small_models import rows_of
from tests.pretraining.small_trainer import DOMAINS, TARGET, Indices, dga, gpt2, mixture, trainer

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore:'pin_memory'")]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, list[int], Path]:
    """A run of thirty steps that is not stopped."""
    out = tmp_path_factory.mktemp("whole")
    one, rows = dga(), Indices()
    made = trainer(out, [one], rows)
    made.train()
    return one, made, rows.asked, out


def parameters_of(made: Any) -> list[torch.Tensor]:
    return [*made.model.parameters()]


def of(asked: list[int]) -> list[int]:
    return torch.bucketize(torch.tensor(asked), torch.tensor([40, 70]), right=True).tolist()


class TestARun:
    def test_weights_follow_the_target(self, whole: Any) -> None:
        assert whole[0].mixture.weights[1] > 0.6
        assert of(whole[2][-80:]).count(1) > of(whole[2][:80]).count(1)

    def test_the_mixture_says_what_was_drawn(self, whole: Any) -> None:
        one, _, asked, _ = whole
        drawn = of([index for index in asked if index])  # the first row is looked at for its columns too
        assert one.mixture.counts[1:] == [drawn.count(1), drawn.count(2)]

    def test_the_history_is_whole(self, whole: Any) -> None:
        one, made, _, _ = whole
        rows = [entry["mixture"] for entry in made.state.log_history if "mixture" in entry]
        assert rows == one.history
        assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30]
        row = rows[-1]
        assert row["weights"] == one.log_weights.exp().tolist()
        assert row["averaged"] == one.averaged.tolist() == pytest.approx(row["drawn"])
        assert row["averaged"] != pytest.approx(row["weights"])
        assert row["drawn"] == one.mixture.weights.tolist()
        assert len(row["alignments"]) == 3
        assert row["target_norm"] > 0
        assert row["domain_norms"] is None
        assert row["tokens"] == [9 * count for count in row["examples"]]
        assert row["epochs"] == [count / size for count, size in zip(row["examples"], (40, 30, 20), strict=True)]

    def test_the_file_has_the_names(self, whole: Any) -> None:
        one, _, _, out = whole
        found = json.loads((out / "mixture.json").read_text())
        assert found["domains"] == ["low", "middle", "high"]
        for row, kept in zip(found["rows"], one.history, strict=True):
            for name in ("weights", "averaged", "drawn", "alignments", "examples", "epochs", "tokens"):
                assert [*row[name]] == found["domains"]
                assert [*row[name].values()] == kept[name]
            assert row.keys() == kept.keys()
            assert (row["step"], row["domain_norms"]) == (kept["step"], None)

    @pytest.mark.parametrize("step", [7, 21, 28])
    def test_a_run_that_is_taken_up_draws_the_same(self, whole: Any, step: int, tmp_path: Path) -> None:
        one, made, asked, out = whole
        again, rows = dga(mixture=mixture(seed=8)), Indices()
        other = trainer(tmp_path, [again], rows)
        other.train(resume_from_checkpoint=str(out / f"checkpoint-{step}"))
        assert again.history == one.history
        assert (tmp_path / "mixture.json").read_bytes() == (out / "mixture.json").read_bytes()
        assert [i for i in rows.asked if i][-16:] == [i for i in asked if i][-16:]  # the first is looked at besides
        for a, b in zip(parameters_of(made), parameters_of(other), strict=True):
            assert torch.equal(a, b)

    def test_without_the_callback_in_the_checkpoint_it_is_said(self, tmp_path: Path) -> None:
        trainer(tmp_path, [], max_steps=7).train()
        with pytest.raises(ValueError, match="the checkpoint of step 7 holds no mixture"):
            trainer(tmp_path, [dga()]).train(resume_from_checkpoint=True)


class Looks(TrainerCallback):
    """What is there before and after another callback's turn."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.found = inner, []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        def seen() -> Any:
            model, optimizer = kwargs["model"], kwargs["optimizer"]
            return [
                [p.detach().clone() for p in model.parameters()],
                [None if p.grad is None else p.grad.clone() for p in model.parameters()],
                [v.clone() for one in optimizer.state.values() for v in one.values()],
                [module.training for module in model.modules()],
                torch.get_rng_state(),
            ]

        before = seen()
        self.inner.on_step_end(args, state, control, **kwargs)
        self.found.append((before, seen()))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.inner.on_train_begin(args, state, control, **kwargs)


@pytest.mark.parametrize("method", ["central_difference", "gradients", "jvp", "last_layer"])
def test_a_reweighting_touches_nothing(tmp_path: Path, method: Any) -> None:
    inner = dga(every=1, method=method)
    looks = Looks(inner)
    made = trainer(tmp_path, [looks], max_steps=3, save_strategy="no", gradient_accumulation_steps=2)
    made.train()
    assert len(inner.history) == 3
    for before, after in looks.found:
        assert_close(after, before, rtol=0, atol=0)


def test_training_is_the_same_until_weights_change(tmp_path: Path) -> None:
    """The callback's own draws and measurements do not show in the model."""
    models = []
    for callback in (MixtureCallback(mixture()), dga(every=4, ema=0.0)):
        made = trainer(tmp_path, [callback], max_steps=9, save_strategy="no")
        made.train()
        models.append(parameters_of(made))
    for a, b in zip(*models, strict=True):
        assert torch.equal(a, b)


def test_alignments_are_those_of_the_function(tmp_path: Path) -> None:
    domains = {name: rows_of(20, 0, 10 * i, i) for i, name in enumerate("abc", start=1)}
    one = dga(mixture=DomainMixture([20] * 3), domains=None, every=1, method="gradients", batch_size=20, step_size=1.0,
              target_batch_size=20)  # fmt: skip
    made = trainer(tmp_path, [one], Indices(domains), max_steps=1, save_strategy="no", learning_rate=0.0)
    made.train()
    joined = [{name: torch.stack([row[name] for row in rows]) for name in rows[0]} for rows in domains.values()]
    target = {name: torch.stack([row[name] for row in TARGET]) for name in TARGET[0]}
    model: Any = made.model
    expected = gradient_alignments(model, lambda m, b: m(**b).loss, joined, target, method="gradients")
    assert_close(torch.tensor(one.history[0]["alignments"]), expected)
    assert len(one.history[0]["domain_norms"]) == 3


def test_bases_targets_in_parts_and_loaders(tmp_path: Path) -> None:
    based = DomainMixture([40, 30, 20], bases=[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    ready = DataLoader(TARGET, 4)  # type: ignore[arg-type]
    one = dga(mixture=based, target=ready, every=2, clip=1.0, target_micro_batch_size=4, floor=0.1)
    trainer(tmp_path, [one], max_steps=20, save_strategy="no").train()
    assert one.mixture.weights[1] > 0.5
    row, named = one.history[-1], json.loads((tmp_path / "mixture.json").read_text())["rows"][-1]
    assert row["averaged"] == one.averaged.tolist()
    assert one.mixture.weights.tolist() == pytest.approx([0.9 * weight + 0.05 for weight in row["averaged"]])
    assert [*named["averaged"]] == [*named["weights"]] == [*named["alignments"]] == ["0", "1"]
    assert [*named["drawn"]] == ["low", "middle", "high"]
    assert [*named["drawn"].values()] == one.mixture.domain_weights.tolist()


def test_the_trainer_prints_what_most_is_drawn_of(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    one = dga()
    trainer(tmp_path, [one], max_steps=10, save_strategy="no").train()
    said = next(line for line in capsys.readouterr().out.splitlines() if "'loss'" in line)
    assert f"'drawn_middle': '{float(one.mixture.weights[1]):.4g}'" in said
    assert said.count("drawn_") == 3


def test_a_training_that_is_too_short_is_said(tmp_path: Path) -> None:
    one = dga(every=5)
    said = r"training has 4 steps and every is 5, so weights will stay as they are; give a smaller one, such as every=1"
    with pytest.warns(UserWarning, match=said):
        trainer(tmp_path, [one], max_steps=4, save_strategy="no").train()
    assert one.history == []


def test_columns_that_the_training_data_lack_are_left_out(tmp_path: Path) -> None:
    named = [{**row, "text": "a text"} for row in TARGET]
    one = dga(target=named)
    trainer(tmp_path, [one], max_steps=5, save_strategy="no").train()
    assert len(one.history) == 1


def test_what_is_not_finite_is_left_out_with_a_warning(tmp_path: Path) -> None:
    one = dga(loss_fn=lambda model, batch: model(**batch).loss * torch.tensor(torch.nan), every=5)
    with pytest.warns(UserWarning, match=r"alignments of step 5 are not finite \(nan, nan, nan\), and are left out"):
        trainer(tmp_path, [one], max_steps=5, save_strategy="no").train()
    assert one.history == []
    assert one.mixture.weights.tolist() == pytest.approx([1 / 3] * 3)


def test_half_precision_takes_exact_gradients(tmp_path: Path) -> None:
    one = dga(batch_size=2)
    trainer(tmp_path, [one], max_steps=5, save_strategy="no", bf16=True).train()
    assert one.history[0]["domain_norms"] is not None


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter(DOMAINS["low"])


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (Stream(), {}, "a Stream, is a stream, of which a mixture cannot choose"),
        (DOMAINS["low"], {}, "has 40 examples and the mixture's sizes sum to 90; train on the concatenation"),
        (None, {"target": None}, "target is needed in the Trainer"),
        (None, {"target": ["a text", "another"], "every": 1}, "as those of the training data, each a dict, and one is"),
        (None, {"target": iter([]), "every": 1}, "target gives no batch, or no more: give a DataLoader"),
    ],
)
def test_bad_input(tmp_path: Path, rows: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, [dga(**options)], rows).train()


def test_a_stream_as_target_is_refused(own_messages: None) -> None:
    with pytest.raises(TypeError, match="target must be a data set with indices, or a loader of batches, got Stream"):
        dga(target=Stream())


def test_a_checkpoint_of_fixed_weights_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, [MixtureCallback(mixture())], max_steps=2, save_steps=1).train()
    with pytest.raises(ValueError, match="of weights that follow no target; go on with MixtureCallback"):
        trainer(tmp_path, [dga()], max_steps=3).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_an_order_that_is_lost_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="takes the place of the loader's LengthGroupedSampler"):
        trainer(
            tmp_path, [dga(every=1)], max_steps=1, save_strategy="no", train_sampling_strategy="group_by_length"
        ).train()


@pytest.mark.parametrize("other", [dga, lambda: MixtureCallback(mixture())])
@pytest.mark.parametrize("shared", [False, True])
def test_a_second_mixture_is_refused(tmp_path: Path, other: Any, shared: bool) -> None:
    first, second = dga(), other()
    if shared:
        second.mixture = first.mixture
    kind = type(second).__name__
    with pytest.raises(ValueError, match=f"has a DynamicGradientAlignment already.*leave out the {kind} or the other"):
        trainer(tmp_path, [first, second]).train()
    trainer(tmp_path, [first], max_steps=5, save_strategy="no").train()
    trainer(tmp_path, [first], max_steps=5, save_strategy="no").train()  # another training, with the same mixture


def test_names_and_mixture(own_messages: None) -> None:
    with pytest.raises(ValueError, match="mixture has 3 domains, and there are 1 names"):
        MixtureCallback(mixture(), names=["one"])
    with pytest.raises(ValueError, match="names must differ, got 'a', 'b', 'a'"):
        MixtureCallback(mixture(), names=["a", "b", "a"])
    with pytest.raises(TypeError, match="mixture must be a DomainMixture"):
        MixtureCallback(gpt2())  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_later_epochs_are_taken_up_too(tmp_path: Path, workers: int) -> None:
    """Workers have more of the epoch asked for when a checkpoint is written; a step is the last of its epoch."""
    found = []
    for stop in (None, 12, 13, 23, 24):
        one = dga(mixture=mixture(seed=stop or 3), every=3, floor=0.1)
        out = tmp_path / str(stop)
        made = trainer(out, [one], save_steps=1, dataloader_num_workers=workers)
        made.train(resume_from_checkpoint=None if stop is None else str(tmp_path / "None" / f"checkpoint-{stop}"))
        found.append((one.history, [p.detach() for p in parameters_of(made)]))
    for history, parameters in found[1:]:
        assert history == found[0][0]
        assert_close(parameters, found[0][1], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_run_that_is_killed_ends_as_one_that_is_not(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "CUDA_VISIBLE_DEVICES": ""}

    def run(out: str, *more: str) -> int:
        command = [sys.executable, "-m", "tests.pretraining.small_trainer", str(tmp_path / out), *more]
        return subprocess.run(command, env=environment, cwd=ROOT, check=False, capture_output=True).returncode

    assert run("whole") == 0
    assert run("killed", "17") == -9
    assert run("killed") == 0
    for name in ("last/model.safetensors", "mixture.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
