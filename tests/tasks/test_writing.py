"""Machine continuations: of varied length, ended at sentences, and the same texts after any kill."""

import pytest
import torch

from kilter.models.tiny_text import tiny_lm, tiny_tokenizer
from kilter.tasks.continuations.writing import Writing, write_continuations
from tests.prose import prose

pytestmark = pytest.mark.host

PREFIXES = {f"tale/{place}": f"Ada saw the storm {place} times." for place in range(10)}
WRITING = Writing(words=(3, 8), batch_size=4, whole=False)


@pytest.fixture(scope="module")
def tiny():
    tokenizer = tiny_tokenizer([prose(200)])
    return tiny_lm(tokenizer), tokenizer


def test_every_prefix_is_continued_within_bounds(tiny, tmp_path):
    found = write_continuations(lambda: tiny, PREFIXES, tmp_path / "machine.jsonl", writing=WRITING)
    assert list(found) == list(PREFIXES)
    assert all(0 < len(text.split()) <= 8 for text in found.values())
    assert len(set(found.values())) == len(PREFIXES)
    assert not any(text.startswith("Ada saw the storm") for text in found.values())


@pytest.mark.parametrize("kept", [0, 1, 5, 9])
@pytest.mark.parametrize("torn", [False, True])
def test_a_run_killed_anywhere_ends_with_the_same_texts(tiny, tmp_path, kept, torn):
    whole = tmp_path / "whole.jsonl"
    expected = write_continuations(lambda: tiny, PREFIXES, whole, writing=WRITING)
    torch.rand(3)  # another random state must not matter
    killed = tmp_path / "killed.jsonl"
    write_continuations(lambda: tiny, PREFIXES, killed, writing=WRITING)
    lines = killed.read_bytes().splitlines(keepends=True)
    killed.write_bytes(b"".join(lines[:kept]) + lines[kept][:17] * torn)
    assert write_continuations(lambda: tiny, PREFIXES, killed, writing=WRITING) == expected
    assert sorted(killed.read_text().splitlines()) == sorted(whole.read_text().splitlines())


def test_nothing_is_loaded_when_all_is_there_and_the_random_state_stays(tiny, tmp_path):
    file = tmp_path / "machine.jsonl"
    state = torch.get_rng_state()
    first = write_continuations(lambda: tiny, PREFIXES, file, writing=WRITING)
    assert torch.equal(torch.get_rng_state(), state)

    def refuse():
        raise AssertionError("the model was loaded for nothing")

    assert write_continuations(refuse, PREFIXES, file, writing=WRITING) == first


def test_another_seed_writes_other_texts(tiny, tmp_path):
    found = [
        write_continuations(lambda: tiny, PREFIXES, tmp_path / f"{seed}.jsonl", writing=Writing((3, 8), seed=seed))
        for seed in (0, 1)
    ]
    assert found[0] != found[1]


def test_files_of_other_settings_or_prefixes_are_refused(tiny, tmp_path):
    file = tmp_path / "machine.jsonl"
    write_continuations(lambda: tiny, PREFIXES, file, writing=WRITING, name="tiny")
    with pytest.raises(ValueError, match=r"machine\.jsonl was made with model='tiny', and now it is 'other'"):
        write_continuations(lambda: tiny, PREFIXES, file, writing=WRITING, name="other")
    with pytest.raises(ValueError, match=r"made with top_p=0\.9, and now it is 0\.5"):
        write_continuations(lambda: tiny, PREFIXES, file, writing=Writing((3, 8), 0.5, batch_size=4), name="tiny")
    with pytest.raises(ValueError, match="'tale/3' continues another prefix there"):
        write_continuations(lambda: tiny, PREFIXES | {"tale/3": "Something else."}, file, writing=WRITING, name="tiny")
    file.write_text('{"id": "tale/0"\n' + file.read_text())
    with pytest.raises(ValueError, match=r"machine\.jsonl, line 1: no row with an id"):
        write_continuations(lambda: tiny, PREFIXES, file, writing=WRITING, name="tiny")


def test_prefixes_that_cannot_be_continued_are_named(tiny, tmp_path):
    with pytest.raises(ValueError, match="prefix 'x' is empty"):
        write_continuations(lambda: tiny, {"x": " "}, tmp_path / "a.jsonl", writing=WRITING)
    with pytest.raises(ValueError, match=r"prefix 'long' has \d+ tokens, .* the model's 1024 positions"):
        write_continuations(lambda: tiny, {"long": "storm " * 1100}, tmp_path / "b.jsonl", writing=WRITING)


def test_a_model_that_says_nothing_leaves_its_prefix_out(tiny, tmp_path):
    model, tokenizer = tiny

    class Silent:
        config, device = model.config, model.device

        def generate(self, input_ids, **options):
            return torch.cat([input_ids, torch.zeros(len(input_ids), 4, dtype=torch.long)], 1)  # padding only

    assert write_continuations(lambda: (Silent(), tokenizer), PREFIXES, tmp_path / "m.jsonl", writing=WRITING) == {}
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) == len(PREFIXES)
