"""kilter search: what of your texts answers a query best, by an index that kilter wrote: table, JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from kilter.core.errors import UsageError, suggest
from kilter.lab.files import read_json
from kilter.lab.numbers import fixed
from kilter.lab.options import at_least
from kilter.lab.output import print_json

PLACE = 87

KINDS = {"pair-search": ("kilter.embeddings", "PairSearch")}
"""By the kind that its index.json names, what opens an index with `open`, and has `search`, `texts` and a length."""


@dataclass
class Search:
    """Find what of stored texts answers a query best, exactly, by an index that kilter wrote.

    An index is a folder: kilter run dse leaves one, with its encoder and its pair head, and so does PairSearch.save of
    Python. Or name texts and a model, and it is made first; without --head its texts are compared by cosine.

    Example: kilter search index/ --text "how do I change my address"

    Of your own texts: kilter search index/ --texts texts.txt --model minilm --queries questions.txt
    """

    index: Annotated[Positional[Path], arg(metavar="DIR")]
    """folder of the index"""
    text: Annotated[tuple[str, ...], arg(metavar="TEXT [TEXT …]")] = ()
    """what is looked for"""
    queries: str | None = None
    """more of it: a .txt with a text a line; a .csv, .json or .jsonl with a column text; a hub dataset; - is a pipe"""
    k: Annotated[int, at_least(1)] = 10
    """texts for each query"""
    json: bool = False
    """print JSON"""
    texts: str | None = None
    """make the index first, of these texts (files as for --queries)"""
    model: str | None = None
    """of an index that is made: folder or hub id of a model of sentence-transformers, or minilm"""
    head: Path | None = None
    """of an index that is made: folder of a pair head, as kilter run dse leaves it"""
    output: int | None = None
    """of a head for several classes: number of the one to search by, from 0"""
    batch_size: Annotated[int, at_least(1)] = 32
    """texts that are encoded at once"""
    device: str = "auto"
    """auto (the accelerator there is), cpu, cuda or mps"""

    def __call__(self) -> int:
        """Check what was asked for, then make the index if need be, search and print."""
        if any(not text.strip() for text in self.text):
            raise UsageError("--text: is empty; write what you look for")
        making = {"--model": self.model, "--head": self.head, "--output": self.output}
        if self.texts is None:
            if given := next((option for option, value in making.items() if value is not None), None):
                raise UsageError(f"{given}: is for an index that is made; add --texts FILE, or leave it out")
            if not self.text and self.queries is None:
                raise UsageError('what for? kilter search DIR --text "…", or --queries FILE')
        elif self.model is None:
            raise UsageError("--texts: an index needs an encoder; add --model, e.g. --model minilm")
        elif (self.index / "index.json").exists():
            raise ValueError(f"{self.index}: holds an index already; leave --texts out, or choose another folder")
        return _search(self)


COMMAND = Search


def _search(asked: Search) -> int:
    from kilter.lab.progress import bar, quiet_hosts

    quiet_hosts()
    queries = [*asked.text, *([] if asked.queries is None else _read(asked.queries))]
    if asked.texts is not None:
        _make(asked)
    if not queries:
        return 0
    index = _open(asked.index, asked.device)
    with bar("searching", len(index), "vectors") as advance:
        found = index.search(queries, min(asked.k, len(index)), advance=advance)
    hits = [
        [_hit(index.texts, row, score) for row, score in zip(rows, scores, strict=True)]
        for rows, scores in zip(found.rows.tolist(), found.scores.tolist(), strict=True)
    ]
    if asked.json:
        answers = [{"query": query, "hits": some} for query, some in zip(queries, hits, strict=True)]
        print_json({"index": str(asked.index), "rows": len(index), "answers": answers})
        return 0
    _show(queries, hits)
    return 0


def _read(source: str) -> list[str]:
    from kilter.data.sentences import read_sentences

    return read_sentences(source)


def _open(folder: Path, device: str) -> Any:
    """The index, by what opens its kind."""
    from kilter.models.devices import find_device

    file = folder / "index.json"
    if not file.is_file():
        raise ValueError(f"{folder}: holds no index; name its folder, or add --texts FILE --model MODEL to make one")
    about = read_json(file)
    kind = about.get("kind") if isinstance(about, dict) else None
    if kind not in KINDS:
        raise ValueError(f"{file}: is of kind {kind!r}, which this kilter does not know{suggest(str(kind), KINDS)}")
    module, name = KINDS[kind]
    return getattr(import_module(module), name).open(folder, device=str(find_device(device)))


def _make(asked: Search) -> None:
    from kilter.data.encoders import ENCODERS, is_ours, sentence_encoder
    from kilter.embeddings import PairHead, PairSearch
    from kilter.lab.progress import bar
    from kilter.models.devices import find_device
    from kilter.models.names import check_model_name

    name = str(asked.model)
    if not is_ours(name):
        check_model_name(name, "a model of sentence-transformers or an encoder of transformers", known=ENCODERS)
    texts = _read(str(asked.texts))
    head = None if asked.head is None else PairHead.from_pretrained(asked.head)
    encoder = sentence_encoder(name, device=str(find_device(asked.device)))
    with bar(f"encoding with {name}", len(texts), "texts") as advance:
        how: Any = {"head": head, "output": asked.output, "cosine": head is None}
        index = PairSearch.build(encoder, texts, batch_size=asked.batch_size, advance=advance, **how)
    index.save(asked.index, encoder=None if is_ours(name) else name)
    if not asked.json:
        print(f"index of {len(texts)} texts: {asked.index}")


def _hit(texts: Sequence[str] | None, row: int, score: float) -> dict[str, Any]:
    return {"row": row, "score": score} | ({} if texts is None else {"text": texts[row]})


def _show(queries: Sequence[str], hits: Sequence[Sequence[dict[str, Any]]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    for query, found in zip(queries, hits, strict=True):
        print(f"{query}\n")
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("score", "row"):
            table.add_column(name, justify="right", no_wrap=True)
        if "text" in found[0]:
            table.add_column("text", overflow="fold")
        for hit in found:
            text = [Text(" ".join(hit["text"].split()))] if "text" in hit else []
            table.add_row(fixed(hit["score"], 3), str(hit["row"]), *text)
        Console().print(table)
        print()
