"""Multi30k: pairs, five captions as references, and what is said of bad files."""

import gzip
import io
import os
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from kilter.data.assets import ASSETS, locate
from kilter.data.download import download
from kilter.data.multi30k import CAPTIONS, DEV, TEST, TRAIN, load_multi30k

REAL = Path(os.environ.get("KILTER_DATA") or "nowhere") / "multi30k"


def write(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (TRAIN, DEV, TEST):
        write(tmp_path, f"{name}.de.gz", "Der rote Hut .", "Zwei Hunde.")
        write(tmp_path, f"{name}.en.gz", "A red hat.", "Two  dogs.")
    for place, name in enumerate(CAPTIONS):
        write(tmp_path, name, "A red hat." if place == 3 else f"Hat {place}.", f"Dogs {place}.")
    return tmp_path


def test_references_are_the_five_captions_where_the_translation_is_among_them(folder: Path) -> None:
    splits = load_multi30k(folder)
    hat, dogs = splits.test
    assert hat.references == ("Hat 0.", "Hat 1.", "Hat 2.", "A red hat.", "Hat 4.")
    assert dogs.references == ("Two dogs.",)
    assert hat.source == "Der rote Hut ."


def test_a_caption_said_twice_is_one_reference(folder: Path) -> None:
    write(folder, CAPTIONS[0], "A red hat.", "x")
    assert load_multi30k(folder).test[0].references.count("A red hat.") == 1


def test_pairs_and_development_sentences(folder: Path) -> None:
    write(folder, f"{TRAIN}.de.gz", "Der rote Hut .", "")
    splits = load_multi30k(folder)
    assert splits.train == [("Der rote Hut .", "A red hat.")]
    assert [item.references for item in splits.dev] == [("A red hat.",), ("Two dogs.",)]


def test_bad_files_are_named(folder: Path) -> None:
    write(folder, f"{TRAIN}.en.gz", "one line")
    with pytest.raises(ValueError, match=r"train\.de\.gz has 2 lines, train\.en\.gz has 1"):
        load_multi30k(folder)
    (folder / f"{TRAIN}.en.gz").write_bytes(b"not gzip")
    with pytest.raises(ValueError, match=r"train\.en\.gz: is no gzip of UTF-8 text .* `kilter fetch multi30k`"):
        load_multi30k(folder)
    (folder / f"{TRAIN}.en.gz").unlink()
    with pytest.raises(ValueError, match=r"train\.en\.gz: missing"):
        load_multi30k(folder)


def test_captions_of_another_test_set_are_refused(folder: Path) -> None:
    write(folder, CAPTIONS[2], "only one")
    with pytest.raises(ValueError, match=r"task2_test_2016\.3\.en\.gz: has 1 lines, the test set 2"):
        load_multi30k(folder)


def test_an_archive_that_tells_files_apart_by_their_folders(tmp_path: Path) -> None:
    """Both tasks have files of like names; ours carry the name of the task's folder."""
    archive, folder = tmp_path / "both.tar.gz", tmp_path / "data"
    folder.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        for task in ("task1", "task2"):
            member = tarfile.TarInfo(f"dataset-master/data/{task}/raw/test.gz")
            member.size = len(task)
            tar.addfile(member, io.BytesIO(task.encode()))
    wanted = {f"{task}_test.gz": sha256(task.encode()).hexdigest() for task in ("task1", "task2")}
    download(archive.as_uri(), wanted, folder, title="both", progress=False)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "task1_test.gz": "task1",
        "task2_test.gz": "task2",
    }


@pytest.mark.skipif(not REAL.is_dir(), reason="KILTER_DATA names no folder with the real data")
def test_the_real_data() -> None:
    assert set(ASSETS["multi30k"].checksums()) >= {*CAPTIONS, f"{TRAIN}.de.gz", f"{TEST}.en.gz"}
    splits = load_multi30k(locate("multi30k", progress=False).path)
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (29_000, 1_014, 1_000)
    assert all(len(item.references) == 5 for item in splits.test)
