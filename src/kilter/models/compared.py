"""What several models hear in the same recordings: which of them each can hear, and words made alike."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kilter.core.normalise import TextPart, tidy
from kilter.models.fitting import Given, problems
from kilter.models.recogniser import Heard, Recogniser
from kilter.models.spelling import Spelling


@dataclass(frozen=True)
class Listener:
    """A model's name, how it spells, and what it heard, by the place of the recording."""

    name: str
    spelling: Spelling
    heard: Mapping[int, Heard]


def unfit(recogniser: Recogniser, rows: Sequence[Given], *, skip_bad: bool) -> dict[int, str]:
    """Why a model can do nothing with a recording, by the recording's place.

    Where recordings may be left out, so are those whose text it cannot spell; else these stay, their words count as
    errors, and that is told.

    Raises:
        ValueError: a recording is too short for the model, and may not be left out.
    """
    if not skip_bad:
        try:
            recogniser.check_texts([(row.where, row.text) for row in rows])
        except ValueError as error:
            print(f"counted as word errors: {error}", file=sys.stderr)
        rows = [row._replace(text="") for row in rows]
    found = {place: why for place, why in enumerate(problems(recogniser, rows, fit=False)) if why}
    if found and not skip_bad:
        raise ValueError(f"{next(iter(found.values()))} (or leave such recordings out with --skip-bad)")
    return found


def alike(keep: Sequence[TextPart], *listeners: Listener | None) -> Callable[[str], str]:
    """Texts as all the models spell them, and in lower case: vocabularies and aligners differ in it.

    Args:
        keep: parts of the normalisation to leave out.
        listeners: the models; None is nobody.
    """

    def made_alike(text: str) -> str:
        for listener in listeners:
            text = listener.spelling.normalise(text) if listener else text
        return tidy(text if "case" in keep else text.casefold(), keep)

    return made_alike


def words_by(made_alike: Callable[[str], str], words: Sequence[Any]) -> list[Any]:
    """Emissions or spans with their words made alike, and times to the microsecond, so that equal ones are equal."""
    return [type(word)(made_alike(word.token), *(round(time, 6) for time in word[1:])) for word in words]
