"""What a completion says, whether trl gives it as a text or as messages."""

from typing import Any


def completion_text(completion: Any) -> str:
    """The text, or the contents of the messages in a row.

    Raises:
        TypeError: it is neither.

    Example:
        >>> completion_text("Rain."), completion_text([{"role": "assistant", "content": "Rain."}])
        ('Rain.', 'Rain.')
    """
    if isinstance(completion, str):
        return completion
    if isinstance(completion, list) and all(isinstance(one, dict) for one in completion):
        contents = [one.get("content") or "" for one in completion]  # a call of a tool has none
        if all(isinstance(one, str) for one in contents):
            return "\n\n".join(filter(None, contents))
    raise TypeError(f"a completion must be a text or a list of messages with texts, got {completion!r:.80}")
