"""What `--reward` and `--judge` name: a function of one's own, or a sequence classifier as people keep it.

Either becomes what TRL's trainers take, so that one reward trains, judges, and stands in a script of one's own.
"""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from kilter.core.errors import suggest
from kilter.models.names import check_model_name
from kilter.models.own_code import names_own, own_function, told

_MODULE = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<function>\w+)")


@dataclass(frozen=True)
class Reward:
    """A reward by its name.

    Attributes:
        place: `file.py:function`, `module:function`, or the classifier's folder or id.
        digest: of the file or of the first weights; what was drawn with another is not mixed with this.
        function: `(prompts=, completions=, completion_ids=, **columns) -> numbers or None`, as TRL takes it; async if
            it was written so. Numbers are checked, and an exception is told with the line it comes from.
    """

    place: str
    digest: str
    function: Any


def load_reward(option: str, name: str, *, columns: Sequence[str] = (), device: str = "cpu") -> Reward:
    """What `--reward` names.

    Args:
        option: what it is for, `reward` or `judge`; errors begin with it.
        name: `file.py:function`, `module:function`, or a folder or hub id of a sequence classifier with its tokenizer.
        columns: of the data beside the prompt, which the function is given too.
        device: of a classifier.

    Raises:
        ValueError: there is none, it cannot be imported or loaded, it takes other arguments than TRL gives, or the
            classifier has another number of outputs than 1.
    """
    from kilter.hosts.trl_rewards import check_takes, reward_function

    found = _own(option, name)
    if found is None:
        return _classifier(option, name, device)
    place, digest, function = found
    if inspect.isclass(function) or not callable(function):
        raise ValueError(f"{option}: {place} is a {type(function).__name__}, not a function (completions, **columns)")
    try:
        check_takes(function, columns)
    except TypeError as error:
        raise ValueError(f"{option}: {error}") from error
    return Reward(place, digest, reward_function(_telling(option, place, function)))


def _own(option: str, name: str) -> tuple[str, str, Any] | None:
    """Place, digest and function; None where the name is no function's."""
    if names_own(name):
        return own_function(option, name)
    if not (parts := _MODULE.fullmatch(name)):
        return None
    try:
        module = import_module(parts["module"])
    except Exception as error:
        hint = "; of a file say FILE.py:FUNCTION" if isinstance(error, ModuleNotFoundError) else ""
        raise ValueError(f"{option}: {parts['module']} cannot be imported: {told(error)}{hint}") from error
    if (function := parts["function"]) not in vars(module):
        known = [key for key, value in vars(module).items() if inspect.isroutine(value)]
        raise ValueError(f"{option}: {parts['module']} has no {function!r}{suggest(function, known)}")
    file = getattr(module, "__file__", None)  # what is built in has none
    code = Path(file).read_bytes() if file else b""
    return name, sha256(code).hexdigest()[:12], vars(module)[function]


def _telling(option: str, place: str, function: Any) -> Any:
    """The function, whose exceptions name it and their line."""
    from kilter.hosts.trl_rewards import is_async
    from kilter.models.devices import out_of_memory

    def wrong(error: Exception) -> Exception:
        return error if out_of_memory(error) else ValueError(f"{option}: {place} raised {told(error)}")

    if is_async(function):

        @wraps(function)
        async def late(**columns: Any) -> Any:
            try:
                return await function(**columns)
            except Exception as error:
                raise wrong(error) from error

        return late

    @wraps(function)
    def at_once(**columns: Any) -> Any:
        try:
            return function(**columns)
        except Exception as error:
            raise wrong(error) from error

    return at_once


def _classifier(option: str, name: str, device: str) -> Reward:
    """A sequence classifier with one output, and its tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from kilter.hosts.loading import Unloadable, load_model, reading, source_of
    from kilter.hosts.trl_rewards import fingerprint, reward_function

    kinds = "a sequence classifier, nor a function as FILE.py:FUNCTION or MODULE:FUNCTION"
    try:
        check_model_name(name, kinds)
        with reading(name, kinds):
            model = load_model(AutoModelForSequenceClassification, name).to(device).eval()
            tokenizer = AutoTokenizer.from_pretrained(source_of(name, "tokenizer_config.json", "tokenizer.json"))
    except (ValueError, Unloadable) as error:
        raise ValueError(f"{option}: {error}") from error
    if model.config.num_labels != 1:
        raise ValueError(
            f"{option}: {name} gives {model.config.num_labels} numbers for a text, and a reward is one; name a "
            "function that chooses among them"
        )
    return Reward(name, fingerprint(model), reward_function(model, tokenizer))
