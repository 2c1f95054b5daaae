"""Small CTC speech recognisers, causal unless asked otherwise, that follow the `…ForCTC` contract of transformers.

Three encoders over the same log-mel front end: dilated causal convolutions without residual connections, whose
words come late; the same with residual connections, whose words do not; and a GRU.
Importing this module registers them with `AutoConfig` and `AutoModelForCTC`.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCTC, PretrainedConfig, PreTrainedModel
from transformers.audio_utils import mel_filter_bank
from transformers.modeling_outputs import CausalLMOutput

from kilter.core.masking import length_mask

Encoder = Literal["conv", "residual", "gru"]


class SmallSpeechConfig(PretrainedConfig):
    """Settings of `SmallSpeechForCTC`.

    Args:
        vocab_size: tokens, the blank included.
        encoder: `conv` (no residual connections), `residual` or `gru`.
        hidden_size: channels of the encoder.
        kernel_size: taps of each convolution.
        dilations: one per convolution; (1, 2, 4, 4) with kernel 5 looks back 1.35 s.
        causal: whether convolutions look back only; if not, they look as far ahead as back (not for `gru`).
        dropout: after each layer.
        sampling_rate: of the audio, in Hz.
        mel_bins: log-mel bands.
        window_ms: analysis window.
        hop_ms: step of the windows.
        stack: windows put together into one frame; the frame shift is `stack * hop_ms`.
        ctc_loss_reduction: see `torch.nn.functional.ctc_loss`.
        ctc_zero_infinity: see there.
    """

    model_type = "kilter_small_speech"

    def __init__(
        self,
        vocab_size: int = 11,
        encoder: Encoder = "conv",
        hidden_size: int = 80,
        kernel_size: int = 5,
        dilations: Sequence[int] = (1, 2, 4, 4),
        causal: bool = True,
        dropout: float = 0.1,
        sampling_rate: int = 8000,
        mel_bins: int = 40,
        window_ms: int = 25,
        hop_ms: int = 10,
        stack: int = 3,
        pad_token_id: int = 0,
        ctc_loss_reduction: str = "sum",
        ctc_zero_infinity: bool = False,
        **kwargs: Any,
    ) -> None:
        if encoder not in ("conv", "residual", "gru"):
            raise ValueError(f"encoder must be conv, residual or gru, got {encoder!r}")
        if encoder == "gru" and not causal:
            raise ValueError("encoder gru is causal; for a look ahead take conv or residual")
        self.vocab_size = vocab_size
        self.encoder = encoder
        self.hidden_size = hidden_size
        self.kernel_size = kernel_size
        self.dilations = list(dilations)
        self.causal = causal
        self.dropout = dropout
        self.sampling_rate = sampling_rate
        self.mel_bins = mel_bins
        self.window_ms = window_ms
        self.hop_ms = hop_ms
        self.stack = stack
        self.ctc_loss_reduction = ctc_loss_reduction
        self.ctc_zero_infinity = ctc_zero_infinity
        self.pad_token_id = pad_token_id
        super().__init__(**kwargs)

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Audio samples per output frame."""
        return self.stack * self.hop_ms * self.sampling_rate // 1000

    @property
    def frame_offset_ms(self) -> int:
        """How much later than `(frame + 1) * shift` the last audio of a frame ends; a look ahead is not counted."""
        return self.window_ms - self.hop_ms


