"""When was each word spoken? Forced alignment of a transcript, or of what the model hears.

Reference: L. Kürzinger et al., "CTC-segmentation of large corpora", SPECOM 2020, for the idea; the path is the most
probable one that spells the text (Viterbi). Departure: none of the frames is a word's but those its tokens hold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from kilter.evaluation.word_times import WordTime
from kilter.models.frames import until
from kilter.models.recogniser import Recogniser, Rows
from kilter.models.recordings import Row, in_batches
from kilter.speech.ctc_align import ctc_forced_align
from kilter.speech.minimum_wer import Vocabulary, token_strings

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
        text = " ".join(str(row.get("text") or "").split())
        if text:
            recogniser.check_texts([(_name(row), text)])
        return recogniser.checked({**row, "text": text})

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
        ValueError: one is too short for the model or for its text; it is named.
    """
    recogniser.check_lengths([{"id": where, "audio": range(samples)} for where, _, samples in texts])
    counts = recogniser.frame_counts([samples for _, _, samples in texts])
    for (where, text, _), frames in zip(texts, counts, strict=False):
        if problem := _lack(where, _spell(recogniser, text), frames, recogniser.frame_times[0]):
            raise ValueError(problem)


def _spell(recogniser: Recogniser, text: str) -> list[int]:
    return recogniser.tokenizer(text, add_special_tokens=False).input_ids if text else []


def _lack(name: str, ids: Sequence[int], frames: int, shift: float) -> str:
    """What is wrong where a recording has fewer frames than its text needs: one a token, and one between equal ones."""
    need = len(ids) + sum(a == b for a, b in pairwise(ids))
    if need <= frames:
        return ""
    return (
        f"{name}: the text needs at least {need} frames of {1e3 * shift:.0f} ms and the recording has {frames}; check "
        "that this text belongs to it"
    )


def _align(recogniser: Recogniser, rows: Sequence[Row]) -> Iterator[Aligned]:
    blank = recogniser.blank
    reader = Vocabulary(token_strings(recogniser.tokenizer), blank)
    log_probs, lengths, shift, offset = recogniser.outputs(rows)
    spelt = [_spell(recogniser, row["text"]) for row in rows]
    problems = [
        _lack(_name(row), ids, int(frames), shift) for row, ids, frames in zip(rows, spelt, lengths, strict=True)
    ]
    fits = [i for i, ids in enumerate(spelt) if ids and not problems[i]]
    path = log_probs.argmax(-1)
    if fits:
        targets = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(spelt[i]) for i in fits], batch_first=True, padding_value=blank
        )
        sizes = torch.tensor([len(spelt[i]) for i in fits])
        path[fits] = ctc_forced_align(log_probs[fits], lengths[fits], targets, sizes, blank=blank)
    for i, row in enumerate(rows):
        seconds = len(row["audio"]) / recogniser.rate
        if problems[i]:
            yield Aligned(row["text"], [], seconds=seconds, problem=problems[i])
            continue
        frames = int(lengths[i])
        words = [
            word._replace(end=until(word.end, seconds))
            for word in _words(path[i, :frames], log_probs[i, :frames], reader, blank, shift, offset)
        ]
        written = row["text"].split()
        if len(written) == len(words):  # as they were written, not as the tokenizer spells them
            words = [word._replace(word=own) for word, own in zip(words, written, strict=True)]
        text = row["text"] or " ".join(word.word for word in words)
        yield Aligned(text, words, heard=not row["text"], seconds=seconds)


def _words(
    path: Tensor, log_probs: Tensor, reader: Vocabulary, blank: int, shift: float, offset: float
) -> list[WordTime]:
    """Words of the tokens along a path, each with the frames of its tokens' runs."""
    runs, counts = path.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0)
    spoken = runs != blank
    tokens, ends, counts = runs[spoken].tolist(), ends[spoken].tolist(), counts[spoken].tolist()
    sure = log_probs.gather(-1, path[:, None])[:, 0].double()
    words = []
    for word in reader.words(tokens):
        held = [t for k in range(word.start, word.stop) for t in range(ends[k] - counts[k], ends[k])]
        # frame t is the time from t shifts to t + 1 shifts, both later by the offset, as in `emission_time`
        start, end = (offset + shift * frame for frame in (held[0], held[-1] + 1))
        words.append(WordTime(word.text.replace("\ufffd", "<unk>"), start, end, float(sure[held].mean().exp())))
    return words


def _name(row: Row) -> str:
    return str(row.get("id", "a recording"))
