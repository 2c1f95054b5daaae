"""The models of the task: the language model that writes, the encoder that becomes a ranker, and it as it is given."""

from typing import TYPE_CHECKING, Any

from kilter.tasks.continuations.sources import Passages

if TYPE_CHECKING:
    from kilter.tasks.continuations.ranking import TextScorer


def generator(name: str, passages: Passages, device: str) -> tuple[Any, Any]:
    """Causal language model and tokenizer: smollm2, random, a folder or a hub id.

    Raises:
        ValueError: it is no causal model.
    """
    if name == "random":
        from kilter.models.tiny_text import tiny_lm, tiny_tokenizer

        return tiny_lm(tokenizer := tiny_tokenizer(passages.texts())), tokenizer
    if name == "smollm2":
        from kilter.data.pretrained import small_lm

        return small_lm(device=device)
    from kilter.models.text_model import TextModel

    found = TextModel.load(name, device=device)
    if found.encoder_decoder:
        raise ValueError(f"generator: {name} is an encoder–decoder model; give a causal one")
    return found.model, found.tokenizer


def fresh_ranker(name: str, passages: Passages, seed: int, *, compat: bool) -> Any:
    """A `RankGenScorer` before any training: minilm, random, a folder or a hub id."""
    from kilter.decoding import RankGenScorer

    return RankGenScorer(*_encoder(name, passages, seed), compat=compat)


def _encoder(name: str, passages: Passages, seed: int) -> tuple[Any, Any]:
    if name == "random":
        from kilter.models.tiny_text import tiny_encoder, tiny_tokenizer

        return tiny_encoder(tokenizer := tiny_tokenizer(passages.texts()), seed), tokenizer
    if name == "minilm":
        from kilter.data.pretrained import minilm

        return minilm()
    return load_encoder(name)


def load_encoder(name: str) -> tuple[Any, Any]:
    """An encoder that reads both ways, or that half of an encoder–decoder, and its tokenizer: of a folder or a hub id.

    Raises:
        ValueError: there is none, or it is not whole.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

    from kilter.hosts.loading import load_model, reading, source_of

    with reading(name, "an encoder that reads both ways, with its tokenizer"):
        config = AutoConfig.from_pretrained(source_of(name, "config.json"))
        kind = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
        tokens = source_of(name, "tokenizer_config.json", "tokenizer.json")
        return load_model(kind, name, unused=("pooler.",)), AutoTokenizer.from_pretrained(tokens)


def as_given(name: str, passages: Passages, device: str) -> "TextScorer":
    """The encoder as a scorer without any training, by the cosine of its vectors."""
    if name == "random":  # no sentence-transformers model
        return fresh_ranker(name, passages, 0, compat=False)
    from kilter.tasks.continuations.ranking import Similarity

    if name == "minilm":
        from kilter.data.pretrained import minilm_folder

        name = str(minilm_folder())
    return Similarity(name, device)
