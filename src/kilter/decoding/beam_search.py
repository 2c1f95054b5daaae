"""From what `generate` hands to a callable to a search in groups and back: what the beam decoders share."""

from typing import Any, Literal

import torch
from torch import Tensor

from kilter.core.decoder import Decoder, Request
from kilter.decoding.beam_groups import OUT, Found, search
from kilter.decoding.streams import Streams

Order = Literal["rounds", "score", "group"]
_IDLE = {
    "temperature": (1.0,),
    "top_k": (0, 50),
    "top_p": (1.0,),
    "min_p": (0.0,),
    "top_h": (1.0,),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
}
"""Sampling settings, and with which values they do nothing."""


def decode(
    decoder: Decoder,
    request: Request,
    *,
    groups: int = 1,
    order: Order | None = None,
    sample: bool = False,
    **how: Any,
) -> Any:
    """Search with `kilter.decoding.beam_groups.search` and return what `generate` should."""
    from kilter.hosts.generation import Continuations, criteria_and_length, end_and_pad

    config = request.config
    if config.num_return_sequences > config.num_beams:
        raise ValueError(
            f"num_return_sequences={config.num_return_sequences} is more than num_beams={config.num_beams} find; "
            "raise num_beams"
        )
    _check_sampling(decoder, config, sample)
    session = Continuations(request.model, request.input_ids, config, request.model_kwargs)
    end, pad = end_and_pad(config)
    criteria, max_length = criteria_and_length(request.stopping_criteria, config, session.prompts.shape[1])
    found = search(
        session,
        request.logits_processor,
        criteria,
        beams=config.num_beams,
        groups=groups,
        max_length=max_length,
        length_penalty=config.length_penalty,
        early_stopping=config.early_stopping,
        end=end,
        fill=pad if pad or end is None else int(end[0]),  # so does beam search of transformers
        noise=Streams(session.contents(request.inputs_tensor)).gumbel if sample else None,
        **how,
    )
    if bool(found.scores.isnan().any()):
        raise ValueError(
            f"{type(decoder).__name__}: scores are NaN; look at the model's logits and at logits_processor"
        )
    return _returned(found, order, config, session.prompts.shape[1])


def _returned(found: Found, order: Order | None, config: Any, start: int) -> Any:
    """The wanted hypotheses of all groups in order, as rows."""
    inputs, groups, width = found.scores.shape
    group = torch.arange(groups, device=found.scores.device)[:, None].expand(groups, width)
    wanted = config.num_return_sequences
    index = _in_order(found, order or ("score" if wanted == groups * width else "rounds"), config.length_penalty)
    index = index[:, :wanted]

    def rows(values: Tensor) -> Tensor:
        return values.reshape(inputs, groups * width).gather(1, index).flatten()

    longest = start + int(rows(found.lengths).max())
    flat = found.sequences.flatten(1, 2)
    sequences = flat.gather(1, index[..., None].expand(*index.shape, flat.shape[-1])).flatten(0, 1)[:, :longest]
    return returned(
        config,
        sequences=sequences,
        sequences_scores=rows(found.scores),
        sequences_log_probs=rows(found.log_probs),
        group_indices=rows(group.expand(inputs, groups, width)),
    )


def _in_order(found: Found, order: Order, length_penalty: float) -> Tensor:
    """Where the hypotheses `(N, G, B')`, each group's best first, are when all are ranked: `(N, G·B')`."""
    rank = torch.arange(found.scores.shape[-1], device=found.scores.device).expand_as(found.scores)
    if order == "group":  # the best of each group, then the second best of each, …
        return rank.flatten(1).sort(stable=True)[1]
    index = found.scores.flatten(1).sort(descending=True, stable=True)[1]
    if order == "score":
        return index
    totals = found.scores * found.lengths.clamp_min(1) ** length_penalty
    none = torch.minimum(found.scores, totals) <= OUT / 2  # places that a group could not fill come last
    rounds = rank.masked_fill(none, rank.shape[-1]).flatten(1)
    return index.gather(1, rounds.gather(1, index).sort(stable=True)[1])


def returned(config: Any, **fields: Tensor | None) -> Any:
    """All fields, or only the sequences where `return_dict_in_generate` is not set."""
    from kilter.hosts.generation import Decoded

    return Decoded(**fields) if config.return_dict_in_generate else fields["sequences"]


def _check_sampling(decoder: Decoder, config: Any, sample: bool) -> None:
    if config.do_sample and not sample:
        name = type(decoder).__name__
        raise ValueError(
            f"do_sample=True, but {name} takes the best of the beams: set do_sample=False"
            + (", or make it DiverseBeamSearch(sample_groups=True)" if name == "DiverseBeamSearch" else "")
        )
    if sample:
        check_sampling(config)


def check_sampling(config: Any) -> None:
    """Say so where a setting would be ignored, because transformers reads it with `do_sample=True` only."""
    for name, idle in _IDLE.items():
        if not config.do_sample and (value := getattr(config, name, None)) not in (None, *idle):
            raise ValueError(f"{name}={value} has no effect without do_sample=True; set that too")


def check_no_groups(decoder: Decoder, config: Any) -> None:
    """Say so where groups are asked for of a decoder that has none."""
    for name, idle in (("num_beam_groups", 1), ("diversity_penalty", 0)):
        if (value := getattr(config, name, None)) not in (None, idle):
            raise ValueError(
                f"{name}={value}: {type(decoder).__name__} has no groups; leave it out, or use DiverseBeamSearch"
            )
