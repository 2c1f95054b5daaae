"""Build the documentation: tables from cards and evidence, then the site, then its maths.

python scripts/docs.py           everything, into site/
python scripts/docs.py --readme  only the table of methods in README.md (a test says when it is out of date)
"""

import html
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kilter.core.glossary import AXES, INPUTS
from kilter.core.paper import Paper, cards, method_file
from kilter.lab.evidence import Line, claims_of, ledger, recorded, verdict

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs"
TABLES = ROOT / "build" / "docs"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def page(card: Paper) -> str:
    """Where a reader goes for a method: its own page if it has one, else its section of the paper index."""
    return f"{card.slug}.md" if (PAGES / f"{card.slug}.md").exists() else f"papers.md#{card.slug}"


def methods(prefix: str = "") -> str:
    """The table of methods, with links that start with `prefix`."""
    rows = [
        [
            f"[`{card.slug}`]({prefix}{page(card)})",
            card.lever,
            card.purpose,
            f"[{card.year}]({card.url})",
            verdict(card.slug),
        ]
        for card in cards().values()
    ]
    return table(["method", "lever", "what it does", "paper", "verdict"], rows)


def claims() -> str:
    """The ledger: every claim of every method, tried or not."""
    rows = [
        [
            f"[`{line.method}`]({page(cards()[line.method])})",
            line.claim,
            line.published or "–",
            line.ours or "–",
            outcome(line),
        ]
        for line in ledger()
    ]
    return table(["method", "claim", "published", "ours", "verdict"], rows)


def outcome(line: Line, at: str = "") -> str:
    """The verdict on a claim, with a link to where the page `at` has it; or why there is none."""
    if line.verdict:
        return f"**{line.verdict}** on [{line.where}]({at}#{line.file})"
    return f"not tried: {line.reason or 'no evidence yet'}"


def papers() -> str:
    sections = [methods()]
    for card in cards().values():
        home = f"kilter.{method_file(card.slug).parent.name}"
        names = ", ".join(f"[`{name}`][{home}.{name}]" for name in card.names)
        sections += [
            f"## {card.title} {{#{card.slug}}}",
            f"{', '.join(card.authors)}. {card.venue}, {card.year}. <{card.url}>",
            f"**{card.purpose[0].upper()}{card.purpose[1:]}.** Public names, in `{home}`: {names}.",
            f"Verdict: {verdict(card.slug)}. What it claims, and what was found of it here:",
            claimed(card),
            f"```bibtex\n{card.bibtex()}\n```",
        ]
    return "\n\n".join(sections)


def claimed(card: Paper) -> str:
    """The claims of one method as a list."""
    found: dict[str, list[str]] = {}
    for line in claims_of(card):
        found.setdefault(line.claim, []).append(outcome(line, "evidence.md"))
    return "\n".join(f"- {text}: {'; '.join(said)}" for text, said in found.items())


def number(value: dict[str, float | None], digits: int) -> str:
    if value.get("low") is None:
        return f"{value['mean']:.{digits}f}"
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def result(name: str, summary: Mapping[str, Any]) -> str:
    """One recorded run: its table, its verdicts, and how to repeat it."""
    metrics = summary["metrics"]
    columns = [f"{item['label']} ({item['unit']})" if item["unit"] else item["label"] for item in metrics.values()]
    rows = [(arm["label"], arm["metrics"]) for arm in summary["arms"].values()] + [
        (f"*{name} − {summary['baseline']}*", row) for name, row in summary["differences"].items()
    ]
    cells = [
        [label, *(number(row[key], item["digits"]) if key in row else "–" for key, item in metrics.items())]
        for label, row in rows
    ]
    data, versions = summary["data"], ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    return "\n\n".join(
        [
            f"## {summary['title']}" + f" ({summary['preset']})" * (summary["preset"] != "full") + f" {{#{name}}}",
            table(["", *columns], cells),
            f"Intervals: {summary['interval']}.",
            *(f"**{item['verdict']}**: {item['claim']} ({item['why']})" for item in summary["verdicts"]),
            *summary["notes"],
            f"Data: [{data['title']}]({data['page']}), {data['licence']}; {data['attribution']}.",
            f"Repeat: `{summary['command']}` ({versions}; {summary['hardware']}).",
        ]
    )


def glossary() -> str:
    names = table(["name", "what it is"], [[f"`{name}`", meaning] for name, meaning in INPUTS.items()])
    axes = table(["axis", "what it is"], [[f"`{name}`", meaning] for name, meaning in AXES.items()])
    return f"{names}\n\n{axes}"


def api(floor: str) -> str:
    """What `mkdocstrings` is to document: the modules of one floor or family."""
    files = [file for file in sorted(ROOT.glob(f"src/kilter/{floor}/**/*.py")) if file.stem[0] != "_"]
    modules = (".".join(file.relative_to(ROOT / "src").with_suffix("").parts) for file in files)
    return "\n\n".join(f"::: {module}" for module in modules)


def write_tables() -> None:
    TABLES.mkdir(parents=True, exist_ok=True)
    found = [result(*pair) for slug in cards() for pair in recorded(slug).items()]
    texts = {"papers": papers(), "ledger": claims(), "glossary": glossary()}
    texts["evidence"] = "\n\n".join(found) or "Nothing has been recorded yet."
    texts |= {f"api-{file.stem}": api(file.stem) for file in PAGES.glob("api/*.md")}
    for name, text in texts.items():
        (TABLES / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def readme(text: str) -> str:
    """README.md with the table of methods of today."""
    begin, end = "<!-- methods:begin -->", "<!-- methods:end -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{methods('docs/')}\n{end}{rest.split(end)[1]}"


def mathml(latex: str, display: str) -> str:
    """MathML, which every browser draws by itself, of maths as docstrings write it."""
    from latex2mathml.converter import convert  # in the docs group only

    for unknown, known in {r"\arg": r"\operatorname{arg}", r"\sim": "∼"}.items():
        latex = latex.replace(unknown, known)
    drawn = convert(html.unescape(latex), display=display)
    return re.sub(r'<mi mathvariant="script">([A-Z])</mi>', lambda letter: f"<mi>{script(letter[1])}</mi>", drawn)


def script(letter: str) -> str:
    """𝒜 for A: browsers ignore `mathvariant`. Unicode has eight of these letters elsewhere."""
    return dict(zip("BEFHILMR", "ℬℰℱℋℐℒℳℛ", strict=True)).get(letter) or chr(0x1D49C + ord(letter) - ord("A"))


def draw_maths(site: Path) -> None:
    for file in site.rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        drawn = re.sub(
            r'<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>',
            lambda found: mathml(found[2], "block" if found[1] == "div" else "inline"),
            text,
            flags=re.DOTALL,
        )
        if drawn != text:
            file.write_text(drawn, encoding="utf-8")


def main() -> None:
    if "--readme" in sys.argv[1:]:
        file = ROOT / "README.md"
        file.write_text(readme(file.read_text(encoding="utf-8")), encoding="utf-8")
        return
    write_tables()
    subprocess.run([Path(sys.executable).with_name("zensical"), "build", "--clean", "--strict"], cwd=ROOT, check=True)
    draw_maths(ROOT / "site")


if __name__ == "__main__":
    main()
