"""Reference answers of a GRPO trainer's rows as tokens: as its model would have to write them after the prompt."""

from collections.abc import Mapping, Sequence
from typing import Any

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
        ValueError: see `answers`; a chat template whose generation prompt is not what it writes before an answer,
            or that writes an end there.
    """
    known: dict[str, list[int]] = {}
    found = []
    for row, answer in zip(rows, answers(rows, column), strict=True):
        key = repr((row["prompt"], answer))  # the rows of a group are alike
        if key not in known:
            known[key] = _plain(trainer, answer) if isinstance(answer, str) else _chat(trainer, row["prompt"], answer)
        found.append(known[key])
    return found


def tokenizer_of(trainer: Any) -> Any:
    """The tokenizer of a trainer, whose processing class may be more than that."""
    return getattr(trainer.processing_class, "tokenizer", trainer.processing_class)


def _plain(trainer: Any, answer: str) -> list[int]:
    return _to_the_end(trainer, tokenizer_of(trainer)(answer, add_special_tokens=False)["input_ids"])


def _chat(trainer: Any, prompt: list[Any], answer: list[Any]) -> list[int]:
    how = {
        "tools": trainer.tools or None,
        "chat_template": trainer.chat_template,
        "tokenize": False,
        **trainer.chat_template_kwargs,
    }
    tokenizer = tokenizer_of(trainer)
    before = trainer.processing_class.apply_chat_template(prompt, add_generation_prompt=True, **how)
    whole = trainer.processing_class.apply_chat_template([*prompt, *answer], **how)
    if not whole.startswith(before):
        raise ValueError(
            "the chat template writes something else before an answer than its generation prompt, so a reference "
            f"cannot be put where a completion stands: {before[-60:]!r} is not in {whole[: len(before)][-60:]!r}; set "
            "chat_template_kwargs, or tokenizer.chat_template to one whose generation prompt it keeps"
        )
    first, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, whole))
    if after[: len(first)] == first:
        ids = after[len(first) :]
    else:  # a token reaches over the end of the prompt, which a completion's cannot
        ids = tokenizer(whole[len(before) :], add_special_tokens=False)["input_ids"]
    if ids and ids[0] in _ends(trainer) and str(answer[0].get("content") or "").strip():
        raise ValueError(
            f"the chat template writes an end before the answer, {whole[len(before) :][:60]!r}, so a reference would "
            "have nothing else; set tokenizer.chat_template to one with a generation prompt"
        )
    return _to_the_end(trainer, ids)


def _to_the_end(trainer: Any, ids: list[int]) -> list[int]:
    """Up to and with the first token that ends a completion, which is put there where there is none."""
    ends = _ends(trainer)
    stop = next((at for at, token in enumerate(ids) if token in ends), None)
    ids = [*ids, tokenizer_of(trainer).eos_token_id] if stop is None else ids[: stop + 1]
    return ids[: trainer.max_completion_length]


def _ends(trainer: Any) -> set[int]:
    """Every token that ends a completion: the tokenizer's, and those that the model says."""
    said = trainer.accelerator.unwrap_model(trainer.model).generation_config.eos_token_id
    more = said if isinstance(said, list) else [said]
    return {token for token in (tokenizer_of(trainer).eos_token_id, *more) if token is not None}
