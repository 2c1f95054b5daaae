"""Ask a reward what TRL asks it: a function, an async one, or a sequence classifier with its tokenizer.

Whatever it is becomes a plain function that takes columns by name and returns a number or None for each completion: one
way of reading for training, for what is drawn beforehand, and for judging. Loads trl never, transformers when needed.
"""

import asyncio
import functools
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import torch
from torch import nn

from kilter.hosts.wrapped import evaluating, unwrapped

Values = list[float | None]
RewardFunction = Callable[..., Values] | Callable[..., Awaitable[Values]]
"""`(prompts=, completions=, completion_ids=, **columns) -> a number or None for each`, or a promise of it."""

_SHOWN = 40


def name_of(reward: Any) -> str:
    """What TRL calls a reward in its logs.

    Example:
        >>> name_of(len), name_of(functools.partial(max, default=0))
        ('len', 'max')
    """
    if isinstance(reward, nn.Module):
        path = str(getattr(getattr(unwrapped(reward), "config", None), "_name_or_path", ""))
        return path.rstrip("/").rpartition("/")[2] or type(reward).__name__
    while isinstance(reward, functools.partial):
        reward = reward.func
    return getattr(reward, "__name__", type(reward).__name__)


def is_async(reward: Any) -> bool:
    """Whether a call returns a promise; a partial and an object with an async `__call__` count too.

    Example:
        >>> async def late(completions, **_): ...
        >>> is_async(late), is_async(functools.partial(late, 1)), is_async(len)
        (True, True, False)
    """
    while isinstance(reward, functools.partial):
        reward = reward.func
    return inspect.iscoroutinefunction(reward) or inspect.iscoroutinefunction(getattr(reward, "__call__", None))  # noqa: B004


def reward_function(reward: Any, processing_class: Any = None) -> RewardFunction:
    """A reward as a plain function, async if the reward is, with its name in `__name__`.

    A classifier is read as TRL reads it: prompt and completion templated, or joined where they are plain texts, no
    special tokens added, padded on the right, the first of its outputs. It counts in eval mode, on its own device.

    Args:
        reward: what TRL's trainers take but a name: a callable, or a module with a `config` whose forward has `logits`.
        processing_class: the classifier's tokenizer; by default that which was saved with it.

    Raises:
        TypeError: neither; when called, another thing than numbers.
        ValueError: when called, another number of them than of completions.
    """
    if isinstance(reward, str):
        raise TypeError(
            f"reward must be a function or a classifier, got the name {reward!r}; load it first: "
            "AutoModelForSequenceClassification.from_pretrained(name, num_labels=1)"
        )
    if inspect.isclass(reward) or not callable(reward):
        said = f"the class {reward.__name__}" if inspect.isclass(reward) else type(reward).__name__
        raise TypeError(f"reward must be a function or a classifier as TRL takes it, got {said}")
    name = name_of(reward)
    asked: Any = _classifier(reward, processing_class) if isinstance(reward, nn.Module) else reward
    if is_async(asked):

        async def late(*, completions: Sequence[Any], **columns: Any) -> Values:
            return _values(name, await asked(completions=completions, **columns), len(completions))

        return _called(late, name, reward)

    def at_once(*, completions: Sequence[Any], **columns: Any) -> Values:
        return _values(name, asked(completions=completions, **columns), len(completions))

    return _called(at_once, name, reward)


def _called(function: Any, name: str, reward: Any) -> Any:
    """The function under another's name; its signature and code are told of the reward's own."""
    function.__name__ = function.__qualname__ = name
    function.__wrapped__ = reward
    return function


def ask(
    function: RewardFunction,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]],
    columns: Mapping[str, Sequence[Any]],
) -> Values:
    """Ask what a trainer asks, outside of one: with an empty trainer state, and nothing logged.

    Args:
        function: from `reward_function`; an async one is waited for, also where an event loop runs already.
        prompts: of each completion, texts or messages.
        completions: texts, or lists of one message.
        completion_ids: tokens of the completions.
        columns: the others of the data set, by name.
    """
    asked = given(columns) | {"prompts": prompts, "completions": completions, "completion_ids": completion_ids}
    if not is_async(function):
        return function(**asked)  # type: ignore[return-value]

    async def wait() -> Values:
        return await function(**asked)  # type: ignore[misc]

    with ThreadPoolExecutor(1) as thread:  # a notebook has a loop in this one
        return thread.submit(asyncio.run, wait()).result()


def given(columns: Mapping[str, Any]) -> dict[str, Any]:
    """What a trainer gives a reward beside prompts and completions: other columns, its state, ways to log."""
    from transformers import TrainerState

    names = ("prompt", "completion", "completion_ids")
    kept = {name: value for name, value in columns.items() if name not in names}
    return kept | {"trainer_state": TrainerState(), "log_extra": _log_nothing, "log_metric": _log_nothing}


