"""Recipe of RankGen: a ranker that knows which passage comes next, and text chosen by it.

Default task: three novels, of which each seed holds out another; MiniLM learns to tell what follows a passage from
other passages of the same book and from what SmolLM2 writes there. The paper trained T5 encoders of up to 1.2 billion
parameters on PG19 and more: 256 words a prefix, 100,000 steps of 4,096 pairs. Its weights could not be had here.
"""

import os
import random
import shutil
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from kilter.core.paper import Claim, cards
from kilter.lab.files import full_disk_said
from kilter.lab.locks import in_any_order, one_at_a_time
from kilter.lab.recipe import SHARE, Advance, Arm, Judged, Metric, Picture, Provenance, Recipe

if TYPE_CHECKING:
    from kilter.data.books import Pair
    from kilter.data.judgements import Preference
    from kilter.models.ranking import TextScorer

_LOSSES = {"inbook": "inbook", "generative": "generative", "both": "all"}
"""What counts as a negative of each trained arm, as `RankGenLoss` calls it."""
_BLOCKS = "+blocks"
_ARMS = {
    "untrained": Arm("The encoder as given (cosine), best of the samples", "baseline"),
    "inbook": Arm("Ranker against passages of the same book, best of the samples"),
    "generative": Arm("Ranker against machine text, best of the samples"),
    "both": Arm("Ranker against both, best of the samples"),
    "both+blocks": Arm("Ranker against both, search in blocks"),
    "overlap": Arm("Words shared with the prefix, best of the samples", "context"),
    "perplexity": Arm("The generator's own probability, best of the samples", "context"),
    "nucleus": Arm("Nucleus sampling, not ranked", "context"),
    "human": Arm("What the author wrote", "context"),
    "judge": Arm("The ranker that judges the samples", "context"),
}
_JUDGE = 1000
"""Added to the seed of the ranker that judges, so that it is another than those it judges."""
_HELD = " (held out)"
_SPREAD = 0.25
"""Standard deviation of a prefix's scores at which training begins."""


