"""Long texts to passages and what follows, and batches that come from one text each."""

import hashlib
import io
import json
import os
import re
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kilter.data.assets import cache_dir, locate
from kilter.data.books import (
    BLOCK,
    BOOKS,
    OneDocumentBatches,
    Pair,
    before,
    load_long_pairs,
    load_pairs,
    load_texts,
    pairs_of,
    paragraphs,
    strip_gutenberg,
)
from kilter.data.catalogue import Asset
from kilter.data.passages import sentences, whole
from tests.prose import prose, write_books


def words(text: str) -> int:
    return len(text.split())


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return pairs_of("tale", prose(3000), prefix_words=40, words=(10, 30))


def test_prefix_and_continuation_follow_each_other_in_the_text_and_end_with_sentences(pairs):
    text = " ".join(sentence for parts in paragraphs(prose(3000)) for sentence in parts)
    for pair in pairs:
        assert f"{pair.prefix} {pair.continuation}" in text
        assert whole(pair.prefix)
        assert whole(pair.continuation)
        assert pair.prefix[0].isupper()
        assert pair.continuation[0].isupper()


def test_lengths_are_within_bounds_and_vary(pairs):
    assert all(20 <= words(pair.prefix) <= 40 for pair in pairs)
    lengths = [words(pair.continuation) for pair in pairs]
    assert min(lengths) >= 10
    assert max(lengths) <= 30
    assert len(set(lengths)) > 10


def test_continuations_do_not_overlap(pairs):
    text = " ".join(sentence for parts in paragraphs(prose(3000)) for sentence in parts)
    place = 0
    for pair in pairs:
        found = text.index(pair.continuation, place)
        place = found + len(pair.continuation)


def test_the_same_seed_cuts_the_same_and_another_does_not():
    assert pairs_of("tale", prose(300)) == pairs_of("tale", prose(300))
    assert pairs_of("tale", prose(300)) != pairs_of("tale", prose(300), seed=1)


def test_halves_are_blocks_that_share_no_continuation(pairs):
    assert [pair.half for pair in pairs[: 2 * BLOCK]] == [0] * BLOCK + [1] * BLOCK
    inner = {half: {pair.continuation for pair in pairs if pair.half == half} for half in (0, 1)}
    crossing = [pair for place, pair in enumerate(pairs) if place % BLOCK > 4 and pair.half == 0]
    assert crossing
    assert not any(other in pair.prefix for pair in crossing for other in inner[1] - inner[0])


def test_headings_and_italics_are_left_out():
    found = paragraphs("CHAPTER I.\n\nLetter 4\n\nIt _was_ so. He went.\n\nA list\nwithout an end\n\nTHE END.\n")
    assert found == [["It was so.", "He went."]]


def test_gutenbergs_header_and_footer_are_stripped():
    text = (
        "licence\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\nCall me so.\n"
        "*** END OF THE PROJECT GUTENBERG EBOOK X ***\nmore licence\n"
    )
    assert strip_gutenberg(text).strip() == "Call me so."
    assert strip_gutenberg("Call me so.") == "Call me so."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Darcy left. Mrs. Hill came.", ["Mr. Darcy left.", "Mrs. Hill came."]),
        ("He left... and came back. So.", ["He left... and came back.", "So."]),
        ("“Go!” he said. “Why?” “Go.”", ["“Go!” he said.", "“Why?”", "“Go.”"]),
        ("J. R. Brown wrote it. It was long.", ["J. R. Brown wrote it.", "It was long."]),
        ("他走了。他回来了。", ["他走了。", "他回来了。"]),
        ("No end", ["No end"]),
        ("", []),
    ],
)
def test_sentences(text, expected):
    assert sentences(text) == expected


