"""A model that writes text as people keep it: of transformers or a GGUF, with its tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
)

from kilter.core.errors import extra
from kilter.hosts.loading import base_of, folder_of, load_model, reading, source_of
from kilter.hosts.settings import loadable_settings
from kilter.hosts.wrapped import unwrapped
from kilter.models.devices import find_device
from kilter.models.names import check_model_name

_DIGEST_VALUES = 4096


@dataclass
class TextModel:
    """A `PreTrainedModel`, perhaps given wrapped, and the tokenizer that belongs to it."""

    model: Any
    tokenizer: Any

    def __post_init__(self) -> None:
        """Take the model itself of one that is compiled, distributed or wrapped by peft."""
        self.model = unwrapped(self.model)

    @classmethod
    def load(cls, name: str, *, gguf: str | None = None, device: str = "auto") -> "TextModel":
        """Load from a folder or a hub id; on the CPU in float32, elsewhere in the model's own dtype.

        Args:
            name: the folder or id; it may end in the name of a GGUF file in it.
            gguf: that file's name.
            device: see `find_device`.

        Raises:
            ValueError: there is none, or it is no model that writes text, or is not whole, or has no tokenizer; no
                such device.
            ModuleNotFoundError: a GGUF or a LoRA without the library that reads it.
        """
        place = find_device(device)
        name, gguf = gguf_file(name, gguf)
        what = "a causal or encoder–decoder transformers model"
        check_model_name(name, what, file=gguf or "config.json", known=["smollm2"])
        if gguf:
            extra("gguf", "generation")
            extra("accelerate", "generation")
        source: dict[str, Any] = {"gguf_file": gguf} if gguf else {}
        with reading(name, f"{what} with its tokenizer, nor a GGUF"):
            config = AutoConfig.from_pretrained(source_of(name, "config.json"), **source)
            auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            dtype = torch.float32 if place.type == "cpu" else "auto"
            settings = loadable_settings(folder_of(base_of(name) or name))
            model = load_model(auto, name, dtype=dtype, **source, **settings)
            tokens = source_of(name, "tokenizer_config.json", "tokenizer.json")
            tokenizer = AutoTokenizer.from_pretrained(tokens, **source)
        both_ways = type(config) in MODEL_FOR_MASKED_LM_MAPPING and getattr(config, "is_decoder", None) is False
        if both_ways and not config.is_encoder_decoder:
            raise ValueError(f"{name}: {config.model_type} reads both ways and writes no text; name {what}")
        entries = model.get_input_embeddings().num_embeddings
        if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= entries:  # masked wherever it stands
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        torch.nn.Module.to(model, place)
        return cls(model.eval(), tokenizer)

    @property
    def encoder_decoder(self) -> bool:
        """Whether what it writes is apart from the prompt."""
        return bool(self.model.config.is_encoder_decoder)

    @property
    def positions(self) -> int | None:
        """Tokens it has positions for; None if their number is not bounded."""
        found = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return found if isinstance(found, int) and found > 0 else None

    def encode(self, texts: Sequence[str], *, chat: bool = False) -> list[list[int]]:
        """Token ids of prompts; with `chat` each is what a user says, in the model's own template.

        Raises:
            ValueError: `chat`, and the tokenizer has no template; a token of a prompt that the model has not.
        """
        if not chat:
            return self._known(self.tokenizer(list(texts))["input_ids"])
        if not self.tokenizer.chat_template:
            raise ValueError("chat: the model's tokenizer has no chat template; leave --chat out")
        told = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
            )
            for text in texts
        ]
        return self._known(self.tokenizer(told, add_special_tokens=False)["input_ids"])

    def _known(self, rows: list[list[int]]) -> list[list[int]]:
        """The rows, if the model has every token in them: a tokenizer may have entries that the model never got."""
        entries: Any = self.model.get_input_embeddings().num_embeddings
        for number, row in enumerate(rows, start=1):
            if row and max(row) >= entries:
                token = self.tokenizer.convert_ids_to_tokens(max(row))
                raise ValueError(
                    f"prompt {number}: its token {token!r} has the id {max(row)}, and the model {entries} tokens: the "
                    "tokenizer is another model's or was added to; leave that token out, or take the model's own"
                )
        return rows

    def check_fit(self, prompts: Sequence[tuple[str, int]], new: int) -> None:
        """Check that each prompt, given with its place and its number of tokens, has positions for `new` more.

        Raises:
            ValueError: it has none; the first place, the counts and the mend are named.
        """
        limit = self.positions
        for where, length in prompts:
            if not length:
                raise ValueError(f"{where}: the tokenizer makes no token of the prompt; write another there")
            if limit is None:
                continue
            if new + (not self.encoder_decoder) > limit:
                raise ValueError(
                    f"--max-new-tokens {new}: the model has {limit} positions"
                    f"{'' if self.encoder_decoder else ', prompt included'}; ask for fewer"
                )
            most = limit if self.encoder_decoder else limit - new
            if length > most:
                rest = "" if self.encoder_decoder else f" for it and {new} new ones"
                mend = "" if self.encoder_decoder else ", or lower --max-new-tokens"
                raise ValueError(
                    f"{where}: the prompt has {length} tokens, and the model {limit} positions{rest}; shorten the "
                    f"prompt to {most} tokens{mend}"
                )

    def batch(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """`input_ids (N, T)` and `attention_mask (N, T)`; padding stands where the model wants it."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            place = slice(len(tokens)) if self.encoder_decoder else slice(width - len(tokens), width)
            ids[row, place] = torch.tensor(tokens)
            mask[row, place] = 1
        device = self.model.device
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}

    def texts(self, sequences: Tensor, prompt: int) -> list[str]:
        """What was written, of `sequences (R, T)` that begin with `prompt` tokens where the model is causal."""
        new = sequences if self.encoder_decoder else sequences[:, prompt:]
        return self.tokenizer.batch_decode(new, skip_special_tokens=True)

    def memory(self, rows: int, prompt: int, new: int) -> int:
        """A guess, rather high, at the bytes for decoding `rows` texts of one prompt at once.

        Keys and values of all rows, their logits a few times in float32, and the widest layer of the prompt.
        """
        config, wide = self.model.config.get_text_config(decoder=True), self.model.dtype.itemsize
        heads = getattr(config, "num_attention_heads", 1)
        kept = getattr(config, "num_key_value_heads", None) or heads
        head = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or config.hidden_size // heads
        layers = config.num_hidden_layers * (2 if self.encoder_decoder else 1)
        cache = 2 * layers * kept * head * wide * (prompt + new) * rows
        logits = 6 * 4 * config.vocab_size * rows
        return 2 * cache + logits + 16 * config.hidden_size * wide * prompt


