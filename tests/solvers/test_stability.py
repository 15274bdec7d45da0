"""No method gives NaN at any budget; those that promise it stay near the data however few the steps."""

from __future__ import annotations

import math
import random

import pytest
import torch
from test_solvers import COMPOSITES, NONLINEAR, SOLVERS

from scorefield import EDM, VE, VP, GaussianMixture, GaussianSDE, SubVP, grids, sample
from scorefield.certify import UNSTABLE, output_law
from scorefield.solvers import (
    DDIM,
    AdaptiveSDE,
    Ancestral,
    BogackiShampine,
    ConsistentAnnealed,
    DormandPrince,
    DPMSolverPP,
    ExponentialAdams,
    ExponentialTwoStage,
    Restart,
    SASolver,
    Solver,
    UniPC,
)

pytestmark = pytest.mark.usefixtures("unchecked")
PROCESSES: list[GaussianSDE] = [VP(), VE(), SubVP(), EDM()]
GRIDS = [grids.uniform_log_snr, grids.karras, grids.uniform, grids.quadratic]
ALWAYS_STABLE = [
    DDIM(),
    Ancestral(),
    *(DPMSolverPP(order, eta) for order in (1, 2, 3) for eta in (0.0, 1.0)),
    *(UniPC(order) for order in (1, 2, 3, 4)),
    *(SASolver(order) for order in (1, 2, 3)),
    ExponentialTwoStage(),
    ExponentialTwoStage(1.0),
]


@pytest.mark.parametrize("solver", [*SOLVERS, *COMPOSITES, *NONLINEAR], ids=str)
def test_samples_are_finite_for_any_budget_grid_dimension_and_precision(solver: Solver) -> None:
    chosen = random.Random(str(solver))
    for steps in (2, 3, 5, 10, 35):
        for sde in PROCESSES:
            dims, dtype = chosen.choice((1, 2, 16)), chosen.choice((torch.float32, torch.float64))
            grid = grids.uniform_log_snr if isinstance(solver, Restart) else chosen.choice(GRIDS)
            times = grid(sde, steps)
            if isinstance(solver, ConsistentAnnealed):
                solver = ConsistentAnnealed(1.0)  # a smaller size is refused for few steps
            if isinstance(solver, Restart) and steps < 7:
                continue  # its grid must come near the data first
            if isinstance(solver, BogackiShampine | DormandPrince | AdaptiveSDE):
                if steps > 2:
                    continue
                times = [sde.T, sde.t_end, 0.0]
            means = torch.stack((torch.ones(dims), -torch.ones(dims)))
            model = GaussianMixture(sde, torch.tensor([0.3, 0.7]), means, torch.tensor([0.0, 0.04])).to(dtype)
            x = sample(model, (dims,), times, solver, seeds=range(4))
            assert bool(torch.isfinite(x).all()), (steps, sde, grid, dims, dtype)


@pytest.mark.parametrize("solver", ALWAYS_STABLE, ids=str)
def test_exponential_methods_of_data_prediction_stay_near_the_data_for_any_budget(solver: Solver) -> None:
    variances = torch.tensor([0.05, 0.3, 1.0, 3.0])
    for sde in PROCESSES:
        for steps in (2, 3, 4, 5, 6, 8, 10, 15, 20):
            assert output_law(solver, grids.uniform_log_snr(sde, steps), sde, variances).spread < UNSTABLE, (sde, steps)


@pytest.mark.parametrize(
    ("solver", "least"),
    [
        (ExponentialAdams(2, corrector=False), 8),
        (ExponentialAdams(4), 8),
        (ExponentialAdams(3, sigma_data=3.0), 12),
        (ExponentialAdams(2, corrector=False, sigma_data=math.inf), 8),
        (ExponentialAdams(2, corrector=False, eta=1.0), 8),
        (ExponentialAdams(2, corrector=False, sigma_data=math.inf, eta=1.0), 25),
    ],
    ids=str,
)
def test_other_exponential_methods_stay_near_the_data_from_their_least_number_of_steps_on(
    solver: Solver, least: int
) -> None:
    variances = torch.tensor([0.05, 0.3, 1.0, 3.0])
    for sde in PROCESSES:
        for steps in (least, least + 1, least + 3, 30):
            assert output_law(solver, grids.uniform_log_snr(sde, steps), sde, variances).spread < UNSTABLE, (sde, steps)
