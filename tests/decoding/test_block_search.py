"""RankGen's search and best of n: the numbered checks of the specification, and what goes in and comes out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator

from kilter.decoding import BestOfN, RankGenSearch
from kilter.decoding.streams import Streams
from tests.decoding import tiny

pytestmark = pytest.mark.host

GOLDEN = Path(__file__).parents[1] / "golden" / "rankgen_search.json"
NAMES = sorted(set(tiny.MODELS) - {"recurrent_gemma"})


def seeds(*numbers: int) -> list[Generator]:
    return [Generator().manual_seed(number) for number in numbers]


def liked(prefixes: list[Any], continuations: list[Any]) -> torch.Tensor:
    """A fixed taste: which tokens come, and where."""
    places = [torch.arange(1, len(ids) + 1) for ids in continuations]
    return torch.tensor(
        [((ids * 7919 + place * 104729) % 1009).sum().item() for ids, place in zip(continuations, places, strict=True)]
    )


def generate(name: str = "gpt2", batch: int = 1, **asked: Any) -> Any:
    made = tiny.model(name)
    inputs = tiny.prompt(made, batch, ragged=batch > 1)
    return tiny.generate(made, inputs, **{"max_new_tokens": 8, "do_sample": True, "top_k": 0} | asked)


def said(found: Any, name: str = "gpt2") -> torch.Tensor:
    return found.sequences[:, tiny.said_before(tiny.model(name), tiny.prompt(tiny.model(name))) :]


@pytest.mark.parametrize("asked", [{}, {"top_p": 0.8}, {"temperature": 0.5, "top_k": 5}, {"repetition_penalty": 1.3}])
@pytest.mark.parametrize("name", ["gpt2", "t5", "gemma3"])
def test_one_beam_of_one_sample_is_plain_sampling(name: str, asked: dict[str, Any]) -> None:
    tiny.model(name)  # making it draws from torch's generator
    for seed in range(4):
        torch.manual_seed(seed)
        plain = generate(name, **asked)
        for decoder in (
            BestOfN(liked, 1, generator=seeds(seed)),
            RankGenSearch(liked, beams=1, samples=1, block=3, generator=seeds(seed)),
        ):
            assert torch.equal(generate(name, custom_generate=decoder, **asked).sequences, plain.sequences)


@pytest.mark.parametrize("first_stage", ["single", "copies"])
def test_one_block_as_long_as_the_answer_is_best_of_n(first_stage: str) -> None:
    for seed in range(4):
        search = RankGenSearch(
            liked, beams=1, samples=6, block=8, first_stage=first_stage, generator=seeds(seed, seed + 9)
        )  # type: ignore[arg-type]
        blocks = generate(batch=2, custom_generate=search)
        whole = generate(batch=2, custom_generate=BestOfN(liked, 6, generator=seeds(seed, seed + 9)))
        assert torch.equal(blocks.sequences, whole.sequences)
        assert torch.equal(blocks.ranker_scores, whole.ranker_scores)


def test_the_best_of_n_is_the_best_of_as_many_samples() -> None:
    tiny.model("gpt2")  # making it draws from torch's generator
    torch.manual_seed(3)
    samples = said(generate(num_return_sequences=6))
    found = generate(custom_generate=BestOfN(liked, 6, generator=seeds(3)), num_return_sequences=6)
    score = [
        liked([], [row[: int((row == tiny.EOS).float().argmax()) + 1] if tiny.EOS in row else row]) for row in samples
    ]
    order = torch.cat(score).sort(descending=True, stable=True)[1]
    assert found.ranker_scores.tolist() == torch.cat(score)[order].tolist()
    assert torch.equal(said(found), samples[order][:, : said(found).shape[1]])


@pytest.mark.parametrize("first_stage", ["single", "copies"])
@pytest.mark.parametrize(("beams", "samples", "block"), [(2, 3, 2), (3, 2, 3), (1, 4, 1), (4, 2, 3)])
@pytest.mark.parametrize("taste", ["table", "short", "long"])
def test_the_kept_beams_are_those_of_a_plain_search(
    monkeypatch: pytest.MonkeyPatch, taste: str, beams: int, samples: int, block: int, first_stage: str
) -> None:
    scorer = {
        "table": liked,
        "short": lambda prefixes, continuations: torch.tensor([-len(ids) for ids in continuations]),
        "long": lambda prefixes, continuations: torch.tensor([len(ids) for ids in continuations]),
    }[taste]
    monkeypatch.setattr(Streams, "exponential", lambda self, like: noise(like))
    made = tiny.model("gpt2", eos_bias=1.0)
    inputs = tiny.prompt(made, 1)
    search = RankGenSearch(scorer, beams=beams, samples=samples, block=block, first_stage=first_stage)  # type: ignore[arg-type]
    calls[0] = 0
    found = tiny.generate(
        made, inputs, custom_generate=search, do_sample=True, top_k=0, max_new_tokens=8, num_return_sequences=beams
    )
    calls[0] = 0
    expected = plain_search(tiny.full_pass(made, inputs), scorer, beams, samples, block, first_stage == "copies")
    rows = found.sequences[:, inputs["input_ids"].shape[1] :].tolist()
    assert [tuple(row[: len(ids)]) for row, (ids, _, _) in zip(rows, expected, strict=True)] == [
        ids for ids, _, _ in expected
    ]
    assert found.ranker_scores.tolist() == [score for _, score, _ in expected]
    torch.testing.assert_close(found.sequences_log_probs, torch.tensor([p for _, _, p in expected]), atol=1e-4, rtol=0)


calls = [0]


def noise(like: torch.Tensor) -> torch.Tensor:
    """Exponential noise, other for every token of an answer."""
    calls[0] += 1
    return torch.empty_like(like).exponential_(generator=Generator().manual_seed(calls[0]))


def plain_search(log_probs: Any, scorer: Any, beams: int, samples: int, block: int, copies: bool) -> list[Any]:
    """The published search on lists: (ids, score, Σ log p) of the kept beams, best first."""
    kept: list[Any] = [((), 0.0, 0.0)] * (beams if copies else 1)
    ended = lambda ids: ids[-1:] == (tiny.EOS,) or len(ids) == 8  # noqa: E731
    while True:
        rows = [(ids, p) for ids, _, p in kept for _ in range(samples)]
        for _ in range(block):
            if all(ended(ids) for ids, _ in rows):
                break
            next_log_probs = torch.tensor([log_probs(ids) for ids, _ in rows])
            tokens = (next_log_probs.exp() / noise(next_log_probs.float()[None])[0]).argmax(-1).tolist()
            rows = [
                (ids, p) if ended(ids) else ((*ids, v), p + next_log_probs[i, v].item())
                for i, ((ids, p), v) in enumerate(zip(rows, tokens, strict=True))
            ]
        candidates = []
        for i, (ids, p) in enumerate(rows):
            parent = kept[i // samples]
            if parent[0] and ended(parent[0]):
                if i % samples == 0:
                    candidates.append(parent)
            else:
                candidates.append((ids, scorer([None], [torch.tensor(ids)]).float().item(), p))
        kept = sorted(candidates, key=lambda candidate: -candidate[1])[:beams]
        if all(ended(ids) for ids, _, _ in kept):
            return kept


def test_what_the_scorer_is_given() -> None:
    """The prompt without padding, the continuation so far without the prompt; a beam that ended is asked about once."""
    made = tiny.model("gpt2", eos_bias=2.0)
    inputs = tiny.prompt(made, 3, ragged=True)
    asked: list[tuple[list[Any], list[Any]]] = []

    def scorer(prefixes: list[Any], continuations: list[Any]) -> torch.Tensor:
        asked.append((prefixes, continuations))
        return liked(prefixes, continuations)

    search = RankGenSearch(scorer, beams=2, samples=3, block=2)
    torch.manual_seed(0)
    tiny.generate(made, inputs, custom_generate=search, max_new_tokens=6)
    prompts = [
        row[mask.bool()].tolist() for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
    assert len(asked) > 1
    assert len(asked[0][0]) == 3 * 3
    assert len(asked[1][0]) < 3 * 2 * 3, "nothing ended in the first block, so this test shows nothing"
    for stage, (prefixes, continuations) in enumerate(asked):
        assert len(prefixes) == len(continuations)
        assert {tuple(prefix.tolist()) for prefix in prefixes} <= {tuple(prompt) for prompt in prompts}
        for ids in continuations:
            assert 2 * stage < len(ids) <= 2 * stage + 2
            assert tiny.EOS not in ids[:-1]


class Words:
    """A tokenizer that is one table."""

    def batch_decode(self, rows: list[list[int]], skip_special_tokens: bool = False) -> list[str]:
        assert skip_special_tokens
        return [" ".join(f"w{i}" for i in row if i > 3) for row in rows]


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_with_a_tokenizer_the_scorer_reads_texts(name: str) -> None:
    made = tiny.model(name)
    inputs = tiny.prompt(made, 2, ragged=True)
    seen: set[str] = set()

    def scorer(prefixes: list[str], continuations: list[str]) -> list[float]:
        seen.update(prefixes)
        return [float(text.count("w7")) for text in continuations]

    tiny.generate(made, inputs, custom_generate=BestOfN(scorer, 5, tokenizer=Words()), max_new_tokens=6)
    assert seen == set(Words().batch_decode(inputs["input_ids"].tolist(), skip_special_tokens=True))


def test_a_cross_encoder_is_a_scorer() -> None:
    class CrossEncoder:
        def predict(self, pairs: list[tuple[str, str]]) -> list[float]:
            return [len(set(prefix.split()) & set(text.split())) for prefix, text in pairs]

    found = generate(custom_generate=BestOfN(CrossEncoder(), 9, tokenizer=Words()), num_return_sequences=9)  # type: ignore[arg-type]
    assert found.ranker_scores.tolist() == sorted(found.ranker_scores.tolist(), reverse=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_input_draws_the_same_alone_and_in_a_batch(name: str) -> None:
    """Every family; and the log-probabilities are those of a whole pass."""
    made = tiny.model(name)
    inputs = tiny.prompt(made, 3, ragged=True)
    asked = {"custom_generate": RankGenSearch("log_prob", beams=2, samples=3, block=2), "max_new_tokens": 6}
    torch.manual_seed(5)
    together = tiny.generate(made, inputs, num_return_sequences=2, do_sample=True, top_k=0, **asked)
    start = tiny.said_before(made, inputs)
    for i in range(3):
        one = tiny.alone(made, inputs, i)
        torch.manual_seed(5)
        found = tiny.generate(made, one, num_return_sequences=2, do_sample=True, top_k=0, **asked)
        own = found.sequences[:, tiny.said_before(made, one) :]
        batched = together.sequences[2 * i : 2 * i + 2, start : start + own.shape[1]]
        log_probs = tiny.full_pass(made, one)
        for row, again, total in zip(own.tolist(), batched.tolist(), found.sequences_log_probs.tolist(), strict=True):
            row = row[: row.index(tiny.EOS) + 1] if tiny.EOS in row else row
            assert again[: len(row)] == row
            assert sum(log_probs(tuple(row[:t]))[v] for t, v in enumerate(row)) == pytest.approx(total, abs=1e-3)


def test_equal_prompts_of_a_batch_draw_differently() -> None:
    made = tiny.model("gpt2")
    prompt = tiny.prompt(made, 1)["input_ids"].expand(4, -1)
    torch.manual_seed(0)
    found = made.generate(prompt, custom_generate=BestOfN(liked, 1), max_new_tokens=8)
    assert len(set(map(tuple, found.tolist()))) > 1


def test_the_same_generator_gives_the_same_again() -> None:
    first, second, other = (
        generate(batch=2, custom_generate=BestOfN(liked, 3, generator=Generator().manual_seed(s))).sequences
        for s in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_prompt_is_run_once_and_no_token_twice() -> None:
    made = tiny.model("llama")
    tokens: list[int] = []
    hook = made.register_forward_pre_hook(
        lambda module, args, kwargs: tokens.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    inputs = tiny.prompt(made, 2)
    tiny.generate(made, inputs, custom_generate=RankGenSearch(liked, beams=2, samples=3, block=2), max_new_tokens=6)
    hook.remove()
    assert tokens == [inputs["input_ids"].numel(), 2 * 3, *[2 * 6] * 4]


def test_an_allowed_set_belongs_to_its_prompt() -> None:
    allowed = {0: [10, 11, 12], 1: [20, 21]}
    found = generate(batch=2, custom_generate=BestOfN(liked, 4), prefix_allowed_tokens_fn=lambda i, ids: allowed[i])
    assert all(set(row) <= set(allowed[i]) for i, row in enumerate(said(found).tolist()))


@pytest.mark.parametrize(
    ("scorer", "error"),
    [
        (lambda prefixes, continuations: torch.full((len(prefixes),), torch.nan), "the score of pair 0 is NaN"),
        (lambda prefixes, continuations: torch.zeros(2), r"4 pairs were given and scores of shape \(2,\)"),
        (lambda prefixes, continuations: torch.zeros(4, 1), r"scores of shape \(4, 1\)"),
    ],
)
def test_a_scorer_that_does_not_score(scorer: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        generate(custom_generate=BestOfN(scorer, 4))


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"num_beams": 3}, "num_beams=3: BestOfN samples and ranks; set num_beams=1"),
        ({"num_return_sequences": 5}, "num_return_sequences=5 is more than the 4 that BestOfN keeps"),
        ({"do_sample": False, "top_p": 0.9}, "top_p=0.9 has no effect without do_sample=True"),
        ({"do_sample": False, "temperature": 0.7}, "temperature=0.7 has no effect without do_sample=True"),
        ({"output_logits": True}, "output_logits=True: kilter's decoders return no such thing"),
    ],
)
def test_settings_that_contradict(asked: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        generate(custom_generate=BestOfN(liked, 4), **asked)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"beams": 0}, "beams must be at least 1, got 0"),
        ({"samples": -1}, "samples must be at least 1, got -1"),
        ({"block": 2.5}, "block must be a whole number, got 2.5"),
        ({"first_stage": "double"}, "first_stage must be one of single, copies, got 'double'"),
        ({"scorer": "perplexity"}, "the only one known by name is 'log_prob'"),
        ({"generator": seeds(1, 2, 3)}, "generator: there are 3 for 1 inputs"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], error: str, own_messages: None) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        generate(custom_generate=RankGenSearch(**{"scorer": liked} | settings))


def test_the_authors_search_finds_the_same() -> None:
    """Texts of their class, run by scripts/golden_rankgen_search.py; it draws beam after beam, so of one beam."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    made = tiny.model("gpt2", eos_bias=golden["eos_bias"])

    def checksums(prefixes: list[str], texts: list[str]) -> list[int]:
        return [sum(i * ord(letter) for i, letter in enumerate(text, 1)) % golden["modulus"] for text in texts]

    for case in golden["cases"]:
        torch.manual_seed(case["seed"])
        found = made.generate(
            torch.tensor([case["prompt"]]),
            custom_generate=RankGenSearch(
                checksums,
                beams=1,
                samples=case["samples"],
                block=case["block"],
                tokenizer=Words(),
                generator=[torch.default_generator],
            ),
            do_sample=True,
            top_k=0,
            top_p=case["top_p"],
            max_new_tokens=golden["max_new_tokens"],
        )
        text = Words().batch_decode(found[:, len(case["prompt"]) :].tolist(), skip_special_tokens=True)[0]
        assert text == case["text"].strip()
