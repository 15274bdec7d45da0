"""Scores, noises and velocities keep their digits at small noise: those of float32 are those of float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from helpers.processes import PROCESSES, name
from torch import Tensor, nn

from scorefield import (
    EDM,
    VE,
    VP,
    Denoiser,
    EDMPrecond,
    Energy,
    GaussianMixture,
    GaussianSDE,
    LinearSDE,
    Noise,
    NoisePrecond,
    Preconditioned,
    ScorePrecond,
    SubVP,
    VelocityPrecond,
    chain,
    elbo,
    log_prob,
)
from scorefield.guidance import DDNM, DPS, Classifier, ClassifierFree, DiffPIR, MomentMatching, PiGDM, ScoreALD
from scorefield.likelihood import HutchPlusPlus
from scorefield.nn import MLP, MLPClassifier, Potential, seeded
from scorefield.objectives import DenoisingScoreMatching, Levels, fisher_divergence
from scorefield.operators import Dense, Gaussian
from scorefield.score import (
    Coefs,
    DDPMPrecond,
    FromScore,
    NCSNPrecond,
    NoisyClassifier,
    Precond,
    Prediction,
    ScoreNetwork,
    TimePrecond,
    VEPrecond,
    VPPrecond,
    as_denoiser,
)
from scorefield.solvers import BAOAB, Langevin

U = 2.0**-24  # rounding of float32
FINE = [VP(), SubVP(), VE(1e-4, 50.0), EDM(), LinearSDE(lambda t: -2 * t, lambda t: 1 + t)]
VIEWS = ["noise", "score", "velocity"]
every_process = pytest.mark.parametrize("sde", [*PROCESSES, *FINE[2:]], ids=name)
PRECONDS: list[Precond] = [
    EDMPrecond(0.5),
    NoisePrecond(),
    ScorePrecond(),
    TimePrecond(),
    VelocityPrecond(),
    VPPrecond(),
    VEPrecond(2.0),
    NCSNPrecond(0.01, 50.0, 10),
    DDPMPrecond(),
    DDPMPrecond(prediction=Prediction.VELOCITY),
    DDPMPrecond(prediction=Prediction.DATA),
]
every_precond = pytest.mark.parametrize("precond", PRECONDS, ids=str)


def normals(*shape: int, draw: int = 0) -> Tensor:
    return Noise.per_sample([7]).normal(torch.empty(1, *shape, dtype=torch.float64), draw)[0]


def early(sde: GaussianSDE) -> Tensor:
    """The least time, where sampling ends, and the rest."""
    return torch.tensor([sde.t_min, sde.t_end, 0.02 * sde.T, 0.4 * sde.T, sde.T], dtype=torch.float64)


def states(sde: GaussianSDE, t: Tensor) -> Tensor:
    """Noisy data that float32 holds exactly."""
    return sde.perturb(0.5 * normals(len(t), 3), t, normals(len(t), 3, draw=1)).float().double()


class Bounded(nn.Module):
    """A network that hardly feels the rounding of what it is told, with the class as a shift."""

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        level = noise[:, None] if noise.ndim else noise
        shift = 0 if label is None else label[:, None] if label.ndim else label
        return (1.3 * x + 0.2).sin() + 0.4 * x.roll(1, -1) + level.tanh() + 0.3 * shift


def loss_of_digits(model: Denoiser, twin: Denoiser, x: Tensor, t: Tensor, view: str) -> float:
    """Largest error of the float32 model against its float64 twin, relative to the view of each sample."""
    got, wanted = getattr(model, view)(x.float(), t).detach(), getattr(twin, view)(x, t).detach()
    assert got.dtype == torch.float32
    return float(((got.double() - wanted).norm(dim=1) / wanted.norm(dim=1)).max())


@every_process
@every_precond
def test_views_of_a_network_are_those_of_float64(sde, precond):
    """(x - alpha D) / sigma^k loses all digits at the least times of sub-VP; kills every wrong `rest` as well."""
    model, t = Preconditioned(Bounded(), sde, precond), early(sde)
    # D = F is all that a network of the data says: what is left of ehat is a difference
    if precond == PRECONDS[-1]:
        t = t[sde.sigma(t) > 0.1]
    x = states(sde, t)
    for view in VIEWS:
        assert loss_of_digits(model, model, x, t, view) < 100 * U, view


@every_process
@every_precond
def test_the_share_of_x_in_the_noise_is_what_the_skip_leaves(sde, precond):
    """The closed forms against 1 - alpha skip, and one at a time."""
    t = early(sde)
    coefs, alpha, sigma = precond(sde, t), sde.alpha(t), sde.sigma(t)
    rest = precond.rest(coefs, alpha, sigma)
    torch.testing.assert_close(rest, 1 - alpha * coefs.skip, rtol=1e-12, atol=1e-15)
    each = [precond.rest(precond(sde, s), sde.alpha(s), sde.sigma(s)) for s in t]
    torch.testing.assert_close(rest, torch.stack(each), rtol=1e-13, atol=0)


@pytest.mark.parametrize("precond", [NoisePrecond(), VPPrecond(), DDPMPrecond()], ids=str)
@pytest.mark.parametrize("sde", FINE, ids=name)
def test_the_noise_of_a_noise_network_is_its_output_to_the_bit(sde, precond):
    """As of an imported network of sub-VP at t = 1e-3, which came back 3e-4 off."""
    model, t = Preconditioned(Bounded(), sde, precond), early(sde)
    x = states(sde, t).float()
    f = model.raw(x, precond(sde, t))
    assert torch.equal(model.noise(x, t), f)
    assert torch.equal(model.given(label=0).noise(x, t), f)
    torch.testing.assert_close(model.score(x, t), -f / sde.sigma(t)[:, None].float(), rtol=4 * U, atol=0)


@pytest.mark.parametrize("precond", [ScorePrecond(), TimePrecond(), VEPrecond()], ids=str)
@pytest.mark.parametrize("sde", FINE, ids=name)
def test_the_score_of_a_score_network_is_its_output_over_sigma(sde, precond):
    model, t = Preconditioned(Bounded(), sde, precond), early(sde)
    x = states(sde, t).float()
    f = model.raw(x, precond(sde, t))
    torch.testing.assert_close(-model.noise(x, t), f, rtol=4 * U, atol=0)
    torch.testing.assert_close(model.score(x, t), f / sde.sigma(t)[:, None].float(), rtol=4 * U, atol=0)


def test_the_velocity_of_a_velocity_network_is_its_output():
    for sde, precond in ((VP(), VelocityPrecond()), (VP(), DDPMPrecond(prediction=Prediction.VELOCITY))):
        model, t = Preconditioned(Bounded(), sde, precond), early(sde)
        x = states(sde, t).float()
        torch.testing.assert_close(model.velocity(x, t), model.raw(x, precond(sde, t)), rtol=8 * U, atol=8 * U)


class Yours(Precond):
    """A preconditioner as a user writes it: EDM's with another skip, and no `rest`."""

    def __call__(self, sde: GaussianSDE, t: Tensor) -> Coefs:
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        return Coefs(1 / (alpha + sigma), sigma / (alpha + sigma), torch.ones_like(t), t)


