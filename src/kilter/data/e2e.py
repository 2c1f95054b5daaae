"""E2E NLG: restaurants as slots and values, each described by several people.

Source: Novikova, Dušek, Rieser, The E2E Dataset (SIGDIAL 2017); CC BY-SA 4.0.
The departures: models train on four fifths of the development set (3,700 pairs), enough for one of a million
parameters in minutes; and what the test set has that the development set lacks (names, kinds of place, cuisines) is
a placeholder while the model works, as in the challenge's baseline.
"""

import csv
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from kilter.data.referenced import Referenced, Splits

DEVELOPMENT, TEST = "devset.csv", "testset_w_refs.csv"
PLACEHOLDERS = {"name": "NAME", "near": "NEAR", "food": "FOOD", "eatType": "TYPE"}
"""The slots whose values the model does not see."""
FOLDS = 5
"""One of so many meaning representations of the development set is held out."""

_SLOT = re.compile(r"(\w[\w ]*)\[([^\]]*)\]")


def slots(mr: str) -> dict[str, str]:
    """The slots of a meaning representation and their values.

    Raises:
        ValueError: There is no slot in it.

    Example:
        >>> slots("name[The Mill], customer rating[low]")
        {'name': 'The Mill', 'customer rating': 'low'}
    """
    found = dict(_SLOT.findall(mr))
    if not found:
        raise ValueError(f"a meaning representation is slot[value], slot[value], …, not {mr!r}")
    return found


def placed(text: str, values: Mapping[str, str]) -> str:
    """A text with placeholders for the values, longest first.

    Example:
        >>> placed("The Mill is a French pub.", {"NAME": "The Mill", "FOOD": "French", "TYPE": "pub"})
        'NAME is a FOOD TYPE.'
    """
    for name, value in sorted(values.items(), key=lambda item: -len(item[1])):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", name, text, flags=re.IGNORECASE)
    return text


def load_e2e(folder: str | Path) -> Splits:
    """Read the development set, split four to one by its meaning representations, and the test set.

    Meaning representations that differ in placeholders only are on the same side.

    Raises:
        ValueError: A file is missing, is not the table it should be, or has a row without slots or text.
    """
    development, test = (_read(Path(folder) / name) for name in (DEVELOPMENT, TEST))
    train, dev = [], []
    for mr, texts in development.items():
        item = _item(mr, texts)
        if hashlib.sha256(item.source.encode()).digest()[0] % FOLDS == 0:
            dev.append(item)
        else:
            train += [(item.source, placed(text, item.values)) for text in texts]
    return Splits(train, dev, [_item(mr, texts) for mr, texts in test.items()])


def _item(mr: str, texts: list[str]) -> Referenced:
    found = slots(mr)
    values = {name: found[slot] for slot, name in PLACEHOLDERS.items() if slot in found}
    source = ", ".join(f"{slot}[{PLACEHOLDERS.get(slot, value)}]" for slot, value in found.items())
    return Referenced(source, tuple(texts), values)


def _read(path: Path) -> dict[str, list[str]]:
    """The texts of every meaning representation, in the order of the file."""
    if not path.is_file():
        raise ValueError(f"{path}: missing; `kilter fetch e2e` gets it")
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as handle:
        for place, row in enumerate(csv.DictReader(handle), 2):
            mr, text = row.get("mr"), row.get("ref")
            if not mr or not text:
                raise ValueError(f"{path}, row {place}: needs a value in both columns, mr and ref")
            try:
                slots(mr)
            except ValueError as error:
                raise ValueError(f"{path}, row {place}: {error}") from None
            found.setdefault(mr, []).append(" ".join(text.split()))
    if not found:
        raise ValueError(f"{path}: has no rows; `kilter fetch e2e` gets it anew")
    return found
