"""Recipe of Diverse Beam Search: several different and good answers, against beam search with as many beams.

Default task: describing a restaurant from slots and values (E2E NLG), with a small encoder–decoder trained here; or
translating captions from German (Multi30k). The paper decoded captions, questions and news from networks of its time.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kilter.core.paper import cards
from kilter.lab.files import MAIN_PROCESS, full_disk_said, read_json, read_rows, write_json
from kilter.lab.locks import one_at_a_time
from kilter.lab.recipe import SHARE, Advance, Arm, Judged, Metric, Picture, Provenance, Recipe
from kilter.models.decoder_arms import DecoderArm

if TYPE_CHECKING:
    from kilter.data.referenced import Referenced
    from kilter.lab.summary import Arms
    from kilter.models.text_model import TextModel

_ALL = ("beam", "dbs", "dbs-cumulative", "dbs-overlap", "dbs-ngram", "dbs-embedding", "sibling", "mmi", "nucleus")
_WIDELY = 1.5
"""So many times the distinct 4-grams of beam search are expected of DBS."""
PUBLISHED = {
    "COCO": {"beam": (27.34, 5.67), "sibling": (27.59, 8.94), "dbs": (28.09, 13.44), "mmi": (27.94, 6.10)},
    "PASCAL-50S": {"beam": (8.74, 2.50), "sibling": (8.91, 5.31), "dbs": (9.29, 7.33), "mmi": (8.56, 8.42)},
    "VQG": {"beam": (26.74, 5.23), "dbs": (27.94, 12.24)},
    "newstest2013": {"beam": (18.44, 3.23), "sibling": (18.34, 4.61), "dbs": (18.77, 5.54), "mmi": (18.86, 4.31)},
}
"""Oracle@20 (SPICE; BLEU-4 for newstest2013) and distinct 4-grams of 20 outputs, of the paper's Tables 1 to 3."""


