"""Rewards and judges that come with kilter, by name: VADER, a Bradley–Terry reward of HH's pairs, the exact answer."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

from kilter.core import options
from kilter.data.assets import ASSETS
from kilter.data.bbh import exact_match
from kilter.data.hh_harmless import Parts, PreferencePair, hh_pairs, hh_parts
from kilter.data.vader import vader
from kilter.models.bradley_terry import BradleyTerry

Role = Literal["reward", "judge"]
SCORERS = {"bradley-terry": "hh-harmless", "vader": "vader", "exact-match": ""}
"""Their names, and the asset that each is made of, if any."""


def scorer(name: str, role: Role = "reward") -> Callable[..., list[float]]:
    """A scorer by its name: `(prompts=, completions=, **columns) -> numbers`, a reward as trl's trainers take it.

    Args:
        name: `bradley-terry` learns from pairs of `hh_harmless`, in seconds, those of the reward or those of the judge;
            `vader` is how positive an answer is; `exact-match` is 1 for the answer in column `chosen`, else 0.
        role: what for; a reward and a judge by Bradley and Terry have learnt from different people's choices, any
            other scorer is the same for both.

    Raises:
        ValueError: there is no such scorer or role.
        FileNotFoundError: what it is made of is not here and cannot be fetched.
    """
    options.one_of("name", name, SCORERS)
    options.one_of("role", role, Role)
    if name == "bradley-terry":
        return _learnt(role)
    return {"vader": vader, "exact-match": exact_match}[name]


def scorer_digest(name: str, role: Role = "reward") -> str:
    """Changes with what a scorer is made of, so that what was scored by another is not taken for its.

    Example:
        >>> scorer_digest("bradley-terry") == scorer_digest("bradley-terry", "judge")
        False
        >>> scorer_digest("exact-match")
        'exact-match'

    Raises:
        ValueError: there is no such scorer or role.
    """
    options.one_of("name", name, SCORERS)
    options.one_of("role", role, Role)
    asset = SCORERS[name]
    learnt = [role] if name == "bradley-terry" else []
    return "-".join([name, *learnt, *([ASSETS[asset].digest()] if asset else [])])


def held_out_accuracy(role: Role = "reward") -> float:
    """Of the pairs that neither reward nor judge learnt from, the share that the Bradley–Terry scorer gets right.

    Raises:
        ValueError: there is no such role.
        FileNotFoundError: the pairs are not here and cannot be fetched.
    """
    options.one_of("role", role, Role)
    return _learnt(role).accuracy(*_answers(_parts().test))


@cache
def _learnt(role: Role) -> BradleyTerry:
    return BradleyTerry.fit(*_answers(getattr(_parts(), role)))


@cache
def _parts() -> Parts:
    return hh_parts(hh_pairs())


def _answers(pairs: list[PreferencePair]) -> tuple[list[Any], list[Any]]:
    return [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
