"""When was each word spoken? Forced alignment of a transcript, or of what the model hears.

Reference: L. Kürzinger et al., "CTC-segmentation of large corpora", SPECOM 2020, for the idea; the path is the most
probable one that spells the text (Viterbi). Departure: none of the frames is a word's but those its tokens hold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kilter.evaluation.word_times import WordTime
from kilter.models.fitting import Given, lack, problems
from kilter.models.frames import until
from kilter.models.recogniser import Recogniser, Rows, no_numbers
from kilter.models.recordings import Row, in_batches
from kilter.ops.vocabulary import Word
from kilter.speech.ctc_align import ctc_forced_align

__all__ = ["Aligned", "align", "check_fit"]


@dataclass(frozen=True)
class Aligned:
    """The words of one utterance and their times.

    Attributes:
        text: the transcript, or what the model heard.
        words: in order, none overlapping the next.
        heard: whether the text is what the model heard.
        seconds: duration of the recording.
        problem: why there are no words; empty where all is well.
    """

    text: str
    words: list[WordTime]
    heard: bool = False
    seconds: float = 0.0
    problem: str = ""


def align(recogniser: Recogniser, rows: Rows, batch_size: int = 32, *, skip_bad: bool = False) -> Iterator[Aligned]:
    """Time the words of every utterance; where `text` is missing or empty, those of the model's best path.

    A word starts with the first frame of its first token and ends with the last frame of its last token's run. CTC
    models are peaky: a token holds few frames, often one, so an end is that of the run, not of the sound. A batch that
    does not fit into memory is halved. A recording that is too long for one piece goes through the model in windows,
    see `Recogniser.windows`, and its frames are aligned as one.

    Args:
        recogniser: model, feature extractor and tokenizer.
        rows: utterances with `audio` and, where there is a transcript, `text`.
        batch_size: utterances at once.
        skip_bad: give such an utterance with its `problem` instead of raising.

    Raises:
        ValueError: a recording cannot be read, is too short for its text or does not fit into memory, or the tokenizer
            cannot spell the text.
    """
    recogniser.model.eval()

    def check(row: Row) -> Row:
        text = str(row.get("text") or "")
        if problem := recogniser.spelling.problem(text):
            raise ValueError(f"{_name(row)}: {problem}")
        return recogniser.checked({**row, "text": recogniser.spelling.written(text)})

    for found in in_batches(
        rows,
        batch_size,
        lambda batch: [*_align(recogniser, batch)],
        check=check,
        long=recogniser.is_long,
        failed=lambda problem: Aligned("", [], problem=problem),
    ):
        if found.problem and not skip_bad:
            raise ValueError(found.problem)
        yield found


def check_fit(recogniser: Recogniser, texts: Sequence[tuple[str, str, int]]) -> None:
    """Check that recordings are long enough, given with their place, text and samples; as far as can be foretold.

    Raises:
        ValueError: one is too short for the model or for its text, or its text cannot be spelt; it is named.
    """
    if bad := [problem for problem in problems(recogniser, [Given(*row) for row in texts]) if problem]:
        raise ValueError(bad[0])


def _align(recogniser: Recogniser, rows: Sequence[Row]) -> Iterator[Aligned]:
    blank = recogniser.blank
    log_probs, lengths, shift, offset = recogniser.outputs(rows)
    log_probs = recogniser.spelling.named(log_probs)
    texts = [recogniser.spelling.spell(row["text"]) for row in rows]
    spelt = [text.ids for text in texts]
    wrong = [
        no_numbers(row, said[:frames]) or lack(_name(row), ids, int(frames), shift)
        for row, said, ids, frames in zip(rows, log_probs, spelt, lengths, strict=True)
    ]
    fits = [i for i, ids in enumerate(spelt) if ids and not wrong[i]]
    path = log_probs.argmax(-1)
    if fits:
        targets = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(spelt[i]) for i in fits], batch_first=True, padding_value=blank
        )
        sizes = torch.tensor([len(spelt[i]) for i in fits])
        path[fits] = ctc_forced_align(log_probs[fits], lengths[fits], targets, sizes, blank=blank)
    for i, row in enumerate(rows):
        seconds = len(row["audio"]) / recogniser.rate
        if wrong[i]:
            yield Aligned(row["text"], [], seconds=seconds, problem=wrong[i])
            continue
        frames = int(lengths[i])
        runs = _runs(path[i, :frames], blank)
        found = texts[i].words if spelt[i] else recogniser.spelling.reader.words([run.token for run in runs])
        words = [
            word._replace(end=until(word.end, seconds))
            for word in _times(found, runs, log_probs[i, :frames], path[i, :frames], shift, offset)
        ]
        text = row["text"] or " ".join(word.word for word in words)
        yield Aligned(text, words, heard=not row["text"], seconds=seconds)


class _Run(NamedTuple):
    token: int
    start: int
    stop: int


def _runs(path: Tensor, blank: int) -> list[_Run]:
    """The tokens along a path, each with the frames it holds."""
    tokens, counts = path.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0)
    found = map(_Run, tokens.tolist(), (ends - counts).tolist(), ends.tolist())
    return [run for run in found if run.token != blank]


def _times(
    words: Sequence[Word], runs: Sequence[_Run], log_probs: Tensor, path: Tensor, shift: float, offset: float
) -> list[WordTime]:
    """The words of a path, each with the frames of its tokens' runs."""
    sure = log_probs.gather(-1, path[:, None])[:, 0].double()
    found = []
    for word in words:
        held = [t for run in runs[word.start : word.stop] for t in range(run.start, run.stop)]
        # frame t is the time from t shifts to t + 1 shifts, both later by the offset, as in `emission_time`
        start, end = (offset + shift * frame for frame in (held[0], held[-1] + 1))
        found.append(WordTime(word.text.replace("\ufffd", "<unk>"), start, end, float(sure[held].mean().exp())))
    return found


def _name(row: Row) -> str:
    return str(row.get("id", "a recording"))
