"""The user's texts with what is to be written from them: pairs to learn from, inputs with references to judge on."""

from collections.abc import Mapping
from typing import Any

from kilter.core import tables
from kilter.data.referenced import Referenced
from kilter.data.text_rows import Columns, cell, pair_in, read_rows, text_in

COLUMNS: Columns = {
    "source": ("source", "input", "text", "document", "src"),
    "target": ("target", "output", "summary", "tgt"),
}
"""Names that the two columns may have; a table of just two columns needs none of them."""
_SEVERAL = "references"


def read_text_pairs(source: str) -> list[Referenced]:
    """Read inputs with one text each, or with several, in their order.

    Args:
        source: A `.csv`, `.json`, `.jsonl` or `.ndjson` with columns `source` and `target`, or as in `COLUMNS`, or with
            `source` and `references` (a list of texts; in a csv a JSON list); a pipe, or a hub id: see
            `kilter.data.text_rows.read_rows`.

    Raises:
        ValueError: There is no such source, it is broken, a column is missing, or a text is empty or no text; the line
            is named.
    """
    return [_read(row, where) for where, row in read_rows(source, {**COLUMNS, _SEVERAL: (_SEVERAL,)}, what="texts")]


def _read(row: Mapping[str, Any], where: str) -> Referenced:
    if cell(row, (_SEVERAL,)) is None:
        text, target = pair_in(row, COLUMNS, where)
        return Referenced(text, (target,))
    given = tables.listed(row[_SEVERAL], f"{where}, column {_SEVERAL!r}", "\"']")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) and one.strip() for one in texts):
        raise ValueError(
            f"{where}: column {_SEVERAL!r} must be a list of texts, none of them empty, got {tables.shown(given)}"
        )
    return Referenced(text_in(row, COLUMNS["source"], where), tuple(texts))
