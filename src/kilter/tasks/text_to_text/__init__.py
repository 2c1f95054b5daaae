"""Text to text: an encoder–decoder learns to write one text from another, and is judged by what people wrote."""

from kilter.tasks.text_to_text.task import TextToText

__all__ = ["TextToText"]
