"""Closed-form denoisers against autodiff, torch's own distributions, Bayes' rule and quadrature.

Statistical checks run at fixed seeds; at other seeds each fails correct code with probability 1e-6.
"""

import math

import pytest
import torch
from helpers.processes import PROCESSES, name
from scipy import stats
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from scorefield import EDM, VE, VP, GaussianMixture, GaussianSDE, Noise, SubVP, gaussian
from scorefield.score import FromScore

SIGMAS = stats.norm.isf(1e-6 / 2)
EVENTS = [(), (2,), (3, 8, 8), (1, 64), (16, 3)]
every_process = pytest.mark.parametrize("sde", PROCESSES, ids=name)
every_event = pytest.mark.parametrize("event", EVENTS, ids=str)
every_form = pytest.mark.parametrize("form", ["scalar", "diagonal", "full"])


def normals(*shape: int, draw: int = 0) -> torch.Tensor:
    return Noise.per_sample([2026]).normal(torch.empty(1, *shape, dtype=torch.float64), draw)[0]


def mixture(sde: GaussianSDE, event: tuple[int, ...], form: str = "full", components: int = 3) -> GaussianMixture:
    d = math.prod(event)
    weights, means = normals(components, draw=1).exp(), normals(components, *event, draw=2)
    if form == "full":
        root = normals(components, d, d, draw=3) / math.sqrt(d)
        covariances = root @ root.mT + 0.05 * torch.eye(d, dtype=torch.float64)
    else:
        covariances = (0.5 * normals(components, *((d,) if form == "diagonal" else ()), draw=3)).exp()
    return GaussianMixture(sde, weights, means, covariances)


def torch_law(m: GaussianMixture, alpha: float = 1.0, sigma: float = 0.0) -> MixtureSameFamily:
    """The same law, made of torch's distributions, for one alpha and sigma."""
    covariances = alpha**2 * m.covariances() + sigma**2 * torch.eye(m.means.shape[1], dtype=torch.float64)
    return MixtureSameFamily(Categorical(m.weights), MultivariateNormal(alpha * m.means, covariances))


def times(sde: GaussianSDE) -> torch.Tensor:
    return torch.tensor([sde.t_end, 0.1 * sde.T, 0.6 * sde.T, sde.T], dtype=torch.float64)


