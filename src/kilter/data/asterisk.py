"""Recorded telephone prompts with their transcripts, one speaker a language, from Debian's packages.

Source: the asterisk-core-sounds packages, by name through `apt-get download`; nothing is installed and root is not
needed. The departure: prompts whose transcript leaves open what is said (tones, silences, remarks in brackets)
are left out.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

LANGUAGES = ("en", "es", "fr", "it", "ru")
PACKAGE = "asterisk-core-sounds"


def fetch_prompts(languages: Iterable[str], folder: str | os.PathLike[str], *, progress: bool = True) -> Path:
    """Write `<language>/<prompt>.wav` (8 kHz) and `manifest.jsonl` with rows of `audio`, `text` and `language`.

    Returns:
        The path of the manifest, which `kilter.data.manifests.load_speech` reads.

    Raises:
        ValueError: A language is not among `LANGUAGES`.
        FileNotFoundError: `apt-get` or `dpkg-deb` is not on this machine.
        ConnectionError: apt could not download; its own words are in the message.
    """
    from rich.console import Console
    from rich.progress import track

    languages = list(languages)
    if unknown := sorted(set(languages) - set(LANGUAGES)):
        raise ValueError(f"no Asterisk prompts in {', '.join(unknown)}; there are {', '.join(LANGUAGES)}")
    if missing := [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]:
        raise FileNotFoundError(
            f"{' and '.join(missing)} not found: the Asterisk prompts come from Debian's packages {PACKAGE}-*; "
            "fetch them on a Debian or Ubuntu machine (a container will do) and copy the folder"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    steps = track(languages, "Fetching prompts", console=Console(stderr=True), transient=True, disable=not progress)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
        rows = [row for language in steps for row in _prompts(language, folder, Path(scratch) / language)]
        partial = Path(scratch) / "manifest.jsonl"
        partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
        return partial.replace(folder / "manifest.jsonl")


def parse_transcript(text: str) -> dict[str, str]:
    r"""The sentence of each prompt, from lines `prompt: sentence`.

    Example:
        >>> parse_transcript("; English\nadded: Added.\nbeep: [a tone]\nletters/at: at [@]\nfor: Pour (emphase)")
        {'added': 'Added.', 'letters/at': 'at'}
    """
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith(";"))
    stripped = ((key.strip(), re.sub(r"\[.*?\]|<.*?>", "", sentence).strip()) for key, _, sentence in lines)
    return {key: said for key, said in stripped if re.search(r"\w", said) and "(" not in said}


def _prompts(language: str, folder: Path, scratch: Path) -> Iterator[dict[str, str]]:
    """Unpack one language into `folder`; yield its rows."""
    scratch.mkdir()
    packages = [f"{PACKAGE}-{language}", f"{PACKAGE}-{language}-wav"]
    _run("apt-get", "download", *packages, cwd=scratch)
    for package in scratch.glob("*.deb"):
        _run("dpkg-deb", "-x", package.name, ".", cwd=scratch)

    (transcript,) = scratch.glob("usr/share/doc/*/core-sounds-*.txt.gz")
    (recordings,) = scratch.glob("usr/share/asterisk/sounds/*")
    for prompt, sentence in parse_transcript(gzip.decompress(transcript.read_bytes()).decode("utf-8-sig")).items():
        recording, audio = recordings / f"{prompt}.wav", f"{language}/{prompt}.wav"
        if recording.is_file():
            (folder / audio).parent.mkdir(parents=True, exist_ok=True)
            recording.replace(folder / audio)
            yield {"audio": audio, "text": sentence, "language": language}


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConnectionError(
            f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}\n"
            "Check the connection; if apt does not know the package, its lists are old: `sudo apt-get update`."
        )
