"""What any recipe on continuations can be set beside: simple rankers, no ranker, the author, and the judge."""

from collections.abc import Callable, Sequence
from typing import Any

from kilter.lab.arms import Levers, Term


class OwnProbability:
    """The generator's own mean log-probability of a token; of its samples it is known since they were drawn."""

    def __init__(self, load: Callable[[], tuple[Any, Any]]) -> None:
        self._load = load

    def __call__(self, prefixes: Sequence[str], continuations: Sequence[str]) -> Any:
        """Mean log-probability, `(n,)`."""
        from kilter.tasks.continuations.ranking import MeanLogProb

        return MeanLogProb(*self._load())(prefixes, continuations)


def rivals(load: Callable[[], tuple[Any, Any]]) -> dict[str, Term]:
    """Terms of the task, by name; `load` gives the generator and its tokenizer."""
    return {
        "overlap": _ranked("Words shared with the prefix", _overlap),
        "perplexity": _ranked("The generator's own probability", OwnProbability(load)),
        **{name: _alone(name, label) for name, label in ALONE.items()},
    }


ALONE = {
    "nucleus": "Nucleus sampling, not ranked",
    "human": "What the author wrote",
    "judge": "The ranker that judges the samples",
}
"""Arms that choose nothing by a ranker of theirs: their decoder is their name."""


def _ranked(label: str, reward: Callable[..., Any]) -> Term:
    return Term(label, lambda strength: Levers(reward=reward), role="context")


def _alone(name: str, label: str) -> Term:
    return Term(label, lambda strength: Levers(decoder=name), role="context")


def _overlap(prefixes: Sequence[str], continuations: Sequence[str]) -> Any:
    from kilter.tasks.continuations.ranking import word_overlap

    return word_overlap(prefixes, continuations)
