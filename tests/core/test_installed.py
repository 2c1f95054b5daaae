"""What is not installed is said with the extra that brings it, and with a command that finds kilter."""

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kilter.core import installed
from kilter.core.errors import extra, missing
from kilter.core.installed import extras_of, hint, needs, numbers

ROOT = Path(__file__).parents[2]
CORE = {need.name for need in needs() if not need.extra}
ELSEWHERE = {"pytest", "tests"}

HIDING = """
import importlib.abc, sys
from kilter.core.installed import needs

hidden = {need.name.replace("-", "_") for need in needs() if need.extra}

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
from kilter.cli import main
"""


def imported(tree: ast.AST) -> set[str]:
    """The modules of others that a file imports, anywhere in it, by `import` or by `extra`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
        elif (
            isinstance(node, ast.Call) and ast.unparse(node.func) == "extra" and isinstance(node.args[0], ast.Constant)
        ):
            found.add(node.args[0].value)
    return {name.partition(".")[0] for name in found} - {"kilter"} - sys.stdlib_module_names


@pytest.mark.parametrize("file", sorted(ROOT.glob("src/kilter/**/*.py")), ids=lambda file: file.stem)
def test_every_module_of_others_is_the_cores_or_has_an_extra(file: Path) -> None:
    unknown = [
        name
        for name in imported(ast.parse(file.read_text(encoding="utf-8")))
        if not extras_of(name) and installed._COMES_WITH.get(name, name.lower()) not in CORE
    ]
    assert not unknown, "neither a requirement in pyproject.toml, nor brought by one (core/installed.py)"


LISTENING = [
    "demo --out {0}/run",
    "align {0} --model {0}",
    "latency {0} --model {0} --against {0}",
    "run align-with-purpose --model a/b --train a.csv --eval b.csv",
]
WRITING = [
    "generate --prompts {0}/prompts.txt --model smollm2",
    "diversity {0}/texts.jsonl",
    "run diverse-beam-search --preset smoke --out {0}/dbs",
    "run rankgen --preset smoke --out {0}/rankgen",
]


@pytest.mark.parametrize(
    ("command", "wanted"), [*((one, "speech") for one in LISTENING), *((one, "generation") for one in WRITING)]
)
def test_without_the_extras_a_command_names_the_one_it_needs(command: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("The train\n")
    (tmp_path / "texts.jsonl").write_text('{"prompt": "a", "outputs": [{"text": "b c d"}, {"text": "e"}]}\n')
    done = subprocess.run(
        [sys.executable, "-c", f"{HIDING}sys.exit(main(sys.argv[1:]))", *command.format(tmp_path).split()],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 1, done.stderr
    said = done.stderr.strip().splitlines()[-1]
    assert re.search(rf"^kilter: \w+ is missing: pip install .*\[{wanted}\].* brings it$", said), done.stderr
    assert "Traceback" not in done.stderr


def test_only_what_python_itself_says_is_put_in_other_words() -> None:
    one = ModuleNotFoundError("No module named 'soundfile'", name="soundfile")
    assert re.fullmatch(r'soundfile is missing: pip install .*"\S*\[speech\]\S*" brings it', missing(one))
    several = missing(ModuleNotFoundError("No module named 'numpy'", name="numpy"))
    assert "[speech]" in several
    assert "[generation]" in several
    for error in (
        ModuleNotFoundError("No module named 'theirs'", name="theirs"),
        ModuleNotFoundError("No module named 'kilter.nothing'", name="kilter.nothing"),
        ModuleNotFoundError("numpy is missing: read this", name="numpy"),
        ModuleNotFoundError("no name at all"),
    ):
        assert missing(error) == str(error)


def test_an_extra_that_is_asked_for_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ModuleNotFoundError, match=r"numpy") as error:
        extra("numpy", "generation")
    assert "[generation]" in str(error.value)
    assert "[speech]" not in str(error.value)
    assert missing(error.value) == str(error.value)


def test_without_a_name_every_extra_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"sentence-transformers>=5; extra == '{name}'" for name in ("generation", "embeddings", "all")]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"\[embeddings\].* or pip install .*\[generation\].* brings it$"):
        extra("sentence_transformers")


@pytest.mark.parametrize(
    ("record", "command"),
    [
        ({"url": "HERE", "dir_info": {"editable": True}}, 'pip install -e ".[speech]"'),
        ({"url": "HERE", "dir_info": {}}, 'pip install ".[speech]"'),
        ({"url": "file:///else%20where", "dir_info": {"editable": True}}, 'pip install -e "PATH[speech]"'),
        (
            {"url": "https://host/kilter", "vcs_info": {"vcs": "git", "commit_id": "1f"}},
            'pip install "kilter[speech] @ git+https://host/kilter"',
        ),
        (
            {"url": "https://host/kilter", "vcs_info": {"vcs": "git", "commit_id": "1f", "requested_revision": "v1"}},
            'pip install "kilter[speech] @ git+https://host/kilter@v1"',
        ),
        ({"url": "https://host/k.whl", "archive_info": {}}, 'pip install "kilter[speech] @ https://host/k.whl"'),
        (None, 'pip install "kilter[speech] @ git+<URL of the repository>"'),
    ],
)
def test_the_command_finds_kilter_where_it_came_from(
    record: dict[str, Any] | None, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(installed, "__file__", str(tmp_path / "a" / "b" / "c" / "d.py"))  # in no checkout
    text = record and json.dumps({**record, "url": record["url"].replace("HERE", tmp_path.as_uri())})
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: SimpleNamespace(read_text=lambda _: text))
    assert hint("speech") == command.replace("PATH", str(Path("/else where")))


def test_a_checkout_that_was_never_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    for name in ("distribution", "requires"):
        monkeypatch.setattr(importlib.metadata, name, nothing)
    monkeypatch.chdir(ROOT)
    assert hint("speech", "generation") == 'pip install -e ".[speech,generation]"'
    assert hint() == 'pip install -e "."'
    error = ModuleNotFoundError("No module named 'numpy'", name="numpy")
    assert missing(error) == str(error), "nothing is known of the extras then"


def test_no_message_has_a_command_of_its_own() -> None:
    """`pip install kilter…` is written by `hint` alone: a text of one's own would not know where kilter came from."""
    own = [
        str(file.relative_to(ROOT))
        for file in ROOT.glob("src/kilter/**/*.py")
        if file.name != "installed.py" and re.search(r"pip install[^\n]*kilter", file.read_text(encoding="utf-8"))
    ]
    assert not own


def test_numbers() -> None:
    assert numbers("5.9") < numbers("5.21") < numbers("5.21.1.dev0")
