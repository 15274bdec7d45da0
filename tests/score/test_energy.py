"""Energies whose gradient is the score, and densities recovered from scores by line integration."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.networks import awake, inputs, make
from torch import Tensor

from scorefield import (
    VP,
    Energy,
    GaussianMixture,
    ItoSDE,
    Noise,
    PlainScore,
    Preconditioned,
    SubVP,
    gaussian,
    log_density_ratio,
)
from scorefield.data import Affine, ArrayDataset
from scorefield.nn import MLP, Potential, seeded
from scorefield.objectives import DenoisingScoreMatching, ImplicitScoreMatching, SlicedScoreMatching
from scorefield.score import EDMPrecond, LogDensity, NoisePrecond, Precond, ScorePrecond, TimePrecond, VelocityPrecond
from scorefield.training import Batches, Optimisation, TrainState, train

PRECONDS = [EDMPrecond(0.7), NoisePrecond(), ScorePrecond(), TimePrecond(), VelocityPrecond()]


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def energy(precond: Precond = PRECONDS[0], sde=None) -> Energy:
    with seeded(0):
        return Energy(Potential(awake(MLP((2,), features=16, blocks=1).double())), sde or VP(), precond)


@pytest.mark.parametrize("precond", PRECONDS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("sde", [VP(), SubVP()], ids=["VP", "SubVP"])
def test_the_score_is_the_gradient_of_the_log_density(precond, sde):
    """For every preconditioner, at each sample's own time. Kills a wrong factor in either term."""
    model, x = energy(precond, sde), normals(5, 2).requires_grad_()
    t = torch.tensor([1e-3, 0.05, 0.3, 0.8, 1.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(model.log_density(x, t).sum(), x)
    torch.testing.assert_close(model.score(x, t).detach(), gradient, rtol=1e-8, atol=1e-8)


def test_its_jacobian_is_symmetric_and_that_of_the_network_is_not():
    def asymmetry(model) -> float:
        x, t = normals(1, 2)[0], torch.tensor(0.3, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(lambda y: model.score(y[None], t)[0], x)
        return float((jacobian - jacobian.mT).abs().max() / jacobian.abs().max())

    model = energy()
    assert asymmetry(model) < 1e-12
    assert asymmetry(Preconditioned(model.net.net, VP(), EDMPrecond(0.7))) > 1e-3


@pytest.mark.parametrize("name", ["vector", "points", "signal", "image", "given image"])
def test_potentials_of_every_network_give_gradients_twice(name):
    """Through normalisation and attention. The derivative by the weights is checked along a direction."""
    net = Potential(make(name))
    x, given = inputs(name)
    f = net(x, **given)
    (gradient,) = torch.autograd.grad(net.value(x := x.requires_grad_(), **given).sum(), x)
    torch.testing.assert_close(f, gradient, rtol=1e-9, atol=1e-9)
    weights = [p for p in net.parameters() if p.requires_grad]
    gradients = torch.autograd.grad((net(x, **given) ** 2).sum(), weights, allow_unused=True, materialize_grads=True)
    directions = [normals(*p.shape, seed=k) for k, p in enumerate(weights)]
    slope, h = sum(float((g * v).sum()) for g, v in zip(gradients, directions, strict=True)), 1e-5
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, v in zip(weights, directions, strict=True):
                p += sign * h * v
        ends.append(float((net(x, **given).detach() ** 2).sum()))
        with torch.no_grad():
            for p, v in zip(weights, directions, strict=True):
                p -= sign * h * v
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("objective", [DenoisingScoreMatching(), SlicedScoreMatching(), ImplicitScoreMatching()])
def test_every_objective_trains_it(objective):
    model = energy()
    losses = objective(model, normals(4, 2), noise=Noise.per_batch(0, 4))
    gradients = torch.autograd.grad(losses.sum(), list(model.parameters()), allow_unused=True)
    assert sum(g is not None and bool((g != 0).any()) for g in gradients) >= len(gradients) - 1


def test_without_gradients_it_is_the_same_and_leaves_no_graph():
    model, x, t = energy(), normals(3, 2), torch.tensor(0.5, dtype=torch.float64)
    recorded = model.score(x, t)
    with torch.no_grad():
        plain = model.score(x, t)
    assert recorded.requires_grad and not plain.requires_grad
    torch.testing.assert_close(recorded.detach(), plain, rtol=1e-12, atol=1e-14)  # kernels differ with a graph


def test_it_is_a_log_density_under_conditions_as_well():
    """By which HMC and MALA know that they may accept and refuse."""
    model, x, t = energy(), normals(3, 2), torch.tensor(0.5, dtype=torch.float64)
    given = model.given()
    assert isinstance(model, LogDensity) and isinstance(given, LogDensity)
    assert torch.equal(given.log_density(x, t), model.log_density(x, t))


def test_what_has_no_value_is_refused():
    with seeded(0), pytest.raises(TypeError, match=r"wrap it in nn\.Potential"):
        Energy(MLP((2,)), VP(), EDMPrecond(1.0))


def test_compiling_what_needs_second_derivatives_is_refused():
    with seeded(0):
        model = Energy(Potential(MLP((2,))), VP(), EDMPrecond(1.0))
    source = Batches(ArrayDataset(torch.zeros(8, 2)), Affine(), 4, seed=0)
    state = TrainState(model, Optimisation(), seed=0)
    with pytest.raises(ValueError, match="train without compiling"):
        next(train(state, source, DenoisingScoreMatching(), steps=1, compiled=True))


# line integration


@pytest.fixture
def mixture() -> GaussianMixture:
    return GaussianMixture(
        VP(), torch.tensor([0.3, 0.7]), torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), torch.tensor([0.2, 0.4])
    )


@pytest.mark.parametrize("time", [0.05, 0.3, 1.0])
def test_line_integration_recovers_the_density(mixture, time):
    """Kills a missing weight of 1/2, and ends that are turned round."""
    x, y, t = normals(6, 2), normals(6, 2, seed=1), torch.tensor(time, dtype=torch.float64)
    exact = mixture.log_prob(y, t) - mixture.log_prob(x, t)
    torch.testing.assert_close(log_density_ratio(mixture, x, y, t), exact, rtol=0, atol=1e-9)
    each = torch.full((6,), time, dtype=torch.float64)
    torch.testing.assert_close(log_density_ratio(mixture, x, y, each), exact, rtol=0, atol=1e-9)


def test_one_node_is_exact_for_a_normal_law_and_more_converge_fast(mixture):
    x, y, t = normals(6, 2), normals(6, 2, seed=1), torch.tensor(0.3, dtype=torch.float64)
    normal = gaussian(VP(), torch.zeros(2), torch.ones(2))
    exact = normal.log_prob(y, t) - normal.log_prob(x, t)
    torch.testing.assert_close(log_density_ratio(normal, x, y, t, nodes=1), exact, rtol=0, atol=1e-12)
    exact = mixture.log_prob(y, t) - mixture.log_prob(x, t)
    errors = [float((log_density_ratio(mixture, x, y, t, nodes=n) - exact).abs().max()) for n in (4, 8, 16)]
    assert errors[1] < 0.1 * errors[0] and errors[2] < 0.01 * errors[1]


def test_line_integration_of_an_energy_is_its_difference():
    model, x, y, t = energy(), normals(4, 2), normals(4, 2, seed=1), torch.tensor(0.4, dtype=torch.float64)
    with torch.no_grad():
        difference = model.log_density(y, t) - model.log_density(x, t)
        torch.testing.assert_close(log_density_ratio(model, x, y, t, 64), difference, rtol=1e-6, atol=1e-6)


def test_line_integration_takes_any_process():
    class Rest(torch.nn.Module):
        sde = ItoSDE(lambda x, t: x - x**3, lambda x, t: math.sqrt(2) + 0 * x)

        def score(self, x, t):
            return x - x**3

    x, y = normals(5), normals(5, seed=1)
    exact = (y**2 - x**2) / 2 - (y**4 - x**4) / 4
    torch.testing.assert_close(
        log_density_ratio(Rest(), x, y, torch.tensor(1.0), nodes=4), exact, rtol=1e-10, atol=1e-12
    )


def test_a_plain_score_has_differences_at_the_time_of_the_data():
    """Its process stands still. Mutant: times from 0 on are refused."""
    with seeded(0):
        plain = PlainScore(MLP((2,), features=8).double())
    x, y = normals(3, 2), normals(3, 2) + 1
    torch.testing.assert_close(log_density_ratio(plain, x, y, 0.0), log_density_ratio(plain, x, y, 0.5))


@pytest.mark.usefixtures("unchecked")
def test_impossible_lines_are_refused(mixture):
    with pytest.raises(ValueError, match="one shape"):
        log_density_ratio(mixture, normals(2, 2), normals(3, 2), torch.tensor(0.5))
    with pytest.raises(ValueError, match="nodes must be at least 1"):
        log_density_ratio(mixture, normals(2, 2), normals(2, 2), torch.tensor(0.5), nodes=0)
