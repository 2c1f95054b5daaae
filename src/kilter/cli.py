"""The command line: finds the command, and turns what goes wrong into words and an exit code; see `kilter --help`.

A command is a file of `kilter.commands`. Only the one that is asked for is imported, and that imports what it needs, so
that every help text answers at once.
"""

import io
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from kilter.commands import EXIT_CODES
from kilter.core.errors import UsageError, missing, suggest
from kilter.core.look_alikes import LOOK_ALIKES

HELP = """usage: kilter COMMAND [OPTIONS]

Say what "aligned" means; kilter trains, decodes or curates until your sequence model is in kilter.

{commands}

kilter COMMAND --help tells more. --debug after any command shows tracebacks.
{exit_codes}"""

_DEBUG = "KILTER_DEBUG"
_WHAT = re.compile(r'"""kilter \S+: (.+?)\.?(?:"""|\n)')
_PLACE = re.compile(r"^PLACE = (\d+)$", re.MULTILINE)


def commands() -> dict[str, str]:
    """What each command does, in the order of `kilter --help`: read from the files, of which none is imported."""
    found = []
    for file in (Path(__file__).parent / "commands").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        if (what := _WHAT.match(text)) and (place := _PLACE.search(text)):
            found.append((int(place[1]), file.stem, what[1]))
    return {name: what for _, name, what in sorted(found)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code, which is 0 where the reader of what it prints has left."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open to the end)
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors=LOOK_ALIKES)  # a terminal without − or α is no reason to fail
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # here, where it may fail
    except (BrokenPipeError, SystemExit) as stop:
        if not isinstance(stop, BrokenPipeError) and not isinstance(stop.__context__, BrokenPipeError):
            raise  # rich ends the process by itself
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has no reader
        return 0


def _run(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or _DEBUG in os.environ
    if "--debug" in given and arguments is None:
        os.environ[_DEBUG] = "1"  # the pieces of a run that have a process of their own
    given = [argument for argument in given if argument != "--debug"]
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # CTC has no kernel for Apple's GPUs
    try:
        return _dispatch(given)
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again and it goes on where it stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if debug or isinstance(error, BrokenPipeError):
            raise
        ours = not isinstance(error, ValueError | TypeError | OSError | ImportError)
        if _out_of_memory(error):
            print(
                f"kilter: out of memory ({_first_line(error)}); free some, or choose another --device", file=sys.stderr
            )
            return 1
        said = missing(error) if isinstance(error, ModuleNotFoundError) else str(error)
        print(f"kilter: {said if not ours else f'{type(error).__name__}: {said}'}", file=sys.stderr)
        if ours:
            print("kilter: this looks like a bug of ours; add --debug for the traceback", file=sys.stderr)
        return 3 if ours else 2 if isinstance(error, UsageError) else 1


def _out_of_memory(error: Exception) -> bool:
    """Whether it was raised because an allocation failed where no smaller batch could help."""
    if isinstance(error, ValueError | MemoryError) or "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from kilter.models.devices import out_of_memory

    return out_of_memory(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        lines = "\n".join(f"  {name:<10} {what}" for name, what in commands().items())
        print(HELP.format(commands=lines, exit_codes=EXIT_CODES))
        return 0 if given else 2
    if given[0] == "--version":
        import kilter

        print(f"kilter {kilter.__version__}")
        return 0
    name, *rest = given
    if name not in (known := commands()):
        raise UsageError(f"there is no command {name!r}{suggest(name, known)}")
    command = import_module(f"kilter.commands.{name}")
    return command.main(rest) if hasattr(command, "main") else _call(command.COMMAND, name, rest)


def _call(command: type, name: str, rest: list[str]) -> int:
    import tyro

    from kilter.lab.options import check_bounds

    check_bounds(asked := tyro.cli(command, args=rest, prog=f"kilter {name}"))
    return asked()


if __name__ == "__main__":
    sys.exit(main())
