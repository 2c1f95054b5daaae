"""The recipe from end to end, on texts and on images: arms that share a training, kills, one's own model and text."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kilter.cli import main
from kilter.lab.files import read_json, read_rows
from kilter.lab.recipe import Provenance
from kilter.lab.run import run
from kilter.recipes.seqpe import SeqPEImages, SeqPETexts
from kilter.tasks.image_classification import sources as image_sources
from kilter.tasks.image_classification.sources import Images, Split
from kilter.tasks.language_modelling import sources as text_sources
from kilter.tasks.language_modelling.rope import ScaledRope
from kilter.tasks.language_modelling.sources import Texts
from tests.prose import prose

pytestmark = [pytest.mark.recipe, pytest.mark.host]

RUN = ["run", "seqpe", "--preset", "smoke", "--device", "cpu"]
TINY: dict[str, Any] = {**SeqPETexts.presets["smoke"], "preset": "smoke", "device": "cpu", "judged_tokens": 600}


def stripes() -> Split:
    """Images of two classes, stripes that lie and that stand."""
    lying = (torch.arange(28)[:, None] // 4 % 2 * 255).expand(28, 28)
    pixels = torch.stack([lying, lying.T] * 40).byte()[:, None]
    images = Images(pixels, torch.tensor([0, 1] * 40), ("lying", "standing"))
    return Split(images, images.some(20), Provenance("Made-up stripes", digest="1"))


def made_up(names: Any, judged_on: str) -> Texts:
    texts = {name: [prose(60, seed)] for seed, name in enumerate(names)}
    return Texts(texts, [prose(20, 7)], [prose(40, 8)], [prose(40, 9)], Provenance("Made-up texts", digest="1"))


@pytest.fixture(scope="module", autouse=True)
def data() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_sources, "given", made_up)
        patch.setattr(image_sources, "digits", stripes)
        yield


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke run on texts."""
    out = tmp_path_factory.mktemp("runs") / "texts"
    assert main([*RUN, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke run on images."""
    out = tmp_path_factory.mktemp("runs") / "images"
    assert main([*RUN, "--task", "images", "--out", str(out)]) == 0
    return out


def figures(run: Path, arm: str) -> dict[str, float]:
    found = read_json(run / "arms" / arm / "seed-0" / "metrics.json")
    return {name: value for name, value in found.items() if not name.startswith("cost_")}


def drawn(run: Path) -> list[str]:
    return [Path(one["file"]).stem for one in read_json(run / "summary.json")["figures"]]


class TestTexts:
    def test_every_arm_is_judged_at_every_length(self, texts: Path) -> None:
        measured = {f"{name}_{times}x" for name in ("perplexity", "last") for times in (1, 2, 4)} | {"loss"}
        for arm in ("rope", "linear", "none", "seqpe"):
            assert figures(texts, arm).keys() == measured
        assert drawn(texts)[-1] == "positions"
        assert {"perplexity", "last"} <= {*drawn(texts)}

    def test_a_scaling_of_rope_shares_its_training_and_differs_beyond_it(self, texts: Path) -> None:
        assert not (texts / "arms" / "linear" / "seed-0" / "model").exists()
        rope, linear = figures(texts, "rope"), figures(texts, "linear")
        assert linear["perplexity_1x"] == rope["perplexity_1x"]
        assert linear["perplexity_4x"] != rope["perplexity_4x"]

    def test_what_is_left_loads_with_its_positions_and_says_how(self, texts: Path) -> None:
        from kilter.hosts.transformers import load
        from kilter.pretraining import SeqPE

        folder = texts / "arms" / "seqpe" / "seed-0" / "model"
        model: Any = load(folder)
        assert isinstance(model.kilter_positions, SeqPE)
        assert model(input_ids=torch.arange(5, 300)[None] % 200).logits.shape == (1, 295, 259)
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "from kilter.hosts.transformers import load" in card
        assert "`max_position` 20000" in card
        assert "kilter_positions" not in (texts / "arms/rope/seed-0/model/config.json").read_text(encoding="utf-8")

    def test_claims_are_judged_in_both_directions_of_length(self, texts: Path) -> None:
        summary = read_json(texts / "summary.json")
        told = {(one["metric"], one["baseline"]) for one in summary["verdicts"] if one["arm"] == "seqpe"}
        assert {("perplexity_1x", "rope"), ("perplexity_4x", "linear"), ("last_4x", "none")} <= told
        assert any("20,000" in note or "100,000 steps" in note for note in summary["notes"])

    def test_a_killed_training_ends_with_the_same_bits(self, texts: Path, tmp_path: Path) -> None:
        """Right after a checkpoint, with draws of positions and of texts under way."""
        killed(tmp_path / "killed", SeqPETexts, {**TINY, "arms": ("seqpe",)}, at=9)
        file = "arms/seqpe/seed-0/model/model.safetensors"
        assert (tmp_path / "killed" / file).read_bytes() == (texts / file).read_bytes()

    def test_names_are_looked_up(self, tmp_path: Path) -> None:
        given = {**TINY, "arms": ("seqpe",), "lookups": 1.0, "longest": 2, "judged_lookups": 6, "steps": 2}
        out = run(SeqPETexts(**given, out=tmp_path / "run"), "")
        assert figures(out, "seqpe").keys() == {"lookup_1x", "lookup_2x"}
        assert drawn(out) == ["lookup", "positions"]


class TestImages:
    def test_every_arm_is_judged_at_every_resolution(self, images: Path) -> None:
        for arm in ("learnt", "none", "seqpe"):
            assert figures(images, arm).keys() == {f"accuracy_{one}" for one in (28, 42, 56, 84)}
        assert drawn(images) == ["resolutions", "positions"]

    def test_what_is_left_loads_with_its_positions(self, images: Path) -> None:
        from kilter.hosts.transformers import load

        folder = images / "arms" / "seqpe" / "seed-0" / "model"
        model: Any = load(folder)
        test = replace(stripes().test, resolution=42)
        with torch.no_grad():
            said = model(pixel_values=test.batch(slice(0, 20))).logits.argmax(1).tolist()
        rows = read_rows(images / "arms" / "seqpe" / "seed-0" / "utterances.jsonl")
        assert said == [row["said"]["42"] for row in rows]
        assert "from kilter.hosts.transformers import load" in (folder / "README.md").read_text(encoding="utf-8")

    def test_a_killed_training_ends_with_the_same_bits(self, images: Path, tmp_path: Path) -> None:
        given = {**SeqPEImages.presets["smoke"], "preset": "smoke", "device": "cpu", "arms": ("seqpe",)}
        killed(tmp_path / "killed", SeqPEImages, given, at=3)
        file = "arms/seqpe/seed-0/model/model.safetensors"
        assert (tmp_path / "killed" / file).read_bytes() == (images / file).read_bytes()


def killed(out: Path, kind: Any, given: Mapping[str, Any], *, at: int) -> None:
    """A run that is killed before a step and once more when all is trained, and then goes on to its end."""
    from transformers import Trainer, TrainerCallback

    step = Trainer.training_step

    def dies(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == at:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    def dies_after(self: Any, *args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    for name, holder, death in (("training_step", Trainer, dies), ("on_train_end", TrainerCallback, dies_after)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(holder, name, death)
            with pytest.raises(KeyboardInterrupt):
                run(kind(**given, out=out), "")
    run(kind(**given, out=out), "")


# Scaled RoPE ----------------------------------------------------------------------------------------------------------


class TestScaledRope:
    @pytest.fixture
    def model(self) -> Any:
        from kilter.tasks.language_modelling.networks import small_llama

        return small_llama(0, width=16, layers=2, heads=2, positions=64).eval()

    tokens = torch.arange(24)[None] * 7 % 250

    def test_linear_is_positions_divided(self, model: Any) -> None:
        at = torch.arange(24)[None] / 3
        with torch.no_grad():
            by_hand = model(input_ids=self.tokens, position_ids=at).logits
            found = ScaledRope(model, "linear", 8)(self.tokens).logits
        assert torch.allclose(found, by_hand, atol=1e-5)

    def test_dynamic_is_a_larger_base(self, model: Any) -> None:
        """θ·r^(d/(d−2)) for texts of r times the trained length, heads of size d."""
        scaled = ScaledRope(model, "dynamic", 8)
        seen = []
        base = model.base_model
        base.layers[0].register_forward_pre_hook(lambda *_: seen.append(base.rotary_emb.inv_freq.clone()))
        scaled(self.tokens)
        theta = model.config.rope_parameters["rope_theta"] * 3 ** (8 / 6)
        assert torch.allclose(seen[0], theta ** (-torch.arange(0, 8, 2) / 8), rtol=1e-4)

    @pytest.mark.parametrize("rule", ["linear", "dynamic", "yarn"])
    def test_short_texts_are_read_as_they_were_learnt_and_the_model_stays(self, model: Any, rule: Any) -> None:
        with torch.no_grad():
            short, long = model(input_ids=self.tokens[:, :8]).logits, model(input_ids=self.tokens).logits
            scaled = ScaledRope(model, rule, 8)
            assert not torch.allclose(scaled(self.tokens).logits, long, atol=1e-4)
            assert torch.equal(scaled(self.tokens[:, :8]).logits, short)
            assert torch.equal(model(input_ids=self.tokens).logits, long)


# One's own model ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of bytes with positions up to 128, as a user has it in a folder."""
    from transformers import ByT5Tokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("models") / "gpt2"
    torch.manual_seed(0)
    sizes: Any = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 128, "vocab_size": 259}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=1)).save_pretrained(folder)
    ByT5Tokenizer(extra_ids=0).save_pretrained(folder)
    return folder


