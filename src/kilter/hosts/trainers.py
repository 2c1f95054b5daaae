"""Any trainer of transformers' kind: the one place that a sampler of one's own needs.

transformers has no argument for a sampler; the method that makes it is set on the trainer itself. sentence-transformers
has one for samplers of whole batches.
"""

from collections.abc import Callable
from typing import Any

from transformers import Trainer


def use_sampler(trainer: Trainer, sampler: Callable[..., Any] | Any) -> None:
    """Let a trainer draw its training rows by a sampler.

    A resumed run passes over what it has drawn, so a sampler must give the same order each time it is iterated for the
    same epoch (`set_epoch`, if it has one, is called).

    Args:
        trainer: of transformers' kind.
        sampler: of row numbers; for a `SentenceTransformerTrainer` what its argument `batch_sampler` takes.
    """
    if hasattr(trainer.args, "batch_sampler"):
        trainer.args.batch_sampler = sampler  # type: ignore[attr-defined]
    else:
        trainer._get_train_sampler = lambda train_dataset=None: sampler  # type: ignore[method-assign]
