"""Every objective learns the score of a known mixture: the Fisher divergence to the truth falls below 0.05."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from benchmarks.objectives import LEVELS, OBJECTIVES, SDE, TRUTH, draws, fisher, network, trained
from scorefield import VP, GaussianMixture, Noise, PlainScore
from scorefield.data import ArrayDataset
from scorefield.nn import MLP, seeded
from scorefield.objectives import Clean, PathTarget, SlicedScoreMatching, kl_bound
from scorefield.sampling import chain
from scorefield.solvers import Langevin

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unchecked")]
LEVEL = 0.5
DATA = draws(20_000)
ONE = {name: objective for name, objective in OBJECTIVES.items() if f"at {LEVEL}" in name}


def test_one_level_by_denoising_slicing_and_the_exact_trace_agree():
    models = {name: trained(objective, network(), DATA) for name, objective in ONE.items()}
    found = {name: fisher(model, LEVEL) for name, model in models.items()}
    assert max(found.values()) < 0.05, found
    t = SDE.time(torch.tensor(-2 * math.log(LEVEL), dtype=torch.float64))
    x = TRUTH.marginal(float(t)).sample(torch.empty(2000, 2), Noise.per_sample(range(2000)))
    with torch.no_grad():
        scores: list[Tensor] = [model.score(x, t) for model in models.values()]
    for score in scores[1:]:  # each to the first nearer than the sum of their errors to the truth allows
        assert float(0.5 * ((score - scores[0]) ** 2).sum(1).mean()) < 0.05


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in ONE])
def test_all_levels(name):
    """The mean over levels, and the bound of the Kullback-Leibler divergence that a likelihood-weighted error is."""
    model = trained(OBJECTIVES[name], network("energy" in name), DATA)
    assert sum(fisher(model, sigma) for sigma in LEVELS) / len(LEVELS) < 0.05
    x0 = DATA.x[:4000]
    with torch.no_grad():
        assert float(kl_bound(model, TRUTH, x0, noise=Noise.per_batch(9, 4000)).mean()) < 0.05


def test_the_path_target():
    sde = VP()
    truth = GaussianMixture(sde, TRUTH.weights, TRUTH.means, TRUTH.variances)
    model = trained(PathTarget(50), network(sde=sde), DATA, steps=600)
    assert max(fisher(model, sigma, truth) for sigma in (0.5, 1.0, 3.0)) < 0.05


def test_a_plain_score_knows_where_the_data_are_and_fails_where_there_are_none():
    """The naive score model is near the truth on the data, far from it between them, and Langevin keeps the modes."""
    far = GaussianMixture(SDE, torch.tensor([0.2, 0.8]), torch.tensor([[-4.0, 0.0], [4.0, 0.0]]), torch.full((2,), 0.3))
    x = far.marginal(0.0).sample(torch.empty(20_000, 2), Noise.per_sample(range(20_000)))
    with seeded(0):
        model = PlainScore(MLP((2,), features=64, blocks=2))
    model = trained(SlicedScoreMatching(Clean()), model, ArrayDataset(x))

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
