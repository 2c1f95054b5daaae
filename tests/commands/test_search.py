"""`kilter search`: the hits of the index it opens or makes, as a table and as JSON, and what cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kilter.cli import main
from kilter.commands import search

pytestmark = pytest.mark.host

pytest.importorskip("sentence_transformers")

from kilter.embeddings import PairHead, PairSearch  # noqa: E402 (after what skips)
from tests.embeddings.tiny_encoder import TEXTS, tiny_encoder  # noqa: E402

QUERIES = ["the cat", "rain"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, a head, texts, queries, and an index made of the first three."""
    place = tmp_path_factory.mktemp("search")
    tiny_encoder(place)
    torch.manual_seed(0)
    PairHead(16, hidden=8).save_pretrained(place / "head")
    (place / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    (place / "queries.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in QUERIES), encoding="utf-8")
    assert main(asked(place, place / "index", "--texts", str(place / "texts.txt"), "--head", str(place / "head"))) == 0
    return place


def asked(files: Path, index: Path, *more: str) -> list[str]:
    model = ["--model", str(files / "encoder")] if "--texts" in more else []
    return ["search", str(index), *model, "--device", "cpu", *more]


def told(capsys: pytest.CaptureFixture) -> Any:
    return json.loads(capsys.readouterr().out)


def test_the_hits_are_those_of_the_index(files: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(asked(files, files / "index", "--text", QUERIES[0], "--queries", str(files / "queries.jsonl"),
                      "--k", "3", "--json")) == 0  # fmt: skip
    said = told(capsys)
    index = PairSearch.open(files / "index")
    assert (said["index"], said["rows"], index.head is not None) == (str(files / "index"), len(TEXTS), True)
    found = index.search([QUERIES[0], *QUERIES], 3)
    assert [answer["query"] for answer in said["answers"]] == [QUERIES[0], *QUERIES]
    for answer, rows, scores in zip(said["answers"], found.rows.tolist(), found.scores.tolist(), strict=True):
        assert [hit["row"] for hit in answer["hits"]] == rows
        assert [hit["text"] for hit in answer["hits"]] == [TEXTS[row] for row in rows]
        assert [hit["score"] for hit in answer["hits"]] == pytest.approx(scores, abs=1e-5)


def test_the_table_has_a_line_for_each_hit(files: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(asked(files, files / "index", "--text", "the [red] cat")) == 0  # more than there are
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == "the [red] cat"
    assert lines[1].split() == ["score", "row", "text"]
    row = PairSearch.open(files / "index").search(["the [red] cat"], 1).rows.item()
    assert lines[2].strip().split(maxsplit=2)[1:] == [str(row), TEXTS[int(row)]]
    assert len(lines) == 2 + len(TEXTS)


def test_an_index_is_made_by_cosine_and_only_once(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "deep" / "index"
    making = asked(files, out, "--texts", str(files / "texts.txt"), "--text", TEXTS[3], "--json")
    assert main(making) == 0
    hits = told(capsys)["answers"][0]["hits"]
    assert (hits[0]["row"], hits[0]["score"]) == (3, pytest.approx(1, abs=1e-5))
    assert all(-1.001 < hit["score"] < 1.001 for hit in hits)
    assert PairSearch.open(out).cosine
    assert main(making) == 1
    assert "holds an index already" in capsys.readouterr().err


def test_rows_without_texts_are_numbers(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    index = PairSearch.build(torch.eye(16))
    index.save(tmp_path, encoder=files / "encoder")
    assert main(asked(files, tmp_path, "--text", "the cat", "--k", "2")) == 0
    assert "text" not in capsys.readouterr().out
    assert main(asked(files, tmp_path, "--text", "the cat", "--k", "2", "--json")) == 0
    assert [{*hit} for hit in told(capsys)["answers"][0]["hits"]] == [{"row", "score"}] * 2


def test_a_later_index_is_opened_by_its_own_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "index.json").write_text('{"kind": "tree"}')
    assert main(["search", str(tmp_path), "--text", "x"]) == 1
    assert "is of kind 'tree', which this kilter does not know; there are: pair-search" in capsys.readouterr().err

    class Tree:
        texts = None

        def __len__(self) -> int:
            return 1

        @classmethod
        def open(cls, folder: Path, device: str) -> "Tree":
            return cls()

        def search(self, queries: list[str], k: int, advance: Any) -> Any:
            from kilter.embeddings.pair_search import Hits

            return Hits(torch.ones(len(queries), k), torch.zeros(len(queries), k).long())

    monkeypatch.setattr(search, "Tree", Tree, raising=False)
    monkeypatch.setitem(search.KINDS, "tree", ("kilter.commands.search", "Tree"))
    assert main(["search", str(tmp_path), "--text", "x", "--json"]) == 0
    assert told(capsys)["answers"] == [{"query": "x", "hits": [{"row": 0, "score": 1.0}]}]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ([], 2, "what for?"),
        (["--text", "x", "--model", "minilm"], 2, "--model: is for an index that is made"),
        (["--text", "x", "--head", "head"], 2, "--head: is for an index that is made"),
        (["--text", "x", "--output", "0"], 2, "--output: is for an index that is made"),
        (["--text", "x", " "], 2, "--text: is empty"),
        (["--text", "x"], 1, "holds no index; name its folder"),
        (["--queries", "none.txt"], 1, "none.txt: no such file"),
        (["--text", "x", "--k", "0"], 1, "must be at least 1"),
    ],
)
def test_what_cannot_be(more: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["search", str(tmp_path / "nowhere"), *more]) == code
    assert said in capsys.readouterr().err


def test_texts_need_a_model(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["search", str(tmp_path / "new"), "--texts", str(files / "texts.txt")]) == 2
    assert "add --model" in capsys.readouterr().err
    assert main(["search", str(tmp_path / "new"), "--texts", str(files / "texts.txt"), "--model", "./mnlm"]) == 1
    assert "./mnlm: not a folder or hub id" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_broken_index_ends_with_1_and_its_file(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    PairSearch.build(torch.eye(16)).save(tmp_path)
    file = tmp_path / "vectors.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    assert main(asked(files, tmp_path, "--text", "x")) == 1
    assert "vectors.safetensors: is cut short" in capsys.readouterr().err
