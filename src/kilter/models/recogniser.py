"""A CTC recogniser as people keep it: a transformers model with its feature extractor and tokenizer in one folder."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer, PreTrainedModel

import kilter.models.small_speech
from kilter.core.normalise import Part
from kilter.evaluation.latency import Emission, emission_time
from kilter.hosts.transformers import ctc_outputs
from kilter.models.devices import find_device
from kilter.models.names import check_model_name
from kilter.models.spelling import Spelling
from kilter.speech.ctc_search import Fuse, Hypothesis, ctc_greedy, ctc_prefix_beam_search

__all__ = ["Heard", "Recogniser", "Rows"]


@runtime_checkable
class Rows(Protocol):
    """Utterances by index, decoded when asked for: mappings with at least `audio` and `text`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Heard:
    """What was recognised in one utterance: the text, and each word with the time at which it was complete."""

    text: str
    words: list[Emission]


@dataclass
class Recogniser:
    """Model, feature extractor and tokenizer that belong together.

    Attributes:
        model, features, tokenizer: of transformers.
        keep: parts of the normalisation that texts are spared, see `kilter.core.normalise`.
    """

    model: PreTrainedModel
    features: Any
    tokenizer: Any
    keep: Sequence[Part] = ()

    @classmethod
    def load(cls, name: str | Path) -> "Recogniser":
        """Load from a folder or a hub id.

        Raises:
            ValueError: there is none, or it is not a CTC model with a feature extractor and a tokenizer.
        """
        check_model_name(name, "a transformers …ForCTC model")
        try:
            return cls(
                AutoModelForCTC.from_pretrained(name, dtype=torch.float32),
                AutoFeatureExtractor.from_pretrained(name),
                AutoTokenizer.from_pretrained(name),
            )
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{name}: not a folder or hub id of a transformers …ForCTC model with its feature extractor and "
                f"tokenizer ({str(error).splitlines()[0]})"
            ) from error

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
        return int(self.model.config.pad_token_id)

    @property
    def rate(self) -> int:
        """Samples per second the model wants."""
        return int(self.features.sampling_rate)

    @cached_property
    def spelling(self) -> Spelling:
        """How the model writes texts."""
        return Spelling(self.tokenizer, int(self.model.config.vocab_size), self.blank, self.keep)

    def check_texts(self, texts: Sequence[tuple[str, str]]) -> None:
        """Check that the tokenizer can spell every text, given with the place where it stands.

        Raises:
            ValueError: see `Spelling.check`.
        """
        self.spelling.check(texts)

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Inputs and labels (padded with -100) of a batch of utterances."""
        inputs = self._inputs(rows)
        self.check_texts([(str(row.get("id", "a recording")), row["text"]) for row in rows])
        spelt = [self.spelling.spell(row["text"]).ids for row in rows]
        inputs["labels"] = torch.full((len(rows), max(1, *map(len, spelt))), -100)
        for labels, ids in zip(inputs["labels"], spelt, strict=True):
            labels[: len(ids)] = torch.tensor(ids, dtype=torch.long)
        return inputs

    def hear(self, rows: Rows, batch_size: int = 32, fuse: Fuse | None = None) -> Iterator[Heard]:
        """Recognise by best path, or by prefix beam search with a language model, see `ctc_prefix_beam_search`.

        A word's time is that of its last token's first frame. Where `fuse` forbids everything, nothing is heard.
        """
        self.model.eval()
        for first in range(0, len(rows), batch_size):
            batch = [rows[i] for i in range(first, min(first + batch_size, len(rows)))]
            log_probs, lengths, shift, offset = self.outputs(batch)
            log_probs = self.spelling.named(log_probs)
            if fuse is None:
                best = ctc_greedy(log_probs, lengths, blank=self.blank)
            else:
                beams = ctc_prefix_beam_search(log_probs, lengths, blank=self.blank, fuse=fuse)
                best = [beam[0] if beam else Hypothesis([], -math.inf, []) for beam in beams]
            for found in best:
                words = [
                    Emission(word.text, emission_time(found.times[word.stop - 1], frame_shift=shift, offset=offset))
                    for word in self.spelling.reader.words(found.tokens)
                ]
                yield Heard(" ".join(word.token for word in words), words)

    def outputs(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor, float, float]:
        """What the model says of a batch, on the CPU: log-probabilities `(B, T, V)`, valid frames `(B,)`, frame times.

        Returns:
            The two tensors, the seconds between frames, and by how much a frame's own audio ends after the next
            frame's start.
        """
        inputs = {name: value.to(self.model.device) for name, value in self._inputs(rows).items()}
        log_probs, lengths = ctc_outputs(self.model, inputs)
        shift, offset = self.frame_times(max(len(row["audio"]) for row in rows), log_probs.shape[1])
        return log_probs.cpu(), lengths.cpu(), shift, offset

    def check_lengths(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Check that the model makes a frame of every recording, where it can say so beforehand.

        Raises:
            ValueError: a recording is too short; it is named.
        """
        frames = self.frame_counts([len(row["audio"]) for row in rows])
        short = next((row for row, count in zip(rows, frames, strict=False) if count < 1), None)
        if short is not None:
            raise ValueError(
                f"{short.get('id', 'a recording')}: {len(short['audio'])} samples at {self.rate} Hz give the "
                "model no frame; leave the recording out"
            )

    def frame_counts(self, samples: Sequence[int]) -> list[int]:
        """Frames the model makes of recordings of so many samples; empty where it cannot say so beforehand."""
        frames_of = getattr(self.model, "_get_feat_extract_output_lengths", None)
        return frames_of(torch.tensor(samples)).tolist() if frames_of else []

    def frame_times(self, samples: int, frames: int) -> tuple[float, float]:
        """Seconds between frames, and by how much a frame's own audio ends after the next frame's start."""
        config = self.model.config
        factor = getattr(config, "inputs_to_logits_ratio", None) or getattr(
            getattr(config, "encoder_config", None), "subsampling_factor", None
        )
        # a feature extractor that makes frames counts in hops, one that hands on samples in samples
        ratio = factor * getattr(self.features, "hop_length", 1) if factor else round(samples / max(frames, 1))
        return ratio / self.rate, getattr(config, "frame_offset_ms", 0) / 1000

    def _inputs(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        self.check_lengths(rows)
        audio = [row["audio"] for row in rows]
        found = self.features(audio, sampling_rate=self.rate, padding=True, return_tensors="pt")
        return {name: torch.as_tensor(value) for name, value in found.items()}
