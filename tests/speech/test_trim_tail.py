"""TrimTail: the rule, its law, and that a draw depends on seed, epoch and index alone."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from kilter.speech import TrimTail, trim_tail


def rows(count: int = 20, length: int = 100) -> list[dict[str, object]]:
    return [{"audio": list(range(length)), "text": f"text {i}"} for i in range(count)]


def test_cuts_are_uniform() -> None:
    lengths = torch.full((6000,), 100)
    cut = lengths - trim_tail(lengths, max_frames=5, generator=torch.Generator().manual_seed(0))
    counts = Counter(cut.tolist())
    assert sorted(counts) == [1, 2, 3, 4, 5]
    assert all(1050 < count < 1350 for count in counts.values())


def test_short_utterances_stay() -> None:
    """Half of it or more is never cut."""
    assert trim_tail(torch.tensor([2, 3, 0]), max_frames=1).tolist() == [2, 2, 0]


def test_frames_are_counted_in_units_of_the_column() -> None:
    cut = 8000 - trim_tail(torch.full((100,), 8000), max_frames=20, frame=80)
    assert set((cut % 80).tolist()) == {0}
    assert cut.min() >= 80
    assert cut.max() <= 1600


def test_a_dataset_draws_anew_each_epoch_and_repeats_after_a_resume() -> None:
    data = TrimTail(rows(), max_frames=30, seed=1)
    first = [len(data[i]["audio"]) for i in range(20)]
    assert first == [len(data[i]["audio"]) for i in reversed(range(20))][::-1]  # in any order
    data.epoch = 1
    second = [len(data[i]["audio"]) for i in range(20)]
    assert first != second
    resumed = TrimTail(rows(), max_frames=30)
    resumed.load_state_dict(data.state_dict())
    assert second == [len(resumed[i]["audio"]) for i in range(20)]


def test_only_the_tail_goes_and_the_rows_stay_as_they_were() -> None:
    given = rows(3)
    item = TrimTail(given, max_frames=10)[0]
    assert item["audio"] == list(range(len(item["audio"])))
    assert item["text"] == "text 0"
    assert len(given[0]["audio"]) == 100  # type: ignore[arg-type]


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.layer(x).sum()}


def train(folder: Path, *, resume: str | None = None, workers: int = 0) -> list[int]:
    """What a Trainer saw of each of 8 rows in 3 epochs of 4 steps, or from a checkpoint on."""
    from transformers import Trainer, TrainingArguments

    from kilter.hosts.transformers import FollowEpochs

    seen: list[int] = []

    class Watch(Line):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            seen.extend(x[:, 0].int().tolist())
            return super().forward(x / 100)

    def collate(items: list[dict[str, object]]) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor([[float(len(item["audio"]))] for item in items])}  # type: ignore[arg-type]

    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=3,
        per_device_train_batch_size=2,
        report_to="none",
        save_steps=6,
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
    )
    data = TrimTail(rows(8), max_frames=30)
    Trainer(Watch(), arguments, train_dataset=data, data_collator=collate, callbacks=[FollowEpochs()]).train(
        resume_from_checkpoint=resume
    )
    return seen


@pytest.mark.host
def test_the_trainer_draws_anew_each_epoch_and_a_resumed_run_sees_the_same(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    whole = train(tmp_path)
    assert len({tuple(sorted(whole[first : first + 8])) for first in (0, 8, 16)}) == 3
    assert train(tmp_path, resume=str(tmp_path / "checkpoint-6")) == whole[12:]  # within the second epoch


@pytest.mark.host
def test_workers_that_live_on_are_told_the_epoch(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    assert train(tmp_path / "workers", workers=1) == train(tmp_path / "none")


def test_bad_input(own_messages: None) -> None:
    with pytest.raises(TypeError, match="lengths must be integers"):
        trim_tail(torch.tensor([3.0]))
    with pytest.raises(ValueError, match="max_frames must be at least 1, got 0"):
        TrimTail(rows(), max_frames=0)
    with pytest.raises(ValueError, match="frame must be at least 1, got 0"):
        trim_tail(torch.tensor([3]), frame=0)
    with pytest.raises(ValueError, match="row 0 has no column 'input_values'; there are audio, text"):
        TrimTail(rows(), column="input_values")[0]
