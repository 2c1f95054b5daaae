"""Contrastive context prediction: find the sentence that stood near in the document, against others of its language.

Paper: N. Wu et al., "Unsupervised Context Aware Sentence Representation Pretraining for Multi-lingual Dense Retrieval",
IJCAI 2022, arXiv 2206.03281. Its pretraining code was never released; where the paper is silent we follow the authors'
next system (MSM). The departure is in `ccp_head`: running statistics begin as those of the first batches.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import one_of, positive, whole, within
from kilter.core.objective import LossOutput, Objective
from kilter.core.paper import Claim, Paper
from kilter.dist import gather, rank
from kilter.embeddings.ccp_head import ContextHead
from kilter.embeddings.ccp_loss import check_pairs, surprise, unit
from kilter.ops.memory_bank import MemoryBank

BankSource = Literal["eval", "train", "both"]


class ContextPrediction(Objective):
    r"""Pairs of sentences from one document find each other among sentences of their language, of this batch and past.

    $$\mathcal L = \frac{1}{2B} \sum_i \big(\ell(q_i \to k_i) + \ell(k_i \to q_i)\big), \qquad
      \ell(q_i \to k_i) = -\log \frac{e^{q_i \cdot k_i / \tau}}
      {\sum_j e^{q_i \cdot k_j / \tau} + \sum_{j \ne i} e^{q_i \cdot q_j / \tau} + \sum_b e^{q_i \cdot b / \tau}}$$

    over what is of the language of $i$; see `context_prediction_loss` for pairs without a rival, and for equal texts.
    $q$ and $k$ are centre and context after the projection head and scaled to length 1. The head is for training only:
    the encoder's own vectors are what is used afterwards.

    *Bank.* $b$ are the last `bank_size` outputs of the head, of earlier steps, each with its language. Without
    languages of its own a bank makes a model tell languages apart, and collapse.

    *Asymmetric norm.* One side of a pair is normalised with the statistics of its batch, the other with running
    statistics of earlier batches, and they take turns, centre first: in the same batch's statistics the two would
    recognise each other. See `ContextHead`.

    Bank, turn and running statistics are buffers, and move once for each call in training mode with gradients on:
    once a step under GradCache, once a micro-batch with gradient accumulation, never in evaluation, which also takes
    both sides by running statistics. The bank is filled after the loss: no row is a negative in its own step.

    Args:
        dim: components D of the encoder's vectors.
        languages: names of the languages, which then have the numbers 0, 1, … in that order; or how many there are.
            With 1, `language` may be left out, and whatever is given is of one language: the language-agnostic bank
            which the paper warns of.
        temperature: τ.
        bank_size: rows of the bank, for all languages together; 0 for none.
        asymmetric_norm: else both sides are normalised with their own batch's statistics.
        head: project and normalise; else neither, and the encoder's vectors are compared.
        both_directions: also from context to centre; else from centre to context alone.
        centres_as_negatives: other centres count against a centre, and other contexts against a context.
        bank_source: which side of a step the bank keeps: the one with running statistics (`eval`: old rows stay
            comparable), with those of its batch (`train`), or `both`. Without asymmetric norm the sides take turns
            alike.
        gather: of several processes, take the batches of all as one, for negatives, statistics and bank. Every
            process needs as many rows. Without it each has a bank and statistics of its own.

    Attributes:
        names: names of the languages; None if a number was given.

    Shape:
        - `centre`, `context`: float `(B, D)`; `language`: int `(B,)`.
        - returns `LossOutput`: part `ccp` (batch mean); stats `ccp_accuracy` (share of pairs that find each other
          before all else), `bank_effective_rank` and `bank_uniformity` (see `MemoryBank.spread`; what falls and rises
          when the model collapses).

    Raises:
        TypeError, ValueError: see `context_prediction_loss`; also an option out of range, vectors that do not have D
            components, several languages without `language`, and on the CPU a number that is of no language.

    Example:
        >>> loss = ContextPrediction(8, languages=["en", "de"], bank_size=64)
        >>> q, k = torch.randn(2, 4, 8).unbind()
        >>> sorted(loss(q, k, loss.numbers(["en", "en", "de", "de"])).stats)
        ['bank_effective_rank', 'bank_uniformity', 'ccp_accuracy']

    Reference: Wu et al., IJCAI 2022, sections on contrastive context prediction, memory bank and asymmetric batch
    normalisation.
    """

    turn: Int[Tensor, ""]

    def __init__(
        self,
        dim: int,
        *,
        languages: int | Sequence[str] = 1,
        temperature: float = 0.1,
        bank_size: int = 4096,
        asymmetric_norm: bool = True,
        head: bool = True,
        both_directions: bool = True,
        centres_as_negatives: bool = True,
        bank_source: BankSource = "eval",
        gather: bool = False,
    ) -> None:
        super().__init__()
        whole("dim", dim, 1)
        positive("temperature", temperature)
        whole("bank_size", bank_size, 0)
        one_of("bank_source", bank_source, BankSource)
        self.dim = dim
        self.languages = _languages(languages)
        self.temperature = temperature
        self.bank_size = bank_size
        self.asymmetric_norm = asymmetric_norm
        self.head = head
        self.both_directions = both_directions
        self.centres_as_negatives = centres_as_negatives
        self.bank_source: BankSource = bank_source
        self.gather = gather
        self.projection = ContextHead(dim, asymmetric=asymmetric_norm) if head else None
        self.bank = MemoryBank(bank_size, dim)
        self.register_buffer("turn", torch.zeros((), dtype=torch.long))

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the languages, in the order of their numbers; None if a number was given."""
        return None if isinstance(self.languages, int) else self.languages

    def numbers(self, names: Sequence[str]) -> Int[Tensor, " batch"]:
        """Numbers of languages by their names, as `forward` takes them.

        Raises:
            ValueError: a name that there is not; the message lists those there are.

        Example:
            >>> ContextPrediction(8, languages=["en", "de"]).numbers(["de", "en", "de"])
            tensor([1, 0, 1])
        """
        known = {name: number for number, name in enumerate(self.names or ())}
        for row, name in enumerate(names):
            if name not in known:
                there = ", ".join(known) or f"none by name: give names, not languages={self.languages}"
                raise ValueError(f"row {row}: there is no language {name!r}; there is {there}")
        return torch.tensor([known[name] for name in names], dtype=torch.long)

    def forward(
        self,
        centre: Float[Tensor, "batch dim"],
        context: Float[Tensor, "batch dim"],
        language: Int[Tensor, " batch"] | None = None,
    ) -> LossOutput:
        """Compute the loss, then keep this step's vectors; see the class."""
        self._check(centre, context, language)
        language = None if self.languages == 1 else language
        learns = self.training and torch.is_grad_enabled() and len(centre) > 0
        batch, start = len(centre), 0
        if self.gather:
            start = rank() * batch
            centre, context = gather(centre), gather(context)
            language = None if language is None else gather(language)
        with torch.autocast(centre.device.type, enabled=False):
            given = torch.stack([centre, context]).to(torch.promote_types(centre.dtype, torch.float32))
            seen = given if self.projection is None else self.projection(given, self.turn, learns)
            sides, rows = unit(seen), unit(self.bank.rows.to(seen.dtype))
            asked = sides[: 1 + self.both_directions, start : start + batch] / self.temperature
            each, found = surprise(
                asked,
                sides,
                rows,
                language,
                self.bank.tags,
                centres_as_negatives=self.centres_as_negatives,
                start=start,
            )
        loss = each.sum() / max(each.numel(), 1)
        if learns:
            self._keep(seen.detach(), language)
        directions, uniformity = self.bank.spread()
        stats = {
            "ccp_accuracy": found.sum() / max(found.numel(), 1),
            "bank_effective_rank": directions,
            "bank_uniformity": uniformity,
        }
        return LossOutput(loss, {"ccp": loss}, stats)

    def _keep(self, seen: Float[Tensor, "2 batch dim"], language: Tensor | None) -> None:
        if language is None:
            language = torch.zeros(seen.shape[1], dtype=torch.long, device=seen.device)
        if self.bank_source == "both":
            self.bank.push(seen.flatten(0, 1), language.repeat(2))
        else:
            side = (self.turn + (self.bank_source == "eval")) % 2  # that of the batch's own statistics is `turn`
            self.bank.push(seen.index_select(0, side.view(1))[0], language)
        self.turn.add_(1).remainder_(2)

    def _check(self, centre: Tensor, context: Tensor, language: Tensor | None) -> None:
        check_pairs(centre, context, language)
        if centre.shape[1] != self.dim:
            raise ValueError(f"centre has {centre.shape[1]} components, this objective was made for dim={self.dim}")
        there = self.languages if isinstance(self.languages, int) else len(self.languages)
        known = (
            ", ".join(f"{number} {name}" for number, name in enumerate(self.names or ()))
            or f"0 to {there - 1} (languages={there})"
        )
        if self.languages == 1:  # whatever is given is of one
            return
        if language is not None:
            within("language", language, 0, there - 1, f"but the languages are {known}", row="row")
        elif there > 1:
            raise ValueError(
                f"language is needed, since there are {there} languages ({known}); give the number of each row's, in "
                "a column `label` of sentence-transformers' trainer"
            )