@pytest.mark.parametrize("sde", FINE, ids=name)
def test_a_preconditioner_of_yours_needs_no_closed_form(sde):
    """Its coefficients are subtracted in float64 on the host, where what is lost is 1e-16 / sigma of x."""
    model, t = Preconditioned(Bounded(), sde, Yours()), early(sde)
    x = states(sde, t)
    for view in VIEWS:
        assert loss_of_digits(model, model, x, t, view) < 200 * U, view


def mixture(sde: GaussianSDE) -> GaussianMixture:
    root = 0.4 * normals(2, 3, 3)
    return GaussianMixture(sde, torch.tensor([1.0, 2.0]), 0.6 * normals(2, 3, draw=2), root @ root.mT + 0.1)


@every_process
def test_views_of_a_mixture_are_those_of_float64(sde):
    """Of float32 states, and wholly in float32."""
    t = early(sde)
    x, twin = states(sde, t), mixture(sde)
    for view in VIEWS:
        assert loss_of_digits(mixture(sde), twin, x, t, view) < 2 * U, view
        # far out the mixture's own logits round: 1e-4 for sigma = 50
        assert loss_of_digits(mixture(sde).float(), twin, x, t, view) < 1000 * U, view


class PlainScore:
    """A score as a user writes it."""

    def __init__(self, sde: GaussianSDE) -> None:
        self.sde = sde

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        return -(x - 0.3) / (self.sde.alpha(t) ** 2 * 0.3 + self.sde.sigma(t) ** 2).to(x.dtype)[:, None]


