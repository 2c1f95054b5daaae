"""Build the documentation: figures into the text, tables from cards and evidence, then the site, then its maths.

python scripts/docs.py         everything, into site/
python scripts/docs.py --fill  only the figures and tables in README.md and docs/*.md (a test says when one is old)

What a page quotes stands between `<!--=WHAT-->` and `<!--/-->`; docs/new-paper.md says what can be asked for.
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
from kilter.lab.files import read_json
from kilter.lab.numbers import bracketed, fixed

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


def result(name: str, summary: Mapping[str, Any]) -> str:
    """One recorded run: its table, its verdicts, and how to repeat it."""
    metrics = summary["metrics"]
    rows = [(seeded(arm, summary), arm["metrics"], False) for arm in summary["arms"].values()] + [
        (f"*{name} − {summary['baseline']}*", row, True) for name, row in summary["differences"].items()
    ]
    cells = [
        [label, *(bracketed(row.get(key, {}), item, change=change) for key, item in metrics.items())]
        for label, row, change in rows
    ]
    data, versions = summary["data"], ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    return "\n\n".join(
        [
            f"## {summary['title']}" + f" ({summary['preset']})" * (summary["preset"] != "full") + f" {{#{name}}}",
            table(["", *columns(metrics)], cells),
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


CODE = r"(?P<code>(?P<fence>```+|~~~+).*?(?P=fence)|`[^`\n]+`)"
FILLED = re.compile(CODE + r"|<!--=(?P<what>.*?)-->(?P<text>.*?)<!--/-->", re.DOTALL)
TOLD = re.compile(CODE + r"|<!--(?:=.*?|published|setting|pilot (?P<script>[\w./]+))-->.*?<!--/-->", re.DOTALL)
SILENT = re.compile(
    r"<!--.*?-->|\$\$.*?\$\$|\$[^$\n]+\$|\]\([^)]*\)|\{[^}\n]*\}|<https?:[^>]*>"
    r"|(?:Python|torch|transformers|accelerate|trl|top-p)(?: until)? (?:≥ )?\d+\.\d+(?: to \d+\.\d+)?",
    re.DOTALL,
)
_N = r"(?<![\d.,])\d(?:[\d,]*\d)?(?:\.\d+)?"
_COUNTED = (
    "clips|recordings|utterances|strings|sentences|words|texts|samples|outputs|inputs|prompts|references|captions|images"
    "|judgements|passages|pairs|people|novels|parameters|seeds"
)
MEASURED = re.compile(
    rf"(?!95 % (?:bootstrap|confidence|interval)){_N}\s?%|{_N}\s?×|×\s?\d|(?<![\w.–-])[+−±]\s?\d"
    rf"|\[[+−]?\d[\d.,]*, [+−]?\d[\d.]*\]|½"
    rf"|{_N} (?:ms|µs|s|seconds|minutes|hours|points?|BLEU|nats|times|MB|GB)\b"
    rf"|{_N} of (?:the |all |its )?\d|{_N} of (?:the|its) (?:time|cost|samples|words)\b|{_N} against \d"
    rf"|{_N}(?: \w+)? (?:{_COUNTED})\b|(?<![\w.-])\d+\.\d+(?![\w.]*\w)|^\|.*\| *\**{_N}\**(?: \[.*?\])? *(?:\||$)"
)
"""A number as results have it: a share, a multiple, a change, an interval, a time, a count, a cell of a table."""


BREAKS = re.compile(r"^[ \t]*(?:[-*] )?<!--(?:=|published|setting).*?-->.*?<!--/-->", re.MULTILINE)


def filled(text: str, page: str) -> str:
    """A page with the figures and tables of today between its marks; `page` names its own evidence."""

    def fill(found: re.Match[str]) -> str:
        if found["code"]:
            return found[0]
        try:
            return f"<!--={found['what']}-->{quoted(found['what'].split(), page)}<!--/-->"
        except (LookupError, OSError, TypeError, ValueError) as error:
            raise ValueError(f"{page}: <!--={found['what']}--> is nothing that is kept ({error!r})") from error

    return FILLED.sub(fill, text)


def quoted(asked: list[str], page: str) -> str:
    """What a mark asks for: the table of methods, lines, a table of a run, or one figure; `FILE:` may come first."""
    if asked == ["methods"]:
        return f"\n{methods('docs/')}\n"
    file, colon, first = asked[0].rpartition(":")
    record = read_json(kept(file if colon else page))
    if first in ("levels", "changes"):
        return f"\n\n{comparison(record, asked[1:], changes=first == 'changes')}\n\n"
    if first == "shown":
        rows = [[name * (text == texts[0]), text] for name, texts in record["shown"].items() for text in texts]
        return f"\n\n{table(['', ''], rows)}\n\n"
    if first == "lines":
        return "\n\n```text\n{}\n```\n\n".format("\n".join(line.rstrip() for line in at(record, asked[1])))
    if asked[1:2] == ["less"]:
        return difference(record, first, *asked[2:])
    return figure(record, first, asked[1:])


def kept(name: str) -> Path:
    """The file that holds a run's figures, or those of single inputs."""
    run = ROOT / "evidence" / f"{name}.json"
    return run if run.exists() else ROOT / "evidence" / "examples" / f"{name}.json"


