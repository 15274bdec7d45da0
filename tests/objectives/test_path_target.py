"""The path target: denoising score matching where the process is affine, an unbiased score where it is not."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.processes import PROCESSES, name
from scipy import stats
from torch import Tensor

from scorefield import SDE, VP, ItoSDE, LinearSDE, Noise, NormalPrior
from scorefield.objectives import PathTarget, SlicedScoreMatching, path_target
from scorefield.objectives.states import path_times

AFFINE = [*PROCESSES, LinearSDE(lambda t: -1 - t, lambda t: 1 + t**2, T=2.0)]
FALSE_ALARM = 1e-6


def normals(n: int, *event: int, seed: int = 0) -> Tensor:
    return Noise.per_sample(range(seed, seed + n)).normal(torch.empty(n, *event, dtype=torch.float64))


@pytest.mark.parametrize("sde", AFFINE, ids=name)
@pytest.mark.parametrize("event", [(), (2,), (3, 2)], ids=str)
def test_it_is_denoising_score_matching_of_an_affine_chain(sde, event):
    """y_n = -(x_n - m_n x_0) / V_n with the chain's own mean m_n and variance V_n, to 1e-10. Kills a wrong phi or J."""
    n, steps = 5, 40
    times = [sde.t_min + (sde.T - sde.t_min) * u for u in path_times(VP(), steps)]
    x0, z, stop = normals(n, *event), normals(n, steps, *event, seed=100), torch.tensor([1, 2, 17, 39, 40])
    x, y, variance = path_target(sde, x0, times, z, stop)
    for row, last in enumerate(stop.tolist()):
        mean, spread = 1.0, 0.0
        for knot, next in pairwise(sde.knots(times[: last + 1])):
            h = next.t - knot.t
            mean, spread = mean * (1 + h * knot.a), spread * (1 + h * knot.a) ** 2 + h * knot.g**2
        expected = -(x[row] - mean * x0[row]) / spread
        torch.testing.assert_close(y[row], expected, rtol=1e-10, atol=1e-10 / math.sqrt(spread))
        torch.testing.assert_close(variance[row], torch.full_like(x[row], spread), rtol=1e-10, atol=0)


def double_well() -> SDE:
    return ItoSDE(f=lambda x, t: x - x**3, g=lambda x, t: torch.ones_like(x), T=0.5)


def propagated_score(h: float, steps: int, mean: float, std: float) -> tuple[np.ndarray, np.ndarray]:
    """grad log p_n of the Euler-Maruyama chain of the double well, its density carried step by step."""
    x = np.linspace(-5, 5, 1501)
    dx = x[1] - x[0]
    kernel = stats.norm.pdf(x[:, None], x + h * (x - x**3), math.sqrt(h)) * dx
    p = stats.norm.pdf(x, mean, std)
    for _ in range(steps):
        p = kernel @ p
    return x, np.gradient(np.log(np.maximum(p, 1e-300)), dx)


