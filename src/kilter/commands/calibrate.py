"""kilter calibrate: lay the languages of a multilingual model over each other, without translations: models, table."""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from tyro.conf import arg

from kilter.core.errors import UsageError, extra, suggest
from kilter.lab.files import full_disk_said, write_whole
from kilter.lab.numbers import NOTHING, fixed
from kilter.lab.options import at_least
from kilter.lab.output import print_json

if TYPE_CHECKING:
    from torch import Tensor

    from kilter.embeddings import LanguageCalibration

PLACE = 86

Step = Literal["shift", "scale", "rotate"]
STEPS: tuple[Step, ...] = get_args(Step)
"""As `kilter.embeddings` has them, which needs torch."""
GIVE_PAIRS = (
    "no retrieval was measured: give translations as --pairs {name}=FILE, a .csv or .jsonl with two columns, the text "
    "in {name} and its translation in {pivot}; a few hundred do, and they are not learnt from"
)
CARD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
---

# {model}, calibrated for `{name}`

For texts in `{name}` only. Its vectors lie in one space with those of the models beside it, each for the texts of one
language ({languages}): `{pivot}` is the pivot. The modules are those of the model and a `Dense`, which does
{steps} with the statistics of {texts} texts{whose}, found by `kilter calibrate` without translations.

```python
from sentence_transformers import SentenceTransformer

folder = "."  # where this card is, or its id once it is on a hub
vectors = SentenceTransformer(folder).encode(["a text in {name}"])
```
"""


@dataclass
class Calibrate:
    """Lay the languages of a multilingual model over each other, from texts of each that need not be translations.

    Each language's vectors are moved to a common centre (shift), brought to the same spread in each component (scale)
    and rotated onto the pivot's (rotate). Written are the calibration, and a model for the texts of each language that
    sentence-transformers loads without kilter. With --pairs the table says what each step does for retrieval both ways,
    beside the control: the same with one mean and spread for all languages. What the control gains too has nothing to
    do with language. Steps that do not gain are left out with --steps.

    Example: kilter calibrate --model my-model/ --texts en=en.txt de=de.txt --pairs de=pairs.csv --out calibrated/
    """

    model: str
    """folder or hub id of a model of sentence-transformers or an encoder of transformers; or minilm, gemma-6"""
    texts: Annotated[tuple[str, ...], arg(metavar="LANGUAGE=FILE [LANGUAGE=FILE …]")]
    """texts of two languages or more, best a thousand each: a .txt with a text a line, a table with a column text
    (.csv, .json, .jsonl), or a hub dataset"""
    out: Annotated[Path, arg(metavar="DIR")]
    """folder to write: the calibration, and a folder for each language; must not be there, or empty"""
    pivot: str = "en"
    """language that the others are rotated to"""
    steps: tuple[Step, ...] = STEPS
    """what is done, of shift, scale and rotate"""
    pairs: Annotated[tuple[str, ...], arg(metavar="LANGUAGE=FILE [LANGUAGE=FILE …]")] = ()
    """translations to measure retrieval with: a .csv, .json or .jsonl with two columns, first the language's"""
    joint: bool = False
    """write the control instead: one mean and spread for all languages, no rotation"""
    json: bool = False
    """print JSON"""
    batch_size: Annotated[int, at_least(1)] = 32
    """texts at once"""
    device: str = "auto"
    """auto (the accelerator there is), cpu, cuda or mps"""

    def __call__(self) -> int:
        """Check what was asked for, then encode, fit, write and print."""
        texts, pairs = _by_language("texts", self.texts), _by_language("pairs", self.pairs)
        if len(texts) < 2:
            raise UsageError(f"--texts {' '.join(self.texts)}: there is one language; give those to lay over it too")
        if self.pivot not in texts:
            raise UsageError(f"--pivot {self.pivot}: has no --texts{suggest(self.pivot, texts)}")
        for name in pairs:
            if name not in texts or name == self.pivot:
                others = ", ".join(one for one in texts if one != self.pivot)
                raise UsageError(f"--pairs {name}=…: must be of a language with --texts and not the pivot: {others}")
        if not self.steps:
            raise UsageError(f"--steps: give one at least of {', '.join(STEPS)}")
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise ValueError(f"{self.out}: is not empty; choose another --out, or remove it")
        return _calibrate(self, texts, pairs)


