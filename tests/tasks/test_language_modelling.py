"""Language modelling: texts become blocks, what is judged on is not learnt from, perplexity is what it is by hand."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from kilter.core.paper import cards
from kilter.data.texts import pieces, read_texts, without_lines
from kilter.lab.arms import Levers, Term
from kilter.lab.recipe import Provenance
from kilter.lab.theme import PALETTE
from kilter.tasks.language_modelling import LanguageModelling, Rows, judging, networks, sources
from kilter.tasks.language_modelling.clusters import cluster
from kilter.tasks.language_modelling.figures import curves_plot, dots_plot
from kilter.tasks.language_modelling.rows import blocks_of, spread, training_rows
from kilter.tasks.language_modelling.sources import Texts
from kilter.tasks.language_modelling.training import in_domains, mixture_of
from tests.prose import prose

BYTES = networks.byte_tokenizer()


class TestTexts:
    def test_files_patterns_folders_and_tables_are_documents(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / f"{name}.txt").write_text(f"Text {name}.\n\nMore.\n", encoding="utf-8")
        (tmp_path / "c.jsonl").write_text('{"text": "One."}\n{"text": "Two."}\n', encoding="utf-8")
        assert read_texts(str(tmp_path / "a.txt")) == ["Text a.\n\nMore.\n"]
        assert read_texts(str(tmp_path)) == read_texts(str(tmp_path / "*.txt"))
        assert [text[:7] for text in read_texts(str(tmp_path / "?.txt"))] == ["Text a.", "Text b."]
        assert read_texts(str(tmp_path / "c.jsonl")) == ["One.", "Two."]
        assert read_texts(str(tmp_path / "c.jsonl"), most=3) == ["One."]

    def test_of_the_hub_no_more_is_read_than_is_asked_for(self, monkeypatch: Any) -> None:
        import datasets

        read = []

        def rows() -> Any:
            for number in range(1000):
                read.append(number)
                yield {"text": f"text {number}"}

        def load(name: str, config: Any, split: str, streaming: bool) -> Any:
            assert (name, config, split, streaming) == ("org/name", None, "train", True)
            return rows()

        monkeypatch.setattr(datasets, "load_dataset", load)
        assert len(read_texts("org/name", most=20)) == 4
        assert len(read) < 6

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("empty.txt", b" \n", "empty.txt: holds no text"),
            ("broken.txt", b"\xff\xfe\x00", "broken.txt"),
            ("none.jsonl", b"", "holds no texts"),
            ("other.jsonl", b'{"words": "x"}\n', "needs a text in column 'text'"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, tmp_path: Path, name: str, content: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_texts(str(tmp_path / name))

    def test_what_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no file is called so"):
            read_texts(str(tmp_path / "*.txt"))
        with pytest.raises(ValueError, match=r"has no \.txt"):
            read_texts(str(tmp_path))
        with pytest.raises(ValueError, match="no such file"):
            read_texts(str(tmp_path / "a.txt"))

    def test_pieces_lose_nothing_but_blank_lines(self) -> None:
        text = prose(60)
        found = pieces(text, 200)
        assert "".join("".join(found).split()) == "".join(text.split())
        assert min(map(len, found[:-1])) >= 200

    @pytest.mark.parametrize("text", [" ".join(prose(60).split()), "字" * 5000])
    def test_a_line_that_is_long_is_cut_inside(self, text: str) -> None:
        found = pieces(f"Short.\n{text}", 200)
        assert "".join("".join(found).split()) == "".join(f"Short.{text}".split())
        assert min(map(len, found[:-1])) >= 200
        assert max(map(len, found)) < 410
        words = {word for piece in found for word in piece.split()}
        assert " " not in text or words == {"Short.", *text.split()}

    def test_short_lines_do_not_count_as_the_same_text(self) -> None:
        same = "A long line that stands in both of them."
        mine = "Another long line, which one has alone."
        assert without_lines([f"SEE\n{same}\n{mine}"], [f"SEE\n{same}"]) == ([f"SEE\n{mine}"], 1)
        assert without_lines([f"SEE\n{same}"], [same]) == ([], 1)
        assert without_lines(["SEE"], [same]) == (["SEE"], 0)


def write(folder: Path, **texts: str) -> dict[str, str]:
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return {name: str(folder / f"{name}.txt") for name in texts}


class TestOwnTexts:
    def test_a_fifth_of_the_target_is_held_out(self, tmp_path: Path) -> None:
        files = write(tmp_path, a=prose(100, 1), b=prose(100, 2), t=prose(100, 3))
        found = sources.own([], {name: files[name] for name in "ab"}, [files["t"]], [], most=0)
        assert [*found.domains] == ["a", "b"]
        held, kept = sum(map(len, found.test)), sum(map(len, found.target))
        assert 0.1 < held / (held + kept) < 0.35
        assert not lines(found.test) & lines(found.target)

    def test_text_that_is_judged_on_is_never_learnt_from(self, tmp_path: Path) -> None:
        files = write(tmp_path, a=prose(100, 1), t=prose(100, 1))
        found = sources.own([], {"a": files["a"]}, [files["t"]], [], most=0)
        assert not lines(found.test) & lines(found.domains["a"])
        assert "Lines not learnt from" in found.provenance.note
        with pytest.raises(ValueError, match="domain a: all of its lines are in the text that is judged on"):
            sources.own([], {"a": files["a"]}, [], [files["t"]], most=0)

    def test_a_target_that_is_learnt_from_is_refused_or_said(self, tmp_path: Path) -> None:
        (tmp_path / "t.txt").write_text(prose(60, 1), encoding="utf-8")
        (tmp_path / "a.txt").write_text(prose(60, 1) + prose(60, 2), encoding="utf-8")
        same, more = f"{tmp_path}/t.txt", f"{tmp_path}/a.txt"
        with pytest.raises(ValueError, match=r"--target .*t.txt: domain b is the same"):
            sources.own((), {"a": more, "b": f"{tmp_path}/./t.txt"}, (same,), (), most=0)
        with pytest.raises(ValueError, match=r"--target .*t.txt: --train is the same"):
            sources.own((same,), {}, (same,), (), most=0)
        assert (
            "Lines of the target that are learnt from too: "
            in sources.own((), {"a": more}, (same,), (), most=0).provenance.note
        )

    def test_without_a_target_a_fifth_of_each_domain_is_held_out(self, tmp_path: Path) -> None:
        files = write(tmp_path, a=prose(100, 1))
        found = sources.own([files["a"]], {}, [], [], most=0)
        assert [*found.domains] == ["train"]
        assert not lines(found.test) & lines(found.domains["train"])
        with pytest.raises(ValueError, match="development part"):
            found.judged("dev")

    def test_a_long_text_in_one_line_is_parted(self, tmp_path: Path) -> None:
        files = write(tmp_path, a=" ".join(prose(100, 1).split()))
        found = sources.own([files["a"]], {}, [], [], most=0)
        held, kept = sum(map(len, found.test)), sum(map(len, found.domains["train"]))
        assert 0.1 < held / (held + kept) < 0.35

    def test_one_short_text_cannot_be_parted(self, tmp_path: Path) -> None:
        files = write(tmp_path, a=prose(100, 1), t="One line.")
        with pytest.raises(ValueError, match="--target is one short text"):
            sources.own([], {"a": files["a"]}, [files["t"]], [], most=0)
        with pytest.raises(ValueError, match=r"^--train is one short text"):
            sources.own([files["t"]], {}, [], [], most=0)
        with pytest.raises(ValueError, match=r"^domain t is one short text"):
            sources.own([], {"t": files["t"]}, [], [], most=0)

    def test_pipes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="reads its texts more than once"):
            sources.own(["-"], {}, [], [], most=0)


def lines(texts: Any) -> set[str]:
    return {line for text in texts for line in text.split("\n") if len(line) >= 20}


def rows_of(**texts: str) -> Rows:
    named = Texts({name: [text] for name, text in texts.items()}, [prose(30, 9)], [prose(30, 8)])
    return training_rows(named, BYTES, block=32, target_blocks=8)


class TestRows:
    def test_bytes_of_texts_and_an_end_behind_each(self) -> None:
        assert networks.stream(BYTES, ["aé", "b"]).tolist() == [*BYTES("aé")["input_ids"], *BYTES("b")["input_ids"]]
        assert len(networks.stream(BYTES, [])) == 0

    def test_a_fast_tokenizer_gives_no_tokens_of_no_text(self) -> None:
        from kilter.models.tiny_text import tiny_tokenizer

        fast = tiny_tokenizer([prose(20)])
        assert len(networks.stream(fast, ["one", "two"])) > 1
        rows = training_rows(Texts({"train": [prose(40)]}, [], []), fast, block=8, target_blocks=4)
        assert rows.target.shape == (0, 8)

    def test_domains_stand_behind_each_other(self) -> None:
        rows = rows_of(a="a" * 100, b="b" * 200)
        assert rows.sizes == {"a": 3, "b": 6}
        assert len(rows) == 9
        assert BYTES.decode(rows[2]["input_ids"]) == "a" * 32
        assert BYTES.decode(rows.by_domain()["b"][0]["labels"]) == "b" * 32
        assert rows.target.shape == (8, 32)

    def test_a_domain_of_less_than_a_block_is_named(self) -> None:
        with pytest.raises(ValueError, match="domain b: its texts are shorter than one block of 32 tokens"):
            rows_of(a="a" * 100, b="b")

    def test_one_document_is_a_domain(self) -> None:
        assert rows_of(a="a" * 33).sizes == {"a": 1}

    def test_look_ups_have_their_share_of_the_draws(self) -> None:
        texts = Texts({"a": ["a" * 64], "b": ["b" * 320]}, [], [])
        rows = training_rows(texts, BYTES, block=32, target_blocks=8, lookups=0.25, drawn=100)
        assert rows.sizes == {"a": 2, "b": 10, "look-ups": 25}
        assert rows.weights() == [0.375, 0.375, 0.25]
        assert rows.weights(by_size=True) == pytest.approx([0.125, 0.625, 0.25])
        assert len(rows[20]["input_ids"]) == 32
        assert (rows[20]["labels"] == -100).any()

    def test_most_blocks_are_spread_over_the_texts(self) -> None:
        found = spread(blocks_of(BYTES, ["abcdefghij"], 2), 3)
        assert [BYTES.decode(row) for row in found] == ["ab", "ef", "ij"]

    def test_a_domain_weighs_what_its_texts_do_though_some_blocks_are_taken(self) -> None:
        texts = Texts({"a": ["a" * 100], "b": ["b" * 300]}, [], [])
        rows = training_rows(texts, BYTES, block=32, target_blocks=8, domain_blocks=3)
        assert rows.sizes == {"a": 3, "b": 3}
        assert rows.weights() == [0.5, 0.5]
        assert rows.weights(by_size=True) == [0.25, 0.75]

    def test_clusters_are_made_of_what_texts_are_about(self) -> None:
        cats, ships = "the cat sat on a mat with a cat. " * 40, "ships sail over seas in storms now. " * 40
        rows = training_rows(
            Texts({"mixed": [cats, ships], "more": [ships]}, [cats], []), BYTES, block=66, target_blocks=9
        )
        found = cluster(rows, 2, 0)
        assert sum(found.sizes.values()) == len(rows)
        best = int(found.of_target.argmax())
        assert found.of_target[best] > 0.9
        assert found.origin[best, 1] == 0
        assert found.shares.sum(1) == pytest.approx([1, 1])
        names = [*found.sizes]
        drawn = dict(zip(names, found.of_target.tolist(), strict=True))
        kept = {"domains": names, "rows": [{"step": 1, "drawn": drawn, "examples": dict.fromkeys(names, 4)}]}
        told = in_domains(found, kept)["rows"][0]
        assert told["weights"]["mixed"] > 0.9
        assert told["epochs"].keys() == {"mixed", "more"}
        with pytest.raises(ValueError, match="clusters=999"):
            cluster(rows, 999, 0)

    def test_a_mixture_is_the_same_for_the_same_seed(self) -> None:
        rows = rows_of(a="a" * 100, b="b" * 200)
        assert [*mixture_of(rows, 1)] == [*mixture_of(rows, 1)] != [*mixture_of(rows, 2)]


class Unigram(torch.nn.Module):
    """Gives every token what its own number says, whatever stands before."""

    device = "cpu"

    def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=torch.arange(259.0).div(100).expand(*input_ids.shape, 259))


class TestJudging:
    def test_perplexity_is_that_of_the_tokens_by_hand(self) -> None:
        tokens = torch.randint(3, 259, (300,), generator=torch.Generator().manual_seed(0))
        rows = judging.judge_text(Unigram(), tokens, block=16, longest=4, most=200)
        found = judging.judged(rows, judging.metrics(16, 4, text=True, looked_up=False)).metrics
        nats = torch.arange(259.0).div(100).logsumexp(0) - tokens.float() / 100
        for times in (1, 2, 4):
            size = 16 * times
            scored = torch.cat([nats[at + 1 : at + size] for at in range(0, 200 - size + 1, size)])
            assert found[f"perplexity_{times}x"] == pytest.approx(math.exp(scored.double().mean()), rel=1e-5)
        assert found["loss"] == pytest.approx(math.log(found["perplexity_1x"]))
        ends = range(64, 201, 16)
        last = torch.cat([nats[end - 4 : end] for end in ends])
        for times in (1, 2, 4):  # the same tokens whatever the length
            assert found[f"last_{times}x"] == pytest.approx(math.exp(last.double().mean()), rel=1e-5)

    def test_at_one_length_there_are_no_last_tokens(self) -> None:
        rows = judging.judge_text(Unigram(), torch.full((64,), 9), block=16, longest=1, most=64)
        assert {name for row in rows for name in row["totals"]} == {"perplexity_1x", "loss"}
        assert len(rows) == 4

    def test_beyond_the_end_of_a_table_windows_have_rows_without_figures(self) -> None:
        tokens = torch.arange(200) % 250
        sizes: Any = {"block": 16, "longest": 4, "most": 200}
        whole, some = (judging.judge_text(Unigram(), tokens, **sizes, end=end) for end in (None, 40))
        assert [row["input"] for row in some] == [row["input"] for row in whole]
        assert {name for row in some for name in row["totals"]} == {
            "perplexity_1x", "perplexity_2x", "last_1x", "last_2x", "loss",
        }  # fmt: skip
        assert some[0] == whole[0]

    def test_a_text_that_is_too_short_is_refused(self) -> None:
        with pytest.raises(ValueError, match="has 30 tokens, and the longest window 32"):
            judging.judge_text(Unigram(), torch.full((30,), 9), block=16, longest=2, most=64)


@dataclass(kw_only=True)
class Plain(LanguageModelling):
    """The task with a term of each lever."""

    paper = cards()["dga"]

    def brings(self) -> Any:
        return {
            "wide": Term("wide", lambda strength: Levers(options={"width": 32}), after=True),
            "frozen": Term("frozen", lambda strength: Levers(module=frozen)),
            "odd": Term("odd", lambda strength: Levers(options={"deep": 1})),
        }


def frozen(model: Any) -> Any:
    return model.requires_grad_(False)


SMALL: dict[str, Any] = {**LanguageModelling.smoke, "device": "cpu", "corpora": ("a", "b")}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(names: Any, judged_on: str) -> Texts:
        texts = {name: [prose(80, seed)] for seed, name in enumerate(names)}
        return Texts(texts, [prose(20, 7)], [prose(40, 8)], [prose(40, 9)], Provenance("Made up", digest="1"))

    monkeypatch.setattr(sources, "given", given)


def prepared(**options: Any) -> Plain:
    task = Plain(**{**SMALL, **options})
    task.prepare()
    return task


@pytest.mark.host
class TestTask:
    def test_it_learns_and_is_judged(self, made: None, tmp_path: Path) -> None:
        task = prepared(steps=30, learning_rate=1e-2)
        task.build_data()
        model = task.train("uniform", 0, tmp_path / "uniform", lambda *_: None)
        found = task.evaluate("uniform", 0, model)
        assert found.metrics["perplexity_1x"] < 100 < 259
        kept = json.loads((tmp_path / "uniform" / "mixture.json").read_text())
        assert kept["domains"] == ["a", "b"]
        assert sum(kept["rows"][-1]["weights"].values()) == pytest.approx(1)
        assert not (tmp_path / "uniform" / "checkpoints").exists()
        task.split = "dev"
        assert task.evaluate("uniform", 0, model).metrics != found.metrics

    def test_own_model_goes_on(self, made: None, tmp_path: Path) -> None:
        from kilter.models.tiny_text import tiny_lm, tiny_tokenizer

        tokenizer = tiny_tokenizer([prose(50)])
        tiny_lm(tokenizer).save_pretrained(tmp_path / "mine")
        tokenizer.save_pretrained(tmp_path / "mine")
        task = prepared(model=str(tmp_path / "mine"), steps=2)
        task.build_data()
        model = task.train("uniform", 0, tmp_path / "run", lambda *_: None)
        assert task.evaluate("uniform", 0, model).metrics["loss"] > 0
        assert "width" not in task.made_by("uniform")

    def test_arms_are_read(self) -> None:
        task = prepared()
        assert task.describe("uniform").role == "baseline"
        assert task.describe("proportional+wide").label == "Domains by the size of their texts, wide"
        assert task.made_by("wide")["width"] == 32
        with pytest.raises(ValueError, match="there is no 'bowl'; there are uniform, wide"):
            task.mixture("bowl")
        with pytest.raises(ValueError, match="changes deep"):
            task.mixture("odd")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"train_data": ("a.txt",), "domains": ("a=a.txt",)}, "--train and --domains: give one"),
            ({"target": ("t.txt",)}, "need your texts to learn from"),
            ({"domains": ("a.txt",)}, "say of which domain it is"),
            ({"domains": ("a=a.txt",), "lookups": 1.0}, "lookups=1 reads no text"),
            ({"width": 18}, "width=18"),
            ({"lookups": 0.5, "block": 8, "width": 16}, None),
            ({"model": "no/such/model"}, "no/such/model"),
        ],
    )
    def test_options_that_do_not_fit_are_named(self, options: dict[str, Any], message: str | None) -> None:
        if message is None:
            prepared(**options)
            return
        with pytest.raises(ValueError, match=message):
            prepared(**options)

    def test_several_processes_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(ValueError, match="trains in one process"):
            prepared()


class TestFigures:
    def test_weights_of_all_arms_have_one_axis_from_0(self) -> None:
        curves = {"a": [(0, 0.5), (9, 0.6)], "b": [(0, 0.5), (9, 0.4)]}
        svg = curves_plot(curves, across="step", up="weight", title="Weights", top=1.0)
        assert {">0.0<", ">1.0<"} <= {*re.findall(r">\d\.\d<", svg)}

    def test_each_arm_has_its_own_colour_and_line(self) -> None:
        svg = dots_plot({f"arm {place}": {"news": 1.0, "law": 1.0} for place in range(8)}, "epochs")
        named = {light: name for name, (light, _) in PALETTE.items()}
        inks = {named[one] for one in re.findall(r"fill: (#\w+)", svg) if one in named}
        assert len(inks - {"page", "panel", "grid", "muted"}) == 8
        places = re.findall(r'<use xlink:href="#[^"]+" x="([\d.]+)" y="([\d.]+)" style="fill: #', svg)
        across = max((x for x, _ in places), key=[x for x, _ in places].count)
        assert len({y for x, y in places if x == across}) == 16 + 1  # and the tick below them