def weights_digest(model: torch.nn.Module) -> str:
    """A model trained further in the same folder is another one: some values of every tensor tell.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> before = weights_digest(layer)
        >>> _ = layer.bias.data.add_(1)
        >>> weights_digest(layer) == before
        False
    """
    found = sha256()
    for name, tensor in model.state_dict().items():
        few = tensor.flatten()[:: max(1, tensor.numel() // _DIGEST_VALUES)].cpu().contiguous()
        found.update(f"{name} {tuple(tensor.shape)}".encode() + few.view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:12]


def gguf_file(name: str, gguf: str | None) -> tuple[str, str | None]:
    """Folder or hub id, and the GGUF in it: named, the path's own last part, or the only one of a folder.

    Example:
        >>> gguf_file("models/small/model.gguf", None)
        ('models/small', 'model.gguf')

    Raises:
        ValueError: the folder has no such file, or several and none is named.
    """
    if gguf is None and name.lower().endswith(".gguf"):
        folder, _, gguf = Path(name).as_posix().rpartition("/")
        name = folder or "."
    folder = Path(name)
    if gguf is None and folder.is_dir() and not (folder / "config.json").exists():
        found = sorted(path.name for path in folder.glob("*.gguf"))
        if len(found) > 1:
            raise ValueError(f"{name}: holds {', '.join(found)}; say which with --gguf")
        gguf = found[0] if found else None
    if gguf and folder.is_dir() and not (folder / gguf).is_file():
        raise ValueError(f"{folder / gguf}: no such file; --gguf names a file in the folder --model")
    return name, gguf