def _languages(given: int | Sequence[str]) -> int | tuple[str, ...]:
    if isinstance(given, Sequence) and not isinstance(given, str):
        if not given or not all(isinstance(name, str) and name for name in given) or len({*given}) < len(given):
            raise ValueError(f"languages must be a number or distinct names, got {given!r}")
        return tuple(given)
    whole("languages", given, 1)
    return int(given)


PAPER = Paper(
    slug="ccp",
    title="Unsupervised Context Aware Sentence Representation Pretraining for Multi-lingual Dense Retrieval",
    authors=(
        "Ning Wu",
        "Yaobo Liang",
        "Houxing Ren",
        "Linjun Shou",
        "Nan Duan",
        "Ming Gong",
        "Daxin Jiang",
    ),
    year=2022,
    venue="International Joint Conference on Artificial Intelligence (IJCAI)",
    url="https://www.ijcai.org/proceedings/2022/607",
    lever="objective",
    purpose="one space for many languages, from each language's documents alone, without translations",
    names=("ContextPrediction", "ContextPairs", "LanguageBatches", "LanguageCalibration"),
    claims=(
        Claim(
            text="sentences of two languages come to lie together though each language is learnt by itself",
            metric="tatoeba",
            better="higher",
            baseline="untrained",
            arm="ccp",
        ),
        Claim(
            text="a bank of each language's own negatives keeps the model from collapsing",
            metric="tatoeba",
            better="higher",
            baseline="agnostic-bank",
            arm="ccp",
        ),
        Claim(
            text="asymmetric batch normalisation keeps a pair from recognising each other",
            metric="tatoeba",
            better="higher",
            baseline="symmetric-norm",
            arm="ccp",
        ),
        Claim(
            text="calibrating the vectors afterwards makes retrieval much better",
            metric="tatoeba",
            better="higher",
            baseline="ccp",
            arm="ccp+standardise",
        ),
        Claim(
            text="it finds translations in Tatoeba better than all that had no bilingual data before",
            reason="needs the rivals' weights (CRISS, XLM-R) and 108 languages of CommonCrawl",
        ),
        Claim(
            text="the gain is larger between two languages neither of which is English",
            reason="needs pairs of sentences that are not translated from or into English, and the rivals' weights",
        ),
        Claim(
            text="it is ahead in retrieval of passages in many languages, also of what had bilingual data, without and "
            "with training on the task",
            published="82 % against 80 % for InfoXLM of passages among the first 100, Mr. TyDi, eleven languages",
            reason="needs the queries and passages of XOR Retrieve and Mr. TyDi, and eight accelerators",
        ),
    ),
    arxiv="2206.03281",
)