def test_ones_own_model_on_ones_own_text(gpt2: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from kilter.hosts.transformers import load

    text, out = tmp_path / "my.txt", tmp_path / "run"
    text.write_text(prose(300), encoding="utf-8")
    sizes = ["--block", "32", "--steps", "3", "--batch-size", "2", "--judged-tokens", "300", "--device", "cpu"]
    assert main(["run", "seqpe", "--model", str(gpt2), "--train", str(text), *sizes, "--out", str(out)]) == 0
    summary = read_json(out / "summary.json")
    assert (summary["preset"], summary["verdicts"]) == ("own", [])
    assert [one["label"] for one in summary["arms"].values()] == ["The model's own positions", "SeqPE"]
    assert any("kilter.hosts.transformers.load" in note for note in summary["notes"])
    folder = out / "arms" / "seqpe" / "seed-0" / "model"
    model: Any = load(folder)
    prompt = AutoTokenizer.from_pretrained(folder)(["a far away place" * 10], return_tensors="pt")
    assert len(prompt["input_ids"][0]) > 128
    assert model.generate(**prompt, max_new_tokens=3, do_sample=False, eos_token_id=None).shape[1] == 164


# What does not fit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--contrast-weight", "-1"], "contrast_weight must not be negative"),
        (["--shift-rate", "1.5"], "shift_rate is a share between 0 and 1"),
        (["--max-position", "1"], "max_position must be at least 2"),
        (["--max-position", "90"], "has digits for 100 positions, and there are 128 tokens; raise it, or lower"),
        (["--task", "images", "--max-position", "9"], "has digits for 10 positions, and there are 12 patches across"),
        (["--arms", "none+linear"], "linear scales RoPE, whose place other positions have taken there"),
        (["--arms", "rope+linear"], "rope is the arm with nothing joined to it; leave it out"),
        (["--arms", "seqpe+none"], "has 2 modules (seqpe, none)"),
        (["--arms", "bowl"], "there is no 'bowl'; there are rope,"),
        (["--task", "sounds"], "task: there is no 'sounds'"),
    ],
)
def test_options_that_do_not_fit_are_named(options: list[str], message: str, tmp_path: Path, capsys: Any) -> None:
    assert main([*RUN, *options, "--out", str(tmp_path / "run")]) in (1, 2)
    assert re.sub(r"\s+", " ", message) in re.sub(r"[\s│]+", " ", "".join(capsys.readouterr()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--longest", "8"], "has positions up to 128, and texts of 8 times 32 tokens are judged; lower --longest"),
        (["--arms", "linear"], "linear scales RoPE, and GPT2LMHeadModel has none; leave the arm out"),
    ],
)
def test_what_a_model_cannot_do_is_named(
    gpt2: Path, options: list[str], message: str, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "my.txt").write_text(prose(300), encoding="utf-8")
    own = ["--model", str(gpt2), "--train", str(tmp_path / "my.txt"), "--block", "32", "--steps", "1"]
    assert main(["run", "seqpe", *own, *options, "--device", "cpu", "--out", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err


def test_the_encoder_has_a_learning_rate_of_its_own() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from kilter.pretraining import NoPositions, SeqPE, attach

    def small() -> Any:
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        return LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes))

    recipe, model = SeqPETexts(**{**TINY, "encoder_rate": 1e-4}), attach(small(), SeqPE(100))
    whole, encoder = recipe.rates(model, 3e-3)
    assert encoder["lr"] == 1e-4
    assert {id(one) for one in encoder["params"]} == {id(one) for one in model.kilter_positions.parameters()}
    assert len(whole["params"]) + len(encoder["params"]) == len([*model.parameters()])
    assert recipe.rates(attach(small(), NoPositions()), 3e-3) == []
    assert SeqPETexts(**TINY).rates(model, 3e-3) == []
