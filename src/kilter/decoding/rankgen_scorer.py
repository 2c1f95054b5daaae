"""RankGen's dual encoder: one encoder, told by a leading word which side it reads, and a dot product.

Paper: K. Krishna et al., "RankGen: Improving Text Generation with Large Ranking Models", EMNLP 2022, arXiv 2205.09726.
Departure: of a text that is too long for a prefix its end is kept; the published code keeps the start (`compat=True`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kilter.core.checks import whole
from kilter.core.masking import length_mask
from kilter.decoding.rankgen_encoder import (
    NO_ENCODER,
    check_encoder,
    check_texts,
    continuation_ids,
    frame_of,
    positions,
    prefix_ids,
    square,
    token_limit,
)

_REMEMBERED = 1024
"""How many prefix vectors are kept between calls."""


class RankGenScorer(nn.Module):
    """Scores how well texts continue prefixes; a scorer for `BestOfN` and `RankGenSearch`, or an encoder to train.

    The vector of a text is the encoder's last hidden state at position 0, times a square matrix without bias. The
    side is told by a leading word, so one encoder reads both. A score is the raw dot product of two vectors.

    Args:
        encoder: a transformers model that reads both ways and returns `last_hidden_state` (`T5EncoderModel`,
            `BertModel`, …), perhaps compiled or wrapped.
        tokenizer: its tokenizer.
        projection: learn the matrix, starting from the identity; False leaves it out; a `(D, D)` tensor starts there.
        prefix_tokens: longest prefix, counted with the leading word and special tokens; of a longer one the end is
            read. None is 512, or what encoder and tokenizer hold if that is less.
        continuation_tokens: longest continuation; what is beyond is not scored, and a warning says so. None is 128.
        words: the leading words, spaces included.
        batch_size: texts in one forward pass of the encoder.
        compat: cut as the published code does: the end of long prefixes and of long continuations is dropped without
            a word, and with it the end-of-sequence token.

    Raises:
        TypeError: an encoder that is no transformers encoder.
        ValueError: an encoder that reads from left to right only (position 0 would see nothing), lengths that it does
            not hold, words its tokenizer cannot tell apart, a projection of another shape.

    Example:
        >>> from transformers import BertConfig, BertModel, BertTokenizer
        >>> vocabulary = "[PAD] [UNK] [CLS] [SEP] [MASK] pre suffi a dark night fell rain".split()
        >>> tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)})
        >>> tiny = BertConfig(vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
        >>> scorer = RankGenScorer(BertModel(tiny), tokenizer)
        >>> scorer(["a dark night"] * 2, ["rain fell", "a rain"]).shape
        torch.Size([2])

    Reference: Krishna et al., EMNLP 2022, section 2.2 and appendix A.1.
    """

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer: Any,
        *,
        projection: bool | Tensor = True,
        prefix_tokens: int | None = None,
        continuation_tokens: int | None = None,
        words: Sequence[str] = ("pre ", "suffi "),
        batch_size: int = 32,
        compat: bool = False,
    ) -> None:
        from kilter.hosts.wrapped import unwrapped

        super().__init__()
        own = unwrapped(encoder)
        check_encoder(own)
        whole("batch_size", batch_size, 1)
        self.encoder: Any = encoder
        self.tokenizer = tokenizer
        self.projection = square(own, projection)
        self.words = (str(words[0]), str(words[1]))
        self.batch_size = batch_size
        self.compat = compat
        self._frames = [frame_of(tokenizer, word) for word in self.words]
        if self._frames[0][0] == self._frames[1][0]:
            raise ValueError(f"the tokenizer reads both of words={self.words} as {self._frames[0][0]}; choose others")
        self._size = own.config.hidden_size
        room = positions(own), tokenizer
        self.prefix_tokens = token_limit("prefix_tokens", prefix_tokens, 512, *room, self._frames[0])
        self.continuation_tokens = token_limit("continuation_tokens", continuation_tokens, 128, *room, self._frames[1])
        self._seen: dict[str, Tensor] = {}
        self._seen_with: Any = None

    # Vectors -------------------------------------------------------------------------------------------------

    def encode_prefix(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Vectors of texts to be continued, with gradient where that is on.

        Raises:
            TypeError: no list of strings.
            ValueError: an empty text.
        """
        return self._encode(texts, 0)

    def encode_continuation(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Vectors of continuations; see `encode_prefix`."""
        return self._encode(texts, 1)

    def _encode(self, texts: Sequence[str], side: int) -> Tensor:
        rows = self._token_ids(texts, side)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # little padding in each batch
        batches = [order[k : k + self.batch_size] for k in range(0, len(order), self.batch_size)]
        found = [self._vectors([rows[i] for i in batch]) for batch in batches]
        if not found:
            return next(self.encoder.parameters()).new_zeros(0, self._size)
        return torch.cat(found)[sorted(range(len(order)), key=order.__getitem__)]

    def _token_ids(self, texts: Sequence[str], side: int) -> list[list[int]]:
        check_texts(texts, ("prefixes", "continuations")[side])
        if not texts:
            return []
        led = [self.words[side] + text.strip() for text in texts]
        limit = (self.prefix_tokens, self.continuation_tokens)[side]
        if self.compat:
            return [row[:limit] for row in self.tokenizer(led, verbose=False)["input_ids"]]
        read = (prefix_ids, continuation_ids)[side]
        return read(self.tokenizer, led, limit, self._frames[side])

    def _vectors(self, rows: list[list[int]]) -> Tensor:
        longest = max(map(len, rows))
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        mask = length_mask(torch.tensor([len(row) for row in rows]), longest).long()
        device = next(self.encoder.parameters()).device
        out = self.encoder(input_ids=ids.to(device), attention_mask=mask.to(device))
        if not hasattr(out, "last_hidden_state"):
            raise TypeError(NO_ENCODER.format(type(self.encoder).__name__))
        first = out.last_hidden_state[:, 0]
        return first if self.projection is None else self.projection(first)

    # Scores --------------------------------------------------------------------------------------------------

    def forward(self, prefixes: Sequence[str], continuations: Sequence[str]) -> Float[Tensor, " pairs"]:
        """Scores of paired texts, without gradient and dropout.

        Each distinct prefix is encoded once, and remembered as long as the weights stay as they are: the stages of a
        search cost their continuations only. An empty continuation (a sample that ended at once) scores -inf.

        Raises:
            TypeError: no lists of strings.
            ValueError: lists of different lengths, an empty prefix.
        """
        check_texts(prefixes, "prefixes")
        check_texts(continuations, "continuations", empty=True)
        if len(prefixes) != len(continuations):
            raise ValueError(
                f"there are {len(prefixes)} prefixes and {len(continuations)} continuations; repeat the prefix for "
                "each, or use score_matrix"
            )
        with self._scoring():
            left = self._remembered(prefixes)
            scores = torch.full((len(left),), -torch.inf, device=left.device, dtype=left.dtype)
            some = [i for i, text in enumerate(continuations) if text.strip()]
            place = {text: k for k, text in enumerate(dict.fromkeys(continuations[i] for i in some))}
            right = self.encode_continuation(list(place)).to(left.dtype)
            scores[some] = (left[some] * right[[place[continuations[i]] for i in some]]).sum(-1)
            return scores

    def score_matrix(
        self, prefixes: Sequence[str], continuations: Sequence[str]
    ) -> Float[Tensor, "prefixes continuations"]:
        """Scores of every prefix with every continuation, without gradient and dropout: a small search engine.

        Raises:
            TypeError, ValueError: see `encode_prefix`.
        """
        with self._scoring():
            left, right = self.encode_prefix(prefixes), self.encode_continuation(continuations)
            return _precise(left) @ _precise(right).T

    def _remembered(self, prefixes: Sequence[str]) -> Tensor:
        weights = [(p.data_ptr(), p.dtype, 0 if p.is_inference() else p._version) for p in self.parameters()]
        if weights != self._seen_with:
            self._seen, self._seen_with = {}, weights
        here = dict.fromkeys(prefixes)
        new = [text for text in here if text not in self._seen]
        self._seen |= zip(new, _precise(self.encode_prefix(new)), strict=True)
        for text in [text for text in self._seen if text not in here][: max(0, len(self._seen) - _REMEMBERED)]:
            del self._seen[text]
        return torch.stack([self._seen[text] for text in prefixes]) if prefixes else _precise(self.encode_prefix([]))

    @contextmanager
    def _scoring(self) -> Iterator[None]:
        trained = [module for module in self.modules() if module.training]
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module in trained:
                module.training = True

    # Files ---------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write a folder that `from_pretrained` reads, and `sentence_transformers.SentenceTransformer` too.

        There the sides are prompts: `model.encode(texts, prompt_name="prefix")`, or `"continuation"`. It cuts what is
        too long at the end.
        """
        from kilter.decoding.rankgen_files import save

        save(self, folder)

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | PathLike[str], *, tokenizer: Any = None, **options: Any
    ) -> "RankGenScorer":
        """Load what `save_pretrained` or sentence-transformers saved, or a checkpoint of the paper's authors.

        Args:
            name_or_folder: a folder, or a hub id, e.g. `kalpeshk2011/rankgen-t5-base-all` (no remote code is run).
            tokenizer: instead of the one beside the weights.
            options: of the constructor, instead of the saved ones.

        Raises:
            ValueError: no ranker: pooled otherwise than at position 0, normalised, with a bias, or without its weights.
        """
        from kilter.decoding.rankgen_files import load

        encoder, tokenizer, saved = load(name_or_folder, tokenizer)
        return cls(encoder, tokenizer, **saved | options).eval()


def _precise(vectors: Tensor) -> Tensor:
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))
