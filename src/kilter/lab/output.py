"""What programs read from standard output: UTF-8 with plain line ends, whatever the terminal's encoding."""

import sys
from typing import Any

from kilter.lab.files import json_text


def write_data(text: str) -> None:
    r"""Write as it is; what is meant for people is printed, and may lose what a terminal cannot show.

    Half of a surrogate pair, which UTF-8 has no bytes for, becomes its escape in JSON.

    Example:
        >>> write_data("Łódź\n")
        Łódź
    """
    sys.stdout.flush()
    if (raw := getattr(sys.stdout, "buffer", None)) is None:  # a notebook's
        sys.stdout.write(text)
    else:
        raw.write(text.encode("utf-8", "backslashreplace"))
        raw.flush()


def print_json(value: Any) -> None:
    """Write one JSON value, as `write_json` would into a file."""
    write_data(json_text(value))
