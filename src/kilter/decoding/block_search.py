"""Sample blocks of tokens, let a scorer choose, go on from the chosen: what RankGen's search and best of n share.

Krishna et al., "RankGen: Improving Text Generation with Large Ranking Models", EMNLP 2022, §2.3. Departures from the
published code: token ids and cache are kept between stages (it decodes to text and tokenises again), inputs go in
batches, and an end of sequence counts in the continuation only.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Generator

from kilter.core.decoder import Decoder, Request
from kilter.decoding.beam_groups import best
from kilter.decoding.beam_search import check_no_groups, check_sampling, returned
from kilter.decoding.candidates import AnyScorer, Beams
from kilter.decoding.candidates import Ranker as _Ranker
from kilter.decoding.streams import Streams

FirstStage = Literal["single", "copies"]


def decode_blocks(
    decoder: Decoder,
    request: Request,
    *,
    scorer: AnyScorer,
    kept: int,
    samples: int,
    block: int | None,
    first_stage: FirstStage,
    tokenizer: Any,
    generator: Generator | Sequence[Generator] | None,
) -> Any:
    """Search and return what `generate` should; the settings are those of `RankGenSearch`."""
    from kilter.hosts.generation import Continuations, criteria_and_length, end_and_pad, for_rows

    config = request.config
    _check_settings(decoder, config, kept)
    session = Continuations(request.model, request.input_ids, config, request.model_kwargs)
    contents = session.contents(request.inputs_tensor)
    streams = Streams(contents, generator)
    rank = _Ranker(scorer, tokenizer, contents)
    criteria, limit = criteria_and_length(request.stopping_criteria, config, session.prompts.shape[1])
    prompts = session.prompts
    (inputs, start), device = prompts.shape, prompts.device
    rows = samples * (kept if first_stage == "copies" else 1)
    if rows < config.num_return_sequences and limit - start <= (block or limit):
        raise ValueError(
            f"num_return_sequences={config.num_return_sequences}, but the only block has {rows} candidates; draw more "
            "samples, make the block shorter, or set first_stage='copies'"
        )

    logits = session.prefill().repeat_interleave(rows, 0)
    session.spread(rows)
    beams = Beams.of(prompts, rows, end_and_pad(config)[1])
    now = start
    while True:
        processors: Any = for_rows(request.logits_processor, rows)
        stop = limit if block is None else min(now + block, limit)
        while True:  # one block
            probabilities = processors(beams.ids.flatten(0, 1), logits.clone()).softmax(-1)
            if bool(probabilities.isnan().any()):
                raise ValueError(
                    f"{type(decoder).__name__}: no token can be drawn; look at the model's logits and logits_processor"
                )
            tokens = streams.draw(probabilities.view(inputs, rows, -1))
            beams.append(tokens, logits.log_softmax(-1).view(inputs, rows, -1))
            now += 1
            beams.done |= criteria(beams.ids.flatten(0, 1), None).view(inputs, rows)
            if now == stop or bool(beams.done.all()):
                break
            logits = session.step(beams.ids.flatten(0, 1))
        rank(beams, start)
        order = best(beams.scores, min(kept, rows))[1]
        if now == limit or bool(beams.done.gather(1, order).all()):
            break
        order = order.repeat_interleave(samples, 1)
        session.select((order + torch.arange(inputs, device=device)[:, None] * rows).flatten())
        rows = order.shape[1]
        beams = beams.take(order)
        logits = session.step(beams.ids.flatten(0, 1))
        beams.open_stage(samples)
    chosen = beams.take(order[:, : config.num_return_sequences])
    if (missing := config.num_return_sequences - order.shape[1]) > 0:  # all ended before there were so many
        again = torch.arange(config.num_return_sequences, device=device).clamp_max(order.shape[1] - 1)
        chosen = chosen.take(again.expand(inputs, -1))
        chosen.scores[:, -missing:] = -torch.inf
    longest = start + int(chosen.lengths.max())
    scores = chosen.scores.flatten().float()
    return returned(
        config,
        sequences=chosen.ids.flatten(0, 1)[:, :longest],
        sequences_scores=scores,
        sequences_log_probs=chosen.log_probs.flatten(),
        group_indices=torch.zeros_like(chosen.lengths).flatten(),
        ranker_scores=scores.clone(),
    )


def _check_settings(decoder: Decoder, config: Any, kept: int) -> None:
    name = type(decoder).__name__
    if config.num_beams != 1:
        raise ValueError(f"num_beams={config.num_beams}: {name} samples and ranks; set num_beams=1")
    if config.num_return_sequences > kept:
        raise ValueError(
            f"num_return_sequences={config.num_return_sequences} is more than the {kept} that {name} keeps; "
            "ask for fewer, or keep more"
        )
    if getattr(config, "guidance_scale", None) not in (None, 1):
        raise ValueError(f"guidance_scale={config.guidance_scale}: its processor cannot follow {name}; leave it out")
    check_no_groups(decoder, config)
    check_sampling(config)
