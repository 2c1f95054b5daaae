"""The loss within domains: plain loops, the losses of sentence-transformers in the limits, other domains left out."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kilter.embeddings import DomainContrast, domain_contrast_loss
from tests.conformance.case import Case

DOMAIN = torch.tensor([0, 1, 0, 1, 0, 2])


def cases() -> list[Case]:
    flat = "vectors of whole texts: nothing is padded"
    skip = {
        "padding_does_not_matter": flat,
        "nan_in_the_padding_does_not_matter": flat,
        "processes": "each process contrasts with its own batch",
    }
    made: dict[str, dict[str, Any]] = {
        "": {},
        "mnr": {"form": "mnr", "similarity": "cosine", "temperature": 0.05},
        "learnt": {"temperature": 0.7, "learn_temperature": True},
    }
    return [Case(lambda o=options: DomainContrast(**o), skip=skip, label=label) for label, options in made.items()]


def pairs(rows: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    first = torch.randn(rows, 5, generator=g, dtype=torch.float64)
    return first, first + 0.5 * torch.randn(rows, 5, generator=g, dtype=torch.float64)


def by_loops(a: Tensor, b: Tensor, domain: Tensor, form: str, temperature: float) -> list[float]:
    found = []
    for i in range(len(a)):
        among = [j for j in range(len(a)) if domain[j] == domain[i]]
        t = i if form == "mnr" else max(among, key=lambda j: (float(a[i] @ a[j] + b[i] @ b[j]), j == i))
        across = [[float(a[i] @ b[j]) for j in range(len(a))], [float(a[j] @ b[i]) for j in range(len(a))]]
        scores = [[way[j] / temperature for j in range(len(a))] for way in across[: 1 if form == "mnr" else 2]]
        each = [math.log(sum(math.exp(way[j]) for j in among)) - way[t] for way in scores]
        found.append(sum(each) / len(each))
    return found


@pytest.mark.parametrize("form", ["mnr", "mnr_plus"])
@pytest.mark.parametrize("domain", [DOMAIN, torch.zeros(6, dtype=torch.long)])
def test_it_is_the_plain_loops(form: Any, domain: Tensor) -> None:
    a, b = pairs()
    found = domain_contrast_loss(a, b, domain, form=form, temperature=0.7)
    assert_close(found, torch.tensor(by_loops(a, b, domain, form, 0.7), dtype=torch.float64))
    assert_close(DomainContrast(form=form, temperature=0.7)(a, b, domain).loss, found.mean())


def test_the_target_is_another_pair_where_that_is_more_alike() -> None:
    a = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
    out = DomainContrast()(a, a)
    assert_close(out.stats["domain_contrast_own"], torch.tensor(2 / 3))
    assert domain_contrast_loss(a, a)[0] < domain_contrast_loss(a, a, form="mnr")[0]
    assert DomainContrast()(a, a, torch.tensor([0, 1, 0])).stats["domain_contrast_own"] == 1


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_losses_of_sentence_transformers_in_the_limits(similarity: Any) -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    util = pytest.importorskip("sentence_transformers.util")
    a, b = pairs()
    like = {"dot": util.dot_score, "cosine": util.cos_sim}[similarity]
    model: Any = nn.Identity()
    ours = {"similarity": similarity}
    theirs = losses.MultipleNegativesRankingLoss(model, scale=1.0, similarity_fct=like)
    found = theirs.compute_loss_from_embeddings([a, b], None)
    assert_close(DomainContrast(form="mnr", **ours)(a, b).loss, found)
    try:
        both = losses.MultipleNegativesRankingLoss(
            model,
            scale=1.0,
            similarity_fct=like,
            directions=("query_to_doc", "doc_to_query"),
            partition_mode="per_direction",
        )
    except TypeError:
        both = losses.MultipleNegativesSymmetricRankingLoss(model, scale=1.0, similarity_fct=like)
    if similarity == "dot":
        a, b = (nn.functional.normalize(x) for x in (a, b))  # so that every pair is its own target
    out = DomainContrast(**ours)(a, b)
    assert out.stats["domain_contrast_own"] == 1
    assert_close(out.loss, both.compute_loss_from_embeddings([a, b], None))


def test_a_mixed_batch_is_its_domains() -> None:
    a, b = pairs()
    for form in ("mnr", "mnr_plus"):
        whole = domain_contrast_loss(a, b, DOMAIN, form=form)
        for d in range(3):
            rows = d == DOMAIN
            assert_close(whole[rows], domain_contrast_loss(a[rows], b[rows], form=form))
        assert whole[5] == 0
    far = torch.where((DOMAIN == 1)[:, None], 1e4, a)
    assert_close(domain_contrast_loss(far, b, DOMAIN)[DOMAIN == 0], domain_contrast_loss(a, b, DOMAIN)[DOMAIN == 0])


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused_also_as_a_tensor(temperature: float, own_messages: None) -> None:
    for given in (temperature, torch.tensor(temperature)):
        with pytest.raises(ValueError, match="temperature must be positive and finite"):
            domain_contrast_loss(torch.eye(2), torch.eye(2), temperature=given)


def test_scores_that_overflow_are_named(own_messages: None) -> None:
    x = torch.full((2, 3), 1e20)
    with pytest.raises(ValueError, match="row 0: score is infinite; shorten the vectors, raise the temperature"):
        domain_contrast_loss(x, x)
    assert domain_contrast_loss(x, x, similarity="cosine").isfinite().all()


def test_the_temperature_is_learnt() -> None:
    a, b = pairs()
    loss = DomainContrast(temperature=0.7, learn_temperature=True)
    out = loss(a, b)
    assert_close(out.loss, DomainContrast(temperature=0.7)(a, b).loss)
    out.loss.backward()
    assert loss.log_temperature is not None
    assert loss.log_temperature.grad is not None
    assert_close(out.stats["domain_contrast_temperature"], torch.tensor(0.7, dtype=torch.float64))


def test_no_rows_and_one_row() -> None:
    for rows in (0, 1):
        a, b = (x.requires_grad_() for x in pairs(rows))
        loss = DomainContrast()(a, b).loss
        loss.backward()
        assert loss == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"positive": torch.ones(5, 5)}, "positive must be shaped like anchor"),
        ({"domain": torch.zeros(5)}, "domain must"),
        ({"domain": torch.zeros(4, dtype=torch.long)}, "domain must have shape"),
        ({"anchor": torch.full((6, 5), torch.nan)}, "row 0: anchor is NaN"),
    ],
)
def test_bad_input(own_messages: None, given: dict[str, Tensor], said: str) -> None:
    arguments = {"anchor": torch.ones(6, 5), "positive": torch.ones(6, 5)} | given
    with pytest.raises((ValueError, TypeError), match=said):
        DomainContrast()(**arguments)


def test_bad_options(own_messages: None) -> None:
    for options, said in (
        ({"form": "clip"}, "form must be one of mnr, mnr_plus"),
        ({"similarity": "l2"}, "similarity must be one of dot, cosine"),
        ({"temperature": 0}, "temperature must be positive"),
    ):
        with pytest.raises(ValueError, match=said):
            DomainContrast(**options)
