"""N-best minimum word error rate: against the formula on enumerated labellings, its gradient, and bad input."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.speech import MinimumWordErrorRate, ctc_prefix_beam_search, minimum_word_error_rate
from tests.conformance.case import VOCABULARY, Case, Fixed


def fixed_lists(objective: MinimumWordErrorRate, inputs: dict[str, Any]) -> Fixed:
    """The loss of n-best lists found beforehand, and the CTC of the references."""
    lists = objective._search(inputs["log_probs"], inputs["input_lengths"], inputs["references"])
    hypotheses, lengths, errors = (value.double() if value.is_floating_point() else value for value in lists)
    spelled = [[VOCABULARY.index(letter) for letter in text] for text in inputs["references"]]
    targets = torch.tensor([ids + [0] * (4 - len(ids)) for ids in spelled])
    blank, weight = objective.blank, objective.ctc_weight

    def loss(
        log_probs: Float[Tensor, "batch time vocab"],
        input_lengths: Int[Tensor, " batch"],
        hypotheses: Int[Tensor, "batch candidates words"],
        hypothesis_lengths: Int[Tensor, "batch candidates"],
        word_errors: Int[Tensor, "batch candidates"],
        targets: Int[Tensor, "batch tokens"],
        target_lengths: Int[Tensor, " batch"],
    ) -> Tensor:
        from kilter.ops.ctc_sum import ctc_sum

        risk = minimum_word_error_rate(
            log_probs, input_lengths, hypotheses, hypothesis_lengths, word_errors.to(log_probs.dtype), blank=blank
        )
        targets = targets.clamp(min=0)
        ctc = ctc_sum(log_probs, input_lengths, targets, target_lengths, blank=blank)
        return (risk + weight * ctc).mean()

    return loss, {
        "log_probs": inputs["log_probs"],
        "input_lengths": inputs["input_lengths"],
        "hypotheses": hypotheses,
        "hypothesis_lengths": lengths,
        "word_errors": errors.long(),
        "targets": targets,
        "target_lengths": torch.tensor([len(ids) for ids in spelled]),
    }


def cases() -> list[Case]:
    return [
        Case(
            lambda: MinimumWordErrorRate(VOCABULARY, ctc_weight=0.1),
            fixed=fixed_lists,
            skip={"compile": "torch.compile breaks its graph at torch's own CTC"},
        )
    ]


def drawn(frames: int = 4, vocab: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, frames, vocab, generator=generator, dtype=torch.float64).log_softmax(-1)


def probability(log_probs: Tensor, tokens: list[int]) -> Tensor:
    given = torch.tensor(tokens, dtype=torch.long), torch.tensor(len(log_probs)), torch.tensor(len(tokens))
    return (-F.ctc_loss(log_probs, *given, reduction="sum")).exp()


def test_is_the_expected_word_error_above_the_mean() -> None:
    """Every labelling of two frames in the list: no renormalisation is left to hide a mistake."""
    log_probs = drawn(2)
    labellings = [[], [1], [2], [1, 2], [2, 1]]
    errors = torch.tensor([[1.0, 0.0, 1.0, 1.0, 2.0]], dtype=torch.float64)
    padded = torch.tensor([[tokens + [0] * (2 - len(tokens)) for tokens in labellings]])
    lengths = torch.tensor([[len(tokens) for tokens in labellings]])
    shares = torch.stack([probability(log_probs[0], tokens) for tokens in labellings])
    assert_close(shares.sum(), torch.ones_like(shares.sum()))
    found = minimum_word_error_rate(log_probs, torch.tensor([2]), padded, lengths, errors)
    assert_close(found[0], (shares * (errors[0] - errors.mean())).sum())


def test_hypotheses_without_room_are_left_out_of_the_mean() -> None:
    log_probs = drawn(2)
    hypotheses = torch.tensor([[[1, 0], [2, 0], [1, 1]]])  # the last needs three frames
    errors = torch.tensor([[0.0, 1.0, 9.0]], dtype=torch.float64)
    found = minimum_word_error_rate(log_probs, torch.tensor([2]), hypotheses, torch.tensor([[1, 1, 2]]), errors)
    fewer = minimum_word_error_rate(
        log_probs, torch.tensor([2]), hypotheses[:, :2], torch.tensor([[1, 1]]), errors[:, :2]
    )
    assert_close(found, fewer)


def test_impossible_hypotheses_have_no_share_and_no_nan() -> None:
    log_probs = torch.randn(1, 4, 4).log_softmax(-1)
    log_probs[..., 2] = -torch.inf
    log_probs.requires_grad_()
    hypotheses, errors = torch.tensor([[[1], [2]]]), torch.tensor([[1.0, 0.0]])
    for lists in (hypotheses, hypotheses.clamp(min=2)):
        found = minimum_word_error_rate(log_probs, torch.tensor([4]), lists, torch.tensor([[1, 1]]), errors)
        (gradient,) = torch.autograd.grad(found.sum(), log_probs)
        assert found.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hypotheses": torch.tensor([[[1], [7]]])}, "utterance 0: token 0 of hypothesis 1 is 7"),
        ({"hypotheses": torch.tensor([[[0], [1]]])}, "utterance 0: token 0 of hypothesis 0 is 0, the blank"),
        ({"hypotheses": torch.tensor([[1, 2]])}, "hypotheses must be"),
        ({"word_errors": torch.zeros(2, 2)}, "word_errors must be"),
    ],
)
def test_lists_that_do_not_fit(changed: dict[str, Tensor], said: str, own_messages: None) -> None:
    given: dict[str, Any] = {
        "log_probs": drawn(3),
        "input_lengths": torch.tensor([3]),
        "hypotheses": torch.tensor([[[1], [2]]]),
        "hypothesis_lengths": torch.tensor([[1, 1]]),
        "word_errors": torch.zeros(1, 2),
    }
    with pytest.raises(ValueError, match=said):
        minimum_word_error_rate(**{**given, **changed})


@pytest.mark.parametrize("lengths", [[[-1, -1]], [[1, -1]]])
def test_lists_of_one_or_none_teach_nothing(lengths: list[list[int]]) -> None:
    log_probs = drawn(3).requires_grad_()
    hypotheses, errors = torch.tensor([[[1], [2]]]), torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    found = minimum_word_error_rate(log_probs, torch.tensor([3]), hypotheses, torch.tensor(lengths), errors)
    (gradient,) = torch.autograd.grad(found.sum(), log_probs)
    assert found == 0
    assert not gradient.any()


def test_the_objective_reads_words() -> None:
    """Two letters are one word: a list's errors are of words, not of letters."""
    vocabulary = ["", "a", "b", " "]
    log_probs = torch.full((1, 4, 4), 0.02)
    for frame, token in enumerate([1, 2, 3, 1]):
        log_probs[0, frame, token] = 0.94
    objective = MinimumWordErrorRate(vocabulary, ctc_weight=0.0)
    out = objective(log_probs.log(), torch.tensor([4]), ["ab a"])
    assert out.stats["mwer_errors"] == 0
    assert out.stats["mwer_spread"] == 1
    assert list(out.parts) == ["mwer"]
    best = ctc_prefix_beam_search(log_probs.log(), torch.tensor([4]), n_best=4)[0]
    errors = {"".join(vocabulary[i] for i in one.tokens): one for one in best}
    assert "ab a" in errors


