"""Derivatives inside `torch.inference_mode()`: the same numbers as outside, or a line that names the mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers.networks import awake
from torch import Tensor

import scorefield as sf
from scorefield import guidance, objectives, operators, posterior, solvers
from scorefield._derivatives import pulled_back
from scorefield.likelihood import log_prob


@dataclass(frozen=True, kw_only=True)
class Own(sf.GaussianSDE):
    """Two functions, from which the rates come by automatic differentiation."""

    def alpha(self, t: Tensor) -> Tensor:
        return (-(t**2)).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (1 - self.alpha(t) ** 2).sqrt()


def network(classes: int = 0, cond: int = 0) -> sf.nn.MLP:
    with torch.inference_mode(False), sf.nn.seeded(0):
        return awake(sf.nn.MLP((2,), classes, features=8, blocks=1, cond_features=cond))


def denoiser() -> sf.Preconditioned:
    return sf.Preconditioned(network(), sf.VP(), sf.EDMPrecond(1.0))


def energy() -> sf.Energy:
    return sf.Energy(sf.nn.Potential(network(classes=3, cond=2)), sf.VP(), sf.EDMPrecond(1.0))


def model(levels: int | None = None) -> sf.ScoreModel:
    transform = sf.data.Affine.of_levels(levels) if levels else sf.data.Affine(1.0, 2.0)
    return sf.ScoreModel(denoiser(), (2,), transform)


def classifier() -> guidance.Classifier:
    with torch.inference_mode(False), sf.nn.seeded(1):
        net = awake(sf.nn.MLPClassifier((2,), 3, features=8, blocks=1))
    return guidance.Classifier(denoiser(), sf.NoisyClassifier(net, sf.VP(), 1.0), torch.tensor([0, 2, 1]))


def bent() -> sf.ItoSDE:
    return sf.ItoSDE(
        f=lambda x, t: x.sin() - x * (1 + t), g=lambda x, t: 1 + 0.3 * x.cos(), terminal=sf.NormalPrior(1.0)
    )


def values() -> Tensor:
    return torch.randn(3, 2, generator=torch.Generator().manual_seed(0))


def measured() -> tuple:
    return operators.Identity(), 0.3 * torch.ones(1, 2), operators.Gaussian(0.5)


def squared() -> tuple:
    class Square:
        def A(self, x: Tensor) -> Tensor:
            return x**2

    return Square(), torch.ones(1, 2), operators.Gaussian(0.5)


def matching(objective: objectives.Objective, of=denoiser) -> Tensor:
    return objective(of(), values(), noise=sf.Noise.per_batch(0, 3))


def function_adjoint() -> Tensor:
    a = operators.FromFunction(lambda x: x.cumsum(-1), (2,))
    return a.A_adjoint(values())


def fitted() -> Tensor:
    data = sf.data.ArrayDataset(values().repeat(4, 1))
    made = sf.fit(network(), data, steps=3, seed=0, batch_size=4)
    return torch.cat([weight.flatten() for weight in made.denoiser.parameters()])


def trained_twice() -> Tensor:
    """A state that is made and trained in the mode, and a density that learns on the way."""
    data = sf.data.ArrayDataset(values().repeat(4, 1))
    density = objectives.AdaptiveLogSNR(bins=4)
    state = sf.TrainState(denoiser(), sf.Optimisation(widths=(0.1,)), seed=0)
    batches = sf.Batches(data, sf.data.Affine(), 4, seed=0)
    objective = objectives.DenoisingScoreMatching(density, objectives.LikelihoodWeight())
    return torch.stack([info.loss for info in sf.train(state, batches, objective, steps=3)])


# name: what is computed, all of it within the mode but the weights of networks
CASES = {
    "log_prob, exact": lambda: log_prob(denoiser(), values(), steps=3).nats,
    "log_prob, probes": lambda: log_prob(denoiser(), values(), steps=3, divergence=sf.Hutchinson(3)).nats,
    "log_prob, sketch": lambda: log_prob(denoiser(), values(), steps=3, divergence=sf.HutchPlusPlus(1, 1)).nats,
    "log_prob, adaptive": lambda: log_prob(denoiser(), values(), tolerance=1e-2).nats,
    "log_prob, its error": lambda: log_prob(denoiser(), values(), steps=3).solver_error,
    "log_prob in data units": lambda: model().log_prob(values(), steps=3).nats,
    "log_prob of an energy": lambda: log_prob(energy().given(label=1, cond=values()), values(), steps=2).nats,
    "bits/dim": lambda: model(4).log_prob(torch.tensor([[0, 3], [1, 2]]), steps=3).bits_per_dim,
    "elbo": lambda: model().elbo(values(), draws=8).nats,
    "noise_profile": lambda: torch.tensor(model().noise_profile(values()).error),
    "encode": lambda: model().encode(values(), steps=3),
    "decode": lambda: model().decode(values(), steps=3),
    "score": lambda: model().score(values(), 0.3),
    "score of an energy": lambda: energy().score(values(), 0.3, label=torch.tensor([0, 1, 2]), cond=values()),
    "samples of an energy": lambda: sf.ScoreModel(energy().given(label=1, cond=values()), (2,)).sample(
        seeds=range(3), steps=3
    ),
    "chain of an energy": lambda: sf.chain(
        energy().given(label=1, cond=values()),
        values(),
        0.1,
        solvers.HMC(0.1, steps=2),
        2,
        noise=sf.Noise.per_sample(range(3)),
    ),
    "classifier guidance": lambda: classifier()(values(), torch.tensor(0.3, dtype=torch.float64)),
    "classifier guidance, sampled": lambda: sf.ScoreModel(classifier(), (2,)).sample(seeds=range(3), steps=4),
    "DPS": lambda: guidance.DPS(denoiser(), *squared())(values(), 0.3),
    "PiGDM": lambda: guidance.PiGDM(denoiser(), *measured())(values(), 0.3),
    "MomentMatching": lambda: guidance.MomentMatching(denoiser(), *measured())(values(), 0.3),
    "MomentMatching, sampled": lambda: (
        model().guided(guidance.MomentMatching(denoiser(), *measured())).sample(seeds=range(3), steps=3)
    ),
    "DPS of a mask": lambda: guidance.DPS(
        denoiser(), operators.Mask(torch.tensor([True, False])), torch.ones(1, 1), operators.Gaussian(0.5)
    )(values(), 0.3),
    "DPS of a matrix": lambda: guidance.DPS(
        denoiser(), operators.Dense(torch.ones(1, 2), (2,)), torch.ones(1, 1), operators.Gaussian(0.5)
    )(values(), 0.3),
    "SplitGibbs": lambda: posterior.SplitGibbs(denoiser(), *squared(), rounds=2).sample((2,), seeds=range(3)),
    "DAPS": lambda: posterior.DAPS(denoiser(), *squared(), levels=2).sample((2,), seeds=range(3)),
    "REDdiff": lambda: posterior.REDdiff(denoiser(), *squared(), steps=3).sample((2,), seeds=range(3)),
    "TwistedSMC": lambda: posterior.TwistedSMC(denoiser(), *measured(), count=8, steps=4).sample((2,), seeds=range(3)),
    "rates by differentiation": lambda: torch.tensor([k[4:] for k in Own().knots([0.1, 0.5, 1.0])]),
    "samples of such a process": lambda: sf.ScoreModel(
        sf.Preconditioned(network(), Own(), sf.EDMPrecond(1.0)), (2,)
    ).sample(seeds=range(3), steps=4, solver=solvers.EulerMaruyama()),
    "Milstein": lambda: sf.integrate(
        sf.ScoreNetwork(network(), bent()),
        values(),
        [1.0, 0.5, 0.2],
        solvers.Milstein(),
        noise=sf.Noise.per_sample(range(3)),
    ),
    "integrals of a LinearSDE": lambda: sf.LinearSDE(lambda t: -1 - t, lambda t: 1 + t).alpha(torch.tensor([0.3])),
    "ImplicitScoreMatching": lambda: matching(objectives.ImplicitScoreMatching()),
    "SlicedScoreMatching": lambda: matching(
        objectives.SlicedScoreMatching(), lambda: sf.ScoreNetwork(network(), bent())
    ),
    "clean score matching": lambda: matching(objectives.ImplicitScoreMatching(), lambda: sf.PlainScore(network())),
    "PathTarget": lambda: matching(objectives.PathTarget(5), lambda: sf.ScoreNetwork(network(), bent())),
    "adjoint of a function": lambda: function_adjoint(),
    "fit": lambda: fitted(),
    "train": lambda: trained_twice(),
}


@pytest.mark.parametrize("name", CASES)
def test_inference_mode_changes_nothing(name, monkeypatch):
    """Weights are made outside of it, all else inside: models, data, conditions, measurements, states.

    Before, log_prob was +12.59 +- 0 nats in the mode where it is -2.32, and most others ended in the middle of torch.
    """
    wanted = CASES[name]()
    with torch.inference_mode():
        got = CASES[name]()
    assert torch.isfinite(wanted).all()
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)  # other kernels where no derivatives are wanted


def numpy_score(x: Tensor) -> Tensor:
    return -torch.from_numpy(np.tanh(x.detach().numpy()))


class Opaque:
    """A score that torch cannot see through."""

    sde = sf.VP()

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        return numpy_score(x)


class OpaqueNetwork(torch.nn.Module):
    """A network that torch cannot see through."""

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return numpy_score(x)


@dataclass(frozen=True, kw_only=True)
class Table(Own):
    """alpha from a table, as NumPy reads it."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.from_numpy(np.interp(t.detach().numpy(), [0.0, 1.0], [1.0, 0.1]))


