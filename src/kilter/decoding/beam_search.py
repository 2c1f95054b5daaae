"""From what `generate` hands to a callable to a search in groups and back: what the beam decoders share."""

import warnings
from typing import Any, Literal

import torch
from torch import Tensor

from kilter.decoding.beam_groups import Found, search
from kilter.decoding.streams import Streams

Order = Literal["score", "group"]
_IDLE = {
    "temperature": (1.0,),
    "top_k": (0, 50),
    "top_p": (1.0,),
    "min_p": (0.0,),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
}
"""Sampling settings, and with which values they do nothing."""


def decode(
    decoder: str,
    model: Any,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    inputs_tensor: Tensor | None,
    model_kwargs: dict[str, Any],
    *,
    groups: int = 1,
    order: Order = "score",
    sample: bool = False,
    **how: Any,
) -> Any:
    """Search with `kilter.decoding.beam_groups.search` and return what `generate` should."""
    from kilter.hosts.generation import Continuations, criteria_and_length, end_and_pad

    config = generation_config
    check_outputs(config)
    if config.num_return_sequences > config.num_beams:
        raise ValueError(
            f"num_return_sequences={config.num_return_sequences} is more than num_beams={config.num_beams} find; "
            "raise num_beams"
        )
    _check_sampling(decoder, config, sample)
    session = Continuations(model, input_ids, config, model_kwargs)
    end, pad = end_and_pad(config)
    criteria, max_length = criteria_and_length(stopping_criteria, config, session.prompts.shape[1])
    found = search(
        session,
        logits_processor,
        criteria,
        beams=config.num_beams,
        groups=groups,
        max_length=max_length,
        length_penalty=config.length_penalty,
        early_stopping=config.early_stopping,
        end=end,
        fill=pad if pad or end is None else int(end[0]),  # so does beam search of transformers
        noise=Streams(session.contents(inputs_tensor)).gumbel if sample else None,
        **how,
    )
    if bool(found.scores.isnan().any()):
        raise ValueError(f"{decoder}: scores are NaN; look at the model's logits and at logits_processor")
    return _returned(found, order, config, session.prompts.shape[1])


def _returned(found: Found, order: Order, config: Any, start: int) -> Any:
    """The wanted hypotheses of all groups in order, as rows."""
    inputs, groups, width = found.scores.shape
    group = torch.arange(groups, device=found.scores.device)[:, None].expand(groups, width)
    if order == "score":
        index = found.scores.flatten(1).sort(descending=True, stable=True)[1]
    else:  # the best of each group, then the second best of each, …
        index = torch.arange(groups * width, device=group.device).view(groups, width).T.flatten().expand(inputs, -1)
    index = index[:, : config.num_return_sequences]

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


def returned(config: Any, **fields: Tensor | None) -> Any:
    """All fields, or only the sequences where `return_dict_in_generate` is not set."""
    from kilter.hosts.generation import Decoded

    return Decoded(**fields) if config.return_dict_in_generate else fields["sequences"]


def check_outputs(config: Any) -> None:
    """Say so where something is asked for that is not kept."""
    for name in ("output_attentions", "output_hidden_states", "output_logits"):
        if getattr(config, name, None):
            raise ValueError(
                f"{name}=True: kilter's decoders return no such thing; run the model on the sequences for it"
            )


def _check_sampling(decoder: str, config: Any, sample: bool) -> None:
    if config.do_sample and not sample:
        raise ValueError(
            f"do_sample=True, but {decoder} takes the best of the beams: set do_sample=False"
            + (", or make it DiverseBeamSearch(sample_groups=True)" if decoder == "DiverseBeamSearch" else "")
        )
    if sample:
        check_sampling(config)


def check_sampling(config: Any) -> None:
    """Say so where a setting would be ignored, because transformers reads it with `do_sample=True` only."""
    for name, idle in _IDLE.items():
        if not config.do_sample and (value := getattr(config, name, None)) not in (None, *idle):
            raise ValueError(f"{name}={value} has no effect without do_sample=True; set that too")


def check_no_groups(decoder: str, config: Any) -> None:
    """Say so where groups are asked for of a decoder that has none."""
    for name, idle in (("num_beam_groups", 1), ("diversity_penalty", 0)):
        if (value := getattr(config, name, None)) not in (None, idle):
            raise ValueError(f"{name}={value}: {decoder} has no groups; leave it out, or use DiverseBeamSearch")


def warn(text: str) -> None:
    """A warning that points at the caller of `generate`."""
    warnings.warn(text, stacklevel=6)