def of_classes(sde: GaussianSDE, dtype: torch.dtype) -> NoisyClassifier:
    with seeded(0):
        net = MLPClassifier((3,), 4, features=16)
    for p in net.parameters():
        if not bool(p.any()):
            p.data.copy_(0.3 * normals(p.numel()).reshape(p.shape))
    return NoisyClassifier(net.to(dtype), sde, 0.5)


def network(sde: GaussianSDE) -> Denoiser:
    return Preconditioned(Bounded(), sde, EDMPrecond(0.5))


def energy(sde: GaussianSDE, dtype: torch.dtype) -> Energy:
    with seeded(0):
        net = MLP((3,), features=16, blocks=1)
    for p in net.parameters():
        if not bool(p.any()):
            p.data.copy_(0.3 * normals(p.numel()).reshape(p.shape))
    return Energy(Potential(net).to(dtype), sde, EDMPrecond(0.5))


MATRIX, Y = Dense(normals(2, 3, draw=3)), torch.tensor([[0.3, -0.2]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 3, 1])
WRAPPERS: dict[str, Callable[[GaussianSDE, torch.dtype], Denoiser]] = {
    "label": lambda sde, dtype: network(sde).given(label=LABELS),
    "classifier-free": lambda sde, dtype: ClassifierFree(network(sde).given(label=LABELS), network(sde), 3.0),
    "interval": lambda sde, dtype: ClassifierFree(network(sde).given(label=1), network(sde), 3.0, (0.0, 0.5)),
    "classifier": lambda sde, dtype: Classifier(network(sde), of_classes(sde, dtype), LABELS % 4, 1.5),
    "energy": lambda sde, dtype: energy(sde, dtype),
    "mixture": lambda sde, dtype: mixture(sde).to(dtype),
    "score": lambda sde, dtype: FromScore(PlainScore(sde)),
    "score network": lambda sde, dtype: FromScore(ScoreNetwork(Bounded(), sde)),
    **{
        method.__name__: lambda sde, dtype, method=method: method(network(sde), MATRIX, Y, Gaussian(0.1))
        for method in (MomentMatching, PiGDM, DPS, DiffPIR, DDNM, ScoreALD)
    },
}
every_wrapper = pytest.mark.parametrize("wrapper", WRAPPERS)


@every_wrapper
@pytest.mark.parametrize("sde", [VP(), SubVP(), VE(1e-4, 50.0)], ids=name)
def test_wrappers_pass_the_digits_on(wrapper, sde):
    """Guidance, conditions, posteriors, energies and scores, from the least time on; (x - alpha D) / sigma has none."""
    t = early(sde)[:3]
    t = torch.cat((t, t[:2]))  # one for each label
    model, twin = (WRAPPERS[wrapper](sde, dtype) for dtype in (torch.float32, torch.float64))
    x = states(sde, t)
    for view in VIEWS:
        assert loss_of_digits(model, twin, x, t, view) < 2000 * U, view


@every_wrapper
def test_the_views_are_one_function(wrapper):
    """x = alpha D + sigma ehat, the score is -ehat / sigma, the velocity alpha ehat - sigma D; also for one time."""
    sde = VP()
    model, x = WRAPPERS[wrapper](sde, torch.float64), normals(5, 3)
    t = torch.tensor([0.05, 0.2, 0.4, 0.6, 0.9], dtype=torch.float64)
    alpha, sigma = sde.alpha(t)[:, None], sde.sigma(t)[:, None]
    denoised, noise = (v.detach() for v in model.predictions(x, t))
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(denoised, model(x, t).detach(), **close)
    torch.testing.assert_close(alpha * denoised + sigma * noise, x, **close)
    torch.testing.assert_close(model.noise(x, t).detach(), noise, **close)
    torch.testing.assert_close(model.score(x, t).detach(), -noise / sigma, **close)
    torch.testing.assert_close(model.velocity(x, t).detach(), alpha * noise - sigma * denoised, **close)
    if "score" not in wrapper:  # the plain one takes a time for each
        one = model.predictions(x, t[2])
        for got, expected in zip(one, model.predictions(x, t[2].expand(5)), strict=True):
            torch.testing.assert_close(got.detach(), expected.detach(), **close)


class Simple(Denoiser):
    """A denoiser as a user writes it, without `predictions`."""

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return x / (1 + x**2)


