"""Grids: each is equal steps of its own variable, and the discrete chains of the literature are met exactly."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.processes import PROCESSES, name

from scorefield import EDM, VE, VP, Cosine, ItoSDE, LinearSDE, grids

GRIDS = {
    "uniform": (grids.uniform, lambda knot: knot.t),
    "quadratic": (grids.quadratic, lambda knot: math.sqrt(knot.t)),
    "uniform_log_snr": (grids.uniform_log_snr, lambda knot: knot.log_snr),
    "uniform_information": (grids.uniform_information, lambda knot: math.log1p(1600 * math.exp(knot.log_snr))),
    "karras": (grids.karras, lambda knot: (knot.sigma / knot.alpha) ** (1 / 7)),
    "karras, rho 3": (lambda *args: grids.karras(*args, rho=3.0), lambda knot: (knot.sigma / knot.alpha) ** (1 / 3)),
}
every_process = pytest.mark.parametrize("sde", PROCESSES, ids=name)
every_grid = pytest.mark.parametrize("grid", GRIDS)


@every_process
@every_grid
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 1000])
def test_a_grid_is_equal_steps_of_its_variable_and_a_last_step_to_0(sde, grid, steps):
    make, variable = GRIDS[grid]
    times = make(sde, steps)
    assert len(times) == steps + 1
    assert times[0] == sde.T and times[-1] == 0.0 and (steps == 1 or times[-2] == sde.t_end)
    assert all(later < earlier for earlier, later in pairwise(times))
    values = np.array([variable(knot) for knot in sde.knots(times[:-1])])
    if steps > 2:
        np.testing.assert_allclose(values, np.linspace(values[0], values[-1], steps), rtol=1e-9, atol=1e-9)


@every_process
@every_grid
def test_a_grid_ends_where_it_is_told(sde, grid):
    end = 0.5 * (sde.t_min + sde.T)
    assert GRIDS[grid][0](sde, 5, end)[-2] == end


def test_karras_is_equation_5_of_the_paper():
    i = np.arange(18)
    sigmas = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(grids.karras(EDM(), 18), [*sigmas, 0], rtol=1e-12)


@every_grid
def test_a_process_without_closed_forms_has_the_same_grid(grid):
    sde = Cosine()
    numeric = LinearSDE(sde.a, sde.g, T=0.9, t_min=sde.t_min, t_end=sde.t_end)
    np.testing.assert_allclose(GRIDS[grid][0](numeric, 9), GRIDS[grid][0](Cosine(T=0.9), 9), rtol=1e-8)


@pytest.mark.parametrize("grid", ["uniform", "quadratic"])
def test_a_process_that_is_not_gaussian_has_the_grids_of_time(grid):
    sde = ItoSDE(lambda x, t: -(x**3), lambda x, t: x)
    assert GRIDS[grid][0](sde, 7) == GRIDS[grid][0](VP(), 7)


@pytest.mark.parametrize("sde", [VE(), VE(sigma_min=0.01, sigma_max=1348.0, t_end=1e-4)], ids=["50", "1348"])
@pytest.mark.parametrize("levels", [1, 2, 10, 1000])
def test_smld_levels_are_geometric_and_their_increments_add_up(sde, levels):
    times = grids.smld(sde, levels)
    assert len(times) == levels + 1 and times[-1] == 0.0
    sigmas = np.array([knot.sigma for knot in sde.knots(times[:-1])])
    expected = np.geomspace(sde.sigma_max, sde.sigma_min, levels) if levels > 1 else [sde.sigma_max]
    # the level at t = 0 is moved to t_min
    np.testing.assert_allclose(sigmas, expected, rtol=2e-4)
    np.testing.assert_allclose(sigmas[:-1], expected[:-1], rtol=1e-12)
    # G_i^2 = sigma_i^2 - sigma_{i-1}^2 with sigma_0 = 0 is the noise that g adds in a gap: they add up to sigma_max^2
    nodes, weights = np.polynomial.legendre.leggauss(32)
    widths, middles = -np.diff(times[:-1])[:, None], (np.array(times[:-2]) + np.array(times[1:-1]))[:, None] / 2
    rates = sde.g(torch.from_numpy(middles + widths / 2 * nodes)).numpy() ** 2
    increments = (rates * weights * widths / 2).sum(1)
    np.testing.assert_allclose(increments, -np.diff(sigmas**2), rtol=1e-9)
    assert increments.sum() + sigmas[-1] ** 2 == pytest.approx(sde.sigma_max**2, rel=1e-12)


@pytest.mark.parametrize("levels", [50, 1000, 4000])
def test_ddpm_times_have_the_marginals_of_the_discrete_chain(levels):
    sde = VP()
    betas = np.linspace(sde.beta_min / levels, sde.beta_max / levels, levels)
    alphabar = np.cumprod(1 - betas)
    times = grids.ddpm(sde, levels)
    reached = alphabar[alphabar > float(sde.alpha(torch.ones(1, dtype=torch.float64))) ** 2]
    assert times[0] == sde.T and times[-1] == 0.0 and len(times) == len(reached) + 2
    assert all(later < earlier for earlier, later in pairwise(times))
    knots = sde.knots(times[1:-1])[::-1]
    np.testing.assert_allclose([knot.alpha**2 for knot in knots], reached, rtol=1e-10)
    np.testing.assert_allclose([knot.sigma**2 for knot in knots], 1 - reached, rtol=1e-10)


@pytest.mark.parametrize(("i", "std"), [(0, 0.01), (1, 0.0148293), (10, 0.0468340), (100, 0.3238185), (500, 0.9603142)])
def test_ddpm_levels_have_the_published_standard_deviations(i, std):
    sde = VP()
    knot = sde.knots([grids.ddpm(sde, 1000)[-2 - i]])[0]
    assert knot.sigma == pytest.approx(std, abs=5.1e-8)
    # the continuous process at (i + 1) / 1000 is another one
    assert abs(float(sde.sigma(torch.tensor((i + 1) / 1000, dtype=torch.float64))) - std) > 1e-4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: grids.uniform(VP(), 0), "steps must be at least 1; got 0"),
        (lambda: grids.smld(VE(), -1), "levels must be at least 1; got -1"),
        (lambda: grids.ddpm(VP(), 0), "levels must be at least 1; got 0"),
        (lambda: grids.ddpm(VP(), 20), "more than 20 levels; got 20"),
        (lambda: grids.uniform(VP(), 5, 0.0), r"\(0, 1.0\); got 0.0"),
        (lambda: grids.uniform_log_snr(VP(), 5, 1.0), r"\(0, 1.0\); got 1.0"),
        (lambda: grids.karras(VP(), 5, math.nan), r"\(0, 1.0\); got nan"),
        (lambda: grids.karras(EDM(), 5, rho=0.0), r"rho must be positive; got 0.0"),
    ],
)
def test_errors_say_what_was_got_and_what_was_wanted(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