def opaque_noise() -> Tensor:
    sde = sf.ItoSDE(f=lambda x, t: -x, g=lambda x, t: 1 + 0.1 * torch.from_numpy(np.cos(x.detach().numpy())))
    return sf.ScoreNetwork(network(), sde).score(values(), 0.3)


@pytest.mark.parametrize(
    "compute",
    [
        lambda: sf.log_prob(Opaque(), values()),
        lambda: sf.log_prob(sf.Preconditioned(OpaqueNetwork(), sf.VP(), sf.EDMPrecond(1.0)), values()),
        lambda: sf.log_prob(Opaque(), values(), divergence=sf.Hutchinson(2)),
        lambda: Table().knots([0.5]),
        opaque_noise,
    ],
    ids=["likelihood", "network", "probes", "rates of a process", "slope of its noise"],
)
def test_a_function_that_hides_its_derivative_is_refused(compute):
    """Its derivative counted as 0: likelihoods and rates were wrong without a word."""
    with pytest.raises(ValueError, match="without detach, no_grad or NumPy"):
        compute()


def test_a_constant_has_the_derivative_0():
    x = values()
    value, found = pulled_back(lambda x: torch.ones_like(x), x, torch.stack((x, x)), batched=True)
    assert torch.equal(value, torch.ones(3, 2)) and torch.equal(found, torch.zeros(2, 3, 2))
    value, found = pulled_back(lambda x: torch.ones_like(x), x)
    assert torch.equal(found, torch.zeros(3, 2))


