"""Which of an archive's files are which of ours: by their name, the end of their path, or another name."""

import io
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from kilter.data.download import download

TOP = "dataset-master/data"
FILES = {"2013/news.tsv": b"a", "2014/news.tsv": b"b", "news.tsv": b"c", "theirs.txt": b"d", "9999/other.tsv": b"e"}


@pytest.fixture
def archive(tmp_path: Path) -> str:
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as tar:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"{TOP}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return (tmp_path / "all.tar.gz").as_uri()


def fetched(archive: str, folder: Path, wanted: dict[str, bytes], **how) -> dict[str, bytes]:
    folder.mkdir()
    sums = {name: sha256(content).hexdigest() for name, content in wanted.items()}
    download(archive, sums, folder, title="all", progress=False, **how)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_of_one_name_are_told_apart_by_the_end_of_their_path(archive, tmp_path) -> None:
    wanted = {"2014/news.tsv": b"b", "2013/news.tsv": b"a"}
    assert fetched(archive, tmp_path / "here", wanted) == wanted


def test_a_file_may_have_another_name_here(archive, tmp_path) -> None:
    wanted = {"ours.txt": b"d"}
    assert fetched(archive, tmp_path / "here", wanted, names=(("theirs.txt", "ours.txt"),)) == wanted
    with pytest.raises(ValueError, match=r"lacks 1 files, the first ours\.txt"):
        fetched(archive, tmp_path / "there", wanted)


def test_the_end_of_a_path_is_whole_folders(archive, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"lacks 1 files, the first 13/news\.tsv"):
        fetched(archive, tmp_path / "here", {"13/news.tsv": b"a"})


def test_another_name_may_be_of_one_folder_only(archive, tmp_path) -> None:
    wanted = {"2014-news.tsv": b"b"}
    assert fetched(archive, tmp_path / "here", wanted, names=(("2014/news.tsv", "2014-news.tsv"),)) == wanted
