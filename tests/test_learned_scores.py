"""Every objective learns the score of a known mixture: the Fisher divergence to the truth falls below 0.05."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefield import VE, EDMPrecond, Energy, GaussianMixture, Noise, PlainScore, Preconditioned, ScoreModule
from scorefield.data import Affine, ArrayDataset
from scorefield.nn import MLP, Potential, seeded
from scorefield.objectives import (
    AdaptiveLogSNR,
    Clean,
    DenoisingScoreMatching,
    EDMWeight,
    ImplicitScoreMatching,
    Levels,
    LikelihoodWeight,
    MinSNRWeight,
    Objective,
    OneLevel,
    PathTarget,
    Perturbed,
    SlicedScoreMatching,
    UniformLogSNR,
    UniformTime,
    fisher_divergence,
    kl_bound,
)
from scorefield.sampling import chain
from scorefield.solvers import Langevin
from scorefield.train import Batches, Optimisation, TrainState, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unchecked")]
LEVEL = 0.5
MEANS = torch.tensor([[-1.0, -0.5], [1.0, -0.5], [0.0, 1.0]])
SDE = VE(0.3, 5.0)
TRUTH = GaussianMixture(SDE, torch.tensor([0.3, 0.3, 0.4]), MEANS, torch.full((3,), 0.1))
DATA = ArrayDataset(TRUTH.marginal(0.0).sample(torch.empty(20_000, 2), Noise.per_sample(range(20_000))))
ONE = {
    "denoising": DenoisingScoreMatching(OneLevel(LEVEL)),
    "exact": ImplicitScoreMatching(Perturbed(OneLevel(LEVEL))),
    "sliced": SlicedScoreMatching(Perturbed(OneLevel(LEVEL))),
    "sliced, normal v": SlicedScoreMatching(Perturbed(OneLevel(LEVEL)), projections=2, gaussian=True),
    "sliced, not reduced": SlicedScoreMatching(Perturbed(OneLevel(LEVEL)), projections=4, reduced=False),
}
ALL = {
    "NCSN": DenoisingScoreMatching(Levels(10)),
    "NCSN, sliced": SlicedScoreMatching(Perturbed(Levels(10))),
    "continuous": DenoisingScoreMatching(),
    "continuous, sliced": SlicedScoreMatching(),
    "likelihood": DenoisingScoreMatching(UniformTime(), LikelihoodWeight()),
    "importance sampling": DenoisingScoreMatching(UniformLogSNR(), LikelihoodWeight()),
    "adaptive": DenoisingScoreMatching(AdaptiveLogSNR(), LikelihoodWeight()),
    "EDM": DenoisingScoreMatching.edm(0.9),
    "min-SNR": DenoisingScoreMatching(weight=MinSNRWeight()),
    "velocity": DenoisingScoreMatching(weight=EDMWeight(1.0)),
}


def trained(objective: Objective, model: ScoreModule, steps: int = 1200, data: ArrayDataset = DATA) -> ScoreModule:
    state = TrainState(model, Optimisation(lr=3e-3, half_lives=(20_000.0,)), seed=0)
    for _ in train(state, Batches(data, Affine(), 256, seed=0), objective, steps=steps):
        pass
    return state.averaged()


def network(energy: bool = False, sde=SDE) -> ScoreModule:
    with seeded(0):
        net = MLP((2,), features=64, blocks=2)
    return Energy(Potential(net), sde, EDMPrecond(0.9)) if energy else Preconditioned(net, sde, EDMPrecond(0.9))


def fisher(model: ScoreModule, sigma: float, truth: GaussianMixture = TRUTH) -> float:
    t = truth.sde.time(torch.tensor(-2 * math.log(sigma), dtype=torch.float64))
    x = truth.marginal(float(t)).sample(torch.empty(4000, 2), Noise.per_sample(range(10**6, 10**6 + 4000)))
    with torch.no_grad():
        return float(fisher_divergence(model, truth, x, t).mean())


def test_one_level_by_denoising_slicing_and_the_exact_trace_agree():
    models = {name: trained(objective, network()) for name, objective in ONE.items()}
    found = {name: fisher(model, LEVEL) for name, model in models.items()}
    assert max(found.values()) < 0.05, found
    t = SDE.time(torch.tensor(-2 * math.log(LEVEL), dtype=torch.float64))
    x = TRUTH.marginal(float(t)).sample(torch.empty(2000, 2), Noise.per_sample(range(2000)))
    with torch.no_grad():
        scores: list[Tensor] = [model.score(x, t) for model in models.values()]
    for score in scores[1:]:  # each to the first nearer than the sum of their errors to the truth allows
        assert float(0.5 * ((score - scores[0]) ** 2).sum(1).mean()) < 0.05


@pytest.mark.parametrize("name", ALL)
def test_all_levels(name):
    """The mean over levels, and the bound of the Kullback-Leibler divergence that a likelihood-weighted error is."""
    model = trained(ALL[name], network())
    assert sum(fisher(model, sigma) for sigma in (0.31, 0.5, 0.8, 1.5, 3.0)) / 5 < 0.05
    x0 = DATA.x[:4000]
    with torch.no_grad():
        assert float(kl_bound(model, TRUTH, x0, noise=Noise.per_batch(9, 4000)).mean()) < 0.05


def test_an_energy():
    model = trained(DenoisingScoreMatching.edm(0.9), network(energy=True))
    assert max(fisher(model, sigma) for sigma in (0.31, 0.5, 0.8, 1.5, 3.0)) < 0.05


def test_the_path_target():
    from scorefield import VP

    sde = VP()
    truth = GaussianMixture(sde, torch.tensor([0.3, 0.3, 0.4]), MEANS, torch.full((3,), 0.1))
    model = trained(PathTarget(50), network(sde=sde), steps=600)
    assert max(fisher(model, sigma, truth) for sigma in (0.5, 1.0, 3.0)) < 0.05


def test_a_plain_score_knows_where_the_data_are_and_fails_where_there_are_none():
    """The naive score model is near the truth on the data, far from it between them, and Langevin keeps the modes."""
    far = GaussianMixture(SDE, torch.tensor([0.2, 0.8]), torch.tensor([[-4.0, 0.0], [4.0, 0.0]]), torch.full((2,), 0.3))
    x = far.marginal(0.0).sample(torch.empty(20_000, 2), Noise.per_sample(range(20_000)))
    with seeded(0):
        model = PlainScore(MLP((2,), features=64, blocks=2))
    model = trained(SlicedScoreMatching(Clean()), model, data=ArrayDataset(x))

    def error(points: Tensor) -> float:
        with torch.enable_grad():
            points = points.double().requires_grad_()
            (truth,) = torch.autograd.grad(far.log_prob(points, zero).sum(), points)
        return float(0.5 * ((model.score(points.detach().float(), zero) - truth) ** 2).sum(1).mean())

    zero, g = torch.zeros((), dtype=torch.float64), torch.Generator().manual_seed(0)
    with torch.no_grad():
        there, between = error(x[:4000]), error(0.3 * torch.randn(1000, 2, generator=g))
        start = 6 * torch.rand(1000, 2, generator=g) - 3
        chains = chain(model, start, 0.5, Langevin(length=0.5), 400, noise=Noise.per_sample(range(1000)))
    assert there < 0.1 and between > 10 * there
    assert 0.35 < float((chains[:, 0] > 0).float().mean()) < 0.65  # the weights are 0.2 and 0.8
