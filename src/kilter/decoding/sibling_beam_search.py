"""Beam search that charges siblings: the k-th best continuation of a beam pays γ·k.

Li & Jurafsky, "Mutual Information and Diverse Decoding Improve Neural Machine Translation", 2016; Li, Monroe &
Jurafsky, arXiv 1611.08562. A rival of Diverse Beam Search. The first step is not charged (as in fairseq): there is one
parent only.
"""

from typing import Any

import torch
from torch import Tensor

from kilter.core.checks import at_least
from kilter.core.decoder import Decoder, Request
from kilter.decoding.beam_groups import best
from kilter.decoding.beam_search import check_no_groups, decode


class SiblingBeamSearch(Decoder):
    """Beam search in which a beam's continuations pay for their rank among themselves, so that others get a turn.

    A valid `custom_generate`. The charge is carried forward, as the score is.

    Args:
        rank_penalty: γ, what each rank costs (log-probability); 0 is beam search.

    Raises:
        ValueError: `rank_penalty` is negative.

    Example:
        >>> SiblingBeamSearch(rank_penalty=0.5)
        SiblingBeamSearch(rank_penalty=0.5)
    """

    def __init__(self, *, rank_penalty: float) -> None:
        at_least("rank_penalty", rank_penalty, 0)
        self.rank_penalty = rank_penalty

    def search(self, request: Request) -> Any:
        """Search; see the class."""
        check_no_groups(self, request.config)
        return decode(self, request, rescore=self._charge)

    def _charge(self, log_probs: Tensor, ids: Tensor, parents: Tensor | None, count: int) -> Tensor:
        """Of each beam its `count` best continuations, which no other of it can overtake, less γ·rank."""
        if parents is None:
            return log_probs
        values, tokens = best(log_probs.flatten(0, 1), min(count, log_probs.shape[-1]))
        values = values - self.rank_penalty * torch.arange(1, values.shape[-1] + 1, device=values.device)
        ranked = torch.full_like(log_probs, -torch.inf).flatten(0, 1).scatter_(-1, tokens, values)
        return ranked.view_as(log_probs)