@dataclass(kw_only=True)
class DiverseBeamSearchRecipe(Recipe):
    """Get several answers that differ, of which the best is better than the best of beam search.

    Diverse Beam Search puts the beams in groups and decodes them one after another at every step; a later group pays
    for the tokens that earlier ones have just chosen.

    Without --model it trains a small model, chooses each decoder's strength on the development inputs, and compares
    the decoders on the test inputs. With --model and --data it shows what the decoders do with your model and prompts.
    """

    model: str | None = None
    """folder or hub id of a causal or encoder–decoder model, or smollm2; by default a small one is trained here"""
    data: str | None = None
    """your prompts: a text file with one a line, or a .jsonl with prompt and, to judge quality, references"""
    chat: bool = False
    """with --model: give each prompt as what a user says, in the model's own chat template"""
    task: Literal["e2e", "multi30k"] = "e2e"
    """without --model: restaurants from slots and values, or captions from German"""
    outputs: int = 20
    """B, the beams and the outputs for each input (published: 20)"""
    groups: int | None = None
    """G of the arms dbs…; by default as many as outputs, as published"""
    length_penalty: float = 0.0
    """power of the length by which scores are divided (published: 0); outputs are ranked by log-probability anyway"""
    max_new_tokens: int = 64
    """tokens of an output, at most"""
    test_inputs: int = 300
    """inputs to judge on, spread over the test set"""
    dev_inputs: int = 60
    """development inputs on which strengths are chosen, by oracle@B"""
    inputs_at_once: int = 16
    """inputs in a batch when decoding; changes nothing but time and memory"""
    hidden_size: int = 128
    """of the small model"""
    layers: int = 2
    """of its encoder, and of its decoder"""
    dropout: float = 0.2
    """of the small model"""
    vocabulary: int = 1000
    """entries of its vocabulary, at most"""
    steps: int = 1000
    """optimiser steps of its training"""
    batch_size: int = 32
    """pairs in a batch"""
    learning_rate: float = 2e-3
    """of its training, falling to a twentieth"""
    withheld: float = 0.1
    """share of the training pairs whose input is left empty, so that MMI has p(text) of the same model"""
    save_steps: int = 200
    """steps between checkpoints; what a kill can cost"""
    pictures_of: int = 2
    """inputs whose outputs the report shows side by side"""

    paper = cards()["diverse-beam-search"]
    baseline: ClassVar[str] = "beam"
    intervals: ClassVar[Literal["seeds", "examples"]] = "examples"
    unhashed = Recipe.unhashed | {"pictures_of", "save_steps", "inputs_at_once"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "arms": ("beam", "dbs", "nucleus-0.9"),
            "outputs": 4,
            "max_new_tokens": 12,
            "test_inputs": 6,
            "dev_inputs": 3,
            "hidden_size": 32,
            "layers": 1,
            "vocabulary": 300,
            "steps": 12,
            "batch_size": 8,
            "save_steps": 6,
            "pictures_of": 1,
        },
        "demo": {"arms": ("beam", "dbs", "nucleus"), "steps": 600, "test_inputs": 100, "dev_inputs": 30, "jobs": 2},
        "full": {"arms": _ALL, "seeds": 3, "jobs": 2},
        "multi30k": {
            "arms": _ALL,
            "task": "multi30k",
            "seeds": 3,
            "max_new_tokens": 40,
            "dropout": 0.1,
            "vocabulary": 4000,
            "steps": 1200,
            "batch_size": 64,
            "test_inputs": 120,
            "dev_inputs": 30,
            "jobs": 2,
        },
        "own": {  # what --model means
            "arms": ("beam", "dbs-0.2", "dbs-0.5", "dbs-0.8", "nucleus"),
            "outputs": 10,
            "inputs_at_once": 4,
        },
    }
    metrics: ClassVar[Mapping[str, Metric]] = {
        "oracle_20": Metric("Oracle@20", "BLEU", "higher", 2, SHARE),
        "distinct_4": Metric("Distinct 4-grams", "%", "higher", 2, SHARE),
        "oracle_1": Metric("Oracle@1, the most likely output", "BLEU", "higher", 2, SHARE),
        "log_prob": Metric("Log-probability of the most likely output", "nats", "higher", 2),
        "oracle_5": Metric("Oracle@5", "BLEU", "higher", 2, SHARE),
        "oracle_10": Metric("Oracle@10", "BLEU", "higher", 2, SHARE),
        "distinct_1": Metric("Distinct words", "%", "higher", 2, SHARE),
        "distinct_2": Metric("Distinct 2-grams", "%", "higher", 2, SHARE),
        "distinct_3": Metric("Distinct 3-grams", "%", "higher", 2, SHARE),
        "repeated": Metric("Outputs that repeat another", "%", "lower", 1, SHARE),
    }

    def prepare(self) -> None:
        """Check that the options fit each other, before any work."""
        if (self.model is None) != (self.data is None):
            raise ValueError("--model and --data go together: give both, or neither to train a small model here")
        if self.chat and not self.model:
            raise ValueError("--chat needs --model: the small model that is trained here has no chat template")
        if self.data == "-":
            raise ValueError("--data -: a run reads its prompts more than once; put them into a file")
        if self.model and self.seeds > 1 and not any("nucleus" in arm for arm in self.arms):
            raise ValueError(f"seeds={self.seeds}: without sampling each seed decodes the same; leave --seeds out")
        self.groups = self.groups or self.outputs
        if self.outputs % self.groups:
            raise ValueError(f"outputs={self.outputs} cannot be divided into groups={self.groups}; make it a multiple")
        least = ("test_inputs", "dev_inputs", "inputs_at_once", "layers", "steps", "batch_size", "save_steps")
        for name, value in (("outputs", 2), ("max_new_tokens", 2), ("vocabulary", 100), *((name, 1) for name in least)):
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, got {getattr(self, name)}")
        for name, top in (("dropout", 1), ("withheld", 1)):
            if not 0 <= getattr(self, name) < top:
                raise ValueError(f"{name} is a share from 0 to below {top}, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not self.model and not self.withheld and any(arm.startswith("mmi") for arm in self.arms):
            raise ValueError("withheld=0 leaves MMI without p(text); give a share, e.g. 0.1, or leave the arm mmi out")

    # Arms ---------------------------------------------------------------------------------------------------

    def describe(self, arm: str) -> Arm:
        """Label and role of an arm."""
        found = DecoderArm.parse(arm)
        role = "baseline" if arm == "beam" else "method" if found.name.startswith("dbs") else "context"
        named = found.strength is not None
        return Arm(found.label(), role, found.name if named else "", f"{found.strength:g}" if named else "")

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """The user's prompts, or a task with several references for an input."""
        if self.data:
            return self._own_data(self.data)
        from kilter.data.assets import locate

        found = locate(self.task)
        if self.task == "e2e":
            from kilter.data.e2e import load_e2e

            self._splits = load_e2e(found.path)
        else:
            from kilter.data.multi30k import load_multi30k

            self._splits = load_multi30k(found.path)
        asset = found.asset
        self._provenance = Provenance(asset.title, asset.licence, asset.attribution, asset.page, found.source)
        return self._provenance

    def _own_data(self, source: str) -> Provenance:
        from hashlib import sha256

        from kilter.data.referenced import Referenced
        from kilter.data.text_prompts import read_prompts

        prompts = read_prompts(source)
        self._own = [Referenced(one.text, tuple(one.kept.get("references", ()))) for one in prompts]
        told = sum(bool(one.references) for one in self._own)
        digest = sha256(repr([(one.source, one.references) for one in self._own]).encode()).hexdigest()[:16]
        title = f"your prompts: {len(prompts)}, {told or 'none'} with references"
        self._provenance = Provenance(title, source=source, digest=digest)
        return self._provenance

    def _items(self, split: Literal["dev", "test"]) -> list["Referenced"]:
        from kilter.data.referenced import spread

        if self.data:
            return spread(self._own, self.test_inputs)
        if split == "dev":
            return spread(self._splits.dev, self.dev_inputs)
        return spread(self._splits.test, self.test_inputs)

    # Training and choosing ------------------------------------------------------------------------------------

    def warm_up(self, arm: str, seed: int, run: Path, advance: Advance) -> None:
        """Train the small model, once for all arms of a seed."""
        if self.model:
            return
        folder = run / "warm-up" / f"seed-{seed}"
        with one_at_a_time(folder):
            if (folder / "model" / "config.json").exists():
                return
            self._train(seed, folder, advance)

    def _train(self, seed: int, folder: Path, advance: Advance) -> None:
        import torch

        from kilter import dist
        from kilter.lab.card import write_model_card
        from kilter.lab.training import fit
        from kilter.models.small_seq2seq import PairBatches, only_batch, pair_tokenizer, small_seq2seq

        pairs = self._splits.train
        tokenizer = pair_tokenizer([text for pair in pairs for text in pair], entries=self.vocabulary)
        torch.manual_seed(seed)
        sizes: Any = {"hidden_size": self.hidden_size, "layers": self.layers, "dropout": self.dropout}
        model = small_seq2seq(tokenizer, **sizes)
        plan: Any = {"batches": self.steps, "batch_size": self.batch_size, "seed": seed, "blank": self.withheld}
        fit(
            model,
            dataset=PairBatches(pairs, tokenizer, **plan),
            collate=only_batch,
            folder=folder / "checkpoints",
            steps=self.steps,
            batch_size=1,
            learning_rate=self.learning_rate,
            final_learning_rate=self.learning_rate / 20,
            warm_up_steps=min(200, self.steps // 4),
            max_grad_norm=1.0,
            seed=seed,
            device=self.device,
            precision=self.precision,
            save_steps=self.save_steps,
            advance=advance,
        )
        if MAIN_PROCESS:
            part = folder / "model.part"
            shutil.rmtree(part, ignore_errors=True)
            with full_disk_said(folder):
                model.save_pretrained(part)
                tokenizer.save_pretrained(part)
                write_model_card(part, self, "Small encoder–decoder", self._provenance)
            part.replace(folder / "model")
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        dist.barrier()

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Choose the decoder's strength on the development inputs, unless its name says it."""
        parts, file, before = DecoderArm.parse(arm), folder / "choice.json", 0
        found = read_json(file) if file.exists() else {"strength": parts.strength, "grid": []}
        if parts.kind and parts.strength is None and self.model:
            found["strength"] = parts.kind.usual
        elif parts.kind and parts.strength is None:
            text, items, grid = self._text(seed, folder), self._items("dev"), parts.kind.grid
            before = len(grid) * len(items)
            for place, strength in enumerate(grid):
                if place < len(found["grid"]):
                    continue
                at = partial(_of, advance, place * len(items), before + len(self._items("test")))
                figures = self._judge(text, parts, strength, items, seed, at)[0]
                found["grid"].append({"strength": strength, **figures})
                write_json(file, found)
            best = max(found["grid"], key=lambda figures: figures[self._oracle(figures)])
            found["strength"] = best["strength"]
        write_json(file, found)
        self._at = partial(_of, advance, before, before + len(self._items("test")))
        return folder

    @staticmethod
    def _oracle(figures: Mapping[str, Any]) -> str:
        """The oracle that chooses from most outputs."""
        found = [int(name.removeprefix("oracle_")) for name in figures if name.startswith("oracle_")]
        return f"oracle_{max(found)}" if found else ""

    def _text(self, seed: int, folder: Path) -> "TextModel":
        from kilter.data.pretrained import small_model
        from kilter.models.text_model import TextModel

        shared = folder.parents[2] / "warm-up" / f"seed-{seed}" / "model"
        return TextModel.load(small_model(self.model or str(shared)), device=self.device)

    def _judge(
        self,
        text: "TextModel",
        parts: DecoderArm,
        strength: float | None,
        items: Sequence["Referenced"],
        seed: int,
        at: Callable[[int], None],
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        from kilter.models.judging_texts import judge_texts, means, write_texts
        from kilter.models.text_decoding import decoding

        options = parts.options(
            strength, outputs=self.outputs, groups=int(self.groups or self.outputs), length_penalty=self.length_penalty
        )
        decoder = parts.kind.decoder if parts.kind else "beam"
        write = decoding(text, decoder, options, max_new_tokens=self.max_new_tokens)
        at_once: Any = {
            "seed": seed,
            "batch_size": self.inputs_at_once,
            "max_new_tokens": self.max_new_tokens,
            "chat": self.chat,
            "advance": at,
        }
        rows = judge_texts(items, write_texts(text, write, items, **at_once))
        return means(rows, [name for name, metric in self.metrics.items() if metric.unit == "%"]), rows

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """Decode the test inputs with the strength chosen."""
        import time

        choice = read_json(model / "choice.json")
        text, started = self._text(seed, model), time.process_time()
        parts, items = DecoderArm.parse(arm), self._items("test")
        figures, rows = self._judge(text, parts, choice["strength"], items, seed, self._at)
        figures["cost_decoding_and_judging_cpu_seconds"] = time.process_time() - started
        if choice["strength"] is not None:
            figures["strength"] = choice["strength"]
        for tried in choice["grid"]:
            at = f"{tried['strength']:g}"
            figures |= {f"dev_{name}_at_{at}": tried[name] for name in (self._oracle(tried), "distinct_4") if name}
        return Judged(figures, rows)

    # The report ---------------------------------------------------------------------------------------------

    def verdicts(self, arms: "Arms") -> Sequence[Mapping[str, str]]:
        """Whether the distinct 4-grams of DBS are so many times those of beam search."""
        from kilter.lab.ratios import ratio_verdict

        return [found] if (found := ratio_verdict(arms, "distinct_4", "dbs", "beam", _WIDELY)) else []

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """Strengths, the published figures beside ours, and what to bear in mind."""
        arms, notes = summary["arms"], []
        run = self.out or Path()
        if not self.model:
            chosen = [
                f"{found['label']} {', '.join(f'{kind.symbol} {strength:g}' for strength in strengths)}"
                for arm, found in arms.items()
                if (kind := DecoderArm.parse(arm).kind) and not found["point"]
                if (strengths := [_choice(run, arm, seed)["strength"] for seed in found["seeds"]])
            ]
            notes += [f"Strengths chosen on the development inputs, one a seed: {'; '.join(chosen)}."] if chosen else []
            notes += [
                "The model is small and trained for minutes on a small set: read the differences between decoders, not "
                "the height of BLEU."
            ]
            notes += [note] if (note := self._seen_in_training()) else []
        notes += [note for arm in ("dbs", "sibling", "mmi") if (note := _beside_published(arms, arm))]
        if not any(name.startswith("oracle") for name in summary["metrics"]):
            notes.append(
                "The prompts have no references, so quality is not judged: give a .jsonl with prompt and references."
            )
        notes.append(
            "Every decoder's outputs are ranked by the model's log-probability. Distinct n-grams are the distinct ones "
            "among an input's outputs, by the words of these outputs; the paper's normalisation is not published."
        )
        return notes

    def _seen_in_training(self) -> str:
        """How many of the test inputs the model was trained on, as it reads them; nothing if none."""
        trained, items = {source for source, _ in self._splits.train}, self._items("test")
        known = sum(item.source in trained for item in items)
        why = ": names, kinds of place and cuisines are placeholders to it" if self.task == "e2e" else ""
        said = f"{known} of the {len(items)} test inputs read to the model as an input it was trained on{why}."
        return said if known else ""

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Quality against diversity on test and development inputs, and the outputs for a few inputs."""
        from kilter.lab.plots import tradeoff
        from kilter.lab.text_columns import text_columns

        oracle = self._oracle(summary["metrics"])
        quality = oracle or "log_prob"
        what = "The best of an input's outputs" if oracle else "Log-probability"
        pictures = []
        if "distinct_4" in summary["metrics"]:
            caption = f"{what} against how different they are. Bars are the intervals of the table."
            svg = tradeoff(summary, x="distinct_4", y=quality)
            pictures.append(Picture("tradeoff", "Quality against diversity", caption, svg))
        if swept := self._swept(summary, run):
            caption = (
                "Each decoder at every strength that was tried, on the development inputs, mean over the seeds; those "
                "that fall below four fifths of the best are left out."
            )
            svg = tradeoff(swept, x="distinct_4", y=self._oracle(swept["metrics"]))
            pictures.append(Picture("strengths", "What the strength does", caption, svg))
        shown = [arm for arm in ("beam", "dbs", "dbs-0.5", "nucleus", *summary["arms"]) if arm in summary["arms"]]
        rows = {arm: _rows(run, arm) for arm in list(dict.fromkeys(shown))[:3]}
        count = min(map(len, rows.values()), default=0)
        for place in range(min(self.pictures_of, count)):
            index = place * count // self.pictures_of
            prompt = next(iter(rows.values()))[index]["prompt"]
            columns = {
                summary["arms"][arm]["label"]: [output["text"] for output in found[index]["outputs"][:8]]
                for arm, found in rows.items()
            }
            caption = "The most likely outputs of each decoder; what is new in an output is in colour."
            pictures.append(
                Picture(f"outputs-{place}", f"Outputs for input {index + 1}", caption, text_columns(prompt, columns))
            )
        return pictures

    def _swept(self, summary: Mapping[str, Any], run: Path) -> dict[str, Any] | None:
        """What was tried on the development inputs, as a summary that a figure can be made of."""
        tried: dict[str, Any] = {}
        names: list[str] = []
        for arm, found in summary["arms"].items():
            grids = [_choice(run, arm, seed)["grid"] for seed in found["seeds"]]
            for points in zip(*grids, strict=True):
                names = names or ["distinct_4", self._oracle(points[0])]
                figures = {name: sum(point[name] for point in points) / len(points) for name in names}
                strength, kind = points[0]["strength"], DecoderArm.parse(arm).kind
                tried[f"{arm}-{strength:g}"] = {
                    "label": f"{found['label']}, {kind.symbol if kind else ''} {strength:g}",
                    "role": found["role"],
                    "series": arm,
                    "point": f"{strength:g}",
                    "metrics": {name: {"mean": value} for name, value in figures.items()},
                }
        metrics = {name: metric for name, metric in summary["metrics"].items() if name in names}
        heights = {point: found["metrics"][names[1]]["mean"] for point, found in tried.items()}
        tried = {point: found for point, found in tried.items() if heights[point] >= 0.8 * max(heights.values())}
        return {"metrics": metrics, "arms": tried, "baseline": None} if len(metrics) == 2 else None


RECIPE = DiverseBeamSearchRecipe


def _of(advance: Advance, before: int, total: int, done: int) -> None:
    """So many of some inputs are done, after `before` others."""
    advance(before + done, total, "inputs")


def _choice(run: Path, arm: str, seed: int) -> dict[str, Any]:
    return read_json(run / "arms" / arm / f"seed-{seed}" / "choice.json")


def _rows(run: Path, arm: str) -> list[Any]:
    """Rows of the first finished seed of an arm."""
    return read_rows(next(iter(sorted((run / "arms" / arm).glob("seed-*/utterances.jsonl")))))


def _beside_published(arms: Mapping[str, Any], arm: str) -> str | None:
    """The ratios to beam search, ours and the published ones; None where a figure is missing."""
    mean = {
        name: {key: figure["mean"] for key, figure in arms[name]["metrics"].items()}
        for name in (arm, "beam")
        if name in arms
    }
    if len(mean) < 2 or any("oracle_20" not in figures or not figures["distinct_4"] for figures in mean.values()):
        return None
    ours = [mean[arm][key] / mean["beam"][key] for key in ("distinct_4", "oracle_20") if mean["beam"][key]]
    if len(ours) < 2:
        return None
    published = "; ".join(
        f"{data} ×{figures[arm][1] / figures['beam'][1]:.2f} and ×{figures[arm][0] / figures['beam'][0]:.3f}"
        for data, figures in PUBLISHED.items()
        if arm in figures
    )
    return (
        f"{arms[arm]['label']} by beam search, distinct 4-grams and oracle@20: ×{ours[0]:.2f} and ×{ours[1]:.3f} here. "
        f"Published: {published}."
    )
