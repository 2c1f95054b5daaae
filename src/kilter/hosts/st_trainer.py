"""An objective under sentence-transformers' stock trainer: saved with its checkpoints, taken up again, logged.

What is missing is hung on the trainer in use: on the two methods that know where a checkpoint lies, and on the one that
logs. A saved model is as always; only in checkpoints lie `objective.safetensors` and `objective.json` beside it.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from kilter import dist
from kilter.core.objective import Objective
from kilter.hosts.st_state import Means, load_objective, save_objective


def trainer_above() -> Trainer | None:
    """The trainer that is calling.

    It hands itself to nobody who is given to it as a loss; but when it is made it moves its loss to a device.
    """
    frame: Any = sys._getframe(1)
    while frame is not None:
        if isinstance(found := frame.f_locals.get("self"), Trainer):
            return found
        frame = frame.f_back
    return None


class Kept(TrainerCallback):
    """A trainer's memory of its objectives.

    Attributes:
        objectives: each once, however many losses share it.
    """

    def __init__(self, trainer: Any) -> None:
        self.objectives: list[Objective] = []
        self._means: list[Means] = []
        self._trainer = trainer
        self._log, trainer.log = trainer.log, self._log_with_stats
        self._save, trainer.save_model = trainer.save_model, self._save_beside
        self._load, trainer._load_from_checkpoint = trainer._load_from_checkpoint, self._load_beside

    @classmethod
    def of(cls, trainer: Any) -> "Kept":
        """That of a trainer, made when there is none."""
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, cls):
                return callback
        made = cls(trainer)
        trainer.add_callback(made)
        return made

    def add(self, objective: Objective, means: Means) -> None:
        """Keep one more."""
        if not any(one is objective for one in self.objectives):
            self.objectives.append(objective)
        if not any(one is means for one in self._means):
            self._means.append(means)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """All processes start from the first one's."""
        for objective in self.objectives:
            dist.as_first([*objective.parameters(), *objective.buffers()])
            objective.zero_grad()
        for means in self._means:
            means.clear()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The trainer forgets the gradients of the model only, before sentence-transformers 6.2."""
        for objective in self.objectives:
            objective.zero_grad()

    def _save_beside(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        self._save(output_dir, _internal_call)
        if _internal_call and output_dir is not None and self._trainer.args.should_save:  # a checkpoint
            for name, objective in self._named():
                save_objective(objective, Path(output_dir), name)

    def _load_beside(self, checkpoint: str, *more: Any) -> None:
        self._load(checkpoint, *more)
        for name, objective in self._named():
            if (Path(checkpoint) / f"{name}.safetensors").is_file():
                load_objective(objective, Path(checkpoint), name)
            else:
                warnings.warn(
                    f"{checkpoint} has no {name}.safetensors: what {type(objective).__name__} learns and remembers "
                    "starts afresh, so the run does not end as one that was not stopped",
                    stacklevel=4,
                )

    def _named(self) -> list[tuple[str, Objective]]:
        """Those that have something to keep, with the name of their files."""
        numbered = enumerate((one for one in self.objectives if one.state_dict()), start=1)
        return [(f"objective-{number}" if number > 1 else "objective", one) for number, one in numbered]

    def _log_with_stats(self, logs: dict[str, float], *more: Any, **named: Any) -> None:
        """Means since the last log, beside the parts, which the library logs itself."""
        of_loss = next((name for name in logs if name == "loss" or name.endswith("_loss")), None)
        if of_loss not in (None, "train_loss"):  # the last is of the summary at the end
            prefix = of_loss.removesuffix("loss")
            for means in self._means:
                logs = logs | {f"{prefix}stats/{name}": mean for name, mean in means.take(training=not prefix).items()}
        self._log(logs, *more, **named)
