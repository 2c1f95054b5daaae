"""Finding data: the order of sources, checksums, and downloads that end whole or not at all."""

import errno
import hashlib
import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kilter.data import espeak
from kilter.data.assets import ASSETS, cache_dir, locate, status
from kilter.data.catalogue import Asset

FILES = {f"{digit}_ann_0.wav": bytes([digit]) * 5_000 for digit in range(10)}
TOP = "free-spoken-digit-dataset-master/recordings"


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        """Keep the test's output to itself."""

    def do_GET(self):
        if self.path == "/broken.tar.gz":  # more is announced than sent
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 1_000)
        else:
            super().do_GET()


@pytest.fixture
def site(tmp_path):
    """A web site on this machine: its folder and its address."""
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine with nothing on it and no network, that wants the ten small files."""
    monkeypatch.delenv("KILTER_DATA", raising=False)
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KILTER_FSDD_URL", "http://127.0.0.1:9/nobody-listens.tar.gz")
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(Asset, "checksums", lambda self: checksums if self.manifest else {})
    monkeypatch.setattr(espeak, "spoken_digits", partial(espeak.spoken_digits, voices=["en-us"], takes=[0]))


def write_archive(path: Path, files: dict[str, bytes], top: str = TOP) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {"README.md": b"# digits", **files}.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_folder(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_users_folder_comes_first(tmp_path, monkeypatch, capsys):
    write_folder(cache_dir() / "fsdd")
    folder = write_folder(tmp_path / "mine" / "fsdd")
    monkeypatch.setenv("KILTER_DATA", str(tmp_path / "mine"))

    found = locate("fsdd")

    assert (found.path, found.synthetic, found.note) == (folder, False, "")
    printed = capsys.readouterr()
    assert printed.err == "Free Spoken Digit Dataset from the folder that KILTER_DATA names (CC BY-SA 4.0)\n"
    assert printed.out == ""


def test_then_the_cache_then_the_archive(tmp_path, monkeypatch, site):
    folder, address = site
    write_archive(folder / "digits.tar.gz", FILES)
    monkeypatch.setenv("KILTER_FSDD_URL", f"{address}/digits.tar.gz")
    monkeypatch.setenv("KILTER_DATA", str(tmp_path))  # has no fsdd

    fetched = locate("fsdd")
    assert fetched.source == f"{address}/digits.tar.gz"
    assert fetched.path == cache_dir() / "fsdd"
    assert contents(fetched.path) == FILES
    assert [path.name for path in cache_dir().iterdir()] == ["fsdd"]

    monkeypatch.setenv("KILTER_FSDD_URL", "http://127.0.0.1:9/nobody-listens.tar.gz")
    assert locate("fsdd").source == "the cache"


def test_last_comes_synthesis_and_it_says_so(capsys):
    found = locate("fsdd")
    assert found.asset is ASSETS["espeak-digits"]
    assert found.synthetic
    assert found.note.startswith("Synthetic data, because Free Spoken Digit Dataset could not be had: KILTER_DATA")
    assert "127.0.0.1:9/nobody-listens.tar.gz did not answer" in found.note
    assert len(list(found.path.glob("*_en-us_0.wav"))) == 10
    assert found.note in capsys.readouterr().err

    again = locate("fsdd", progress=False)
    assert (again.source, again.synthetic, again.note) == ("the cache", True, found.note)
    assert capsys.readouterr().err == ""
    assert locate("espeak-digits").synthetic


@pytest.mark.parametrize("missing", ["espeakng_loader", None])
def test_nowhere_to_be_had(monkeypatch, missing):
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(FileNotFoundError) as error:
        locate("fsdd", allow_generated=bool(missing))
    message = str(error.value)
    for reason in ("KILTER_DATA names no folder", "the cache has no fsdd", "did not answer", "kilter fetch fsdd"):
        assert reason in message
    assert ("[speech]" if missing else "synthetic data is not wanted here") in message
    assert not list(cache_dir().iterdir())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (FILES | {"4_ann_0.wav": b"other"}, f"{TOP}/4_ann_0.wav is corrupt"),
        ({name: content for name, content in FILES.items() if name[0] not in "47"}, "lacks 2 files, the first 4_ann_0"),
    ],
)
def test_a_corrupt_or_partial_archive_is_named_and_leaves_nothing(monkeypatch, site, files, message):
    folder, address = site
    write_archive(folder / "digits.tar.gz", files)
    monkeypatch.setenv("KILTER_FSDD_URL", f"{address}/digits.tar.gz")
    with pytest.raises(ValueError, match=message):
        locate("fsdd")
    assert not list(cache_dir().iterdir())


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", None])
def test_something_else_than_the_whole_archive_is_an_error(monkeypatch, site, content):
    folder, address = site
    write_archive(folder / "whole.tar.gz", FILES)
    (folder / "digits.tar.gz").write_bytes(content or (folder / "whole.tar.gz").read_bytes()[:-60])
    monkeypatch.setenv("KILTER_FSDD_URL", f"{address}/digits.tar.gz")
    with pytest.raises(ValueError, match=r"digits.tar.gz: cut short, or not a .tar.gz"):
        locate("fsdd")
    assert not list(cache_dir().iterdir())


def test_a_transfer_that_breaks_off_is_an_error_and_leaves_nothing(monkeypatch, site):
    monkeypatch.setenv("KILTER_FSDD_URL", f"{site[1]}/broken.tar.gz")
    with pytest.raises(ConnectionError, match=r"broken.tar.gz: broke off after 0.0 MB"):
        locate("fsdd")
    assert not list(cache_dir().iterdir())


def test_a_full_disk_stops_with_its_own_error_and_leaves_nothing(monkeypatch, site):
    def refuse(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    folder, address = site
    write_archive(folder / "digits.tar.gz", FILES)
    monkeypatch.setenv("KILTER_FSDD_URL", f"{address}/digits.tar.gz")
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OSError, match="No space left on device") as error:
        locate("fsdd")
    assert not isinstance(error.value, ConnectionError)
    assert not list(cache_dir().iterdir())


def test_an_archive_that_is_not_there_is_a_reason_to_go_on(monkeypatch, site):
    monkeypatch.setenv("KILTER_FSDD_URL", f"{site[1]}/gone.tar.gz")
    assert "gone.tar.gz answered 404 File not found" in locate("fsdd").note


def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("kilter.data.download.TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("KILTER_FSDD_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/digits.tar.gz")
        assert "digits.tar.gz did not answer (timed out)" in locate("fsdd").note


def test_paths_in_the_archive_lead_nowhere(tmp_path, monkeypatch, site):
    folder, address = site
    write_archive(folder / "digits.tar.gz", FILES | {"evil.wav": b"!"}, top="../../../..")
    monkeypatch.setenv("KILTER_FSDD_URL", f"{address}/digits.tar.gz")
    assert contents(locate("fsdd").path) == FILES
    assert not list(tmp_path.rglob("evil.wav"))


@pytest.mark.parametrize("where", ["KILTER_DATA", "KILTER_CACHE"])
def test_files_on_this_machine_are_checked_too(tmp_path, monkeypatch, where):
    folder = write_folder(tmp_path / "here" / "fsdd")
    monkeypatch.setenv(where, str(tmp_path / "here"))
    (folder / "3_ann_0.wav").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"3_ann_0\.wav: corrupt .* `kilter fetch fsdd`"):
        locate("fsdd")
    (folder / "3_ann_0.wav").unlink()
    with pytest.raises(ValueError, match=r"3_ann_0\.wav: missing; .* is not the whole Free Spoken Digit"):
        locate("fsdd")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_download_leaves_nothing_that_is_taken_for_data(site):
    program = (
        "import kilter.data.download as d, os, signal\n"
        "d.unpack = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from kilter.data.assets import locate; locate('fsdd')"
    )
    folder, address = site
    write_archive(folder / "digits.tar.gz", FILES)
    environment = os.environ | {"KILTER_FSDD_URL": f"{address}/digits.tar.gz", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert done.returncode == -9
    assert not (cache_dir() / "fsdd").exists()
    assert locate("fsdd").synthetic


def test_two_processes_may_fill_the_cache_at_once(monkeypatch, site):
    folder, address = site
    write_archive(folder / "digits.tar.gz", FILES)
    monkeypatch.setenv("KILTER_FSDD_URL", f"{address}/digits.tar.gz")
    threads = [threading.Thread(target=locate, args=["fsdd"], kwargs={"progress": False}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in cache_dir().iterdir()] == ["fsdd"]
    assert contents(cache_dir() / "fsdd") == FILES


def test_names_that_cannot_be_located():
    with pytest.raises(ValueError, match="no asset is called 'fsd'; there are: fsdd, espeak-digits"):
        locate("fsd")
    with pytest.raises(ValueError, match=r"--train openslr/librispeech_asr:clean:train\.100"):
        locate("librispeech")


def test_a_mistyped_kilter_data_is_an_error(monkeypatch):
    monkeypatch.setenv("KILTER_DATA", "no/such/folder")
    with pytest.raises(ValueError, match="KILTER_DATA=no/such/folder is not a folder"):
        locate("fsdd")


def test_status_tells_without_fetching(tmp_path, monkeypatch):
    assert status("fsdd") == status("fsdd") | {"present": False, "where": None, "get": "kilter fetch fsdd"}
    assert status("librispeech")["get"] == "--train openslr/librispeech_asr:clean:train.100"
    folder = write_folder(tmp_path / "mine" / "fsdd")
    monkeypatch.setenv("KILTER_DATA", str(tmp_path / "mine"))
    assert status("fsdd")["present"]
    assert status("fsdd")["where"] == str(folder)
    (folder / "0_ann_0.wav").unlink()
    assert status("fsdd")["missing"] == ["0_ann_0.wav"]
    assert not status("fsdd")["present"]
    assert not cache_dir().exists()


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"KILTER_CACHE": "~/k"}, "~/k"),
        ("linux", {}, "~/.cache/kilter"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/kilter"),
        ("darwin", {}, "~/Library/Caches/kilter"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/kilter"),
    ],
)
def test_the_cache_is_where_the_platform_keeps_caches(monkeypatch, platform, environment, expected):
    for name in ("KILTER_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_dir() == Path(expected).expanduser()


def test_every_asset_credits_its_makers():
    for name, asset in ASSETS.items():
        assert asset.name == name
        assert all((asset.title, asset.licence, asset.attribution, asset.page, asset.used_for, asset.sources))


def test_nothing_heavy_is_imported():
    program = "import kilter.data.assets, sys; print({'numpy', 'torch', 'soundfile', 'scipy'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True)
    assert done.stdout.strip() == b"set()"


REAL = Path(os.environ.get("KILTER_DATA") or "nowhere") / "fsdd"


def test_the_manifest_names_the_three_thousand_recordings(monkeypatch):
    monkeypatch.undo()
    checksums = ASSETS["fsdd"].checksums()
    assert len(checksums) == 3_000
    assert all(len(digest) == 64 for digest in checksums.values())
    assert "9_yweweler_49.wav" in checksums


@pytest.mark.skipif(not REAL.is_dir(), reason="KILTER_DATA names no folder with the real recordings")
def test_the_real_recordings_are_whole_in_a_folder_and_through_an_archive(tmp_path, monkeypatch, site):
    monkeypatch.undo()
    assert locate("fsdd").path == REAL

    folder, address = site
    with tarfile.open(folder / "digits.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.add(REAL, TOP)
    monkeypatch.delenv("KILTER_DATA")
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KILTER_FSDD_URL", f"{address}/digits.tar.gz")
    assert len(list(locate("fsdd").path.iterdir())) == 3_000
