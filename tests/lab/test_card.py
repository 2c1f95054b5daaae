"""Model cards: they load the model, name its base so that others know it, and keep one set of results."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kilter.core.paper import cards
from kilter.lab.card import add_results, how_to_load, write_card
from kilter.lab.recipe import Provenance

DATA = Provenance("Spoken digits", "CC BY-SA 4.0", "Z. Jackson", "https://example.org/digits")
PAPER = cards()["align-with-purpose"]
KINDS = {
    "AutoModelForCTC": ({"architectures": ["Wav2Vec2ForCTC"]}, ()),
    "small_speech": ({"architectures": ["SmallSpeechForCTC"]}, ()),
    "AutoModelForSeq2SeqLM": ({"architectures": ["MarianMTModel"], "is_encoder_decoder": True}, ()),
    "AutoModelForCausalLM": ({"architectures": ["GPT2LMHeadModel"]}, ()),
    "Sorter": ({"architectures": ["Sorter"]}, ()),
    "SetWriter": ({"architectures": ["SetWriter"]}, ()),
    "RankGenScorer": ({"architectures": ["BertModel"]}, ("rankgen.json", "modules.json")),
    "kilter.hosts.sentence_transformers": (
        {"architectures": ["BertModelWithExperts"], "kilter_experts": {"domains": ["med", "law"]}},
        ("modules.json",),
    ),
    "SentenceTransformer": ({"architectures": ["BertModel"]}, ("modules.json",)),
}


def saved(folder: Path, kind: str = "AutoModelForCTC") -> Path:
    config, files = KINDS[kind]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name in files:
        (folder / name).write_text("{}")
    return folder


def card(folder: Path, **changes: Any) -> str:
    told: dict[str, Any] = {"title": "digits", "label": "CTC + AWP", "paper": PAPER, "settings": {}, "data": DATA}
    write_card(folder, **{**told, **changes})
    return (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_says_how_to_load_its_kind_of_model(kind: str, tmp_path: Path) -> None:
    text = card(saved(tmp_path / "model", kind))
    code = text.partition("```python\n")[2].partition("```")[0]
    assert kind in code
    compile(code, "card", "exec")


def test_what_it_says_loads_a_small_recogniser(tmp_path: Path) -> None:
    from kilter.data.prompts import LETTERS
    from kilter.models.recogniser import Recogniser
    from kilter.models.small_speech import letter_tokenizer

    sizes: dict[str, Any] = {"hidden_size": 16, "stack": 4, "dilations": (1, 2)}
    recogniser = Recogniser.small(letter_tokenizer(LETTERS), "residual", 8000, **sizes)
    recogniser.save(tmp_path)
    names: dict[str, Any] = {}
    exec(how_to_load(tmp_path).replace('"."', repr(str(tmp_path))), names)
    assert names["model"].num_parameters() == recogniser.model.num_parameters()
    assert names["tokenizer"].get_vocab() == recogniser.tokenizer.get_vocab()


def test_a_folder_without_a_model_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config\.json; save the model before its card"):
        card(tmp_path)


def test_a_base_on_this_machine_is_named_by_its_card(tmp_path: Path) -> None:
    base = saved(tmp_path / "arms" / "ctc" / "model")
    text = card(saved(tmp_path / "one"), base=str(base))
    assert "a local model, model" in text
    card(base, title="a small recogniser")
    text = card(saved(tmp_path / "two"), base=str(base))
    assert "- **base model**: a local model, a small recogniser" in text
    assert str(tmp_path) not in text
    assert "base_model" not in yaml.safe_load(text.split("---")[1])


def test_a_base_of_the_hub_is_in_the_front_matter(tmp_path: Path) -> None:
    text = card(saved(tmp_path / "model"), base="facebook/wav2vec2-base-960h", licence="apache-2.0")
    front = yaml.safe_load(text.split("---")[1])
    assert (front["base_model"], front["license"]) == ("facebook/wav2vec2-base-960h", "apache-2.0")


def test_only_settings_that_are_set_are_told(tmp_path: Path) -> None:
    text = card(saved(tmp_path / "model"), settings={"steps": 450, "language": None, "weight": 1.5, "arms": ()})
    assert "- **settings**: `steps` 450, `weight` 1.5\n" in text
    assert "settings" not in card(saved(tmp_path / "none"))


SUMMARY: dict[str, Any] = {
    "method": "align-with-purpose",
    "preset": "full",
    "interval": "95 % t interval over 5 seeds",
    "data": {"title": "Spoken digits", "synthetic": True},
    "baseline": "ctc",
    "metrics": {
        "early": {"label": "Words early", "unit": "%", "digits": 1, "bounds": [0, 100]},
        "delay_ms": {"label": "Delay", "unit": "ms", "digits": 0},
        "other": {"label": "Not of this arm", "unit": "", "digits": 0},
    },
    "arms": {
        "ctc": {
            "label": "CTC | plain",
            "seeds": [0, 1],
            "metrics": {"early": {"mean": 94.6, "low": 88.7, "high": 100.4}},
        },
        "awp": {"label": "AWP", "seeds": [0], "metrics": {"early": {"mean": 96.0}, "delay_ms": {"mean": -161.2}}},
    },
    "differences": {"awp": {"early": {"mean": 1.4, "low": -0.2, "high": 3.0}}},
}


def test_results_stand_beside_the_baselines_and_are_replaced(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    card(folder)
    add_results(folder, SUMMARY, "awp")
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| Words early, % | 96.0 | 94.6 [88.7, 100.0] | +1.4 [−0.2, +3.0] |" in text
    assert "| Delay, ms | −161 | – | – |" in text
    assert "CTC \\| plain" in text
    assert "Not of this arm" not in text
    assert "Its data are synthetic." in text
    assert text.index("## Load it") < text.index("## Results") < text.index("## Citation")
    add_results(folder, SUMMARY, "awp")
    assert (folder / "README.md").read_text(encoding="utf-8") == text


def test_the_baseline_has_results_of_its_own(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    card(folder)
    add_results(folder, SUMMARY, "ctc")
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| Words early, % | 94.6 [88.7, 100.0] |\n" in text
    assert "Means over 2 seeds, of which this model is one" in text


def test_results_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="arm: 'x' is none of the run's: ctc, awp"):
        add_results(tmp_path, SUMMARY, "x")
    with pytest.raises(ValueError, match="write_card writes it when the model is saved"):
        add_results(tmp_path, SUMMARY, "awp")