@pytest.mark.parametrize("sde", [VP(), SubVP(), EDM()], ids=name)
def test_what_is_left_of_a_denoiser_alone_is_as_documented(sde):
    """About half of u |x| / sigma. Kills a default that rounds both terms before their difference: twice as much."""
    t = torch.full((300,), sde.t_end, dtype=torch.float64)
    x, model = states(sde, t), Simple(sde)
    error = (model.noise(x.float(), t).double() - model.noise(x, t)).norm() / (U * x.norm() / sde.sigma(t[0]))
    assert 0.2 < float(error) < 0.6


def test_a_score_is_handed_through_to_the_bit():
    for sde in FINE:
        plain, t = PlainScore(sde), early(sde)
        x = states(sde, t).float()
        model, sigma = as_denoiser(plain), sde.sigma(t)[:, None].float()
        assert torch.equal(model.score(x, t), plain.score(x, t))
        assert torch.equal(model.given().score(x, t), plain.score(x, t))
        torch.testing.assert_close(model.noise(x, t), -sigma * plain.score(x, t), rtol=4 * U, atol=0)


@pytest.mark.parametrize("corrector", [Langevin(math.sqrt(0.05), length=1.0), BAOAB(0.1, length=1.0)], ids=repr)
@pytest.mark.parametrize("model", [mixture(SubVP()), network(SubVP())], ids=["mixture", "network"])
def test_langevin_chains_at_the_least_noise_are_those_of_float64(corrector, model):
    """The same chain, number by number; on the score by difference they end at sizes of thousands."""
    if isinstance(model, Preconditioned):  # its score is of size 1 / sigma there: steps in units of sigma
        corrector = type(corrector)(0.1)
    ends = []
    for dtype in (torch.float32, torch.float64):
        start, noise = normals(8, 3).to(dtype), Noise.per_sample(range(8))
        ends.append(chain(model, start, SubVP().t_end, corrector, 50, noise=noise).double())
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)


def test_a_model_in_float32_is_at_no_distance_from_itself():
    """The Fisher divergence at the least time, where the score by difference gave 1e10."""
    for sde in FINE:
        t = torch.tensor(sde.t_min, dtype=torch.float64)
        x = states(sde, t.expand(64))
        apart = fisher_divergence(mixture(sde).float(), mixture(sde), x.float(), t)
        size = 0.5 * (mixture(sde).score(x, t) ** 2).sum(1)
        assert float((apart / size).max()) < (200 * U) ** 2


@pytest.mark.parametrize("rule", [{}, {"tolerance": 1e-4}, {"divergence": HutchPlusPlus(2, 1)}], ids=str)
@pytest.mark.parametrize("sde", [SubVP(), VE(1e-4, 50.0)], ids=name)
@pytest.mark.usefixtures("unchecked")
def test_likelihoods_in_float32_are_those_of_float64(sde, rule):
    """By the velocity; w u - D loses 1e-3 nats of sub-VP's, and all of what lies below t_min."""
    x = 0.6 * normals(4, 3)
    one, other = (
        log_prob(mixture(sde).to(dtype), x.float().to(dtype), **rule) for dtype in (torch.float32, torch.float64)
    )
    assert one.truncation is not None and other.truncation is not None
    torch.testing.assert_close(one.nats, other.nats, rtol=0, atol=1e-4)
    torch.testing.assert_close(one.truncation, other.truncation, rtol=1e-4, atol=1e-9)


@pytest.mark.usefixtures("unchecked")
def test_the_bound_in_float32_is_that_of_float64():
    x, kinds = 0.6 * normals(8, 3), (torch.float32, torch.float64)
    one, other = (elbo(mixture(SubVP()).to(kind), x.float().to(kind), draws=16).nats for kind in kinds)
    torch.testing.assert_close(one, other, rtol=0, atol=0.05)


def test_the_density_of_an_energy_in_float32_is_that_of_float64():
    sde = SubVP()
    t = early(sde)
    x = states(sde, t)
    got, wanted = (energy(sde, dtype).log_density(x.to(dtype), t).detach() for dtype in (torch.float32, torch.float64))
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=0)


def test_the_loss_of_a_score_in_float32_is_that_of_float64():
    """ehat - eps of a score network, which D - x_0 knows to u |x| / sigma alone."""
    sde, losses = SubVP(), []
    for dtype in (torch.float32, torch.float64):
        model = ScoreNetwork(Bounded(), sde)
        losses.append(
            DenoisingScoreMatching(Levels(8))(model, normals(16, 3).to(dtype), noise=Noise.per_batch(0, 16)).double()
        )
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
