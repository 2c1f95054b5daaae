"""The small encoder–decoder: its tokenizer loses nothing, batches repeat, and it learns to copy and to do without."""

from pathlib import Path

import pytest
import torch

from kilter.models.small_seq2seq import PairBatches, only_batch, pair_tokenizer, small_seq2seq
from kilter.models.text_model import TextModel

pytestmark = pytest.mark.host

WORDS = ["red", "blue", "green", "hat", "cat", "dog", "bus"]
PAIRS = [(f"{a} {b}", f"A {a} {b}, near Café Noir.") for a in WORDS[:3] for b in WORDS[3:]]
TEXTS = [text for pair in PAIRS for text in pair]


def test_texts_come_back_as_they_went_in() -> None:
    tokenizer = pair_tokenizer(TEXTS, entries=120)
    assert len(tokenizer) <= 120
    rows = tokenizer(TEXTS)["input_ids"]
    assert tokenizer.batch_decode(rows, skip_special_tokens=True) == TEXTS
    assert all(row[-1] == tokenizer.eos_token_id and row.count(row[-1]) == 1 for row in rows)


def test_long_texts_are_cut_and_still_end() -> None:
    tokenizer = pair_tokenizer(TEXTS, entries=60, longest=6)
    row = tokenizer("red green blue hat cat dog bus", truncation=True)["input_ids"]
    assert len(row) == 6
    assert row[-1] == tokenizer.eos_token_id


def test_a_saved_model_loads_as_any_of_transformers(tmp_path: Path) -> None:
    tokenizer = pair_tokenizer(TEXTS, entries=120)
    torch.manual_seed(0)
    model = small_seq2seq(tokenizer, hidden_size=16, layers=1).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = TextModel.load(str(tmp_path), device="cpu")
    given = again.batch(again.encode(["red hat", "a green bus"]))
    assert again.encoder_decoder
    assert again.encode(["red hat"]) == tokenizer(["red hat"])["input_ids"]
    found = [one.generate(**given, num_beams=2, max_new_tokens=5) for one in (model, again.model)]
    assert torch.equal(*found)
    assert not (found[0][:, 1:] == tokenizer.unk_token_id).any()


def batches(**options: object) -> PairBatches:
    return PairBatches(
        PAIRS, pair_tokenizer(TEXTS, entries=120), **{"batches": 9, "batch_size": 4, "seed": 3} | options
    )


def test_a_batch_depends_on_the_seed_and_its_place_only() -> None:
    one, two, other = batches(), batches(batches=20), batches(seed=4)
    for place in (8, 0, 5):
        assert all(torch.equal(one[place][name], two[place][name]) for name in one[place])
    assert any(one[place]["labels"].tolist() != other[place]["labels"].tolist() for place in range(9))
    with pytest.raises(IndexError, match="batch 9 of 9"):
        one[9]


def test_every_pair_is_seen_once_a_pass() -> None:
    rows = [tuple(row) for place in range(3) for row in batches()[place]["input_ids"].tolist()]
    assert len({tuple(token for token in row if token) for row in rows}) == len(PAIRS)


def test_labels_are_masked_and_sources_are_padded() -> None:
    batch = only_batch([batches()[0]])
    lengths = batch["attention_mask"].sum(1)
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    for row, length in zip(batch["input_ids"].tolist(), lengths.tolist(), strict=True):
        assert set(row[length:]) <= {0}
        assert 0 not in row[:length]
    assert ((batch["labels"] >= 1) | (batch["labels"] == -100)).all()


def test_a_share_of_the_sources_is_withheld() -> None:
    many = batches(batches=200, blank=0.25)
    blank = [bool(row.sum() == 1) for place in range(200) for row in many[place]["attention_mask"]]
    assert sum(blank) / len(blank) == pytest.approx(0.25, abs=0.05)
    assert not any(bool(row.sum() == 1) for place in range(50) for row in batches(batches=50)[place]["attention_mask"])


def test_it_learns_to_copy_and_what_is_likely_without_a_source() -> None:
    torch.manual_seed(0)
    tokenizer = pair_tokenizer(TEXTS, entries=120)
    model = small_seq2seq(tokenizer, hidden_size=32, layers=1, dropout=0.0)
    data = PairBatches(PAIRS, tokenizer, batches=250, batch_size=12, seed=0, blank=0.2)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for place in range(250):
        loss = model(**data[place]).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    text = TextModel(model.eval(), tokenizer)
    sources = ["blue dog", "green bus", "red hat"]
    written = text.texts(model.generate(**text.batch(text.encode(sources)), num_beams=1, max_new_tokens=20), 0)
    assert written == [f"A {source}, near Café Noir." for source in sources]
    empty = {"input_ids": torch.tensor([[tokenizer.eos_token_id]]), "attention_mask": torch.ones(1, 1).long()}
    assert text.texts(model.generate(**empty, num_beams=1, max_new_tokens=20), 0)[0].endswith("near Café Noir.")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: small_seq2seq(pair_tokenizer(TEXTS, entries=60), hidden_size=30), "divisible by 4 heads"),
        (lambda: batches(blank=1.0), "blank is a share"),
        (lambda: PairBatches([], pair_tokenizer(TEXTS), batches=1, batch_size=1, seed=0), "none to train on"),
    ],
)
def test_bad_settings(call, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()
