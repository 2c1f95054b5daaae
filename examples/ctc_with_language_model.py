"""CTC search with a language model: a word bigram from text of your own, or a causal model of transformers.

python examples/ctc_with_language_model.py
"""

from collections import Counter
from itertools import pairwise

import torch

from kilter.speech import ctc_prefix_beam_search

LETTERS = ["<blank>", " ", *"abcdefghijklmnopqrstuvwxyz"]
TEXT = "the sea is blue . we see the sea . we see a blue sea . a bee can see . the bee sees the sea"


class WordBigram:
    """Scores a word when its separator comes, or the end: weight * log p(word | word before)."""

    def __init__(self, text: str, weight: float = 1.0, unknown: float = -12.0):
        sentences = [["<s>", *sentence.split()] for sentence in text.split(".")]
        pairs = Counter(pair for words in sentences for pair in pairwise(words))
        before = Counter(words[i] for words in sentences for i in range(len(words) - 1))
        words = Counter(word for sentence in sentences for word in sentence[1:])
        self.weight, self.unknown = weight, torch.tensor(unknown)
        self.bigram = {(a, b): torch.tensor(n / before[a]).log() for (a, b), n in pairs.items()}
        self.unigram = {word: torch.tensor(0.4 * n / words.total()).log() for word, n in words.items()}  # backing off

    def score(self, before: str, word: str) -> torch.Tensor:
        return self.bigram.get((before, word), self.unigram.get(word, self.unknown))

    def __call__(self, prefixes: list[list[int]]) -> torch.Tensor:
        scores = torch.zeros(len(prefixes), len(LETTERS))
        for row, prefix in zip(scores, prefixes, strict=True):
            *before, word = "".join(LETTERS[token] for token in prefix).split(" ")
            if word:  # else there is no word that could end here
                row[[0, 1]] = self.weight * self.score(before[-1] if before else "<s>", word)
        return scores


def causal(model, start: int, end: int, weight: float = 0.5, blank: int = 0):
    """`fuse` from a causal model of transformers that shares the vocabulary of the CTC model."""

    def fuse(prefixes: list[list[int]]) -> torch.Tensor:
        rows = [torch.tensor([start, *prefix]) for prefix in prefixes]
        last = torch.tensor([len(prefix) for prefix in prefixes])
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # what pads comes after what is read
        logits = model(input_ids=ids.to(model.device)).logits[torch.arange(len(rows)), last]
        scores = weight * logits.log_softmax(-1)
        scores[:, blank] = scores[:, end]
        return scores

    return fuse


def heard(text: str, doubt: dict[str, str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of a model that hears `text`, but wavers between some letters."""
    logits = torch.zeros(1, 2 * len(text), len(LETTERS))
    logits[:, 1::2, 0] = 8.0  # a blank between the letters
    for t, letter in enumerate(text):
        logits[:, 2 * t, LETTERS.index(letter)] = 8.0
        if letter in doubt:
            logits[:, 2 * t, LETTERS.index(doubt[letter])] = 7.8
    return logits.log_softmax(-1), torch.tensor([2 * len(text)])


def spell(**options) -> str:
    """What is found in "we see the sea", said by someone whose s sounds like p."""
    [[best]] = ctc_prefix_beam_search(*heard("we pee the pea", {"p": "s"}), **options)
    return "".join(LETTERS[token] for token in best.tokens)


if __name__ == "__main__":
    print("without:", spell())
    print("with a word bigram:", spell(fuse=WordBigram(TEXT)))