@every_event
@every_form
def test_the_density_is_that_of_torchs_distributions(event, form):
    sde = VP()
    m, x = mixture(sde, event, form), normals(4, *event)
    t = torch.tensor([0.0, 0.01, 0.4, 1.0], dtype=torch.float64)
    got = m.log_prob(x, t)
    for i, knot in enumerate(sde.knots(t.tolist())):
        expected = torch_law(m, knot.alpha, knot.sigma).log_prob(x.reshape(4, -1))
        torch.testing.assert_close(got[i], expected[i], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(m.log_prob(x, knot.time), expected, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(m.marginal(knot.t).log_prob(x), expected, rtol=1e-11, atol=1e-11)


@every_process
@every_event
def test_the_score_is_the_gradient_of_the_log_density(sde, event):
    m, t = mixture(sde, event), times(sde)
    x = sde.perturb(normals(4, *event), t, normals(4, *event, draw=5)).requires_grad_()
    score = torch.autograd.grad(m.log_prob(x, t).sum(), x)[0]
    x = x.detach()
    # the score is (alpha D - x) / sigma^2: rounding of x is divided by sigma^2
    for i, knot in enumerate(sde.knots(t.tolist())):
        atol = 1e-14 * (1 + float(x[i].abs().max())) / knot.sigma**2
        torch.testing.assert_close(m.score(x, t)[i], score[i], rtol=1e-9, atol=atol)
        torch.testing.assert_close(m.score(x, knot.time)[i], score[i], rtol=1e-9, atol=atol)
        torch.testing.assert_close(m.noise(x, t)[i], -knot.sigma * score[i], rtol=1e-9, atol=atol)
        tweedie = (x[i] + knot.sigma**2 * score[i]) / knot.alpha
        torch.testing.assert_close(
            m(x, t)[i], tweedie, rtol=1e-9, atol=1e-13 * (1 + float(x[i].abs().max())) / knot.alpha
        )


@every_event
@every_form
def test_the_denoiser_is_the_posterior_mean_by_gaussian_algebra(event, form):
    sde, d = SubVP(), math.prod(event)
    m, x, knot = mixture(sde, event, form), normals(4, *event), sde.knots([0.2])[0]
    flat, expected = x.reshape(4, d), torch.zeros(4, d, dtype=torch.float64)
    components = torch_law(m, knot.alpha, knot.sigma).component_distribution
    share = (components.log_prob(flat[:, None]) + m.weights.log()).softmax(1)
    for k, covariance in enumerate(m.covariances()):
        total = knot.alpha**2 * covariance + knot.sigma**2 * torch.eye(d, dtype=torch.float64)
        innovation = torch.linalg.solve(total, (flat - knot.alpha * m.means[k]).T).T
        expected += share[:, k, None] * (m.means[k] + knot.alpha * innovation @ covariance)
    torch.testing.assert_close(m(x, knot.time).reshape(4, d), expected, rtol=1e-10, atol=1e-11)


@every_process
def test_density_and_denoiser_are_integrals_over_the_data(sde):
    """p_t(x) = int p(x_0) N(x; alpha x_0, sigma^2) dx_0 and D = E[x_0 | x], by dense quadrature in one dimension."""
    m = GaussianMixture(sde, torch.tensor([1.0, 3.0]), torch.tensor([-2.0, 1.0]), torch.tensor([0.3, 0.1]))
    x0 = torch.linspace(-6, 6, 6001, dtype=torch.float64)
    prior = m.log_prob(x0, torch.zeros(())).exp()
    assert float(torch.trapezoid(prior, x0)) == pytest.approx(1, abs=1e-12)
    for knot in sde.knots([0.3 * sde.T, sde.T]):
        x = knot.alpha * torch.tensor([-1.5, 0.2, 2.0]) + knot.sigma * torch.tensor([0.5, -1.0, 2.0])
        x = x.double()
        joint = prior * torch.exp(-0.5 * ((x[:, None] - knot.alpha * x0) / knot.sigma) ** 2)
        evidence = torch.trapezoid(joint, x0)
        density = evidence / (knot.sigma * math.sqrt(2 * math.pi))
        torch.testing.assert_close(m.log_prob(x, knot.time).exp(), density, rtol=1e-9, atol=0)
        torch.testing.assert_close(m(x, knot.time), torch.trapezoid(joint * x0, x0) / evidence, rtol=1e-9, atol=1e-11)


@every_event
@every_form
def test_the_divergence_is_the_trace_of_the_scores_jacobian(event, form):
    sde, d = EDM(), math.prod(event)
    m, x = mixture(sde, event, form), normals(2, *event)
    t = torch.tensor([0.3, 2.0], dtype=torch.float64)
    for i in range(2):

        def score(flat, i=i):
            return m.score(flat.reshape(1, *event), t[i]).reshape(-1)

        trace = torch.autograd.functional.jacobian(score, x[i].reshape(d)).diagonal().sum()
        torch.testing.assert_close(m.divergence(x, t)[i], trace, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(m.divergence(x, t[i])[i], trace, rtol=1e-9, atol=1e-9)


def test_the_divergence_at_time_0_is_that_of_the_data():
    m, x = mixture(VP(), (3,)), normals(1, 3)
    hessian = torch.autograd.functional.hessian(lambda flat: torch_law(m).log_prob(flat), x[0])
    got = m.divergence(x, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(got, hessian.trace()[None], rtol=1e-10, atol=1e-10)


def test_the_score_at_time_0_is_that_of_the_processs_least_noise():
    m, x, zero = mixture(VE(0.01, 10.0), (3,)), normals(4, 3).requires_grad_(), torch.zeros((), dtype=torch.float64)
    expected = torch.autograd.grad(torch_law(m, 1.0, 0.01).log_prob(x).sum(), x)[0]
    torch.testing.assert_close(m.score(x.detach(), zero), expected, rtol=1e-9, atol=1e-9)


@every_event
@every_form
@pytest.mark.parametrize("noise_std", [0.05, 3.0])
def test_the_posterior_obeys_bayes_rule_at_every_point(event, form, noise_std):
    """log p(x_0 | y) = log p(x_0) + log N(y; A x_0, s^2 I) - log p(y), p(y) from the mixture of A x_0 + n."""
    d = math.prod(event)
    m, x = mixture(VP(), event, form), normals(5, *event)
    operator, y = normals(min(d, 7), d, draw=6), normals(min(d, 7), draw=7)
    noise = noise_std**2 * torch.eye(len(y), dtype=torch.float64)
    evidence = MixtureSameFamily(
        Categorical(m.weights),
        MultivariateNormal(m.means @ operator.T, operator @ m.covariances() @ operator.T + noise),
    ).log_prob(y)
    likelihood = MultivariateNormal(x.reshape(5, d) @ operator.T, noise).log_prob(y)
    posterior = m.posterior(operator, y, noise_std)
    at_data = torch.zeros((), dtype=torch.float64)
    expected = m.log_prob(x, at_data) + likelihood - evidence
    torch.testing.assert_close(posterior.log_prob(x, at_data), expected, rtol=1e-7, atol=1e-7)
    assert posterior.event_shape == event and posterior.sde == m.sde


def test_the_posterior_has_the_moments_of_importance_weighted_quadrature():
    m = mixture(VE(), (2,))
    operator, y, s = torch.tensor([[1.0, -0.5]], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64), 0.4
    side = torch.linspace(-9, 9, 601, dtype=torch.float64)
    x = torch.cartesian_prod(side, side)
    weight = torch_law(m).log_prob(x).exp() * torch.exp(-0.5 * ((x @ operator[0] - y) / s) ** 2)
    mean = (weight[:, None] * x).sum(0) / weight.sum()
    second = (x.T * weight) @ x / weight.sum()
    p = m.posterior(operator, y, s)
    torch.testing.assert_close((p.weights[:, None] * p.means).sum(0), mean, rtol=1e-9, atol=1e-9)
    spread = p.covariances() + p.means[:, :, None] * p.means[:, None]
    torch.testing.assert_close((p.weights[:, None, None] * spread).sum(0), second, rtol=1e-9, atol=1e-9)


def test_the_posterior_of_a_far_observation_keeps_every_component_finite():
    m = GaussianMixture(VP(), torch.ones(2), torch.tensor([[0.0], [1000.0]]), torch.full((2,), 1e-4))
    p = m.posterior(torch.ones(1, 1), torch.tensor([1000.0]), 0.01)
    x = torch.tensor([[1000.0]], dtype=torch.float64)
    torch.testing.assert_close(p(x, torch.tensor(0.5)), x * 0 + 1000.0, rtol=1e-3, atol=0)
    assert float(p.log_prob(x, torch.tensor(0.0))) == pytest.approx(0.5 * math.log(1 / (2 * math.pi * 0.5e-4)))


@every_event
def test_one_full_covariance_gives_the_law_of_its_samples(event):
    """The whitened samples' mean and mean square; kills noise x 0.99 and eigenvectors that are not turned back."""
    sde, d = VP(), math.prod(event)
    root = normals(d, d, draw=3) / math.sqrt(d)
    covariance = root @ root.mT + 0.05 * torch.eye(d, dtype=torch.float64)
    m, n = gaussian(sde, normals(*event, draw=2), covariance), max(2000, 400_000 // d)
    for knot in sde.knots([0.0, 0.1]):
        x = m.marginal(knot.t).sample(torch.empty(n, *event, dtype=torch.float64), Noise.per_sample(range(n)))
        law = torch_law(m, knot.alpha, knot.sigma).component_distribution
        whitened = torch.linalg.solve_triangular(law.scale_tril[0], (x.reshape(n, d) - law.mean[0]).T, upper=False)
        assert abs(float(whitened.sum())) <= SIGMAS * math.sqrt(n * d)
        assert abs(float((whitened**2 - 1).sum())) <= SIGMAS * math.sqrt(2 * n * d)


@every_form
def test_samples_of_a_mixture_have_its_weights_and_moments(form):
    """Kills equal weights, and components that share one noise."""
    m, n = mixture(VE(), (2,), form), 200_000
    knot = m.sde.knots([0.3])[0]
    x = m.marginal(0.3).sample(torch.empty(n, 2, dtype=torch.float64), Noise.per_sample(range(n)))
    law = torch_law(m, knot.alpha, knot.sigma)
    # entropy and moments: any function of x whose exact mean is known by quadrature
    side = torch.linspace(-12, 12, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    weight = law.log_prob(grid).exp() * float(side[1] - side[0]) ** 2
    assert float(weight.sum()) == pytest.approx(1, abs=1e-7)
    for f in (
        lambda x: x[:, 0],
        lambda x: x[:, 1],
        lambda x: x[:, 0] ** 2,
        lambda x: x[:, 0] * x[:, 1],
        lambda x: x[:, 1] ** 2,
        law.log_prob,
        lambda x: (2 * x[:, 0] - x[:, 1]).sin(),
    ):
        mean = float((weight * f(grid)).sum())
        std = math.sqrt(float((weight * f(grid) ** 2).sum()) - mean**2)
        assert abs(float(f(x).mean()) - mean) <= SIGMAS * std / math.sqrt(n)


def test_component_frequencies_are_the_weights():
    weights = torch.tensor([0.001, 0.3, 0.699], dtype=torch.float64)
    m, n = GaussianMixture(VP(), weights, torch.tensor([0.0, 10.0, 20.0]), torch.full((3,), 0.1)), 300_000
    x = m.marginal(0.0).sample(torch.empty(n), Noise.per_sample(range(n)))
    for k, weight in enumerate(weights.tolist()):
        assert stats.binomtest(int(((x / 10).round() == k).sum()), n, weight).pvalue > 1e-6


@every_event
def test_a_sample_depends_on_its_own_seed_only(event):
    law = mixture(VP(), event).marginal(0.5)
    whole = law.sample(torch.empty(6, *event), Noise.per_sample(range(6)))
    part = law.sample(torch.empty(2, *event), Noise.per_sample([4, 1]))
    assert whole.dtype == torch.float32
    torch.testing.assert_close(part, whole[[4, 1]], rtol=1e-6, atol=1e-6)


@every_event
def test_point_masses_denoise_to_the_softmax_average_of_the_data(event):
    """Variance 0: the score of the noised data set itself."""
    sde, data = EDM(), normals(5, *event)
    m = GaussianMixture(sde, torch.ones(5), data, torch.zeros(5))
    x, t = normals(3, *event, draw=4), torch.tensor([0.01, 1.0, 50.0], dtype=torch.float64)
    distance = ((x[:, None] - data) ** 2).reshape(3, 5, -1).sum(2)
    share = (-0.5 * distance / t[:, None] ** 2).softmax(1)
    expected = torch.einsum("bk,k...->b...", share, data)
    torch.testing.assert_close(m(x, t), expected, rtol=1e-9, atol=1e-12)


@every_process
def test_a_gaussian_has_a_linear_denoiser_for_each_form_of_its_covariance(sde):
    mean, x, t = normals(2, draw=1), normals(4, 2), times(sde)
    variances = torch.tensor([0.5, 0.5], dtype=torch.float64)
    for covariance in (torch.tensor(0.5), variances, torch.diag(variances)):
        m = gaussian(sde, mean, covariance)
        for i, knot in enumerate(sde.knots(t.tolist())):
            gain = knot.alpha * 0.5 / (knot.alpha**2 * 0.5 + knot.sigma**2)
            expected = mean + gain * (x[i] - knot.alpha * mean)
            torch.testing.assert_close(m(x, t)[i], expected, rtol=1e-12, atol=1e-12)


@every_process
def test_low_precision_costs_rounding_only(sde):
    m = mixture(sde, (16, 3))
    x, t = sde.perturb(normals(4, 16, 3), times(sde), normals(4, 16, 3, draw=5)), times(sde)
    exact = m(x, t)
    assert m(x.float(), t).dtype == torch.float32
    scale = float(exact.abs().max())
    # x rounded to float32, arithmetic in float64
    torch.testing.assert_close(m(x.float(), t).double(), m(x.float().double(), t), rtol=1e-6, atol=1e-7 * scale)
    # arithmetic in float32
    torch.testing.assert_close(mixture(sde, (16, 3)).float()(x.float(), t).double(), exact, rtol=1e-3, atol=1e-3)


def test_the_denoiser_of_the_score_is_the_denoiser():
    m, x, t = mixture(VP(), (2,)), normals(3, 2), torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(FromScore(m)(x, t), m(x, t), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: GaussianMixture(VP(), torch.ones(3), torch.zeros(2, 4), torch.ones(2)), r"K = 2.*d = 4.*\(3,\)"),
        (lambda: GaussianMixture(VP(), torch.ones(2), torch.zeros(2, 4), torch.ones(2, 3)), r"\(2,\) and \(2, 3\)"),
        (lambda: GaussianMixture(VP(), torch.ones(0), torch.zeros(0, 2), torch.ones(0)), r"K = 0|component"),
        (lambda: GaussianMixture(VP(), torch.tensor([1.0, 0.0]), torch.zeros(2, 1), torch.ones(2)), r"\[1.0, 0.0\]"),
        (lambda: GaussianMixture(VP(), torch.tensor([1.0, math.nan]), torch.zeros(2, 1), torch.ones(2)), "nan"),
        (lambda: GaussianMixture(VP(), torch.ones(1), torch.zeros(1, 2), torch.tensor([[1.0, -1.0]])), "-1.0"),
        (lambda: GaussianMixture(VP(), torch.ones(1), torch.zeros(1, 2), torch.tensor([[1.0, math.nan]])), "nan"),
        (lambda: gaussian(VP(), torch.zeros(2), torch.tensor([[1.0, 2.0], [2.0, 1.0]])), "semi-definite.*-1.0"),
        (lambda: gaussian(VP(), torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
        (lambda: gaussian(VP(), torch.zeros(2), torch.eye(2)).posterior(torch.eye(2), torch.zeros(2), 0.0), "got 0.0"),
    ],
)
def test_errors_say_what_was_got_and_what_was_wanted(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize("noise_std", [1e-3, 1e-7, 1e-9])
def test_a_posterior_of_tiny_noise_keeps_its_variance(noise_std):
    prior = gaussian(VP(), torch.zeros(2), torch.tensor([1.0, 4.0]))
    exact = prior.posterior(torch.eye(2), torch.tensor([0.3, -1.0]), noise_std)
    wanted = 1 / (1 / torch.tensor([1.0, 4.0], dtype=torch.float64) + 1 / noise_std**2)
    torch.testing.assert_close(exact.covariances()[0].diagonal(), wanted, rtol=1e-3, atol=0)


def test_a_posterior_takes_an_operator_on_the_event():
    prior = gaussian(VP(), torch.zeros(2), torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"operator \(m, 2\)"):
        prior.posterior(torch.eye(3), torch.zeros(3), 0.1)