@dataclass(kw_only=True)
class RankGenRecipe(Recipe):
    """Train a ranker that knows which passage comes next in your texts, and choose a language model's samples by it.

    RankGen learns, from whole documents, to prefer the true continuation of a passage to other passages of the same
    document and to what a machine wrote there. It then picks the best of many samples, or steers a search.

    Without --train it learns from novels and is judged on one it has not seen. With --train it learns from a folder of
    your own long texts and leaves the ranker, for RankGenScorer and sentence-transformers, in arms/both/seed-0/model.
    """

    model: str = "minilm"
    """encoder to start from: minilm (from its wheel), a folder or hub id of one that reads both ways, or random"""
    generator: str = "smollm2"
    """language model that writes negatives and samples: smollm2 (from its wheel), a folder or hub id, or random"""
    train_data: Annotated[str | None, arg(name="train")] = None
    """your documents: a folder of long texts, one .txt for each"""
    eval_data: Annotated[str | None, arg(name="eval")] = None
    """documents to judge on; by default the last tenth of each of yours"""
    prefix_words: int = 64
    """most words of a prefix (published: 256)"""
    shortest: int = 10
    """fewest words of a continuation (published: 10)"""
    longest: int = 48
    """most words of a continuation (published: 128)"""
    pairs: int = 192
    """passages to learn from, of all texts together, each with one machine continuation; raise it if you have many"""
    steps: int = 40
    """optimiser steps of every ranker, however many texts or pairs there are (published: 100,000)"""
    batch_size: int = 16
    """passages in a batch, all of one document (published: 4,096)"""
    learning_rate: float = 2e-4
    """of AdamW, falling to 0 (published: Adafactor at a constant 2e-3)"""
    judge_pairs: int = 96
    """other passages, from which the judge of the samples learns; 0 for no judge"""
    test_pairs: int = 100
    """passages to judge the rankers on"""
    prompts: int = 8
    """passages to continue; 0 for no decoding"""
    samples: int = 20
    """samples of each, among which a ranker chooses (published: 20)"""
    new_tokens: int = 64
    """tokens of a sample (published: 128)"""
    top_p: float = 0.9
    """nucleus of the sampling (published: 0.9)"""
    beams: int = 2
    """B of the search in blocks (published: 2)"""
    block_samples: int = 10
    """N of the search in blocks (published: 10)"""
    block: int = 20
    """L of the search in blocks, in tokens (published: 20)"""
    judgements: bool = True
    """without --train: ask whether the rankers prefer what people did, where the published judgements can be had"""
    save_steps: int = 40
    """steps between checkpoints; what a kill can cost"""

    paper = cards()["rankgen"]
    baseline: ClassVar[str] = "untrained"
    intervals: ClassVar[Literal["seeds", "examples"]] = "examples"
    own_by: ClassVar[tuple[str, ...]] = ("train", "train_data")
    unhashed = Recipe.unhashed | {"save_steps"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "arms": ("untrained", "both", "both+blocks", "nucleus"),
            "model": "random",
            "generator": "random",
            "prefix_words": 24,
            "longest": 16,
            "pairs": 16,
            "judge_pairs": 8,
            "test_pairs": 6,
            "prompts": 2,
            "samples": 3,
            "new_tokens": 12,
            "block": 4,
            "block_samples": 2,
            "steps": 4,
            "batch_size": 4,
            "save_steps": 2,
            "judgements": False,
        },
        "demo": {
            "arms": ("untrained", "both", "nucleus", "human"),
            "pairs": 192,
            "steps": 60,
            "judge_pairs": 0,
            "test_pairs": 60,
            "prompts": 6,
            "samples": 10,
            "new_tokens": 48,
            "judgements": False,
        },
        "full": {"arms": tuple(_ARMS), "seeds": 3, "jobs": 2},
        "published": {  # the paper's own settings where they are settings, for a machine with accelerators
            "arms": tuple(_ARMS),
            "seeds": 3,
            "model": "google/t5-v1_1-base",
            "prefix_words": 256,
            "longest": 128,
            "pairs": 1_000_000,
            "steps": 100_000,
            "batch_size": 4096,
            "learning_rate": 2e-3,
            "test_pairs": 5000,
            "prompts": 5000,
            "new_tokens": 128,
        },
        "own": {"arms": ("untrained", "both"), "judge_pairs": 0, "prompts": 0},  # what --train means
    }
    metrics: ClassVar[Mapping[str, Metric]] = {
        "inbook": Metric("True next passage against another of the book", "%", "higher", 1, SHARE),
        "generative": Metric("True next passage against machine text", "%", "higher", 1, SHARE),
        "human_agreement": Metric("Agreement with human judges", "%", "higher", 1, SHARE),
        "preferred": Metric("Text preferred to a plain sample, by another ranker", "%", "higher", 1, SHARE),
        "near_human": Metric("Text preferred to the author's, by another ranker", "%", "higher", 1, SHARE),
        "rep": Metric("Words repeated from the last 20", "%", "lower", 1, SHARE),
        "overlap": Metric("Words shared with the prefix", "%", "higher", 1, SHARE),
    }

    def prepare(self) -> None:
        """Check that the options fit each other."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']}: rankgen trains in one process; start it without torchrun, and "
                "let --jobs do several arms and seeds side by side"
            )
        if not (self.judge_pairs and self.prompts):
            self.arms = tuple(arm for arm in self.arms if arm != "judge")
        if self.eval_data and self.train_data and Path(self.eval_data).resolve() == Path(self.train_data).resolve():
            raise ValueError(f"--eval and --train are both {self.train_data}: judge on texts that are not trained on")
        if self.eval_data and not self.train_data:
            raise ValueError("--eval needs --train: a folder of your long texts to learn from")
        if not 0 < self.shortest <= self.longest:
            raise ValueError(f"shortest={self.shortest} must be at least 1 and at most longest={self.longest}")
        for name in ("pairs", "batch_size"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, got {getattr(self, name)}")
        for name in ("steps", "test_pairs", "save_steps", "samples", "new_tokens", "beams", "block_samples", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("judge_pairs", "prompts"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.learning_rate > 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"learning_rate={self.learning_rate} must be above 0, and top_p={self.top_p} above 0 and at most 1"
            )

    def describe(self, arm: str) -> Arm:
        """Label and role of an arm."""
        if arm not in _ARMS:
            raise ValueError(f"arms: there is no {arm!r}; there are {', '.join(_ARMS)}")
        return _ARMS[arm]

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """The novels, or the user's documents, as passages and what follows them."""
        from kilter.data.assets import locate
        from kilter.data.books import load_long_pairs, load_pairs

        self._preferences = self._find_preferences()
        how: dict[str, Any] = {"prefix_words": self.prefix_words, "words": (self.shortest, self.longest)}
        if self.train_data is None:
            found = locate("books")
            self._documents, self._own_held = load_pairs(found.path, **how), ()
            asset = found.asset
            self._provenance = Provenance(
                asset.title, asset.licence, asset.attribution, asset.page, found.source, note=self._credits()
            )
        else:
            own, skipped = load_long_pairs(self.train_data, **how)
            judged, left = load_long_pairs(self.eval_data, **how) if self.eval_data else ({}, [])
            self._documents, short = _with_held_out(own, judged)
            self._own_held = tuple(name for name in self._documents if name.endswith(_HELD))
            texts = len(self._documents) - len(self._own_held)
            total = sum(map(len, self._documents.values()))
            self._provenance = Provenance(
                f"your documents: {texts} texts, {total} passages",
                source=", ".join(filter(None, (self.train_data, self.eval_data))),
                digest=_digest(self._documents),
                note=self._credits(),
                skipped=[*skipped, *left, *short],
            )
        return self._provenance

    def _find_preferences(self) -> "Sequence[Preference]":
        """What people preferred, where that can be had; nothing is fetched for one's own documents."""
        from kilter.data.assets import locate
        from kilter.data.judgements import load_judgements

        if self.judgements and self.train_data is None:
            with suppress(FileNotFoundError):
                return load_judgements(locate("rankgen-judgements", progress=False).path)
        return ()

    def _credits(self) -> str:
        """Whom else to credit, of the small models and the judgements that this run uses."""
        from kilter.data.catalogue import ASSETS

        used = {"smollm2": self.generator == "smollm2", "minilm": self.model == "minilm"}
        used["rankgen-judgements"] = bool(self._preferences)
        found = [ASSETS[name] for name, uses in used.items() if uses]
        said = "; ".join(f"{one.title} ({one.licence}; {one.attribution}; {one.page})" for one in found)
        return f"Also used: {said}." if said else ""

    def _held(self, seed: int) -> Sequence[str]:
        """Documents that the rankers of this seed do not see: of the novels another one for each seed."""
        names = sorted(self._documents)
        return self._own_held or (names[seed % len(names)],)

    def _seen(self, seed: int) -> list[str]:
        return [name for name in sorted(self._documents) if name not in self._held(seed)]

    def _some(self, document: str, half: int, count: int) -> "list[Pair]":
        """The same pairs of a half of a document whoever asks; of a held-out part both halves count."""
        whole = document in self._own_held or (self.train_data and not self.judge_pairs)
        rows = [pair for pair in self._documents[document] if whole or pair.half == half]
        return random.Random(f"{half} {document}").sample(rows, len(rows))[:count]

    def _spread(self, documents: Sequence[str], half: int, total: int) -> "list[Pair]":
        found: list[Pair] = []
        for document in documents:
            some = self._some(document, half, min(_each(total, documents), total - len(found)))
            found += some if len(some) > 1 or not found else []  # one alone has no other passage of its document
        return found

    # What arms share: machine text, samples, a judge -----------------------------------------------------------

    def warm_up(self, arm: str, seed: int, run: Path, advance: Advance) -> None:
        """Machine continuations of all documents, samples for the prompts of this seed, and the judge of them."""
        self._run = run
        self._write_negatives(seed, advance)
        if self.prompts:
            with one_at_a_time(self._samples_file(seed)):
                self._draw_samples(seed, advance)
            if self.judge_pairs:
                pairs = self._spread(self._seen(seed), 1, self.judge_pairs)
                self._train_ranker(
                    "all", pairs, seed + _JUDGE, self._judge_folder(seed), advance, "judge of the samples"
                )

    def _judge_folder(self, seed: int) -> Path:
        return self._run / "judge" / f"seed-{seed}" / "model"

    def _samples_file(self, seed: int) -> Path:
        return self._run / "samples" / f"seed-{seed}.jsonl"

    def _negatives_file(self, document: str, half: int) -> Path:
        safe = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in document)
        return self._run / "negatives" / f"{safe}-{_short(document)}-{half}.jsonl"

    def _wanted(self, seed: int) -> "dict[Path, list[Pair]]":
        """Which pairs need a machine continuation, by file; of a novel, those to learn from and those to judge on."""
        wanted: dict[Path, list[Pair]] = {}
        seen, held, judging = self._seen(seed), self._held(seed), self.judge_pairs and self.prompts
        if self._own_held:
            some = [(0, self._spread(seen, 0, self.pairs) + self._spread(held, 0, self.test_pairs))]
            some += [(1, self._spread(seen, 1, self.judge_pairs))] if judging else []
            for half, pairs in some:
                for pair in pairs:
                    wanted.setdefault(self._negatives_file(pair.document, half), []).append(pair)
            return wanted
        for document in self._documents:
            most = max(_each(self.pairs, seen), _each(self.test_pairs, held))
            wanted[self._negatives_file(document, 0)] = self._some(document, 0, most)
            if judging:
                wanted[self._negatives_file(document, 1)] = self._some(document, 1, _each(self.judge_pairs, seen))
        return wanted

    def _write_negatives(self, seed: int, advance: Advance) -> None:
        from kilter.models.continuations import Writing, write_continuations

        writing = Writing((self.shortest, self.longest), self.top_p, whole=self.generator != "random")
        wanted = self._wanted(seed)
        files = list(wanted)[seed % len(wanted) :] + list(wanted)[: seed % len(wanted)]
        self._machine: dict[str, str] = {}
        for file in in_any_order(files):
            prefixes = {pair.id: pair.prefix for pair in wanted[file]}
            told = partial(advance, unit="texts")
            self._machine |= write_continuations(
                self._language_model, prefixes, file, writing=writing, name=self.generator, advance=told
            )

    def _language_model(self) -> tuple[Any, Any]:
        """Model and tokenizer of the generator, loaded when they are first needed."""
        if not hasattr(self, "_loaded"):
            self._loaded = self._load_generator()
        return self._loaded

    def _load_generator(self) -> tuple[Any, Any]:
        if self.generator == "random":
            from kilter.models.tiny_text import tiny_lm

            return tiny_lm(tokenizer := self._tiny_tokenizer()), tokenizer
        if self.generator == "smollm2":
            from kilter.data.pretrained import small_lm

            return small_lm(device=self.device)
        from kilter.models.text_model import TextModel

        found = TextModel.load(self.generator, device=self.device)
        if found.encoder_decoder:
            raise ValueError(f"generator: {self.generator} is an encoder–decoder model; give a causal one")
        return found.model, found.tokenizer

    def _tiny_tokenizer(self) -> Any:
        from kilter.models.tiny_text import tiny_tokenizer

        return tiny_tokenizer(pair.prefix for pairs in self._documents.values() for pair in pairs[:200])

    def _draw_samples(self, seed: int, advance: Advance) -> None:
        from kilter.models.kept import KeptRows
        from kilter.models.reranking import Sampling, sample

        sampling = Sampling(self.new_tokens, self.top_p)
        prompts = self._spread(self._held(seed), 1, self.prompts)
        settings = {"model": self.generator, "samples": self.samples, **asdict(sampling)}
        kept = KeptRows(self._samples_file(seed), settings)
        for done, pair in enumerate(prompts, 1):
            if pair.id not in kept.rows:
                drawn = sample(*self._language_model(), pair.prefix, self.samples, sampling, seed)
                kept.add([{"id": pair.id, **asdict(drawn)}])
            advance(done, len(prompts), "prompts")
        self._pool = kept.rows

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the ranker of this arm, unless it is there; the others have nothing to train."""
        loss = arm.removesuffix(_BLOCKS)
        if loss not in _LOSSES:
            return folder
        model = folder.parents[1] / loss / folder.name / "model"  # search in blocks has no ranker of its own
        pairs = self._spread(self._seen(seed), 0, self.pairs)
        self._train_ranker(_LOSSES[loss], pairs, seed, model, advance, self.describe(loss).label)
        return model

    def _train_ranker(
        self, negatives: Any, pairs: "Sequence[Pair]", seed: int, folder: Path, advance: Advance, label: str
    ) -> None:
        with one_at_a_time(folder):
            if (folder / "modules.json").exists():
                return
            from sentence_transformers import SentenceTransformer

            from kilter.data.books import OneDocumentBatches
            from kilter.decoding import RankGenLoss
            from kilter.hosts.sentence_transformers import as_st_loss
            from kilter.lab.text_training import fit_texts

            pairs = [pair for pair in pairs if pair.id in self._machine]
            many = Counter(pair.document for pair in pairs)
            pairs = [pair for pair in pairs if many[pair.document] > 1]
            if not pairs:
                raise ValueError(
                    f"{label}: no document has two passages to learn from that the generator could continue; give "
                    "longer texts, more --pairs, or another --generator"
                )
            start, work = folder.with_name("start"), folder.with_name("checkpoints")
            ranker = _tempered(self._fresh_ranker(seed), pairs[:32])
            prompts = dict(zip(("prefix", "continuation"), ranker.words, strict=True))
            ranker.save_pretrained(start)
            encoder = SentenceTransformer(str(start), device=self.device)
            numbers = {name: number for number, name in enumerate(sorted(self._documents))}
            fit_texts(
                encoder,
                as_st_loss(RankGenLoss(negatives=negatives), encoder),
                columns={
                    "prefix": [pair.prefix for pair in pairs],
                    "continuation": [pair.continuation for pair in pairs],
                    **({} if negatives == "inbook" else {"generated": [self._machine[pair.id] for pair in pairs]}),
                    "label": [numbers[pair.document] for pair in pairs],
                },
                prompts={**prompts, "generated": prompts["continuation"]},
                batch_sampler=OneDocumentBatches.for_sentence_transformers,
                folder=work,
                steps=self.steps,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                warm_up_steps=self.steps // 10,
                seed=seed,
                device=self.device,
                precision=self.precision,
                save_steps=self.save_steps,
                advance=advance,
            )
            self._save(encoder, folder, label)
            shutil.rmtree(start, ignore_errors=True)
            shutil.rmtree(work, ignore_errors=True)

    def _fresh_ranker(self, seed: int) -> Any:
        from kilter.decoding import RankGenScorer

        if self.model == "random":
            from kilter.models.tiny_text import tiny_encoder

            return RankGenScorer(tiny_encoder(tokenizer := self._tiny_tokenizer(), seed), tokenizer)
        if self.model == "minilm":
            from kilter.data.pretrained import minilm

            return RankGenScorer(*minilm())
        from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

        kind = AutoModelForTextEncoding if AutoConfig.from_pretrained(self.model).is_encoder_decoder else AutoModel
        return RankGenScorer(kind.from_pretrained(self.model), AutoTokenizer.from_pretrained(self.model))

    def _save(self, encoder: Any, folder: Path, label: str) -> None:
        """Save whole or not at all, with a model card, so that RankGenScorer and sentence-transformers load it."""
        from kilter.decoding import RankGenScorer
        from kilter.lab.card import write_model_card

        trained, part = folder.with_name("trained"), folder.with_name(f"{folder.name}.part")
        for old in (trained, part):
            shutil.rmtree(old, ignore_errors=True)
        with full_disk_said(folder.parent):
            encoder.save_pretrained(str(trained))
            RankGenScorer.from_pretrained(trained).save_pretrained(part)
            base = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}.get(self.model, self.model)
            licence = "apache-2.0" if self.model == "minilm" else None
            library = "sentence-transformers"
            write_model_card(part, self, label, self._provenance, base=base, licence=licence, library=library)
        part.replace(folder)
        shutil.rmtree(trained)

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """How well the ranker tells the true passage, and the text it chooses."""
        from kilter.models.judging_texts import means

        scorer = self._scorer(arm, seed, model)
        ranks = None if arm.endswith(_BLOCKS) else scorer
        rows = self._identify(ranks, seed) + self._agree(None if arm == "perplexity" else ranks)
        if self.prompts:
            rows += self._decode(arm, scorer, seed)
        figures = means(rows, [*dict.fromkeys(name for row in rows for name in row["totals"])])  # all are shares
        return Judged(figures, rows)  # the same rows for every arm, so that arms can be paired

    def _scorer(self, arm: str, seed: int, model: Path) -> "TextScorer | None":
        from kilter.models.ranking import MeanLogProb, Similarity, word_overlap

        if arm in ("nucleus", "human"):
            return None
        if arm == "judge":
            return self._judge(seed)
        if arm == "overlap":
            return word_overlap
        if arm == "perplexity":
            return MeanLogProb(*self._language_model())
        if arm != "untrained":
            from kilter.decoding import RankGenScorer

            return RankGenScorer.from_pretrained(model).to(self.device)
        if self.model == "random":
            return self._fresh_ranker(0)
        if self.model == "minilm":
            from kilter.data.pretrained import minilm_folder

            return Similarity(str(minilm_folder()), self.device)
        return Similarity(self.model, self.device)

    def _judge(self, seed: int) -> Any:
        from kilter.decoding import RankGenScorer

        return RankGenScorer.from_pretrained(self._judge_folder(seed)).to(self.device)

    def _identify(self, scorer: "TextScorer | None", seed: int) -> list[dict[str, Any]]:
        """Suffix identification on passages of the held-out documents."""
        from kilter.models.ranking import suffix_identification

        rng, rows = random.Random(f"others {seed}"), []
        for pair in self._spread(self._held(seed), 0, self.test_pairs):
            other = rng.choice([one for one in self._documents[pair.document] if one.id != pair.id])
            row = {"input": pair.id, "prefix": pair.prefix, "true": pair.continuation, "inbook": other.continuation}
            rows.append(row | {"generative": self._machine.get(pair.id, "")})
        totals = suffix_identification(scorer, rows) if scorer else [{} for _ in rows]
        return [{**row, "totals": total} for row, total in zip(rows, totals, strict=True)]

    def _agree(self, scorer: "TextScorer | None") -> list[dict[str, Any]]:
        """Whether the ranker prefers what people preferred; no texts are kept."""
        from kilter.models.ranking import wins

        found = self._preferences
        if scorer is None or not found:
            return [{"input": one.id, "totals": {}} for one in found]
        agreed = wins(scorer, [(one.prefix, one.preferred, one.other) for one in found])
        return [
            {"input": one.id, "totals": {"human_agreement": [won, 1.0], f"human_agreement_{one.source}": [won, 1.0]}}
            for one, won in zip(found, agreed, strict=True)
        ]

    def _decode(self, arm: str, scorer: "TextScorer | None", seed: int) -> list[dict[str, Any]]:
        """What the arm writes after each prompt, and how an independent ranker finds it."""
        from kilter.models.reranking import finished

        judge, rows = self._judge(seed) if self.judge_pairs else None, []
        for pair in self._spread(self._held(seed), 1, self.prompts):
            if arm == "judge":  # what it chooses, it would prefer
                rows.append({"input": pair.id, "prefix": pair.prefix, "totals": {}})
                continue
            drawn = self._pool[pair.id]
            texts = self._chosen(arm, scorer, pair, seed)
            plain = [finished(text) for text in drawn["texts"]]
            totals = _copying(pair.prefix, [text for text in texts if text.strip()])
            if judge:
                totals |= _preferences(judge, pair, texts, plain, arm)
            rows.append({"input": pair.id, "prefix": pair.prefix, "text": texts[0], "totals": totals})
        return rows

    def _chosen(self, arm: str, scorer: "TextScorer | None", pair: "Pair", seed: int) -> list[str]:
        """The text of this arm; of plain sampling all samples, whose mean is taken."""
        from kilter.models.reranking import Sampling, finished, search

        drawn = self._pool[pair.id]
        if arm == "human":
            return [pair.continuation]
        if arm == "nucleus" or scorer is None:
            return [finished(text) for text in drawn["texts"]]
        if arm.endswith(_BLOCKS):
            how = {"beams": self.beams, "samples": self.block_samples, "block": self.block}
            sampling = Sampling(self.new_tokens, self.top_p)
            return [finished(search(*self._language_model(), pair.prefix, scorer, sampling, seed, **how))]
        if arm == "perplexity":
            scores = drawn["likelihoods"]
        else:
            scores = [float(one) for one in scorer([pair.prefix] * len(drawn["texts"]), drawn["texts"])]
        return [finished(drawn["texts"][max(range(len(scores)), key=scores.__getitem__)])]

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """What the paper says of suffix identification, people and decoding, as far as it was run."""
        return (
            *(Claim("inbook", "higher", "untrained", arm) for arm in ("both", "inbook")),
            Claim("inbook", "higher", "generative", "both"),
            *(Claim("generative", "higher", "untrained", arm) for arm in ("both", "generative")),
            Claim("generative", "higher", "inbook", "both"),
            Claim("human_agreement", "higher", "untrained", "both"),
            Claim("preferred", "higher", "nucleus", "both"),
            Claim("preferred", "higher", "both", "both+blocks"),
            Claim("rep", "lower", "nucleus", "both"),
        )

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not."""
        notes = []
        if self.train_data is None:
            notes.append(
                "Each seed holds out another of the three novels, of which nothing is seen in training. The paper "
                "trains for 100,000 steps of 4,096 pairs with prefixes of 256 words; here it is "
                f"{self.steps} steps of {self.batch_size}, prefixes of at most {self.prefix_words} words."
            )
        if any("preferred" in arm["metrics"] for arm in summary["arms"].values()):
            notes.append(
                "The ranker that judges the texts has learnt from other passages of the same documents than the "
                "rankers judged, and from the same encoder: it is another opinion, not a person's; the arm judge shows "
                "how good it is. Plain sampling is at 50 % by definition."
            )
        if self.prompts:
            notes.append(
                f"All rankers choose among the same {self.samples} samples of each prompt; texts are cut after their "
                "last whole sentence, as the paper's."
            )
        return notes

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Both kinds of suffix identification against each other, and repetition against what the judge prefers."""
        from kilter.lab.plots import tradeoff

        found = []
        for name, x, y, title, caption in (
            (
                "identification",
                "generative",
                "inbook",
                "Telling the true next passage from both kinds of others",
                "Further right is surer against machine text, further up against passages of the same book.",
            ),
            (
                "decoding",
                "rep",
                "preferred",
                "What the rankers make of the samples",
                "Further up is preferred more often to a plain sample, further left repeats less.",
            ),
        ):
            if any({x, y} <= arm["metrics"].keys() for arm in summary["arms"].values()):
                found.append(Picture(name, title, caption, tradeoff(summary, x=x, y=y)))
        return found


RECIPE = RankGenRecipe


def _tempered(ranker: Any, pairs: "Sequence[Pair]") -> Any:
    """The ranker with a projection at which its scores begin close together.

    Raw dot products of an encoder's states differ by so much that the first hundred steps would go into shrinking them.
    """
    import torch

    scores = ranker.score_matrix([pair.prefix for pair in pairs], [pair.continuation for pair in pairs])
    with torch.no_grad():
        ranker.projection.weight.mul_((_SPREAD / scores.std(1).mean().clamp_min(1e-6)).sqrt())
    return ranker


def _copying(prefix: str, texts: Sequence[str]) -> dict[str, list[float]]:
    from kilter.evaluation.copying import overlap, repetition

    if not texts:
        return {}
    repeated = statistics.fmean(repetition(text, prefix=prefix) for text in texts)
    return {"rep": [repeated, 1.0], "overlap": [statistics.fmean(overlap(prefix, text) for text in texts), 1.0]}


def _preferences(
    judge: "TextScorer", pair: "Pair", texts: Sequence[str], plain: Sequence[str], arm: str
) -> dict[str, list[float]]:
    """How often the judge prefers these texts to plain samples, and to the author's."""
    every = [*texts, *plain, pair.continuation]
    scores = [float(score) for score in judge([pair.prefix] * len(every), every)]
    ours, theirs, author = scores[: len(texts)], scores[len(texts) : -1], scores[-1]

    def beats(others: Sequence[float]) -> float:
        return statistics.fmean((one > other) + 0.5 * (one == other) for one in ours for other in others)

    return {"preferred": [beats(theirs), 1.0]} | ({} if arm == "human" else {"near_human": [beats([author]), 1.0]})


