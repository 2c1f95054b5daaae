"""Where speech comes from: strings of recorded digits, recorded sentences, or the user's own recordings."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from kilter.core.sources import check_reread
from kilter.lab.recipe import Provenance

if TYPE_CHECKING:
    from kilter.data.manifests import SpeechRows
    from kilter.models.recogniser import Recogniser

Split = Literal["test", "dev"]

_LETTERS: Any = {"hidden_size": 128, "stack": 4, "dilations": (1, 2, 1, 2, 4), "causal": False}
"""The recogniser of letters: wider, 40 ms a frame, and with a look ahead, for which it has no drift to lose."""


class Digits:
    """Strings of spoken digits as words, whose ends are known to the sample."""

    has_dev = True
    """whether there is another set to judge on, for what is chosen"""
    has_spans = True
    """whether the true spans of the words are known"""

    def __init__(self, test_strings: int) -> None:
        from kilter.data.assets import locate
        from kilter.data.fsdd import load_takes

        found = locate("fsdd")
        self.takes, self.provenance, self.test_strings = (
            load_takes(found.path),
            Provenance(**found.credit()),
            test_strings,
        )

    def judged(self, split: Split, seed: int) -> Any:
        """The same strings for every seed, so that seeds can be compared."""
        from kilter.data.fsdd import DigitStrings

        return DigitStrings(self.takes, count=self.test_strings, seed=0, split=split)

    def training(self, count: int, seed: int, fold: int) -> Any:
        """New strings for every seed."""
        from kilter.data.fsdd import DigitStrings

        return DigitStrings(self.takes, count=count, seed=seed, split="train")

    def fresh(self, encoder: Any) -> "Recogniser":
        """An untrained recogniser of the digits' words."""
        from kilter.data import fsdd
        from kilter.models.recogniser import Recogniser

        return Recogniser.small(fsdd.WORDS, encoder, fsdd.RATE)

    def language_model(self, recogniser: "Recogniser", seed: int) -> None:
        """None: any digit may follow any other."""


class Sentences:
    """Recorded sentences as letters, of which each seed holds out another part."""

    has_dev = has_spans = False

    def __init__(self, language: str) -> None:
        from kilter.data.assets import locate
        from kilter.data.prompts import load_prompts

        found = locate("asterisk-prompts")
        self.prompts, self.provenance = load_prompts(found.path, language), Provenance(**found.credit())

    def judged(self, split: Split, seed: int) -> Any:
        """What this seed holds out."""
        from kilter.data.prompts import FOLDS, Prompts

        return Prompts(self.prompts, fold=seed % FOLDS)

    def training(self, count: int, seed: int, fold: int) -> Any:
        """The others, in ever new strings."""
        from kilter.data.prompts import FOLDS, PromptStrings

        return PromptStrings(self.prompts, count=count, seed=seed, fold=fold % FOLDS)

    def fresh(self, encoder: Any) -> "Recogniser":
        """An untrained recogniser of letters."""
        from kilter.data import prompts
        from kilter.models.recogniser import Recogniser
        from kilter.models.small_speech import letter_tokenizer

        return Recogniser.small(letter_tokenizer(prompts.LETTERS), encoder, prompts.RATE, **_LETTERS)

    def language_model(self, recogniser: "Recogniser", seed: int) -> Any:
        """Of the texts that this seed trains on."""
        from kilter.data.prompts import FOLDS
        from kilter.models.letter_ngram import LetterNGram

        texts = [prompt.text for prompt in self.prompts if prompt.fold != seed % FOLDS]
        return LetterNGram(texts, recogniser.tokenizer)


class OwnRecordings:
    """The user's recordings, for the user's model."""

    has_dev = has_spans = False

    def __init__(self, recogniser: "Recogniser", train: str, evaluation: str, **columns: Any) -> None:
        from kilter.data.manifests import load_speech

        check_reread("recordings", train=train, eval=evaluation)
        own = _fitting(recogniser, load_speech(train, split="train", rate=recogniser.rate, **columns), **columns)
        judged = load_speech(evaluation, split="test", rate=recogniser.rate, **columns)
        judged = _fitting(recogniser, judged, **columns)
        self._own, self._judged = own.rows, judged.rows
        texts = [text for _, text in (*own.rows.texts(), *judged.rows.texts())]
        self.provenance = Provenance(
            f"your recordings: {len(own.rows)} to train, {len(judged.rows)} to judge",
            source=f"{train}, {evaluation}",
            skipped=[*own.skipped, *judged.skipped],
            note=recogniser.spelling.normalise.told(texts),
            digest=_digest(own.rows.texts(), judged.rows.texts()),
        )

    def judged(self, split: Split, seed: int) -> Any:
        """All that --eval names."""
        return self._judged

    def training(self, count: int, seed: int, fold: int) -> Any:
        """All that --train names; the trainer goes over it as often as it must."""
        return self._own

    def language_model(self, recogniser: "Recogniser", seed: int) -> None:
        """None is made of the user's texts."""


Source = Digits | Sentences | OwnRecordings

_TOLD = 5
"""Recordings that an error names."""


def _fitting(recogniser: "Recogniser", found: "SpeechRows", *, skip_bad: bool, **_: Any) -> "SpeechRows":
    """The recordings that can be learnt from or judged by; what would stop the training in its middle is named now.

    Raises:
        ValueError: a recording is too short, or its text is empty, too long for it or cannot be spelt, and none of
            these may be left out; or no recording is left.
    """
    from kilter.data.manifests import SpeechRows, Utterances
    from kilter.models.fitting import Given, problems

    rows = found.rows.headers()
    given = [Given(row.where, row.text, math.ceil(row.seconds * recogniser.rate)) for row in rows]
    bad = {place: why for place, why in enumerate(problems(recogniser, given, need_text=True)) if why}
    told = "\n".join(
        [f"{len(bad)} of {len(rows)} recordings cannot be learnt from or judged by:", *[*bad.values()][:_TOLD]]
    )
    if bad and not skip_bad:
        hint = "(or skip such recordings with --skip-bad)"
        try:
            recogniser.check_texts([(row.where, row.text) for row in given if row.text.strip()])
        except ValueError as error:  # it names every sign, not the first recording's alone
            raise ValueError(f"{error} {hint}") from error
        raise ValueError(f"{told}\n{hint}")
    if len(bad) == len(rows):
        raise ValueError(f"{told}\nand none is left")
    left_out = [(rows[place].where, why.removeprefix(f"{rows[place].where}: ")) for place, why in bad.items()]
    left = [row for place, row in enumerate(rows) if place not in bad]
    return SpeechRows(Utterances(left, recogniser.rate), [*found.skipped, *left_out])


def _digest(*parts: Sequence[tuple[str, str]]) -> str:
    """Changes with the places and texts of one's own data; the audio is not read for it."""
    from hashlib import sha256

    return sha256(repr(parts).encode()).hexdigest()[:16]
