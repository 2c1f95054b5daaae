"""How much of an output is copied, from what it said itself or from its prefix?

Follows the released scoring code of Krishna et al., "RankGen", EMNLP 2022, which printed the figures of the paper.
Departure: a token within `window` of the beginning is compared with all before it; the released code compares it with
nothing there, which shows where prefixes are shorter than the window.
"""

import re
import statistics
import string
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from kilter.core.normalise import tidy
from kilter.core.options import whole

Tokenize = Callable[[str], Sequence[str]]

_LISTED = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its
itself they them their theirs themselves what which who whom this that these those am is are was were be been being have
has had having do does did doing a an the and but if or because as until while of at by for with about against between
into through during before after above below to from up down in out on off over under again further then once here there
when where why how all any both each few more most other some such no nor not only own same so than too very s t can
will just don should now d ll m o re ve y ain aren couldn didn doesn hadn hasn haven isn ma mightn mustn needn shan
shouldn wasn weren won wouldn"""

STOP_WORDS = frozenset(_LISTED.split())
"""English words that overlap does not count: NLTK's list, without those that normalised words cannot equal."""

_MARKS = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def rankgen_words(text: str) -> list[str]:
    """A text's words as RankGen counts them: lower case, without ASCII punctuation and English articles.

    Example:
        >>> rankgen_words("The cat's on a mat.")
        ['cats', 'on', 'mat']
    """
    return _ARTICLES.sub(" ", tidy(text).lower().translate(_MARKS)).split()


def repetition(tokens: str | Sequence[Hashable], window: int = 20, *, prefix: str | Sequence[Hashable] = ()) -> float:
    """Share of tokens that occur among the `window` tokens before them: RankGen's rep, as a share of 1.

    Args:
        tokens: the output; texts are split by `rankgen_words`, lists of words or ids are taken as they are.
        window: how many tokens to look back.
        prefix: what comes before the output; looked at, not counted.

    Raises:
        ValueError: no tokens, or a window below 1.

    Example:
        >>> repetition("to be or not to be")
        0.3333

    Reference: Krishna et al. 2022, table 15; from Welleck et al. 2020.
    """
    whole("window", window, 1)
    before = _tokens(prefix, rankgen_words, "prefix", empty=True)
    after = _tokens(tokens, rankgen_words, "tokens")
    both = [*before, *after]
    seen = [both[place] in both[max(0, place - window) : place] for place in range(len(before), len(both))]
    return statistics.fmean(seen) if seen else 0.0


def overlap(
    prefix: str | Sequence[str],
    continuation: str | Sequence[str],
    *,
    stop_words: frozenset[str] = STOP_WORDS,
    tokenize: Tokenize = rankgen_words,
) -> float:
    """Share of the continuation's words that its prefix has too: RankGen's unigram overlap, as a share of 1.

    A word counts at most as often as the prefix has it; a continuation of nothing but stop words has 0.

    Args:
        prefix: what comes before; a text or its words.
        continuation: the output; a text or its words.
        stop_words: not counted on either side. The list is English; give `frozenset()` for other languages.
        tokenize: from a text to its words.

    Raises:
        ValueError: an empty prefix or continuation.

    Example:
        >>> overlap("The old house stood on a hill.", "A house! The house was red.")
        0.3333

    Reference: Krishna et al. 2022, table 16. The paper says all tokens; its code leaves out stop words and clips.
    """
    first, second = (
        Counter(word for word in _tokens(given, tokenize, name) if word not in stop_words)
        for name, given in (("prefix", prefix), ("continuation", continuation))
    )
    return (first & second).total() / max(1, second.total())


def _tokens(given: str | Sequence[Any], tokenize: Tokenize, name: str, *, empty: bool = False) -> Sequence[Any]:
    """The tokens of a text, or those given; none only where `empty` allows it."""
    if not isinstance(given, str) and not isinstance(given, Sequence):
        raise TypeError(f"{name} must be a text or a list of tokens, got {type(given).__name__}")
    if not empty and not (given.strip() if isinstance(given, str) else len(given)):
        raise ValueError(f"{name} is empty; leave this output out")
    return tokenize(given) if isinstance(given, str) else given
