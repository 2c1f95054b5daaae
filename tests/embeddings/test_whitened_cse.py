"""WhitenedCSE against the paper in plain loops, against the release's layout, and against its neighbours."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.embeddings import WhitenedCSE, shuffled_group_whitening, whitened_cse_loss
from tests.conformance.case import DRAW, Case, Fixed


def only_views(generator: Generator) -> dict[str, Any]:
    """A row for each sentence."""
    return {"views": DRAW["views"](generator)}


def with_group(generator: Generator) -> dict[str, Any]:
    """Rows that belong together."""
    return {"views": DRAW["views"](generator), "group": DRAW["group"](generator)}


def grouped(objective: WhitenedCSE, inputs: dict[str, Any]) -> Fixed:
    """`group` is optional in `forward`, and so are its axes."""
    from jaxtyping import Int

    def loss(views: Float[Tensor, "views batch dim"], group: Int[Tensor, " batch"]) -> Tensor:
        return objective(views, group=group).loss

    return loss, inputs


def seeded(objective: WhitenedCSE, inputs: dict[str, Any]) -> Fixed:
    """The same shuffle at every call."""

    def loss(views: Float[Tensor, "views batch dim"]) -> Tensor:
        return objective(views, torch.Generator(views.device).manual_seed(0)).loss

    return loss, inputs


SKIP = {
    "padding_does_not_matter": "one vector per text: nothing is padded",
    "nan_in_the_padding_does_not_matter": "one vector per text: nothing is padded",
}
ALONE = {**SKIP, "processes": "without gather, statistics and negatives are those of each process's own batch"}
STOPPED = {**ALONE, "gradients": "the whitening matrix is a constant in the backward pass, see the tests below"}
SEEDED = {**STOPPED, "compile": "torch.compile does not trace a generator"}


def exact(**options: Any) -> Callable[[], WhitenedCSE]:
    return lambda: WhitenedCSE(6, groups=3, shuffle=False, detach=False, **options)


def cases() -> list[Case]:
    return [
        Case(exact(), inputs=only_views, skip=ALONE),
        Case(exact(method="svd"), inputs=only_views, skip=ALONE, label="svd"),
        Case(exact(method="cholesky"), inputs=only_views, skip=ALONE, label="cholesky"),
        Case(exact(method=None), inputs=only_views, skip=ALONE, label="simcse"),
        Case(exact(), inputs=with_group, fixed=grouped, skip=ALONE, label="group"),
        Case(exact(negatives=False), inputs=with_group, fixed=grouped, skip=ALONE, label="no negatives"),
        Case(exact(gather=True), inputs=only_views, skip=SKIP, label="gather"),
        Case(lambda: WhitenedCSE(6, groups=3, shuffle=False), inputs=only_views, skip=STOPPED, label="stopped"),
        Case(lambda: WhitenedCSE(6, groups=3), inputs=only_views, fixed=seeded, skip=SEEDED, label="shuffled"),
    ]


ARGUMENTS = {
    "dim": lambda: 128,  # which the usual number of groups divides; the family's other vectors are as wide
    "x": lambda: torch.randn(4, 128, generator=torch.Generator().manual_seed(0)),
    "groups": lambda: 64,
    "permutation": lambda: torch.arange(128),
    "views": lambda: torch.randn(3, 4, 128, generator=torch.Generator().manual_seed(0)),
}


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Vectors as encoders give them: channels of other sizes that depend on each other, far from the origin."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(shape[-1], shape[-1], generator=g, dtype=torch.float64) / math.sqrt(shape[-1])
    x = torch.randn(*shape, generator=g, dtype=torch.float64) @ mix
    return (x * torch.linspace(0.2, 3, shape[-1], dtype=torch.float64) + 2).to(dtype)


def dropped(rows: int, dim: int, count: int = 3, noise: float = 0.1, seed: int = 0) -> Tensor:
    """Views that differ a little, as by dropout."""
    g = torch.Generator().manual_seed(seed + 1)
    return drawn(rows, dim, seed=seed) + noise * torch.randn(count, rows, dim, generator=g, dtype=torch.float64)


def covariances(y: Tensor, order: Tensor, groups: int) -> Tensor:
    """Second moments `(groups, channels, channels)` of shuffled vectors."""
    blocks = y[:, order].view(len(y), groups, -1)
    return torch.einsum("bgi,bgj->gij", blocks, blocks) / len(y)


def shuffle(dim: int, seed: int = 0) -> Tensor:
    return torch.randperm(dim, generator=torch.Generator().manual_seed(seed))


# 1 to 5: the layer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["zca", "svd", "cholesky"])
def test_1_every_group_is_white(method: Any) -> None:
    x, order = drawn(126, 48, dtype=torch.float32), shuffle(48)
    y = shuffled_group_whitening(x, 8, permutation=order, method=method, epsilon=0)
    assert_close(y.mean(0), torch.zeros(48), atol=1e-5, rtol=0)
    assert_close(covariances(y, order, 8), torch.eye(6).expand(8, 6, 6), atol=1e-5, rtol=0)
    other = covariances(y, shuffle(48, 1), 8)
    assert (other - torch.eye(6)).abs().max() > 0.1, "in groups of another shuffle it is not"


def test_1_the_released_layout_is_white_by_thirds_and_not_by_views() -> None:
    objective = WhitenedCSE(12, groups=2, shuffle=False, views="contiguous_thirds", epsilon=0)
    white, _ = objective._whiten(dropped(126, 12), None)
    rows = white.transpose(0, 1).reshape(3, 126, 12)
    order, eye = torch.arange(12), torch.eye(6, dtype=torch.float64).expand(2, 6, 6)
    for third in rows:
        assert_close(covariances(third, order, 2), eye)
    for view in white:
        assert 0.02 < (covariances(view, order, 2) - eye).abs().max() < 1
    per_view, _ = WhitenedCSE(12, groups=2, shuffle=False, epsilon=0)._whiten(dropped(126, 12), None)
    for view in per_view:
        assert_close(covariances(view, order, 2), eye)


@pytest.mark.parametrize("offset", [100.0, 3000.0])
def test_1_far_from_the_origin_too(offset: float) -> None:
    x, order = drawn(126, 60, dtype=torch.float32) + offset, shuffle(60)
    y = shuffled_group_whitening(x, 10, permutation=order, epsilon=0)
    assert y.mean(0).abs().max() < 1e-5
    assert (covariances(y, order, 10) - torch.eye(6)).abs().max() < 1e-5


def test_2_the_shuffle_is_undone() -> None:
    """Of vectors that are white already nothing is left to do but to centre them."""
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    white = shuffled_group_whitening(x, 1, epsilon=0)
    for groups in (1, 3, 12):
        assert_close(shuffled_group_whitening(white + 5, groups, permutation=shuffle(12), epsilon=0), white)
    assert not torch.allclose(white, shuffled_group_whitening(x, 3, epsilon=0))


@pytest.mark.parametrize("method", ["zca", "svd", "cholesky"])
@pytest.mark.parametrize("epsilon", [0, 1e-3])
def test_3_scale_and_origin_are_nothing(method: Any, epsilon: float) -> None:
    x, how = drawn(40, 12), {"permutation": shuffle(12), "method": method, "epsilon": epsilon}
    moved = 3.7 * x + torch.linspace(-50, 50, 12, dtype=torch.float64)
    assert_close(shuffled_group_whitening(moved, 3, **how), shuffled_group_whitening(x, 3, **how))


def test_3_groups_of_one_channel_are_standardised() -> None:
    x = drawn(40, 12)
    assert_close(shuffled_group_whitening(x, 12, epsilon=0), (x - x.mean(0)) / x.std(0, correction=0))


def test_3_one_group_knows_no_shuffle() -> None:
    x = drawn(40, 12)
    full = shuffled_group_whitening(x, 1, epsilon=0)
    assert_close(full, shuffled_group_whitening(x, 1, epsilon=0, permutation=shuffle(12)))
    assert_close(covariances(full, torch.arange(12), 1)[0], torch.eye(12, dtype=torch.float64))


def test_4_it_is_the_symmetric_root() -> None:
    x = drawn(200, 12)
    y = shuffled_group_whitening(x, 2, permutation=torch.arange(12), epsilon=0)
    centred = x - x.mean(0)
    for part in (slice(0, 6), slice(6, 12)):
        root = torch.linalg.lstsq(centred[:, part], y[:, part]).solution
        assert_close(root, root.T)
        assert torch.linalg.eigvalsh(root).min() > 0
    assert ((centred * y).sum(0) > 0).all()
    other = shuffled_group_whitening(x, 2, permutation=torch.arange(12), method="cholesky", epsilon=0)
    root = torch.linalg.lstsq(centred[:, :6], other[:, :6]).solution
    assert_close(root, root.triu())


def test_5_the_gradient_with_a_constant_matrix() -> None:
    x, order = drawn(30, 12).requires_grad_(), shuffle(12)
    up = torch.randn(30, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y = shuffled_group_whitening(x, 2, permutation=order, epsilon=0)
    (found,) = torch.autograd.grad(y, x, up)
    centred = (x - x.mean(0)).detach()
    expected = torch.zeros_like(up)
    for g in range(2):
        part = order[6 * g : 6 * g + 6]
        root = torch.linalg.lstsq(centred[:, part], y[:, part].detach()).solution
        expected[:, part] = up[:, part] @ root
    assert_close(found, expected - expected.mean(0))


def test_5_the_whole_gradient_does_not_see_the_scale() -> None:
    x, order = drawn(30, 12).requires_grad_(), shuffle(12)
    up = torch.randn(30, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    along = {}
    for detach in (True, False):
        for epsilon in (0.0, 0.2):
            y = shuffled_group_whitening(x, 2, permutation=order, epsilon=epsilon, detach=detach)
            (gradient,) = torch.autograd.grad(y, x, up)
            along[detach, epsilon] = float((gradient * (x - x.mean(0)).detach()).sum())
    assert abs(along[False, 0.0]) < 1e-8
    assert abs(along[False, 0.2]) < 1e-8, "the ridge grows with the vectors"
    assert abs(along[True, 0.0]) > 0.1


@pytest.mark.parametrize("method", ["zca", "svd", "cholesky"])
def test_5_gradcheck(method: Any) -> None:
    x, order = drawn(9, 6).requires_grad_(), shuffle(6)
    assert torch.autograd.gradcheck(
        lambda x: shuffled_group_whitening(x, 2, permutation=order, method=method, epsilon=0, detach=False), x
    )


# 6: the loss without whitening ---------------------------------------------------------------------------------------


def ranking_loss(first: Tensor, second: Tensor, temperature: float = 0.05) -> Tensor:
    """SimCSE's, and sentence-transformers' MultipleNegativesRankingLoss."""
    scores = F.cosine_similarity(first[:, None], second, dim=-1) / temperature
    return F.cross_entropy(scores, torch.arange(len(first)))


def test_6_without_whitening_it_is_simcse() -> None:
    views = dropped(8, 6).requires_grad_()
    objective = WhitenedCSE(6, method=None, head=False)
    expected = ranking_loss(views[0], views[1])
    found = objective(views[:2]).loss
    assert_close(found, expected)
    assert_close(torch.autograd.grad(found, views), torch.autograd.grad(expected, views))
    assert_close(objective(views).loss, ranking_loss(views[0], views[1]) + ranking_loss(views[0], views[2]))


def test_6_with_a_head_it_is_simcse_with_one() -> None:
    views = dropped(8, 6)
    objective = WhitenedCSE(6, method=None)
    head = objective.projection
    assert head is not None
    z = torch.tanh(views @ head.weight.double().T + head.bias.double())
    assert_close(objective(views).loss, ranking_loss(z[0], z[1]) + ranking_loss(z[0], z[2]))
    torch.manual_seed(0)
    wide = WhitenedCSE(384).projection
    assert wide is not None
    assert 0.0195 < wide.weight.std() < 0.0205
    assert not wide.bias.any()


@pytest.mark.host
def test_6_as_sentence_transformers_has_it() -> None:
    library = pytest.importorskip("sentence_transformers")
    try:
        from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    except ModuleNotFoundError:
        from sentence_transformers.losses import MultipleNegativesRankingLoss

    views = dropped(8, 6).float().requires_grad_()
    theirs = MultipleNegativesRankingLoss(library.SentenceTransformer(modules=[nn.Identity()]), scale=20.0)
    expected = theirs.compute_loss_from_embeddings([views[0], views[1]], None)
    if isinstance(expected, dict):
        expected = sum(expected.values())
    found = WhitenedCSE(6, method=None, head=False)(views[:2]).loss
    assert_close(found, expected)
    assert_close(torch.autograd.grad(found, views), torch.autograd.grad(expected, views))


# 7: the release ------------------------------------------------------------------------------------------------------


def released_views(views: Tensor, groups: int) -> Tensor:
    """The released code's whitened views, written from its description in plain loops."""
    count, batch, dim = views.shape
    rows = [views[k, i] for i in range(batch) for k in range(count)]  # sentence by sentence
    white: list[Tensor] = []
    for third in range(count):
        x = torch.stack(rows[third * batch : (third + 1) * batch])
        parts = []
        for g in range(groups):
            part = x[:, g * dim // groups : (g + 1) * dim // groups]
            part = part - part.mean(0)
            values, vectors = torch.linalg.eigh((part.T @ part / batch).detach())
            parts.append(part @ (vectors @ torch.diag(values**-0.5) @ vectors.T))
        white += torch.cat(parts, 1)
    return torch.stack([torch.stack([white[count * i + k] for i in range(batch)]) for k in range(count)])


def released_loss(z: Tensor, temperature: float = 0.05) -> Tensor:
    """The sum over further views of the mean cross entropy of the first, likewise."""
    loss = torch.zeros((), dtype=z.dtype)
    for k in range(1, len(z)):
        for i in range(z.shape[1]):
            scores = F.cosine_similarity(z[0, i], z[k], dim=-1) / temperature
            loss = loss + (scores.logsumexp(0) - scores[i]) / z.shape[1]
    return loss


@pytest.mark.parametrize("count", [2, 3, 4])
def test_7_the_released_layout_by_plain_loops(count: int) -> None:
    views = dropped(24, 12, count).requires_grad_()
    expected = released_views(views, 2)
    loss = released_loss(expected)
    objective = WhitenedCSE(12, groups=2, shuffle=False, views="contiguous_thirds", epsilon=0, head=False)
    assert_close(objective._whiten(views, None)[0], expected)
    found = objective(views).loss
    assert_close(found, loss)
    assert_close(torch.autograd.grad(found, views), torch.autograd.grad(loss, views))
    single = torch.randn(count, 126, 12, generator=Generator().manual_seed(0))
    assert_close(objective._whiten(single, None)[0], released_views(single, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("batch", "alike"), [(126, 126), (64, 62), (128, 126)])
def test_7_the_release_gives_nearly_every_sentence_equal_positives(batch: int, alike: int) -> None:
    """What was seen of it with equal views: 126 of 126, 62 of 64, 126 of 128."""
    views = drawn(batch, 12).expand(3, batch, 12)
    white, _ = WhitenedCSE(12, groups=2, views="contiguous_thirds")._whiten(views, Generator().manual_seed(0))
    same = torch.isclose(white[0], white[1]).all(-1) & torch.isclose(white[0], white[2]).all(-1)
    assert same.sum() == alike
    apart, _ = WhitenedCSE(12, groups=2)._whiten(views, Generator().manual_seed(0))
    assert not torch.isclose(apart[0], apart[1]).all(-1).any()


# 8 and 9: what it does to an encoder, and to the views ---------------------------------------------------------------


def test_8_the_encoder_stays_what_it_was() -> None:
    encoder = nn.Sequential(nn.Linear(5, 12), nn.Dropout(0.2), nn.Linear(12, 12)).double()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    objective = WhitenedCSE(12, groups=2)
    texts = torch.randn(16, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.manual_seed(0)
    optimiser = torch.optim.SGD([*encoder.parameters(), *objective.parameters()], 0.1)
    objective(torch.stack([encoder(texts) for _ in range(3)])).loss.backward()
    optimiser.step()
    after = encoder.state_dict()
    assert after.keys() == before.keys()
    assert not any(torch.equal(after[name], before[name]) for name in before if name.endswith("weight"))
    assert {name for name, _ in objective.named_parameters()} == {"projection.weight", "projection.bias"}
    encoder.eval()
    assert_close(encoder(texts)[:3], encoder(texts[:3]))


def test_9_a_shuffle_of_its_own_makes_a_view_differ_more() -> None:
    views, generator = dropped(126, 48, noise=0.01), Generator().manual_seed(0)
    own = WhitenedCSE(48, groups=8, head=False)(views, generator).stats
    released = WhitenedCSE(48, groups=8, head=False, views="contiguous_thirds")(views, generator).stats
    before = F.cosine_similarity(views[0], views[1:], dim=-1).mean()
    assert_close(own["whitened_cse_before"], before)
    assert own["whitened_cse_after"] < min(before, released["whitened_cse_after"]) - 0.03
    fixed = WhitenedCSE(48, groups=8, head=False, shuffle=False)(views, generator).stats
    assert_close(released["whitened_cse_after"], fixed["whitened_cse_after"], atol=0.01, rtol=0)


# Several positives ---------------------------------------------------------------------------------------------------


def by_loops(views: Tensor, group: list[int], temperature: float) -> list[float]:
    """Each row of the first view against every other row of its sentence, view by view."""
    cosine = [[[float(F.cosine_similarity(a, b, dim=0)) for b in view] for view in views] for a in views[0]]
    found = []
    for i, mine in enumerate(group):
        total = 0.0
        for k in range(len(views)):
            s = [math.exp(c / temperature) for c in cosine[i][k]]
            others = [j for j, its in enumerate(group) if its == mine and (k, j) != (0, i)]
            rest = sum(s[j] for j, its in enumerate(group) if its != mine)
            total += sum(-math.log(s[j] / (s[j] + rest)) for j in others) / max(len(others), 1)
        found.append(total)
    return found


@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4], [0, 1, 0, 2, 1], [4, 4, 4, 0, 1], [9, 9, 9, 9, 9]])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:WhitenedCSE. all rows of the batch are of one group")
def test_sentences_with_other_numbers_of_views(count: int, group: list[int]) -> None:
    views = dropped(5, 6, count)
    found = whitened_cse_loss(views, torch.tensor(group), temperature=0.3)
    assert found.tolist() == pytest.approx(by_loops(views, group, 0.3))
    objective = WhitenedCSE(6, method=None, head=False, temperature=0.3)
    counted = 5 if count > 1 else sum(group.count(one) > 1 for one in group)
    assert_close(objective(views, group=torch.tensor(group)).loss, found.sum() / max(counted, 1))


