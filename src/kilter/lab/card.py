"""The model card that goes with every saved model: what it is, how to load it, what it does, whom to cite."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kilter
from kilter.lab.files import read_json, write_whole
from kilter.lab.numbers import bracketed

if TYPE_CHECKING:
    from kilter.core.paper import Paper
    from kilter.lab.recipe import Provenance, Recipe

CARD = """---
{front}---

# {title}

{label}. Trained with kilter {version}, method `{slug}`: {purpose}.

## Load it

```python
{load}
```

## Where it comes from

- **base model**: {base}
{base_licence}- **training data**: {data}
{settings}{note}
## Citation

```bibtex
{bibtex}
```
"""
FOLDER = 'folder = "."  # where this card is, or its id once it is on a hub'
LOAD = {
    "ctc": """from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer
{extra}
{folder}
model = AutoModelForCTC.from_pretrained(folder)
features, tokenizer = AutoFeatureExtractor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)""",
    "seq2seq": """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
{extra}
{folder}
model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)""",
    "causal": """from transformers import AutoModelForCausalLM, AutoTokenizer
{extra}
{folder}
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)""",
    "positions": """from transformers import AutoTokenizer

from kilter.hosts.transformers import load
{extra}
{folder}
model, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)""",
    "images with positions": """from kilter.hosts.transformers import load
{extra}
{folder}
model = load(folder)""",
    "images": """from transformers import AutoModelForImageClassification
{extra}
{folder}
model = AutoModelForImageClassification.from_pretrained(folder)""",
    "sorter": """from kilter.models.sorter import Sorter
{extra}
{folder}
sorter = Sorter.load(folder)  # sorter.order(records) is the places of a set's records, in order""",
    "set writer": """from kilter.models.set_writer import SetWriter
{extra}
{folder}
model = SetWriter.load(folder)  # model(values, order): log-probabilities of places and of what is in them""",
    "ranker": """from sentence_transformers import SentenceTransformer

from kilter.decoding import RankGenScorer
{extra}
{folder}
scorer = RankGenScorer.from_pretrained(folder)  # scorer([prefix], [continuation]) is their score
encoder = SentenceTransformer(folder)  # encode(texts, prompt_name="prefix") or "continuation": the same vectors""",
    "experts": """from kilter.hosts.sentence_transformers import load
{extra}
{folder}
model = load(folder)  # encode(texts, domain=name) of one of {domains}""",
    "student": """from sentence_transformers import SentenceTransformer

from kilter.embeddings import PairHead
{extra}
{folder}
model = SentenceTransformer(folder{trust})
head = PairHead.from_pretrained(f"{{folder}}/head")  # head(u, v) scores the vectors of pairs""",
    "encoder": """from sentence_transformers import SentenceTransformer
{extra}
{folder}
model = SentenceTransformer(folder)""",
}
"""How to load each kind of model."""
_OWN = {"Sorter": "sorter", "SetWriter": "set writer"}
"""Kinds of `kilter.models` that are no models of transformers."""


def write_card(
    folder: Path,
    *,
    title: str,
    label: str,
    paper: "Paper",
    also: Sequence["Paper"] = (),
    settings: Mapping[str, Any],
    data: "Provenance",
    base: str | None = None,
    licence: str | None = None,
    library: str = "transformers",
    load: str | None = None,
) -> None:
    """Write `README.md` beside the weights.

    Args:
        folder: of the saved model.
        title: heading of the card.
        label: what was done, as figures call the arm.
        paper: the method.
        also: other papers to cite, whose terms the model was trained with.
        settings: those that apply to this model; what is not set is left out.
        data: what it was trained on.
        base: hub id or folder it was trained from; None for a model trained from scratch.
        licence: of the base model; by default what its own card says.
        library: that loads it.
        load: Python that loads it; by default by the kind of model that is in the folder.
    """
    import yaml
    from huggingface_hub import ModelCardData

    licence = licence or (_licence(base) if base else None)
    tags = [f"kilter-{one.slug}" for one in (paper, *also)]
    public = base if base and not Path(base).is_dir() else None
    front = ModelCardData(license=licence, base_model=public, library_name=library, tags=["kilter", *tags]).to_dict()
    said = ", ".join(f"`{name}` {_said(value)}" for name, value in settings.items() if value not in (None, "", (), []))
    credit = f"; {data.attribution}" if data.attribution else ""
    card = CARD.format(
        front=yaml.safe_dump(front, sort_keys=False),
        title=title,
        label=label,
        version=kilter.__version__,
        slug=paper.slug,
        purpose=paper.purpose,
        load=load or how_to_load(folder),
        base=(base if public else f"a local model, {base_name(base)}") if base else "none, trained from scratch",
        base_licence=f"- **base model's licence**: {licence or 'not known'}\n" if base else "",
        data=f"{f'[{data.title}]({data.page})' if data.page else data.title} ({data.licence}{credit})",
        settings=f"- **settings**: {said}\n" if said else "",
        note="- **note**: the data were synthetic\n" if data.synthetic else "",
        bibtex="\n\n".join(one.bibtex() for one in (paper, *also)),
    )
    write_whole(folder / "README.md", card)


