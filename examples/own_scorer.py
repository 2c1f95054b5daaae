"""A scorer of your own: short answers that take up the words of the question.

kilter generate --model smollm2 --prompts prompts.txt --decoder best-of --scorer examples/own_scorer.py:to_the_point
"""


def to_the_point(prefixes: list[str], continuations: list[str]) -> list[float]:
    """One number for each pair of texts, better when higher."""
    return [
        _shared(prefix, text) - 0.1 * len(text.split()) for prefix, text in zip(prefixes, continuations, strict=True)
    ]


def _shared(prefix: str, text: str) -> int:
    return len(set(prefix.lower().split()) & set(text.lower().split()))