def test_a_number_for_every_row_is_no_number() -> None:
    views, generator = dropped(8, 6), Generator()
    objective = WhitenedCSE(6, groups=3)
    plain = objective(views, generator.manual_seed(0))
    numbered = objective(views, generator.manual_seed(0), torch.arange(8).flip(0))
    assert_close(numbered.loss, plain.loss)
    assert_close(dict(numbered.stats), dict(plain.stats))


@pytest.mark.parametrize(
    ("count", "group"), [(2, None), (3, None), (1, [0, 1, 0, 2, 1]), (2, [0, 1, 2, 3, 4]), (3, [4, 4, 4, 0, 1])]
)
def test_without_negatives_it_is_the_mean_distance_of_two_views(count: int, group: list[int] | None) -> None:
    views = dropped(5, 6, count, noise=1.0)
    number = None if group is None else torch.tensor(group)
    each = whitened_cse_loss(views, number, negatives=False)
    unit = F.normalize(views, dim=-1)
    for i in range(5):
        rows = [j for j in range(5) if (j == i if group is None else group[j] == group[i])]
        own = [unit[k, j] for k in range(count) for j in rows]
        apart = [float((own[a] - own[b]).square().sum()) for a in range(len(own)) for b in range(a)]
        assert float(each[i]) == pytest.approx(sum(apart) / max(len(apart), 1))
    objective = WhitenedCSE(6, groups=2, shuffle=False, head=False, negatives=False)
    whole = whitened_cse_loss(objective._whiten(views, None)[0], number, negatives=False)
    counted = 5 if count > 1 else sum(group.count(one) > 1 for one in group or [])
    assert_close(objective(views, group=number).loss, whole.sum() / max(counted, 1))


