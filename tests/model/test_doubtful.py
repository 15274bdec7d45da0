"""Samples that cannot be meant: solvers that diverge, and values clipped from far outside of the data, are said."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from scorefield import VE, VP, Doubtful, GaussianMixture, ScoreModel, SubVP, gaussian, grids, solvers
from scorefield.data import Affine, beyond
from scorefield.guidance import ClassifierFree
from scorefield.model.solving import _spread as spread
from scorefield.model.solving import instability
from scorefield.solvers import Solver, Step

D = 16
CENTRES = torch.stack((torch.full((D,), -0.6), torch.linspace(-0.6, 0.6, D)))
NARROW = torch.full((2,), 0.02)


def mixture(weights, sde=None) -> GaussianMixture:
    return GaussianMixture(sde or VP(), torch.tensor(weights), CENTRES, NARROW)


def model(levels: int | None = 17, sde=None) -> ScoreModel:
    return ScoreModel(mixture([0.5, 0.5], sde), (D,), Affine.of_levels(levels) if levels else Affine())


def said(compute) -> str:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        compute()
    assert all(issubclass(one.category, Doubtful) for one in found)
    return "; ".join(str(one.message) for one in found)


def sampled(solver=None, steps: int = 20, of: ScoreModel | None = None) -> str:
    return said(lambda: (of or model()).sample(seeds=range(16), solver=solver, steps=steps))


def guided(weight: float) -> ScoreModel:
    """To N(0.1 w, 0.02), within [-1, 1] up to a weight of 7."""
    one, other = (gaussian(VP(), torch.full((D,), mean), 0.02) for mean in (0.1, 0.0))
    return model().guided(ClassifierFree(one, other, weight))


WILD = {
    "SRA1, 10": (solvers.SRA1(), 10),
    "StochasticHeun, 5": (solvers.StochasticHeun(), 5),
    "RK4, 3": (solvers.RK4(), 3),
    "RK4, 5": (solvers.RK4(), 5),
    "PredictorCorrector, 5": (solvers.PredictorCorrector(solvers.SRA1(), solvers.Langevin(snr=0.1)), 5),
}
TAME = {
    **{f"default, {n}": (None, n) for n in (2, 4, 5, 7, 10, 20, 50)},
    "DDIM, 3": (solvers.DDIM(), 3),
    "Heun, 10": (solvers.Heun(), 10),
    "UniPC, 5": (solvers.UniPC(), 5),
    "EulerMaruyama, 50": (solvers.EulerMaruyama(), 50),
    "SRA1, 50": (solvers.SRA1(), 50),
    "StochasticHeun, 50": (solvers.StochasticHeun(), 50),
    "RK4, 20": (solvers.RK4(), 20),
    "BogackiShampine": (solvers.BogackiShampine(1e-2), 1),
    "PredictorCorrector, 20": (solvers.PredictorCorrector(solvers.DDIM(), solvers.Langevin(snr=0.1)), 20),
}


@pytest.mark.parametrize("name", WILD)
def test_solvers_that_diverge_are_named_in_python_too(name):
    """Clipped nonsense came back without a word."""
    solver, steps = WILD[name]
    found = sampled(solver, steps)
    assert f"{type(solver).__name__} is unstable with {steps} steps of this grid" in found
    assert "16 of 16 samples mean nothing" in found
    assert "is unstable" in sampled(solver, steps, model(None))  # real numbers are not clipped


@pytest.mark.parametrize("sde", [VP(), VE(), SubVP()], ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize("name", TAME)
def test_nothing_is_said_of_others(name, sde):
    solver, steps = TAME[name]
    assert sampled(solver, steps, model(sde=sde)) == ""


@pytest.mark.parametrize("weight", [1.0, 2.0, 3.0])
def test_usual_guidance_is_not_named(weight):
    assert sampled(of=guided(weight)) == ""


def test_guidance_that_leads_out_of_the_data_is_named():
    assert "16 of 16 samples mean nothing" in sampled(of=guided(30.0))


def test_a_single_sample_that_strays_is_counted():
    """Mutant: the mean over all samples, which hides it."""
    z = torch.zeros(50, D)
    z[7] = 5.0
    transform = Affine.of_levels(17)
    found = beyond(transform, transform.inverse(z), z)
    assert found is not None and found.startswith("1 of 50 samples mean nothing: ") and "by 2 times its range" in found


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
def test_half_of_the_range_is_the_bound_for_any_number_of_levels(levels):
    """Values of [-1, 1] that lie beyond by 0.98 and 1.02: at their middle, cells end half a level later."""
    transform = Affine.of_levels(levels)
    for size, wanted in ((1.98, False), (2.02, True)):
        for sign in (-1, 1):
            z = torch.full((2, 3), sign * size, dtype=torch.float64)
            assert (beyond(transform, transform.inverse(z), z) is not None) == wanted


def test_grids_that_are_too_coarse_for_the_default_are_named():
    uneven = [1.0, 0.99, 0.98, 0.97, 0.001, 0.0]
    found = said(lambda: model(None).sample(seeds=range(4), solver=solvers.ExponentialAdams(3), times=uneven))
    assert "unstable with 5 steps" in found


@dataclass
class Strange(Solver):
    """A solver of somebody's: with a list, so without a hash; it counts its steps, and may be for other events."""

    calls: list[Any] = field(default_factory=list)
    wanted: int = D

    @property
    def convergence_order(self) -> int:
        return 1

    def step(self, model, x, now, next, state, *, noise) -> Step:
        self.calls.append(len(x))
        if x.shape[1] not in (self.wanted, D):
            raise KeyError("these are not my events")
        return Step(10 * x)


def test_solvers_of_others_are_tried_if_they_take_normal_data():
    times = grids.uniform_log_snr(VP(), 4)
    assert instability(Strange(), times, VP()) is None
    found = instability(Strange(wanted=3), times, VP())
    assert found is not None and found.startswith("Strange is unstable with 4 steps")


def test_a_solver_and_its_grid_are_tried_once():
    spread.cache_clear()
    for _ in range(3):
        model().sample(seeds=range(2), solver=solvers.DDIM(), steps=7)
        model().sample(seeds=range(2), steps=7)  # the default is not tried at all
    assert spread.cache_info()[:2] == (2, 1)