class LogMel(nn.Module):
    """Stacked log-mel frames of raw audio; frame t uses no audio later than its own end."""

    filters: Tensor
    window: Tensor

    def __init__(self, config: SmallSpeechConfig) -> None:
        super().__init__()
        self.size = config.window_ms * config.sampling_rate // 1000
        self.hop = config.hop_ms * config.sampling_rate // 1000
        self.stack = config.stack
        bank = mel_filter_bank(
            num_frequency_bins=self.size // 2 + 1,
            num_mel_filters=config.mel_bins,
            min_frequency=60.0,
            max_frequency=config.sampling_rate / 2,
            sampling_rate=config.sampling_rate,
        )
        self.register_buffer("filters", torch.as_tensor(bank, dtype=torch.float32), persistent=False)
        self.register_buffer("window", torch.hann_window(self.size), persistent=False)

    def lengths(self, samples: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Frames that lie whole within so many samples."""
        return ((samples - self.size).div(self.hop, rounding_mode="floor") + 1).clamp(min=0) // self.stack

    def forward(self, audio: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch frames features"]:
        """Log-mel features of every whole frame."""
        windows = audio.float().unfold(-1, self.size, self.hop) * self.window
        spectrum = torch.fft.rfft(windows)
        power = spectrum.real.square() + spectrum.imag.square()  # several times quicker than abs().square()
        log_mel = (power @ self.filters + 1e-6).log()
        frames = log_mel.shape[1] // self.stack
        scaled = log_mel[:, : frames * self.stack] / 4 + 1  # about zero mean and unit spread on speech
        return scaled.reshape(len(audio), frames, -1)


class ConvLayer(nn.Module):
    """ReLU(LayerNorm(convolution)), over the past or both sides, with or without a residual connection."""

    def __init__(self, size: int, kernel: int, dilation: int, dropout: float, residual: bool, causal: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(size, size, kernel, dilation=dilation)
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)
        reach = (kernel - 1) * dilation
        self.sides = (reach, 0) if causal else (reach - reach // 2, reach // 2)
        self.residual = residual

    def forward(self, x: Float[Tensor, "batch frames size"]) -> Float[Tensor, "batch frames size"]:
        """One layer."""
        y = self.conv(F.pad(x.mT, self.sides)).mT
        y = self.dropout(self.norm(y).relu())
        return x + y if self.residual else y


class SmallSpeechForCTC(PreTrainedModel):
    """A recogniser from raw audio to CTC logits, causal by default, about 140,000 parameters.

    Shape:
        - `input_values`: float `(B, samples)`, mono at `config.sampling_rate`, zero beyond each utterance.
        - `attention_mask`: int `(B, samples)`, 1 inside; None when nothing is padded.
        - `labels`: int `(B, U)`, padded with -100.
        - returns `CausalLMOutput` with `logits (B, T, V)` and, with labels, `loss`.

    Example:
        >>> model = SmallSpeechForCTC(SmallSpeechConfig())
        >>> model(torch.zeros(1, 8000)).logits.shape
        torch.Size([1, 32, 11])
    """

    config_class = SmallSpeechConfig
    main_input_name = "input_values"
    base_model_prefix = "encoder"
    config: SmallSpeechConfig

    def __init__(self, config: SmallSpeechConfig) -> None:
        super().__init__(config)
        self.features = LogMel(config)
        self.project = nn.Linear(config.mel_bins * config.stack, config.hidden_size)
        if config.encoder == "gru":
            self.layers = nn.ModuleList([nn.GRU(config.hidden_size, config.hidden_size, batch_first=True)])
        else:
            residual = config.encoder == "residual"
            self.layers = nn.ModuleList(
                ConvLayer(config.hidden_size, config.kernel_size, dilation, config.dropout, residual, config.causal)
                for dilation in config.dilations
            )
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Torch's own initialisation, and the front end's constants, which are not saved."""
        if isinstance(module, LogMel):
            fresh = LogMel(self.config)
            module.filters.copy_(fresh.filters)
            module.window.copy_(fresh.window)
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.GRU | nn.LayerNorm):
            module.reset_parameters()

    def _get_feat_extract_output_lengths(self, input_lengths: Tensor) -> Tensor:
        return self.features.lengths(input_lengths)

    def forward(
        self,
        input_values: Float[Tensor, "batch samples"],
        attention_mask: Int[Tensor, "batch samples"] | None = None,
        labels: Int[Tensor, "batch tokens"] | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput:
        """Logits for every frame, and the CTC loss if there are labels."""
        samples = input_values.new_full((len(input_values),), input_values.shape[1], dtype=torch.long)
        if attention_mask is not None:
            samples = attention_mask.sum(-1)
        lengths = self.features.lengths(samples)
        x = self.project(self.features(input_values).to(self.project.weight.dtype))
        beyond = None if self.config.causal else ~length_mask(lengths, x.shape[1])[..., None]
        for layer in self.layers:
            if beyond is not None:  # so that a look ahead sees the same at the end, whatever the batch
                x = x.masked_fill(beyond, 0.0)
            x = layer(x)[0] if isinstance(layer, nn.GRU) else layer(x)
        logits = self.lm_head(x)
        if labels is None:
            return CausalLMOutput(logits=logits)
        loss = self.loss_function(
            logits=logits,
            labels=labels,
            logit_lengths=lengths,
            blank_token_id=self.config.pad_token_id,
            reduction=self.config.ctc_loss_reduction,
            zero_infinity=self.config.ctc_zero_infinity,
            **kwargs,
        )
        return CausalLMOutput(loss=loss, logits=logits)


AutoConfig.register(SmallSpeechConfig.model_type, SmallSpeechConfig, exist_ok=True)
AutoModelForCTC.register(SmallSpeechConfig, SmallSpeechForCTC, exist_ok=True)


def word_tokenizer(words: tuple[str, ...]) -> Any:
    """A transformers tokenizer with one token per word, after the blank (id 0) and an unknown word.

    Example:
        >>> word_tokenizer(("yes", "no"))("no yes").input_ids
        [3, 2]
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = dict(zip(("<blank>", "<unk>", *words), itertools.count(), strict=False))
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<blank>", unk_token="<unk>")


def letter_tokenizer(letters: str) -> Any:
    """A transformers tokenizer with one token per letter, after the blank (id 0), an unknown letter and the space.

    Example:
        >>> tokenizer = letter_tokenizer("abc")
        >>> tokenizer("cab a").input_ids, tokenizer.decode([5, 3, 4, 2, 3])
        ([5, 3, 4, 2, 3], 'cab a')
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = dict(zip(("<blank>", "<unk>", " ", *letters), itertools.count(), strict=False))
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<blank>", unk_token="<unk>")
