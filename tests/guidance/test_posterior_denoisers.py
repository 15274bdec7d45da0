"""Guided denoisers against closed forms: for a normal prior the posterior's own denoiser is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefield import (
    VE,
    VP,
    Denoiser,
    EDMPrecond,
    GaussianMixture,
    Noise,
    Preconditioned,
    gaussian,
    grids,
    log_prob,
    sample,
)
from scorefield.guidance import DDNM, DPS, DiffPIR, Measurement, MomentMatching, PiGDM, PosteriorDenoiser, ScoreALD
from scorefield.nn import MLP, seeded
from scorefield.operators import (
    Blur,
    Dense,
    FromFunction,
    Gaussian,
    Mask,
    Noiseless,
    PhaseRetrieval,
    Poisson,
    SuperResolution,
    gaussian_kernel,
)
from scorefield.operators.svd import matrix_of
from scorefield.solvers import (
    DDIM,
    Ancestral,
    BogackiShampine,
    EulerMaruyama,
    Heun,
    Langevin,
    PredictorCorrector,
    UniPC,
)

SDE = VP()
METHODS = [MomentMatching, PiGDM, DPS, DiffPIR, ScoreALD, DDNM]
D, M, SIGMA = 5, 3, 0.3


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Noise.per_sample([seed]).normal(torch.zeros(1, *shape, dtype=torch.float64))[0]


def covariance(seed: int = 3) -> Tensor:
    root = normal(D, D, seed=seed)
    return root @ root.mT / D + 0.1 * torch.eye(D, dtype=torch.float64)


MATRIX, Y = normal(M, D, seed=1), normal(1, M, seed=2)
PRIOR = gaussian(SDE, normal(D, seed=4), covariance())
TIMES = [torch.tensor(t, dtype=torch.float64) for t in (0.01, 0.3, 1.0)] + [
    torch.tensor([0.02, 0.2, 0.6, 0.9]).double()
]


@pytest.mark.parametrize("sde", [SDE, VE()], ids=["VP", "VE"])
@pytest.mark.parametrize("t", TIMES, ids=lambda t: str(t.tolist()))
def test_moment_matching_is_exact_for_a_normal_prior(sde, t):
    prior = gaussian(sde, PRIOR.means[0], covariance())
    x = prior.marginal(0.3).sample(torch.empty(4, D, dtype=torch.float64), Noise.per_sample(range(4)))
    found = MomentMatching(prior, Dense(MATRIX), Y, Gaussian(SIGMA), iterations=M)(x, t)
    torch.testing.assert_close(found, prior.posterior(MATRIX, Y[0], SIGMA)(x, t), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("t", TIMES, ids=lambda t: str(t.tolist()))
def test_pigdm_is_exact_for_an_isotropic_normal_prior(t):
    x, v = normal(4, D, seed=6), 0.7
    prior = gaussian(SDE, PRIOR.means[0], torch.tensor(v))
    guided = PiGDM(prior, Dense(MATRIX), Y, Gaussian(SIGMA), sigma_data=math.sqrt(v))
    torch.testing.assert_close(guided(x, t), prior.posterior(MATRIX, Y[0], SIGMA)(x, t), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("t", TIMES[:3], ids=lambda t: str(t.tolist()))
def test_the_twist_is_the_law_of_the_measurement_given_the_state(t):
    """log p(y | x_t) = log p(x_t | y) - log p(x_t) but for a constant, where the method is exact."""
    x, isotropic = normal(4, D, seed=6), gaussian(SDE, PRIOR.means[0], torch.tensor(0.7))
    for prior, method in {
        PRIOR: MomentMatching(PRIOR, Dense(MATRIX), Y, Gaussian(SIGMA), iterations=M),
        isotropic: PiGDM(isotropic, Dense(MATRIX), Y, Gaussian(SIGMA), sigma_data=math.sqrt(0.7)),
    }.items():
        exact = prior.posterior(MATRIX, Y[0], SIGMA).log_prob(x, t) - prior.log_prob(x, t)
        found = method.twisted(x, t).log_twist
        torch.testing.assert_close(found - found[0], exact - exact[0], rtol=1e-4, atol=1e-6)


def test_pigdm_is_not_exact_for_another_prior():
    x, t = normal(4, D, seed=6), TIMES[1]
    other = PiGDM(PRIOR, Dense(MATRIX), Y, Gaussian(SIGMA))
    assert float((other(x, t) - PRIOR.posterior(MATRIX, Y[0], SIGMA)(x, t)).abs().max()) > 0.01


def test_noise_of_each_measurement_by_itself():
    """Counts have their own variances: as if each row were divided by its standard deviation."""
    y, noise = Y.abs(), Poisson(0.2)
    std = noise.variance(y).sqrt()[0]
    exact = PRIOR.posterior(MATRIX / std[:, None], (y / std)[0], 1.0)
    x, t = normal(4, D), TIMES[1]
    torch.testing.assert_close(MomentMatching(PRIOR, Dense(MATRIX), y, noise)(x, t), exact(x, t), rtol=1e-8, atol=1e-8)


def test_formulas_against_dense_algebra():
    x, t = normal(4, D, seed=5), TIMES[1]
    (knot,) = SDE.knots([float(t)])
    denoised, s2, eye = PRIOR(x, t), (knot.sigma / knot.alpha) ** 2, torch.eye(M, dtype=torch.float64)
    residual = Y - denoised @ MATRIX.mT

    def ridge(r: Tensor, spread: float) -> Tensor:
        return spread * torch.linalg.solve(spread * MATRIX @ MATRIX.mT + SIGMA**2 * eye, r.mT).mT @ MATRIX

    operator, noise = Dense(MATRIX), Gaussian(SIGMA)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(
        DiffPIR(PRIOR, operator, Y, noise, weight=2.0)(x, t), denoised + ridge(residual, s2 / 2), **close
    )
    torch.testing.assert_close(
        ScoreALD(PRIOR, operator, Y, noise)(x, t), denoised + ridge(Y - x / knot.alpha @ MATRIX.mT, s2), **close
    )
    pseudo = torch.linalg.pinv(MATRIX)
    torch.testing.assert_close(DDNM(PRIOR, operator, Y, noise)(x, t), denoised + residual @ pseudo.mT)
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((Y - PRIOR(point, t) @ MATRIX.mT).norm(dim=1).sum(), point)
    along = torch.nn.functional.normalize(residual, dim=1) @ MATRIX  # A^T along the residual
    c = along.square().sum(1, keepdim=True)
    scale = (M / (c * s2 / (1 + s2) + SIGMA**2)) ** 0.5 * knot.sigma**2 / knot.alpha
    torch.testing.assert_close(DPS(PRIOR, operator, Y, noise, zeta=0.5)(x, t), denoised - 0.5 * scale * gradient)


def test_dps_stays_where_the_residual_is_nought():
    x, t = normal(1, D, seed=6), TIMES[1]
    y = PRIOR(x, t) @ MATRIX.mT
    torch.testing.assert_close(DPS(PRIOR, Dense(MATRIX), y, Noiseless())(x, t), PRIOR(x, t), rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_unit_of_the_measurement_does_not_matter(method):
    x, t = normal(4, D, seed=6), TIMES[1]
    one = method(PRIOR, Dense(MATRIX), Y, Gaussian(SIGMA))
    other = method(PRIOR, Dense(300 * MATRIX), 300 * Y, Gaussian(300 * SIGMA))
    torch.testing.assert_close(other(x, t), one(x, t), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("operator", [SuperResolution(2), Blur(gaussian_kernel(3, 1.0))], ids=["gram", "no gram"])
def test_the_ridge_is_that_of_the_matrix(operator):
    matrix, x0, spread = matrix_of(operator, (1, 4, 4)), normal(3, 1, 4, 4), torch.tensor(0.5).double()
    y = operator.A(normal(3, 1, 4, 4, seed=9))
    residual, weights = Measurement(operator, y, Gaussian(SIGMA)).ridge(x0, spread)
    system = spread * matrix @ matrix.mT + SIGMA**2 * torch.eye(len(matrix), dtype=torch.float64)
    expected = torch.linalg.solve(system, (y - operator.A(x0)).flatten(1).mT).mT
    torch.testing.assert_close(residual, y - operator.A(x0))
    torch.testing.assert_close(weights.flatten(1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_does_not_depend_on_its_batch_mates(method: type[PosteriorDenoiser]):
    x, t, y = normal(6, D), torch.linspace(0.1, 0.9, 6, dtype=torch.float64), normal(6, M, seed=9)
    guided = method(PRIOR, Dense(MATRIX), y, Gaussian(SIGMA))
    together = guided(x, t)
    for k in range(6):
        alone = guided.select(torch.tensor([k]), 6)(x[k : k + 1], t[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-9, atol=1e-9)
    one = method(PRIOR, Dense(MATRIX), y[:1], Gaussian(SIGMA))
    torch.testing.assert_close(one(x, t)[0], together[0], rtol=1e-9, atol=1e-9)


class Scaled(Denoiser):
    """A prior with a condition for each sample."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return (1 + 0.1 * label[:, None]) * PRIOR(x, t)