def test_a_folder_without_texts_and_a_text_that_is_too_short_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: no such folder"):
        load_texts(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no \.txt"):
        load_texts(tmp_path)
    (tmp_path / "short.txt").write_text("It is so. It was so.")
    with pytest.raises(ValueError, match=r"^short: too short \(2 sentences of prose\).*smaller prefix_words"):
        load_pairs(tmp_path)
    (tmp_path / "short.txt").write_bytes(b"na\xefve")
    with pytest.raises(ValueError, match=r"short\.txt: not UTF-8 .* at byte 2"):
        load_pairs(tmp_path)


def test_documents_in_a_table(tmp_path):
    rows = [{"id": 7, "text": prose(300)}, {"text": "a\n\nb"}]
    (tmp_path / "d.JSONL").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "d.json").write_text(json.dumps(rows))
    (tmp_path / "d.csv").write_text('id,text\n7,"' + prose(300).replace('"', '""') + '"\n,"a\n\nb"\n')
    for name in ("d.JSONL", "d.json", "d.csv"):
        assert load_texts(tmp_path / name) == {"7": prose(300), "d 2": "a\n\nb"}
        found, skipped = load_long_pairs(tmp_path / name)
        assert [*found] == ["7"]
        assert [left for left, _ in skipped] == ["d 2"]
    (tmp_path / "one.txt").write_bytes(b"A tale.\r\rThe end.")
    assert load_texts(tmp_path / "one.txt") == {"one": "A tale.\n\nThe end."}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("d.tsv", "text\na\n", "d.tsv: documents are a folder of .txt, or a file that ends in .txt, .csv, .json"),
        ("d.csv", "text\nYES, I\n", "d.csv, line 2: has more fields"),
        ("d.csv", "id,text\n", "d.csv: holds no documents"),
        ("d.jsonl", '{"text": 3}', "d.jsonl, line 1: needs the document as a text in column 'text', has {'text': 3}"),
        ("d.jsonl", "[1]", "d.jsonl, line 1: needs the document as a text in column 'text', has [1]"),
        ("d.jsonl", '{"text": "a", "id": 1}\n{"text": "b", "id": "1"}', "line 2: two texts have the name '1'"),
        ("d.jsonl", '{"text": "a", "id": [1]}', "line 1: column 'id' must be a text or a number"),
    ],
)
def test_wrong_documents_are_named(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(said)):
        load_long_pairs(tmp_path / name)