def check_takes(reward: Any, columns: Sequence[str]) -> None:
    """Check that a function can be asked by name, before anything long is done for it.

    Raises:
        TypeError: it takes other arguments.
    """
    if isinstance(inspect.unwrap(reward), nn.Module):
        return
    try:
        signature = inspect.signature(reward)
    except (TypeError, ValueError):  # of something built in
        return
    names = {"prompts": 0, "completions": 0, "completion_ids": 0} | given(dict.fromkeys(columns))
    try:
        signature.bind(**names)
    except TypeError as error:
        raise TypeError(
            f"reward {name_of(reward)} takes {signature}, and is given {', '.join(names)} by name, as TRL does "
            f"({error}); let it end in **columns"
        ) from error


def fingerprint(model: nn.Module) -> str:
    """Tells a model from others, by the first of each of its weights: a whole reading would take long."""
    some = [value.detach().reshape(-1)[:8].double().cpu() for value in model.state_dict().values()]
    return sha256(torch.cat(some).numpy().tobytes()).hexdigest()[:16]


def told_apart(reward: Any) -> str:
    """Tells a reward from others: a classifier by its weights, a function by its own code and what it was made with.

    That is: arguments of a partial, defaults, variables of a closure, attributes of an object, where they are numbers
    or texts; what lies in lists and the like may be a memory of calls.
    """
    reward = inspect.unwrap(reward)
    if isinstance(reward, nn.Module):
        return f"{name_of(reward)} {fingerprint(reward)}"
    state: list[Any] = []
    while isinstance(reward, functools.partial):
        state += [*reward.args, *sorted(reward.keywords.items())]
        reward = reward.func
    state += [getattr(reward, "__defaults__", None), *sorted((getattr(reward, "__kwdefaults__", None) or {}).items())]
    state += [cell.cell_contents for cell in getattr(reward, "__closure__", None) or ()]
    if not inspect.isroutine(reward):
        state += sorted(getattr(reward, "__dict__", {}).items())
    try:
        code = inspect.getsource(reward if inspect.isroutine(reward) else type(reward))
    except (OSError, TypeError):  # typed in, or built in
        code = ""
    return f"{name_of(reward)} {sha256((code + _plain(state)).encode()).hexdigest()[:16]}"


def _plain(state: Sequence[Any]) -> str:
    """Numbers and texts, also those in tuples, of others their type."""
    said = (
        repr(one)
        if one is None or isinstance(one, bool | int | float | str)
        else _plain(one)
        if isinstance(one, tuple)
        else type(one).__name__
        for one in state
    )
    return f"({', '.join(said)})"


def _log_nothing(*_: Any) -> None:
    """There is no trainer whose log it could be."""


def _values(name: str, found: Any, count: int) -> Values:
    """Numbers, or None where there is no score; as many as there are completions."""
    values = found.tolist() if hasattr(found, "tolist") else found
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise TypeError(f"reward {name} must return a list of {count} numbers, got {_short(found)}")
    values = list(values)
    if len(values) != count:
        raise ValueError(f"reward {name} returned {len(values)} numbers for {count} completions; return one for each")
    return [_value(name, value, row) for row, value in enumerate(values)]


def _value(name: str, value: Any, row: int) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"reward {name} returned {_short(value)} for completion {row}; return a number, or None for no score"
        ) from error
    return None if math.isnan(number) else number


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"


def _classifier(model: nn.Module, processing_class: Any) -> Callable[..., Any]:
    """A sequence classifier as a function."""
    inner = unwrapped(model)
    config = getattr(inner, "config", None)
    if config is None:
        raise TypeError(
            f"reward: the module {type(inner).__name__} has no config, so it is no classifier of transformers; give a "
            "function that calls it"
        )
    tokenizer = _tokenizer(config._name_or_path) if processing_class is None else processing_class
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    config.get_text_config().pad_token_id = tokenizer.pad_token_id  # it reads the last token that is no padding

    def classifier(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
        if prompts and isinstance(prompts[0], str):
            texts = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
        else:
            talks = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
            texts = [tokenizer.apply_chat_template(talk, tokenize=False) for talk in talks]
        inputs = tokenizer(
            text=texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
        )
        device = next(inner.parameters()).device
        with evaluating(model), torch.inference_mode():
            return model(**inputs.to(device)).logits[:, 0].float().tolist()

    return classifier


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    from kilter.hosts.loading import reading

    if not name:
        raise ValueError("processing_class: the classifier was made, not loaded, so its tokenizer must be given")
    with reading(name, "a tokenizer of the classifier; give processing_class"):
        return AutoTokenizer.from_pretrained(name)
