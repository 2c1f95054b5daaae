"""The ranker against its definition, what it remembers, how it cuts, and its files in three formats."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kilter.decoding import BestOfN, RankGenLoss, RankGenScorer, RankGenSearch
from tests.decoding.encoders import KINDS, TEXTS, WORDS, encoder, scorer, t5_config, tokenizer

pytestmark = [pytest.mark.host, pytest.mark.parametrize("kind", KINDS)]

SHORT = [text for text in TEXTS if len(text.split()) <= 6]


@pytest.fixture(autouse=True)
def quiet() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def by_hand(ranker: RankGenScorer, word: str, text: str) -> Tensor:
    """Position 0 of one text alone, times W."""
    given = ranker.tokenizer(word + text, return_tensors="pt")
    state = ranker.encoder(**given).last_hidden_state[0, 0]
    return ranker.projection.weight @ state if ranker.projection is not None else state


class Counter:
    """Counts the rows that go through an encoder."""

    def __init__(self, ranker: RankGenScorer) -> None:
        self.rows: list[list[int]] = []
        ranker.encoder.register_forward_pre_hook(self.note, with_kwargs=True)

    def note(self, module: nn.Module, given: Any, named: dict[str, Any]) -> None:
        self.rows += [ids[mask.bool()].tolist() for ids, mask in zip(*named.values(), strict=True)]


@pytest.mark.parametrize("projected", [True, False])
def test_the_vector_is_position_0_times_the_matrix(kind: str, projected: bool) -> None:
    ranker = scorer(kind, batch_size=3) if projected else scorer(kind, projection=False)
    for encode, word in ((ranker.encode_prefix, "pre "), (ranker.encode_continuation, "suffi ")):
        expected = torch.stack([by_hand(ranker, word, text) for text in TEXTS])
        assert_close(encode(TEXTS), expected, rtol=0, atol=1e-5)
        assert_close(encode([f" {text}\n" for text in TEXTS]), expected, rtol=0, atol=1e-5)


def test_before_training_the_matrix_is_the_identity(kind: str) -> None:
    assert_close(
        scorer(kind, projection=True).encode_prefix(TEXTS), scorer(kind, projection=False).encode_prefix(TEXTS)
    )


def test_a_side_is_told_by_its_word(kind: str) -> None:
    ranker = scorer(kind)
    left, right = ranker.encode_prefix(TEXTS), ranker.encode_continuation(TEXTS)
    assert ((left - right).norm(dim=-1) > 0.01).all()
    other = scorer(kind, words=("the ", "dog "))
    assert_close(other.encode_prefix(["sat"])[0], by_hand(ranker, "the ", "sat"))


def test_scores_are_raw_dot_products(kind: str) -> None:
    ranker = scorer(kind)
    left, right = ranker.encode_prefix(TEXTS), ranker.encode_continuation(TEXTS)
    assert_close(ranker.score_matrix(TEXTS, TEXTS[:3]), (left @ right.T)[:, :3])
    assert_close(ranker(TEXTS, TEXTS[::-1]), (left * right.flip(0)).sum(-1))
    with torch.no_grad():
        ranker.projection.weight.mul_(2)
    assert_close(ranker(TEXTS, TEXTS[::-1]), 4 * (left * right.flip(0)).sum(-1))


def test_a_prefix_is_encoded_once_for_all_stages(kind: str) -> None:
    ranker = scorer(kind)
    count = Counter(ranker)
    word = ranker.tokenizer.convert_tokens_to_ids("pre")
    for stage in ("rain", "rain fell", "rain fell in"):
        for prefix in TEXTS[:2]:  # one input after the other, as a loop over inputs would ask
            ranker([prefix] * 3, [stage, f"{stage} the", f"{stage} the"])
    assert sum(word in row for row in count.rows) == 2
    assert sum(word not in row for row in count.rows) == 2 * 2 * 3, "the same continuation twice is one"


def test_what_is_remembered_is_forgotten_when_the_weights_change(kind: str) -> None:
    ranker = scorer(kind)
    before = ranker([TEXTS[0]], [TEXTS[1]])
    optimiser = torch.optim.AdamW(ranker.parameters(), lr=0.1)
    RankGenLoss()(ranker.encode_prefix(TEXTS[:2]), ranker.encode_continuation(TEXTS[2:])).loss.backward()
    optimiser.step()
    after = ranker([TEXTS[0]], [TEXTS[1]])
    assert not torch.isclose(before, after)
    assert_close(after[0], ranker.score_matrix([TEXTS[0]], [TEXTS[1]])[0, 0])
    assert_close(ranker.double()([TEXTS[0]], [TEXTS[1]]), after.double(), rtol=1e-4, atol=1e-4)


def test_memory_is_bounded_but_holds_a_call(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import kilter.decoding.rankgen_scorer as module

    monkeypatch.setattr(module, "_REMEMBERED", 2)
    ranker = scorer(kind)
    assert_close(ranker(TEXTS, TEXTS), ranker.score_matrix(TEXTS, TEXTS).diagonal())
    ranker(TEXTS[:1], TEXTS[:1])
    count = Counter(ranker)
    ranker(TEXTS[:1], TEXTS[:1])
    assert len(count.rows) == 1


def test_as_a_scorer_it_has_no_gradient_and_no_dropout(kind: str) -> None:
    ranker = scorer(kind).train()
    modes = [module.training for module in ranker.modules()]
    scores = ranker(TEXTS, TEXTS)
    assert not scores.requires_grad
    assert torch.equal(scores, scorer(kind).train()(TEXTS, TEXTS))
    assert [module.training for module in ranker.modules()] == modes
    assert ranker.encode_prefix(TEXTS).requires_grad


def test_gradients_reach_every_weight_that_is_used(kind: str) -> None:
    ranker = scorer(kind)
    RankGenLoss()(ranker.encode_prefix(TEXTS), ranker.encode_continuation(TEXTS)).loss.backward()
    still = [name for name, p in ranker.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [name for name in still if "pooler" not in name and "key.bias" not in name], still


def test_nothing_written_ranks_last(kind: str) -> None:
    scores = scorer(kind)([TEXTS[0]] * 3, ["", "rain", " \n"])
    assert scores.isneginf().tolist() == [True, False, True]
    assert scorer(kind)([TEXTS[0]], [""]).isneginf().all()
    assert scorer(kind)([], []).shape == (0,)


def test_in_bfloat16_scores_are_float32(kind: str) -> None:
    ranker = scorer(kind)
    expected = ranker(TEXTS, TEXTS)
    low = ranker.bfloat16()
    assert low.encode_prefix(TEXTS).dtype == torch.bfloat16
    assert low(TEXTS, TEXTS).dtype == torch.float32
    assert_close(low(TEXTS, TEXTS), expected, rtol=0.1, atol=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert scorer(kind)(TEXTS, TEXTS).dtype == torch.float32


def test_on_every_device(kind: str, device: str) -> None:
    ranker = scorer(kind).to(device)
    found = ranker(TEXTS, TEXTS)
    assert found.device.type == device
    assert_close(found.cpu(), scorer(kind)(TEXTS, TEXTS), rtol=1e-3, atol=1e-3)


# Long texts -------------------------------------------------------------------------------------------------


def test_of_a_long_prefix_the_end_is_read(kind: str) -> None:
    ranker = scorer(kind, prefix_tokens=7)
    count = Counter(ranker)
    ranker.encode_prefix(["cat " * 30 + "the rain fell", "the rain fell"])
    kept = [" ".join(ranker.tokenizer.convert_ids_to_tokens(row)) for row in count.rows]
    assert kept[1] == {"bert": "<s> pre cat the rain fell </s>", "t5": "pre cat cat the rain fell </s>"}[kind]
    assert kept[0] == {"bert": "<s> pre the rain fell </s>", "t5": "pre the rain fell </s>"}[kind]


def test_a_long_continuation_is_cut_with_a_warning(kind: str) -> None:
    ranker = scorer(kind, continuation_tokens=6)
    count = Counter(ranker)
    with pytest.warns(UserWarning, match="of more than continuation_tokens=6 tokens"):
        ranker(TEXTS[:2], ["rain fell", "rain " + "dog " * 9 + "fell"])
    kept = [" ".join(ranker.tokenizer.convert_ids_to_tokens(row)) for row in count.rows]
    assert {"bert": "<s> suffi rain dog dog </s>", "t5": "suffi rain dog dog dog </s>"}[kind] in kept


def test_compat_cuts_as_the_published_code_does(kind: str) -> None:
    """Tokenise the whole batch with padding, slice at the limit: no end, no end-of-sequence token."""
    ranker = scorer(kind, prefix_tokens=5, continuation_tokens=4, compat=True)
    texts = ["rain " * 9 + "fell", "a dog"]
    for encode, word, limit in ((ranker.encode_prefix, "pre ", 5), (ranker.encode_continuation, "suffi ", 4)):
        given = ranker.tokenizer([word + text for text in texts], return_tensors="pt", padding=True)
        sliced = {name: value[:, :limit] for name, value in given.items()}
        state = ranker.encoder(**sliced).last_hidden_state[:, 0]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert_close(encode(texts), state @ ranker.projection.weight.T)
    kept = scorer(kind, prefix_tokens=5)
    assert not torch.allclose(kept.encode_prefix(texts), ranker.encode_prefix(texts))


def test_lengths_follow_encoder_and_tokenizer(kind: str) -> None:
    lengths = {"bert": (40, 40), "t5": (512, 128)}
    assert (scorer(kind).prefix_tokens, scorer(kind).continuation_tokens) == lengths[kind]
    words = tokenizer(kind)
    words.model_max_length = 20
    short = RankGenScorer(encoder(kind), words)
    assert (short.prefix_tokens, short.continuation_tokens) == (20, 20)


# Inside generate --------------------------------------------------------------------------------------------


def test_it_ranks_samples_of_a_language_model(kind: str) -> None:
    """Each prompt is encoded once over all stages, and its row holds the text the ranker likes most."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    words = tokenizer("t5")
    words.padding_side = "left"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), pad_token_id=0, eos_token_id=1, **sizes)).eval()
    given = words(TEXTS[:2], return_tensors="pt", padding=True, add_special_tokens=False)
    given.pop("token_type_ids", None)
    ranker = scorer(kind)
    count = Counter(ranker)
    sampled = {"do_sample": True, "top_k": 0, "max_new_tokens": 6, "return_dict_in_generate": True}
    for decoder in (
        BestOfN(ranker, n=4, tokenizer=words),
        RankGenSearch(ranker, beams=2, samples=3, block=2, tokenizer=words),
    ):
        out = model.generate(**given, custom_generate=decoder, **sampled)
        texts = words.batch_decode(out.sequences[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
        kept = [i for i, text in enumerate(texts) if text]
        assert kept
        expected = ranker([TEXTS[i] for i in kept], [texts[i] for i in kept])
        assert_close(out.ranker_scores.float()[kept], expected, rtol=1e-4, atol=1e-4)
    at = {"bert": 1, "t5": 0}[kind]
    assert sum(row[at] == ranker.tokenizer.convert_tokens_to_ids("pre") for row in count.rows) == 2


# Files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("projected", [True, False])
def test_saved_and_loaded_by_us_and_by_sentence_transformers(kind: str, projected: bool, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    options = {"prefix_tokens": 12, "continuation_tokens": 9, "words": ("the ", "dog ")}
    ranker = scorer(kind, **options) if projected else scorer(kind, projection=False, **options)
    ranker.save_pretrained(tmp_path / "mine")
    assert {path.suffix for path in (tmp_path / "mine").rglob("*") if path.is_file()} <= {".json", ".safetensors"}
    loaded = RankGenScorer.from_pretrained(tmp_path / "mine")
    theirs = library.SentenceTransformer(str(tmp_path / "mine"), device="cpu")
    theirs.save_pretrained(str(tmp_path / "theirs"))
    back = RankGenScorer.from_pretrained(tmp_path / "theirs", prefix_tokens=12, continuation_tokens=9)
    assert not any(module.training for module in loaded.modules())
    for other in (loaded, back):
        assert (other.words, other.prefix_tokens, other.continuation_tokens) == (("the ", "dog "), 12, 9)
        assert (other.projection is not None) == projected
        assert torch.equal(other(SHORT, SHORT), ranker(SHORT, SHORT))
    for name, encode in (("prefix", ranker.encode_prefix), ("continuation", ranker.encode_continuation)):
        found = theirs.encode(SHORT, prompt_name=name, convert_to_tensor=True)
        assert_close(found, encode(SHORT).detach(), rtol=0, atol=1e-5)
    assert theirs.similarity_fn_name == "dot"


def test_the_compat_switch_is_saved(kind: str, tmp_path: Path) -> None:
    scorer(kind, compat=True).save_pretrained(tmp_path)
    assert RankGenScorer.from_pretrained(tmp_path).compat
    assert not RankGenScorer.from_pretrained(tmp_path, compat=False).compat


def published(folder: Path, *, sharded: bool = False, pickled: bool = False, words: bool = True) -> dict[str, Tensor]:
    """A checkpoint in the authors' layout: their names, their config, code of theirs that must not run."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"t5_encoder.{name}": value for name, value in encoder("t5", seed=3).state_dict().items()}
    weights["projection.weight"] = torch.randn(16, 16, generator=torch.Generator().manual_seed(4))
    config = t5_config().to_dict() | {
        "architectures": ["T5EncoderWithProjection"],
        "auto_map": {"AutoModel": "modeling_rankgen.T5EncoderWithProjection"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_rankgen.py").write_text("raise SystemExit('remote code was run')")
    copies = {name: value.clone() for name, value in weights.items()}
    if pickled:
        torch.save(copies, folder / "pytorch_model.bin")
    elif sharded:
        place = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(copies)}
        for file in sorted(set(place.values())):
            part = {name: value for name, value in copies.items() if place[name] == file}
            save_file(part, folder / file, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": place}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        save_file(copies, folder / "model.safetensors", metadata={"format": "pt"})
    if words:
        tokenizer("t5").save_pretrained(folder)
    return weights


@pytest.mark.parametrize("how", [{}, {"sharded": True}, {"pickled": True}], ids=["one file", "sharded", "pickled"])
def test_the_published_checkpoints_are_read(kind: str, how: dict[str, bool], tmp_path: Path) -> None:
    if kind != "t5":
        pytest.skip("the published ones are T5")
    weights = published(tmp_path / "hub", **how)
    ranker = RankGenScorer.from_pretrained(tmp_path / "hub")
    reference = encoder("t5", seed=3)
    assert_close(ranker.encoder.state_dict(), reference.state_dict())
    given = ranker.tokenizer("suffi rain fell", return_tensors="pt")
    state = reference(**given).last_hidden_state[0, 0]
    assert_close(ranker.encode_continuation(["rain fell"])[0], weights["projection.weight"] @ state, rtol=0, atol=1e-5)
    assert ranker.words == ("pre ", "suffi ")
    ranker.save_pretrained(tmp_path / "mine")
    assert torch.equal(RankGenScorer.from_pretrained(tmp_path / "mine")(TEXTS, TEXTS), ranker(TEXTS, TEXTS))


def test_a_published_checkpoint_without_tokenizer_takes_one(kind: str, tmp_path: Path) -> None:
    published(tmp_path, words=False)
    ranker = RankGenScorer.from_pretrained(tmp_path, tokenizer=tokenizer("t5"))
    assert ranker(TEXTS, TEXTS).isfinite().all()
    with pytest.raises(ValueError, match="give one as tokenizer="):
        RankGenScorer.from_pretrained(tmp_path)


def test_files_that_are_no_ranker_are_refused(kind: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    encoder(kind).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match="is no ranker: it has neither"):
        RankGenScorer.from_pretrained(tmp_path / "encoder")
    ranker = scorer(kind)

    def spoilt(file: str, change: Callable[[Any], Any]) -> Path:
        ranker.save_pretrained(tmp_path / "spoilt")
        path = tmp_path / "spoilt" / file
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
        return tmp_path / "spoilt"

    def normalised(modules: list[Any]) -> list[Any]:
        return [*modules, {"idx": 3, "name": "3", "path": "3_Normalize", "type": "sentence_transformers.x.Normalize"}]

    with pytest.raises(ValueError, match=r"its modules are Transformer, Pooling, Dense, Normalize"):
        RankGenScorer.from_pretrained(spoilt("modules.json", normalised))
    with pytest.raises(ValueError, match="it pools by mean"):
        RankGenScorer.from_pretrained(spoilt("1_Pooling/config.json", lambda old: {"pooling_mode": "mean"}))
    with pytest.raises(ValueError, match="without bias and activation"):
        RankGenScorer.from_pretrained(spoilt("2_Dense/config.json", lambda old: old | {"bias": True}))
    folder = spoilt("rankgen.json", lambda old: old)
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "norm" in name.lower())
    save_file({name: w for name, w in weights.items() if name != lost}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"the weights lack \S+ of (BertModel|T5EncoderModel)"):
        RankGenScorer.from_pretrained(folder)


# Bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda r: r.encode_prefix(["rain", " "]), ValueError, "prefixes: text 1 is empty"),
        (lambda r: r.encode_continuation([""]), ValueError, "continuations: text 0 is empty"),
        (lambda r: r([""], ["rain"]), ValueError, "prefixes: text 0 is empty"),
        (lambda r: r(["rain"], ["rain", "fell"]), ValueError, "1 prefixes and 2 continuations"),
        (lambda r: r("rain", ["rain"]), TypeError, "prefixes must be a list of strings, got one string"),
        (lambda r: r([torch.tensor([1])], ["rain"]), TypeError, "of token ids, give the search a tokenizer"),
    ],
)
def test_texts_that_cannot_be_scored(
    kind: str, call: Callable[[Any], Any], error: type[Exception], said: str, own_messages: None
) -> None:
    with pytest.raises(error, match=said):
        call(scorer(kind))


def test_positions_of_roberta_begin_behind_the_padding(kind: str) -> None:
    from transformers import RobertaConfig, RobertaModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = RobertaConfig(vocab_size=4 + len(WORDS), max_position_embeddings=12, pad_token_id=0, **sizes)
    ranker = RankGenScorer(RobertaModel(config).eval(), tokenizer(kind))
    assert ranker.prefix_tokens == 11
    assert ranker.encode_prefix(["rain " * 30]).isfinite().all()


def test_options_out_of_range(kind: str) -> None:
    from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaModel, T5Model

    words = tokenizer(kind)
    with pytest.raises(
        ValueError, match=r"continuation_tokens must be within \d\.\.\d+, what the encoder holds, got 2"
    ):
        scorer(kind, continuation_tokens=2)
    if kind == "bert":
        with pytest.raises(ValueError, match=r"prefix_tokens must be within 4\.\.40"):
            scorer(kind, prefix_tokens=41)
    with pytest.raises(ValueError, match="reads both of words"):
        scorer(kind, words=("prefix ", "suffix "))
    with pytest.raises(ValueError, match="makes nothing of the leading word"):
        scorer(kind, words=(" ", "suffi "))
    with pytest.raises(ValueError, match=r"projection must be shaped like the encoder.s states \(16, 16\)"):
        scorer(kind, projection=torch.eye(3))
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        scorer(kind, batch_size=0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    with pytest.raises(ValueError, match="LlamaModel reads from left to right"):
        RankGenScorer(LlamaModel(LlamaConfig(vocab_size=4 + len(WORDS), **sizes)), words)
    with pytest.raises(TypeError, match="encoder must be a transformers encoder"):
        RankGenScorer(T5Model(t5_config()), words)
    with pytest.raises(TypeError, match="encoder must be a transformers encoder"):
        RankGenScorer(nn.Linear(2, 2), words)
    with pytest.raises(TypeError, match="got BertForMaskedLM; load it with AutoModel"):
        RankGenScorer(BertForMaskedLM(BertConfig(vocab_size=4 + len(WORDS), **sizes)), words)(["rain"], ["fell"])
