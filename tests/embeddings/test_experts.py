"""Encoders with experts: the model as it was before training, each text through its domain's weights after."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kilter.embeddings import add_experts, merge_experts, router_loss
from kilter.ops.experts import Experts
from tests.decoding.encoders import encoder as tiny
from tests.decoding.encoders import tokenizer as words

transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[3, 7, 8, 9, 1], [3, 5, 6, 1, 0], [3, 9, 9, 8, 1], [3, 4, 1, 0, 0]])
MASK = (IDS != 0).long()
SIZE: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
SIZE["initializer_range"] = 0.3
LLAMAS = {**SIZE, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0}


ARGUMENTS = {"logits experts": lambda: torch.zeros(2, 4, 3), "domain": lambda: torch.tensor([0, 1, 1, 0])}


def kinds() -> dict[str, Callable[[], Any]]:
    """Of each way to lay out a layer one, with random weights."""
    t = transformers
    return {
        "bert": lambda: t.BertModel(t.BertConfig(**SIZE)),
        "xlm-roberta": lambda: t.XLMRobertaModel(t.XLMRobertaConfig(**SIZE, pad_token_id=0)),
        "mpnet": lambda: t.MPNetModel(t.MPNetConfig(**SIZE)),
        "distilbert": lambda: t.DistilBertModel(
            t.DistilBertConfig(vocab_size=30, dim=16, n_layers=3, n_heads=2, hidden_dim=32)
        ),
        "modernbert": lambda: t.ModernBertModel(t.ModernBertConfig(**SIZE, pad_token_id=0)),
        "gemma3": lambda: t.Gemma3TextModel(t.Gemma3TextConfig(**LLAMAS)),
        "llama": lambda: t.LlamaModel(t.LlamaConfig(**LLAMAS)),
        "t5": lambda: tiny("t5"),
    }


def out(model: Any, domain: Any = None, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        named = {} if domain is None else {"domain": domain}
        return model(input_ids=ids, attention_mask=MASK, **named).last_hidden_state


def made(kind: str = "bert") -> Any:
    torch.manual_seed(0)
    return kinds()[kind]().eval()


def apart(model: Any) -> Any:
    """The same, once every expert has learnt something else."""
    torch.manual_seed(1)
    with torch.no_grad():
        for experts in (module for module in model.modules() if isinstance(module, Experts)):
            for parameter in experts.experts.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
    return model


# Before training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(kinds()))
@pytest.mark.parametrize("layers", ["all", "middle", [0, 2]])
def test_the_model_says_what_it_said(kind: str, layers: Any) -> None:
    model = made(kind)
    layers = [0, 1] if kind == "t5" and layers == [0, 2] else layers
    before, size = out(model), sum(p.numel() for p in model.parameters())
    blocks = add_experts(model, ["a", "b", "c"], layers=layers, domain_tokens=False)
    assert blocks is model
    for domain in (None, "b", ["a", "c", "b", "a"], torch.tensor([2, -1, 0, -1])):
        assert (out(model, domain) - before).abs().max() == 0
    added = [e for e in model.modules() if isinstance(e, Experts)]
    assert len(added) == {"all": len(added), "middle": 1}.get(str(layers), 2)
    one = sum(p.numel() for e in added for p in e.experts[0].parameters())
    assert sum(p.numel() for p in model.parameters()) == size + 2 * one


def test_tokens_begin_as_what_they_replace() -> None:
    model, tokenizer = tiny("bert"), words("bert")
    before, known = out(model), len(tokenizer)
    add_experts(model, ["med", "law"], tokenizer=tokenizer)
    assert tokenizer.convert_tokens_to_ids(["[MED]", "[LAW]"]) == [known, known + 1]
    assert model.get_input_embeddings().weight.shape[0] == known + 2
    ids = IDS.clone()
    ids[:2, 0], ids[2:, 0] = known, known + 1
    assert (out(model, None, ids) - before).abs().max() == 0
    apart(model)
    with torch.no_grad():
        model.get_input_embeddings().weight[known:] += 1
    said = out(model, None, ids)
    assert_close(out(model, [0, 0, 1, 1]), said)
    assert_close(out(model, torch.tensor([0, 0, 1, 1]), ids), said)
    assert (said - out(model)).abs().max() > 0.01


def test_without_domain_tokens_the_model_reads_what_stood_there() -> None:
    model, tokenizer = tiny("bert"), words("bert")
    add_experts(model, ["med", "law"], tokenizer=tokenizer, domain_tokens=False)
    apart(model)
    with torch.no_grad():
        model.get_input_embeddings().weight[-2:] += 9
    ids = IDS.clone()
    ids[:, 0] = torch.tensor([-2, -1, -2, -1]) + model.config.vocab_size
    assert_close(out(model, None, ids), out(model, ["med", "law", "med", "law"]))


def test_a_token_behind_padding_and_behind_the_beginning_counts() -> None:
    model, tokenizer = tiny("bert"), words("bert")
    add_experts(model, ["med", "law"], tokenizer=tokenizer)
    apart(model)
    law = len(tokenizer) - 1
    left = {"input_ids": torch.tensor([[0, law, 7, 1]]), "attention_mask": torch.tensor([[0, 1, 1, 1]])}
    plain = {**left, "input_ids": torch.tensor([[0, 3, 7, 1]])}
    assert_close(model(**left).last_hidden_state, model(**plain, domain="law").last_hidden_state)
    behind = {"input_ids": torch.tensor([[3, law, 7, 1]])}
    assert_close(model(**behind).last_hidden_state, model(**behind, domain="law").last_hidden_state)


# Routing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_each_text_goes_its_way(kind: str) -> None:
    model = apart(add_experts(made(kind), ["a", "b", "c"], domain_tokens=False))
    domain = torch.tensor([2, 0, -1, 1])
    mixed = out(model, domain)
    pure = torch.stack([out(model, torch.full((4,), int(d)))[i] for i, d in enumerate(domain)])
    assert_close(mixed, pure)
    order = torch.tensor([3, 1, 0, 2])
    with torch.no_grad():
        permuted = model(input_ids=IDS[order], attention_mask=MASK[order], domain=domain[order]).last_hidden_state
    assert_close(permuted, mixed[order])
    assert len({float(out(model, d)[0, 0, 0]) for d in (None, "a", "b", "c")}) == 4


def test_only_the_experts_of_the_batch_and_what_is_shared_change() -> None:
    model = add_experts(made(), ["a", "b", "c"], domain_tokens=False).train()
    before, optimiser = copy.deepcopy(model.state_dict()), torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.9)
    for _ in range(2):
        optimiser.zero_grad()
        model(input_ids=IDS, attention_mask=MASK, domain="b").last_hidden_state.square().sum().backward()
        optimiser.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    experts = {name for name in before if ".experts." in name}
    assert {name for name in experts if ".experts.1." in name} == experts & changed
    assert any("attention" in name for name in changed)


def test_one_domain_is_dense_fine_tuning() -> None:
    dense = made()
    single = add_experts(copy.deepcopy(dense), ["a"], domain_tokens=False)
    losses = []
    for model, named in ((dense, {}), (single, {"domain": "a"})):
        torch.manual_seed(3)
        model.train()
        optimiser = torch.optim.AdamW(model.parameters(), 0.01)
        for _ in range(3):
            optimiser.zero_grad()
            loss = model(input_ids=IDS, attention_mask=MASK, **named).last_hidden_state.square().mean()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[:3] == losses[3:]
    assert (out(dense.eval()) - out(single.eval(), "a")).abs().max() == 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_layers_see_the_rows_of_their_own_pass(reentrant: bool) -> None:
    model = apart(add_experts(made(), ["a", "b"], domain_tokens=False)).train()
    model.apply(lambda module: setattr(module, "p", 0.0) if isinstance(module, torch.nn.Dropout) else None)
    model.enable_input_require_grads()

    def gradients() -> list[Tensor | None]:
        model.zero_grad()
        first, second = (model(input_ids=IDS, attention_mask=MASK, domain=d).last_hidden_state for d in ("a", "b"))
        (first * second).sum().backward()
        return [None if p.grad is None else p.grad.clone() for p in model.parameters()]

    plain = gradients()
    model._set_gradient_checkpointing(
        gradient_checkpointing_func=lambda *a, **k: torch.utils.checkpoint.checkpoint(*a, use_reentrant=reentrant, **k)
    )
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    for one, other in zip(plain, gradients(), strict=True):
        assert_close(one, other) if one is not None else None


def test_routers_learn_the_domain_and_then_choose_it() -> None:
    from kilter.hosts.experts import router_logits

    model = apart(add_experts(made(), ["a", "b"], routing="supervised", domain_tokens=False))
    ids = torch.cat([torch.randint(4, 12, (8, 5)), torch.randint(20, 30, (8, 5))])
    domain = torch.tensor([0] * 8 + [1] * 8)
    optimiser = torch.optim.Adam([p for name, p in model.named_parameters() if "router" in name], 0.1)
    for _ in range(20):
        optimiser.zero_grad()
        with router_logits(model) as kept:
            model(input_ids=ids, domain=domain)
        loss = router_loss(torch.stack([logits for logits, _ in kept]), domain)
        loss.backward()
        optimiser.step()
    assert loss < 0.1
    with torch.no_grad():
        untold, told = (model(input_ids=ids, **named).last_hidden_state for named in ({}, {"domain": domain}))
    assert_close(untold, told)
    assert sum(p.numel() for n, p in model.named_parameters() if "router" in n) == 3 * 2 * 16
    enforced = add_experts(made(), ["a", "b"], domain_tokens=False)
    assert not [name for name, _ in enforced.named_parameters() if "router" in name]


def test_the_routers_loss_is_the_cross_entropy_of_every_layer() -> None:
    logits, domain = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([2, -1, 0])
    found = logits.log_softmax(2)
    assert_close(router_loss(logits, domain), -(found[:, 0, 2] + found[:, 2, 0]).mean() / 2)
    assert router_loss(logits, torch.tensor([-1, -1, -1])) == 0


# LoRA and the released form -------------------------------------------------------------------------------------------


def test_loras_share_a_frozen_block() -> None:
    pytest.importorskip("peft")
    model = made()
    before, size = out(model), sum(p.numel() for p in model.parameters())
    add_experts(model, ["a", "b", "c"], domain_tokens=False, lora_rank=2)
    for domain in (None, ["a", "c", "b", "a"]):
        assert (out(model, domain) - before).abs().max() == 0
    assert sum(p.numel() for p in model.parameters()) == size + 3 * 3 * 2 * 2 * (16 + 32)
    model.train()
    model(input_ids=IDS, attention_mask=MASK, domain="b").last_hidden_state.square().sum().backward()
    touched = {name for name, p in model.named_parameters() if "dense.experts" in name and p.grad is not None}
    assert touched
    assert all(".1.weight" in name and "lora_" in name for name in touched)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p += 0.3 * torch.randn_like(p)
    model.eval()
    mixed = out(model, ["a", "c", "b", "a"])
    assert_close(mixed[1], out(model, "c")[1])
    assert (mixed[1] - out(model, "a")[1]).abs().max() > 0.01
    plain = merge_experts(model, {"c": 1})
    assert type(plain) is transformers.BertModel
    assert_close(out(plain), out(model, "c"))


def test_the_released_form_is_another_model() -> None:
    model, domain = made(), ["a", "b", "a", "b"]
    plain = out(model)
    first = model.encoder.layer[0]
    attended: list[Tensor] = []
    handle = first.attention.register_forward_hook(lambda module, inputs, output: attended.append(output[0]))
    add_experts(model, ["a", "b"], compat=True, layers=[0], domain_tokens=False)
    hidden: list[Tensor] = []
    first.register_forward_hook(lambda module, inputs, output: hidden.append(output))
    assert (out(model, domain) - plain).abs().max() > 0.01
    handle.remove()
    x = attended[-1]
    normed = torch.nn.functional.layer_norm(x, (16,))
    assert_close(hidden[0], first.output.dense.experts[0](normed) + x)
    with pytest.raises(ValueError, match="compat=True"):
        merge_experts(model)
    with pytest.raises(ValueError, match="compat is for layers of BERT's kind"):
        add_experts(made("llama"), ["a"], compat=True, domain_tokens=False)


# Saved, merged --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [("bert", {}), ("bert", {"routing": "top_k"}), ("distilbert", {"layers": "middle"}), ("bert", {"lora_rank": 2})],
)
def test_a_saved_encoder_comes_back_and_nothing_else_reads_it(kind: str, options: Any, tmp_path: Path) -> None:
    from kilter.hosts.transformers import load

    if "lora_rank" in options:
        pytest.importorskip("peft")
    model, tokenizer = tiny(kind) if kind == "bert" else made(kind), words("bert")
    apart(add_experts(model, ["med", "law"], tokenizer=tokenizer, **options))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = load(tmp_path)
    for domain in (None, ["law", "med", "law", "med"]):
        assert (out(again, domain) - out(model, domain)).abs().max() == 0
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert read("[LAW] the cat")["input_ids"] == tokenizer("[LAW] the cat")["input_ids"]
    with pytest.raises(ValueError, match="kilter-experts"):
        transformers.AutoModel.from_pretrained(tmp_path)
    copied = copy.deepcopy(again)
    assert copied.expert_assignment is next(m for m in copied.modules() if isinstance(m, Experts)).assignment
    assert (out(copied, "law") - out(model, "law")).abs().max() == 0


def test_what_is_no_model_with_experts_is_told(tmp_path: Path) -> None:
    from kilter.hosts.transformers import load

    tiny("bert").save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"has no experts \(its type is bert\)"):
        load(tmp_path / "plain")
    model = add_experts(tiny("bert"), ["a", "b"], domain_tokens=False)
    model.save_pretrained(tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut short"):
        load(tmp_path / "cut")
    assert json.loads((tmp_path / "cut" / "config.json").read_text())["model_type"] == "kilter-experts"


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_merging_what_was_never_trained_gives_the_dense_model(kind: str) -> None:
    dense = made(kind)
    state = copy.deepcopy(dense.state_dict())
    model = add_experts(dense, ["a", "b", "c"], domain_tokens=False)
    plain = merge_experts(model)
    assert type(plain) is type(made(kind))
    assert plain.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    apart(model)
    assert_close(out(merge_experts(model, [0, 1, 0])), out(model, "b"))
    weights = next(e.experts for e in model.modules() if isinstance(e, Experts))
    first = [next(expert.parameters()) for expert in weights]
    merged = merge_experts(model, {"a": 1, "c": 3})
    mixed = 0.25 * first[0] + 0.75 * first[2]
    assert any(p.shape == mixed.shape and torch.allclose(p, mixed) for p in merged.parameters())
    assert out(model, "a").isfinite().all()  # as it was


def test_the_vector_of_the_domain_becomes_that_of_the_beginning() -> None:
    model, tokenizer = tiny("bert"), words("bert")
    known = len(tokenizer)
    apart(add_experts(model, ["med", "law"], tokenizer=tokenizer))
    with torch.no_grad():
        model.get_input_embeddings().weight[known:] += torch.randn(2, 16)
    plain = merge_experts(model, {"law": 2}, tokenizer=tokenizer)
    assert_close(out(plain), out(model, "law"))
    assert plain.config.vocab_size == known == len(tokenizer)
    assert "[LAW]" not in tokenizer.get_vocab()
    assert not hasattr(plain.config, "kilter_experts")


# What is wrong --------------------------------------------------------------------------------------------------------


def test_training_that_says_no_domain_warns_once() -> None:
    ids = torch.tensor([[2, 3]])
    untold, told = (add_experts(tiny("bert"), ["a", "b"], domain_tokens=False).train() for _ in "ab")
    with pytest.warns(UserWarning, match="all experts learn the same"):
        untold(ids)
    untold(ids)
    told(ids, domain="b")
    told(ids)  # some texts may be of no domain


def test_nothing_is_changed_where_loras_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, tokenizer = tiny("bert"), words("bert")
    before, known = out(encoder), len(tokenizer)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModuleNotFoundError, match="peft"):
        add_experts(encoder, ["a", "b"], tokenizer=tokenizer, lora_rank=2)
    monkeypatch.undo()
    assert len(tokenizer) == known
    assert_close(out(encoder), before)
    maps = transformers.GPT2Model(transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20))
    with pytest.raises(ValueError, match=r"lora_rank needs feed-forward blocks of nn\.Linear, and GPT2MLP has none"):
        add_experts(maps, ["a", "b"], domain_tokens=False, lora_rank=2)
    add_experts(maps, ["a", "b"], domain_tokens=False)


def test_hidden_states_are_given_as_before() -> None:
    encoder = tiny("bert")
    dense = encoder(IDS, attention_mask=MASK, output_hidden_states=True)
    add_experts(encoder, ["a", "b"], domain_tokens=False)
    found = encoder(IDS, attention_mask=MASK, output_hidden_states=True, domain="a")
    assert len(found.hidden_states) == len(dense.hidden_states)
    assert_close(found.hidden_states[1], dense.hidden_states[1])


def test_tokens_that_were_added_later_stay() -> None:
    encoder, tokenizer = tiny("bert"), words("bert")
    add_experts(encoder, ["a", "b"], tokenizer=tokenizer)
    tokenizer.add_tokens(["zzz"])
    encoder.resize_token_embeddings(max(len(tokenizer), encoder.get_input_embeddings().weight.shape[0]))
    plain = merge_experts(encoder, tokenizer=tokenizer)
    assert tokenizer("zzz", add_special_tokens=False)["input_ids"][0] < plain.get_input_embeddings().weight.shape[0]


def test_bad_input(own_messages: None) -> None:
    def given(**options: Any) -> Any:
        return add_experts(made(), **{"domains": ["a", "b"], "domain_tokens": False} | options)

    wrong: list[tuple[dict[str, Any], str]] = [
        ({"domains": []}, "domains must be a list of at least one name"),
        ({"domains": "ab"}, "domains must be a list of at least one name"),
        ({"domains": ["a", "A"]}, "domains names 'a' twice"),
        ({"domains": ["a", " "]}, "without blanks"),
        ({"layers": [3]}, "there is no layer 3; the model has 0 to 2"),
        ({"layers": []}, "at least one layer, and each once"),
        ({"layers": [1, 1]}, "at least one layer, and each once"),
        ({"layers": "last"}, 'layers must be "all", "middle"'),
        ({"layers": 1}, 'layers must be "all", "middle"'),
        ({"layers": None}, 'layers must be "all", "middle"'),
        ({"routing": "top"}, "routing must be one of"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"lora_rank": 0}, "lora_rank must be at least 1"),
        ({"domain_tokens": True}, "give tokenizer, or domain_tokens=False"),
    ]
    for options, said in wrong:
        with pytest.raises(ValueError, match=said):
            given(**options)
    with pytest.raises(TypeError, match="domains must hold names"):
        given(domains=["a", 1])
    with pytest.raises(TypeError, match="model must be a SentenceTransformer or an encoder"):
        add_experts(torch.nn.Linear(2, 2), ["a"])
    with pytest.raises(ValueError, match="AlbertModel has no feed-forward block"):
        add_experts(
            transformers.AlbertModel(transformers.AlbertConfig(**SIZE, embedding_size=8)), ["a"], domain_tokens=False
        )
    model = given()
    with pytest.raises(ValueError, match="has experts already"):
        add_experts(model, ["a"], domain_tokens=False)
    with pytest.raises(ValueError, match="model has no experts"):
        merge_experts(made())
    for weights, said in (([1.0], "must be 2 numbers"), ([0, 0], "not all of them 0"), ([-1, 2], "from 0")):
        with pytest.raises(ValueError, match=said):
            merge_experts(model, weights)
    with pytest.raises(ValueError, match="weights must be one of a, b, got 'c'"):
        merge_experts(model, {"c": 1})
    for domain, said in (
        ("law", "domain must be one of a, b, got 'law'"),
        (["a", "b", "c", "a"], "domain must be one of a, b, got 'c'"),
        (["a"], r"domain must be \(4,\)"),
        (2, r"domain must be one of 0 \(a\), 1 \(b\), or -1 for none, got 2"),
        (torch.tensor([0, 1, 2, 0]), r"row 2: domain is 2, must be one of 0 \(a\)"),
        (torch.tensor([0, 1]), r"domain must be \(4,\)"),
    ):
        with pytest.raises(ValueError, match=said):
            out(model, domain)
    assert_close(out(model, torch.zeros(4, dtype=torch.uint8)), out(model, "a"))
    del model.config.kilter_experts["top_k"]
    with pytest.raises(ValueError, match=r"kilter_experts is not whole, or of another version .*top_k"):
        out(model, "a")
    model = given()
    for domain in (torch.ones(4), 0.5, True):
        with pytest.raises(TypeError, match="domain must"):
            out(model, domain)


def test_a_text_of_two_domains_is_refused() -> None:
    model, tokenizer = tiny("bert"), words("bert")
    add_experts(model, ["med", "law"], tokenizer=tokenizer)
    ids = IDS.clone()
    ids[2, 0] = len(tokenizer) - 1
    with pytest.raises(ValueError, match=r"row 2: its text begins with \[LAW\], and domain says med"):
        out(model, "med", ids)
    with pytest.raises(ValueError, match="the tokenizer has"):
        add_experts(tiny("bert"), ["med"], tokenizer=tokenizer)


def test_a_tokenizer_without_a_beginning() -> None:
    tokenizer = words("t5")
    with pytest.raises(ValueError, match="texts begin with a token of its own"):
        add_experts(tiny("t5"), ["med"], tokenizer=tokenizer, domain_tokens=False)
    model = apart(add_experts(tiny("t5"), ["med", "law"], tokenizer=tokenizer))
    rows = tokenizer(["[LAW] the cat", "[MED] rain"], return_tensors="pt", padding=True)
    with torch.no_grad():
        assert_close(model(**rows).last_hidden_state, model(**rows, domain=["law", "med"]).last_hidden_state)


@pytest.mark.compile
def test_compiled_it_says_the_same() -> None:
    model = apart(add_experts(made(), ["a", "b"], domain_tokens=False))
    plain = out(model, torch.tensor([0, 1, -1, 1]))
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        named = {"input_ids": IDS, "attention_mask": MASK, "domain": torch.tensor([0, 1, -1, 1])}
        assert_close(compiled(**named).last_hidden_state, plain)
