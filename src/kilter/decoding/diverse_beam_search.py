"""Diverse Beam Search: several answers that differ, for the price of beam search.

Vijayakumar et al., "Diverse Beam Search: Decoding Diverse Solutions from Neural Sequence Models", 2016 (AAAI 2018).
Departure: each group finishes by transformers' own rule (length penalty, early stopping); the authors' code decodes to
the full length and normalises nothing.
"""

from functools import partial
from typing import Any, Literal, get_args

from torch import Tensor

from kilter.core.decoder import Decoder, Request, warn
from kilter.core.errors import suggest
from kilter.core.paper import Claim, Paper
from kilter.decoding import penalties
from kilter.decoding.beam_groups import Penalty
from kilter.decoding.beam_search import Order, decode

Diversity = Literal["hamming", "cumulative", "overlap", "ngram", "embedding"]


class DiverseBeamSearch(Decoder):
    """Beams in groups, of which a later one pays for repeating what an earlier one has just chosen.

    A valid `custom_generate`. `num_beams`, `num_beam_groups`, `diversity_penalty` (λ) and all else are given to
    `generate`, as in transformers up to 4.56: processors, stopping criteria, `length_penalty`, `early_stopping`. The
    first group is beam search of its own width; with one group all of it is. The paper's results are for one beam in
    each group and λ from 0.2 to 0.8.

    Beams of a group that go on are charged to later groups, finished ones never, so a padding token that is also the
    end of sequence does no harm. Scores carry the penalty, and are divided by length as `length_penalty` says. Ties go
    to the lowest (beam, token).

    Args:
        diversity: what likeness is charged. "hamming" (the paper's best): the same token at the same time;
            "cumulative": less so the more two beams differ already; "overlap": more so the more they agree; "ngram":
            the same n tokens anywhere; "embedding": cosine of the model's input embeddings; or a callable, see
            `kilter.decoding.beam_groups.Penalty`.
        n: length of the n-grams (not in the paper).
        temperature: Γ of "cumulative" (not in the paper).
        discount: of "overlap" (fairseq's default); 0 makes it "hamming".
        charge_eos: charge the end of a sequence just chosen too, as the authors' code does.
        order: which rows come first: "rounds", the best of each group, then the second best of each, in every round by
            score, so that fewer than all have the diversity and the first is the best of all; "score", best first of
            all groups; "group", rounds in the order of the groups. None is rounds, and "score" where all are returned.
        sample_groups: draw the candidates of a group instead of taking the best; sampling settings are `generate`'s.

    Raises:
        ValueError: from `generate`, for settings that contradict one another; the message names them and the mend.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, eos_token_id=None, bos_token_id=None)
        >>> model = GPT2LMHeadModel(config).eval()
        >>> groups = {"num_beams": 3, "num_beam_groups": 3, "diversity_penalty": 9.0, "num_return_sequences": 3}
        >>> prompt = torch.tensor([[1, 2]])
        >>> found = model.generate(prompt, custom_generate=DiverseBeamSearch(), max_new_tokens=3, **groups)
        >>> found.shape, len(set(found[:, 2].tolist()))
        (torch.Size([3, 5]), 3)
    """

    def __init__(
        self,
        *,
        diversity: Diversity | Penalty = "hamming",
        n: int = 2,
        temperature: float = 1.0,
        discount: float = 1.0,
        charge_eos: bool = False,
        order: Order | None = None,
        sample_groups: bool = False,
    ) -> None:
        if not isinstance(diversity, str) and not callable(diversity):
            raise TypeError(f"diversity: {type(diversity).__name__} is neither a name nor a callable")
        if isinstance(diversity, str) and diversity not in get_args(Diversity):
            raise ValueError(f"diversity={diversity!r} is not known{suggest(diversity, get_args(Diversity))}")
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"n={n} must be a whole number from 1")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature} must be above 0; it says how soon the charge fades")
        if not discount >= 0:
            raise ValueError(f"discount={discount} must be at least 0, which is hamming")
        if order is not None and order not in get_args(Order):
            raise ValueError(f"order={order!r} is not known{suggest(order, get_args(Order))}")
        self.diversity, self.n, self.temperature, self.discount = diversity, n, temperature, discount
        self.charge_eos, self.sample_groups = charge_eos, sample_groups
        self.order: Order | None = order

    def search(
        self, request: Request, *, num_beam_groups: int | None = None, diversity_penalty: float | None = None
    ) -> Any:
        """Search in groups; see the class."""
        groups, strength = _settings(request.config, num_beam_groups, diversity_penalty)
        return decode(
            self,
            request,
            groups=groups,
            order=self.order,
            sample=self.sample_groups,
            penalty=self._penalty(request.model),
            strength=strength,
            charge_end=self.charge_eos,
        )

    def _penalty(self, model: Any) -> Penalty:
        if callable(self.diversity):
            return partial(_own, self.diversity)
        if self.diversity == "embedding":
            writer = model.get_decoder() if model.config.is_encoder_decoder else model
            vectors = writer.get_input_embeddings().weight.detach()
            return partial(penalties.embedding, vectors=vectors, norms=penalties.lengths(vectors))
        options = {
            "hamming": {},
            "cumulative": {"temperature": self.temperature},
            "overlap": {"discount": self.discount},
            "ngram": {"n": self.n},
        }
        return partial(getattr(penalties, self.diversity), **options[self.diversity])


diverse_beam_search = DiverseBeamSearch()
"""The paper's Hamming diversity, ready to pass as `custom_generate`."""


