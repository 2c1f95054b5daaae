"""Calibration of languages: what the specification promises, order, dtypes, baking into stock modules, bad input."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kilter.embeddings import LanguageCalibration
from kilter.embeddings import unsupervised_rotation as rotations
from kilter.embeddings.unsupervised_rotation import unsupervised_rotation
from kilter.ops.csls import csls_neighbours
from tests.embeddings.tiny_encoder import TEXTS, tiny_encoder

np = pytest.importorskip("numpy")

pytestmark = pytest.mark.usefixtures("own_messages")

LADDER = [("shift",), ("scale",), ("shift", "scale"), ("shift", "rotate"), ("shift", "scale", "rotate")]


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def turn(dim: int, seed: int = 9) -> Tensor:
    return torch.linalg.qr(drawn(dim, dim, seed=seed, dtype=torch.float64)).Q.float()


def clusters(n: int, dim: int, seed: int = 0) -> Tensor:
    """What vectors of texts are like: heaps of different sizes, wider in some directions than in others."""
    centres = drawn(12, dim, seed=100) * torch.linspace(2, 0.3, dim)
    return centres[(12 * drawn(n, seed=seed).sigmoid() ** 2).long()] + 0.4 * drawn(n, dim, seed=seed + 1)


def white(x: Tensor) -> Tensor:
    """As wide in every direction: so that a scale for each component commutes with a rotation."""
    x = (x - x.mean(0)).double()
    values, vectors = torch.linalg.eigh(x.mT @ x / len(x))
    return (x @ vectors * values.rsqrt() @ vectors.mT).float()


def found_share(x: Tensor, y: Tensor, partners: Tensor) -> float:
    """Of the rows of x whose nearest by cosine is their partner."""
    return float(((F.normalize(x, dim=1) @ F.normalize(y, dim=1).mT).argmax(1) == partners).double().mean())


def test_after_shift_and_scale_each_language_is_standard() -> None:
    given = {"en": 5 + clusters(60, 8), "de": clusters(90, 8, seed=1) * torch.logspace(-3, 3, 8) - 700}
    calibration = LanguageCalibration().fit(given, steps=("shift", "scale"))
    for name, x in given.items():
        y = calibration.transform(x, name).double()
        torch.testing.assert_close(y.mean(0), torch.zeros(8).double(), atol=1e-4, rtol=0)
        torch.testing.assert_close(y.var(0, correction=0), torch.ones(8).double(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("steps", LADDER)
def test_the_map_is_that_of_the_formula(steps: tuple[Any, ...]) -> None:
    given = {"en": clusters(70, 6), "de": 3 + clusters(80, 6, seed=1)}
    calibration = LanguageCalibration().fit(given, steps=steps)
    for name, x in given.items():
        mean = x.double().mean(0) if "shift" in steps else 0
        deviation = x.double().std(0, correction=0) if "scale" in steps else 1
        rotation = calibration._maps[name].rotation
        assert (rotation is None) == ("rotate" not in steps or name == "en")
        expected = (x - mean) / deviation @ (torch.eye(6).double() if rotation is None else rotation)
        torch.testing.assert_close(calibration.transform(x, name), expected.float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("x", "steps"),
    [
        (drawn(300, 24), ("shift", "rotate")),
        (drawn(300, 24), ("shift", "scale", "rotate")),  # as near to isotropic as a sample is
        (white(clusters(300, 24)), ("shift", "scale", "rotate")),
        (clusters(300, 24), ("shift", "rotate")),
        (clusters(400, 64), ("shift", "rotate")),
        (drawn(40, 64), ("shift", "rotate")),  # fewer rows than directions
    ],
    ids=["isotropic", "isotropic-scaled", "white-clusters", "clusters", "wide", "few"],
)
def test_a_rotated_shifted_and_scaled_copy_in_another_order_is_undone(x: Tensor, steps: tuple[Any, ...]) -> None:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    copy = (2.5 * x @ turn(x.shape[1]) + drawn(x.shape[1], seed=4))[order]
    calibration = LanguageCalibration().fit({"en": x, "xx": copy}, steps=steps)
    plain = LanguageCalibration().fit({"en": x, "xx": copy}, steps=steps[:-1])
    assert found_share(plain.transform(copy, "xx"), plain.transform(x, "en"), order) < 0.2  # there is something to do
    y, z = calibration.transform(copy, "xx"), calibration.transform(x, "en")
    assert found_share(y, z, order) == found_share(z, y, order.argsort()) == 1.0
    rotation = calibration._maps["xx"].rotation
    assert (rotation.mT @ rotation - torch.eye(len(rotation))).abs().max() < 1e-5
    rows = torch.arange(30)
    cosines = [torch.pdist(F.normalize(side[rows], dim=1)) for side in (plain.transform(copy, "xx"), y)]
    torch.testing.assert_close(*cosines, atol=1e-5, rtol=0)  # within the language nothing has changed, ranks included


@pytest.mark.parametrize("steps", LADDER[2:])
def test_twice_is_once(steps: tuple[Any, ...]) -> None:
    given = {"en": white(clusters(200, 12)), "de": 3 + 2 * white(clusters(150, 12, seed=7)) @ turn(12)}
    once = LanguageCalibration().fit(given, steps=steps)
    middle = {name: once.transform(x, name) for name, x in given.items()}
    twice = LanguageCalibration().fit(middle, steps=steps)
    kept = [step for step in steps if step != "rotate"]
    for name, x in middle.items():
        again = LanguageCalibration().fit(middle, steps=kept).transform(x, name)
        torch.testing.assert_close(again, x, atol=2e-2 if "rotate" in steps and "scale" in steps else 1e-4, rtol=0)
    near = [
        csls_neighbours(one.transform(of["de"], "de"), one.transform(of["en"], "en")).gain.mean()
        for one, of in ((once, given), (twice, middle))
    ]
    assert near[1] >= near[0] - 1e-2


def test_a_copy_is_calibrated_once_and_for_all() -> None:
    x = white(clusters(200, 12))
    given = {"en": x, "de": 3 + 2 * x.flip(0) @ turn(12)}
    once = LanguageCalibration().fit(given)
    middle = {name: once.transform(x, name) for name, x in given.items()}
    twice = LanguageCalibration().fit(middle)
    for name, x in middle.items():
        torch.testing.assert_close(twice.transform(x, name), x, atol=1e-4, rtol=0)


def tight(n: int, dim: int, seed: int) -> Tensor:
    """Five heaps that are far from each other, for what is in them."""
    return 10 * drawn(5, dim, seed=seed)[torch.arange(n) % 5] + 0.3 * drawn(n, dim, seed=seed + 1)


def flat(n: int, dim: int, seed: int) -> Tensor:
    """Of three dimensions of all."""
    return drawn(n, 3, seed=seed) @ drawn(3, dim, seed=seed + 1)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("make", "n", "dim"), [(tight, 300, 384), (flat, 150, 12)], ids=["tight", "flat"])
def test_of_a_copy_nothing_is_judged(make: Any, n: int, dim: int, seed: int) -> None:
    """Held-out rows know nothing of directions that the others do not have, and a wrong turn may look nearer."""
    x, order = make(n, dim, seed), torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    copy = (2.5 * x @ turn(dim) + 3 * drawn(dim, seed=4))[order]
    calibration = LanguageCalibration().fit({"en": x, "xx": copy}, steps=("shift", "rotate"))
    assert found_share(calibration.transform(copy, "xx"), calibration.transform(x, "en"), order) == 1.0


def test_nothing_depends_on_an_order() -> None:
    given = {"en": clusters(120, 8), "de": clusters(150, 8, seed=5), "fr": clusters(90, 8, seed=8)}
    mixed = {name: given[name][torch.randperm(len(given[name]))] for name in ("fr", "en", "de")}
    first, second = (LanguageCalibration(sample=100).fit(one) for one in (given, mixed))
    for name, x in given.items():
        torch.testing.assert_close(first.transform(x, name), second.transform(x, name), atol=1e-4, rtol=1e-4)


def test_a_rotation_is_never_worse_than_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the mean CSLS of the nearest; also where there is nothing to find: rows that have nothing in common."""
    monkeypatch.setattr(rotations, "_BLOCK", 5000)
    for x, y in [(drawn(200, 16), drawn(180, 16, seed=1)), (clusters(200, 16), clusters(200, 16, seed=5))]:
        x, y = (F.normalize(side, dim=1) for side in (x, y))
        gains = [float(csls_neighbours(x @ one, y).gain.mean()) for one in (unsupervised_rotation(x, y), torch.eye(16))]
        assert gains[0] >= gains[1]
    monkeypatch.setattr(rotations, "_refined", lambda start, *_: iter([start]))
    monkeypatch.setattr(rotations, "procrustes", lambda x, _: -torch.eye(x.shape[1]))  # a start that is of no use
    x = clusters(100, 16)
    assert torch.equal(unsupervised_rotation(x, x + 0.1 * drawn(100, 16, seed=5)), torch.eye(16))


