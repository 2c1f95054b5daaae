"""One `.tar.gz` over https into one folder, each file checked before it is written.

Only files that the caller's checksums name are written, under those names: what else the archive holds, and where
its paths point, does not matter. `2013/test.tsv` names a file whose path ends so, and `task2_test.gz` a file test.gz
below a folder task2, where it is not a file of that whole name: archives tell files apart by their folders.
"""

import gzip
import hashlib
import tarfile
import tempfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import closing
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

TIMEOUT = 5.0
CHUNK = 1 << 18
RETRY = "Try again, or let KILTER_DATA name a folder that holds the data."


class Unavailable(Exception):
    """This source cannot serve here and now; the next one may."""


def download(
    url: str,
    checksums: dict[str, str],
    folder: Path,
    *,
    title: str,
    progress: bool,
    names: Sequence[tuple[str, str]] = (),
) -> None:
    """Fetch an archive and unpack the files named in `checksums` into `folder`.

    Of `names` each pair is a file's name in the archive, with its folders where others are called the same, and ours.

    Raises:
        Unavailable: Nobody answers at `url`, or not with the archive.
        ConnectionError: The transfer broke off.
        ValueError: The archive is no `.tar.gz`, is cut short, lacks a file, or a file's SHA-256 differs.
    """
    with tempfile.TemporaryFile(dir=folder.parent) as archive:
        with closing(_stream(url, title, progress)) as chunks:
            archive.writelines(chunks)
        archive.seek(0)
        unpack(archive, url, dict(checksums), folder, dict(names))


def _stream(url: str, title: str, progress: bool) -> Generator[bytes, None, None]:
    try:
        response = urlopen(Request(url, headers={"User-Agent": "kilter"}), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        raise Unavailable(f"{url} answered {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise Unavailable(f"{url} did not answer ({getattr(error, 'reason', error)})") from error
    size, received = int(response.headers.get("Content-Length", 0)), 0
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    console = Console(stderr=True)
    try:
        with response, Progress(*columns, console=console, transient=True, disable=not progress) as bar:
            task = bar.add_task(title, total=size or None)
            while chunk := response.read(CHUNK):
                received += len(chunk)
                bar.update(task, completed=received)
                yield chunk
        if received < size:
            raise HTTPException(f"{size / 1e6:.1f} MB were announced")
    except (OSError, HTTPException) as error:
        raise ConnectionError(f"{url}: broke off after {received / 1e6:.1f} MB ({error}). {RETRY}") from error


def unpack(archive: IO[bytes], url: str, wanted: dict[str, str], folder: Path, ours: dict[str, str]) -> None:
    """Write the files that the manifest names, whatever folders the archive wraps them in, and nothing else.

    Raises:
        ValueError: The archive, which is called by its `url`, is no `.tar.gz`, is cut short, lacks a file, or a file's
            SHA-256 differs.
    """
    try:
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            for member in tar:
                *folders, last = PurePosixPath(member.name).parts
                theirs = ("/".join([*folders[place:], last]) for place in range(len(folders) + 1))
                last = next((ours[name] for name in theirs if name in ours), last)
                ends = ("/".join([*folders[place:], last]) for place in range(len(folders), -1, -1))
                name = next((name for name in (*ends, *(f"{top}_{last}" for top in folders)) if name in wanted), None)
                content = tar.extractfile(member) if member.isfile() and name else None
                if content is None or name is None:
                    continue
                data = content.read()
                if hashlib.sha256(data).hexdigest() != wanted.pop(name):
                    raise ValueError(f"{url}: {member.name} is corrupt (its SHA-256 is not the manifest's). {RETRY}")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{url}: cut short, or not a .tar.gz ({error}). {RETRY}") from error
    if wanted:
        raise ValueError(f"{url}: lacks {len(wanted)} files, the first {min(wanted)}. {RETRY}")