def test_gradient_descent_lowers_the_expected_word_errors() -> None:
    logits = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    objective = MinimumWordErrorRate(["", "a", "b", " "], ctc_weight=0.0, n_best=8)

    def expected(logits: Tensor) -> float:
        """Word errors of the best labelling."""
        return float(objective(logits.log_softmax(-1), torch.tensor([8]), ["ab ba"]).stats["mwer_errors"])

    before = expected(logits)
    for _ in range(60):
        loss = objective(logits.log_softmax(-1), torch.tensor([8]), ["ab ba"]).loss
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 2.0 * gradient).detach().requires_grad_()
    assert expected(logits) < before


def call(objective: MinimumWordErrorRate | None = None, **changed: Any) -> Callable[[], object]:
    given = {"log_probs": drawn(4, 4), "input_lengths": torch.tensor([4]), "references": ["ab"], **changed}
    return lambda: (objective or MinimumWordErrorRate(["", "a", "b", " "]))(**given)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MinimumWordErrorRate(["", "a"], n_best=1), "n_best must be at least 2"),
        (lambda: MinimumWordErrorRate(["", "a"], n_best=32), "at most beam_size=16, got 32"),
        (lambda: MinimumWordErrorRate(["", "a"], ctc_weight=-1.0), "ctc_weight must be at least 0"),
        (call(references=["ab", "a"]), "references must be a list of 1 texts, one per utterance, got 2"),
        (call(references=None), "got none"),
        (call(references="ab"), "got 'ab'"),
        (call(references=["abx"]), "utterance 0: the vocabulary cannot spell the reference 'abx'"),
        (call(references=["aaaaa"]), "utterance 0: target needs 9 frames, log_probs has 4"),
        (call(MinimumWordErrorRate(["", "a", "b"])), "the vocabulary has 3 entries, log_probs has 4"),
    ],
)
def test_bad_input(make: Callable[[], object], said: str, own_messages: None) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_word_pieces_are_spelled_by_longest_match() -> None:
    from kilter.speech.minimum_wer import Vocabulary

    reader = Vocabulary(["", " a", "b", " ab", "c"], 0)
    assert reader.spell_text("abc  ab") == [3, 4, 3]
    assert reader.spell_text("abd") is None
    assert Vocabulary(["", "a", " "], 0).spell_text("a a") == [1, 2, 1]
    assert Vocabulary(["", "one", "two"], 0).spell_text("two one") == [2, 1]
    assert reader.spell_text("") == []


def test_permutations_of_a_list_change_nothing() -> None:
    log_probs = drawn(5)
    hypotheses, errors = torch.tensor([[[1, 2], [2, 0], [1, 0]]]), torch.tensor([[0.0, 2.0, 1.0]], dtype=torch.float64)
    lengths = torch.tensor([[2, 1, 1]])
    values = [
        minimum_word_error_rate(log_probs, torch.tensor([5]), hypotheses[:, p], lengths[:, p], errors[:, p])
        for p in map(list, itertools.permutations(range(3)))
    ]
    assert_close(torch.stack(values), values[0].expand(6, -1))