def test_the_control_is_the_same_map_for_all_languages_each_of_one_weight() -> None:
    given = {"en": clusters(40, 5), "de": 4 + clusters(200, 5, seed=2)}
    joint = LanguageCalibration(statistics="joint").fit(given)
    x = drawn(10, 5)
    assert torch.equal(joint.transform(x, "de"), joint.transform(x, "en"))
    both = torch.cat([given["en"].repeat(5, 1), given["de"]]).double()
    expected = (x - both.mean(0)) / both.std(0, correction=0)
    torch.testing.assert_close(joint.transform(x, "de"), expected.float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("huge", [1.0, 3000.0])
@pytest.mark.parametrize("steps", LADDER)
def test_components_that_do_not_vary_become_nought(steps: tuple[Any, ...], huge: float) -> None:
    def with_dead(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 2], x[:, 5], x[:, 0] = 0.0, 0.031, huge * x[:, 0]
        x[:, 5] += 1e-9 * drawn(len(x), seed=3)  # noise of rounding
        return x

    given = {"en": with_dead(drawn(60, 8)), "de": with_dead(drawn(50, 8, seed=1))}
    calibration = LanguageCalibration().fit(given, steps=steps)
    for name, x in given.items():
        y = calibration.transform(x, name)
        assert y.isfinite().all()
        assert calibration.dead[name] == ([2, 5] if "scale" in steps else [])
        if "rotate" not in steps and steps != ("shift",):
            assert (y[:, [2, 5]] == 0).all()
    same = LanguageCalibration().fit({"en": torch.ones(5, 3), "de": torch.zeros(5, 3)})
    assert (same.transform(torch.ones(2, 3), "en") == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_comes_back_is_of_the_kind_that_was_given(dtype: torch.dtype, device: str) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("Apple's GPUs have no float64")
    given = {name: clusters(80, 6, seed=seed).to(device, dtype) for name, seed in (("en", 0), ("de", 4))}
    calibration = LanguageCalibration().fit(given)
    y = calibration.transform(given["de"], "de")
    assert (y.dtype, y.device, y.shape) == (dtype, given["de"].device, (80, 6))
    if dtype not in (torch.float16, torch.bfloat16):
        array = calibration.transform(given["de"].cpu().numpy(), "de")
        assert isinstance(array, np.ndarray)
        np.testing.assert_allclose(array, y.cpu().numpy(), rtol=1e-4, atol=1e-4)


def test_it_comes_back_from_a_folder(tmp_path: Path) -> None:
    given = {"en": clusters(60, 6), "pt-BR": clusters(50, 6, seed=1), "語": clusters(50, 6, seed=2)}
    calibration = LanguageCalibration(neighbours=5, sample=40).fit(given)
    calibration.save_pretrained(tmp_path / "a" / "b")
    again = LanguageCalibration.from_pretrained(tmp_path / "a" / "b")
    for name in ("languages", "steps", "pivot", "dead", "statistics", "neighbours", "sample"):
        assert getattr(again, name) == getattr(calibration, name)
    for name, x in given.items():
        assert torch.equal(again.transform(x, name), calibration.transform(x, name))
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "calibration.json",
        "calibration.safetensors",
    ]
    calibration.fit({"en": given["en"]}).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "calibration.json").replace(tmp_path / "a" / "b" / "calibration.json")
    with pytest.raises(ValueError, match=r"no calibration that is whole \(.* belongs to another .*\); save it anew"):
        LanguageCalibration.from_pretrained(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "calibration.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="no calibration that is whole"):
        LanguageCalibration.from_pretrained(tmp_path / "a" / "b")
    with pytest.raises(FileNotFoundError):
        LanguageCalibration.from_pretrained(tmp_path)


# Bad input ------------------------------------------------------------------------------------------------------------


GOOD = {"en": drawn(9, 4), "de": drawn(8, 4, seed=1)}


@pytest.mark.parametrize(
    ("given", "how", "error", "said"),
    [
        ({}, {}, ValueError, "at least one language"),
        ([("en", drawn(9, 4))], {}, ValueError, "must be a mapping"),
        ({**GOOD, "de": drawn(1, 4)}, {}, ValueError, r"vectors\['de'\] has 1 rows; a language needs two vectors"),
        ({**GOOD, "de": drawn(0, 4)}, {}, ValueError, r"vectors\['de'\] has 0 rows"),
        ({**GOOD, "de": drawn(8, 5)}, {}, ValueError, r"vectors\['de'\] is 5 wide, vectors\['en'\] 4"),
        ({**GOOD, "de": drawn(8)}, {}, ValueError, r"vectors\['de'\] must be \(rows, dim\), got shape \(8,\)"),
        ({**GOOD, "de": drawn(8, 4).long()}, {}, TypeError, r"vectors\['de'\] must be floating point"),
        ({**GOOD, "de": ["ein Satz"]}, {}, TypeError, r"vectors\['de'\] must be a tensor or an array"),
        ({**GOOD, "de": None}, {}, TypeError, r"vectors\['de'\] must be"),
        (
            {**GOOD, "de": drawn(8, 4).index_fill(0, torch.tensor(3), torch.nan)},
            {},
            ValueError,
            r"row 3: .*'de'\] is NaN",
        ),
        ({**GOOD, "de": drawn(8, 4).index_fill(0, torch.tensor(2), torch.inf)}, {}, ValueError, r"row 2: .* infinite"),
        ({**GOOD, 3: drawn(8, 4)}, {}, ValueError, "must have a name, got 3"),
        (GOOD, {"pivot": "fr"}, ValueError, "pivot 'fr' is none of the languages; there are: en, de"),
        (GOOD, {"steps": ("shift", "rotates")}, ValueError, "got 'rotates'; did you mean 'rotate'"),
        (GOOD, {"steps": "shift"}, ValueError, r"give \('shift',\)"),
    ],
)
def test_what_cannot_be_fitted_is_named(given: Any, how: dict[str, Any], error: type[Exception], said: str) -> None:
    calibration = LanguageCalibration().fit(GOOD, steps=("shift",))
    with pytest.raises(error, match=said):
        calibration.fit(given, **how)
    assert calibration.steps == ("shift",)  # what was learnt before is still there


def test_what_cannot_be_transformed_is_named() -> None:
    with pytest.raises(ValueError, match="call fit first"):
        LanguageCalibration().transform(drawn(2, 4), "en")
    calibration = LanguageCalibration().fit(GOOD)
    with pytest.raises(ValueError, match="there is no language 'fr'; there are: en, de"):
        calibration.transform(drawn(2, 4), "fr")
    with pytest.raises(ValueError, match="x is 5 wide, 'de' was fitted on vectors 4 wide"):
        calibration.transform(drawn(2, 5), "de")
    with pytest.raises(ValueError, match="row 1: x is NaN"):
        calibration.transform(torch.tensor([[0.0] * 4, [torch.nan] * 4]), "de")
    assert calibration.transform(drawn(0, 4), "de").shape == (0, 4)


def test_a_pivot_is_asked_for_only_where_something_is_rotated() -> None:
    assert LanguageCalibration().fit({"de": GOOD["de"]}, steps=("shift",)).languages == ("de",)
    assert LanguageCalibration().fit({"en": GOOD["en"]}).steps == ("shift", "scale", "rotate")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"statistics": "own"}, "statistics must be one of"),
        ({"neighbours": 0}, "neighbours"),
        ({"sample": 1}, "sample"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LanguageCalibration(**options)


# In sentence-transformers ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


def load(place: Path) -> Any:
    return pytest.importorskip("sentence_transformers").SentenceTransformer(str(place), device="cpu")


def modules(model: Any) -> list[str]:
    return [type(one).__name__ for one in model]


@pytest.mark.host
@pytest.mark.parametrize("ends", ["unnormalized", "normalized", "plain"])
def test_a_baked_model_gives_the_calibrated_vectors_and_is_a_stock_one(folder: Path, ends: str, tmp_path: Path) -> None:
    from kilter.hosts.sentence_modules import without_normalize

    model = load(folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    raw = model if ends == "normalized" else without_normalize(model)
    given = {"en": raw.encode(TEXTS[:4]), "de": raw.encode(TEXTS[2:])}
    assert isinstance(given["en"], np.ndarray)
    calibration = LanguageCalibration().fit(given)
    baked = calibration.bake(raw if ends == "plain" else model, "de")
    kinds = ["Transformer", "Pooling"]
    kinds += {"unnormalized": ["Dense", "Normalize"], "plain": ["Dense"]}.get(ends, ["Normalize", "Dense", "Normalize"])
    assert modules(baked) == kinds
    assert modules(model) == ["Transformer", "Pooling", "Normalize"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not {id(one) for one in baked.parameters()} & {id(one) for one in model.parameters()}
    baked.save_pretrained(str(tmp_path / "de"), create_model_card=False)
    types = [one["type"] for one in json.loads((tmp_path / "de" / "modules.json").read_text(encoding="utf-8"))]
    assert all(one.startswith("sentence_transformers.") for one in types)
    for one in (baked, load(tmp_path / "de")):
        expected = torch.from_numpy(calibration.transform(raw.encode(TEXTS), "de"))
        expected = expected if ends == "plain" else F.normalize(expected, dim=1)
        torch.testing.assert_close(torch.from_numpy(one.encode(TEXTS)), expected, atol=1e-5, rtol=1e-4)
        assert (one.prompts["query"], one.device, modules(one)) == ("the", model.device, kinds)


@pytest.mark.host
def test_a_baked_model_has_the_precision_of_the_model(folder: Path) -> None:
    model = load(folder).to(torch.bfloat16)
    calibration = LanguageCalibration().fit({name: drawn(30, 16, seed=seed) for name, seed in (("en", 0), ("de", 1))})
    baked = calibration.bake(model, "de")
    assert {one.dtype for one in baked.parameters()} == {torch.bfloat16}
    assert baked.encode(TEXTS, convert_to_tensor=True).isfinite().all()


@pytest.mark.host
def test_what_cannot_be_baked_is_named(folder: Path) -> None:
    calibration = LanguageCalibration().fit(GOOD)
    with pytest.raises(ValueError, match="the model's vectors are 16 wide, the map is for 4"):
        calibration.bake(load(folder), "de")
    with pytest.raises(ValueError, match="no language 'fr'"):
        calibration.bake(load(folder), "fr")
    with pytest.raises(TypeError, match="must be a SentenceTransformer, got Linear"):
        calibration.bake(torch.nn.Linear(4, 4), "de")
    with pytest.raises(ValueError, match="call fit first"):
        LanguageCalibration().bake(load(folder), "de")
