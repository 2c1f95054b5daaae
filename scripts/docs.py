"""Build the documentation: tables from cards and evidence, then the site, then its maths.

python scripts/docs.py           everything, into site/
python scripts/docs.py --readme  only the table of methods in README.md (a test says when it is out of date)
"""

import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from kilter.core.glossary import AXES, INPUTS
from kilter.core.paper import Claim, Paper, cards
from kilter.lab.numbers import bracketed

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs"
TABLES = ROOT / "build" / "docs"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def evidence() -> dict[str, dict[str, Any]]:
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(ROOT.glob("evidence/*.json"))}


def family(card: Paper) -> str:
    """The family whose `__init__` exports the card's names."""
    names = [path for path in ROOT.glob("src/kilter/*/*.py") if f'\n    slug="{card.slug}"' in path.read_text("utf-8")]
    return names[0].parent.name


def verdict(found: dict[str, Any] | None) -> str:
    if found is None:
        return "no evidence yet"
    return "; ".join(dict.fromkeys(item["verdict"] for item in found["verdicts"])) or "no verdict"


def page(card: Paper) -> str:
    """Where a reader goes for a method: its own page if it has one, else its section of the paper index."""
    return f"{card.slug}.md" if (PAGES / f"{card.slug}.md").exists() else f"papers.md#{card.slug}"


def methods(prefix: str = "") -> str:
    """The table of methods, with links that start with `prefix`."""
    found = evidence()
    rows = [
        [
            f"[`{card.slug}`]({prefix}{page(card)})",
            card.lever,
            card.purpose,
            f"[{card.year}]({card.url})",
            verdict(found.get(card.slug)),
        ]
        for card in cards().values()
    ]
    return table(["method", "lever", "what it does", "paper", "verdict"], rows)


def claim(item: Claim) -> str:
    size = f" by at least {item.by:g}" if item.by else ""
    guard = f", while `{item.guard[0]}` rises by at most {item.guard[1]:g}" if item.guard else ""
    return f"`{item.metric}` {item.better} for `{item.arm}` than for `{item.baseline}`{size}{guard}"


def papers() -> str:
    found = evidence()
    sections = [methods()]
    for card in cards().values():
        home = f"kilter.{family(card)}"
        names = ", ".join(f"[`{name}`][{home}.{name}]" for name in card.names)
        sections += [
            f"## {card.title} {{#{card.slug}}}",
            f"{', '.join(card.authors)}. {card.venue}, {card.year}. <{card.url}>",
            f"**{card.purpose[0].upper()}{card.purpose[1:]}.** Public names, in `{home}`: {names}.",
            "Claim tested: " + "; ".join(map(claim, card.claims)) + f". Verdict: {verdict(found.get(card.slug))}.",
            f"```bibtex\n{card.bibtex()}\n```",
        ]
    return "\n\n".join(sections)


def result(summary: dict[str, Any]) -> str:
    """One recorded run: its table, its verdicts, and how to repeat it."""
    metrics = summary["metrics"]
    columns = [f"{item['label']} ({item['unit']})" if item["unit"] else item["label"] for item in metrics.values()]
    rows = [(arm["label"], arm["metrics"], False) for arm in summary["arms"].values()] + [
        (f"*{name} − {summary['baseline']}*", row, True) for name, row in summary["differences"].items()
    ]
    cells = [
        [label, *(bracketed(row.get(key, {}), item, change=change) for key, item in metrics.items())]
        for label, row, change in rows
    ]
    data, versions = summary["data"], ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    return "\n\n".join(
        [
            f"## {summary['title']}" + (f" ({summary['preset']})" if summary["preset"] != "full" else ""),
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
    modules = [file.stem for file in sorted(ROOT.glob(f"src/kilter/{floor}/*.py")) if file.stem[0] != "_"]
    return "\n\n".join(f"::: kilter.{floor}.{module}" for module in modules)


def write_tables() -> None:
    TABLES.mkdir(parents=True, exist_ok=True)
    recorded = "\n\n".join(map(result, evidence().values())) or "Nothing has been recorded yet."
    texts = {"papers": papers(), "evidence": recorded, "glossary": glossary()}
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