def targets(steps: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """States, targets and true scores after all steps, and the last step's own target -xi / sqrt(h)."""
    times = [0.5 * k / steps for k in range(steps + 1)]
    z = normals(n, steps, seed=10**6 + seed)
    x0 = 0.4 + 0.3 * normals(n, seed=seed)
    x, y, _ = path_target(double_well(), x0, times, z, torch.full((n,), steps))
    grid, score = propagated_score(0.5 / steps, steps, 0.4, 0.3)
    local = -z[:, -1] / math.sqrt(0.5 / steps)
    return x.numpy(), y.numpy(), np.interp(x.numpy(), grid, score), local.numpy()


def is_unbiased(x: np.ndarray, error: np.ndarray, bins: int = 20) -> bool:
    """Chi-square over bins of x of the mean error, each over its standard error."""
    place = np.clip(np.digitize(x, np.quantile(x, np.linspace(0, 1, bins + 1))) - 1, 0, bins - 1)
    parts = [error[place == k] for k in range(bins)]
    chi2 = sum((p.mean() / (p.std() / math.sqrt(len(p)))) ** 2 for p in parts)
    return chi2 < stats.chi2.isf(FALSE_ALARM, bins)


def test_it_is_unbiased_on_a_double_well():
    """E[y | x] = grad log p against the propagated density. Kills targets without the Jacobian, or with its sign."""
    x, y, score, _ = targets(10, 100_000)
    assert is_unbiased(x, y - score)
    assert not is_unbiased(x, 1.04 * y - score)


def test_its_excess_variance_is_a_hundredth_of_the_local_target():
    _, y, score, local = targets(200, 5_000)
    excess, of_local = np.mean((y - score) ** 2), np.mean((local - score) ** 2)
    assert of_local > 100 * excess
    assert of_local == pytest.approx(400, rel=0.1)  # 1 / h


def test_geometric_brownian_motion_has_the_target_of_its_logarithm():
    """dx = mu x dt + s x dw: log x is a Brownian motion with drift, and x_n | x_0 lognormal, whose score is known.

    Kills a missing g'/g of the change of variable and a missing g'/2 of Lamperti's drift.
    """
    mu, s, n = 0.3, 0.5, 4
    sde = ItoSDE(f=lambda x, t: mu * x, g=lambda x, t: s * x)
    times, x0, stop = path_times(sde, 100), normals(n, 2).exp(), torch.tensor([1, 30, 60, 100])
    z = normals(n, 100, 2, seed=50)
    x, y, weight = path_target(sde, x0, times, z, stop)
    for row, last in enumerate(stop.tolist()):
        t, h = times[last], torch.tensor(times[: last + 1], dtype=torch.float64).diff()
        path = (mu - 0.5 * s**2) * t + s * (h.sqrt()[:, None] * z[row, :last]).sum(0)
        torch.testing.assert_close(x[row], x0[row] * path.exp(), rtol=1e-5, atol=0)
        moved = (x[row] / x0[row]).log() - (mu - 0.5 * s**2) * t
        expected = -(1 + moved / (s**2 * t)) / x[row]
        torch.testing.assert_close(y[row], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(weight[row], t * (s * x[row]) ** 2, rtol=1e-10, atol=0)


def test_it_is_unbiased_for_noise_that_depends_on_the_state():
    """Cox-Ingersoll-Ross at rest, dx = 2 (1 - x) dt + sqrt(x) dw: p_t = Gamma(4, 1/4) and score 3 / x - 4 at all times.

    Kills the target without g', and that of the chain in x with the noise of the last state.
    """
    n, steps = 40_000, 60
    sde = ItoSDE(f=lambda x, t: 2 * (1 - x), g=lambda x, t: x.sqrt(), domain=(1e-4, math.inf), T=0.5)
    z, u = normals(n, steps, seed=10**6), torch.special.ndtr(normals(n))
    x0 = torch.from_numpy(stats.gamma(4, scale=0.25).ppf(u.numpy()))
    x, y, _ = path_target(sde, x0, [0.5 * k / steps for k in range(steps + 1)], z, torch.full((n,), steps))
    inside = (x > 0.15) & (x < 3)  # outside, the variable in which the chain is exact errs by its finite step
    x, y = x[inside], y[inside]
    assert is_unbiased(x.numpy(), (y - (3 / x - 4)).numpy(), bins=10)
    assert not is_unbiased(x.numpy(), (y + 0.5 / x - (3 / x - 4)).numpy(), bins=10)


def test_noise_that_depends_on_state_and_time_is_refused():
    sde = ItoSDE(f=lambda x, t: -x, g=lambda x, t: (1 + t) * x, T=1.0)
    with pytest.raises(ValueError, match="both: use SlicedScoreMatching"):
        path_target(sde, torch.ones(2, 1), [0.0, 0.5, 1.0], torch.zeros(2, 2, 1), torch.tensor([1, 2]))


def test_diagonal_noise_and_noise_that_depends_on_time_are_taken():
    """dx_i = -x_i dt + c_i (1 + t) dw: each component is a process of its own, whose denoising target is known."""
    c = torch.tensor([0.5, 2.0], dtype=torch.float64)
    sde = ItoSDE(f=lambda x, t: 0 * x, g=lambda x, t: c * (1 + t))
    times, x0, z = path_times(sde, 20), normals(3, 2), normals(3, 20, 2, seed=7)
    x, y, variance = path_target(sde, x0, times, z, torch.tensor([1, 10, 20]))
    for row, last in enumerate((1, 10, 20)):
        spread = sum((b - a) * (c * (1 + a)) ** 2 for a, b in pairwise(times[: last + 1]))
        torch.testing.assert_close(y[row], -(x[row] - x0[row]) / spread, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(variance[row], spread, rtol=1e-12, atol=0)


def test_paths_differ_from_step_to_step_of_training():
    """Kills noise named by the step of the path instead of that of the training."""
    from test_score_matching import small

    model, x0 = small(VP()), normals(4, 2)
    for objective in (PathTarget(40), SlicedScoreMatching()):
        one, other = (objective(model, x0, noise=Noise.per_batch(0, 4).at(k)).detach() for k in (0, 1))
        assert not bool((one == other).any())


def test_what_noise_depends_on_is_not_judged_by_batch_mates():
    """g = max(1, |x|) is constant where the data are: one sample far off must not change the targets of the others."""
    sde = ItoSDE(f=lambda x, t: 0 * x, g=lambda x, t: x.abs().clamp_min(1.0), T=0.5)
    x0, z, stop = 0.2 * normals(6, 1), normals(6, 20, 1, seed=9), torch.full((6,), 20)
    times = path_times(sde, 20)
    whole = path_target(sde, x0, times, z, stop)
    far = torch.cat((x0[:5], x0[5:] + 3))
    for one, other in zip(whole, path_target(sde, far, times, z, stop), strict=True):
        assert torch.equal(one[:5], other[:5])


@pytest.mark.parametrize(
    ("sde", "message"),
    [
        (ItoSDE(f=lambda x, t: -x, g=lambda x, t: x * (1 + 4 * t * (1 - t))), "both"),
        (ItoSDE(f=lambda x, t: -x, g=lambda x, t: 1 + x.flip(1) ** 2), "couples components"),
        (ItoSDE(f=lambda x, t: -500 * x, g=lambda x, t: 1.0, terminal=NormalPrior(0.1)), "give more steps"),
    ],
    ids=["state and time", "coupled", "too long"],
)
def test_what_the_path_target_cannot_take_is_refused(sde, message):
    with pytest.raises(ValueError, match=message):
        path_target(sde, torch.ones(2, 2), path_times(sde, 10), torch.zeros(2, 10, 2), torch.tensor([1, 2]))


def test_a_drift_may_be_a_number():
    sde = ItoSDE(f=lambda x, t: 0.0, g=lambda x, t: 1.0)
    x, y, _ = path_target(sde, torch.zeros(2, 1), [0.0, 0.25], torch.ones(2, 1, 1), torch.tensor([1, 1]))
    assert x.tolist() == [[0.5], [0.5]] and y.tolist() == [[-2.0], [-2.0]]
