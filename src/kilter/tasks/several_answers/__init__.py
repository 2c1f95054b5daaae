"""Several answers to one input: a decoder is asked for many, and they are judged by the best of them and by variety."""

from kilter.tasks.several_answers.rivals import Decoded, decoded_by
from kilter.tasks.several_answers.task import SeveralAnswers

__all__ = ["Decoded", "SeveralAnswers", "decoded_by"]