def write_model_card(
    folder: Path,
    recipe: "Recipe",
    arm: str,
    data: "Provenance",
    *,
    label: str = "",
    base: str | None = None,
    licence: str | None = None,
    library: str = "transformers",
) -> None:
    """`write_card` for the model of an arm, with the settings that made it; by default under the arm's label."""
    base = base or getattr(recipe, "model", None)
    base = None if base == "random" else base
    label, settings = label or recipe.describe(arm).label, recipe.made_by(arm)
    paper, *also = [one.paper for one in recipe.makers(arm)] or [recipe.paper]
    title = base_name(base) if base else f"{paper.slug} small model"
    plain: Any = {"base": base, "licence": licence, "library": library, "also": also}
    write_card(folder, title=title, label=label, paper=paper, settings=settings, data=data, **plain)


def how_to_load(folder: Path) -> str:
    """Python that loads the model in a folder, by the kind its config says it is.

    Raises:
        ValueError: the folder holds no model that is saved whole.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no config.json; save the model before its card")
    config = read_json(folder / "config.json")
    kind = (config.get("architectures") or [""])[0]
    domains = config.get("kilter_experts", {}).get("domains", ())
    if (folder / "rankgen.json").exists():
        found = "ranker"
    elif domains:
        found = "experts"
    elif (folder / "head" / "head.safetensors").exists():
        found = "student"
    elif (folder / "modules.json").exists():
        found = "encoder"
    elif kind.endswith("ForCTC"):
        found = "ctc"
    elif kind in _OWN:
        found = _OWN[kind]
    elif "ForImageClassification" in kind:
        found = "images with positions" if "kilter_positions" in config else "images"
    elif "kilter_positions" in config:
        found = "positions"
    else:
        found = "seq2seq" if config.get("is_encoder_decoder") else "causal"
    extra = "\nimport kilter.models.small_speech  # makes the small network known\n" if "SmallSpeech" in kind else ""
    named = ", ".join(f'"{one}"' for one in domains)
    modules = (folder / "modules.json").read_text(encoding="utf-8") if found == "student" else ""
    trust = ", trust_remote_code=True" if '"kilter.' in modules else ""  # of kilter, where it is installed
    return LOAD[found].format(folder=FOLDER, extra=extra, trust=trust, domains=named)


def base_name(base: str) -> str:
    """What others can know a base model by: its hub id, or of a model on this machine the title of its card."""
    if not Path(base).is_dir():
        return base
    card = Path(base, "README.md")
    heading = re.search(r"^# (.+)$", card.read_text(encoding="utf-8"), re.MULTILINE) if card.is_file() else None
    return heading[1] if heading else Path(base).resolve().name


def add_results(folder: Path, summary: Mapping[str, Any], arm: str) -> None:
    """Write what the run measured of an arm into the card of its model, in the place of what an earlier call wrote.

    Args:
        folder: of the saved model and its card.
        summary: of the finished run.
        arm: which of its arms the model is.

    Raises:
        ValueError: the summary has no such arm, or the folder no card.
    """
    if arm not in summary["arms"]:
        raise ValueError(f"arm: {arm!r} is none of the run's: {', '.join(summary['arms'])}")
    file = folder / "README.md"
    if not file.is_file():
        raise ValueError(f"{file}: no such file; write_card writes it when the model is saved")
    card = re.sub(r"## Results\n.*?(?=## Citation\n)", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    before, citation, after = card.partition("## Citation\n")
    write_whole(file, f"{before}{_results(summary, arm)}{citation}{after}")


def _results(summary: Mapping[str, Any], arm: str) -> str:
    """Every figure of the arm, beside the baseline's if it has one."""
    own, name = summary["arms"][arm], summary["baseline"]
    changes = summary["differences"].get(arm, {})
    other = summary["arms"][name] if changes else None
    head = ["", own["label"], *([other["label"], "difference"] if other else [])]
    rows = []
    for key, metric in summary["metrics"].items():
        if own["metrics"].get(key, {}).get("mean") is None:
            continue
        cells = [", ".join(filter(None, (metric["label"], metric["unit"]))), bracketed(own["metrics"][key], metric)]
        if other:
            cells += [bracketed(other["metrics"].get(key, {}), metric)]
            cells += [bracketed(changes.get(key, {}), metric, change=True)]
        rows.append(cells)
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    seeds = len(own["seeds"])
    one = f"Means over {seeds} seeds, of which this model is one" if seeds > 1 else "One seed, this model"
    data = summary["data"]
    made = " Its data are synthetic." if data["synthetic"] else ""
    return (
        f"## Results\n\n{table}\n\n{one}; in brackets: {summary['interval']}. Preset `{summary['preset']}` of "
        f"`{summary['method']}`, judged on {data['title']}.{made}\n\n"
    )


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _licence(base: str) -> str | None:
    """Licence in the base model's own card, where that can be had."""
    import yaml
    from huggingface_hub import ModelCard

    try:  # a folder's README.md, or the hub's card of an id
        return ModelCard.load(Path(base, "README.md") if Path(base).is_dir() else base).data.to_dict().get("license")
    except (OSError, ValueError, yaml.YAMLError):
        return None
