"""TrimTail: the rule, its law, and that a draw depends on seed, epoch and index alone."""

from collections import Counter

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
    data.set_epoch(1)
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


def test_the_trainer_tells_the_epoch(tmp_path: object) -> None:
    """Through transformers' own loop, with no callback of ours."""
    pytest.importorskip("transformers")
    from transformers import Trainer, TrainingArguments

    data = TrimTail(rows(4), max_frames=30)
    seen: list[int] = []

    def collate(items: list[dict[str, object]]) -> dict[str, torch.Tensor]:
        seen.extend(len(item["audio"]) for item in items)  # type: ignore[arg-type]
        return {"x": torch.ones(len(items), 1)}

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": self.layer(x).sum()}

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=3,
        per_device_train_batch_size=4,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    Trainer(Model(), arguments, train_dataset=data, data_collator=collate).train()
    assert len({tuple(sorted(seen[first : first + 4])) for first in (0, 4, 8)}) == 3


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="max_frames and frame must be at least 1"):
        TrimTail(rows(), max_frames=0)
    with pytest.raises(ValueError, match="max_frames and frame must be at least 1"):
        trim_tail(torch.tensor([3]), frame=0)
    with pytest.raises(ValueError, match="row 0 has no column 'input_values'; there are audio, text"):
        TrimTail(rows(), column="input_values")[0]
