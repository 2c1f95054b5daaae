"""Reference answers of a GRPO trainer's rows as tokens: as its model would have to write them after the prompt."""

from collections.abc import Mapping, Sequence
from typing import Any

from kilter.hosts.completions import ends_of

Row = Mapping[str, Any]

_SHOWN = 80


def answers(rows: Sequence[Row], column: str) -> list[Any]:
    """The references as trl gives completions to reward functions: texts, or in a chat messages.

    Raises:
        ValueError: a row without one, or with something else; the message says which.
    """
    return [_answer(row, column, f"row {number} of the batch") for number, row in enumerate(rows)]


def _answer(row: Row, column: str, where: str) -> Any:
    found, chat = row.get(column), not isinstance(row["prompt"], str)
    if isinstance(found, str):
        return [{"role": "assistant", "content": found}] if chat else found
    if chat and isinstance(found, list) and len(found) == 1 and _is_answer(found[0]):
        return found
    wanted = "a text, or one message of the assistant" if chat else "a text, as its prompt is"
    raise ValueError(
        f"{where}, prompt {_end(row['prompt'])}: column {column!r} must hold {wanted}, got {_end(found)}; mend the "
        "row, or leave it out"
    )


def _is_answer(message: Any) -> bool:
    """A template writes something, "None" maybe, of a message that has nothing."""
    said = isinstance(message, Mapping) and (message.get("content") is not None or message.get("tool_calls"))
    return bool(said) and message.get("role") == "assistant"


def _end(value: Any) -> str:
    """The last of what a row holds, which is what tells a conversation from others."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"…{shown[-_SHOWN:]}"


def reference_ids(trainer: Any, rows: Sequence[Row], column: str) -> list[list[int]]:
    """Token ids of each row's reference, up to and with EOS, cut at the trainer's `max_completion_length`.

    Raises:
        ValueError: see `answers` and `answer_ids`.
    """
    reader = trainer.processing_class
    how: dict[str, Any] = {
        "ends": ends_of(trainer.accelerator.unwrap_model(trainer.model), tokenizer_of(reader)),
        "most": trainer.max_completion_length,
        "tools": trainer.tools or None,
        "chat_template": trainer.chat_template,
        **trainer.chat_template_kwargs,
    }
    known: dict[str, list[int]] = {}
    found = []
    for row, answer in zip(rows, answers(rows, column), strict=True):
        key = repr((row["prompt"], answer))  # the rows of a group are alike
        if key not in known:
            known[key] = answer_ids(reader, row["prompt"], answer, **how)
        found.append(known[key])
    return found


def answer_ids(
    processing_class: Any, prompt: Any, answer: Any, *, ends: Sequence[int], most: int, **template: Any
) -> list[int]:
    """Token ids of an answer as a model would have to write it after the prompt, up to and with an end.

    Args:
        processing_class: the model's tokenizer, or a processor with one.
        prompt: a text, or messages.
        answer: likewise.
        ends: ids that end an answer; where none is written, the tokenizer's own follows.
        most: ids, at most.
        template: options of the chat template.

    Raises:
        ValueError: a chat template whose generation prompt is not what it writes before an answer, or that writes an
            end there.
    """
    tokenizer = tokenizer_of(processing_class)
    if isinstance(answer, str):
        ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    else:
        ids = _in_chat(processing_class, prompt, answer, template)
        if ids and ids[0] in ends and str(answer[0].get("content") or "").strip():
            raise ValueError(
                f"the chat template writes an end before the answer, {tokenizer.decode(ids)[:60]!r}, so a reference "
                "would have nothing else; set tokenizer.chat_template to one with a generation prompt"
            )
    stop = next((at for at, token in enumerate(ids) if token in ends), None)
    last = ends[:1] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return ([*ids, *last] if stop is None else ids[: stop + 1])[:most]


def tokenizer_of(processing_class: Any) -> Any:
    """The tokenizer of what may be a processor with one."""
    return getattr(processing_class, "tokenizer", processing_class)


def _in_chat(processing_class: Any, prompt: list[Any], answer: list[Any], template: Mapping[str, Any]) -> list[int]:
    """What the template has after its generation prompt."""
    tokenizer = tokenizer_of(processing_class)
    before = processing_class.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False, **template)
    whole = processing_class.apply_chat_template([*prompt, *answer], tokenize=False, **template)
    if not whole.startswith(before):
        raise ValueError(
            "the chat template writes something else before an answer than its generation prompt, so a reference "
            f"cannot be put where a completion stands: {before[-60:]!r} is not in {whole[: len(before)][-60:]!r}; set "
            "chat_template_kwargs, or tokenizer.chat_template to one whose generation prompt it keeps"
        )
    first, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, whole))
    if after[: len(first)] == first:
        return after[len(first) :]
    # a token reaches over the end of the prompt, which a completion's cannot
    return tokenizer(whole[len(before) :], add_special_tokens=False)["input_ids"]