@pytest.mark.parametrize("method", METHODS)
def test_each_sample_of_a_batch_has_its_own_measurement_and_condition(method: type[PosteriorDenoiser]):
    prior = Scaled(SDE).given(label=torch.arange(5))
    guided = method(prior, Dense(MATRIX), normal(5, M, seed=9), Gaussian(SIGMA))
    times = grids.uniform_log_snr(SDE, 8)
    whole = sample(guided, (D,), times, DDIM(), seeds=range(5))
    split = sample(guided, (D,), times, DDIM(), seeds=range(5), batch_size=2)
    torch.testing.assert_close(whole, split, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", [m for m in METHODS if m is not DDNM])
def test_noise_without_bound_leaves_the_prior(method: type[PosteriorDenoiser]):
    x, t = normal(4, D), TIMES[1]
    torch.testing.assert_close(method(PRIOR, Dense(MATRIX), Y, Gaussian(1e6))(x, t), PRIOR(x, t), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("method", [MomentMatching, PiGDM, DiffPIR, DDNM])
def test_without_noise_the_samples_agree_with_the_measurement(method: type[PosteriorDenoiser]):
    guided = method(PRIOR, Dense(MATRIX), Y, Noiseless())
    x = sample(guided, (D,), grids.uniform_log_snr(SDE, 60), Ancestral(), seeds=range(20))
    assert float((x @ MATRIX.mT - Y).abs().max()) < (1e-3 if method is PiGDM else 1e-6)


SOLVERS = [
    (Ancestral(), 25),
    (EulerMaruyama(), 100),
    (Heun(), 15),
    (UniPC(), 15),
    (PredictorCorrector(DDIM(), Langevin()), 25),
    (BogackiShampine(1e-4), None),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("solver", "steps"), SOLVERS, ids=lambda v: type(v).__name__)
def test_it_composes_with_every_solver(solver, steps):
    """The same samples as those of the exact posterior's denoiser."""
    times = grids.uniform_log_snr(SDE, steps) if steps else [SDE.T, SDE.t_end, 0.0]
    guided = MomentMatching(PRIOR, Dense(MATRIX), Y, Gaussian(SIGMA))
    found, exact = (
        sample(model, (D,), times, solver, seeds=range(4)) for model in (guided, PRIOR.posterior(MATRIX, Y[0], SIGMA))
    )
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_gradients_pass_through_so_that_it_has_a_likelihood():
    posterior, x = PRIOR.posterior(MATRIX, Y[0], SIGMA), PRIOR.means.expand(3, D) + 0.1 * normal(3, D)
    found = log_prob(MomentMatching(PRIOR, Dense(MATRIX), Y, Gaussian(SIGMA)), x).nats
    torch.testing.assert_close(found, log_prob(posterior, x).nats, rtol=1e-5, atol=1e-5)


def learned() -> Preconditioned:
    """An untrained network, whose Jacobian is neither symmetric nor positive."""
    with seeded(1):
        net = MLP((D,), features=32, blocks=2)
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p += 0.3 * normal(*p.shape, seed=k).float()
    return Preconditioned(net, SDE, EDMPrecond(1.0))


@pytest.mark.parametrize("noise", [Noiseless(), Gaussian(0.01)], ids=["none", "little"])
def test_the_jacobian_of_a_network_makes_no_nan(noise):
    model = learned()
    x = normal(64, D).float()
    point = x.clone().requires_grad_()
    jacobian = torch.stack(
        [torch.autograd.grad(model(point, TIMES[2])[:, k].sum(), point, retain_graph=True)[0] for k in range(D)], 1
    )
    gram = MATRIX.float() @ jacobian @ MATRIX.float().mT
    assert float(torch.linalg.eigvalsh(0.5 * (gram + gram.mT)).min()) < 0  # the case that the test is about
    for t in TIMES:
        if t.ndim == 0:
            found = MomentMatching(model, Dense(MATRIX), Y.float(), noise, iterations=20)(x, t)
            assert bool(torch.isfinite(found).all())


def test_any_operator_will_do_for_dps():
    x, t = normal(3, D), TIMES[1]
    phases = PhaseRetrieval(Dense(MATRIX))
    found = DPS(PRIOR, phases, Y.abs(), Gaussian(0.1))(x, t)
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((Y.abs() - phases.A(PRIOR(point, t))).norm(dim=1).sum(), point)
    cosine = torch.nn.functional.cosine_similarity(found - PRIOR(x, t), -gradient)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    with pytest.raises(TypeError, match="needs a linear operator"):
        PiGDM(PRIOR, phases, Y, Gaussian(0.1))(x, t)


class Theirs:
    """An operator of another library, with another idea of a base class."""

    def A(self, x: Tensor) -> Tensor:
        return x[:, :2]

    def A_adjoint(self, y: Tensor) -> Tensor:
        return torch.nn.functional.pad(y, (0, D - 2))

    A_dagger = A_adjoint


def test_operators_of_other_libraries_will_do():
    x, t = normal(3, D), TIMES[1]
    for method in METHODS:
        ours = method(PRIOR, Mask(torch.arange(D) < 2), Y[:, :2], Gaussian(SIGMA))
        found = method(PRIOR, Theirs(), Y[:, :2], Gaussian(SIGMA))
        torch.testing.assert_close(found(x, t), ours(x, t), rtol=1e-5, atol=1e-5)


BAD = [
    (Y[0], "must be \\(1, 3\\)"),
    (Y[:, :2], "must be \\(1, 3\\)"),
    (Y.repeat(2, 1), "a row for each of 4 samples"),
    (Y.to(torch.complex128), "measures real numbers; got a complex y"),
]


@pytest.mark.parametrize(("y", "message"), BAD, ids=[m for _, m in BAD])
def test_measurements_that_do_not_fit(y, message):
    with pytest.raises(ValueError, match=message):
        MomentMatching(PRIOR, Dense(MATRIX), y, Gaussian(SIGMA))(normal(4, D), TIMES[1])


def test_measurements_that_are_none():
    with pytest.raises(ValueError, match=r"got torch.uint8: convert integers"):
        PiGDM(PRIOR, Dense(MATRIX), torch.zeros(1, M, dtype=torch.uint8), Gaussian(SIGMA))
    with pytest.raises(ValueError, match="2 values that are not finite"):
        PiGDM(PRIOR, Dense(MATRIX), torch.tensor([[math.nan, math.inf, 0.0]]), Gaussian(SIGMA))
    guided = PiGDM(PRIOR, Dense(MATRIX), normal(3, M), Gaussian(SIGMA))
    with pytest.raises(ValueError, match="3 rows for 5 samples"):
        guided.select(torch.arange(5), 5)
    with pytest.raises(ValueError, match="not linear"):
        FromFunction(lambda x: x**2, (D,)).A(normal(4, D))


def test_complex_measurements():
    """As pairs of real numbers."""
    values = torch.complex(normal(2, D, seed=11), normal(2, D, seed=12))
    y = torch.complex(normal(1, 2, seed=13), normal(1, 2, seed=14))
    real, y_real = torch.cat((values.real, values.imag)), torch.cat((y.real, y.imag), 1)
    operator = FromFunction(lambda x: x.to(values.dtype) @ values.mT, (D,))
    x, t = normal(4, D), TIMES[1]
    found = MomentMatching(PRIOR, operator, y, Gaussian(SIGMA), iterations=4)(x, t)
    torch.testing.assert_close(found, PRIOR.posterior(real, y_real[0], SIGMA)(x, t), rtol=1e-8, atol=1e-8)
    assert isinstance(PRIOR, GaussianMixture)
