"""The door for models: what is missing, misshapen or broken is an error with the file or the weights and the mend."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kilter.cli import main
from tests.decoding import encoders
from tests.hosts.tiny import Tiny
from tests.own import letter_model
from tests.own_text import word_tokenizer, writing_model

pytestmark = pytest.mark.host

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 377607901\n"


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def save(folder: Path, state: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.clone() for name, tensor in state.items()}, folder / "model.safetensors", {"format": "pt"})


def without(folder: Path, *parts: str) -> list[str]:
    """Drop weights whose name has one of the parts; their names."""
    state = weights(folder)
    lost = [name for name in state if any(part in name for part in parts)]
    assert lost
    save(folder, {name: tensor for name, tensor in state.items() if name not in lost})
    return lost


def configured(folder: Path, **changed: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def llama(folder: Path, **more: Any) -> Path:
    """Untied, unlike the others, with the tokenizer of words."""
    import transformers as hf

    tokenizer = word_tokenizer(pad_token="<pad>")
    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = hf.LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=32, tie_word_embeddings=False, **sizes, **more
    )
    hf.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def cross_encoder(folder: Path) -> Path:
    import transformers as hf

    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    tokenizer = encoders.tokenizer("bert")
    config = hf.BertConfig(vocab_size=len(tokenizer), num_labels=1, max_position_embeddings=40, **sizes)
    hf.BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recogniser(folder: Path) -> Any:
    from kilter.models.recogniser import Recogniser

    return Recogniser.load(folder)


def text_model(folder: Path) -> Any:
    from kilter.models.text_model import TextModel

    return TextModel.load(str(folder), device="cpu")


def scorer(folder: Path) -> Any:
    from kilter.models.text_decoding import load_scorer

    return load_scorer(str(folder), text_model(writing_model(folder.parent / "beside")))


def ranker(folder: Path) -> Any:
    from kilter.decoding import RankGenScorer

    return RankGenScorer.from_pretrained(folder)


def similarity(folder: Path) -> Any:
    from kilter.tasks.continuations.ranking import Similarity

    return Similarity(str(folder))


def encoder(folder: Path) -> Any:
    from kilter.tasks.continuations.networks import load_encoder

    return load_encoder(str(folder))


def saved_ranker(folder: Path, kind: str = "bert") -> Path:
    from kilter.decoding import RankGenScorer

    RankGenScorer(encoders.encoder(kind), encoders.tokenizer(kind)).save_pretrained(folder)
    return folder


DOORS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "recogniser": (letter_model, recogniser),
    "causal": (llama, text_model),
    "encoder–decoder": (lambda folder: writing_model(folder, "t5"), text_model),
    "cross-encoder": (cross_encoder, scorer),
    "ranker": (saved_ranker, ranker),
    "ranker of T5": (lambda folder: saved_ranker(folder, "t5"), ranker),
    "encoder": (saved_ranker, encoder),
    "similarity": (saved_ranker, similarity),
}
BODY = {"encoder–decoder": "decoder.block.1.layer.0", "ranker of T5": "encoder.block.1", "causal": "layers.1.mlp"}


@pytest.mark.parametrize("door", DOORS)
def test_weights_that_the_model_needs_are_missing(door: str, tmp_path: Path) -> None:
    make, load = DOORS[door]
    folder = make(tmp_path / "model")
    load(folder)
    (lost, *_) = without(folder, BODY.get(door, "attention"))
    with pytest.raises(ValueError, match=rf"(?s)model: the weights lack .*{lost.rpartition('.')[0]}.*fetch both again"):
        load(folder)


HEADS = {
    "recogniser": ("lm_head",),
    "causal": ("lm_head",),
    "cross-encoder": ("classifier",),
}


@pytest.mark.parametrize("door", HEADS)
def test_a_head_that_is_missing(door: str, tmp_path: Path) -> None:
    make, load = DOORS[door]
    folder = make(tmp_path / "model")
    (lost, *_) = without(folder, *HEADS[door])
    with pytest.raises(ValueError, match=rf"model: the head of \w+ is not in the weights \({lost}.*random"):
        load(folder)


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm", "parakeet", "small"])
def test_an_encoder_saved_without_its_head_loads_only_to_be_trained(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCTC

    from kilter.hosts.loading import load_model

    model = Tiny(tmp_path)(family)
    if model.base_model is not model:
        model.base_model.save_pretrained(tmp_path / "body")
    else:
        model.save_pretrained(tmp_path / "body")
        without(tmp_path / "body", "head.")
    configured(tmp_path / "body", **json.loads((tmp_path / family / "config.json").read_text()))
    with pytest.raises(ValueError, match=r"the head of \w+ForCTC is not in the weights"):
        load_model(AutoModelForCTC, tmp_path / "body")
    found = load_model(AutoModelForCTC, tmp_path / "body", new_head=True)
    for name, tensor in model.base_model.state_dict().items():
        assert "head" in name or torch.equal(found.base_model.state_dict()[name], tensor)
    without(tmp_path / "body", "norm")
    with pytest.raises(ValueError, match="lack"):
        load_model(AutoModelForCTC, tmp_path / "body", new_head=True)


def test_a_recogniser_takes_a_new_head_where_it_is_asked_to(tmp_path: Path) -> None:
    from kilter.models.recogniser import Recogniser

    without(letter_model(tmp_path / "m"), "lm_head")
    Recogniser.load(tmp_path / "m", new_head=True).save(tmp_path / "whole")
    Recogniser.load(tmp_path / "whole")


def test_what_is_no_lack(tmp_path: Path) -> None:
    """Tied weights, buffers, what only masking of training data reads, and a pooler where nothing is pooled."""
    from transformers import AutoModel, AutoModelForCTC

    from kilter.hosts.loading import load_model

    for family in ("gpt2", "bart", "t5"):  # tied: the file has one of several names
        text_model(writing_model(tmp_path / family, family))
    spoken = Tiny(tmp_path)
    spoken("wav2vec2")
    without(tmp_path / "wav2vec2", "masked_spec_embed")
    load_model(AutoModelForCTC, tmp_path / "wav2vec2")
    spoken("parakeet")
    without(tmp_path / "parakeet", "num_batches_tracked")
    load_model(AutoModelForCTC, tmp_path / "parakeet")
    without(saved_ranker(tmp_path / "ranker"), "pooler")
    ranker(tmp_path / "ranker"), encoder(tmp_path / "ranker"), similarity(tmp_path / "ranker")
    with pytest.raises(ValueError, match=r"lack pooler\.dense"):
        load_model(AutoModel, tmp_path / "ranker")
    without(cross_encoder(tmp_path / "cross"), "pooler")  # here what is classified is the pooled vector
    with pytest.raises(ValueError, match=r"lack bert\.pooler"):
        scorer(tmp_path / "cross")


def test_more_in_the_file_than_is_used_is_no_fault_but_more_layers_are(tmp_path: Path) -> None:
    folder = letter_model(tmp_path / "m")
    save(folder, weights(folder) | {"quantizer.codevectors": torch.ones(2), "project_q.weight": torch.ones(2)})
    recogniser(folder)
    configured(folder, num_hidden_layers=1)
    with pytest.raises(ValueError, match=r"more layers than config\.json says \(\w+\.encoder\.layers\.1"):
        recogniser(folder)
    configured(llama(tmp_path / "lm"), num_hidden_layers=1)
    with pytest.raises(ValueError, match="more layers"):
        text_model(tmp_path / "lm")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
@pytest.mark.parametrize("door", ["recogniser", "causal", "ranker", "cross-encoder"])
def test_names_that_a_wrapper_made_longer(prefix: str, door: str, tmp_path: Path) -> None:
    make, load = DOORS[door]
    folder = make(tmp_path / "model")
    save(folder, {f"{prefix}{name}": tensor for name, tensor in weights(folder).items()})
    with pytest.raises(ValueError, match=rf"begin with that of a wrapper \({prefix}.*; save the model that is inside"):
        load(folder)


SHAPES = {
    "recogniser": ({"vocab_size": 50}, "lm_head"),
    "causal": ({"vocab_size": 50}, "lm_head"),
    "encoder–decoder": ({"d_ff": 20}, "wi"),
    "cross-encoder": ({"num_labels": 3, "id2label": {"0": "a", "1": "b", "2": "c"}}, "classifier"),
    "ranker": ({"intermediate_size": 24}, "dense"),
    "similarity": ({"intermediate_size": 24}, "dense"),
}


@pytest.mark.parametrize("door", SHAPES)
def test_weights_of_another_shape(door: str, tmp_path: Path) -> None:
    make, load = DOORS[door]
    changed, part = SHAPES[door]
    folder = make(tmp_path / "model")
    configured(folder, **changed)
    with pytest.raises(
        ValueError, match=rf"model: weights of another shape: \S*{part}\S* is \(.*take the config\.json"
    ):
        load(folder)


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    llama(tmp_path / "lm")
    shutil.copy(writing_model(tmp_path / "gpt2") / "model.safetensors", tmp_path / "lm")
    with pytest.raises(
        ValueError, match=r"and \d+ more of LlamaForCausalLM; there are others instead \(.*another model"
    ):
        text_model(tmp_path / "lm")


# Broken files ------------------------------------------------------------------------------------------------------


def _cut(share: float) -> Callable[[Path], None]:
    def cut(file: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])

    return cut


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pointer": (lambda file: file.write_text(POINTER), "a Git LFS pointer.*git lfs pull"),
    "empty": (lambda file: file.write_bytes(b""), "an empty file; fetch"),
    "in its header": (_cut(0.01), "cut short; fetch"),
    "in its data": (_cut(0.9), r"cut short, \d+ of \d+ bytes; fetch"),
    "another format": (lambda file: file.write_text("<html>not found</html>" * 99), "no safetensors; fetch"),
    "longer": (lambda file: file.write_bytes(file.read_bytes() + b"more"), "damaged; fetch"),
    "dead link": (lambda file: (file.unlink(), file.symlink_to("gone")), "a link to what is not there"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_are_not_whole(fault: str, door: str, tmp_path: Path) -> None:
    if fault == "dead link" and door not in ("recogniser", "causal"):
        return  # slow to make, and hosts look for other formats in the same way
    make, load = DOORS[door]
    folder = make(tmp_path / "model")
    spoil, said = FAULTS[fault]
    spoil(folder / "model.safetensors")
    with pytest.raises(ValueError, match=rf"model/model\.safetensors: {said}"):
        load(folder)


@pytest.mark.parametrize("door", ["ranker", "similarity"])
@pytest.mark.parametrize("fault", ["pointer", "in its data"])
def test_a_projection_that_is_not_whole(fault: str, door: str, tmp_path: Path) -> None:
    make, load = DOORS[door]
    folder = make(tmp_path / "model")
    spoil, said = FAULTS[fault]
    spoil(folder / "2_Dense" / "model.safetensors")
    with pytest.raises(ValueError, match=rf"2_Dense/model\.safetensors: {said}"):
        load(folder)


@pytest.mark.parametrize("door", ["recogniser", "causal", "ranker", "encoder", "cross-encoder"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_settings_and_vocabularies_that_are_not_whole(file: str, door: str, tmp_path: Path) -> None:
    make, load = DOORS[door]
    folder = make(tmp_path / "model")
    if not (folder / file).exists():
        file = "vocab.json"
    for content, said in ((POINTER, "a Git LFS pointer"), ("", "an empty file"), ('{"model', "no JSON")):
        (folder / file).write_text(content)
        with pytest.raises(ValueError, match=rf"model/{file}: {said}"):
            load(folder)


def test_shards(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = llama(tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="3KB")
    text_model(folder)
    shard = sorted(folder.glob("model-0*"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match=rf"{shard.name}: cut short"):
        text_model(folder)
    shard.unlink()
    with pytest.raises(ValueError, match=rf"index\.json: names weights that are not there \({shard.name}\)"):
        text_model(folder)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.write_text(POINTER), "a Git LFS pointer"),
        (lambda file: file.write_bytes(b""), "an empty file"),
        (_cut(0.5), "cut short"),
        (lambda file: file.write_text("<html>"), "no weights of torch"),
    ],
)
def test_weights_of_torch(spoil: Any, said: str, tmp_path: Path) -> None:
    folder = llama(tmp_path / "m")
    torch.save(weights(folder), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    text_model(folder)
    spoil(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=rf"pytorch_model\.bin: {said}"):
        text_model(folder)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_weights_of_torch_from_before_it_wrote_archives(share: float, tmp_path: Path) -> None:
    folder = llama(tmp_path / "m")
    torch.save(weights(folder), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (folder / "model.safetensors").unlink()
    text_model(folder)
    _cut(share)(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"m/pytorch_model\.bin: cut short or damaged \(.*fetch the file again"):
        text_model(folder)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (("preprocessor_config.json",), "a feature extractor"),
        (("vocab.json", "tokenizer_config.json"), "a tokenizer"),
    ],
)
def test_a_part_of_a_recogniser_that_is_not_there(gone: tuple[str, ...], said: str, tmp_path: Path) -> None:
    folder = letter_model(tmp_path / "m")
    for file in gone:
        (folder / file).unlink()
    with pytest.raises(ValueError, match=rf"m: not a folder or hub id of {said} \(.*{gone[0]}.* beside its model"):
        recogniser(folder)


def test_a_file_beside_that_nobody_reads_is_not_blamed(tmp_path: Path) -> None:
    folder = llama(tmp_path / "m")
    (folder / "pytorch_model.bin").write_text(POINTER)
    (folder / "training_args.bin").write_bytes(b"")
    text_model(folder)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"m/model\.safetensors: an empty file"):
        text_model(folder)


def small_gguf(file: Path) -> bytes:
    """A file with a few settings and a tensor, as the library for them writes it."""
    import numpy as np

    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_name("small")
    writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file.read_bytes()


def test_a_gguf_that_is_none_or_not_whole(tmp_path: Path) -> None:
    whole = small_gguf(tmp_path / "small.gguf")
    for content, said in (
        (POINTER.encode(), "a Git LFS pointer"),
        (b"", "an empty file"),
        (b"<html>not found</html>", "no GGUF"),
        (whole[:-40], "cut short or damaged"),
        (whole[:60], "cut short or damaged"),
    ):
        (tmp_path / "small.gguf").write_bytes(content)
        with pytest.raises(ValueError, match=rf"small\.gguf: {said}.*(fetch|download) the file"):
            text_model(tmp_path / "small.gguf")


def test_what_is_no_model_keeps_its_message(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a folder or hub id of a transformers …ForCTC model with its"):
        recogniser(tmp_path)
    folder = llama(tmp_path / "m")
    with pytest.raises(ValueError, match=r"m: not a folder or hub id of a transformers …ForCTC model"):
        recogniser(folder)


def test_an_encoder_that_fills_gaps_writes_no_text(tmp_path: Path) -> None:
    import transformers as hf

    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    tokenizer = word_tokenizer(pad_token="<pad>")
    for decoder, name in ((False, "masked"), (True, "causal")):
        hf.BertLMHeadModel(hf.BertConfig(vocab_size=len(tokenizer), is_decoder=decoder, **sizes)).save_pretrained(
            tmp_path / name
        )
        tokenizer.save_pretrained(tmp_path / name)
    text_model(tmp_path / "causal")
    with pytest.raises(ValueError, match="masked: bert reads both ways and writes no text"):
        text_model(tmp_path / "masked")


def test_the_shell_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("the train\n")
    ask = ["generate", "--prompts", str(prompts), "--device", "cpu", "--max-new-tokens", "4", "--model"]
    without(llama(tmp_path / "bare"), "lm_head")
    assert main([*ask, str(tmp_path / "bare")]) == 1
    assert "the head of LlamaForCausalLM is not in the weights (lm_head.weight)" in capsys.readouterr().err
    (llama(tmp_path / "lfs") / "model.safetensors").write_text(POINTER)
    assert main([*ask, str(tmp_path / "lfs")]) == 1
    assert "git lfs pull" in capsys.readouterr().err
    rerank = ["--decoder", "best-of", "--scorer", str(cross_encoder(tmp_path / "cross"))]
    without(tmp_path / "cross", "classifier")
    assert main([*ask, str(llama(tmp_path / "lm")), *rerank]) == 1
    assert "scorer: " in (said := capsys.readouterr().err)
    assert "BertForSequenceClassification is not in" in said


# LoRA --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["recogniser", "causal", "encoder", "cross-encoder"])
@pytest.mark.parametrize("beside", [False, True])
def test_a_lora_says_what_to_install(
    door: str, beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Alone, or beside its model, which transformers loads without it if there is no peft."""
    import sys

    make, load = DOORS[door]
    folder = make(tmp_path / "model")
    if not beside:
        for file in ("config.json", "model.safetensors"):
            (folder / file).unlink()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "nobody/base"}))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModuleNotFoundError, match=r"model: a LoRA of nobody/base.*pip install peft"):
        load(folder)