def _each(total: int, documents: Sequence[str]) -> int:
    """Passages of each document, so that there are `total` in all; two at least, each of them the other's negative."""
    return max(2, -(-total // len(documents)))


def _with_held_out(
    own: "Mapping[str, list[Pair]]", judged: "Mapping[str, list[Pair]]"
) -> "tuple[dict[str, list[Pair]], list[tuple[str, str]]]":
    """The user's documents; those to judge on under names of their own, or the last tenth of each; what is left out."""
    from kilter.data.books import before

    if judged:
        return {**own, **{f"{name}{_HELD}": pairs for name, pairs in judged.items()}}, []
    found: dict[str, list[Pair]] = {}
    skipped = []
    for name, pairs in own.items():
        cut = len(pairs) - max(2, len(pairs) // 10)
        if cut < 2 or len(learnt := before(pairs, cut)) < 2:
            skipped.append((f"{name}.txt", f"only {len(pairs)} passages, too few to hold some out"))
        else:
            found |= {name: learnt, f"{name}{_HELD}": pairs[cut:]}
    if not found:
        raise ValueError(f"{skipped[0][0]}: {skipped[0][1]}; add longer texts, or --eval")
    return found, skipped


def _short(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()[:6]


def _digest(documents: "Mapping[str, list[Pair]]") -> str:
    from hashlib import sha256

    return sha256(repr(sorted(documents.items())).encode()).hexdigest()[:16]
