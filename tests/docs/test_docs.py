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
from kilter.lab.files import read_json

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


DRAWN = [name for kind in ("FIGURES", "GROWTH", "SINGLE") for name in getattr(script("figures"), kind)]


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_those_of_the_evidence(name: str) -> None:
    kept = (ROOT / "docs" / "images" / f"{name}.svg").read_text(encoding="utf-8")
    try:
        drawn = script("figures").draw(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert said(kept) == said(drawn), "run: .venv/bin/python scripts/figures.py"


def test_every_figure_has_a_script() -> None:
    assert {file.stem for file in (ROOT / "docs" / "images").glob("*.svg")} == {*DRAWN}


def test_numbers_of_the_evidence_have_a_minus_and_end_where_they_can(builder: ModuleType) -> None:
    page = "\n".join(builder.result(*pair) for slug in cards() for pair in recorded(slug).items())
    cells = [cell.strip() for line in page.splitlines() if line.startswith("|") for cell in line.split("|")]
    numbers = [cell for cell in cells if re.fullmatch(r"[−+-]?[\d.]+( \[.*\])?", cell)]
    assert len(numbers) > 500
    assert not [cell for cell in numbers if "-" in cell]
    assert "94.6 [88.7, 100.0]" in numbers


FILLED = script("docs").pages()


@pytest.mark.parametrize("file", FILLED, ids=lambda file: file.name)
def test_pages_have_the_figures_of_today(builder: ModuleType, file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert builder.filled(text, FILLED[file]) == text, "run: .venv/bin/python scripts/docs.py --fill"


@pytest.mark.parametrize("file", FILLED, ids=lambda file: file.name)
def test_every_measured_number_has_a_source(builder: ModuleType, file: Path) -> None:
    assert not builder.unsourced(file.read_text(encoding="utf-8"))


def test_the_table_of_methods_is_in_the_readme(builder: ModuleType) -> None:
    assert builder.methods("docs/") in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "told",
    [
        "words come 195 ms earlier",
        "for +0.25 of errors",
        "distinct 4-grams ×2.16",
        "27–34 % of the samples",
        "41.8 against 43.3",
        "the price is somewhere in [2.06, 2.26]",
        "195 of the 300 are alike",
        "over 906 words",
        "takes **0.24×** the time",
        "0.06 to 0.24 of the time",
        "an oracle of 36.3 is low",
        "| MMI | 49 | 16 [3, 20] |",
        "−1.5 points",
        "after 3½ minutes",
    ],
)
def test_a_number_without_a_source_is_found(builder: ModuleType, told: str) -> None:
    assert len(builder.unsourced(f"# A page\n\n{told}\n")) >= 1
    for mark in ("published", "setting", "=arms/ctc/metrics/wer"):
        assert not builder.unsourced(f"# A page\n\n<!--{mark}-->\n\n{told}\n\n<!--/-->\n")


@pytest.mark.parametrize(
    "told",
    [
        "a paired difference with its 95 % interval",
        "Python 3.11 to 3.14 and transformers ≥ 5.21",
        "`top_p=0.9` and `0.5 ms`",
        "```text\nawp 906 +505 ms 16 %\n```",
        "groups of 3 and a beam of 6",
        "see [the page](a-1.5.md)",
    ],
)
def test_settings_versions_and_code_are_left_alone(builder: ModuleType, told: str) -> None:
    assert not builder.unsourced(told)


def test_a_pilot_needs_its_script(builder: ModuleType) -> None:
    assert not builder.unsourced("<!--pilot scripts/examples.py-->+1.3 points<!--/-->")
    assert "there is no scripts/gone.py" in builder.unsourced("<!--pilot scripts/gone.py-->+1.3 points<!--/-->")[0]


def test_a_mark_that_would_break_its_paragraph_is_found(builder: ModuleType) -> None:
    assert not builder.unsourced("Words come <!--setting-->40 ms<!--/--> late.")
    assert "begins a line" in builder.unsourced("Words come\n<!--setting-->40 ms<!--/--> late.")[0]


def test_figures_are_filled_in_by_name(builder: ModuleType) -> None:
    record = recorded("align-with-purpose")["align-with-purpose"]
    change, level = record["differences"]["awp"]["wer"], record["arms"]["ctc"]["metrics"]["delay_ms"]["mean"]
    asked = "<!--=differences/awp/wer-->old<!--/-->, <!--=arms/ctc/metrics/delay_ms mean--><!--/-->, `<!--=code-->`"
    said = re.sub("<!--.*?-->", "", builder.filled(asked, "align-with-purpose").replace("`<!--=code-->`", "code"))
    ends = ", ".join(f"{change[end]:+.2f}" for end in ("low", "high")).replace("-", "−")
    assert said == f"{change['mean']:+.2f} points [{ends}], {level:.0f} ms, code"
    apart = builder.quoted(["awp+trim-tail", "less", "awp", "delay_ms"], "align-with-purpose")
    means = [record["arms"][arm]["metrics"]["delay_ms"]["mean"] for arm in ("awp+trim-tail", "awp")]
    assert apart == f"{means[0] - means[1]:+.0f} ms".replace("-", "−")


def test_a_table_has_the_level_of_the_baseline_and_changes_from_it(builder: ModuleType) -> None:
    record = recorded("rankgen")["rankgen"]
    table = builder.comparison(record, ["inbook"], changes=True)
    rows = {row.split(" | ")[0].strip("| "): row.split(" | ")[1].strip("| ") for row in table.splitlines()[2:]}
    assert rows[record["arms"]["untrained"]["label"]].startswith("81.7")
    assert rows[record["arms"]["both"]["label"]].startswith("−6.7")
    assert record["arms"]["nucleus"]["label"] not in rows, "it has no such figure"
    assert f"{record['arms']['perplexity']['label']} (1 of 3 seeds)" in rows


@pytest.mark.parametrize(
    "asked", ["differences/none/wer", "nowhere:arms", "verdicts/arm=awp/why/x", "verdicts/~ctc/why", "levels none"]
)
def test_what_is_not_kept_is_named(builder: ModuleType, asked: str) -> None:
    with pytest.raises(ValueError, match=rf"a-page: <!--=.*{re.escape(asked)}--> is nothing that is kept"):
        builder.filled(f"<!--={'' if ':' in asked else 'align-with-purpose:'}{asked}--><!--/-->", "a-page")


def test_examples_say_how_they_are_made() -> None:
    kept = {file.stem: read_json(file)["command"] for file in (ROOT / "evidence" / "examples").glob("*.json")}
    assert kept == {name: f"python scripts/examples.py {name}" for name in script("examples").EXAMPLES}


def test_the_texts_of_the_readme_are_those_that_are_kept() -> None:
    kept = read_json(ROOT / "evidence" / "examples" / "steam-train.json")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "\n".join("The steam train" + text for text in kept["diverse-beam"]) in readme
    assert all(text.startswith(" is a type of high-speed") for text in kept["beam"])


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
