"""Tiny CTC models, saved and loaded again as a user's own would be, and data for them."""

from pathlib import Path
from typing import Any

import torch

VOCAB = 12

QUIET = dict.fromkeys(
    (
        "hidden_dropout",
        "attention_dropout",
        "activation_dropout",
        "feat_proj_dropout",
        "final_dropout",
        "layerdrop",
        "dropout",
        "dropout_positions",
    ),
    0.0,
)
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
WAVES = {
    "vocab_size": VOCAB,
    "conv_dim": (8,),
    "conv_kernel": (16,),
    "conv_stride": (16,),
    "num_feat_extract_layers": 1,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "apply_spec_augment": False,
}


def _fresh(family: str) -> Any:
    import transformers as hf

    from kilter.models.small_speech import SmallSpeechConfig, SmallSpeechForCTC

    if family == "small":
        return SmallSpeechForCTC(
            SmallSpeechConfig(vocab_size=VOCAB, hidden_size=16, dilations=(1,), mel_bins=8, stack=1, dropout=0.0)
        )
    if family == "parakeet":
        encoder = SIZES | QUIET | {"subsampling_conv_channels": 4, "num_mel_bins": 16, "conv_kernel_size": 3}
        return hf.ParakeetForCTC(hf.ParakeetCTCConfig(vocab_size=VOCAB, pad_token_id=VOCAB - 1, encoder_config=encoder))
    prefix = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}[family]
    config = getattr(hf, f"{prefix}Config")(**SIZES, **QUIET, **WAVES)
    return getattr(hf, f"{prefix}ForCTC")(config)


class Tiny:
    """Loads a fresh copy of a saved tiny model, and makes data for it."""

    vocab = VOCAB

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, family: str) -> Path:
        folder = self.root / family
        if not folder.exists():
            torch.manual_seed(0)
            _fresh(family).save_pretrained(folder)
        return folder

    def __call__(self, family: str = "wav2vec2", **config: Any) -> Any:
        from transformers import AutoModelForCTC

        import kilter.models.small_speech  # noqa: F401  registers ours

        config = {"ctc_loss_reduction": "mean"} | config
        return AutoModelForCTC.from_pretrained(self.folder(family), **config).train()

    def rows(self, family: str = "wav2vec2", count: int = 8) -> list[dict[str, torch.Tensor]]:
        """Utterances of one length, so that any of them can be stacked; masks and labels (-100) are ragged."""
        draw = torch.Generator().manual_seed(1)
        shape = {"parakeet": (160, 16), "small": (800,)}.get(family, (480,))
        name = "input_features" if family == "parakeet" else "input_values"
        rows = []
        for i in range(count):
            audio = torch.randn(shape, generator=draw)
            mask = (torch.arange(len(audio)) < len(audio) - 16 * (i % 3)).long()
            labels = torch.randint(1, VOCAB - 1, (3,), generator=draw)  # the blank is the first, or Parakeet's the last
            labels[3 - i % 2 :] = -100
            rows.append({name: audio, "attention_mask": mask, "labels": labels})
        return rows

    def batch(self, family: str = "wav2vec2", count: int = 8) -> dict[str, torch.Tensor]:
        rows = self.rows(family, count)
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
