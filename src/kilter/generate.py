"""`kilter generate`: several texts for each of many prompts, by any of kilter's decoders.

Prompts of like length go together, as many as fit into memory. Whole batches are brought to the disk, so that a kill
costs one at most. What a prompt gets depends on the seed and the prompt, not on the batch it is in.
"""

import sys
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

from kilter.core.errors import extra
from kilter.data.text_prompts import TextPrompt, read_prompts
from kilter.lab.files import json_line
from kilter.lab.growing import ELSEWHERE, GrowingRows
from kilter.lab.locks import one_at_a_time
from kilter.lab.progress import bar, quiet_hosts
from kilter.lab.side_by_side import show_texts
from kilter.models.devices import free_memory, out_of_memory

WINDOW = 32
"""Batches whose prompts are sorted by length together; what is printed comes in such pieces."""
MEMORY_SHARE = 0.5
"""Of the free memory, for one batch."""

Row = dict[str, Any]
Batch = list[int]
Work = Callable[[Container[int]], Iterator[list[Row]]]
"""Given the prompts that are done, the rows of the others, a batch at a time."""


def generate(
    *,
    model: str,
    prompts: str,
    decoder: str,
    options: Mapping[str, Any],
    gguf: str | None,
    chat: bool,
    max_new_tokens: int,
    out: Path | None,
    seed: int,
    batch_size: int,
    device: str,
) -> int:
    """What the command does; returns its exit code.

    Raises:
        ValueError: something the user can mend: prompts, options, the model, the scorer or what lies at `out`.
    """
    check_options({**options, "max_new_tokens": max_new_tokens, "batch_size": batch_size})
    if out is not None and Path(prompts).exists() and out.resolve() == Path(prompts).resolve():
        raise ValueError(f"{out}: is where the prompts come from; {ELSEWHERE}")
    rows = read_prompts(prompts)
    extra("transformers", "generation")
    from kilter.data.pretrained import small_model
    from kilter.models.text_decoding import decoding, load_scorer, seeds
    from kilter.models.text_model import TextModel, weights_digest

    quiet_hosts()
    text = TextModel.load(small_model(model), gguf=gguf, device=device)
    ids = text.encode([row.text for row in rows], chat=chat)
    lengths = [len(tokens) for tokens in ids]
    text.check_fit([*zip([row.where for row in rows], lengths, strict=True)], max_new_tokens)
    scorer: Any = load_scorer(options["scorer"], text) if "scorer" in options else None
    write = decoding(text, decoder, options, scorer=scorer, max_new_tokens=max_new_tokens)
    streams = seeds(ids, seed)
    at_once = texts_at_once(options)
    free = free_memory(text.model.device)

    def fits(count: int, length: int) -> bool:
        return free is None or count * text.memory(at_once, length, max_new_tokens) <= MEMORY_SHARE * free

    def write_batch(batch: Batch) -> list[Row]:
        outputs = write([ids[i] for i in batch], [streams[i] for i in batch])
        return [_row(i, rows[i], texts) for i, texts in zip(batch, outputs, strict=True)]

    def work(done: Container[int]) -> Iterator[list[Row]]:
        todo = [batch for batch in batches(lengths, batch_size, fits) if not all(i in done for i in batch)]
        with bar("generating", len(rows), "prompts") as advance:
            advance(len(rows) - sum(map(len, todo)))
            for found in within_memory(todo, write_batch, lambda i: rows[i].where):
                yield [row for row in found if row["index"] not in done]
                advance(len(found))

    if out is None:
        _print(work)
        return 0
    made = {
        "model": _place(model),
        "weights": weights_digest(text.model),
        "prompts": sha256(repr([(row.text, row.kept) for row in rows]).encode()).hexdigest()[:12],
        "decoder": decoder,
        **options,
        "max_new_tokens": max_new_tokens,
        "chat": chat,
        "seed": seed,
        "device": text.model.device.type,
        "dtype": str(text.model.dtype).removeprefix("torch."),
    }
    if hasattr(scorer, "state_dict"):
        made |= {"scorer": _place(options["scorer"]), "scorer_weights": weights_digest(scorer)}
    texts = _keep(GrowingRows(out, "generate", made), rows, work)
    print(f"{out}: {len(rows)} prompts, {texts} texts", file=sys.stderr)
    return 0


def _print(work: Work) -> None:
    """On a terminal a table for each prompt, in the end; else lines in the order of the prompts, as they come."""
    show, done, printed = sys.stdout.isatty(), dict[int, Row](), 0
    try:
        for new in work(()):
            done |= {row["index"]: row for row in new}
            while not show and printed in done:
                sys.stdout.write(json_line(done[printed]))
                printed += 1
            sys.stdout.flush()
    finally:
        if show:
            show_texts(done[i] for i in sorted(done))


