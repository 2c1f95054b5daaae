"""What pip knows of kilter: which libraries each extra brings, where kilter came from, and so how to get an extra.

Standard library only, and what is slow of it (`importlib.metadata`) when it is needed: every command starts here.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(>=(?P<least>[\d.]+))?.*?(extra == ['\"](?P<extra>\w+)['\"])?$")

_COMES_WITH = {
    "PIL": "pillow",
    "filelock": "transformers",
    "huggingface_hub": "transformers",
    "markupsafe": "jinja2",
    "sklearn": "scikit-learn",
    "tokenizers": "transformers",
    "yaml": "pyyaml",
}
"""Modules that kilter imports and whose own name is none of its requirements."""


class Need(NamedTuple):
    """One line of kilter's requirements; `extra` is empty for what the core needs."""

    name: str
    least: str
    extra: str


def needs() -> Iterator[Need]:
    """What kilter's extras and its core need, by the metadata of the installed kilter; nothing where there is none.

    Example:
        >>> next(need.extra for need in needs() if need.name == "jiwer")
        'speech'
    """
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("kilter") or ()
    except PackageNotFoundError:  # run from its source, never installed
        return
    for line in lines:
        found = _REQUIREMENT.match(line)
        if found and found["extra"] != "all" and not found["name"].startswith("kilter"):
            yield Need(found["name"].lower(), found["least"] or "0", found["extra"] or "")


def extras_of(module: str) -> list[str]:
    """The extras that bring a module by its import name; empty for one that kilter does not know, or the core's.

    Example:
        >>> extras_of("jiwer"), extras_of("torch")
        (['speech'], [])
    """
    top = module.partition(".")[0]
    name = _COMES_WITH.get(top, top.replace("_", "-").lower())
    return sorted({need.extra for need in needs() if need.name == name and need.extra})


def hint(*extras: str) -> str:
    """The command that gets kilter with these extras, from where this one came.

    pip keeps the address it was told (`direct_url.json`, PEP 610). Where it kept none, the repository's is left to the
    reader: kilter is on no index.
    """
    wanted = f"[{','.join(extras)}]" if extras else ""
    record = _record()
    url = record.get("url", "git+<URL of the repository>")
    if "dir_info" in record:
        from urllib.request import url2pathname

        folder = Path(url2pathname(urlsplit(url).path))
        edited = "-e " if record["dir_info"].get("editable") else ""
        return f'pip install {edited}"{"." if folder == Path.cwd() else folder}{wanted}"'
    if vcs := record.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}" + (f"@{vcs['requested_revision']}" if vcs.get("requested_revision") else "")
    return f'pip install "kilter{wanted} @ {url}"'


def _record() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        text = distribution("kilter").read_text("direct_url.json")
    except PackageNotFoundError:
        text = None
    checkout = Path(__file__).parents[3]
    if text is None and (checkout / "pyproject.toml").is_file():
        return {"url": checkout.as_uri(), "dir_info": {"editable": True}}
    return json.loads(text or "{}")


def numbers(version: str) -> list[int]:
    """The first three numbers of a version, to compare by.

    Example:
        >>> numbers("5.21") <= numbers("5.21.0rc1") < numbers("5.24")
        True
    """
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
