"""Win rates and divergences without a model: closed forms, the table of the specification, first order, bad input."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.testing import assert_close

from kilter.preference import (
    FixedPoint,
    density_kl,
    fixed_point,
    log_partition,
    reward_transform,
    tilt,
    win_rate,
    win_rate_at_kl,
)
from kilter.preference.unit_grid import cumulative, graded, interpolated, parameter, total, uniform

U = uniform()

TABLE = {
    ("best_of", 2, 1.0): (0.0588, 0.62427, 0.6138, 0.5899, 0.6233, 0.6134, 0.6242),
    ("best_of", 2, 0.3): (0.3725, 0.78189, 0.7596, 0.7325, 0.7815, 0.7681, 0.7803),
    ("best_of", 2, 0.1): (1.0970, 0.90725, 0.8845, 0.8760, 0.9064, 0.9018, 0.9008),
    ("best_of", 4, 1.0): (0.0827, 0.68966, 0.6435, 0.6074, 0.6839, 0.6895, 0.6890),
    ("best_of", 4, 0.3): (0.3701, 0.84014, 0.7685, 0.7317, 0.8259, 0.8393, 0.8353),
    ("best_of", 4, 0.1): (0.8909, 0.93117, 0.8638, 0.8468, 0.9099, 0.9261, 0.9195),
    ("worst_of", 2, 1.0): (0.0736, 0.64743, 0.6359, 0.6443, 0.6449, 0.6298, 0.6473),
    ("worst_of", 2, 0.3): (0.4674, 0.85082, 0.8307, 0.8466, 0.8490, 0.8403, 0.8502),
    ("worst_of", 2, 0.1): (1.0136, 0.95000, 0.9384, 0.9456, 0.9496, 0.9490, 0.9498),
    ("worst_of", 4, 1.0): (0.1242, 0.76336, 0.7018, 0.7476, 0.7596, 0.7597, 0.7625),
    ("worst_of", 4, 0.3): (0.4089, 0.92500, 0.8557, 0.9023, 0.9207, 0.9245, 0.9244),
    ("worst_of", 4, 0.1): (0.6836, 0.97500, 0.9312, 0.9597, 0.9718, 0.9748, 0.9748),
}
"""Divergence, and the win rates of the fixed point, identity, log, exp 5, exp 10 and poly at it."""
STEEP = [("best_of", 4, 0.03), ("best_of", 4, 0.02), ("best_of", 8, 0.03), ("worst_of", 4, 0.03), ("worst_of", 8, 0.02)]
KINDS = [("identity", 1), ("log", 1), ("exp", 5), ("exp", 10), ("poly", 1)]

ARGUMENTS = {
    "phi": lambda: torch.linspace(0, 1, 9),
    "beta": lambda: 0.5,
    "density": lambda: torch.ones(9),
    "kl": lambda: 0.3,
}


@cache
def best(decoder: Any, n: int, beta: float) -> FixedPoint:
    return fixed_point(decoder, n, beta)


def shot(decoder: str, n: int, beta: float) -> tuple[float, float]:
    """Win rate and divergence by another way: a boundary value problem from the end where the density is steep."""
    from scipy.integrate import solve_ivp
    from scipy.optimize import brentq

    def solved(log_density: float) -> Any:
        def slopes(x: float, y: Any) -> list[float]:  # x and mass from that end; log f; what the decoders do; KL
            rest, place = (1 - y[0], 1 - x) if decoder == "best_of" else (y[0], x)
            density, rest = math.exp(y[1]), min(max(rest, 0), 1)
            bend = -(n**2) * (rest * place) ** (n - 1) / beta
            return [density, bend, n * rest**n * place ** (n - 1), density * y[1]]

        return solve_ivp(slopes, (0, 1), [0, log_density, 0, 0], method="DOP853", rtol=1e-11, atol=1e-13).y[:, -1]

    top = brentq(lambda one: solved(one)[0] - 1, -3, math.log(n**2 / beta) + 1, xtol=1e-12)
    _, _, moved, kl = solved(top)
    return (1 - moved if decoder == "best_of" else moved), kl


def value(density: Tensor, decoder: Any, n: int, beta: float) -> Tensor:
    return win_rate(density, decoder, n) - beta * density_kl(density)


class TestTheGrid:
    def test_quintics_are_integrated_exactly_from_six_points_on(self) -> None:
        for points in (6, 7, 8, 33):
            u = uniform(points)
            assert_close(cumulative(6 * u**5 - 3 * u**2 + 1), u**6 - u**3 + u, atol=1e-14, rtol=0)

    def test_the_error_falls_with_the_sixth_power(self) -> None:
        errors = [abs(float(total((9 * uniform(points)).exp())) - math.expm1(9) / 9) for points in (101, 201)]
        assert errors[0] / errors[1] == pytest.approx(64, rel=0.2)

    def test_a_parameter_leads_back_to_its_place(self) -> None:
        assert_close(parameter(graded(33)[0]), uniform(33), atol=1e-7, rtol=0)

    def test_a_narrow_peak_is_seen_where_places_crowd(self) -> None:
        u, spacing = graded()
        assert float(total((-u / 1e-5).exp() * spacing)) == pytest.approx(1e-5, rel=1e-6)
        assert float(total((u * (1 - u)) ** 0.5 * spacing)) == pytest.approx(math.pi / 8, abs=1e-9)

    def test_between_points_cubics_meet_the_slopes(self) -> None:
        u, where = uniform(7), torch.rand(50, dtype=torch.float64, generator=Generator().manual_seed(0))
        assert_close(interpolated(where, u**3, 3 * u**2), where**3)


class TestClosedForms:
    @pytest.mark.parametrize(("beta", "won", "kl"), [(1, 0.581977, 0.0406519), (0.25, 0.768657, 0.479409)])
    def test_1_identity(self, beta: float, won: float, kl: float) -> None:
        density = tilt(U, beta)
        assert float(win_rate(density)) == pytest.approx(won, abs=1e-6)
        assert float(density_kl(density)) == pytest.approx(kl, abs=1e-6)

    @pytest.mark.parametrize("beta", [1.0, 0.25, 0.1, 0.03])
    def test_1_identity_at_any_beta(self, beta: float) -> None:
        rate = 1 / beta
        won = 1 / (1 - math.exp(-rate)) - 1 / rate
        kl = rate * won - math.log(math.expm1(rate) / rate)
        density = tilt(U, beta)
        assert float(win_rate(density)) == pytest.approx(won, abs=1e-6)
        assert float(density_kl(density)) == pytest.approx(kl, abs=1e-6)
        assert win_rate_at_kl(kl, "identity", decoder="plain") == pytest.approx((won, beta), abs=1e-6)

    @pytest.mark.parametrize("n", [2, 4, 8])
    def test_2_log_is_best_of_n(self, n: int) -> None:
        density = tilt(reward_transform(U, "log"), 1 / (n - 1))
        assert_close(density, n * U ** (n - 1), atol=1e-6, rtol=1e-6)
        kl = math.log(n) - (n - 1) / n
        assert float(win_rate(density)) == pytest.approx(n / (n + 1), abs=1e-9)
        assert float(density_kl(density)) == pytest.approx(kl, abs=1e-6)
        assert win_rate_at_kl(kl, "log", decoder="plain") == pytest.approx((n / (n + 1), 1 / (n - 1)), abs=1e-8)

    @pytest.mark.parametrize("n", [2, 4])
    def test_3_with_large_beta_nothing_moves(self, n: int) -> None:
        for decoder in ("best_of", "worst_of"):
            found = fixed_point(decoder, n, 1e6)
            assert_close(found.density, torch.ones_like(U), atol=1e-5, rtol=0)
            assert found.win_rate == pytest.approx(0.5, abs=1e-5)
            assert abs(found.kl) < 1e-9
            expected = n**2 / (2 * n - 1) * (U if decoder == "best_of" else 1 - U) ** (2 * n - 1)
            assert_close(found.phi, expected if decoder == "best_of" else -expected, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("beta", [1.0, 0.1])
    def test_4_one_draw_is_no_decoder(self, beta: float) -> None:
        density = tilt(U**2, beta)
        plain = win_rate(density)
        for decoder in ("best_of", "worst_of"):
            assert_close(win_rate(density, decoder, 1), plain)
            phi = fixed_point(decoder, 1, beta).phi
            assert_close(phi - phi[0], U, atol=1e-8, rtol=0)

    def test_5_turned_round_worst_is_best(self) -> None:
        density = tilt(U**3, 0.3)
        best, worst = win_rate(density, "best_of", 4), win_rate(density.flip(0), "worst_of", 4)
        assert float(best + worst) == pytest.approx(1)

    def test_5_the_wrong_sign_loses(self) -> None:
        right = win_rate_at_kl(0.5, "exp", decoder="best_of")[0]
        _, beta = win_rate_at_kl(0.5, "exp", decoder="worst_of")
        wrong = float(win_rate(tilt(reward_transform(U, decoder="worst_of"), beta), "best_of", 4))
        assert (right, wrong) == pytest.approx((0.872, 0.686), abs=1e-3)

    @pytest.mark.parametrize("beta", [1.0, 0.1, 1e-3])
    def test_constants_in_closed_form(self, beta: float) -> None:
        u, spacing = graded()
        for kind in ("identity", "log"):
            phi = reward_transform(u, kind)
            expected = total(((phi - phi.max()) / beta).exp() * spacing).log() + phi.max() / beta
            assert log_partition(kind, beta) == pytest.approx(float(expected), abs=1e-6)

    @pytest.mark.parametrize("normalize", [True, False])
    @pytest.mark.parametrize("decoder", ["best_of", "worst_of"])
    def test_constants_by_quadrature(self, decoder: str, normalize: bool) -> None:
        for kind in ("exp", "poly", "fixed_point"):
            phi = reward_transform(U, kind, decoder=decoder, rate=2, beta=0.5, normalize=normalize)
            expected = float(total((phi / 0.5).exp()).log())
            found = log_partition(kind, 0.5, decoder=decoder, rate=2, normalize=normalize)
            assert found == pytest.approx(expected, abs=1e-8)


class TestTheTable:
    @pytest.mark.parametrize(("decoder", "n", "beta"), TABLE)
    def test_fixed_points(self, decoder: str, n: int, beta: float) -> None:
        found, (kl, won, *_) = best(decoder, n, beta), TABLE[decoder, n, beta]
        assert found.converged
        assert (found.kl, found.win_rate) == pytest.approx((kl, won), abs=1e-4)

    @pytest.mark.parametrize(("decoder", "n", "beta"), TABLE)
    def test_others_at_the_same_divergence(self, decoder: str, n: int, beta: float) -> None:
        kl, _, *expected = TABLE[decoder, n, beta]
        found = [win_rate_at_kl(kl, kind, decoder=decoder, n=n, rate=rate)[0] for kind, rate in KINDS]
        assert found == pytest.approx(expected, abs=1e-4)
        assert max(found) <= best(decoder, n, beta).win_rate + 5e-5  # 7: none wins more at a rounded divergence

    def test_the_plain_reward_loses_seven_points(self) -> None:
        gap = best("best_of", 4, 0.3).win_rate - win_rate_at_kl(best("best_of", 4, 0.3).kl, "identity")[0]
        assert gap == pytest.approx(0.0716, abs=1e-3)

    def test_the_fixed_point_at_a_divergence(self) -> None:
        found = best("best_of", 4, 0.1)
        assert win_rate_at_kl(found.kl, "fixed_point") == pytest.approx((found.win_rate, 0.1), abs=1e-7)


class TestTheFixedPoint:
    @pytest.mark.parametrize(("decoder", "n", "beta"), [key for key in TABLE if key[2] < 1])
    def test_6_no_small_change_is_better(self, decoder: str, n: int, beta: float) -> None:
        density, draw = best(decoder, n, beta).density, Generator().manual_seed(0)
        for _ in range(3):
            waves = torch.randn(4, 1, dtype=torch.float64, generator=draw) * torch.cos(
                math.pi * torch.arange(1, 5)[:, None] * U
            )
            change = density * waves.sum(0)
            change = change - density * total(change)
            size = 1e-4 / float(change.abs().max())
            up, down = (value(density + sign * size * change, decoder, n, beta) for sign in (1, -1))
            assert abs(float(up - down)) / (2 * size) < 1e-6 * max(1.0, float(change.abs().max()))

    @pytest.mark.parametrize(("decoder", "n", "beta"), TABLE)
    def test_7_no_transform_is_better_at_the_same_beta(self, decoder: str, n: int, beta: float) -> None:
        most = value(best(decoder, n, beta).density, decoder, n, beta)
        for kind, rate in KINDS:
            phi = reward_transform(U, kind, decoder=decoder, n=n, rate=rate)
            assert value(tilt(phi, beta), decoder, n, beta) <= most

    @pytest.mark.parametrize("decoder", ["best_of", "worst_of"])
    def test_9_draws_agree(self, decoder: str) -> None:
        density, draw, n, rows = best(decoder, 4, 0.3).density, Generator().manual_seed(1), 4, 100_000
        cdf = cumulative(density)
        uniform_draws = torch.rand(2, rows, n, dtype=torch.float64, generator=draw)
        at = torch.searchsorted(cdf, uniform_draws[0].contiguous()).clamp(1, len(U) - 1)
        part = (uniform_draws[0] - cdf[at - 1]) / (cdf[at] - cdf[at - 1])
        ours, theirs = U[at - 1] + part * (U[at] - U[at - 1]), uniform_draws[1]
        pick = torch.amax if decoder == "best_of" else torch.amin
        won = (pick(ours, -1) > pick(theirs, -1)).double()
        assert abs(float(won.mean()) - best(decoder, 4, 0.3).win_rate) < 4 * float(won.std()) / rows**0.5

    @pytest.mark.parametrize(("decoder", "n", "beta"), STEEP)
    def test_steep_ones_converge_and_are_what_they_say(self, decoder: str, n: int, beta: float) -> None:
        found = fixed_point(decoder, n, beta)
        assert found.converged
        assert found.iterations < 300
        assert (found.win_rate, found.kl) == pytest.approx(shot(decoder, n, beta), abs=1e-8)
        assert_close(found.density, tilt(found.phi, beta))
        if n == 4 and beta == 0.03:  # what the even grid makes of them
            assert float(win_rate(found.density, decoder, n)) == pytest.approx(found.win_rate, abs=1e-6)
            assert float(density_kl(found.density)) == pytest.approx(found.kl, abs=1e-6)

    @pytest.mark.parametrize(("decoder", "n"), [("best_of", 16), ("worst_of", 32)])
    def test_many_draws_converge(self, decoder: str, n: int) -> None:
        assert fixed_point(decoder, n, 0.1).converged

    def test_what_did_not_converge_says_so(self) -> None:
        found = fixed_point("best_of", 4, 0.1, max_iter=5)
        assert not found.converged
        assert found.iterations <= 5
        assert not fixed_point("best_of", 4, 0.1, max_iter=1, grid=101).converged

    def test_a_peak_that_the_grid_does_not_see_is_none_that_converged(self) -> None:
        assert not fixed_point("best_of", 4, 1e-3, grid=401, tol=1e-6).converged

    def test_fewer_points_give_nearly_the_same(self) -> None:
        found = fixed_point("best_of", 4, 0.1, grid=401)
        assert found.win_rate == pytest.approx(best("best_of", 4, 0.1).win_rate, abs=1e-5)


class TestOtherDecoders:
    def test_a_density_is_the_decoder_that_it_is(self) -> None:
        def two(q: Tensor) -> Tensor:
            return 2 * q

        density = tilt(U**2, 0.3)
        assert float(win_rate(density, two)) == pytest.approx(float(win_rate(density, "best_of", 2)), abs=1e-9)
        assert fixed_point(two, beta=0.3).win_rate == pytest.approx(best("best_of", 2, 0.3).win_rate, abs=1e-8)
        assert win_rate_at_kl(0.3, decoder=two) == pytest.approx(win_rate_at_kl(0.3, n=2))

    def test_a_threshold_is_one(self) -> None:
        def upper_half(q: Tensor) -> Tensor:
            return 2.0 * (q >= 0.5)

        assert float(win_rate(torch.ones(4001), upper_half)) == pytest.approx(0.5, abs=1e-3)
        better = fixed_point(upper_half, beta=0.3, max_iter=200)
        assert better.win_rate - 0.3 * better.kl > 0.5 + 1e-2

    def test_an_object_that_changes_is_asked_anew(self) -> None:
        @dataclass
        class Best:  # not hashable
            n: int

            def __call__(self, q: Tensor) -> Tensor:
                return self.n * q ** (self.n - 1)

        density, decoder = tilt(U**2, 0.3), Best(2)
        assert_close(win_rate(density, decoder), win_rate(density, "best_of", 2))
        decoder.n = 4
        assert_close(win_rate(density, decoder), win_rate(density, "best_of", 4))
        u = torch.linspace(0, 1, 11)
        found = reward_transform(u, "fixed_point", decoder=decoder, beta=0.3)
        assert_close(found, reward_transform(u, "fixed_point", n=4, beta=0.3), atol=1e-6, rtol=0)

    def test_low_quantiles_turn_the_signs(self) -> None:
        def low(q: Tensor) -> Tensor:
            return 4 * (1 - q) ** 3

        u = torch.linspace(0, 1, 11)
        assert torch.equal(reward_transform(u, decoder=low), reward_transform(u, decoder="worst_of"))
        assert fixed_point(low, beta=0.3).phi[-1] == 0

    @pytest.mark.parametrize(
        ("g", "error", "said"),
        [
            (lambda q: q, ValueError, "integrates to 0.5 over"),
            (lambda q: 3 * (2 * q - 1) ** 3 + 1, ValueError, "finite and not negative"),
            (lambda q: 1 / (2 * q.sqrt()), ValueError, "finite and not negative"),
            (lambda q: q.sum(), TypeError, "a tensor shaped like q"),
            (lambda q: 1.0, TypeError, "got float"),
        ],
    )
    def test_one_that_is_none_is_named(self, g: Any, error: type[Exception], said: str) -> None:
        for call in (
            lambda: win_rate(torch.ones(9), g),
            lambda: fixed_point(g),
            lambda: reward_transform(U, decoder=g),
        ):
            with pytest.raises(error, match=rf"decoder: g\(q\).*{said}"):
                call()


class TestManyAtOnce:
    def test_rows_are_what_each_is_alone(self) -> None:
        phi = torch.stack([U, U**2, (1 - U) ** 3]).view(3, 1, -1)
        density = tilt(phi, 0.2)
        for row in range(3):
            assert_close(density[row, 0], tilt(phi[row, 0], 0.2))
            assert_close(win_rate(density, "best_of", 3)[row, 0], win_rate(density[row, 0], "best_of", 3))
            assert_close(density_kl(density)[row, 0], density_kl(density[row, 0]))

    def test_the_same_policy_wins_half(self) -> None:
        for decoder in ("best_of", "worst_of", "plain"):
            assert float(win_rate(torch.ones(101), decoder, 5)) == pytest.approx(0.5, abs=1e-6)

    @given(st.floats(0.01, 100), st.sampled_from(["exp", "poly", "log", "identity"]), st.integers(1, 12))
    def test_a_rising_transform_wins_half_at_least(self, beta: float, kind: Any, n: int) -> None:
        density = tilt(reward_transform(uniform(801), kind, n=n), beta)
        assert all(0.5 - 1e-3 <= float(win_rate(density, one, n)) <= 1 for one in ("best_of", "worst_of", "plain"))
        assert float(density_kl(density)) >= -1e-6


class TestAtADivergence:
    @pytest.mark.parametrize("rate", [1e-3, 10, 900])
    def test_any_rate_is_finite_and_reaches_it(self, rate: float) -> None:
        won, beta = win_rate_at_kl(0.37, "exp", rate=rate)
        assert 0.5 < won < 0.8402
        assert 0 < beta < math.inf
        assert reward_transform(U, rate=rate).isfinite().all()
        assert math.isfinite(log_partition("exp", 0.1, rate=rate))

    @pytest.mark.parametrize("kl", [1e-8, 1.0, 9.9])
    def test_more_divergence_wins_more(self, kl: float) -> None:
        assert 0.5 < win_rate_at_kl(kl)[0] < win_rate_at_kl(1.01 * kl)[0] < 1

    def test_out_of_reach_is_told(self) -> None:
        with pytest.raises(ValueError, match=r"kl=11 is out of reach, which ends at 10"):
            win_rate_at_kl(11)
        with pytest.raises(ValueError, match=r"kl=3\.0 is out of reach: this transform ends at 0\.0"):
            win_rate_at_kl(3, decoder="worst_of", rate=900)
        with pytest.raises(ValueError, match="kl is out of reach: the fixed point does not converge at beta="):
            win_rate_at_kl(3, "fixed_point", n=64)


class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (
                lambda: win_rate(torch.ones(3)),
                r"density must be \(…, points\) with 6 points at least, got",
            ),
            (lambda: win_rate(2 * torch.ones(9)), "density integrates to 2 over"),
            (lambda: win_rate(-torch.ones(9)), "density holds a value that is negative"),
            (lambda: density_kl(torch.full((9,), math.nan)), "density holds a value that is negative, NaN"),
            (lambda: tilt(torch.full((9,), -math.inf), 1), "phi holds NaN, .*-inf alone"),
            (lambda: tilt(torch.zeros(9), 0), "beta must be positive"),
            (lambda: win_rate(torch.ones(9), "best"), "decoder='best' is unknown; did you mean 'best_of'"),
            (lambda: win_rate(torch.ones(9), "best_of", 0), "n must be at least 1"),
            (lambda: fixed_point(grid=3), "grid must be at least 6"),
            (lambda: fixed_point(beta=-1), "beta must be positive"),
            (lambda: fixed_point(tol=0), "tol must be positive"),
            (lambda: fixed_point(max_iter=0), "max_iter must be at least 1"),
            (lambda: win_rate_at_kl(0), "kl must be positive"),
            (lambda: win_rate_at_kl(1, "expo"), "kind must be one of .*did you mean 'exp'"),
            (lambda: log_partition("exp", 0), "beta must be positive"),
        ],
    )
    def test_it_is_named(self, call: Any, said: str, own_messages: None) -> None:
        with pytest.raises(ValueError, match=said):
            call()

    def test_a_decoder_that_is_no_name(self, own_messages: None) -> None:
        with pytest.raises(TypeError, match="decoder must be a name or a density"):
            fixed_point(4)

    def test_a_peak_too_narrow_for_a_constant(self) -> None:
        assert log_partition("poly", 1e-6) == pytest.approx(1e6 - math.log(7e6), abs=1e-4)
        for options in ({"beta": 1e-9}, {"rate": 80, "normalize": False}):
            with pytest.raises(
                ValueError, match=r"beta=.* is too small for exp: its peak is narrower than can be seen"
            ):
                log_partition("exp", **options)
