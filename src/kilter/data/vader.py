"""How positive a text is, by VADER: a reward that is public, needs no training, and is easily overdone.

Source: Hutto and Gilbert, "VADER: a parsimonious rule-based model for sentiment analysis of social media text", ICWSM
2014, out of the wheel vaderSentiment. The departure: the authors' module is run where it lies, its checksum known, so
that all scores are theirs and nothing else that the package asks for is needed.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from kilter.data.assets import locate
from kilter.models.completions import completion_text

_MODULE = "vaderSentiment.py"


def vader(completions: Sequence[Any], **columns: Any) -> list[float]:
    """VADER's compound score of each completion, -1 to 1: a reward as trl's trainers take it.

    Texts without a word of its lexicon have 0, scores are rounded to four digits, and long texts come near ±1: many
    answers tie. The first call fetches the wheel, unless vaderSentiment is installed.

    Args:
        completions: Texts, or lists of messages.
        columns: Whatever else a trainer gives; not looked at.

    Raises:
        FileNotFoundError: VADER is not here and cannot be fetched.
    """
    score = _analyser().polarity_scores
    return [score(completion_text(one))["compound"] for one in completions]


@cache
def _analyser() -> Any:
    """The authors' analyser; reading its lexicon takes a tenth of a second."""
    spec = spec_from_file_location("kilter_vader", locate("vader", progress=False).path / _MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SentimentIntensityAnalyzer()