COMMAND = Calibrate


@dataclass(frozen=True)
class Retrieval:
    """How many texts find their translation, in per cent.

    Attributes:
        language: of the one side; the other is in the pivot.
        pairs: how many.
        steps: done before, in their order.
        statistics: per_language, or joint for the control.
        fitted_on: texts; or pairs, where the statistics are of the very texts that are searched, which flatters.
        forward: texts of the language that find theirs in the pivot.
        backward: texts of the pivot that find theirs in the language.
    """

    language: str
    pairs: int
    steps: tuple[str, ...]
    statistics: str
    fitted_on: str
    forward: float
    backward: float


def _by_language(option: str, given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        name, equals, file = one.partition("=")
        if not (name and equals and file):
            raise UsageError(f"--{option} {one}: give each as LANGUAGE=FILE, e.g. de=german.txt")
        if not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"--{option} {one}: a language names a folder: letters, digits, - and _ only")
        if twice := next((other for other in found if other.casefold() == name.casefold()), None):
            raise UsageError(f"--{option}: {twice} and {name} are one language; put its texts into one file")
        found[name] = file
    return found


def _calibrate(asked: Calibrate, texts: Mapping[str, str], pairs: Mapping[str, str]) -> int:
    extra("sentence_transformers", "embeddings")
    from kilter.data.bitext import read_pairs
    from kilter.data.encoders import ENCODERS, is_ours
    from kilter.data.sentences import read_sentences
    from kilter.lab.progress import quiet_hosts
    from kilter.models.names import check_model_name

    if not is_ours(asked.model):
        kind = "a model of sentence-transformers or an encoder of transformers"
        check_model_name(asked.model, kind, known=ENCODERS)
    read = {name: read_sentences(file) for name, file in texts.items()}
    for name, rows in read.items():
        if len(rows) < 2:
            raise ValueError(f"{texts[name]}: has one text; statistics of {name} need two, better a thousand")
    translations = {name: read_pairs(file) for name, file in pairs.items()}
    for name, rows in translations.items():
        if len(rows) < 2:
            raise ValueError(f"{pairs[name]}: has one pair; retrieval needs two, better some hundreds")
    quiet_hosts()
    model = _load(asked)
    vectors = {name: _encode(model, name, rows, asked) for name, rows in read.items()}
    sides = {name: _encode_pairs(model, name, rows, asked) for name, rows in translations.items()}
    calibration = _fitted(vectors, asked.pivot, asked.steps, "joint" if asked.joint else "per_language")
    found = [one for name in sides for one in _measured(name, sides[name], vectors, calibration, asked)]
    _write(asked, model, calibration, {name: len(rows) for name, rows in read.items()})
    _say_dead(calibration)
    if asked.json:
        about = {name: {"texts": len(rows), "folder": str(asked.out / name)} for name, rows in read.items()}
        how = {"model": asked.model, "pivot": asked.pivot, "steps": calibration.steps, "joint": asked.joint}
        print_json({**how, "languages": about, "retrieval": [asdict(one) for one in found], "out": str(asked.out)})
        return 0
    _show(found, asked.pivot)
    if not found:
        print(GIVE_PAIRS.format(name=next(name for name in texts if name != asked.pivot), pivot=asked.pivot))
    print(f"calibration: {asked.out / 'calibration.json'}")
    for name in texts:
        print(f"model for texts in {name}: {asked.out / name}")
    return 0


# Vectors --------------------------------------------------------------------------------------------------------------


def _load(asked: Calibrate) -> Any:
    """The model as it is, so that what ends with `Normalize` does afterwards; those of ours never do."""
    from kilter.data.encoders import is_ours, sentence_encoder
    from kilter.hosts.sentences import load_sentences
    from kilter.models.devices import find_device

    device = str(find_device(asked.device))
    if is_ours(asked.model):
        return sentence_encoder(asked.model, device=device)
    return load_sentences("SentenceTransformer", asked.model, device)


def _encode(model: Any, name: str, texts: Sequence[str], asked: Calibrate) -> "Tensor":
    from kilter.hosts.sentence_modules import without_normalize
    from kilter.hosts.sentences import encode
    from kilter.lab.progress import bar

    with bar(f"encoding {name}", len(texts), "texts") as advance:
        return encode(without_normalize(model), texts, batch_size=asked.batch_size, advance=advance)


