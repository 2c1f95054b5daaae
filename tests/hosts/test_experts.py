"""Experts in the scripts of sentence-transformers: encode, its trainer and losses, saved and taken up again."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kilter.embeddings import DomainContrast, add_experts, merge_experts
from kilter.ops.experts import Experts
from tests.decoding.encoders import TEXTS, encoder, tokenizer
from tests.hosts.small_encoder import folder_of, trainer
from tests.hosts.small_encoder import load as small

library = pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.host

PROMPTS = {"med": "[MED] ", "law": "[LAW] "}


@pytest.fixture(autouse=True)
def quiet() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture
def dense(tmp_path: Path) -> Any:
    return small(folder_of(tmp_path / "dense"))


def apart(model: Any) -> Any:
    torch.manual_seed(1)
    with torch.no_grad():
        for experts in (module for module in model.modules() if isinstance(module, Experts)):
            for parameter in experts.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        model[0].model.get_input_embeddings().weight[-2:] += torch.randn(2, 16)
    return model


def vectors(model: Any, texts: list[str] = TEXTS, **named: Any) -> Tensor:
    return model.encode(texts, convert_to_tensor=True, **named)


def data(count: int = 8) -> Any:
    """A data set of each domain."""
    from datasets import Dataset, DatasetDict

    rows = {"anchor": TEXTS * (count // 4), "positive": [TEXTS[(i + 1) % 4] + " the" for i in range(count)]}
    return DatasetDict({name: Dataset.from_dict(rows) for name in PROMPTS})


def test_nothing_changes_before_training(dense: Any) -> None:
    before = vectors(dense)
    assert add_experts(dense, ["med", "law"]) is dense
    for named in ({}, {"domain": "law"}, {"domain": 0}, {"prompt_name": "med"}, {"prompt": "[LAW]"}):
        assert (vectors(dense, **named) - before).abs().max() == 0
    mixed = [f"{start}{text}" for start, text in zip(("[MED] ", "[LAW]", "", "[LAW] "), TEXTS, strict=True)]
    assert (vectors(dense, mixed) - before).abs().max() == 0


@pytest.mark.parametrize("options", [{}, {"domain_tokens": False}, {"layers": "middle"}])
def test_every_way_to_say_the_domain_is_the_same(dense: Any, options: Any) -> None:
    model = apart(add_experts(dense, ["med", "law"], **options))
    med, law, none = vectors(model, domain="med"), vectors(model, domain="law"), vectors(model)
    mixed = ["[MED] " + TEXTS[0], "[LAW]" + TEXTS[1], TEXTS[2], "[LAW] " + TEXTS[3]]
    assert_close(vectors(model, mixed), torch.stack([med[0], law[1], none[2], law[3]]))
    assert_close(vectors(model, prompt_name="law"), law)
    assert_close(vectors(model, ["[LAW] " + text for text in TEXTS], domain="law"), law)
    features = model.preprocess(TEXTS, domain="law")
    assert features["input_ids"][:, 0].tolist() == [len(model.tokenizer) - 1] * 4
    plain = model.preprocess(TEXTS)
    assert_close(model(plain, domain=torch.tensor([1, 1, 1, 1]))["sentence_embedding"], law)
    assert min(float((one - other).abs().max()) for one, other in ((med, law), (law, none))) > 0.01


def test_a_tokenizer_without_a_beginning_has_the_domain_before_the_text(tmp_path: Path) -> None:
    encoder("t5").save_pretrained(tmp_path)
    tokenizer("t5").save_pretrained(tmp_path)
    model = apart(add_experts(library.SentenceTransformer(str(tmp_path), device="cpu"), ["med", "law"]))
    law = vectors(model, domain="law")
    assert_close(vectors(model, ["[LAW] " + text for text in TEXTS]), law)
    assert (law - vectors(model, domain="med")).abs().max() > 1e-3
    assert_close(vectors(model, ["[LAW] " + text for text in TEXTS], domain="law"), law)
    for more in ({"domain": "law"}, {"domain": "law", "prompt_name": "med"}):
        with pytest.raises(ValueError, match=r"begins with \[MED\], and domain says law"):
            vectors(model, ["[MED] rain" if len(more) == 1 else "rain"], **more)


def test_what_is_wrong_is_told(dense: Any) -> None:
    model = add_experts(dense, ["med", "law"])
    for domain, said in (
        ("bio", "domain must be one of med, law, got 'bio'"),
        (["law"] * 4, "texts of several domains begin with their token"),
        (7, r"domain must be one of 0 \(med\), 1 \(law\)"),
    ):
        with pytest.raises(ValueError, match=said):
            vectors(model, domain=domain)
    with pytest.raises(ValueError, match=r"begins with \[MED\], and domain says law"):
        vectors(model, ["[MED] rain"], domain="law")
    with pytest.warns(UserWarning, match=r"text 0: \[LAW\] does not stand at its beginning"):
        vectors(model, ["[LAW] rain"], prompt="the ")
    with pytest.raises(ValueError, match="has experts already"):
        add_experts(model, ["a"])
    with pytest.raises(TypeError, match="must begin with a Transformer"):
        add_experts(library.SentenceTransformer(modules=[torch.nn.Identity()], device="cpu"), ["a"])
    merged = merge_experts(model)
    merged.prompts["bio"] = "of life: "
    with pytest.raises(ValueError, match="the model has a prompt called 'bio' already"):
        add_experts(merged, ["bio"])
    assert add_experts(merged, ["query"]).prompts["query"] == "[QUERY]"


def test_saved_it_is_refused_by_the_library_and_restored_by_us(dense: Any, tmp_path: Path) -> None:
    from transformers import AutoModel

    from kilter.hosts import transformers as encoders
    from kilter.hosts.sentence_transformers import load

    model = apart(add_experts(dense, ["med", "law"]))
    model.save_pretrained(str(tmp_path / "out"))
    again = load(tmp_path / "out", device="cpu")
    for named in ({}, {"domain": "med"}, {"prompt_name": "law"}):
        assert (vectors(again, **named) - vectors(model, **named)).abs().max() == 0
    assert again.trust_remote_code is False
    assert len(again.tokenizer) == len(model.tokenizer)
    assert type(encoders.load(tmp_path / "out")).__name__ == "BertModelWithExperts"
    for plain in (library.SentenceTransformer, AutoModel.from_pretrained):
        with pytest.raises(ValueError, match=r"ExpertsTransformer|kilter-experts"):
            plain(str(tmp_path / "out"))
    merge_experts(model).save_pretrained(str(tmp_path / "plain"))
    with pytest.raises(ValueError, match="has no experts; SentenceTransformer"):
        load(tmp_path / "plain")
    file = tmp_path / "out" / "modules.json"
    modules = json.loads(file.read_text())
    file.write_text(json.dumps([*modules, {"idx": 9, "name": "9", "path": "", "type": "others.code.Module"}]))
    with pytest.raises(ValueError, match=r"needs code of others \(others\.code\.Module\)"):
        load(tmp_path / "out")
    file.write_text(json.dumps(modules))
    words = tmp_path / "out" / "tokenizer_config.json"
    words.write_text(json.dumps(json.loads(words.read_text()) | {"auto_map": {"AutoTokenizer": ["own.Own", None]}}))
    with pytest.raises(ValueError, match=r"needs code of others \(auto_map of tokenizer_config\.json\)"):
        load(tmp_path / "out")


@pytest.mark.parametrize("way", ["module", "router", "activation"])
def test_no_code_of_others_is_run(dense: Any, tmp_path: Path, way: str) -> None:
    """However the folder names it: as a module that is called like ours, in a Router, as an activation."""
    from kilter.hosts.sentence_transformers import load

    folder = tmp_path / "out"
    add_experts(dense, ["med", "law"]).save_pretrained(str(folder))
    modules = json.loads((folder / "modules.json").read_text())
    kind, name, settings = {
        "module": ("kilter.Own", "own.json", {}),
        "router": ("sentence_transformers.models.Router", "router_config.json", {"types": {"0_Own": "own.Own"}}),
        "activation": ("sentence_transformers.models.Dense", "config.json", {"activation_function": "own.Own"}),
    }[way]
    (folder / "9_Own").mkdir()
    (folder / "9_Own" / name).write_text(json.dumps(settings))
    (folder / "modules.json").write_text(json.dumps([*modules, {"idx": 9, "name": "9", "path": "9_Own", "type": kind}]))
    with pytest.raises(ValueError, match=rf"needs code of others \({'kilter' if way == 'module' else 'own'}\.Own\)"):
        load(folder)
    from kilter.hosts.loading import code_of_others

    assert code_of_others(folder)


def test_merged_it_is_a_plain_model(dense: Any, tmp_path: Path) -> None:
    before = vectors(dense)
    model = add_experts(dense, ["med", "law"])
    assert (vectors(merge_experts(model)) - before).abs().max() == 0
    apart(model)
    plain = merge_experts(model, {"law": 1})
    assert_close(vectors(plain), vectors(model, domain="law"))
    assert "law" not in plain.prompts
    plain.save_pretrained(str(tmp_path / "plain"))
    again = library.SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    assert (vectors(again) - vectors(plain)).abs().max() == 0
    assert "kilter" not in "".join(file.read_text() for file in (tmp_path / "plain").rglob("*.json"))


@pytest.mark.slow
def test_merged_it_loads_where_there_is_no_kilter(dense: Any, tmp_path: Path) -> None:
    plain = merge_experts(apart(add_experts(dense, ["med", "law"])))
    plain.save_pretrained(str(tmp_path / "plain"))
    code = (
        "import sys; sys.modules['kilter'] = None\n"
        "from sentence_transformers import SentenceTransformer\n"
        f"model = SentenceTransformer({str(tmp_path / 'plain')!r}, device='cpu')\n"
        f"print(model.encode({TEXTS!r}).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert_close(torch.tensor(json.loads(done.stdout.splitlines()[-1])), vectors(plain))


# Training -------------------------------------------------------------------------------------------------------------


def ranking(model: Any, cached: int | None = None) -> Any:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    if cached:
        return losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=cached)
    return losses.MultipleNegativesRankingLoss(model)


def run(model: Any, out: Path, rows: Any = None, **options: Any) -> Any:
    """As a user trains it."""
    loss = options.pop("loss", None) or ranking(model)
    rows = data() if rows is None else rows
    made = trainer(model, DomainContrast(), rows, out, loss=loss, prompts=PROMPTS, **options)
    made.train()
    return made


def test_the_stock_trainer_trains_the_expert_of_each_data_set(dense: Any, tmp_path: Path) -> None:
    from datasets import DatasetDict

    model = add_experts(dense, ["med", "law"])
    before = copy.deepcopy(model.state_dict())
    run(model, tmp_path, DatasetDict({"law": data()["law"]}), weight_decay=0.5)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    experts = {name for name in before if ".experts." in name}
    assert experts & changed == {name for name in experts if ".experts.1." in name}
    run(model, tmp_path)
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items() if name in experts)


@pytest.mark.slow
def test_one_domain_ends_as_dense_fine_tuning(dense: Any, tmp_path: Path) -> None:
    from datasets import DatasetDict

    single = add_experts(copy.deepcopy(dense), ["law"], domain_tokens=False)
    rows = DatasetDict({"law": data()["law"]})
    run(single, tmp_path / "a", copy.deepcopy(rows))
    trainer(dense, DomainContrast(), rows, tmp_path / "b", loss=ranking(dense)).train()
    assert_close(vectors(single, domain="law"), vectors(dense))


@pytest.mark.parametrize("cached", [None, 3])
def test_the_domain_travels_through_merged_columns_and_gradcache(dense: Any, cached: int | None) -> None:
    model = apart(add_experts(dense, ["med", "law"])).train()
    model.apply(lambda module: setattr(module, "p", 0.0) if isinstance(module, torch.nn.Dropout) else None)
    texts = ["[MED] " + TEXTS[0], "[LAW] " + TEXTS[1], "[MED] " + TEXTS[2], "[LAW] " + TEXTS[3]]
    columns = [model.preprocess(texts), model.preprocess([text + " rain" for text in texts])]

    def gradients(loss: Any) -> dict[str, Tensor]:
        model.zero_grad()
        with torch.enable_grad():
            loss([dict(column) for column in columns], None).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    def apart_and_plain(features: Any, labels: Any) -> Tensor:
        first, second = (model(column)["sentence_embedding"] for column in features)
        scores = 20 * torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=-1)
        return torch.nn.functional.cross_entropy(scores, torch.arange(4))

    found, plain = gradients(ranking(model, cached)), gradients(apart_and_plain)
    assert found.keys() == plain.keys()
    for name, value in plain.items():
        assert_close(found[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_stopped_run_is_taken_up_again(dense: Any, tmp_path: Path) -> None:
    model = add_experts(dense, ["med", "law"])
    once = copy.deepcopy(model)
    run(once, tmp_path / "once")
    run(model, tmp_path / "run", save_strategy="steps", save_steps=2)
    again = copy.deepcopy(add_experts(small(tmp_path / "dense"), ["med", "law"]))
    made = trainer(again, DomainContrast(), data(), tmp_path / "run", loss=ranking(again), prompts=PROMPTS)
    made.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert_close(vectors(again, domain="law"), vectors(once, domain="law"))


def test_routers_are_taught_beside_any_loss(dense: Any, tmp_path: Path) -> None:
    from kilter.hosts.expert_sentences import RouterLoss

    model = add_experts(dense, ["med", "law"], routing="supervised")
    made = run(model, tmp_path, loss=RouterLoss(ranking(model), weight=0.5), max_steps=8)
    logged = [entry["router"] for entry in made.state.log_history if "router" in entry]
    assert logged[-1] < logged[0]
    model.train()
    with pytest.raises(ValueError, match="no text of the batch says its domain"):
        RouterLoss(ranking(model))([model.preprocess(TEXTS)] * 2)
    encoder = model[0].model
    (getattr(encoder, "activation_checkpointing_enable", None) or encoder.gradient_checkpointing_enable)()
    parts = RouterLoss(ranking(model))([model.preprocess(TEXTS, domain="law")] * 2)
    sum(parts.values()).backward()
    assert all(e.router.weight.grad.any() for e in model.modules() if isinstance(e, Experts))
    encoder.eval()  # which does without checkpoints
    with pytest.raises(ValueError, match="give it without mini-batches"):
        RouterLoss(ranking(model, 2))([model.preprocess(TEXTS, domain="law")] * 2)
    with pytest.raises(ValueError, match="weight must be at least 0"):
        RouterLoss(ranking(model), weight=-1)


def test_our_loss_with_the_domain_in_the_label_column(dense: Any, tmp_path: Path) -> None:
    from datasets import Dataset

    rows = data(8)["law"].to_dict() | {"domain": [0, 1] * 4}
    texts = {
        name: [f"[{'LAW' if d else 'MED'}] {text}" for text, d in zip(rows[name], rows["domain"], strict=True)]
        for name in ("anchor", "positive")
    }
    model = add_experts(dense, ["med", "law"])
    made = trainer(model, DomainContrast(form="mnr"), Dataset.from_dict(texts | {"label": rows["domain"]}), tmp_path)
    made.train()
    assert made.state.log_history[0]["domain_contrast"] > 0
