"""kilter's decoders by name, on prompts given as token ids: what stands behind `kilter generate --decoder`."""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from transformers import PreTrainedConfig

from kilter import decoding as methods
from kilter.hosts.loading import Unloadable, reading, source_of
from kilter.hosts.sentences import load_sentences
from kilter.hosts.settings import generate_as_asked
from kilter.models.decoders import DECODERS, Row, called
from kilter.models.names import check_model_name
from kilter.models.own_code import OwnFunction, names_own
from kilter.models.text_model import TextModel

LOG_PROB = "log-prob"

Output = dict[str, Any]
"""One text: `text`, `score` (what it is ranked by), `log_prob`, `group`, `ranker_score`."""

_DIGITS = 6


def seeds(prompts: Sequence[Sequence[int]], seed: int) -> list[int]:
    """What each prompt samples with: it depends on `seed`, the prompt, and how often that stood there before.

    Example:
        >>> one, two, again = seeds([[1, 2], [3], [1, 2]], seed=0)
        >>> len({one, two, again}), seeds([[3], [1, 2]], seed=0) == [two, one]
        (3, True)
    """
    found, times = [], Counter[tuple[int, ...]]()
    for prompt in map(tuple, prompts):
        found.append(int.from_bytes(blake2b(repr((seed, times[prompt], prompt)).encode(), digest_size=7).digest()))
        times[prompt] += 1
    return found


def decoding(
    text: TextModel,
    decoder: str | Row,
    options: Mapping[str, Any],
    *,
    scorer: Any = None,
    max_new_tokens: int,
    unique: bool = False,
) -> Callable[[Sequence[Sequence[int]], Sequence[int]], list[list[Output]]]:
    """What writes the texts of a batch, best first, given the token ids of its prompts and a seed for each.

    Args:
        text: the model that writes.
        decoder: a key of `kilter.models.decoders.DECODERS`, or a row of one's own.
        options: that decoder's, all of them.
        scorer: of a decoder that has one, as `load_scorer` gives it.
        max_new_tokens: of each text, at most.
        unique: of all texts that are found for a prompt, the first to keep that differ; there may be fewer.
    """
    row = DECODERS[decoder] if isinstance(decoder, str) else decoder
    found = options[row.counted]
    keep = options.get("keep") or found
    settings: dict[str, Any] = {"num_beam_groups": 1, "diversity_penalty": 0.0, "do_sample": row.samples}
    settings |= called({name: options[name] for name in row.asked})
    settings["num_return_sequences"] = _candidates(options, found, max_new_tokens) if unique else keep
    if settings["num_beam_groups"] == 1:
        settings["diversity_penalty"] = 0.0  # one group has no other to differ from
    own = called({name: options.get(name) for name in row.own})
    if unique and keep < found and "order" in own:
        own["order"] = own["order"] or "rounds"  # as where only these are returned
    kind = row.load()
    taken = inspect.signature(kind).parameters
    own |= {"scorer": _all_alike if scorer is None else scorer} if "scorer" in taken else {}

    def method(seeds: Sequence[int]) -> Any:
        streams = [torch.Generator(text.model.device).manual_seed(seed) for seed in seeds]
        drawn = {"tokenizer": text.tokenizer, "generator": streams}  # each prompt has a stream
        return kind(**own, **{name: value for name, value in drawn.items() if name in taken})

    def write(rows: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[list[Output]]:
        given = text.batch(rows)
        found = generate_as_asked(
            text.model,
            tokenizer=text.tokenizer,
            **given,
            **settings,
            custom_generate=method(seeds),
            max_new_tokens=max_new_tokens,
            pad_token_id=text.tokenizer.pad_token_id,
            return_dict_in_generate=True,
        )
        outputs = _outputs(found, text.texts(found.sequences, given["input_ids"].shape[1]), row)
        each = settings["num_return_sequences"]
        several = [outputs[start : start + each] for start in range(0, len(outputs), each)]
        return [_distinct(one)[:keep] for one in several] if unique else several

    return write


def _candidates(options: Mapping[str, Any], found: int, max_new_tokens: int) -> int:
    """How many texts of a prompt there are to choose from: after a single block, no more than were drawn."""
    single = max_new_tokens <= options.get("block", 0)
    return min(found, options["samples"]) if single else found


def _distinct(outputs: Sequence[Output]) -> list[Output]:
    """Of equal texts the first."""
    first: dict[str, Output] = {}
    for output in outputs:
        first.setdefault(output["text"], output)
    return list(first.values())


def load_scorer(name: str, text: TextModel) -> Any:
    """What `--scorer` names, as `kilter.decoding.BestOfN` takes it.

    Raises:
        ValueError: it is not `log-prob`, nor a folder or hub id of a RankGen scorer or of a cross-encoder, nor a
            function of one's own that can be used.
        ModuleNotFoundError: a cross-encoder without sentence-transformers.
    """
    if name == LOG_PROB:
        return "log_prob"
    if names_own(name):
        return OwnFunction.load("scorer", name, ("prefixes", "continuations"))
    try:
        check_model_name(name, f"a RankGen scorer or of a cross-encoder, nor {LOG_PROB}", known=[LOG_PROB])
    except ValueError as error:
        raise ValueError(f"scorer: {error}") from error
    try:
        with reading(name, f"a RankGen scorer or of a cross-encoder, nor {LOG_PROB}"):
            config, _ = PreTrainedConfig.get_config_dict(source_of(name, "config.json"))
        if any("ForSequenceClassification" in kind for kind in config.get("architectures") or ()):
            found = load_sentences("CrossEncoder", name, str(text.model.device))
            if found.num_labels != 1:
                raise ValueError(f"it gives {found.num_labels} numbers for a pair, and a scorer one")
            return found
        return methods.RankGenScorer.from_pretrained(name).to(text.model.device)
    except Unloadable as error:
        raise ValueError(f"scorer: {error}") from error
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"scorer: {name} is not {LOG_PROB}, nor a folder or hub id of a RankGen scorer or of a cross-encoder, "
            f"nor a function of your own as FILE.py:FUNCTION ({str(error).splitlines()[0]})"
        ) from error


def _all_alike(_: Sequence[Any], continuations: Sequence[Any]) -> torch.Tensor:
    """The scorer of plain sampling."""
    return torch.zeros(len(continuations))


def _outputs(found: Any, texts: Sequence[str], row: Row) -> list[Output]:
    ranked = found.ranker_scores if "scorer" in row.own else None
    scores = found.sequences_log_probs if row.samples and ranked is None else found.sequences_scores
    columns = zip(
        texts,
        _numbers(scores),
        _numbers(found.sequences_log_probs),
        found.group_indices.tolist(),
        [None] * len(texts) if ranked is None else _numbers(ranked),
        strict=True,
    )
    return [dict(zip(("text", "score", "log_prob", "group", "ranker_score"), row, strict=True)) for row in columns]


def _numbers(values: torch.Tensor) -> list[float]:
    return [round(value, _DIGITS) for value in values.tolist()]
