"""Settings that come with a model neither steer nor stop a command; in Python they are the user's, and named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from kilter.cli import main
from tests.own_text import writing_model

pytestmark = pytest.mark.host

HOW: dict[str, tuple[Any, ...]] = {
    "sample": ("--n", 3),
    "beam": ("--num-beams", 3),
    "diverse-beam": ("--num-beams", 4, "--groups", 2),
    "best-of": ("--scorer", "log-prob", "--n", 3, "--keep", 2),
}
SET: dict[str, Any] = {
    "early_stopping": True,
    "stop_strings": ["train", "the"],
    "do_sample": True,
    "num_beams": 4,
    "num_beam_groups": 2,
    "max_time": 1e-9,
    "max_length": 3,
    "max_new_tokens": 1,
    "min_length": 9,
    "min_new_tokens": 9,
    "use_cache": False,
    "cache_implementation": "static",
    "cache_config": {"backend": "quanto"},
    "temperature": 0.1,
    "top_k": 1,
    "top_p": 0.1,
    "top_h": 0.1,
    "min_p": 0.9,
    "typical_p": 0.1,
    "epsilon_cutoff": 0.3,
    "eta_cutoff": 0.9,
    "repetition_penalty": 9.0,
    "encoder_repetition_penalty": 9.0,
    "length_penalty": -3.0,
    "no_repeat_ngram_size": 1,
    "encoder_no_repeat_ngram_size": 1,
    "renormalize_logits": True,
    "exponential_decay_length_penalty": [1, 9.0],
    "sequence_bias": [[[5], 99.0]],
    "guidance_scale": 3.0,
    "watermarking_config": {"greenlist_ratio": 0.5, "bias": 99.0},
    "output_attentions": True,
    "output_hidden_states": True,
    "output_scores": True,
    "output_logits": True,
    "return_dict_in_generate": False,
    "penalty_alpha": 0.6,
    "dola_layers": "high",
    "prompt_lookup_num_tokens": 3,
    "assistant_early_exit": 1,
    "diversity_penalty": 99.0,
    "force_words_ids": [[5]],
    "prefill_chunk_size": 1,
    "token_healing": True,
    "num_return_sequences": 2,
    "low_memory": True,
    "remove_invalid_values": True,
}
"""Settings as they lie in a file; those of the host that are missing here are tried with a number below."""
KEPT = {"suppress_tokens": [5], "begin_suppress_tokens": [5], "bad_words_ids": [[5]]}


def fields() -> dict[str, Any]:
    """Every field that the host has, and one that it has not (yet), each with a value that is not its default."""
    from transformers import GenerationConfig

    host = vars(GenerationConfig())
    ours = {name for name in host if name.endswith("_token_id") or name in KEPT or name.startswith("_")}
    rest = {name: 1 for name in host if name not in ours | {"transformers_version"}}
    return {**rest, **SET, "a_setting_yet_to_come": 0.1}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for family in ("gpt2", "t5"):
        writing_model(root / family, family)
    (root / "p.txt").write_text("the steam train\na train went to town\n")
    return root


def written(folder: Path, prompts: Path, decoder: str, capsys: pytest.CaptureFixture) -> list[Any]:
    ask = ["--model", folder, "--prompts", prompts, "--decoder", decoder, *HOW[decoder], "--max-new-tokens", 6]
    code = main(["generate", "--device", "cpu", *map(str, ask)])
    found = capsys.readouterr()
    assert code == 0, found.err
    return [json.loads(line)["outputs"] for line in found.out.splitlines()]


def text_model(folder: Path) -> Any:
    from kilter.models.text_model import TextModel

    return TextModel.load(str(folder), device="cpu")


def with_settings(folder: Path, target: Path, own: dict[str, Any], file: str = "generation_config.json") -> Path:
    shutil.copytree(folder, target)
    path = target / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | own))
    return target


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "t5"])
@pytest.mark.parametrize("decoder", HOW)
def test_none_of_them_changes_what_is_written(
    decoder: str, family: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from kilter.data.text_prompts import read_prompts
    from kilter.models.text_decoding import decoding, seeds
    from kilter.models.text_model import TextModel

    text = TextModel.load(str(models / family), device="cpu")
    options: dict[str, Any] = {
        "sample": {"n": 3, "temperature": 1.0, "top_p": 0.9, "top_k": 0},
        "beam": {"num_beams": 3, "keep": 3, "length_penalty": 1.0},
        "diverse-beam": {"num_beams": 4, "keep": 4, "length_penalty": 1.0, "groups": 2, "diversity_penalty": 0.5}
        | {"diversity": "hamming", "order": None},
        "best-of": {"n": 3, "keep": 2, "temperature": 1.0, "top_p": 0.9, "top_k": 0},
    }[decoder]
    scorer = "log_prob" if decoder == "best-of" else None
    write = decoding(text, decoder, options, scorer=scorer, max_new_tokens=6)
    ids = text.encode([row.text for row in read_prompts(str(models / "p.txt"))])
    plain, own = write(ids, seeds(ids, 0)), text.model.generation_config
    for name, value in fields().items():
        before = getattr(own, name, None)
        setattr(own, name, value)
        assert write(ids, seeds(ids, 0)) == plain, name
        assert text.model.generation_config is own
        assert getattr(own, name) == value
        setattr(own, name, before)


@pytest.mark.parametrize("decoder", HOW)
def test_all_of_them_in_the_file_of_a_model(
    decoder: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    plain = written(models / "t5", models / "p.txt", decoder, capsys)
    few = {name: value for name, value in SET.items() if name not in ("watermarking_config", "cache_config")}
    for place, own in enumerate((few, {"stop_strings": ["train"]}, {"output_attentions": True, "max_time": 1e-9})):
        folder = with_settings(models / "t5", tmp_path / f"own{place}", own)
        assert written(folder, models / "p.txt", decoder, capsys) == plain


@pytest.mark.filterwarnings("ignore")  # of the host, about what nobody asked for
def test_each_of_them_alone_in_a_file(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Some the host refuses without others beside them, and with them the model."""
    folder, refused = with_settings(models / "gpt2", tmp_path / "own", {}), 0
    file, plain = folder / "generation_config.json", written(models / "gpt2", models / "p.txt", "beam", capsys)
    before = json.loads(file.read_text())
    for name, value in {**fields(), "early_stopping": "maybe", "temperature": "hot", "num_beams": None}.items():
        file.write_text(json.dumps(before | {name: value}))
        found = text_model(folder).model.generation_config
        assert (found.eos_token_id, found.bos_token_id) == (before["eos_token_id"], before["bos_token_id"]), name
        if getattr(found, name, None) != value:
            refused += 1
            assert written(folder, models / "p.txt", "beam", capsys) == plain
    assert refused


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "no JSON object"),
        ('{"eos_token', "no JSON"),
        ("version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        ('{"eos_token_id": "</s>"}', "eos_token_id is '</s>', which is no token's number"),
        ('{"forced_bos_token_id": [2, null]}', r"forced_bos_token_id is \[2, None\]"),
    ],
)
def test_a_file_of_settings_that_is_none(content: str, said: str, models: Path, tmp_path: Path) -> None:
    """The host would pass over some of them, and take other tokens for the model's."""
    (with_settings(models / "gpt2", tmp_path / "own", {}) / "generation_config.json").write_text(content)
    with pytest.raises(ValueError, match=rf"own/generation_config\.json: {said}"):
        text_model(tmp_path / "own")