def _settings(config: Any, num_beam_groups: int | None, diversity_penalty: float | None) -> tuple[int, float]:
    """G and λ, from the arguments of `generate` or from its config, where 1 and 0 may mean that they are unset."""
    groups = (config.num_beam_groups or 1) if num_beam_groups is None else num_beam_groups
    strength = float(config.diversity_penalty or 0.0) if diversity_penalty is None else float(diversity_penalty)
    if diversity_penalty is not None and num_beam_groups is None and groups == 1:
        raise ValueError(
            f"diversity_penalty={strength} is given but num_beam_groups is not, so there is nothing to keep apart: "
            "add num_beam_groups (the paper: as many as num_beams; 1 for beam search)"
        )
    if num_beam_groups is not None and groups > 1 and diversity_penalty is None and not strength:
        raise ValueError(
            f"num_beam_groups={groups} is given but diversity_penalty is not: add it (the paper: 0.2 to 0.8; with 0 "
            "all groups find the same)"
        )
    if not isinstance(groups, int) or groups < 1:
        raise ValueError(f"num_beam_groups={groups} must be a whole number from 1, which is beam search")
    if config.num_beams % groups:
        raise ValueError(
            f"num_beams={config.num_beams} cannot be divided into num_beam_groups={groups}; make num_beams a multiple"
        )
    if not 0 <= strength < float("inf"):
        raise ValueError(f"diversity_penalty={strength} must be a number from 0; below, repetition would be rewarded")
    if groups == 1 and (num_beam_groups is None or strength):
        nothing = f", so diversity_penalty={strength} changes nothing" if strength else ""
        kind = "beam search" if config.num_beams > 1 else "greedy search"
        warn(
            f"num_beam_groups is 1{nothing}: this is {kind}; for diverse texts give num_beams and num_beam_groups, "
            "such as 6 and 3, and diversity_penalty; where it is meant, num_beam_groups=1 alone says so"
        )
    return groups, strength


def _own(diversity: Penalty, chosen: Tensor, history: Tensor, prefix: Tensor, vocab_size: int) -> Tensor:
    """A user's diversity, checked."""
    penalty = diversity(chosen, history, prefix, vocab_size)
    wanted = (*prefix.shape[:2], vocab_size)
    shape = tuple(penalty.shape) if isinstance(penalty, Tensor) else type(penalty).__name__
    if (
        not isinstance(penalty, Tensor)
        or penalty.ndim != 3
        or any(a not in (1, b) for a, b in zip(shape, wanted, strict=True))
    ):
        raise ValueError(f"diversity: the callable must return a tensor (N, B', V) = {wanted}, got {shape}")
    if penalty.isnan().any():
        raise ValueError("diversity: the callable returned NaN; a penalty is a number, 0 where there is no likeness")
    return penalty


PAPER = Paper(
    slug="diverse-beam-search",
    title="Diverse Beam Search: Decoding Diverse Solutions from Neural Sequence Models",
    authors=(
        "Ashwin K. Vijayakumar",
        "Michael Cogswell",
        "Ramprasath R. Selvaraju",
        "Qing Sun",
        "Stefan Lee",
        "David Crandall",
        "Dhruv Batra",
    ),
    year=2018,
    venue="AAAI",
    url="https://arxiv.org/abs/1610.02424",
    lever="decoder",
    purpose="several answers that differ, for the price of beam search",
    names=("DiverseBeamSearch", "diverse_beam_search", "SiblingBeamSearch", "MMIBeamSearch"),
    claims=(
        Claim(
            text="the best of twenty outputs is better than beam search's",
            published="28.09 against 27.34 SPICE on COCO, 18.77 against 18.44 BLEU on newstest2013 (tables)",
            metric="oracle_20",
            better="higher",
            baseline="beam",
            arm="dbs",
        ),
        Claim(
            text="the outputs differ more than beam search's",
            published="×1.72 to ×2.93 distinct 4-grams (tables)",
            metric="distinct_4",
            better="higher",
            baseline="beam",
            arm="dbs",
        ),
        Claim(
            text="it finds likelier texts than beam search",
            published="log-probability −6.53 against −6.91 on PASCAL-50S (body)",
            metric="log_prob",
            better="higher",
            baseline="beam",
            arm="dbs",
        ),
        Claim(
            text="its first output is better than beam search's",
            published="16.78 against 16.27 SPICE on COCO, 13.69 against 13.52 BLEU on newstest2013 (tables)",
            metric="oracle_1",
            better="higher",
            baseline="beam",
            arm="dbs",
        ),
        Claim(
            text="the best of twenty is better than with ranks among siblings (Li and Jurafsky)",
            published="28.09 against 27.59 SPICE on COCO, 18.77 against 18.34 BLEU on newstest2013 (tables)",
            metric="oracle_20",
            better="higher",
            baseline="sibling",
            arm="dbs",
        ),
        Claim(
            text="the best of twenty is better than with mutual information (Li et al.)",
            published="28.09 against 27.94 SPICE on COCO, 18.77 against 18.86 BLEU on newstest2013 (tables)",
            metric="oracle_20",
            better="higher",
            baseline="mmi",
            arm="dbs",
        ),
        Claim(
            text="it costs hardly more time and memory than beam search",
            reason="no run judges time; benchmarks/diverse_beam_search.py measures it",
        ),
        Claim(
            text="all this is so for captions of images and for questions about them",
            reason="needs images, and networks that describe them",
        ),
        Claim(
            text="people prefer its captions",
            published="60 % of their choices (body)",
            reason="needs people",
        ),
        Claim(
            text="diversity serves the more, the more there is in an image",
            reason="needs images, and people who grade how much there is in each",
        ),
    ),
    arxiv="1610.02424",
)
