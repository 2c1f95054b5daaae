"""Sampled continuations for rankers to choose from: the same twenty for all of them, or a decoder with one of them.

Source: RankGen (Krishna et al., 2022), §2.3 and appendix A. The departure: rankers share samples, which costs the
samples once and makes their comparison a paired one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kilter.data.passages import sentences, whole
from kilter.decoding import BestOfN
from kilter.hosts.settings import generate_as_asked
from kilter.tasks.continuations.ranking import TextScorer
from kilter.tasks.continuations.rivals import OwnProbability

Decoding = Callable[..., Any]
"""`(scorer, *, tokenizer, generator) -> custom_generate`, such as `partial(RankGenSearch, beams=2)`."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; the paper's are p = 0.9 and 128 new tokens."""

    new_tokens: int = 64
    top_p: float = 0.9


@dataclass(frozen=True)
class Sampled:
    """Continuations of one prefix; `likelihoods` are mean log-probabilities of a token."""

    texts: list[str]
    likelihoods: list[float]


def finished(text: str) -> str:
    """A continuation up to its last whole sentence, as the paper cuts them; unchanged where it has none.

    Example:
        >>> finished("It is so. And then"), finished("and then")
        ('It is so.', 'and then')
    """
    parts = sentences(text)
    if len(parts) > 1 and not whole(parts[-1]):
        parts = parts[:-1]
    return " ".join(parts)


def sample(model: Any, tokenizer: Any, prefix: str, n: int, sampling: Sampling, seed: int) -> Sampled:
    """Draw `n` continuations of a prefix, which is read once."""
    found = _generate(model, tokenizer, prefix, BestOfN(_equal, n, generator=_generator(model, seed)), n, sampling)
    width = found.sequences.shape[1] - len(_ids(tokenizer, prefix))
    rows = found.sequences[:, -width:]
    lengths = _lengths(rows, model.generation_config.eos_token_id)
    return Sampled(
        tokenizer.batch_decode(rows, skip_special_tokens=True),
        (found.sequences_log_probs / torch.tensor(lengths, device=rows.device)).tolist(),
    )


def decode(
    model: Any, tokenizer: Any, prefix: str, make: Decoding, scorer: TextScorer | None, sampling: Sampling, seed: int
) -> str:
    """The continuation that a decoder with a scorer ends with."""
    decoder = make(scorer, tokenizer=tokenizer, generator=_generator(model, seed))
    found = _generate(model, tokenizer, prefix, decoder, 1, sampling)
    return tokenizer.decode(found.sequences[0, len(_ids(tokenizer, prefix)) :], skip_special_tokens=True)


def best(prefix: str, drawn: Mapping[str, Any], scorer: TextScorer) -> str:
    """The one of the samples that the scorer likes most; their own probability is known since they were drawn."""
    texts: Sequence[str] = drawn["texts"]
    if isinstance(scorer, OwnProbability):
        scores = drawn["likelihoods"]
    else:
        scores = [float(one) for one in scorer([prefix] * len(texts), texts)]
    return texts[max(range(len(scores)), key=scores.__getitem__)]


def _generate(model: Any, tokenizer: Any, prefix: str, decoder: Any, rows: int, sampling: Sampling) -> Any:
    ids = torch.tensor([_ids(tokenizer, prefix)], device=model.device)
    return generate_as_asked(
        model,
        tokenizer=tokenizer,
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        custom_generate=decoder,
        do_sample=True,
        top_p=sampling.top_p,
        top_k=0,
        max_new_tokens=sampling.new_tokens,
        num_return_sequences=rows,
        pad_token_id=tokenizer.pad_token_id,
        return_dict_in_generate=True,
    )


def _ids(tokenizer: Any, prefix: str) -> list[int]:
    return tokenizer(prefix.strip())["input_ids"]


def _equal(prefixes: Sequence[Any], continuations: Sequence[Any]) -> torch.Tensor:
    return torch.zeros(len(continuations))


def _generator(model: Any, seed: int) -> torch.Generator:
    return torch.Generator(model.device).manual_seed(seed)


def _lengths(rows: torch.Tensor, ends: Any) -> list[int]:
    """Tokens of each row up to its end of sequence, which counts."""
    stops = torch.isin(rows, torch.as_tensor(ends if ends is not None else [-1], device=rows.device))
    return torch.where(stops.any(1), stops.int().argmax(1) + 1, rows.shape[1]).tolist()
