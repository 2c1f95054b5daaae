"""Which of two answers is less harmful: people's choices, and parts of them for a reward, a judge and a test.

Source: Bai et al., "Training a helpful and harmless assistant", 2022; the test part of harmless-base, the only one that
lies whole in the repository. The departure: pairs that begin with the same question are never in two parts.
"""

import gzip
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from os.path import commonprefix
from pathlib import Path
from typing import NamedTuple

from kilter.data.assets import Located, locate

FILE = "harmless-base-test.jsonl.gz"
SIZES = (900, 900, 500)
"""Pairs that the reward learns from, that the judge learns from, and that neither does."""

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_ANSWERS = "\n\nAssistant:"

Message = dict[str, str]


@dataclass(frozen=True)
class PreferencePair:
    """A dialogue so far and two answers to it.

    Attributes:
        prompt: Messages with `role` and `content`, the user's turn the last.
        chosen: The answer that a person preferred.
        rejected: The other one.
    """

    prompt: list[Message]
    chosen: str
    rejected: str

    def row(self) -> dict[str, list[Message]]:
        """The pair as trl's trainers take it, in the columns `prompt`, `chosen` and `rejected`.

        Example:
            >>> PreferencePair([{"role": "user", "content": "Rain?"}], "Yes.", "").row()["chosen"]
            [{'role': 'assistant', 'content': 'Yes.'}]
        """
        answers = {"chosen": self.chosen, "rejected": self.rejected}
        return {
            "prompt": self.prompt,
            **{name: [{"role": "assistant", "content": text}] for name, text in answers.items()},
        }


class Parts(NamedTuple):
    """Pairs that share no first question: for a reward, for a judge, and to be judged on."""

    reward: list[PreferencePair]
    judge: list[PreferencePair]
    test: list[PreferencePair]


def locate_hh() -> Located:
    """Where the pairs are, and whom to credit.

    Raises:
        FileNotFoundError: They are not here and cannot be fetched.
    """
    return locate("hh-harmless", progress=False)


def hh_pairs(*, folder: str | Path | None = None) -> list[PreferencePair]:
    """The 2,312 pairs, in their order; of four one answer is empty.

    A pair is cut after the last turn that both sides share. Turns of one speaker after each other are one.

    Args:
        folder: Where the file is; None: where `locate_hh` finds or puts it.

    Raises:
        ValueError: The file is missing or broken; the line is named.
        FileNotFoundError: The pairs are not here and cannot be fetched.
    """
    file = Path(folder or locate_hh().path) / FILE
    found = list[PreferencePair]()
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                found.append(split_pair(row["chosen"], row["rejected"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        again = "delete the folder and run `kilter fetch hh-harmless`"
        raise ValueError(f"{file}, line {len(found) + 1}: no pair of dialogues ({error!r}); {again}") from error
    return found


def split_pair(chosen: str, rejected: str) -> PreferencePair:
    r"""Two dialogues that begin alike, as the prompt and two answers.

    Raises:
        ValueError: They share no turn that an assistant answers.

    Example:
        >>> pair = split_pair("\n\nHuman: Rain?\n\nAssistant: No.", "\n\nHuman: Rain?\n\nAssistant: Go away.")
        >>> pair.prompt, pair.chosen, pair.rejected
        ([{'role': 'user', 'content': 'Rain?'}], 'No.', 'Go away.')
    """
    shared = commonprefix([chosen, rejected]).rfind(_ANSWERS)  # noqa: RUF071 - letters are meant
    prompt = list[Message]()
    for role, text in _turns(chosen[: max(shared, 0)]):
        if prompt and prompt[-1]["role"] == role:
            prompt[-1]["content"] += "\n\n" + text
        else:
            prompt.append({"role": role, "content": text})
    if not prompt:
        raise ValueError("they do not begin with the same turn of a person")
    start = shared + len(_ANSWERS)
    return PreferencePair(prompt, chosen[start:].strip(), rejected[start:].strip())


def hh_parts(pairs: Sequence[PreferencePair], *, sizes: tuple[int, int, int] = SIZES) -> Parts:
    """The pairs whose two answers say something, cut by their first question; whoever asks gets the same parts.

    Who trains a policy learns from the prompts of `reward` and `judge` together, and is judged on those of `test`.

    Args:
        pairs: What `hh_pairs` returns.
        sizes: Pairs of each part.

    Raises:
        ValueError: There are too few pairs for that.
    """
    said = [pair for pair in pairs if pair.chosen and pair.rejected]
    said.sort(key=lambda pair: sha256(_asked(pair).encode()).digest())
    parts, start = list[list[PreferencePair]](), 0
    for size in sizes:
        end = start + size
        if end > len(said):
            raise ValueError(f"sizes={sizes}: {len(said)} pairs are too few for parts that share no question")
        parts.append(said[start:end])
        while end < len(said) and _asked(said[end]) == _asked(said[end - 1]):
            end += 1
        start = end
    return Parts(*parts)


def _asked(pair: PreferencePair) -> str:
    return pair.prompt[0]["content"]


def _turns(text: str) -> Iterable[tuple[str, str]]:
    _, *parts = _TURN.split(text)
    return ((_ROLES[name], said.strip()) for name, said in zip(parts[::2], parts[1::2], strict=True))
