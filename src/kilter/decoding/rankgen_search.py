"""RankGen's beam search: sampled blocks of tokens, and a scorer that keeps the best continuations after each.

Krishna et al., "RankGen: Improving Text Generation with Large Ranking Models", EMNLP 2022, §2.3; how it differs from
the published code is told by `kilter.decoding.block_search`, which does the work.
"""

from collections.abc import Sequence
from typing import Any

from torch import Generator

from kilter.core.checks import one_of
from kilter.core.decoder import Decoder, Request
from kilter.decoding.block_search import FirstStage, decode_blocks
from kilter.decoding.candidates import AnyScorer, check_scorer


class RankGenSearch(Decoder):
    """Decode in blocks of sampled tokens; after each a scorer keeps the best continuations so far.

    A valid `custom_generate`. How tokens are sampled is said to `generate` (the paper: `do_sample=True, top_p=0.9,
    top_k=0`; transformers takes the 50 most likely where `top_k` is left out); without `do_sample=True` they are drawn
    from the model's own distribution. Returns one sequence for each prompt, or as many of the kept ones as
    `num_return_sequences` says (which transformers allows with `do_sample=True`), best first.

    An input draws the same alone and in a batch, for the same seed (`torch.manual_seed` or `generator`).

    Args:
        scorer: a callable `(prefixes, continuations) -> (n,)` on paired lists: a `RankGenScorer` or your own; a
            CrossEncoder of sentence-transformers; or "log_prob", the model's own log-probability. It gets the whole
            continuation so far, never the prompt in it.
        beams: B, continuations kept after each block.
        samples: N, drawn from each of them.
        block: L, tokens of a block.
        first_stage: whether the first block is drawn from one empty beam ("single", as in the paper: N candidates) or
            from B of them ("copies", as in the published code: B·N).
        tokenizer: the model's; prefixes and continuations are then texts, without special tokens.
        generator: where randomness comes from; a sequence gives each input its own.

    Raises:
        ValueError: from here or from `generate`, for settings that contradict one another, or a scorer that returns NaN
            or another number of scores.

    Example:
        >>> import torch
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> _ = torch.manual_seed(0)
        >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, eos_token_id=None, bos_token_id=None)
        >>> model = GPT2LMHeadModel(config).eval()
        >>> def sevens(prefixes, continuations):
        ...     return torch.tensor([(ids == 7).sum().item() for ids in continuations])
        >>> search = RankGenSearch(sevens, beams=2, samples=300, block=2)
        >>> model.generate(torch.tensor([[1, 2]]), custom_generate=search, max_new_tokens=4)[0, 2:]
        tensor([7, 7, 7, 7])
    """

    def __init__(
        self,
        scorer: AnyScorer,
        *,
        beams: int = 2,
        samples: int = 10,
        block: int = 20,
        first_stage: FirstStage = "single",
        tokenizer: Any = None,
        generator: Generator | Sequence[Generator] | None = None,
    ) -> None:
        check_scorer(scorer, generator, beams=beams, samples=samples, block=block)
        one_of("first_stage", first_stage, FirstStage)
        self.scorer, self.beams, self.samples, self.block = scorer, beams, samples, block
        self.first_stage, self.tokenizer, self.generator = first_stage, tokenizer, generator

    def search(self, request: Request) -> Any:
        """Decode in blocks; see the class."""
        return decode_blocks(self, request, kept=self.beams, **{k: v for k, v in self.config().items() if k != "beams"})
