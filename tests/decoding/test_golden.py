"""What transformers 4.56.2 and fairseq found, found again: by the plain-Python reference and by the library."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.decoding import reference
from tests.decoding.table import EOS, table_lm

GOLDEN = Path(__file__).parents[1] / "golden"
Rows = list[tuple[tuple[int, ...], float]]


def cases(file: str) -> list[dict[str, Any]]:
    return json.loads((GOLDEN / file).read_text(encoding="utf-8"))["cases"]


COMPARED = [case for case in cases("group_beam_search.json") if not case["ran_on"]]
FAIRSEQ = cases("fairseq_search.json")


def ended(row: list[int]) -> tuple[int, ...]:
    """Without the padding, 1, which the table never says."""
    return tuple(token for token in row if token != 1)


def recorded(case: dict[str, Any]) -> Rows:
    return [(ended(row), score) for row, score in zip(case["sequences"], case["scores"], strict=True)]


def same(found: Rows, expected: Rows) -> None:
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-4)


def referred(case: dict[str, Any]) -> Rows:
    model, asked = table_lm(**case["model"]), case["settings"]
    rows: Rows = []
    for prompt in case["prompt"]:
        groups = reference.search(
            lambda said, prompt=prompt: model.log_probs((*prompt, *said)),
            beams=asked["num_beams"],
            groups=asked["num_beam_groups"],
            penalty=asked["diversity_penalty"],
            diversity=reference.hamming,
            max_new=asked["max_new_tokens"],
            eos=[EOS],
            length_penalty=asked["length_penalty"],
            early_stopping=asked["early_stopping"],
        )
        rows += [(h.tokens, h.score) for _, h in reference.ranked(groups)[: asked["num_return_sequences"]]]
    return rows


def test_there_is_enough_to_compare() -> None:
    assert len(COMPARED) >= 200
    assert sum(any(EOS in row for row in case["sequences"]) for case in COMPARED) >= 30
    assert {case["settings"]["early_stopping"] for case in COMPARED} == {False, True, "never"}


@pytest.mark.host
@pytest.mark.parametrize("part", range(8))
def test_the_reference_is_group_beam_search_as_it_was(part: int) -> None:
    for case in COMPARED[part::8]:
        same(referred(case), recorded(case))


def fairseq(case: dict[str, Any]) -> list[Rows]:
    """Its groups, which it interleaves, each best first."""
    groups = case.get("groups", 1)
    rows = recorded(case)
    return [sorted(rows[g::groups], key=lambda row: -row[1]) for g in range(groups)]


@pytest.mark.host
@pytest.mark.parametrize("part", range(4))
def test_the_reference_chooses_what_fairseq_does(part: int) -> None:
    for case in FAIRSEQ[part::4]:
        model = table_lm(**case["model"])
        options = (
            {"groups": case["groups"], "penalty": case["strength"], "diversity": reference.overlap(case["discount"])}
            if "groups" in case
            else {"adjust": reference.sibling(case["rank_penalty"])}
        )
        groups = reference.search(
            lambda said, model=model, prompt=case["prompt"]: model.log_probs((*prompt, *said)),
            beams=case["beams"],
            max_new=case["steps"],
            length_penalty=0.0,
            **options,
        )
        for found, expected in zip(groups, fairseq(case), strict=True):
            same([(h.tokens, h.total) for h in found], expected)


def decoded(case: dict[str, Any], decoder: Any, **asked: Any) -> Any:
    prompt = torch.tensor(case["prompt"]).view(-1, len(case["prompt"]) if "steps" in case else len(case["prompt"][0]))
    found = table_lm(**case["model"]).generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        custom_generate=decoder,
        return_dict_in_generate=True,
        **asked,
    )
    rows = found.sequences[:, prompt.shape[1] :].tolist()
    return [ended(row) for row in rows], found.sequences_scores.tolist(), found.group_indices.tolist()


@pytest.mark.host
@pytest.mark.parametrize("part", range(8))
def test_diverse_beam_search_is_group_beam_search_as_it_was(part: int) -> None:
    from kilter.decoding import diverse_beam_search

    for case in COMPARED[part::8]:
        sequences, scores, _ = decoded(case, diverse_beam_search, **case["settings"])
        same(list(zip(sequences, scores, strict=True)), recorded(case))


@pytest.mark.host
@pytest.mark.parametrize("part", range(4))
def test_diverse_and_sibling_search_choose_what_fairseq_does(part: int) -> None:
    from kilter.decoding import DiverseBeamSearch, SiblingBeamSearch

    for case in FAIRSEQ[part::4]:
        asked = {"num_beams": case["beams"], "num_return_sequences": case["beams"], "max_new_tokens": case["steps"]}
        if "groups" in case:
            decoder = DiverseBeamSearch(diversity="overlap", discount=case["discount"], order="group")
            asked |= {"num_beam_groups": case["groups"], "diversity_penalty": case["strength"]}
        else:
            decoder = SiblingBeamSearch(rank_penalty=case["rank_penalty"])
        found = zip(*decoded(case, decoder, length_penalty=0.0, **asked), strict=True)
        rows = [(group, (sequence, score)) for sequence, score, group in found]
        for group, expected in enumerate(fairseq(case)):
            same([row for g, row in rows if g == group], expected)
