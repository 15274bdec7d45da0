"""The solver of guidance: exact where the laws are normal, stable at any weight, its plain method without guidance."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefield import EDM, VE, VP, GaussianMixture, GaussianSDE, Noise, NoisyClassifier, gaussian, grids, sample
from scorefield.guidance import Autoguidance, Classifier, ClassifierFree, MomentMatching
from scorefield.operators import Gaussian, Mask
from scorefield.sampling import default, integrate, stochastic
from scorefield.score import Denoiser
from scorefield.solvers import DDIM, RK4, ExponentialAdams, GuidedAdams, Solver, UniPC

pytestmark = pytest.mark.usefixtures("unchecked")
SOLVER = GuidedAdams(ExponentialAdams(3, corrector=False, sigma_data=3.0))
NOISE = Noise.per_sample(range(8))


def normal(sde: GaussianSDE, std: float, d: int = 3) -> GaussianMixture:
    return gaussian(sde, torch.zeros(d), torch.full((d,), std**2))


def modes(sde: GaussianSDE) -> tuple[Denoiser, Denoiser]:
    """One of three modes in four dimensions, and all of them."""
    means = torch.tensor([[1.0, 0.5, 0, -1], [-1.0, 0, 1, 0.3], [0, -1.0, -1, 1]], dtype=torch.float64)
    variances = torch.tensor([0.05, 0.1, 0.2], dtype=torch.float64)
    whole = GaussianMixture(sde, torch.ones(3), means, variances)
    return GaussianMixture(sde, torch.ones(1), means[:1], variances[:1]), whole


def start(sde: GaussianSDE, d: int) -> Tensor:
    return sde.prior.sample(torch.empty(8, d, dtype=torch.float64), NOISE.at(0))


@pytest.mark.parametrize("sde", [VP(), VE(0.01, 50.0), EDM()], ids=["VP", "VE", "EDM"])
@pytest.mark.parametrize("weight", [0.5, 2.0, 7.5, 15.0])
def test_isotropic_normal_laws_are_without_error(sde: GaussianSDE, weight: float) -> None:
    """d log xbar = sum_i w_i d log sqrt(v_i + s^2). Kills: v from -dr, P to the power w, the corrector left out."""
    guided = ClassifierFree(normal(sde, 0.3), normal(sde, 1.0), weight)
    x = start(sde, 3)
    # the first step does not know the laws; the second look corrects it
    times = grids.uniform_log_snr(sde, 12)
    first, last = (sde.knots([t])[0] for t in (times[0], times[-2]))
    got = integrate(guided, x, times[:-1], SOLVER, noise=NOISE) / last.alpha
    factor = 1.0
    for w, v in ((weight, 0.09), (1 - weight, 1.0)):
        factor *= ((v + (last.sigma / last.alpha) ** 2) / (v + (first.sigma / first.alpha) ** 2)) ** (w / 2)
    assert float((got - factor * x / first.alpha).abs().max()) < 1e-3


@pytest.mark.parametrize("guide", [ClassifierFree, Autoguidance])
@pytest.mark.parametrize("calls", [8, 10, 20, 30])
def test_strong_guidance_by_the_default_does_not_blow_up(guide: type[ClassifierFree], calls: int) -> None:
    """The guided ODE ends within 1e-4 of 0 from every start, UniPC-3 at 11 and 4 with 10 and 20 calls."""
    sde = VP()
    guided = guide(normal(sde, 0.1), normal(sde, 1.0), 7.5)
    solver, times = default(sde, calls)
    size = sample(guided, (3,), times, solver, seeds=range(16)).abs().max()
    assert float(size) < 1e-3


@pytest.mark.parametrize("weight", [2.0, 5.0, 10.0])
def test_it_converges_to_the_guided_path_with_order_2(weight: float) -> None:
    sde = VP()
    guided = ClassifierFree(*modes(sde), weight)
    x = start(sde, 4)
    exact = integrate(guided, x, grids.uniform_log_snr(sde, 1500)[:-1], RK4(), noise=NOISE)
    errors: list[float] = []
    for n in (100, 200):
        got = integrate(guided, x, grids.uniform_log_snr(sde, n)[:-1], SOLVER, noise=NOISE)
        errors.append(float((got - exact).norm(dim=1).median()))
    assert errors[1] < 2e-3
    assert math.log2(errors[0] / errors[1]) > 1.75


@pytest.mark.parametrize(("weight", "calls", "other"), [(1.5, 20, UniPC()), (10.0, 12, DDIM())])
def test_it_is_better_than_the_better_of_order_1_and_of_order_3(weight: float, calls: int, other: Solver) -> None:
    """Kills: orders as low where guidance is weak as where it is strong, and correctors of steps that bear none."""
    sde = VP()
    guided, noise = ClassifierFree(*modes(sde), weight), Noise.per_sample(range(32))
    x = sde.prior.sample(torch.empty(32, 4, dtype=torch.float64), noise.at(0))
    exact = integrate(guided, x, grids.uniform_log_snr(sde, 1000), RK4(), noise=noise)
    solver, times = default(sde, calls)
    ours, theirs = (float((integrate(guided, x, times, s, noise=noise) - exact).norm()) for s in (solver, other))
    assert ours < 0.5 * theirs


@pytest.mark.parametrize("calls", [4, 10, 30])
def test_without_guidance_it_is_its_plain_method_to_the_bit(calls: int) -> None:
    sde = VP()
    solver, times = default(sde, calls)
    assert isinstance(solver, GuidedAdams)
    x, model = start(sde, 4), modes(sde)[1]
    assert torch.equal(
        integrate(model, x, times, solver, noise=NOISE), integrate(model, x, times, solver.plain, noise=NOISE)
    )


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_weights_that_guide_nowhere_change_nothing(weight: float) -> None:
    sde = VP()
    one, whole = modes(sde)
    solver, times = default(sde, 10)
    x = start(sde, 4)
    guided = integrate(ClassifierFree(one, whole, weight), x, times, solver, noise=NOISE)
    assert torch.equal(guided, integrate(one if weight else whole, x, times, solver, noise=NOISE))


def test_a_sample_does_not_depend_on_its_company() -> None:
    """Kills: one method for the whole batch, v from sums over it."""
    sde = VP()
    guided, x = ClassifierFree(*modes(sde), 10.0), start(sde, 4)
    times = grids.uniform_log_snr(sde, 10)
    together = integrate(guided, x, times, SOLVER, noise=NOISE)
    alone = torch.cat([integrate(guided, x[k : k + 1], times, SOLVER, noise=NOISE) for k in range(8)])
    torch.testing.assert_close(alone, together, rtol=1e-9, atol=1e-9)


def test_an_interval_of_guidance_is_a_path_in_two_parts() -> None:
    """Beyond the interval D is another function: a polynomial across its ends would be wrong by what D jumps."""
    sde = VP()
    guided, x = ClassifierFree(*modes(sde), 5.0, interval=(0.2, 2.0)), start(sde, 4)
    ends = [sde.knot_at(-2 * math.log(s)).t for s in (2.0, 0.2)]
    fine = sorted({*grids.uniform_log_snr(sde, 1500), *ends}, reverse=True)
    exact = integrate(guided, x, fine, RK4(), noise=NOISE)
    times = sorted({*grids.uniform_log_snr(sde, 80), *ends}, reverse=True)
    arrived = [integrate(guided, x, times, solver, noise=NOISE) for solver in (SOLVER, UniPC())]
    ours, unipc = ((y - exact).norm(dim=1).median() for y in arrived)
    assert float(ours) < 0.05
    assert float(ours) < 2 * float(unipc)


class Posterior(NoisyClassifier):
    """p(first mode | x_t), exactly."""

    def __init__(self, one: Denoiser, whole: Denoiser) -> None:
        torch.nn.Module.__init__(self)
        self.sde, self.one, self.whole = one.sde, one, whole

    def log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        share = self.one.log_prob(x, t) - math.log(3) - self.whole.log_prob(x, t)
        return torch.stack((share, torch.log1p(-share.exp().clamp_max(1 - 1e-12))), 1)


def test_guidance_by_a_classifier_is_taken_apart_as_well() -> None:
    sde = VP()
    one, whole = modes(sde)
    by_classifier, free = Classifier(whole, Posterior(one, whole), 0, 7.5), ClassifierFree(one, whole, 7.5)
    x, knot = start(sde, 4), sde.knot_at(0.0)
    weights, parts = by_classifier.parts(x, knot.time)
    assert weights == (-6.5, 7.5)
    torch.testing.assert_close(parts[1], one(x, knot.time))
    torch.testing.assert_close(weights[0] * parts[0] + weights[1] * parts[1], by_classifier(x, knot.time))
    times = grids.uniform_log_snr(sde, 15)
    torch.testing.assert_close(
        *(integrate(model, x, times, SOLVER, noise=NOISE) for model in (by_classifier, free)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("std", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("steps", [3, 5, 8, 12])
def test_few_steps_of_the_reverse_sde_meet_a_measurement(std: float, steps: int) -> None:
    """Normal prior, every second number measured: velocities miss it by 100 times the noise with 5 steps."""
    sde, d = VP(), 8
    prior = gaussian(sde, torch.zeros(d), 1 / torch.arange(1, d + 1.0))
    mask = torch.arange(d) % 2 == 0
    y = torch.linspace(-1, 1, 4, dtype=torch.float64)[None]
    mean = prior.posterior(torch.eye(d, dtype=torch.float64)[mask], y[0], std).means[0]
    guided = MomentMatching(prior, Mask(mask), y, Gaussian(std), iterations=4)
    solver, times = stochastic(sde, steps, std)
    z = sample(guided, (d,), times, solver, seeds=range(200)).double()
    assert float((z - mean)[:, mask].square().mean().sqrt()) < 2 * std


def test_short_steps_of_the_reverse_sde_predict_velocities() -> None:
    kinds = [stochastic(VP(), steps, 0.01)[0] for steps in (5, 10, 30, 100)]
    assert [kind.sigma_data for kind in kinds] == [0.0, 0.0, 1.0, 1.0]
    solver: Solver = stochastic(VP(), 1)[0]
    assert isinstance(solver, ExponentialAdams) and solver.eta == 1
    assert isinstance(default(VP(), 3)[0], DDIM)
