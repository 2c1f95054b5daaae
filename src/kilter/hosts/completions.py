"""Draw answers of a causal language model as it is: nothing truncated, each from a stream of its own prompt.

How many are drawn at a time changes nothing, and no global random state is read or moved.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from kilter.hosts.generation import Continuations
from kilter.hosts.settings import generate_as_asked
from kilter.hosts.wrapped import evaluating, unwrapped

Ids = list[int]


def prompt_ids(tokenizer: Any, prompts: Sequence[Any]) -> list[Ids]:
    """Tokens of prompts as TRL reads them: messages through the chat template, plain texts with their special tokens.

    Raises:
        ValueError: a prompt without tokens, texts and messages mixed, messages and a tokenizer without a template.
    """
    chats = [is_chat(prompt) for prompt in prompts]
    if any(chats) and not all(chats):
        row = chats.index(not chats[0])
        raise ValueError(f"row {row}: prompt is {_kind(chats[row])}, that of row 0 {_kind(chats[0])}; give one kind")
    if not any(chats):
        found = [list(tokenizer(text=prompt)["input_ids"]) for prompt in prompts]
    elif getattr(tokenizer, "chat_template", None) is None:
        raise ValueError(
            "tokenizer has no chat template and the prompts are messages; set tokenizer.chat_template, or give texts"
        )
    else:
        how = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
        found = [list(tokenizer.apply_chat_template(prompt, **how)["input_ids"]) for prompt in prompts]
    if (empty := next((row for row, ids in enumerate(found) if not ids), None)) is not None:
        raise ValueError(f"row {empty}: prompt has no tokens; leave it out")
    return found


def is_chat(prompt: Any) -> bool:
    """Whether a prompt is a list of messages, rather than a text.

    Raises:
        TypeError: it is neither.

    Example:
        >>> is_chat([{"role": "user", "content": "Hello"}]), is_chat("Hello")
        (True, False)
    """
    if isinstance(prompt, str):
        return False
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], dict) and "role" in prompt[0]:
        return True
    raise TypeError(f"prompt must be a text or a list of messages with role and content, got {prompt!r:.60}")


def written(tokenizer: Any, ids: Sequence[Ids], *, chat: bool) -> list[Any]:
    """Completions as TRL hands them to a reward: texts without special tokens, in a chat each a list of one message."""
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [[{"role": "assistant", "content": text}] for text in texts] if chat else texts


def ends_of(model: Any, tokenizer: Any) -> Ids:
    """Ids that end an answer: the tokenizer's, and all that the model names."""
    named = unwrapped(model).generation_config.eos_token_id
    named = [] if named is None else [named] if isinstance(named, int) else named
    return sorted({*named, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])})


def draw(
    model: Any,
    prompts: Sequence[Ids],
    *,
    draws: int,
    ends: Ids,
    max_new_tokens: int,
    temperature: float | int = 1.0,
    batch_size: int = 8,
    seed: int = 0,
) -> Iterator[list[Ids]]:
    r"""Answers $y_t \sim \mathrm{softmax}(z_t / \tau)$ of each prompt, over the whole vocabulary.

    Equal prompts get equal answers, whatever they share a batch with, but for the rounding of a model that pads.

    Args:
        model: causal, of transformers; its mode and its generation settings stay as they are.
        prompts: token ids.
        draws: answers of each prompt.
        ends: ids that end an answer.
        max_new_tokens: of an answer, at most.
        temperature: τ.
        batch_size: answers drawn at a time. Of one prompt, where it has more; of several, where they fit.
        seed: with the prompt it makes the stream.

    Yields:
        For each prompt its `draws` answers, ids up to and with the end.
    """
    each = max(1, batch_size // draws)
    for start in range(0, len(prompts), each):
        block = prompts[start : start + each]
        streams = torch.stack([_stream(prompt, seed, draws, max_new_tokens) for prompt in block])
        parts = [
            _drawn(model, block, part, ends=ends, temperature=temperature)
            for part in streams.split(min(draws, batch_size), dim=1)
        ]
        for place in range(len(block)):
            yield [answer for part in parts for answer in part[place]]


def _stream(prompt: Ids, seed: int, draws: int, length: int) -> Tensor:
    """Uniform numbers `(draws, length)` of a prompt."""
    digest = blake2b(repr((seed, list(prompt))).encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    return torch.rand(draws, length, generator=generator, dtype=torch.float64)


def _drawn(model: Any, prompts: Sequence[Ids], uniform: Tensor, *, ends: Ids, temperature: float) -> list[list[Ids]]:
    """One batch: of each prompt as many answers as `uniform (prompts, answers, length)` has rows."""
    _, rows, length = uniform.shape
    longest, device = max(map(len, prompts)), unwrapped(model).device
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    end = torch.tensor(ends, dtype=torch.long, device=device)
    flat = uniform.flatten(0, 1)

    def sample(
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **kwargs: Any,
    ) -> Tensor:
        going = Continuations(model, input_ids, generation_config, kwargs)
        logits = going.prefill().repeat_interleave(rows, 0)
        going.spread(rows)
        sequences = input_ids.repeat_interleave(rows, 0)
        done = torch.zeros(len(sequences), dtype=torch.bool, device=device)
        for step in range(length):
            tokens = _tokens(logits / temperature, flat[:, step])
            sequences = torch.cat([sequences, tokens[:, None]], 1)
            done |= torch.isin(tokens, end)
            if step + 1 == length or done.all():
                break
            logits = going.step(sequences)
        return sequences[:, longest:]

    with evaluating(model), torch.no_grad():
        found = generate_as_asked(
            model,
            inputs=ids,
            attention_mask=mask,
            max_new_tokens=length,
            eos_token_id=ends or None,
            pad_token_id=ends[0] if ends else 0,
            custom_generate=sample,
        )
    ended = torch.isin(found, end).long()
    lengths = (ended.cumsum(1) - ended == 0).sum(1)  # what follows an end was drawn while others were not done
    answers = [row[:size] for row, size in zip(found.tolist(), lengths.tolist(), strict=True)]
    return [answers[place : place + rows] for place in range(0, len(answers), rows)]


def _tokens(logits: Tensor, uniform: Tensor) -> Tensor:
    """Tokens `(rows,)` at the place where the summed probabilities of `logits (rows, V)` pass `uniform (rows,)`."""
    wide = logits.cpu() if logits.device.type == "mps" else logits  # Apple's GPUs have no float64
    sums = wide.double().softmax(-1).cumsum(-1)
    at = uniform.to(sums.device)[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, at, right=True).clamp(max=logits.shape[-1] - 1)[:, 0].to(logits.device)


def _kind(chat: bool) -> str:
    return "a list of messages" if chat else "a text"
