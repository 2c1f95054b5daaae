"""A CTC recogniser as people keep it: a transformers model with its feature extractor and tokenizer in one folder."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

import kilter.models.small_speech
from kilter.core.normalise import TextPart
from kilter.evaluation.latency import Emission, emission_time
from kilter.hosts.loading import load_model, reading, source_of
from kilter.hosts.transformers import blank_token, ctc_outputs
from kilter.hosts.wrapped import unwrapped
from kilter.models.devices import find_device
from kilter.models.frames import Frames, evaluating, find_frames, hears_padding, noise, until
from kilter.models.names import check_model_name
from kilter.models.recordings import Row, Rows, in_batches
from kilter.models.spelling import Spelling
from kilter.models.windows import Windows
from kilter.speech.ctc_search import Fuse, Hypothesis, ctc_greedy, ctc_prefix_beam_search

__all__ = ["Heard", "Recogniser", "Rows"]


@dataclass(frozen=True)
class Heard:
    """What was recognised in one utterance.

    Attributes:
        text: the words.
        words: each with the time at which it was complete.
        problem: why there is nothing; empty where all is well.
    """

    text: str
    words: list[Emission]
    problem: str = ""


@dataclass
class Recogniser:
    """A `PreTrainedModel`, perhaps wrapped, with the feature extractor and the tokenizer that belong to it.

    Attributes:
        model, features, tokenizer: of transformers.
        keep: parts of the normalisation that texts are spared, see `kilter.core.normalise`.
        windows: how long recordings go through the model.
    """

    model: Any
    features: Any
    tokenizer: Any
    keep: Sequence[TextPart] = ()
    windows: Windows = field(default_factory=Windows)

    def __post_init__(self) -> None:
        """Take the model itself of one that is compiled or distributed; peft's wrapper saves what is its own."""
        self.model = unwrapped(self.model, adapters=False)

    @classmethod
    def load(cls, name: str | Path, *, new_head: bool = False, keep: Sequence[TextPart] = ()) -> "Recogniser":
        """Load from a folder or a hub id.

        Args:
            name: the folder or id.
            new_head: the weights may be those of the encoder alone, whose head is to be trained.
            keep: parts of the normalisation that texts are spared.

        Raises:
            ValueError: there is none, or it is not a CTC model with a feature extractor and a tokenizer, or not whole.
            ModuleNotFoundError: it is a LoRA, and peft is not installed.
        """
        what = "a transformers …ForCTC model"
        check_model_name(name, what)
        with reading(name, f"{what} with its feature extractor and tokenizer"):
            model = load_model(AutoModelForCTC, name, new_head=new_head, dtype=torch.float32)
        with reading(name, "a feature extractor (preprocessor_config.json) beside its model"):
            features = AutoFeatureExtractor.from_pretrained(source_of(name, "preprocessor_config.json"))
        with reading(name, "a tokenizer (tokenizer_config.json, and vocab.json or tokenizer.json) beside its model"):
            tokens = source_of(name, "tokenizer_config.json", "tokenizer.json")
            return cls(model, features, AutoTokenizer.from_pretrained(tokens), keep)

    @classmethod
    def small(
        cls, tokens: Sequence[str] | Any, encoder: kilter.models.small_speech.Encoder, rate: int, **shape: Any
    ) -> "Recogniser":
        """A fresh small recogniser of whole words, or of the tokens of a tokenizer.

        Args:
            tokens: the words, or a tokenizer such as `letter_tokenizer`.
            encoder: see `kilter.models.small_speech`.
            rate: of the audio, in Hz.
            shape: more of `SmallSpeechConfig`.
        """
        from transformers import Wav2Vec2FeatureExtractor

        words = isinstance(tokens, Sequence)
        tokenizer = kilter.models.small_speech.word_tokenizer(tuple(tokens)) if words else tokens
        config = kilter.models.small_speech.SmallSpeechConfig(
            vocab_size=len(tokenizer), encoder=encoder, sampling_rate=rate, **shape
        )
        features = Wav2Vec2FeatureExtractor(sampling_rate=rate, do_normalize=False, return_attention_mask=True)
        return cls(kilter.models.small_speech.SmallSpeechForCTC(config), features, tokenizer)

    def save(self, folder: str | Path) -> None:
        """Write all three in their own formats (safetensors and JSON)."""
        for part in (self.model, self.features, self.tokenizer):
            part.save_pretrained(folder)

    def to(self, device: str) -> "Recogniser":
        """Move the model; `auto` is the accelerator there is, else the CPU.

        Raises:
            ValueError: torch has no such device here.
        """
        torch.nn.Module.to(self.model, find_device(device))
        return self

    @property
    def blank(self) -> int:
        """The token of CTC's blank."""
        return blank_token(self.model)

    @property
    def rate(self) -> int:
        """Samples per second the model wants."""
        return int(self.features.sampling_rate)

    @cached_property
    def spelling(self) -> Spelling:
        """How the model writes texts."""
        return Spelling(self.tokenizer, int(unwrapped(self.model).config.vocab_size), self.blank, self.keep)

    def check_texts(self, texts: Sequence[tuple[str, str]]) -> None:
        """Check that the tokenizer can spell every text, given with the place where it stands.

        Raises:
            ValueError: see `Spelling.check`.
        """
        self.spelling.check(texts)

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Inputs and labels (padded with -100) of a batch of utterances."""
        self.check_lengths(rows)
        inputs = self._inputs([row["audio"] for row in rows])
        spelt = [self.spelling.spell(row["text"]) for row in rows]
        if any(text.lacks or text.problem for text in spelt):
            self.check_texts([(str(row.get("id", "a recording")), row["text"]) for row in rows])
        inputs["labels"] = torch.full((len(rows), max([1, *(len(text.ids) for text in spelt)])), -100)
        for labels, text in zip(inputs["labels"], spelt, strict=True):
            labels[: len(text.ids)] = torch.tensor(text.ids, dtype=torch.long)
        return inputs

    def hear(
        self, rows: Rows, batch_size: int = 32, fuse: Fuse | None = None, *, skip_bad: bool = False
    ) -> Iterator[Heard]:
        """Recognise by best path, or by prefix beam search with a language model, see `ctc_prefix_beam_search`.

        A word's time is that of its last token's first frame. Where `fuse` forbids everything, nothing is heard. A
        batch that does not fit into memory is halved, and what is heard stays the same.

        Args:
            rows: utterances with `audio`.
            batch_size: utterances at once, at most.
            fuse: a language model.
            skip_bad: give an utterance that cannot be heard with its `problem` instead of raising.

        Raises:
            ValueError: a recording cannot be read, is too short for a frame, or does not fit into memory.
        """
        self.model.eval()
        for heard in in_batches(
            rows,
            batch_size,
            lambda batch: [*self._hear(batch, fuse)],
            check=self.checked,
            long=self.is_long,
            failed=lambda problem: Heard("", [], problem),
        ):
            if heard.problem and not skip_bad:
                raise ValueError(heard.problem)
            yield heard

    def _hear(self, batch: Sequence[Row], fuse: Fuse | None) -> Iterator[Heard]:
        log_probs, lengths, shift, offset = self.outputs(batch)
        log_probs = self.spelling.named(log_probs)
        wrong = [no_numbers(row, said[:frames]) for row, said, frames in zip(batch, log_probs, lengths, strict=True)]
        lengths = lengths * torch.tensor([not problem for problem in wrong])  # of these nothing is decoded
        if fuse is None:
            best = ctc_greedy(log_probs, lengths, blank=self.blank)
        else:
            beams = ctc_prefix_beam_search(log_probs, lengths, blank=self.blank, fuse=fuse)
            best = [beam[0] if beam else Hypothesis([], -math.inf, []) for beam in beams]
        for row, found, problem in zip(batch, best, wrong, strict=True):
            words = []
            for word in self.spelling.reader.words(found.tokens):
                time = emission_time(found.times[word.stop - 1], frame_shift=shift, offset=offset)
                words.append(Emission(word.text, until(time, len(row["audio"]) / self.rate)))
            yield Heard(" ".join(word.token for word in words), words, problem)

    def is_long(self, row: Row) -> bool:
        """Whether a recording goes through in windows."""
        return len(row["audio"]) > self.windows.seconds * self.rate

    def checked(self, row: Row) -> Row:
        """A row that the model makes a frame of.

        Raises:
            ValueError: the recording is too short.
        """
        self.check_lengths([row])
        return row

    def outputs(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor, float, float]:
        """What the model says of a batch, on the CPU: log-probabilities `(B, T, V)`, valid frames `(B,)`, frame times.

        It says of each recording what it says of it alone: where it would hear the padding, only recordings of one
        length go through it together. One that is too long for one piece, see `Windows`, goes alone.

        Returns:
            The two tensors, the seconds between frames, and by how much a frame's own audio ends after the next
            frame's start.
        """
        self.check_lengths(rows)
        if len(rows) == 1 and self.is_long(rows[0]):
            log_probs = self._in_windows(rows[0]["audio"])
            return log_probs, torch.tensor([log_probs.shape[1]]), *self.frame_times
        groups: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(len(row["audio"]), []).append(place)
        if len(groups) == 1 or not self.hears_padding:
            log_probs, lengths = self._said([row["audio"] for row in rows])
            return log_probs, lengths, *self.frame_times
        log_probs, lengths = torch.zeros(len(rows), 0, 0), torch.zeros(len(rows), dtype=torch.long)
        for _, places in sorted(groups.items(), reverse=True):  # the longest has most frames
            found, lengths[places] = self._said([rows[place]["audio"] for place in places])
            if not log_probs.numel():
                log_probs = found.new_zeros(len(rows), *found.shape[1:])
            log_probs[places, : found.shape[1]] = found
        return log_probs, lengths, *self.frame_times

    @cached_property
    def frames(self) -> Frames:
        """How many frames the model makes of a recording, found by trying."""
        name = self.model.main_input_name

        def tried(samples: int) -> tuple[int, int, bool]:
            inputs = self._inputs([noise(samples)])
            log_probs, (frames,) = self._say(inputs)
            return int(frames), inputs[name].shape[self._time_axis], bool(log_probs[0, :frames].isfinite().all())

        with evaluating(self.model):
            return find_frames(tried, self.rate)

    @cached_property
    def _time_axis(self) -> int:
        """Of the model's input: the axis that is longer for a longer recording."""
        shapes = [self._inputs([noise(self.rate * seconds)])[self.model.main_input_name].shape for seconds in (1, 2)]
        return next(axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if sizes[0] != sizes[1])

    @cached_property
    def hears_padding(self) -> bool:
        """Whether the model makes something else of a recording in a padded batch than alone, found by trying."""
        if not any(name.endswith("mask") for name in self._inputs([noise(self.frames.least)] * 2)):
            return True  # nothing tells it what is padding
        with evaluating(self.model):
            return hears_padding(self._said, self.frames, self.rate)

    def check_lengths(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Check that the model makes a frame of every recording.

        Raises:
            ValueError: a recording is too short; it is named.
        """
        for row in rows:
            if len(row["audio"]) < self.frames.least:
                raise ValueError(
                    f"{row.get('id', 'a recording')}: {len(row['audio'])} samples at {self.rate} Hz give the model no "
                    f"frame, which takes {self.frames.least}; leave the recording out"
                )

    def frame_counts(self, samples: Sequence[int]) -> list[int]:
        """Frames the model makes of recordings of so many samples; empty where it cannot be said beforehand."""
        return [self.frames.count(each) for each in samples] if self.frames.foretold else []

    @property
    def frame_times(self) -> tuple[float, float]:
        """Seconds between frames, and by how much a frame's own audio ends after the next frame's start."""
        return self.frames.shift / self.rate, getattr(self.model.config, "frame_offset_ms", 0) / 1000

    def _inputs(self, audio: Sequence[np.ndarray]) -> dict[str, Tensor]:
        found = self.features([*audio], sampling_rate=self.rate, padding=True, return_tensors="pt")
        return {name: torch.as_tensor(value) for name, value in found.items()}

    def _said(self, audio: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        return self._say(self._inputs(audio))

    def _in_windows(self, audio: np.ndarray) -> Tensor:
        """Log-probabilities of all frames of a recording, which is normalised as one: `(1, T, V)`."""
        inputs = self._inputs([audio])
        name = self.model.main_input_name
        found = []
        for part, kept in self.windows.cut(inputs[name].shape[self._time_axis], self.frames, self.rate):
            axes = {each: value.ndim - 1 for each, value in inputs.items() if each.endswith("mask")}
            axes[name] = self._time_axis
            heard = {each: inputs[each].narrow(axis, part.start, part.stop - part.start) for each, axis in axes.items()}
            log_probs, (frames,) = self._say({**inputs, **heard})
            found.append(log_probs[0, :frames][kept])
        return torch.cat(found)[None]

    def _say(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Log-probabilities and valid frames, on the CPU."""
        log_probs, lengths = ctc_outputs(
            self.model, {name: value.to(self.model.device) for name, value in inputs.items()}
        )
        return log_probs.cpu(), lengths.cpu().long().clamp(0, log_probs.shape[1])


def no_numbers(row: Row, log_probs: Tensor) -> str:
    """What is wrong where a model says NaN of a recording's frames `(T, V)`, which would read as silence."""
    if not log_probs.isnan().any():
        return ""
    return (
        f"{row.get('id', 'a recording')}: the model says NaN of it; its weights are damaged, or its training went "
        "astray: fetch or train it again"
    )
