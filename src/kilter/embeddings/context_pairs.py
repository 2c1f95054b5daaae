"""What contrastive context prediction is fed with: pairs from windows over documents, batches of one language.

Paper: Wu et al., IJCAI 2022, arXiv 2206.03281; window and smoothing as in the authors' next system (MSM). The
departure: of equal sentences of a language only the first is used, since the others would be false negatives.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from kilter.core.batches import SeededBatches
from kilter.core.checks import share, texts, whole
from kilter.core.normalise import tidy


class ContextPairs(Dataset[dict[str, Any]]):
    """Each sentence with one that stands near it in its document, drawn anew every epoch.

    The other is drawn from the at most 2 × `window` sentences around, never from another document, at the ends from
    fewer. Empty sentences and those that were there before in the language (but for white space and Unicode form) are
    neither drawn nor have a pair, but keep their place: distances are those of the document as it was written. Each
    draw comes from the seed, the epoch and the index alone, so that nothing depends on workers or order.

    Args:
        documents: the sentences of each document, in order.
        languages: the language of each document; None if all are of one.
        window: greatest distance w, from 1.
        seed: of the draws.

    Attributes:
        names: names of the languages, sorted; a label is a place in it. None without languages.
        labels: number of the language of each pair.
        repeated: sentences left out because they were empty or there before.
        lone_documents: documents left out because they have fewer than two sentences that are used.
        lone_sentences: sentences of other documents left out because no other is within the window.

    Raises:
        TypeError, ValueError: texts where lists of texts are wanted, other than one language for each document, a
            window below 1, or documents that give no pair.

    Example:
        >>> pairs = ContextPairs([["One.", "Two."], ["Eins.", "Zwei."], ["Alone."]], ["en", "de", "en"])
        >>> pairs.names, pairs[0], pairs.lone_documents
        (('de', 'en'), {'centre': 'One.', 'context': 'Two.', 'label': 1}, 1)

    Reference: Wu et al., IJCAI 2022, contrastive context prediction.
    """

    def __init__(
        self,
        documents: Sequence[Sequence[str]],
        languages: Sequence[str] | None = None,
        *,
        window: int = 5,
        seed: int = 0,
    ) -> None:
        whole("window", window, 1)
        whole("seed", seed)
        if languages is not None:
            texts("languages", languages, len(documents), "document")
        self.window, self.seed, self.epoch = window, seed, 0
        self.names = None if languages is None else tuple(sorted({*languages}))
        self.repeated = self.lone_documents = self.lone_sentences = 0
        self.labels: list[int] = []
        self._texts: list[str] = []
        self._places: list[int] = []  # in the document
        self._bounds: list[tuple[int, int]] = []  # which of all the sentences are of the document
        known: list[set[str]] = [set() for _ in self.names or ("",)]
        numbers = {name: number for number, name in enumerate(self.names or ())}
        for number, sentences in enumerate(documents):
            texts(f"documents[{number}]", sentences, row="sentence")
            label = 0 if languages is None else numbers[languages[number]]
            self._add(sentences, label, known[label])
        if not self._texts:
            raise ValueError(
                f"documents give no pair: none of {len(documents)} has two different sentences within window={window}; "
                "give each as the list of its sentences, in order"
            )

    def _add(self, sentences: Sequence[str], label: int, known: set[str]) -> None:
        fresh: dict[str, int] = {}
        for place, sentence in enumerate(sentences):
            if (key := tidy(sentence)) and key not in known:
                fresh.setdefault(key, place)
        self.repeated += len(sentences) - len(fresh)
        if len(fresh) < 2:
            self.lone_documents += 1
            return
        places = [-self.window - 1, *fresh.values(), len(sentences) + self.window]
        reach = self.window
        used = [b for a, b, c in zip(places, places[1:], places[2:], strict=False) if b - a <= reach or c - b <= reach]
        self.lone_sentences += len(fresh) - len(used)
        known.update(key for key, place in fresh.items() if place in {*used})
        start = len(self._texts)
        self._texts += [sentences[place] for place in used]
        self._places += used
        self._bounds += [(start, len(self._texts))] * len(used)
        self.labels += [label] * len(used)

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The pair of a sentence, with the number of its language."""
        return self._draw(range(len(self))[index], self.epoch)

    def _draw(self, index: int, epoch: int) -> dict[str, Any]:
        start, stop = self._bounds[index]
        around = range(max(start, index - self.window), min(stop, index + self.window + 1))
        place = self._places[index]
        near = [other for other in around if 0 < abs(self._places[other] - place) <= self.window]
        other = random.Random(f"{self.seed} {epoch} {index}").choice(near)
        return {"centre": self._texts[index], "context": self._texts[other], "label": self.labels[index]}

    def rows(self, epochs: int = 1) -> dict[str, list[Any]]:
        """The pairs of so many epochs from this one on, as columns for `datasets.Dataset.from_dict`.

        Example:
            >>> ContextPairs([["One.", "Two."]]).rows(epochs=2)["centre"]
            ['One.', 'Two.', 'One.', 'Two.']
        """
        whole("epochs", epochs, 1)
        drawn = [self._draw(i, self.epoch + epoch) for epoch in range(epochs) for i in range(len(self))]
        return {name: [row[name] for row in drawn] for name in ("centre", "context", "label")}

    def set_epoch(self, epoch: int) -> None:
        """Draw other contexts: those of this epoch."""
        whole("epoch", epoch, 0)
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """What the draws depend on."""
        return {"seed": self.seed, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Draw as the one whose state this is."""
        self.seed, self.epoch = state["seed"], state["epoch"]


class LanguageBatches(SeededBatches):
    r"""Batches of indices, each of one language; every epoch in another order, the same for the same seed.

    An epoch has as many batches as the languages together fill. Of them a language gets the share

    $$p_l = \frac{n_l^\alpha}{\sum_m n_m^\alpha}$$

    with $n_l$ the batches that it fills by itself, so that with $\alpha < 1$ small languages come more than once an
    epoch, each time in another order, and large ones not whole; every language comes once at least. What does not fill
    a batch is left out this epoch. Fits `DataLoader(batch_sampler=…)`; `for_sentence_transformers` makes the trainer of
    that library use it.

    Args:
        languages: the language of each row, by number or name.
        batch_size: rows in a batch, at least 2.
        smoothing: α; 1 takes languages as often as they are there, 0 all alike.
        seed: of the order.

    Raises:
        TypeError, ValueError: an option out of range, no rows, or a language that fills no batch.

    Example:
        >>> batches = LanguageBatches(["en"] * 8 + ["de"] * 2, batch_size=2, smoothing=0.0)
        >>> sorted(8 in batch for batch in batches)  # two or three of five are German, all of the same two rows
        [False, False, False, True, True]

    Reference: Conneau & Lample, NeurIPS 2019 (XLM), section 3.1 for the smoothing.
    """

    def __init__(self, languages: Iterable[Any], batch_size: int, *, smoothing: float = 0.7, seed: int = 0) -> None:
        whole("batch_size", batch_size, 2)  # a pair alone has no negative
        share("smoothing", smoothing)
        whole("seed", seed)
        super().__init__(batch_size, seed)
        self.smoothing = smoothing
        self._rows: dict[Any, list[int]] = {}
        for row, language in enumerate(languages):
            name = language.item() if hasattr(language, "item") else language  # tensors are equal to themselves only
            self._rows.setdefault(name, []).append(row)
        if not self._rows:
            raise ValueError("languages are none; give the language of each row")
        if small := {str(name): len(rows) for name, rows in self._rows.items() if len(rows) < batch_size}:
            raise ValueError(
                f"languages that fill no batch of batch_size={batch_size}: "
                f"{', '.join(f'{name} ({count} rows)' for name, count in small.items())}; leave them out, or lower it"
            )
        self.counts = _counts({name: len(rows) // batch_size for name, rows in self._rows.items()}, smoothing)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def order(self) -> list[list[int]]:
        """The batches of the epoch one is in."""
        rng, size, batches = random.Random(f"{self.seed} {self.epoch}"), self.batch_size, []
        for name, rows in self._rows.items():
            own: list[list[int]] = []
            while len(own) < self.counts[name]:
                mixed = rng.sample(rows, len(rows))
                own += [mixed[start : start + size] for start in range(0, len(mixed) - size + 1, size)]
            batches += own[: self.counts[name]]
        rng.shuffle(batches)
        return batches

    @classmethod
    def for_sentence_transformers(
        cls, dataset: Any, batch_size: int, *, smoothing: float = 0.7, seed: int = 0, **_: Any
    ) -> Any:
        """For `SentenceTransformerTrainingArguments(batch_sampler=…)`; a column `label` holds the language."""
        if "label" not in (names := list(getattr(dataset, "column_names", None) or ["label"])):
            there = ", ".join(names)
            raise ValueError(f"the data has no column 'label' with the number of each row's language, only {there}")
        return cls(dataset["label"], batch_size, smoothing=smoothing, seed=seed)


def _counts(filled: Mapping[Any, int], smoothing: float) -> dict[Any, int]:
    """Batches of each language in an epoch: shares of their sum by largest remainder, one at least."""
    total, weights = sum(filled.values()), {name: count**smoothing for name, count in filled.items()}
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    counts = {name: int(share + 1e-9) for name, share in exact.items()}  # 3 must not become 2 by rounding
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[: total - sum(counts.values())]:
        counts[name] += 1
    return {name: max(1, count) for name, count in counts.items()}