def _keep(kept: GrowingRows, rows: Sequence[TextPrompt], work: Work) -> int:
    """Write what an earlier run of the command has not, and in the end all of it in the order of the prompts."""
    with one_at_a_time(kept.out.with_name(f".{kept.out.name}.generate")):
        done = _earlier(kept, rows)
        for new in work(done):
            kept.add(new)
            done |= {row["index"]: row for row in new}
        kept.finish(done[i] for i in range(len(rows)))
    return sum(len(row["outputs"]) for row in done.values())


def check_options(options: Mapping[str, Any]) -> None:
    """Check what can be checked before a model is loaded.

    Raises:
        ValueError: a number outside what it may be, beams that the groups do not divide, more texts asked than come.
    """

    def flag(name: str) -> str:
        return f"--{name.replace('_', '-')} {options[name]}"

    for name, value in options.items():
        if name in _AT_LEAST and not value >= _AT_LEAST[name]:
            raise ValueError(f"{flag(name)}: must be at least {_AT_LEAST[name]}")
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{flag(name)}: must be a finite number")
    if not 0 < options.get("top_p", 1) <= 1:
        raise ValueError(f"{flag('top_p')}: must be above 0 and at most 1 (which keeps every token)")
    if not options.get("temperature", 1) > 0:
        raise ValueError(f"{flag('temperature')}: must be above 0; for the likeliest text take --decoder beam")
    if options.get("num_beams", 0) % options.get("groups", 1):
        raise ValueError(f"{flag('num_beams')} {flag('groups')}: the beams must be a multiple of the groups")
    for name in ("num_beams", "n", "beams"):
        if name in options and options.get("keep", 1) > options[name]:
            raise ValueError(
                f"{flag('keep')} {flag(name)}: no more texts come than that; lower the one or raise the other"
            )


_AT_LEAST = {
    **dict.fromkeys(("num_beams", "groups", "n", "beams", "samples", "block", "keep"), 1),
    **dict.fromkeys(("diversity_penalty", "rank_penalty", "mmi_weight", "top_k"), 0),
    **dict.fromkeys(("max_new_tokens", "batch_size"), 1),
}


def texts_at_once(options: Mapping[str, Any]) -> int:
    """How many texts of one prompt are decoded together.

    Example:
        >>> texts_at_once({"beams": 2, "samples": 10, "keep": 1})
        20
    """
    return options.get("num_beams") or options.get("n") or options["beams"] * options["samples"]


def batches(lengths: Sequence[int], size: int, fits: Callable[[int, int], bool]) -> list[Batch]:
    """Prompts in batches of like length, within windows: the longest first, so that what is too much shows at once.

    Args:
        lengths: of the prompts, in tokens.
        size: prompts in a batch, at most.
        fits: whether so many prompts of such a length fit into memory; one is tried in any case.

    Example:
        >>> batches([3, 9, 4, 8], 2, lambda count, length: True)
        [[1, 3], [2, 0]]
    """
    found: list[Batch] = []
    for start in range(0, len(lengths), WINDOW * size):
        window = sorted(range(start, min(start + WINDOW * size, len(lengths))), key=lambda i: -lengths[i])
        fresh = True
        for i in window:
            if fresh or len(found[-1]) == size or not fits(len(found[-1]) + 1, lengths[found[-1][0]]):
                found.append([])
            found[-1].append(i)
            fresh = False
    return found


def within_memory(
    todo: Sequence[Batch], write: Callable[[Batch], list[Row]], where: Callable[[int], str]
) -> Iterator[list[Row]]:
    """What `write` makes of each batch; one that does not fit into memory is halved, and so are all that follow.

    Raises:
        ValueError: a single prompt does not fit.
    """
    queue = deque(todo)
    most = max(map(len, todo), default=1)
    while queue:
        batch = queue.popleft()
        if len(batch) > most:
            queue.extendleft([batch[most:], batch[:most]])
            continue
        try:
            found = write(batch)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                raise ValueError(
                    f"{where(batch[0])}: does not fit into memory even alone; lower --max-new-tokens or the number of "
                    "beams or samples, shorten the prompt, or choose another --device"
                ) from error
            most = len(batch) // 2
            queue.appendleft(batch)
        else:
            yield found


def _place(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).exists() else name


def _row(index: int, prompt: TextPrompt, outputs: list[Row]) -> Row:
    return {"index": index, **prompt.kept, "prompt": prompt.text, "outputs": outputs}


def _earlier(kept: GrowingRows, rows: Sequence[TextPrompt]) -> dict[int, Row]:
    found = {}
    for number, row in enumerate(kept.earlier(), start=1):
        index = row.get("index")
        if not (isinstance(index, int) and 0 <= index < len(rows) and row.get("prompt") == rows[index].text):
            raise ValueError(f"{kept.out}, line {number}: belongs to none of the prompts; remove it, or {ELSEWHERE}")
        found[index] = row
    return found
