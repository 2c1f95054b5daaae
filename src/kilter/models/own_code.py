"""A function of one's own, named on the command line as `file.py:function`: a scorer, a reward.

Loads nothing heavy itself. Whatever is wrong with the function is told in its own name, with the line.
"""

import inspect
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from math import isfinite
from pathlib import Path
from typing import Any

from kilter.core.errors import suggest

_SHOWN = 40


def names_own(name: str) -> bool:
    """Whether `name` is a Python file, with or without a function.

    Example:
        >>> names_own("mine.py:short"), names_own("mine.py"), names_own("some/model")
        (True, True, False)
    """
    return re.fullmatch(r".+\.py(:\w*)?", name) is not None


def own_function(option: str, name: str) -> tuple[str, str, Any]:
    """Import a file, neighbours of which it may import in turn, and take a function of it.

    Args:
        option: what the function is for, such as `scorer`; errors begin with it.
        name: `file.py:function`.

    Returns:
        `file.py:function` with the whole path, what tells the file's content from others, and the function.

    Raises:
        ValueError: no such file or function, a file that cannot be imported.
    """
    path, function = re.fullmatch(r"(.+\.py)(?::(\w*))?", name).groups()  # type: ignore[union-attr]
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"{option}: {path}: no such file")
    code = file.read_bytes()
    module = _imported(option, file, code)
    found = vars(module)
    own = {key: value for key, value in found.items() if getattr(value, "__module__", "") == module.__name__}
    known = [key for key, value in own.items() if callable(value)]
    if not function:
        raise ValueError(f"{option}: {path}: which function? say {path}:NAME; there are: {', '.join(known)}")
    if function not in found:
        raise ValueError(f"{option}: {path} has no {function!r}{suggest(function, known)}")
    return f"{file.resolve()}:{function}", sha256(code).hexdigest()[:12], found[function]


@dataclass(frozen=True)
class OwnFunction:
    """`(texts, texts, …) -> numbers`, one number for each row of the paired lists; what it returns is checked.

    Attributes:
        option: for which it was given; errors begin with it.
        place: `file.py:function`.
        digest: of the file.
        function: itself.
    """

    option: str
    place: str
    digest: str
    function: Any

    @classmethod
    def load(cls, option: str, name: str, arguments: Sequence[str]) -> "OwnFunction":
        """Take a function of a file, see `own_function`, and check that it can be called.

        Args:
            option: what the function is for, such as `scorer`.
            name: `file.py:function`.
            arguments: what it will be given, by position.

        Raises:
            ValueError: no such file or function, a file that cannot be imported, a function that takes other arguments.
        """
        place, digest, function = own_function(option, name)
        made = cls(option, place, digest, function)
        made._check_arguments(arguments)
        return made

    def _check_arguments(self, arguments: Sequence[str]) -> None:
        wanted = f"({', '.join(arguments)}) -> one number for each"
        if not callable(self.function):
            raise ValueError(
                f"{self.option}: {self.place} is a {type(self.function).__name__}, not a function {wanted}"
            )
        try:
            signature = inspect.signature(self.function)
        except ValueError:  # of something built in
            return
        try:
            signature.bind(*arguments)
        except TypeError as error:
            raise ValueError(
                f"{self.option}: {self.place} takes {signature}, and is given {wanted} ({error})"
            ) from error

    def __call__(self, *columns: Sequence[Any]) -> list[float]:
        """The numbers.

        Raises:
            ValueError: the function raises, or returns another number of numbers, or what is no finite number.
        """
        from kilter.models.devices import out_of_memory

        try:
            found = self.function(*map(list, columns))
        except Exception as error:
            if out_of_memory(error):
                raise  # who gave so much at once can give less
            raise ValueError(f"{self.option}: {self.place} raised {told(error)}") from error
        count = len(columns[0])
        values = found.tolist() if hasattr(found, "tolist") else found
        if isinstance(values, str | bytes | dict) or not hasattr(values, "__iter__"):
            raise ValueError(f"{self.option}: {self.place} must return {count} numbers, got {_short(found)}")
        values = list(values)
        if len(values) != count:
            raise ValueError(
                f"{self.option}: {self.place} was given {count} rows and returned {len(values)} numbers; return one "
                "for each"
            )
        return [self._number(value, row, columns[-1][row]) for row, value in enumerate(values)]

    def _number(self, value: Any, row: int, text: Any) -> float:
        number = float(value) if hasattr(value, "__float__") else float("nan")
        if not isfinite(number):
            raise ValueError(
                f"{self.option}: {self.place} returned {_short(value)} for row {row} ({_short(text)}); return a finite "
                "number for each"
            )
        return number


def _imported(option: str, file: Path, code: bytes) -> Any:
    """The file as a module, under a name that no other has."""
    name = f"kilter_own_{sha256(str(file.resolve()).encode() + code).hexdigest()[:12]}"
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    if (folder := str(file.resolve().parent)) not in sys.path:
        sys.path.append(folder)
    sys.modules[name] = module  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{option}: {file} cannot be imported: {told(error)}") from error
    return module


def told(error: Exception) -> str:
    """An exception and the line it came from, in a file of one's own."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    at = "" if isinstance(error, SyntaxError) else f" ({Path(last.filename).name}, line {last.lineno})"
    return f"{type(error).__name__}: {error}{at}"


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"
