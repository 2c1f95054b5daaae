"""How good and how different a decoder's texts are, input by input, in the rows that a run keeps.

Oracle@k and distinct n-grams are those of Vijayakumar et al. 2018, section 5: for each input apart, then averaged.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from kilter.evaluation.diversity import distinct_n, oracle_at_k, sentence_bleu
from kilter.models.batches import Batch, within_memory
from kilter.models.text_decoding import seeds
from kilter.models.text_model import TextModel

KS = (1, 5, 10, 20)
ORDERS = (1, 2, 3, 4)

Write = Callable[[Sequence[Sequence[int]], Sequence[int]], list[list[dict[str, Any]]]]
"""From a batch of prompts, as token ids, and a seed for each to the texts: see `kilter.models.text_decoding`."""


@runtime_checkable
class Item(Protocol):
    """An input, as `kilter.data.referenced` has it."""

    @property
    def source(self) -> str:
        """What the model reads."""
        ...

    @property
    def references(self) -> Sequence[str]:
        """What people wrote for it, if anybody did."""
        ...

    def filled(self, text: str) -> str:
        """A text with the values of this input in their places."""
        ...


def write_texts(
    model: TextModel,
    write: Write,
    items: Sequence[Item],
    *,
    seed: int,
    batch_size: int,
    max_new_tokens: int,
    chat: bool = False,
    advance: Callable[[int], None] = lambda done: None,
) -> list[list[dict[str, Any]]]:
    """The outputs of every item, most likely first; inputs of like length share a batch, which changes nothing else.

    Raises:
        ValueError: an input without a token, or too long for the model or the memory.
    """
    rows = model.encode([item.source for item in items], chat=chat)
    model.check_fit([(f"input {place}", len(row)) for place, row in enumerate(rows)], max_new_tokens)
    drawn = seeds(rows, seed)
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    found: dict[int, list[dict[str, Any]]] = {}

    def write_batch(places: Batch) -> dict[int, list[dict[str, Any]]]:
        return dict(zip(places, write([rows[i] for i in places], [drawn[i] for i in places]), strict=True))

    def alone(place: int) -> dict[int, list[dict[str, Any]]]:
        raise ValueError(
            f"input {place}: does not fit into memory even alone; choose fewer beams or samples, shorter texts, or "
            "another --device"
        )

    todo = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    for texts in within_memory(todo, write_batch, alone):
        for place, outputs in texts.items():
            for output in outputs:
                output["text"] = " ".join(items[place].filled(output["text"]).split())
            found[place] = sorted(outputs, key=lambda output: -output["log_prob"])
        advance(len(found))
    return [found[place] for place in range(len(rows))]


def judge_texts(items: Sequence[Item], outputs: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One row per input: its outputs, and `totals`, `[figure, 1]` of each figure that can be had.

    Oracles need references and as many outputs as they choose from. `repeated` counts outputs that are another's copy.
    """
    judged = []
    for index, (item, found) in enumerate(zip(items, outputs, strict=True)):
        texts = [output["text"] for output in found]
        figures = {"log_prob": found[0]["log_prob"], "repeated": 1 - len(set(texts)) / len(texts)}
        row = {"index": index, "input": item.source, "prompt": item.filled(item.source), "outputs": list(found)}
        if any(text.split() for text in texts):
            figures |= {f"distinct_{n}": distinct_n(texts, n) for n in ORDERS}
        if item.references:
            bleu = [sentence_bleu(text, item.references) for text in texts]
            best = oracle_at_k([bleu], [k for k in KS if k <= len(texts)])
            figures |= {f"oracle_{k}": value for k, value in best.items()}
            row |= {"references": list(item.references), "bleu": [round(value, 3) for value in bleu]}
        judged.append({**row, "totals": {name: [value, 1] for name, value in figures.items()}})
    return judged


def widest_oracle(figures: Mapping[str, Any]) -> str:
    """The name of the oracle that chooses from most outputs; empty where there is none.

    Example:
        >>> widest_oracle({"oracle_5": 30.0, "oracle_10": 31.0, "distinct_1": 9.0})
        'oracle_10'
    """
    found = [int(name.removeprefix("oracle_")) for name in figures if name.startswith("oracle_")]
    return f"oracle_{max(found)}" if found else ""