@pytest.fixture
def lora(tmp_path: Path) -> tuple[Path, Any]:
    """A LoRA of a causal model, with the head trained whole, and the model that it makes."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(llama(tmp_path / "base"))
    settings = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], init_lora_weights=False)
    made = peft.get_peft_model(base, settings)
    torch.nn.init.normal_(made.base_model.model.lm_head.modules_to_save["default"].weight)
    made.save_pretrained(tmp_path / "lora")
    return tmp_path / "lora", made


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own call
def test_a_lora_is_its_base_with_it(lora: tuple[Path, Any], tmp_path: Path) -> None:
    folder, made = lora
    found = text_model(folder)
    ids = torch.tensor([[4, 5, 6]])
    torch.testing.assert_close(found.model(ids).logits, made.eval()(ids).logits)
    assert found.model.state_dict().keys() == text_model(tmp_path / "base").model.state_dict().keys()
    without(tmp_path / "base", "lm_head")  # the adapter brings it
    torch.testing.assert_close(text_model(folder).model(ids).logits, made(ids).logits)
    without(tmp_path / "base", "layers.1")
    with pytest.raises(ValueError, match="base: the weights lack"):
        text_model(folder)
    (folder / "adapter_model.safetensors").write_text(POINTER)
    with pytest.raises(ValueError, match=r"lora/adapter_model\.safetensors: a Git LFS pointer|base: the weights lack"):
        text_model(folder)
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(ValueError, match=r"lora: a LoRA of .*base: there is no such folder"):
        text_model(folder)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:Found missing adapter keys:UserWarning")  # said here as an error
@pytest.mark.parametrize("beside", [False, True])
def test_a_lora_that_is_not_whole_or_of_another_model(beside: bool, lora: tuple[Path, Any], tmp_path: Path) -> None:
    """Where peft goes on with random numbers, or without the LoRA."""
    from safetensors.torch import load_file, save_file

    folder = lora[0]
    if beside:
        shutil.copytree(tmp_path / "base", folder, dirs_exist_ok=True)
    file = folder / "adapter_model.safetensors"
    text_model(folder)
    state = load_file(file)
    fewer = {name: tensor for name, tensor in state.items() if "layers.1" not in name}
    more = state | {name.replace("layers.1", "layers.2"): tensor for name, tensor in state.items()}
    narrow = {name: tensor[:, :1] if "lora_A" in name else tensor for name, tensor in state.items()}
    for changed, said in (
        (fewer, r"lora: the (LoRA|weights) lacks? model\.layers\.1"),
        (more, r"(the model has not|more layers than config\.json says) \(model\.layers\.2"),
        (narrow, r"(size mismatch for|another shape:) \S+lora_A"),
    ):
        save_file({name: tensor.clone().contiguous() for name, tensor in changed.items()}, file)
        with pytest.raises(ValueError, match=said):
            text_model(folder)
    file.unlink()
    with pytest.raises(ValueError, match=r"lora: has adapter_config\.json and no adapter_model\.safetensors"):
        text_model(folder)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_that_is_no_part_of_the_weights_is_named(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(llama(tmp_path / "base"))
    peft.get_peft_model(base, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)).save_pretrained(
        tmp_path / "prompt"
    )
    with pytest.raises(ValueError, match="prompt: PROMPT_TUNING of peft cannot be merged"):
        text_model(tmp_path / "prompt")


@pytest.mark.parametrize("base", [None, "", 3])
def test_a_lora_that_names_no_base(base: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    with pytest.raises(ValueError, match=r"adapter_config\.json: base_model_name_or_path is .*; write the base"):
        text_model(tmp_path)