def at(record: Any, path: str) -> Any:
    """What stands at a path of keys.

    In a list, `key=value,key=value` picks the one item that has these, and `~words` the one that says so
    (`_` is a space).

    Raises:
        LookupError: There is no such thing, or more than one.
    """
    for part in path.split("/"):
        if not isinstance(record, list):
            record = record[part]
        elif part.isdecimal():
            record = record[int(part)]
        else:
            items = [one for one in record if fits(one, part)]
            if len(items) != 1:
                raise LookupError(f"{len(items)} items with {part}")
            record = items[0]
    return record


def fits(item: Any, part: str) -> bool:
    if part.startswith("~"):
        return part[1:].replace("_", " ") in item
    return all(str(item.get(key)) == value for key, _, value in (pair.partition("=") for pair in part.split(",")))


def figure(record: Mapping[str, Any], path: str, form: list[str]) -> str:
    """One figure: an estimate (without what `mean`, `bare` and `unsigned` leave out), a number, or a text."""
    value = at(record, path)
    if isinstance(value, Mapping):
        metric, change = record["metrics"][path.split("/")[-1]], path.startswith("differences/")
        found = {"mean": value["mean"]} if "mean" in form else value
        unit = "points" if change and metric["unit"] == "%" else metric["unit"]
        number, bracket, ends = bracketed(found, metric, change=change and "unsigned" not in form).partition(" [")
        number = number.lstrip("−") if "unsigned" in form else number
        return f"{number}{f' {unit}' if unit and 'bare' not in form else ''}{bracket}{ends}"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def difference(record: Mapping[str, Any], arm: str, other: str, name: str, *form: str) -> str:
    """How far the means of two arms are apart; the evidence has intervals against the baseline only."""
    means = [at(record, f"arms/{one}/metrics/{name}/mean") for one in (arm, other)]
    metric = record["metrics"][name]
    number = fixed(means[0] - means[1], metric["digits"], signed="unsigned" not in form)
    number = number.lstrip("−") if "unsigned" in form else number
    unit = "points" if metric["unit"] == "%" else metric["unit"]
    return f"{number} {unit}" if "bare" not in form else number


def comparison(record: Mapping[str, Any], names: list[str], *, changes: bool) -> str:
    """The arms of a run by some metrics: their levels, or the baseline's level and how far the others are from it."""
    metrics = {name: record["metrics"][name] for name in names}
    rows = []
    for key, arm in record["arms"].items():
        changed = changes and key != record["baseline"]
        found = record["differences"].get(key, {}) if changed else arm["metrics"]
        cells = [bracketed(found.get(name, {}), metric, change=changed) for name, metric in metrics.items()]
        if any(found.get(name) for name in names):
            rows.append([seeded(arm, record), *cells])
    return table(["", *columns(metrics)], rows)


def seeded(arm: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """The label of an arm, and how many seeds it has where these are fewer than the run's."""
    seeds, all_seeds = len(arm["seeds"]), record["settings"]["seeds"]
    return arm["label"] + f" ({seeds} of {all_seeds} seeds)" * (seeds < all_seeds)


def columns(metrics: Mapping[str, Any]) -> list[str]:
    return [f"{item['label']} ({item['unit']})" if item["unit"] else item["label"] for item in metrics.values()]


def unsourced(text: str) -> list[str]:
    """The lines of a page with a measured number that is neither filled in nor marked as what it is.

    Marked, from `<!--published-->`, `<!--setting-->` or `<!--pilot scripts/NAME.py-->` to `<!--/-->`, are figures of a
    paper, options, and what a script shows that is still there. Code is left alone.
    """
    gone = [
        found["script"] for found in TOLD.finditer(text) if found["script"] and not (ROOT / found["script"]).exists()
    ]
    breaks = [
        f"a mark begins a line, which ends the paragraph: {found[0]!r}"
        for found in BREAKS.finditer(re.sub(CODE, "", text, flags=re.DOTALL))
    ]
    for pattern in (TOLD, SILENT):
        text = pattern.sub(lambda found: "\n" * found[0].count("\n"), text)
    lines = [
        f"line {number}: {found[0]!r} in {line.strip()!r}"
        for number, line in enumerate(text.splitlines(), 1)
        for found in MEASURED.finditer(line)
    ]
    return [*lines, *breaks, *(f"pilot: there is no {script}" for script in gone)]


def pages() -> dict[Path, str]:
    """The pages that are filled, with the name of each one's own evidence."""
    return {ROOT / "README.md": "align-with-purpose", **{file: file.stem for file in sorted(PAGES.glob("*.md"))}}


def fill_pages() -> None:
    faults = []
    for file, page in pages().items():
        text = file.read_text(encoding="utf-8")
        if (new := filled(text, page)) != text:
            file.write_text(new, encoding="utf-8")
        faults += [f"{file.relative_to(ROOT)}, {fault}" for fault in unsourced(new)]
    if faults:
        sys.exit("numbers without a source (docs/new-paper.md says how to give one):\n" + "\n".join(faults))


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
    fill_pages()
    if "--fill" in sys.argv[1:]:
        return
    write_tables()
    subprocess.run([Path(sys.executable).with_name("zensical"), "build", "--clean", "--strict"], cwd=ROOT, check=True)
    draw_maths(ROOT / "site")


if __name__ == "__main__":
    main()
