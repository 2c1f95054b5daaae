"""Without a library that an extra brings, a command does its work or names the extra."""

import json
import os
import re
import subprocess
import sys

import pytest

from kilter.cli import commands, main
from kilter.core import paper
from kilter.core.installed import extras_of, needs
from tests.commands import made_up
from tests.own import letter_model, recordings
from tests.own_text import encoding_model, writing_model

pytestmark = [pytest.mark.host, pytest.mark.slow]

IMPORTED_AS = {"pillow": "PIL"}
ELSEWHERE = {"peft", "scikit-learn"}
"""Hidden with accelerate; brought by sentence-transformers too, which misses it first."""
OPTIONAL = sorted(
    IMPORTED_AS.get(name, name.replace("-", "_")) for name in {need.name for need in needs() if need.extra} - ELSEWHERE
)
DEEPER = {"PIL", "accelerate", "datasets", "espeakng_loader", "gguf", "trl"}
"""What only training needs, data of the hub, images, speech where no recordings are, or a model of another kind."""

INTERRUPTED = 130  # where training would begin

WITHOUT = """
import contextlib, io, json, sys

hidden = {sys.argv[1], *{"accelerate": ["peft"]}.get(sys.argv[1], [])}  # peft is nowhere without accelerate

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)

from kilter.cli import main
from kilter.core import paper
from kilter.recipes import every
from tests.commands import made_up

def stop(*_):
    raise KeyboardInterrupt

with contextlib.suppress(ModuleNotFoundError):
    from kilter.lab import run
    run._side_by_side = stop
for recipe in every():
    recipe.train = recipe.warm_up = stop
known = paper.cards()
paper.cards = lambda: {**known, "made-up": made_up.PAPER}
sys.modules["kilter.recipes.made_up"] = made_up
for arguments in json.loads(sys.argv[2]):
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, said.getvalue()]))
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """A line for each command, and one for each recipe, on tiny models of all that a user may bring."""
    folder = tmp_path_factory.mktemp("work")
    manifest = recordings(folder / "data", {"a": "", "b": ""})
    ctc, gpt2, encoder = (
        letter_model(folder / "ctc"), writing_model(folder / "gpt2"), encoding_model(folder / "encoder")
    )  # fmt: skip
    (folder / "prompts.txt").write_text("the train\n")
    (folder / "texts.txt").write_text("the train\na town\nall day\n")
    (folder / "a.jsonl").write_text(
        "".join(json.dumps({"prompt": "p", "texts": ["a b c", "a d"], "references": ["a b"]}) + "\n" for _ in "ab")
    )
    (folder / "b.csv").write_text("audio,text\ndata/a.wav,A\ndata/b.wav,B\n")
    texts = ["--model", gpt2, "--prompts", folder / "prompts.txt", "--num-beams", 3, "--max-new-tokens", 3]
    both = [f"{name}={folder / 'texts.txt'}" for name in ("en", "de")]
    texts_of = ["--texts", folder / "texts.txt", "--model", encoder]
    found = [
        ["demo", "--out", folder / "demo"],
        ["list"],
        ["show", "rankgen"],
        ["run", "made-up", "--out", folder / "made-up"],
        ["run", "align-with-purpose", "--preset", "smoke", "--out", folder / "awp"],
        ["run", "diverse-beam-search", "--preset", "smoke", "--out", folder / "dbs"],
        ["run", "rankgen", "--preset", "smoke", "--out", folder / "rankgen"],
        ["run", "dga", "--preset", "smoke", "--out", folder / "dga"],
        ["run", "order-matters", "--preset", "smoke", "--out", folder / "order-matters"],
        ["run", "seqpe", "--preset", "smoke", "--out", folder / "seqpe"],
        ["align", manifest, "--model", ctc],
        ["latency", folder / "b.csv", "--model", ctc, "--against", ctc, "--out", folder / "latency"],
        ["generate", *texts],
        ["diversity", folder / "a.jsonl"],
        ["embeddings", encoder, "--texts", folder / "texts.txt", "--out", folder / "embeddings"],
        ["calibrate", "--model", encoder, "--texts", *both, "--out", folder / "calibrated"],
        ["search", folder / "calibrated-index", *texts_of, "--text", "a town"],
        ["report", folder / "made-up"],
        ["compare", folder / "made-up", folder / "made-up"],
        ["fetch", "fsdd"],
        ["doctor"],
        ["new", "--help"],
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "kilter.recipes.made_up", made_up)
        patch.setattr(paper, "cards", lambda: {"made-up": made_up.PAPER})
        assert main([*map(str, found[3])]) == 0
    assert commands().keys() == {line[0] for line in found}
    return [list(map(str, line)) for line in found]


@pytest.mark.parametrize("hidden", OPTIONAL)
def test_each_command_names_the_extra(hidden: str, lines: list[list[str]]) -> None:
    lines = [
        [part.replace("calibrated", f"without-{hidden}") for part in line] for line in lines
    ]  # it wants a new folder
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, hidden, json.dumps(lines)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    naming = re.compile(rf"kilter: {hidden} is missing: pip install .*\[({'|'.join(extras_of(hidden))})\].* brings it$")
    named = set()
    for line, said in zip(lines, done.stdout.splitlines(), strict=True):
        code, text = json.loads(said)
        if code == 1:  # what torch itself warns of stands above
            assert naming.search(text.strip()), f"{line}: {text}"
            named.add(line[0])
        else:
            assert code in (0, INTERRUPTED), f"{line}: {text}"
    assert named or hidden in DEEPER