def _encode_pairs(model: Any, name: str, pairs: Sequence[tuple[str, str]], asked: Calibrate) -> "tuple[Tensor, Tensor]":
    ours, theirs = zip(*pairs, strict=True)
    return _encode(model, f"{name} of the pairs", ours, asked), _encode(model, "their translations", theirs, asked)


def _fitted(vectors: "Mapping[str, Tensor]", pivot: str, steps: Sequence[Step], statistics: Any) -> Any:
    from kilter.embeddings import LanguageCalibration

    return LanguageCalibration(statistics=statistics).fit(vectors, pivot, steps)


# Retrieval ------------------------------------------------------------------------------------------------------------


def _measured(
    name: str,
    sides: "tuple[Tensor, Tensor]",
    vectors: "Mapping[str, Tensor]",
    calibration: "LanguageCalibration",
    asked: Calibrate,
) -> Iterator[Retrieval]:
    """Before, and after each step: by the texts, by the control, and by the pairs themselves."""
    from kilter.evaluation.retrieval import bitext_retrieval

    steps: list[Step] = [step for step in STEPS if step in asked.steps]
    fitted_on = {"texts": vectors, "pairs": {asked.pivot: sides[1], name: sides[0]}}
    for count in range(len(steps) + 1):
        done: tuple[Step, ...] = tuple(steps[:count])
        for source, statistics in (("texts", "per_language"), ("texts", "joint"), ("pairs", "per_language")):
            same_as_before = not done or (statistics == "joint" and "rotate" in done)
            if same_as_before and (statistics, source, done) != ("per_language", "texts", ()):
                continue
            whole = source == "texts" and (statistics, done) == (calibration.statistics, calibration.steps)
            fit = calibration if whole else _fitted(fitted_on[source], asked.pivot, done, statistics)
            hits = bitext_retrieval(fit.transform(sides[0], name), fit.transform(sides[1], asked.pivot))
            yield Retrieval(name, len(sides[0]), done, statistics, source, 100 * hits.forward, 100 * hits.backward)


def _say_dead(calibration: "LanguageCalibration") -> None:
    for name, components in calibration.dead.items():
        if components:
            print(f"{name}: components {', '.join(map(str, components))} do not vary, and become 0", file=sys.stderr)


def _show(found: Sequence[Retrieval], pivot: str) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = {
        ("per_language", "texts"): "per language",
        ("joint", "texts"): "joint (control)",
        ("per_language", "pairs"): "fitted on the pairs",
    }
    for name in dict.fromkeys(one.language for one in found):
        mine = [one for one in found if one.language == name]
        print(f"{mine[0].pairs} pairs: accuracy in % of {name} → {pivot} / {pivot} → {name}\n")
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("", no_wrap=True)
        for title in columns.values():
            table.add_column(title, justify="right")
        for done in dict.fromkeys(one.steps for one in mine):
            cells = {(one.statistics, one.fitted_on): one for one in mine if one.steps == done}
            label = f"+ {done[-1]}" if len(done) > 1 else done[0] if done else "as it is"
            table.add_row(label, *(_cell(cells.get(column)) for column in columns))
        Console().print(table)
        print()


def _cell(one: Retrieval | None) -> str:
    return NOTHING if one is None else f"{fixed(one.forward, 1)} / {fixed(one.backward, 1)}"


# Writing --------------------------------------------------------------------------------------------------------------


def _write(asked: Calibrate, model: Any, calibration: "LanguageCalibration", texts: Mapping[str, int]) -> None:
    """Everything or nothing: a neighbour is filled, and takes the folder's name in the end."""
    out = asked.out.absolute()
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with full_disk_said(out.parent):
        calibration.save_pretrained(part)
        for name, count in texts.items():
            calibration.bake(model, name).save_pretrained(str(part / name), create_model_card=False)
            card = CARD.format(
                model=asked.model,
                name=name,
                languages=", ".join(texts),
                pivot=asked.pivot,
                steps=", ".join(calibration.steps),
                texts=count,
                whose=" of each language, taken together" if asked.joint else "",
            )
            write_whole(part / name / "README.md", card)
    if out.is_dir():
        out.rmdir()  # it is empty
    part.replace(out)
