"""The documentation keeps up with the code: README table, card pages, links, examples in prose."""

import ast
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import torch

from kilter.core.paper import cards
from kilter.lab.evidence import ledger, recorded

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return script("docs")


def said(svg: str) -> dict[str, list[str]]:
    """All words and numbers of a figure by kind of element, whatever matplotlib drew it."""
    found: dict[str, list[str]] = {}
    for element in ElementTree.fromstring(svg).iter():
        if (tag := element.tag.rpartition("}")[2]) in ("title", "desc", "text"):
            found.setdefault(tag, []).append("".join(element.itertext()))
    return found


@pytest.mark.parametrize("name", script("figures").FIGURES)
def test_figures_are_those_of_the_evidence(name: str) -> None:
    kept = (ROOT / "docs" / "images" / f"{name}.svg").read_text(encoding="utf-8")
    assert said(kept) == said(script("figures").draw(name)), "run: .venv/bin/python scripts/figures.py"


def test_every_figure_has_a_script_or_is_of_a_single_input() -> None:
    of_runs = {"align-with-purpose-utterance", "word-times-latency"}
    assert {file.stem for file in (ROOT / "docs" / "images").glob("*.svg")} == of_runs | {*script("figures").FIGURES}


def test_numbers_of_the_evidence_have_a_minus_and_end_where_they_can(builder: ModuleType) -> None:
    page = "\n".join(builder.result(name, record) for slug in cards() for name, record in recorded(slug).items())
    cells = [cell.strip() for line in page.splitlines() if line.startswith("|") for cell in line.split("|")]
    numbers = [cell for cell in cells if re.fullmatch(r"[−+-]?[\d.]+( \[.*\])?", cell)]
    assert len(numbers) > 500
    assert not [cell for cell in numbers if "-" in cell]
    assert "94.6 [88.7, 100.0]" in numbers


def test_figures_and_tables_of_the_pages_are_of_today(builder: ModuleType) -> None:
    for file, page in builder.pages().items():
        text = file.read_text(encoding="utf-8")
        assert builder.filled(text, page) == text, f"{file.name}: run .venv/bin/python scripts/docs.py --fill"
        assert not builder.unsourced(text), file.name


def test_every_card_is_in_the_index(builder: ModuleType) -> None:
    index = builder.papers()
    for card in cards().values():
        assert f"{{#{card.slug}}}" in index
        assert all(f".{name}]" in index for name in card.names)


def test_the_evidence_page_opens_with_every_claim(builder: ModuleType) -> None:
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    assert page.index('--8<-- "ledger.md"') < page.index("## ")
    rows = builder.claims().splitlines()[2:]
    assert len(rows) == len(ledger())
    for card in cards().values():
        assert all(any(f"| {claim.text} |" in row for row in rows) for claim in card.claims)
    anchors = set(re.findall(r"\(#([\w-]+)\)", "\n".join(rows)))
    assert anchors == {file.stem for file in (ROOT / "evidence").glob("*.json")}, "each leads to a section of the page"
    sections = "\n".join(builder.result(*pair) for slug in cards() for pair in recorded(slug).items())
    assert anchors == set(re.findall(r"^## .*\{#([\w-]+)\}$", sections, re.M))


@pytest.mark.parametrize(
    "latex", [r"\mathcal L = \frac1B \sum_b x_b", r"\hat a = \arg\max_v p(v)", r"j \sim \mathcal U"]
)
def test_maths_is_drawn_without_leftovers(builder: ModuleType, latex: str) -> None:
    pytest.importorskip("latex2mathml", reason="the docs group is not installed (make tools)")
    drawn = builder.mathml(latex, "block")
    assert drawn.startswith("<math")
    assert "\\" not in drawn


def test_links_between_pages_lead_somewhere() -> None:
    dead = [
        f"{page.name}: {link}"
        for page in PAGES
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert not dead


def snippet(page: str, starts: str) -> str:
    """The fenced Python of a page that contains `starts`."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
    return next(block for block in blocks if starts in block)


def functions(code: str) -> dict[str, Callable[..., torch.Tensor]]:
    """The functions defined in a snippet, without running the rest of it."""
    tree = ast.parse(code)
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names: dict[str, Callable[..., torch.Tensor]] = {}
    exec(compile(tree, "docs", "exec"), names)
    return names


def test_quiet_start_as_documented() -> None:
    quiet_start = functions(snippet("docs/align-with-purpose.md", "def quiet_start"))["quiet_start"]
    alignments = torch.arange(1, 9).view(1, 1, 8)
    assert quiet_start(alignments).tolist() == [[[0, 0, 0, 0, 0, 6, 7, 8]]]
    assert alignments[0, 0, 0] == 1, "the alignments it was given stay as they are"


def test_prefer_a_spelling_as_documented() -> None:
    prefer = functions(snippet("docs/align-with-purpose.md", "def prefer"))["prefer"]
    assert prefer(torch.tensor([[[9, 9, 0, 1]]])).tolist() == [[[5, 5, 0, 1]]]


def test_five_lines_are_five_lines() -> None:
    code = snippet("docs/align-with-purpose.md", "def quiet_start")
    assert len(code[: code.index("\n\nawp")].splitlines()) <= 5
