"""Search among vectors that are computed once: the best of a million for each query, exactly, in bounded memory.

Paper: O. Barkan et al., "Scalable Attentive Sentence-Pair Modeling via Distilled Sentence Embedding", AAAI 2020, arXiv
1908.05161, whose purpose it is: a head on two vectors stands for a cross-encoder on two texts. Departure: what is found
does not depend on how the work was cut.
"""

import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import finite, whole
from kilter.core.checks import texts as checked_texts
from kilter.embeddings import pair_search_files as files
from kilter.embeddings.pair_head import PairHead
from kilter.embeddings.pair_scores import DotScores, HeadScores, check_head
from kilter.embeddings.stored_vectors import LOOK, longest_of, matrix, unit
from kilter.ops.top_rows import TopRows

_PIECE = 1 << 20
"""Numbers of stored vectors that are scored by themselves at once."""

Advance = Callable[[float], None]


class Hits(NamedTuple):
    """What a search finds, for each query from the best down.

    Attributes:
        scores: of the head, or dot products.
        rows: numbers of the stored vectors; of equal scores the first.
    """

    scores: Float[Tensor, "queries k"]
    rows: Int[Tensor, "queries k"]


class PairSearch:
    r"""An index of stored vectors, which a `PairHead` or the dot product compares with those of queries.

    $$\mathrm{rows}(u) = \operatorname*{top\,k}_{i} \; s(u, v_i), \qquad
      s(u, v) = \mathrm{head}(u, v) \;\text{ or }\; u \cdot v$$

    Every stored vector is scored: nothing is approximated. Vectors go through in chunks, so that beside the index
    itself a search needs some tens of megabytes, however many there are; an index from disk is mapped, not read, and
    its pages are the system's to drop. A score is that of the pair computed by itself and rounded once: it does not
    depend on chunks, threads, or the other queries, and equal vectors have equal scores. Of those the first row wins.

    Made by `build` or `open`, never directly.

    Attributes:
        vectors: `(n, dim)`, in the precision that they were given in.
        texts: of the rows, or None; those of an index from disk are read when they are asked for.
        head: the `PairHead`, or None for the dot product.
        output: of a head with several outputs the one that is searched by.
        cosine: vectors were brought to length 1, and queries are.

    Example:
        >>> index = PairSearch.build(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), ["east", "north", "east"])
        >>> index.search(torch.tensor([[2.0, 1.0]]), k=2)
        Hits(scores=tensor([[2., 2.]]), rows=tensor([[0, 2]]))

        With an encoder and a head that was trained with `DistilledSentenceEmbedding`:

            index = PairSearch.build(encoder, texts, head=head)
            index.save("index")
            scores, rows = PairSearch.open("index").search(["a question"], k=10)

    Reference: Barkan et al. 2020.
    """

    def __init__(
        self,
        vectors: Float[Tensor, "n dim"],
        texts: Sequence[str] | None,
        *,
        longest: float,
        head: PairHead | None,
        output: int | None,
        cosine: bool,
        encoder: Any,
        place: str | None,
        device: str | torch.device,
    ) -> None:
        self.vectors, self.texts, self.cosine = vectors, texts, cosine
        self.device = torch.device(device)
        self.head = None if head is None else deepcopy(head).to(self.device).eval().requires_grad_(False)
        self.output = output
        self._encoder, self._place = encoder, place
        if self.head is None:
            self._scores = DotScores(vectors.shape[1], longest)
        else:
            self._scores = HeadScores(self.head, output, longest)

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        by = type(self.head).__name__ if self.head else "cosine" if self.cosine else "dot product"
        return f"PairSearch({len(self)} vectors of width {self.width}, by {by})"

    @property
    def width(self) -> int:
        """Components of a vector."""
        return self.vectors.shape[1]

    @classmethod
    def build(
        cls,
        encoder_or_vectors: Any,
        texts: Sequence[str] | None = None,
        *,
        head: PairHead | None = None,
        output: int | None = None,
        cosine: bool = False,
        encoder: Any = None,
        batch_size: int = 32,
        device: str | torch.device = "cpu",
        advance: Advance | None = None,
    ) -> "PairSearch":
        """Make an index.

        Args:
            encoder_or_vectors: a `SentenceTransformer`, which then encodes the texts; or `(n, dim)` vectors, a tensor
                or an array, which are not copied.
            texts: of the rows, or what they are to be called.
            head: a `PairHead`, which is given a query first and a stored vector second; without one vectors are
                compared by their dot product. A head is trained on vectors before a `Normalize` at the encoder's end
                (see `as_st_loss`), and is given those here.
            output: of a head for several classes the one that is searched by; scores are its log-probabilities.
            cosine: without a head: bring stored vectors and queries to length 1.
            encoder: of the queries, where vectors are given.
            batch_size: texts at once.
            device: where scores are computed; vectors go there chunk by chunk.
            advance: told how many more texts are encoded, for a progress bar.

        Raises:
            TypeError: neither vectors nor an encoder, or vectors that are no floating point numbers.
            ValueError: no vectors, NaN or infinity among them, a vector of zeros that has no direction, another number
                of texts, a head for another width, or options that do not go together.
        """
        whole("batch_size", batch_size, 1)
        if hasattr(encoder_or_vectors, "encode") and not isinstance(encoder_or_vectors, str):
            if encoder is not None:
                raise ValueError(
                    "encoder: is for the queries where vectors are given; the first argument is one already"
                )
            encoder = encoder_or_vectors
            if texts is None or not len(checked_texts("texts", texts)):
                raise ValueError("texts: an encoder needs one at least; give texts, or vectors as the first argument")
            found = _encoded(encoder, texts, head is not None, batch_size, advance)
        else:
            found = matrix("vectors", encoder_or_vectors).cpu()
            if not found.numel():
                raise ValueError(f"vectors: an index needs one at least, got shape {tuple(found.shape)}")
        if texts is not None:
            texts = [*checked_texts("texts", texts, len(found), "vector")]
        if head is not None and cosine:
            raise ValueError("cosine: is for the dot product; a head is given vectors as they are: leave it out")
        check_head(head, output, found.shape[1])
        longest_of(found)  # before anything is done with them
        found = unit("vectors", found) if cosine else found
        how: Any = {"head": head, "output": output, "cosine": cosine, "encoder": encoder, "device": device}
        return cls(found, texts, longest=longest_of(found), place=None, **how)

    def search(self, queries: Any, k: int = 10, *, advance: Advance | None = None) -> Hits:
        """Find the best rows for each query.

        Args:
            queries: `(queries, dim)` vectors, a tensor or an array; or texts, if the index knows an encoder.
            k: rows for each.
            advance: told how many more stored vectors are done.

        Returns:
            `(scores, rows)`, each `(queries, k)`, on the CPU; scores in float32; of an index in float64
            without a head in that.

        Raises:
            TypeError: queries that are neither vectors nor texts.
            ValueError: queries of another width, NaN or infinity, more rows than there are, or texts without encoder.
        """
        whole("k", k, 1)
        if k > len(self):
            raise ValueError(f"k must be at most {len(self)}, the rows of the index, got {k}")
        dtype = self._scores.dtype(self.vectors.dtype)
        u = self._queries(queries).to(dtype)
        parts = u.split(self._scores.queries)
        tops = [TopRows(len(part), k, dtype) for part in parts]
        margins = self._margins(u).split(self._scores.queries)
        copied = dtype != self.vectors.dtype or self.device.type != "cpu"
        size = self._scores.rows(parts[0], copied=copied)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for start in range(0, len(self), size):
                v = self.vectors[start : start + size].to(device=self.device, dtype=dtype)
                for part, top, margin in zip(parts, tops, margins, strict=True):
                    rounded = self._scores.rounded(part.to(self.device), v)
                    top.offer(rounded, start, margin, lambda query, row, part=part: self._exact(part, query, row))
                if advance is not None:
                    advance(len(v))
        return Hits(torch.cat([top.scores for top in tops]), torch.cat([top.rows for top in tops]))

    def _queries(self, queries: Any) -> Tensor:
        if isinstance(queries, str):
            raise TypeError(f"queries must be vectors or a list of texts, got one text; give [{queries[:40]!r}]")
        if isinstance(queries, Sequence) and queries and isinstance(queries[0], str):
            found = _encoded(self.encoder, checked_texts("queries", queries, row="query"), self.head is not None)
        else:
            found = matrix("queries", queries).cpu()
        if found.shape[1] != self.width:
            raise ValueError(
                f"queries are {found.shape[1]} wide, the index {self.width}; use the encoder it was made with"
            )
        finite("queries", found, row="query", mend=LOOK)
        return unit("queries", found) if self.cosine else found

    def _margins(self, u: Tensor) -> Tensor:
        """How far a rounded score of each query may be from the exact one; never infinite."""
        most = self._scores.most(u)
        for row in (most.clamp(min=self._scores.longest) >= torch.finfo(u.dtype).max).nonzero().flatten().tolist()[:1]:
            raise ValueError(f"query {row}: scores may overflow {u.dtype}; bring queries and vectors to a usual length")
        return most * self._scores.error(u.dtype)

    def _exact(self, u: Tensor, query: Tensor, row: Tensor) -> Tensor:
        size = max(1, _PIECE // self.width)
        pairs = zip(query.split(size), row.split(size), strict=True)
        return torch.cat([self._scores.exact(u[some], self.vectors[rows].to(u.dtype)) for some, rows in pairs])

    # Files ------------------------------------------------------------------------------------------------------------

    @property
    def encoder(self) -> Any:
        """The `SentenceTransformer` of the queries, loaded when it is first asked for.

        Raises:
            ValueError: the index knows of none, or it is not where it was.
        """
        if self._encoder is None:
            if self._place is None:
                raise ValueError("queries are texts, but the index knows no encoder; give vectors, or encoder=")
            from kilter.hosts.sentences import load_sentences

            self._encoder = load_sentences("SentenceTransformer", self._place, str(self.device))
        return self._encoder

    def save(self, folder: str | PathLike[str], *, encoder: str | PathLike[str] | None = None) -> None:
        """Write `index.json`, `vectors.safetensors`, and as far as there are `texts.jsonl`, `head/` and `encoder/`.

        Args:
            folder: made if need be; an index that is there already is written over.
            encoder: where the encoder of the queries lies: a folder, which is kept relative to that of the index, or a
                hub id; nothing is written then. By default where it was for an index from disk, else in `encoder/`.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        place = self._place if encoder is None else str(encoder)
        if place is None and self._encoder is not None:
            place = str(target / files.ENCODER)
            self._encoder.save_pretrained(place, create_model_card=False)
        if place is not None and Path(place).is_dir():
            place = "./" + Path(os.path.relpath(place, target)).as_posix()
        about: dict[str, Any] = {"count": len(self), "width": self.width, "longest": self._scores.longest}
        about |= {"cosine": self.cosine, "output": self.output, "encoder": place, "head": None}
        if self.head is not None:
            self.head.save_pretrained(target / files.HEAD)
            about["head"] = self.head.checksum
        files.write(target, self.vectors, self.texts, about)

    @classmethod
    def open(
        cls,
        folder: str | PathLike[str],
        *,
        head: PairHead | None = None,
        encoder: Any = None,
        device: str | torch.device = "cpu",
    ) -> "PairSearch":
        """Open what `save` wrote; vectors and texts stay on the disk.

        Args:
            folder: of the index.
            head: instead of the one that lies with the index; it must be the same.
            encoder: of the queries, instead of the one that the index names, which is loaded when it is needed.
            device: where scores are computed, and an encoder of the index works.

        Raises:
            FileNotFoundError: there is no index, or a file of it is missing.
            ValueError: a file is cut short or belongs to another index, or the index was built with another head.
        """
        about, vectors, texts = files.read(Path(folder))
        if head is None and about["head"] is not None:
            head = PairHead.from_pretrained(Path(folder, files.HEAD))
        check_head(head, about["output"], about["width"])
        if (None if head is None else head.checksum) != about["head"]:
            built = "with another head" if about["head"] else "without a head"
            raise ValueError(f"{folder}: the index was built {built}; give that one, or build an index with yours")
        place = about["encoder"]
        if place is not None and place.startswith("."):
            place = os.path.normpath(Path(folder, place))
        how: Any = {name: about[name] for name in ("output", "cosine", "longest")}
        return cls(vectors, texts, head=head, encoder=encoder, device=device, place=place, **how)


def _encoded(
    encoder: Any, texts: Sequence[str], headed: bool, batch_size: int = 32, advance: Advance | None = None
) -> Tensor:
    """Vectors of texts; for a head those before a `Normalize` at the encoder's end, as it was trained on."""
    from kilter.hosts.sentence_modules import without_normalize
    from kilter.hosts.sentences import encode

    return encode(without_normalize(encoder) if headed else encoder, texts, batch_size=batch_size, advance=advance)
