"""Which domain a text is of: named, numbered, or said by a token at its beginning."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kilter.core.checks import one_of, readable
from kilter.hosts.expert_blocks import Plan
from kilter.ops.experts import UNKNOWN


def token_of(domain: str) -> str:
    """The token that stands for a domain.

    Example:
        >>> token_of("med")
        '[MED]'
    """
    return f"[{domain.upper()}]"


def number_of(plan: Plan, domain: str | int) -> int:
    """The number of a domain.

    Raises:
        ValueError: an unknown name, with those that are known, or a number that is none.
    """
    if isinstance(domain, str):
        one_of("domain", domain, plan.domains)
        return plan.domains.index(domain)
    if isinstance(domain, bool) or not isinstance(domain, int):
        raise TypeError(f"domain must be a name or a number, got {domain!r}")
    if not UNKNOWN <= domain < len(plan.domains):
        raise ValueError(f"domain must be one of {_known(plan)}, or -1 for none, got {domain}")
    return domain


def _known(plan: Plan) -> str:
    return ", ".join(f"{i} ({name})" for i, name in enumerate(plan.domains))


def numbers_of(plan: Plan, domain: Any, rows: int) -> Tensor:
    """Domains as a tensor `(rows,)`: of one name or number, of a list of them, of a tensor.

    Raises:
        TypeError: something else.
        ValueError: unknown domains, or not one for each row.
    """
    if isinstance(domain, str | int):
        return torch.full((rows,), number_of(plan, domain))
    if not isinstance(domain, Tensor):
        if not isinstance(domain, Sequence):
            raise TypeError(f"domain must be a name, a list of names or a tensor (B,), got {type(domain).__name__}")
        domain = torch.tensor([number_of(plan, one) for one in domain], dtype=torch.long)
    if domain.shape != (rows,):
        raise ValueError(f"domain must be ({rows},), one for each row of the batch, got {tuple(domain.shape)}")
    if domain.is_floating_point() or domain.dtype == torch.bool:
        raise TypeError(f"domain must hold integers, got {domain.dtype}; use .long()")
    domain = domain.long()
    if readable(domain):
        wrong = ((domain < UNKNOWN) | (domain >= len(plan.domains))).nonzero()
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(f"row {row}: domain is {int(domain[row])}, must be one of {_known(plan)}, or -1 for none")
    return domain


def routed(
    plan: Plan, ids: Tensor | None, mask: Tensor | None, domain: Any, like: Tensor
) -> tuple[Tensor | None, Tensor]:
    """The token ids that the model is to read, and the domain of each row.

    A domain's token counts where a text begins, and behind the token that begins every text. With `domain_tokens` it
    stands at the beginning afterwards, where one is known; without, what stood there stands there again.

    Args:
        plan: of the model.
        ids: token ids `(rows, positions)`, if there are.
        mask: which are no padding.
        domain: what was said beside the texts.
        like: anything with as many rows.

    Raises:
        ValueError: the token and what was said are not the same; see also `numbers_of`.
    """
    rows = torch.full((len(like),), UNKNOWN) if domain is None else numbers_of(plan, domain, len(like))
    rows = rows.to(like.device)
    if ids is None or plan.first_token is None or not ids.shape[1]:
        return ids, rows
    first = _first(ids, mask)
    head = ids.gather(1, first)
    said = _domain(plan, head[:, 0])
    own = said
    if plan.front is not None:
        second = _domain(plan, ids.gather(1, (first + 1).clamp(max=ids.shape[1] - 1))[:, 0])
        said = torch.where((head[:, 0] == plan.front) & (said == UNKNOWN), second, said)
    _agree(plan, said, rows)
    rows = torch.where(said == UNKNOWN, rows, said)
    if plan.front is None:
        return ids, rows
    if plan.domain_tokens:
        change = (head[:, 0] == plan.front) & (rows != UNKNOWN) & (said == UNKNOWN)
        new = rows + plan.first_token
    else:
        change, new = own != UNKNOWN, torch.full_like(rows, plan.front)
    return ids.scatter(1, first, torch.where(change, new, head[:, 0])[:, None]), rows


def _first(ids: Tensor, mask: Tensor | None) -> Tensor:
    """Where each text begins; padding may stand before it."""
    if mask is None or mask.shape != ids.shape:
        return torch.zeros(len(ids), 1, dtype=torch.long, device=ids.device)
    return mask.long().argmax(1, keepdim=True)


def _domain(plan: Plan, token: Tensor) -> Tensor:
    number = token.long() - (plan.first_token or 0)
    return torch.where((number >= 0) & (number < len(plan.domains)), number, UNKNOWN)


def _agree(plan: Plan, said: Tensor, given: Tensor) -> None:
    if not readable(said, given):
        return
    wrong = ((said != UNKNOWN) & (given != UNKNOWN) & (said != given)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"row {row}: its text begins with {token_of(plan.domains[int(said[row])])}, and domain says "
            f"{plan.domains[int(given[row])]}; give one of the two"
        )


def to_front(plan: Plan, features: dict[str, Any], number: int, padding: int) -> dict[str, Any]:
    """Tokens of texts with the domain's at the beginning, where it takes the place of what begins every text.

    Args:
        plan: of the model.
        features: what the tokenizer makes of a batch.
        number: the domain of all its texts; `UNKNOWN` leaves what the texts say themselves.
        padding: the token id of padding.

    Raises:
        ValueError: a text says another domain.
    """
    ids = features.get("input_ids")
    if not isinstance(ids, Tensor) or ids.ndim != 2 or plan.first_token is None:
        return features
    mask = features.get("attention_mask")
    mask = torch.ones_like(ids) if mask is None else mask
    first = _first(ids, mask)
    second = _domain(plan, ids.gather(1, (first + 1).clamp(max=ids.shape[1] - 1)))
    if plan.front is not None:
        doubled = (ids.gather(1, first) == plan.front) & (second != UNKNOWN)
    else:  # a token was put before the text, which may say its domain itself
        _agree(plan, second[:, 0], torch.full((len(ids),), number))
        doubled = (second != UNKNOWN) & (number != UNKNOWN) & (first + 1 < ids.shape[1])
    if doubled.any():
        features = _dropped(features, first, doubled, padding, mask)
        ids, mask = features["input_ids"], features["attention_mask"]
        first = _first(ids, mask)
    _look_inside(plan, ids, first)
    if number == UNKNOWN or plan.front is None:
        return features
    head = ids.gather(1, first)
    _agree(plan, _domain(plan, head[:, 0]), torch.full((len(ids),), number))
    new = torch.where(head == plan.front, plan.first_token + number, head)
    return features | {"input_ids": ids.scatter(1, first, new)}


def _look_inside(plan: Plan, ids: Tensor, first: Tensor) -> None:
    """Warn where a domain's token stands in a text, behind a prompt perhaps, and so says nothing."""
    inside = _domain(plan, ids) != UNKNOWN
    begins = inside.gather(1, first)[:, 0]
    for row in (inside.any(1) & ~begins).nonzero().flatten().tolist()[:1]:
        token = token_of(plan.domains[int(_domain(plan, ids[row][inside[row]])[0])])
        warnings.warn(
            f"text {row}: {token} does not stand at its beginning, and so says no domain; a prompt may stand before it "
            "(default_prompt_name): give domain=, or prompt=''",
            stacklevel=2,
        )


def _dropped(features: dict[str, Any], first: Tensor, where: Tensor, padding: int, mask: Tensor) -> dict[str, Any]:
    """Without the first token of some rows; padding stays on the side where it is."""
    rows, width = mask.shape
    place = torch.arange(width).expand(rows, width)
    is_left = bool((first > 0).any())
    source = place - (where & (place <= first)).long() if is_left else place + (where & (place >= first)).long()
    gone = (where & (place == (first if is_left else width - 1))) | (source < 0)
    source = source.clamp(0, width - 1)
    same = {name: x for name, x in features.items() if isinstance(x, Tensor) and x.shape == mask.shape}
    same = {**same, "attention_mask": mask}
    moved = {name: x.gather(1, source).masked_fill(gone, 0) for name, x in same.items()}
    moved["input_ids"] = moved["input_ids"].masked_fill(gone, padding)
    some = moved["attention_mask"].any(0).nonzero()
    kept = slice(int(some.min()), int(some.max()) + 1) if len(some) else slice(None)
    return features | {name: x[:, kept] for name, x in moved.items()}
