"""PairSearch against FAISS's exact index, and what a pair head costs instead of the dot product.

    pip install faiss-cpu
    python benchmarks/pair_search.py [--rows 10000 100000 1000000] [--repeats 5] [--json FILE]

The peer is `faiss.IndexFlatIP`: every vector is scored, as here. Ours is opened from disk and mapped, in a temporary
folder; both have seen their vectors once before. Random directions of MiniLM's width. One thread, interleaved, medians
of CPU time for a query, ten rows each. `held` is what lies in memory because of the index (of ours without pages of the
file, which the system drops when it needs them), `peak` what a search of 256 queries allocates beyond that. Below the
same for a head of 512 hidden units and one query, with pairs a second.
"""

import argparse
import gc
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _timing import interleaved, peak_bytes
from torch.nn import functional as F

from kilter.embeddings import PairHead, PairSearch

WIDTH, K = 384, 10
QUERIES = (1, 16, 256)
"""Together."""


def held_bytes() -> int:
    """Memory of the process without mapped files."""
    found = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(found.split("RssAnon:")[1].split()[0])


def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each, interleaved."""
    return {name: statistics.median(values) for name, values in interleaved(calls, repeats).items()}


def against_faiss(rows: int, folder: Path, repeats: int) -> dict[str, Any]:
    """Both indexes of as many rows."""
    import faiss  # pyright: ignore[reportMissingImports] (a peer, no dependency)

    faiss.omp_set_num_threads(1)
    vectors = F.normalize(torch.randn(rows, WIDTH), dim=1)
    PairSearch.build(vectors).save(folder)
    queries = F.normalize(torch.randn(max(QUERIES), WIDTH), dim=1)
    before = held_bytes()
    theirs = faiss.IndexFlatIP(WIDTH)
    theirs.add(vectors.numpy())
    held = {"faiss": held_bytes() - before}
    del vectors
    gc.collect()
    before = held_bytes()
    ours = PairSearch.open(folder)
    found = ours.search(queries[:64], K)
    held["ours"] = held_bytes() - before
    scores, places = (torch.from_numpy(part) for part in theirs.search(queries[:64].numpy(), K))
    # FAISS rounds, so that rows which are nearly as good may stand in another order
    assert torch.allclose(scores, found.scores, atol=1e-5)
    assert (places == found.rows).double().mean() > 0.99
    line: dict[str, Any] = {"rows": rows, **{f"{name}_held_mb": some / 1e6 for name, some in held.items()}}
    for count in QUERIES:
        some = queries[:count]
        calls: dict[str, Callable[[], object]] = {
            "faiss": lambda some=some: theirs.search(some.numpy(), K),
            "ours": lambda some=some: ours.search(some, K),
        }
        took = medians(calls, repeats)
        line |= {f"{name}_ms_of_{count}": 1e3 * one / count for name, one in took.items()}
        line[f"ours_over_faiss_of_{count}"] = took["ours"] / took["faiss"]
    line["ours_peak_mb"] = peak_bytes(lambda: ours.search(queries, K)) / 1e6
    return line


def with_head(rows: int, repeats: int) -> dict[str, Any]:
    """A query by a head."""
    vectors, queries = torch.randn(rows, WIDTH), torch.randn(1, WIDTH)
    index = PairSearch.build(vectors, head=PairHead(WIDTH))
    took = medians({"head": lambda: index.search(queries, K)}, repeats)["head"]
    peak = peak_bytes(lambda: index.search(queries, K))
    return {"head_rows": rows, "ms": 1e3 * took, "pairs_a_second": rows / took, "peak_mb": peak / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: list[dict[str, Any]] = []
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            found.append(against_faiss(rows, Path(folder), options.repeats))
        print(json.dumps(found[-1]), flush=True)
        gc.collect()
    for rows in options.rows:
        found.append(with_head(rows, options.repeats if rows < 500_000 else 1))
        print(json.dumps(found[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
