"""A tiny random model of every `…ForCTC` family of transformers, with the feature extractor it reads recordings by."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers as hf

from kilter.models.recogniser import Recogniser
from tests.hosts.tiny import QUIET, SIZES

LAYERS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))  # kernels and strides of the usual 20 ms
WAVES: dict[str, Any] = {
    "vocab_size": 12,
    "conv_dim": (8,) * 7,
    "conv_kernel": tuple(kernel for kernel, _ in LAYERS),
    "conv_stride": tuple(stride for _, stride in LAYERS),
    "num_feat_extract_layers": 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "apply_spec_augment": False,
}


class Bands:
    """A feature extractor of ours, as a new family would bring one: 20 ms of samples are one entry of the input."""

    sampling_rate = 16000

    def __call__(self, audio: Sequence[np.ndarray], **_: Any) -> dict[str, Any]:
        rows = [torch.from_numpy(one[: len(one) // 320 * 320]).view(-1, 320) for one in audio]
        mask = [torch.ones(len(row), dtype=torch.bool) for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        return {"input_features": pad(rows, batch_first=True), "attention_mask": pad(mask, batch_first=True)}


def _adapter(layers: int) -> dict[str, Any]:
    return {"add_adapter": True, "num_adapter_layers": layers, "output_hidden_size": 16} if layers else {}


def speech_model(
    family: str, *, adapter: int = 0, group: bool = False, mask: bool = True, layers: int = 2
) -> Recogniser:
    """A recogniser of that family; without a tokenizer.

    Args:
        family: of `MODEL_FOR_CTC_MAPPING_NAMES`, or `kilter`.
        adapter: layers behind the encoder that halve its frames.
        group: whether its convolutions are normalised over time, as in wav2vec2-base-960h.
        mask: whether the feature extractor gives one.
        layers: of attention; without any, a frame depends on what is near.
    """
    torch.manual_seed(0)
    sizes = {**SIZES, "num_hidden_layers": layers}
    conformer = {**sizes, "subsampling_conv_channels": 4, "num_mel_bins": 16, "conv_kernel_size": 3}
    norm = {"feat_extract_norm": "group", "do_stable_layer_norm": False} if group else {"feat_extract_norm": "layer"}
    features: Any = hf.Wav2Vec2FeatureExtractor(return_attention_mask=mask)
    match family:
        case "kilter":
            from kilter.models.small_speech import SmallSpeechConfig, SmallSpeechForCTC

            model: Any = SmallSpeechForCTC(SmallSpeechConfig(vocab_size=12, hidden_size=16))
            features = hf.Wav2Vec2FeatureExtractor(sampling_rate=8000, do_normalize=False, return_attention_mask=True)
        case "wav2vec2-bert":
            settings = {**sizes, **QUIET, **_adapter(adapter), "vocab_size": 12, "apply_spec_augment": False}
            model = hf.Wav2Vec2BertForCTC(hf.Wav2Vec2BertConfig(**settings))
            features = hf.SeamlessM4TFeatureExtractor()
        case "parakeet_ctc":
            model = hf.ParakeetForCTC(hf.ParakeetCTCConfig(vocab_size=12, pad_token_id=11, encoder_config=conformer))
            features = hf.ParakeetFeatureExtractor(feature_size=16)
        case "lasr_ctc":
            model = hf.LasrForCTC(hf.LasrCTCConfig(vocab_size=12, pad_token_id=11, encoder_config=conformer))
            features = hf.LasrFeatureExtractor(feature_size=16)
        case "granite_speech5_ctc":
            encoder = {**sizes, "vocab_size": 12, "num_mel_bins": 80, "conv_kernel_size": 3, "context_size": 16}
            model = hf.GraniteSpeech5ForCTC(hf.GraniteSpeech5CTCConfig(vocab_size=12, encoder_config=encoder))
            features = Bands()
        case "omniasr_ctc":
            audio = {**sizes, **QUIET, **WAVES}
            model = hf.OmniASRForCTC(hf.OmniASRCTCConfig(vocab_size=12, audio_config=audio))
            features = hf.OmniASRFeatureExtractor()
        case _:
            kind: Any = hf.AutoConfig.for_model(family)
            known = {*vars(kind)}
            settings = {**sizes, **QUIET, **WAVES, **norm, **_adapter(adapter)}
            model = hf.AutoModelForCTC.from_config(
                type(kind)(**{name: value for name, value in settings.items() if name in known})
            )
    return Recogniser(model.eval(), features, None)
