"""A small encoder–decoder of transformers for pairs of texts, to be trained here in minutes.

Architecture: Marian (Vaswani et al. 2017, after each block a norm, fixed positions), source and target sharing one
byte-pair vocabulary of at most a few thousand entries and one embedding.
The departures: a batch holds sources of like length, and of some pairs the source is withheld, so that the same
model is also a language model of the targets (what MMI decoding divides by).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"

Pair = tuple[str, str]


def pair_tokenizer(texts: Iterable[str], *, entries: int = 4000, longest: int = 128) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer made from these texts; it ends every text with `</s>`.

    Args:
        texts: Sources and targets.
        entries: Size of the vocabulary, at most.
        longest: Tokens of a text, at most; more are cut off.

    Example:
        >>> tokenizer = pair_tokenizer(["a red hat", "a red cat"], entries=40)
        >>> tokenizer.decode(tokenizer("a red hat").input_ids, skip_special_tokens=True)
        'a red hat'
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE(unk_token=UNKNOWN))
    made.normalizer = normalizers.NFC()
    # A mark, not a byte, is a letter of the alphabet: £ and é are one each.
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    made.decoder = decoders.Metaspace()
    special = [PAD, END, UNKNOWN]
    trainer = trainers.BpeTrainer(vocab_size=entries, special_tokens=special, show_progress=False)
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, made.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
    )


def small_seq2seq(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden_size: int = 128,
    layers: int = 2,
    dropout: float = 0.1,
) -> MarianMTModel:
    """An untrained model for this tokenizer; `hidden_size` must be divisible by four heads.

    Example:
        >>> tokenizer = pair_tokenizer(["a red hat"], entries=40)
        >>> small_seq2seq(tokenizer, hidden_size=32, layers=1).config.vocab_size == len(tokenizer)
        True
    """
    if hidden_size % 4:
        raise ValueError(f"hidden_size must be divisible by 4 heads, got {hidden_size}")
    sizes: dict[str, Any] = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", layers), ("attention_heads", 4), ("ffn_dim", 4 * hidden_size))
    }
    pad, end, unknown = (tokenizer.get_vocab()[name] for name in (PAD, END, UNKNOWN))
    config = MarianConfig(
        vocab_size=len(tokenizer),
        d_model=hidden_size,
        max_position_embeddings=tokenizer.model_max_length,
        dropout=dropout,
        activation_function="relu",
        scale_embedding=True,
        init_std=hidden_size**-0.5,
        pad_token_id=pad,
        eos_token_id=end,
        decoder_start_token_id=pad,
        forced_eos_token_id=None,
        **sizes,
    )
    model = MarianMTModel(config)
    model.generation_config.bad_words_ids = [[pad], [unknown]]
    return model


class PairBatches:
    """A map-style dataset of whole batches of pairs whose lengths are alike; train with `batch_size=1`.

    Every pass over the pairs is shuffled anew. Item `i` depends on the pairs, `batch_size` and `seed` only.

    Args:
        pairs: Sources and targets.
        tokenizer: What `pair_tokenizer` returns.
        batches: Number of batches.
        batch_size: Pairs in a batch.
        seed: Any non-negative integer.
        blank: Share of the pairs whose source is withheld (left empty).
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        tokenizer: PreTrainedTokenizerFast,
        *,
        batches: int,
        batch_size: int,
        seed: int,
        blank: float = 0.0,
    ) -> None:
        if not pairs:
            raise ValueError("pairs: there is none to train on")
        if not 0 <= blank < 1:
            raise ValueError(f"blank is a share between 0 and 1, got {blank}")
        options: Any = {"truncation": True, "padding": False}
        self._sources = tokenizer([source for source, _ in pairs], **options)["input_ids"]
        self._targets = tokenizer([target for _, target in pairs], **options)["input_ids"]
        self._end, self._pad = (tokenizer.get_vocab()[name] for name in (END, PAD))
        self._rng, self._blank = (seed, batch_size), blank
        rng = np.random.default_rng(seed)
        plan: list[np.ndarray] = []
        while len(plan) < batches:
            plan += self._one_pass(rng, min(batch_size, len(pairs)))
        self._plan = plan[:batches]

    def _one_pass(self, rng: np.random.Generator, size: int) -> list[np.ndarray]:
        """Batches of a random order, sorted by length within stretches of some batches."""
        order = rng.permutation(len(self._sources))
        order = order[: len(order) - len(order) % size]
        batches: list[np.ndarray] = []
        for stretch in np.array_split(order, max(1, len(order) // (32 * size))):
            keys = [len(self._targets[place]) + len(self._sources[place]) for place in stretch]
            ranked = stretch[np.argsort(keys, kind="stable")]
            batches += [ranked[start : start + size] for start in range(0, len(ranked), size)]
        return [batches[place] for place in rng.permutation(len(batches))]

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self._plan):
            raise IndexError(f"batch {index} of {len(self._plan)}")
        rng = np.random.default_rng((*self._rng, index))
        places = self._plan[index]
        blank = rng.random(len(places)) < self._blank
        sources = [[self._end] if none else self._sources[at] for at, none in zip(places, blank, strict=True)]
        ids = _padded(sources, self._pad)
        labels = _padded([self._targets[place] for place in places], -100)
        return {"input_ids": ids, "attention_mask": (ids != self._pad).long(), "labels": labels}


def only_batch(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Collate for `PairBatches`: the items are batches already, and there is one."""
    (batch,) = items
    return batch


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])
