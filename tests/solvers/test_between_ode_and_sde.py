"""Euler-Maruyama with a little noise: what a step does in closed form, and the grid that it is given by default."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from helpers.processes import PROCESSES, name

from scorefield import VP, Cosine, GaussianSDE, Rectified, gaussian, grids
from scorefield.certify import OutputLaw, output_law
from scorefield.cli.parts.grids import Grid
from scorefield.model.solving import solving
from scorefield.solvers import EulerMaruyama, Langevin, Milstein, PredictorCorrector, ReverseDiffusion, Solver

pytestmark = pytest.mark.usefixtures("unchecked")

SPECTRUM = torch.tensor([0.09, 1.0])
SINGULAR = [Rectified(), Rectified(T=0.9999), Cosine(), Cosine(T=0.99999)]  # g is infinite at 1
KINDS = {
    "EulerMaruyama": EulerMaruyama,
    "ReverseDiffusion": ReverseDiffusion,
    "PredictorCorrector": lambda eta: PredictorCorrector(EulerMaruyama(eta), Langevin()),
}


def law(solver: Solver, sde: GaussianSDE, times: list[float]) -> OutputLaw:
    return output_law(solver, times, sde, SPECTRUM)


@pytest.mark.parametrize("sde", [*PROCESSES, Cosine(T=0.99)], ids=name)
@pytest.mark.parametrize("eta", [0.0, 0.1, 1.0])
def test_a_step_on_a_point_in_closed_form(sde: GaussianSDE, eta: float) -> None:
    # D = 0: x (1 - h (a + (1 + eta)/2 g^2/sigma^2)) + g sqrt(eta h) z, unstable where the factor is below -1
    for now, next in pairwise(sde.knots(grids.uniform_log_snr(sde, 6)[:-1])):
        h = now.t - next.t
        factor = 1 - h * (now.a + 0.5 * (1 + eta) * (now.g / now.sigma) ** 2)
        variance = (factor * now.sigma) ** 2 + eta * h * now.g**2
        for solver in (EulerMaruyama(eta), Milstein(eta)):
            found = output_law(solver, [now.t, next.t], sde, torch.zeros(1)).std
            assert float(found) == pytest.approx(math.sqrt(variance), rel=1e-9)


@pytest.mark.parametrize("sde", [*SINGULAR, VP()], ids=lambda sde: f"{name(sde)} {sde.T}")
@pytest.mark.parametrize("eta", [0.0, 0.1, 0.5, 1.0])
def test_a_step_in_the_noise_adds_an_excess_of_eta_r_squared(sde: GaussianSDE, eta: float) -> None:
    # the change of sigma itself, 1 % on Rectified, is left out
    first, second = grids.uniform(sde, 100)[:2]
    (knot,) = sde.knots([first])
    r = (first - second) * abs(knot.a)
    found = float(output_law(EulerMaruyama(eta), [first, second], sde, torch.ones(1)).std)
    assert found**2 == pytest.approx(1 + (eta * r) ** 2, rel=3e-2)
    assert r > 9 or sde == VP()


def test_the_figures_of_the_page() -> None:
    # docs/solvers.md, 20 steps on data of std 0.3
    def std(eta: float, grid=grids.uniform, kind="EulerMaruyama") -> float:
        return float(law(KINDS[kind](eta), Rectified(), grid(Rectified(), 20)).std[0])

    assert [round(std(eta), 2) for eta in (0.0, 0.1, 1.0)] == [0.27, 0.95, 0.3]
    others = (grids.quadratic, grids.uniform_information, grids.uniform_log_snr, grids.karras)
    assert [round(std(0.1, grid), 2) for grid in others] == [1.85, 0.51, 0.28, 0.27]
    assert round(std(0.1, kind="PredictorCorrector"), 2) == 0.52
    assert [round(std(eta, kind="ReverseDiffusion"), 2) for eta in (0.0, 0.1, 1.0)] == [0.88, 0.69, 0.34]


@pytest.mark.parametrize(
    ("kind", "sde"),
    [*(("EulerMaruyama", sde) for sde in PROCESSES), *((kind, sde) for kind in KINDS for sde in SINGULAR)],
    ids=lambda value: f"{name(value)} {value.T}" if isinstance(value, GaussianSDE) else value,
)
def test_the_usual_grid_is_right_for_any_noise(kind: str, sde: GaussianSDE) -> None:
    model = gaussian(sde, torch.zeros(2), SPECTRUM)
    usual = {eta: solving(model, 15, KINDS[kind](eta), None, None) for eta in (0.0, 0.1, 0.5, 1.0)}
    first, *between, last = (law(solver, sde, list(times)).error for solver, times in usual.values())
    assert max(between) <= 1.05 * max(first, last)
    # and the command line takes the same
    assert usual[0.1][1] == Grid.log_snr.times(EulerMaruyama(0.1), 15, sde, SPECTRUM)


@pytest.mark.parametrize("grid", [grids.uniform, grids.quadratic, grids.uniform_information])
def test_other_grids_are_not(grid) -> None:
    for sde in SINGULAR:
        errors = {eta: law(EulerMaruyama(eta), sde, grid(sde, 20)).error for eta in (0.0, 0.1, 1.0)}
        assert errors[0.1] > 2 * max(errors[0.0], errors[1.0]) or errors[1.0] > 0.5
