"""Asterisk prompts, from packages built here: nothing is downloaded."""

import gzip
import json
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from kilter.data.assets import cache_dir, locate
from kilter.data.asterisk import LANGUAGES, fetch_prompts
from kilter.data.manifests import load_speech

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not on this machine")
TRANSCRIPT = """\ufeff; Core sounds

added: Added.
digits/1: one
beep: [a beep]
silence/1: (1 second of silence)
letters/at: at [@]
for: Pour (emphase)
text-only: Never recorded.
is:
"""


def build(name, root, into):
    (root / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (root / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: x\n"
    )
    subprocess.run(["dpkg-deb", "-b", root, into / f"{name}_1_all.deb"], check=True, capture_output=True)


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """A machine whose `apt-get download` copies packages built here for one language, "es"."""
    packages, tools = tmp_path / "packages", tmp_path / "tools"
    packages.mkdir()
    tools.mkdir()
    text = tmp_path / "text/usr/share/doc/asterisk-core-sounds-es"
    text.mkdir(parents=True)
    (text / "core-sounds-es.txt.gz").write_bytes(gzip.compress(TRANSCRIPT.encode()))
    (text / "changelog.gz").write_bytes(gzip.compress(b"old"))
    build("asterisk-core-sounds-es", tmp_path / "text", packages)

    sounds = tmp_path / "sounds/usr/share/asterisk/sounds/es_MX_f_Allison"
    for prompt in ("added", "digits/1", "beep", "silence/1", "letters/at", "for", "is", "sound-only"):
        (sounds / prompt).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(sounds / f"{prompt}.wav", np.full(800, 0.1), 8_000)
    build("asterisk-core-sounds-es-wav", tmp_path / "sounds", packages)

    (tools / "apt-get").write_text(
        "#!/bin/sh\nshift\nfor name; do\n"
        f'cp "{packages}/${{name}}_1_all.deb" . 2>/dev/null && continue\n'
        'echo "E: Unable to locate package $name" >&2; exit 100\ndone\n'
    )
    (tools / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")


@needs_dpkg
@pytest.mark.usefixtures("apt")
def test_prompts_whose_words_are_sure_are_kept(tmp_path):
    manifest = fetch_prompts(["es"], tmp_path / "out", progress=False)

    assert [json.loads(line) for line in manifest.read_text("utf-8").splitlines()] == [
        {"audio": "es/added.wav", "text": "Added.", "language": "es"},
        {"audio": "es/digits/1.wav", "text": "one", "language": "es"},
        {"audio": "es/letters/at.wav", "text": "at", "language": "es"},
    ]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == [
        "1.wav",
        "added.wav",
        "at.wav",
        "manifest.jsonl",
    ]
    assert [row["text"] for row in load_speech(str(manifest), rate=16_000).rows] == ["Added.", "one", "at"]
    assert fetch_prompts(["es"], tmp_path / "out", progress=False) == manifest  # and again


@needs_dpkg
@pytest.mark.usefixtures("apt")
def test_what_apt_says_is_passed_on_and_nothing_half_made_stays(tmp_path, monkeypatch):
    with pytest.raises(ConnectionError, match=r"Unable to locate package asterisk-core-sounds-it[^?]*apt-get update"):
        fetch_prompts(["es", "it"], tmp_path / "out", progress=False)
    assert not (tmp_path / "out/manifest.jsonl").exists()

    monkeypatch.delenv("KILTER_DATA", raising=False)
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConnectionError):
        locate("asterisk-prompts", progress=False)
    assert not list(cache_dir().iterdir())


@needs_dpkg
@pytest.mark.usefixtures("apt")
def test_the_asset_is_filled_from_debian(tmp_path, monkeypatch):
    monkeypatch.delenv("KILTER_DATA", raising=False)
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("kilter.data.asterisk.LANGUAGES", ("es",))
    found = locate("asterisk-prompts", progress=False)
    assert found.source == "Debian's packages asterisk-core-sounds"
    assert (found.path / "manifest.jsonl").is_file()
    assert locate("asterisk-prompts", progress=False).source == "the cache"


def test_without_apt_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"apt-get and dpkg-deb not found: .* \(a container will do\)"):
        fetch_prompts(LANGUAGES, tmp_path)


def test_an_unknown_language_is_named(tmp_path):
    with pytest.raises(ValueError, match="no Asterisk prompts in de; there are en, es, fr, it, ru"):
        fetch_prompts(["en", "de"], tmp_path)
