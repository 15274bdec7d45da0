"""Certificates against independent figures, and grids that are made to measure."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from scorefield import EDM, VE, VP, grids, network_calls
from scorefield.certify import (
    certify,
    chain_law,
    measured_order,
    natural_spectrum,
    optimised_grid,
    output_law,
    steps_within,
)
from scorefield.sampling import adaptive
from scorefield.solvers import (
    BAOAB,
    DDIM,
    HMC,
    IPNDM,
    AdaptiveSDE,
    Ancestral,
    BogackiShampine,
    Churn,
    ConsistentAnnealed,
    DormandPrince,
    ExponentialTwoStage,
    Heun,
    Langevin,
    PredictorCorrector,
    Restart,
    SciPyODE,
    Solver,
    UniPC,
)

pytestmark = pytest.mark.usefixtures("unchecked")

# relative W2 at 10, 20 and 50 calls on 512 components with variances as 1/k^2, by a separate NumPy program
INDEPENDENT = [
    (Heun(), (0.73, 0.12, 1.5e-2)),
    (IPNDM(4), (3.1e-2, 8.5e-3, 1.1e-3)),
    (Ancestral(), (0.33, 0.19, 8.4e-2)),
    (ExponentialTwoStage(1.0), (0.17, 6.1e-2, 1.2e-2)),
]


@pytest.mark.parametrize(("solver", "errors"), INDEPENDENT, ids=str)
def test_certificates_agree_with_an_independent_program(solver: Solver, errors: tuple[float, ...]) -> None:
    sde = EDM(T=80.0, t_min=0.001, t_end=0.002)
    found = certify(solver, sde, 0.25 * natural_spectrum(512), budgets=(10, 20, 50), grid=grids.karras)
    assert found.budgets == (10, 20, 50)
    assert [law.error for law in found.laws] == [pytest.approx(error, rel=0.05) for error in errors]
    assert found.order == pytest.approx(found.claimed, abs=0.25)


def test_ddim_on_one_variance_in_closed_form() -> None:
    # xbar_b = (s_b / s_a) xbar + (1 - s_b / s_a) v / (v + s_a^2) xbar, and the last step multiplies by v / (v + s^2)
    sde, v = VE(0.1, 10.0), 0.5
    times = grids.karras(sde, 6)
    knots = sde.knots(times[:-1])
    std = math.sqrt(v + knots[0].sigma ** 2)
    for a, b in pairwise(knots):
        std *= b.sigma / a.sigma + (1 - b.sigma / a.sigma) * v / (v + a.sigma**2)
    std *= v / (v + knots[-1].sigma ** 2)
    law = output_law(DDIM(), times, sde, torch.tensor([v]))
    assert float(law.std) == pytest.approx(std, rel=1e-12)
    assert law.error == pytest.approx(abs(std / math.sqrt(v) - 1), rel=1e-9)
    assert law.spread == pytest.approx(std / math.sqrt(v), rel=1e-9)


def test_budgets_count_every_network_call() -> None:
    sde = VP()
    for solver, budget, steps in ((DDIM(), 10, 10), (Heun(), 10, 5), (Heun(), 9, 5), (Heun(), 2, 0), (DDIM(), 2, 2)):
        assert steps_within(solver, sde, budget) == steps
        if steps:
            assert network_calls(sde, grids.uniform_log_snr(sde, steps), solver) <= budget
    assert certify(Heun(), sde, budgets=(2, 3)).budgets == (3,)


def test_a_restart_spends_what_its_descents_cost() -> None:
    sde, times = VE(), grids.uniform_log_snr(VE(), 20)
    solver = Restart(UniPC(), low=0.05, high=0.5, repeats=3, steps=4)
    assert network_calls(sde, times, solver) == 20 + 3 * 4


def test_an_exact_solver_has_no_finite_order() -> None:
    assert measured_order(DDIM(), VP(), variances=torch.zeros(1)) == math.inf


@pytest.mark.parametrize("solver", [Heun(), UniPC(), Ancestral()], ids=str)
def test_an_optimised_grid_beats_the_usual_ones_for_its_data(solver: Solver) -> None:
    sde, v = VP(), natural_spectrum(16)
    times = optimised_grid(solver, 8, sde, v)
    assert len(times) == 9 and times[0] == sde.T and times[-1] == 0
    assert all(a > b for a, b in pairwise(times))
    usual = [make(sde, 8) for make in (grids.uniform_log_snr, grids.karras, grids.uniform, grids.quadratic)]
    best = min(output_law(solver, grid, sde, v).error for grid in usual)
    assert output_law(solver, times, sde, v).error < 0.75 * best


def test_an_optimised_grid_of_two_steps_finds_the_best_place() -> None:
    # one free time: against a search over a fine mesh
    sde, v = VE(0.01, 20.0), torch.tensor([1.0, 0.1])
    times = optimised_grid(DDIM(), 2, sde, v)
    mesh = torch.linspace(0.02, 0.98, 400).tolist()
    best = min(output_law(DDIM(), [sde.T, t, 0.0], sde, v).error for t in mesh)
    assert output_law(DDIM(), times, sde, v).error == pytest.approx(best, rel=1e-3)


REFUSED = [PredictorCorrector(DDIM(), HMC()), BogackiShampine(), AdaptiveSDE(), SciPyODE()]


@pytest.mark.parametrize("solver", REFUSED, ids=str)
def test_solvers_that_are_not_linear_are_refused(solver: Solver) -> None:
    with pytest.raises(ValueError, match="cannot be certified"):
        output_law(solver, [1.0, 0.001, 0.0], VP(), torch.tensor([0.5, 2.0]))
    with pytest.raises(ValueError, match="cannot be certified"):
        optimised_grid(solver, 3, VP(), torch.tensor([0.5, 2.0]))


def test_correctors_are_no_samplers() -> None:
    with pytest.raises(ValueError, match="Langevin moves states at a fixed time: use it in PredictorCorrector"):
        output_law(Langevin(), [1.0, 0.5, 0.0], VP(), torch.ones(1))


def test_certificates_leave_out_what_a_solver_refuses() -> None:
    assert certify(ConsistentAnnealed(0.5), VP(), budgets=(5, 15, 30)).budgets == (15, 30)
    with pytest.raises(ValueError, match=r"none of the budgets.*must remove at least"):
        certify(ConsistentAnnealed(0.5), VP(), budgets=(4,))
    with pytest.raises(ValueError, match=r"none of the budgets \[1\] allows"):
        certify(DDIM(), VP(), budgets=(1,))
    with pytest.raises(ValueError, match="one-step method"):
        output_law(Churn(UniPC()), [1.0, 0.5, 0.1], VP(), torch.ones(1))


def test_the_chains_of_langevin_have_their_known_bias_and_those_of_baoab_none() -> None:
    sde, v = VP(), torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)
    knot = sde.knots([0.4])[0]
    total = knot.alpha**2 * v + knot.sigma**2
    eps = 2 * (0.3 * knot.sigma) ** 2
    biased = chain_law(Langevin(0.3), 200, sde, 0.4, v)
    torch.testing.assert_close(biased.std**2, total / (1 - eps / (2 * total)), rtol=1e-10, atol=0)
    exact = chain_law(BAOAB(0.3), 200, sde, 0.4, v)
    torch.testing.assert_close(exact.std, exact.target, rtol=1e-10, atol=0)


def test_a_grid_needs_two_steps() -> None:
    with pytest.raises(ValueError, match="at least 2 steps"):
        optimised_grid(DDIM(), 1, VP(), torch.ones(1))


def test_the_adaptive_default_ends_where_the_denoise_step_errs_by_the_tolerance() -> None:
    sde = VE(sigma_min=1e-4)
    for tolerance, wanted in (
        (1e-2, BogackiShampine(1e-2)),
        (1e-3, BogackiShampine(1e-3)),
        (1e-6, DormandPrince(1e-7)),
    ):
        solver, times = adaptive(sde, tolerance)
        assert solver == wanted and times[0] == sde.T and times[2] == 0
        s = sde.knots([times[1]])[0].sigma
        assert s == pytest.approx(min(math.sqrt(tolerance) / 3, sde.knots([sde.t_end])[0].sigma), rel=1e-6)
    with pytest.raises(ValueError, match=r"tolerance must lie in \[5e-05, 1\).*errs by as much; got 1e-06"):
        adaptive(VE(), 1e-6)


def test_chains_that_are_not_linear_are_refused() -> None:
    class Sine(Langevin):
        def step(self, model, x, now, next, state, *, noise):  # type: ignore[no-untyped-def]
            return super().step(model, x.sin(), now, next, state, noise=noise)

    for corrector, message in ((Sine(), "not a linear function"), (HMC(), "accepts and refuses")):
        with pytest.raises(ValueError, match=message):
            chain_law(corrector, 3, VP(), 0.4, torch.ones(2))