def test_a_folder_of_texts_as_people_have_it(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfOne.\r\n\r\nTwo.\rThree.")
    (tmp_path / "B.TXT").write_text("upper", "utf-16")
    (tmp_path / "._a.txt").write_bytes(b"\0\5\x16\7")  # what macOS leaves beside a file
    (tmp_path / "folder.txt").mkdir()
    assert load_texts(tmp_path) == {"B": "upper", "a": "One.\n\nTwo.\nThree."}
    (tmp_path / "a.Txt").write_text("another")
    with pytest.raises(ValueError, match=r"a\.(t|T)xt: two texts have the name 'a'"):
        load_texts(tmp_path)


def test_a_name_that_is_no_utf8_can_be_written_down(tmp_path):
    for name, text in ((b"caf\xe9.txt", "one"), (b"caf\xe8.txt", "two")):
        try:
            (tmp_path / os.fsdecode(name)).write_text(text)
        except OSError:  # a file system that takes none
            pytest.skip("names are UTF-8 here")
    assert load_texts(tmp_path) == {"caf%E8": "two", "caf%E9": "one"}


def test_short_texts_are_left_out_and_named_unless_none_is_long_enough(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "short.txt").write_text("It is so. It was so.")
    with pytest.raises(ValueError, match=r"none of 1 texts is long enough; sub/short\.txt: too short \(2 sentences"):
        load_long_pairs(tmp_path)
    (tmp_path / "long.txt").write_text(prose(300))
    found, skipped = load_long_pairs(tmp_path, prefix_words=30)
    assert found == {"long": pairs_of("long", prose(300), prefix_words=30)}
    assert [name for name, _ in skipped] == ["sub/short.txt"]
    assert skipped[0][1].startswith("too short (2 sentences")
    with pytest.raises(ValueError, match="prefix_words=1"):
        load_long_pairs(tmp_path, prefix_words=1)


def test_a_held_out_part_shows_nothing_that_was_learnt(pairs):
    """The prefix of the first pair held out reaches back; what it shows is no continuation to learn from."""
    numbered = pairs_of("tale", " ".join(f"This is the sentence number {n}." for n in range(400)), prefix_words=40)
    for cut in (5, 12, len(numbered) - 2):
        learnt = before(numbered, cut)
        assert 0 < len(learnt) < cut
        assert learnt == numbered[: len(learnt)]
        shown = {sentence for pair in numbered[cut:] for sentence in sentences(pair.prefix)}
        told = {sentence for pair in learnt for sentence in sentences(f"{pair.prefix} {pair.continuation}")}
        assert not shown & told
        assert shown & {*sentences(numbered[len(learnt)].continuation)}, "more was left out than needs be"


@pytest.mark.parametrize("bad", [{"prefix_words": 1}, {"words": (0, 5)}, {"words": (9, 5)}])
def test_lengths_that_do_not_fit_are_refused(bad):
    with pytest.raises(ValueError, match=r"prefix_words=.*words="):
        pairs_of("tale", prose(300), **bad)


def test_texts_below_the_folder_are_found_by_their_path(tmp_path):
    write_books(tmp_path / "shelf" / "row")
    assert list(load_pairs(tmp_path / "shelf")) == ["row/frankenstein", "row/moby-dick", "row/pride-and-prejudice"]


# Batches -----------------------------------------------------------------------------------------------------

DOCUMENTS = ["a"] * 10 + ["b"] * 7 + ["c"] * 2


def test_every_batch_is_of_one_document_and_no_row_comes_twice():
    sampler = OneDocumentBatches(DOCUMENTS, 4, seed=0)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 4
    assert sorted(len(batch) for batch in batches) == [2, 4, 4, 4]
    rows = [row for batch in batches for row in batch]
    assert len(rows) == len(set(rows))
    for batch in batches:
        assert len({DOCUMENTS[row] for row in batch}) == 1


def test_epochs_differ_and_seeds_repeat():
    sampler = OneDocumentBatches(DOCUMENTS, 4, seed=0)
    epochs = [list(sampler) for _ in range(3)]
    assert len({str(epoch) for epoch in epochs}) == 3
    again = OneDocumentBatches(DOCUMENTS, 4, seed=0)
    assert [list(again) for _ in range(3)] == epochs
    assert list(OneDocumentBatches(DOCUMENTS, 4, seed=1)) != epochs[0]


@pytest.mark.parametrize("at", [0, 1, 3, 4, 6])
def test_a_resumed_sampler_draws_the_same_next_batches(at):
    def endless(sampler):
        while True:
            yield from sampler

    unbroken = endless(OneDocumentBatches(DOCUMENTS, 4, seed=3))
    expected = [next(unbroken) for _ in range(12)]
    first = OneDocumentBatches(DOCUMENTS, 4, seed=3)
    drawn = endless(first)
    assert [next(drawn) for _ in range(at)] == expected[:at]
    second = OneDocumentBatches(DOCUMENTS, 4)
    second.load_state_dict(first.state_dict())
    going_on = endless(second)
    assert [next(going_on) for _ in range(12 - at)] == expected[at:]


def test_a_trainers_epochs_are_the_samplers_own():
    sampler, unbroken = OneDocumentBatches(DOCUMENTS, 4), OneDocumentBatches(DOCUMENTS, 4)
    expected = [list(unbroken) for _ in range(3)]
    for epoch in (0, 1, 2):
        sampler.set_epoch(epoch)
        assert list(sampler) == expected[epoch]
    sampler.set_epoch(1)
    assert list(sampler) == expected[1]


def test_batches_that_would_hold_no_negative_are_refused():
    with pytest.raises(ValueError, match="batch_size=1 leaves no negative"):
        OneDocumentBatches(DOCUMENTS, 1)
    with pytest.raises(ValueError, match="document d has one pair only"):
        OneDocumentBatches([*DOCUMENTS, "d"], 4)


# The asset ---------------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        """Keep the test's output to itself."""


def test_the_books_come_from_gitenbergs_archives_under_our_names(tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    contents = {ours: f"text of {ours}".encode() for _, ours in BOOKS.values()}
    for repository, (theirs, ours) in BOOKS.items():
        with tarfile.open(site / f"{repository}.tar.gz", "w:gz") as tar:
            for name, content in ((theirs, contents[ours]), (f"old/{ours}", b"an older one")):
                member = tarfile.TarInfo(f"{repository}-master/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(Asset, "checksums", lambda self: checksums)
    monkeypatch.delenv("KILTER_DATA", raising=False)
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("KILTER_BOOKS_URL", f"http://127.0.0.1:{server.server_address[1]}/{{}}.tar.gz")
        found = locate("books", progress=False)
        server.shutdown()
        thread.join()
    assert found.path == cache_dir() / "books"
    assert {path.name: path.read_bytes() for path in found.path.iterdir()} == contents
    assert locate("books", progress=False).source == "the cache"


REAL = Path(os.environ.get("KILTER_DATA") or "nowhere") / "books"


@pytest.mark.skipif(not REAL.is_dir(), reason="KILTER_DATA names no folder with the books")
def test_the_real_books():
    found = load_pairs(locate("books", progress=False).path)
    assert {name: len(rows) > 2000 for name, rows in found.items()} == {
        "frankenstein": True,
        "moby-dick": True,
        "pride-and-prejudice": True,
    }
    for rows in found.values():
        told = " ".join(pair.prefix + pair.continuation for pair in rows)
        assert "gutenberg.net" not in told.lower()  # its licence; a transcriber's note names the project
        assert "_" not in told
    lengths = [words(pair.prefix) for rows in found.values() for pair in rows]
    assert 48 < sum(lengths) / len(lengths) < 60
