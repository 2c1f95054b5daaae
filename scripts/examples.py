"""Make what the documentation shows of single inputs: python scripts/examples.py [NAME …], into evidence/examples/.

Each takes minutes at most. Timings and trained models are not among them.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kilter.data.assets import locate
from kilter.data.e2e import load_e2e
from kilter.data.prompts import load_prompts
from kilter.data.referenced import Referenced, spread
from kilter.lab.files import write_json, write_rows

FOLDER = Path(__file__).parents[1] / "evidence" / "examples"
MODEL = ["--model", "smollm2", "--device", "cpu"]


def kilter(folder: Path, *arguments: str) -> str:
    """What a command of kilter prints when it is run in a folder."""
    command = [sys.executable, "-m", "kilter.cli", *arguments]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def diversity(folder: Path) -> dict[str, Any]:
    """Three decoders on meaning representations of E2E, after three examples of what is to be done."""
    splits = load_e2e(locate("e2e").path)
    asked = "{0}\nDescription:".format
    shown = "".join(f"{asked(said(item))} {item.references[0]}\n\n" for item in spread(splits.dev, 3))
    items = spread(splits.test, 24)
    write_rows(folder / "e2e.jsonl", [{"prompt": shown + asked(said(i)), "references": i.references} for i in items])
    decoders = {
        "beam": ["--decoder", "beam", "--num-beams", "6"],
        "diverse": ["--num-beams", "6", "--groups", "3"],
        "sampled": ["--decoder", "sample", "--n", "6", "--top-p", "0.9", "--top-k", "0"],
    }
    common = [*MODEL, "--prompts", "e2e.jsonl", "--max-new-tokens", "28"]
    for name, options in decoders.items():
        kilter(folder, "generate", *common, *options, "--out", f"{name}.jsonl")
    files = [f"{name}.jsonl" for name in decoders]
    rows = {name: (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() for name in decoders}
    second = {name: json.loads(lines[1])["outputs"] for name, lines in rows.items()}
    return {
        "inputs": len(items),
        "outputs": 6,
        "table": kilter(folder, "diversity", *files).splitlines(),
        "figures": json.loads(kilter(folder, "diversity", *files, "--json"))["files"],
        "prompt": said(items[1]),
        "shown": {
            name: [one["text"].split("\n\n")[0].strip() for one in first(found)] for name, found in second.items()
        },
    }


def first(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Three of six outputs: the first of each group, where there are three."""
    heads = list({one["group"]: one for one in reversed(outputs)}.values())
    return heads[::-1] if len(heads) == 3 else outputs[:3]


def said(item: Referenced) -> str:
    return item.filled(item.source)


def steam_train(folder: Path) -> dict[str, Any]:
    """One prompt by groups of beams and by plain beam search."""
    (folder / "prompts.txt").write_text("The steam train\n", encoding="utf-8")
    common = ["generate", *MODEL, "--prompts", "prompts.txt", "--max-new-tokens", "14"]
    found = {name: json.loads(kilter(folder, *common, "--decoder", name)) for name in ("diverse-beam", "beam")}
    return {name: [one["text"] for one in row["outputs"]] for name, row in found.items()}


def spanish_prompts(folder: Path) -> dict[str, Any]:
    """How much the preset `words` of Align With Purpose judges."""
    prompts = load_prompts(locate("asterisk-prompts").path, "es")
    return {"recordings": len(prompts), "words": sum(len(prompt.text.split()) for prompt in prompts)}


EXAMPLES = {"diversity": diversity, "steam-train": steam_train, "spanish-prompts": spanish_prompts}


def main() -> None:
    for name in sys.argv[1:] or EXAMPLES:
        with tempfile.TemporaryDirectory() as folder:
            found = EXAMPLES[name](Path(folder))
        FOLDER.mkdir(parents=True, exist_ok=True)
        write_json(FOLDER / f"{name}.json", {"command": f"python scripts/examples.py {name}", **found})


if __name__ == "__main__":
    main()