def test_without_negatives_half_precision_loses_no_more_than_its_own_rounding() -> None:
    views = dropped(8, 12, noise=0.05).float()
    expected = whitened_cse_loss(views, negatives=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(whitened_cse_loss(views, negatives=False), expected)
    half = views.bfloat16()
    assert_close(whitened_cse_loss(half, negatives=False), whitened_cse_loss(half.float(), negatives=False))


def test_two_views_of_a_text_are_worth_what_two_rows_are() -> None:
    """Of one view with every sentence twice, both rows are anchors."""
    views = dropped(6, 6, 2)
    rows = views.reshape(1, 12, 6)
    twice = whitened_cse_loss(rows, torch.arange(6).repeat(2), temperature=0.5)
    a = (unit := F.normalize(views, dim=-1))[0] @ unit[1].T / 0.5
    within = unit[0] @ unit[0].T / 0.5
    negatives = torch.cat([a, within], 1).exp() * torch.cat([1 - torch.eye(6), 1 - torch.eye(6)], 1)
    expected = -(a.diagonal().exp() / (a.diagonal().exp() + negatives.sum(1))).log()
    assert_close(twice[:6], expected)


# What is random, and what is said ------------------------------------------------------------------------------------


def test_every_view_and_every_step_has_its_own_shuffle() -> None:
    x, generator = drawn(30, 12), Generator().manual_seed(0)
    objective = WhitenedCSE(12, groups=2)
    first, _ = objective._whiten(x.expand(3, 30, 12), generator)
    second, _ = objective._whiten(x.expand(3, 30, 12), generator)
    found = [*first, *second]
    assert not any(torch.allclose(a, b) for i, a in enumerate(found) for b in found[:i])
    again, _ = objective._whiten(x.expand(3, 30, 12), Generator().manual_seed(0))
    assert torch.equal(first, again)
    for groups, moves in ((12, False), (1, False), (6, True)):
        one, other = (shuffled_group_whitening(x, groups, generator=generator) for _ in range(2))
        assert torch.allclose(one, other) != moves


def test_groups_of_six_where_none_are_named() -> None:
    views = dropped(30, 12)
    named, unnamed = (WhitenedCSE(12, groups=groups, shuffle=False, head=False)(views).loss for groups in (2, None))
    assert_close(named, unnamed)
    assert WhitenedCSE(12, groups=None).config()["groups"] is None


def test_dead_channels_are_zeros_and_said_once(recwarn: pytest.WarningsRecorder) -> None:
    """As MiniLM's channels 127 and 223, which are 1e-33 for every text."""
    views = dropped(40, 384).float()
    views[..., [127, 223]] *= 1e-33
    objective = WhitenedCSE(384)
    with pytest.warns(UserWarning, match=r"2 of 384 channels do not vary over the batch \(127, 223\)"):
        objective(views)
    out = objective(views.requires_grad_())
    assert out.stats["whitened_cse_dead"] == 2
    (gradient,) = torch.autograd.grad(out.loss, views)
    assert gradient.isfinite().all()
    assert not gradient[..., [127, 223]].any()
    assert gradient[..., 126].any()
    with pytest.warns(UserWarning, match="127, 223"):
        y = shuffled_group_whitening(views[0].detach(), 128, permutation=torch.arange(384), epsilon=0)
    assert not y[:, [127, 223]].any()
    assert_close(y[:, 126].square().mean(), torch.tensor(1.0), atol=1e-5, rtol=0)
    assert not recwarn


@pytest.mark.host
@pytest.mark.slow
def test_the_dead_channels_of_minilm() -> None:
    """Two are 1e-33 for every text; a third, which nobody names, varies by 1e-9."""
    pytest.importorskip("transformers")
    from kilter.data.assets import status
    from kilter.data.pretrained import minilm

    if not status("minilm")["present"]:
        pytest.skip("MiniLM is not here: kilter fetch minilm")
    encoder, tokenizer = minilm()
    who, does = ("A cat", "My aunt", "The old ship", "One of us"), ("sleeps.", "sings at night.", "has lost its way.")
    inputs = tokenizer([f"{a} {b}" for a in who for b in does], padding=True, return_tensors="pt")
    with torch.no_grad():
        states, mask = encoder(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
        vectors = (states * mask).sum(1) / mask.sum(1)
    views, objective = vectors.expand(2, *vectors.shape).clone().requires_grad_(), WhitenedCSE(384).eval()
    with pytest.warns(UserWarning, match=r"3 of 384 channels do not vary over the batch \(127, 223, 319\)"):
        out = objective(views, Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(out.loss, views)
    assert gradient.isfinite().all()
    assert gradient.any(0).any(0).sum() == 381


def test_a_whole_dead_group() -> None:
    x = drawn(40, 12)
    x[:, 3:6] *= 1e-40
    with pytest.warns(UserWarning, match=r"3 of 12 channels do not vary over the batch \(3, 4, 5\)"):
        y = shuffled_group_whitening(x.requires_grad_(), 4, permutation=torch.arange(12), epsilon=0)
    assert not y[:, 3:6].any()
    assert torch.autograd.grad(y.square().sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("method", ["zca", "svd", "cholesky"])
@pytest.mark.parametrize("detach", [True, False])
def test_a_batch_of_one_sentence_and_one_of_equal_sentences(method: Any, detach: bool) -> None:
    for views in (drawn(1, 12).expand(3, 8, 12), dropped(1, 12)):
        objective = WhitenedCSE(12, groups=2, method=method, detach=detach).eval()
        with pytest.warns(UserWarning, match="all vectors of the batch are the same"):
            out = objective(views := views.clone().requires_grad_())
        assert_close(out.loss, torch.tensor(2 * math.log(views.shape[1])).double())
        assert not torch.autograd.grad(out.loss, views)[0].any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "only the shuffled groups tell them apart"),
        ({"shuffle": False}, "to find a positive teaches nothing"),
        ({"views": "contiguous_thirds"}, "to find a positive teaches nothing"),
        ({"method": None}, "to find a positive teaches nothing"),
        ({"groups": 1}, "to find a positive teaches nothing"),
        ({"groups": 12}, "to find a positive teaches nothing"),
    ],
)
def test_views_without_dropout(options: dict[str, Any], said: str) -> None:
    views, generator = drawn(20, 12).expand(3, 20, 12), Generator().manual_seed(0)
    objective = WhitenedCSE(12, **{"groups": 2} | options)
    with pytest.warns(UserWarning, match=f"views of a sentence are equal, so that {said}; put the encoder in train"):
        objective(views, generator)
    objective(views, generator)
    WhitenedCSE(12, **{"groups": 2} | options).eval()(views, generator)  # nothing to say where nothing is learnt
    WhitenedCSE(12, **{"groups": 2} | options)(views, generator, torch.arange(20))


def test_it_learns() -> None:
    """Vectors with one large common direction spread, and views of a sentence find each other."""
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    latent = torch.randn(32, 6, generator=g)
    mix = torch.randn(6, 12, generator=g)
    encoder = nn.Linear(12, 12)
    with torch.no_grad():
        encoder.weight.copy_(torch.eye(12))
        encoder.bias.fill_(10.0)
    objective = WhitenedCSE(12, groups=2)
    optimiser = torch.optim.Adam([*encoder.parameters(), *objective.parameters()], 0.02)

    def views() -> Tensor:
        return encoder((latent @ mix) + 0.3 * torch.randn(3, 32, 12, generator=g))

    losses = []
    for _ in range(60):
        loss = objective(views(), g).loss
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.6 * losses[0]


@given(
    st.integers(2, 12), st.sampled_from([1, 2, 3, 6]), st.integers(0, 50), st.sampled_from(["zca", "svd", "cholesky"])
)
def test_any_batch_gives_bounded_vectors(batch: int, groups: int, seed: int, method: Any) -> None:
    x = drawn(batch, 6, seed=seed, dtype=torch.float32)
    y = shuffled_group_whitening(x, groups, method=method, generator=Generator().manual_seed(seed))
    assert y.isfinite().all()
    assert_close(y.mean(0), torch.zeros(6), atol=1e-3, rtol=0)
    assert (y.square().mean(0) < 1.01).all()
    moved = shuffled_group_whitening(-2 * x[torch.arange(batch).flip(0)], groups, permutation=torch.arange(6))
    assert_close(moved.flip(0), -shuffled_group_whitening(x, groups, permutation=torch.arange(6)), atol=0.01, rtol=0.01)


def test_under_autocast_it_is_float32() -> None:
    views = dropped(20, 12).float()
    objective = WhitenedCSE(12, groups=2, shuffle=False)
    expected = objective(views).loss
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(objective(views).loss, expected, rtol=0, atol=0)
        low = objective(views.bfloat16())
    assert low.loss.dtype == torch.float32
    assert_close(low.loss, objective(views.bfloat16().float()).loss)


@pytest.mark.compile
def test_with_the_shuffle_of_the_global_stream_it_compiles_as_one_graph() -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    views, objective = dropped(20, 12).requires_grad_(), WhitenedCSE(12, groups=2)
    compiled = torch.compile(lambda x: objective(x).loss, fullgraph=True, backend="aot_eager")
    losses = {round(float(compiled(views).detach()), 6) for _ in range(3)}
    assert len(losses) == 3, "a new shuffle each time"
    assert torch.autograd.grad(compiled(views), views)[0].isfinite().all()


# Bad input -----------------------------------------------------------------------------------------------------------

X, VIEWS = drawn(8, 12), dropped(8, 12)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: shuffled_group_whitening(X, 5), ValueError, "groups=5 does not divide the 12 channels.* use 4 or 6"),
        (lambda: shuffled_group_whitening(X, 0), ValueError, "groups must be at least 1"),
        (lambda: shuffled_group_whitening(X[:6], 2, epsilon=0), ValueError, "epsilon=0 needs more vectors than the 6"),
        (lambda: shuffled_group_whitening(X, 2, method="pca"), ValueError, "method must be one of zca, cholesky, svd"),  # type: ignore[arg-type]
        (lambda: shuffled_group_whitening(X, 2, epsilon=-1.0), ValueError, "epsilon must be at least 0"),
        (lambda: shuffled_group_whitening(X[0], 2), ValueError, r"x must be \(batch, dim\)"),
        (lambda: shuffled_group_whitening(X.long(), 2), TypeError, "x must be floating point"),
        (lambda: shuffled_group_whitening(X * torch.nan, 2), ValueError, "row 0: x is NaN"),
        (
            lambda: shuffled_group_whitening(X, 2, permutation=torch.zeros(12).long()),
            ValueError,
            r"permutation must have each of 0\.\.11 once; use torch.randperm\(12\)",
        ),
        (
            lambda: shuffled_group_whitening(X, 2, permutation=torch.arange(11)),
            ValueError,
            "permutation must have shape",
        ),
        (
            lambda: WhitenedCSE(100),
            ValueError,
            "groups=128 does not divide the 100 channels of a vector; use 50 or 100",
        ),
        (lambda: WhitenedCSE(64, groups=None), ValueError, "groups=None is 6 channels each, of which dim=64 is no"),
        (lambda: WhitenedCSE(12, method=None, negatives=False), ValueError, "nothing that keeps sentences apart"),
        (lambda: shuffled_group_whitening(X[:, :0], 1), ValueError, "x has no channels"),
        (lambda: WhitenedCSE(0), ValueError, "dim must be at least 1"),
        (
            lambda: WhitenedCSE(12, groups=2, views="halves"),
            ValueError,
            "views must be one of per_view, contiguous_thirds",
        ),  # type: ignore[arg-type]
        (lambda: WhitenedCSE(12, groups=2, temperature=0.0), ValueError, "temperature must be positive"),
        (lambda: WhitenedCSE(12, groups=2)(VIEWS[:1]), ValueError, "views holds 1 of each sentence; give two or more"),
        (lambda: WhitenedCSE(12, groups=2)(VIEWS[0]), ValueError, r"views must be \(views, batch, dim\)"),
        (lambda: WhitenedCSE(24, groups=2)(VIEWS), ValueError, "views has 12 channels and dim is 24"),
        (lambda: WhitenedCSE(12, groups=1, epsilon=0)(VIEWS), ValueError, "epsilon=0 needs more vectors than the 12"),
        (lambda: WhitenedCSE(12, groups=2)(VIEWS, group=torch.arange(7)), ValueError, r"group must have shape \(8,\)"),
        (lambda: WhitenedCSE(12, groups=2)(VIEWS, group=torch.zeros(8)), TypeError, "group must hold integers"),
        (
            lambda: whitened_cse_loss(VIEWS * torch.tensor([[1.0], [torch.inf]]).repeat(4, 1)),
            ValueError,
            "row 1: views",
        ),
        (lambda: whitened_cse_loss(VIEWS, temperature=-1.0), ValueError, "temperature must be positive"),
    ],
)
def test_bad_input(make: Callable[[], Any], error: type[Exception], said: str, own_messages: None) -> None:
    with pytest.raises(error, match=said):
        make()


def test_a_width_that_is_not_whitened_needs_no_groups() -> None:
    assert WhitenedCSE(100, method=None)(dropped(8, 100)).loss.isfinite()


def test_a_batch_no_larger_than_a_group_is_said_once() -> None:
    loss = WhitenedCSE(12, groups=2)
    with pytest.warns(UserWarning, match=r"a batch of 6 has no more rows than a group has channels \(6\)"):
        assert loss(torch.randn(2, 6, 12, generator=Generator().manual_seed(0))).loss.isfinite()
    loss(torch.randn(2, 6, 12, generator=Generator().manual_seed(1)))


def test_a_batch_of_one_group_is_said_once() -> None:
    loss = WhitenedCSE(12, groups=4)
    with pytest.warns(UserWarning, match="all rows of the batch are of one group"):
        out = loss(torch.randn(2, 6, 12, generator=Generator().manual_seed(0)), group=torch.ones(6, dtype=torch.long))
    assert out.loss == 0
