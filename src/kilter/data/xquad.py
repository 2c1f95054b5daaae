"""XQuAD's English questions, with paragraphs that answer them, and long contexts in which the answer hides.

Source: Artetxe, Ruder, Yogatama, On the cross-lingual transferability of monolingual representations (2020). The
departure: contexts grow by paragraphs of other articles that do not hold the answer, the answer's place being drawn.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator

from kilter.data.assets import Located, locate

FILE = "xquad.en.json"
_PARTED = "\n\n"
"""Between the paragraphs of a context."""


@dataclass(frozen=True)
class Question:
    """A question, the text that answers it, and where.

    Attributes:
        id: Of the question.
        question: In words.
        context: A paragraph, or several.
        answers: As they stand in the context; at least one.
        start: The character of the context at which the first answer begins.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    start: int


def locate_xquad() -> Located:
    """Where XQuAD is, and whom to credit.

    Raises:
        FileNotFoundError: It is not here and cannot be fetched.
    """
    return locate("xquad", progress=False)


def xquad_questions(*, folder: str | Path | None = None) -> list[Question]:
    """The 1,190 questions, in their order, each on its paragraph.

    Args:
        folder: Where the file is; None: where `locate_xquad` finds or puts it.

    Raises:
        ValueError: The file is missing or broken, or an answer does not stand where it says.
        FileNotFoundError: XQuAD is not here and cannot be fetched.
    """
    file = Path(folder or locate_xquad().path) / FILE
    try:
        articles = json.loads(file.read_text("utf-8"))["data"]
        found = [
            Question(
                asked["id"],
                asked["question"],
                paragraph["context"],
                tuple(dict.fromkeys(answer["text"] for answer in asked["answers"])),
                asked["answers"][0]["answer_start"],
            )
            for article in articles
            for paragraph in article["paragraphs"]
            for asked in paragraph["qas"]
        ]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        again = "delete the folder and run `kilter fetch xquad`"
        raise ValueError(f"{file}: not XQuAD's questions ({error!r}); {again}") from error
    for one in found:
        if not one.context.startswith(one.answers[0], one.start):
            raise ValueError(f"{file}: the answer of question {one.id} does not stand at character {one.start}")
    return found


def count_bytes(text: str) -> int:
    """The tokens of a model that reads bytes.

    Example:
        >>> count_bytes("naïve")
        6
    """
    return len(text.encode())


def with_distractors(
    question: Question,
    paragraphs: Sequence[str],
    *,
    tokens: int,
    count: Callable[[str], int] = count_bytes,
    generator: Generator | None = None,
) -> Question:
    r"""The question on a longer context: its own among others that do not hold an answer, a blank line between them.

    Args:
        question: The question.
        paragraphs: To draw from, without replacement; those that hold an answer are passed over.
        tokens: At most so many in the context, by `count`; a paragraph that does not fit any more is passed over.
        count: The tokens of a text.
        generator: Of the paragraphs, their order and the answer's place among them; None is torch's global stream.

    Raises:
        ValueError: The question's own context is longer than `tokens`.

    Example:
        >>> asked = Question("1", "Who reads?", "Ann reads.", ("Ann",), 0)
        >>> longer = with_distractors(asked, ["Ann writes.", "Rain falls."], tokens=30)
        >>> sorted(longer.context.split("\n\n")), longer.context[longer.start :][:3]
        (['Ann reads.', 'Rain falls.'], 'Ann')
    """
    own, between = count(question.context), count(_PARTED)
    if own > tokens:
        raise ValueError(f"tokens={tokens}: the context of question {question.id} alone has {own}; allow as many")
    free, chosen = tokens - own, list[str]()
    for place in torch.randperm(len(paragraphs), generator=generator):
        text = paragraphs[int(place)]
        size = count(text) + between
        if size <= free and not any(answer in text for answer in question.answers):
            chosen.append(text)
            free -= size
    before = int(torch.randint(len(chosen) + 1, (), generator=generator))
    lead = "".join(text + _PARTED for text in chosen[:before])
    context = _PARTED.join([*chosen[:before], question.context, *chosen[before:]])
    return replace(question, context=context, start=len(lead) + question.start)
