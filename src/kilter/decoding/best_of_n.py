"""Best of n: sample n answers, return the one a scorer likes most."""

from collections.abc import Sequence
from typing import Any

from torch import Generator

from kilter.core.decoder import Decoder, Request
from kilter.decoding.block_search import decode_blocks
from kilter.decoding.candidates import AnyScorer, check_scorer


class BestOfN(Decoder):
    """Sample n continuations and keep the best by a scorer; RankGen's rerank is n = 20.

    A valid `custom_generate`; `kilter.decoding.RankGenSearch` tells more of scorers, sampling and seeds. Returns one
    sequence for each prompt, or as many as `num_return_sequences` says, best first.

    Args:
        scorer: a callable `(prefixes, continuations) -> (n,)` on paired lists, a CrossEncoder of sentence-transformers,
            or "log_prob", the model's own log-probability.
        n: samples of each prompt.
        tokenizer: the model's; prefixes and continuations are then texts, without special tokens.
        generator: where randomness comes from; a sequence gives each input its own.

    Example:
        >>> import torch
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> _ = torch.manual_seed(0)
        >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, eos_token_id=None, bos_token_id=None)
        >>> model = GPT2LMHeadModel(config).eval()
        >>> def rising(prefixes, continuations):
        ...     return torch.tensor([(ids.diff() > 0).sum().item() for ids in continuations])
        >>> prompt = torch.tensor([[1, 2]])
        >>> found = model.generate(prompt, custom_generate=BestOfN(rising, n=200), max_new_tokens=4)
        >>> bool((found[0, 2:].diff() > 0).all())
        True
    """

    def __init__(
        self,
        scorer: AnyScorer,
        n: int = 20,
        *,
        tokenizer: Any = None,
        generator: Generator | Sequence[Generator] | None = None,
    ) -> None:
        check_scorer(scorer, generator, n=n)
        self.scorer, self.n, self.tokenizer, self.generator = scorer, n, tokenizer, generator

    def search(self, request: Request) -> Any:
        """Sample and choose; see the class."""
        how = {name: getattr(self, name) for name in ("scorer", "tokenizer", "generator")}
        return decode_blocks(self, request, kept=self.n, samples=self.n, block=None, first_stage="single", **how)