def test_old_models_have_them_in_their_config(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    old = {"num_beams": 4, "length_penalty": 3.0, "early_stopping": True, "no_repeat_ngram_size": 1, "max_length": 3}
    for decoder in ("beam", "sample"):
        plain = written(models / "t5", models / "p.txt", decoder, capsys)
        folder = with_settings(models / "t5", tmp_path / decoder, old, "config.json")
        assert written(folder, models / "p.txt", decoder, capsys) == plain
        (folder / "generation_config.json").unlink()
        assert written(folder, models / "p.txt", decoder, capsys) == plain


@pytest.mark.parametrize("name", KEPT)
def test_tokens_that_a_model_must_not_write_stay_so(
    name: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Marian's padding is such a token: it has an output that was never trained."""
    plain = written(models / "gpt2", models / "p.txt", "beam", capsys)
    first = plain[0][0]["text"].split()[0]
    token = json.loads((models / "gpt2" / "tokenizer.json").read_text())["model"]["vocab"][first]
    value = [[token]] if name == "bad_words_ids" else [token]
    folder = with_settings(models / "gpt2", tmp_path / "own", {name: value})
    for row in written(folder, models / "p.txt", "beam", capsys):
        assert all(output["text"].split()[:1] != [first] for output in row)


def test_the_end_that_a_model_says_stays(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    plain = written(models / "gpt2", models / "p.txt", "sample", capsys)
    word = next(text.split()[0] for row in plain for output in row if (text := output["text"]).split())
    token = json.loads((models / "gpt2" / "tokenizer.json").read_text())["model"]["vocab"][word]
    folder = with_settings(models / "gpt2", tmp_path / "own", {"eos_token_id": [1, token]})
    ended = written(folder, models / "p.txt", "sample", capsys)
    assert ended != plain
    assert all(word not in output["text"].split()[:-1] for row in ended for output in row)


def test_a_recipe_samples_without_them() -> None:
    from kilter.models.tiny_text import tiny_lm, tiny_tokenizer
    from kilter.tasks.continuations.reranking import Sampling, sample

    tokenizer = tiny_tokenizer(["the steam train went to town"])
    model = tiny_lm(tokenizer)
    draw = (tokenizer, "the steam", 3, Sampling(6, 0.9), 0)
    plain = sample(model, *draw)
    for name, value in (
        ("repetition_penalty", 9.0),
        ("top_h", 0.1),
        ("min_new_tokens", 9),
        ("output_attentions", True),
    ):
        setattr(model.generation_config, name, value)
        assert sample(model, *draw) == plain, name


# In Python ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive search, which DiverseBeamSearch does not do.*penalty_alpha"),
        ({"dola_layers": "high"}, "dola generation.*dola_layers"),
        ({"prompt_lookup_num_tokens": 3}, "assisted generation.*prompt_lookup_num_tokens"),
        ({"force_words_ids": [[5]]}, "constrained beam search.*force_words_ids"),
        ({"output_hidden_states": True}, "output_hidden_states=True: kilter's decoders return no such thing"),
    ],
)
def test_what_a_decoder_cannot_do_is_named(own: dict[str, Any], said: str, models: Path) -> None:
    from kilter.decoding import DiverseBeamSearch
    from kilter.models.text_model import TextModel

    model = TextModel.load(str(models / "gpt2"), device="cpu").model
    for name, value in own.items():
        setattr(model.generation_config, name, value)
    ask: Any = {"custom_generate": DiverseBeamSearch(), "num_beam_groups": 1, "max_new_tokens": 3, "do_sample": False}
    with pytest.raises(ValueError, match=f"(?s){said}"):
        model.generate(torch.tensor([[4, 5]]), pad_token_id=0, **ask)


def test_what_it_can_do_counts(models: Path) -> None:
    from kilter.decoding import DiverseBeamSearch
    from kilter.models.text_model import TextModel

    model = TextModel.load(str(models / "gpt2"), device="cpu").model
    ask: Any = {"custom_generate": DiverseBeamSearch(), "num_beam_groups": 1, "max_new_tokens": 6, "num_beams": 3}
    model.generation_config.no_repeat_ngram_size = 1
    (found,) = model.generate(torch.tensor([[4, 5]]), pad_token_id=0, **ask).tolist()
    words = [token for token in found if token > 1]
    assert len(set(words)) == len(words)


# Vocabularies ------------------------------------------------------------------------------------------------------


def padded(folder: Path, family: str, more: int) -> Path:
    """The model with outputs that its tokenizer has no entry for, loud enough to be chosen."""
    from kilter.models.text_model import TextModel

    text = TextModel.load(str(writing_model(folder, family)), device="cpu")
    model: Any = text.model
    old = model.config.vocab_size
    model.resize_token_embeddings(old + more, mean_resizing=False)
    with torch.no_grad():
        model.get_output_embeddings().weight[old:] = 50 * torch.randn(
            more, model.get_output_embeddings().weight.shape[1], generator=torch.Generator().manual_seed(0)
        )
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["gpt2", "t5"])
@pytest.mark.parametrize("decoder", HOW)
def test_a_padded_vocabulary_is_not_written(
    decoder: str, family: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from kilter.hosts.settings import unwritable
    from kilter.models.text_model import TextModel

    (tmp_path / "p.txt").write_text("the steam train\n")
    folder = padded(tmp_path / "own", family, 40)
    text = TextModel.load(str(folder), device="cpu")
    assert list(unwritable(text.model, text.tokenizer)) == list(range(18, 58))
    for row in written(folder, tmp_path / "p.txt", decoder, capsys):
        for output in row:
            assert output["log_prob"] < -1  # what was most likely has no text
            assert output["text"]


def test_a_token_that_the_model_has_not_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from kilter.models.text_model import TextModel

    folder = writing_model(tmp_path / "own")
    text = TextModel.load(str(folder), device="cpu")
    text.tokenizer.add_tokens(["<image>"])
    text.tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    text.tokenizer.save_pretrained(folder)
    (tmp_path / "fine.txt").write_text("the steam train\nrain\n")
    assert len(written(folder, tmp_path / "fine.txt", "beam", capsys)) == 2  # padding is never looked at
    (tmp_path / "bad.txt").write_text("the train\nthe <image>\n")
    ask = ["--model", str(folder), "--prompts", str(tmp_path / "bad.txt"), "--device", "cpu"]
    assert main(["generate", *ask]) == 1
    said = capsys.readouterr().err
    assert "prompt 2: its token '<image>' has the id 18, and the model 18 tokens" in said