@pytest.mark.parametrize("whole", [False, True], ids=["first", "twice"])
def test_gradients_pass_through_pulled_back_where_they_are_wanted(whole):
    x = values().double().requires_grad_(whole)
    value, found = pulled_back(lambda x: x.sin(), x)
    assert found.requires_grad == value.requires_grad == whole
    if whole:
        (second,) = torch.autograd.grad(found.sum(), x)
        torch.testing.assert_close(second, -x.sin().detach())


def made_inside() -> sf.Preconditioned:
    with torch.inference_mode():
        return sf.Preconditioned(awake(sf.nn.MLP((2,), features=8, blocks=1)), sf.VP(), sf.EDMPrecond(1.0))


def moved_inside() -> sf.Preconditioned:
    made = denoiser()
    with torch.inference_mode():
        return made.to(torch.float64)


@pytest.mark.parametrize("make", [made_inside, moved_inside])
@pytest.mark.parametrize(
    "compute",
    [
        lambda made: sf.log_prob(made, values().double(), steps=2),
        lambda made: guidance.DPS(made, *measured())(values().double(), 0.3),
        lambda made: list(
            sf.train(
                sf.TrainState(made, seed=0),
                sf.Batches(sf.data.ArrayDataset(values()), sf.data.Affine(), 3, seed=0, dtype=torch.float64),
                objectives.DenoisingScoreMatching(),
                steps=1,
            )
        ),
    ],
    ids=["likelihood", "guidance", "training"],
)
def test_weights_that_were_made_in_the_mode_are_refused_by_its_name(make, compute):
    with sf.nn.seeded(0):
        made = make()
    with pytest.raises(ValueError, match=r"inside torch.inference_mode\(\).*outside of it"):
        compute(made)


def test_a_model_that_is_loaded_in_the_mode_has_derivatives(tmp_path):
    model().save(tmp_path)
    with torch.inference_mode():
        loaded = sf.ScoreModel.load(tmp_path)
    assert torch.equal(loaded.log_prob(values(), steps=3).nats, model().log_prob(values(), steps=3).nats)


def test_what_a_process_remembers_from_the_mode_has_derivatives_afterwards():
    sde = sf.LinearSDE(lambda t: -1 - t, lambda t: 1 + t)
    with torch.inference_mode():
        sde.alpha(torch.tensor(0.3, dtype=torch.float64))
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(sde.alpha(t).log(), t)
    torch.testing.assert_close(slope, -1 - t.detach())
