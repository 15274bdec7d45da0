"""Denoising score matching for any process: a regression target from the whole of a simulated path."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import pulled_back, unrecorded
from scorefield._device import double, moved, placed, widened
from scorefield._noise import Noise
from scorefield._shapes import event_size, event_sum, expand
from scorefield.objectives.objective import Objective
from scorefield.objectives.states import check_steps, path_normals, path_times, random_stop, stopping_times
from scorefield.processes import SDE, GaussianSDE, ItoSDE, Knot, diffusion_and_slope
from scorefield.score import ScoreModule


@dataclass(frozen=True)
class PathTarget(Objective[ScoreModule]):
    """lambda/2 |s(x_n, t_n) - y_n|^2 at states and targets of simulated paths, E[y_n | x_n] = grad log p_n(x_n).

    For the Euler-Maruyama chain x_{k+1} = x_k + h f(x_k, t_k) + c_k sqrt(h) xi_k and any increasing phi with phi_0 = 0,
    integration by parts over all of the path's noise gives

        y_n = -1/phi_n sum_{k<n} [(phi_{k+1} - phi_k) I - h phi_k (df/dx)^T(x_k, t_k)] xi_k / (c_k sqrt(h))

    exactly for the chain. Taking the last step's noise alone, phi = (0, ..., 0, 1), is unbiased too, but its variance
    grows like 1 / h. Here phi_k = V_k / m_k of the chain dx = a x dt + c dw, which has variance V and mean m x_0. For a
    Gaussian process a is its own, and the objective is `DenoisingScoreMatching` of its chain. For another it is the
    mean slope of the drift under the prior, so that what is left of the bracket is how the slope varies about it; 0 if
    there is no prior. The weight is lambda = V_n. The model learns the chain's law, which is off by O(h): above all in
    the tails of a steep drift, which the reverse SDE forgives and the ODE does not. For a Gaussian process
    `DenoisingScoreMatching`, which has no steps, is better: with 100 of them the chain of VP ends at a variance of 1.1.

    Noise g(x) that depends on the state, each component on its own, is constant in the variable z with dz = dx / g
    (Lamperti's transform): the chain is simulated there, with the drift f/g - g'/2, and its target y becomes
    (y - g') / g in x, with the weight lambda = V_n g^2. Where paths reach a boundary, the target is wrong if they are
    reflected, and has no finite variance if g ends there: use `SlicedScoreMatching` then.

    Args:
        steps: from 0 to T, in equal steps of sqrt(t).
    """

    steps: int = 100

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(
        self, model: ScoreModule, x0: Float[Tensor, "b *event"], *, noise: Noise, **cond: Tensor
    ) -> Float[Tensor, "b"]:
        """The loss of each sample."""
        times, stop = path_times(model.sde, self.steps), random_stop(noise, self.steps)
        x, y, weight = path_target(model.sde, x0, times, path_normals(noise, x0, self.steps), stop)
        score = model.score(x, stopping_times(times, stop), **cond)
        return 0.5 * event_sum(weight * (score - y) ** 2)


@unrecorded()
def path_target(
    sde: SDE, x0: Float[Tensor, "b *event"], times: list[float], z: Float[Tensor, "b steps *event"], stop: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The states after `stop` steps of the chain, (b,), their targets, and the weights there.

    Raises:
        ValueError: the diffusion depends on the state and on time, or couples components; or the steps are too long.
    """
    with torch.autocast(x0.device.type, enabled=False):
        return _path_target(sde, x0, times, z, stop)


def _path_target(sde: SDE, x0: Tensor, times: list[float], z: Tensor, stop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, pilot = sde.confine(x0), _pilot(sde, x0)
    bent = _depends_on_state(sde, pilot, times)
    _require_noise(sde, pilot, times)
    found, target, weight = x, torch.zeros_like(x), torch.zeros_like(x)
    total, variance = torch.zeros_like(x), torch.zeros((), dtype=torch.float64)
    mean, slope = torch.ones_like(variance), _mean_slope(sde, pilot, times, bent)
    stop = moved(stop, x.device)
    for k, (now, next) in enumerate(pairwise(times)):
        t, h, xi = Knot(now).time, next - now, z[:, k]
        c = torch.ones_like(mean) if bent else double(sde.diffusion(x, t))
        drift, pulled = _drift_and_pullback(sde, x, t, xi, bent)
        rate = sde.a(t) if isinstance(sde, GaussianSDE) else slope
        if h * abs(float(rate)) > 1:
            raise ValueError(
                f"{len(times) - 1} steps of PathTarget are too long for {type(sde).__name__}, whose drift has a slope "
                f"of {float(rate):.3g} where a step is {h:.3g}: give more steps"
            )
        factor = 1 + h * rate
        phi, mean, variance = variance / mean, mean * factor, variance * factor**2 + h * c**2
        rise = variance / mean - phi
        total = total + (placed(rise, x) * xi - h * placed(phi, x) * pulled) / placed(c * math.sqrt(h), x)
        step = h * drift + placed(c, x) * math.sqrt(h) * xi
        x = sde.confine(_along(sde, x, t, step) if bent else x + step)
        here = expand(stop == k + 1, x)
        found = torch.where(here, x, found)
        target = torch.where(here, -total / placed(variance / mean, x), target)
        weight = torch.where(here, placed(variance, x), weight)
    if bent:
        g, slope = diffusion_and_slope(sde, found, Knot(times[-1]).time)
        target, weight = (target - slope) / g, weight * g**2
    return found, target, weight


def _pilot(sde: SDE, like: Tensor) -> Tensor:
    """The same states in every call, from the prior if there is one: the target must not depend on batch-mates."""
    rows = max(8, 2048 // max(1, event_size(like)))
    noise, like = Noise.per_sample(range(rows), like.device), like.new_empty((rows, *like.shape[1:]))
    known = isinstance(sde, GaussianSDE) or not (isinstance(sde, ItoSDE) and sde.terminal is None)
    return sde.confine(sde.prior.sample(like, noise) if known else noise.normal(like))


def _depends_on_state(sde: SDE, x: Tensor, times: list[float]) -> bool:
    """Whether the noise does, by pilot states; refuses what PathTarget cannot take."""
    if isinstance(sde, GaussianSDE):
        return False
    first = Knot(times[0]).time
    g, slope = diffusion_and_slope(sde, x, first)
    depends = bool(torch.as_tensor(slope != 0).any())
    if depends:
        signs = Noise.per_sample(range(len(x)), x.device).child(1).rademacher(x)
        _, coupled = pulled_back(lambda x: sde.diffusion(x, first).expand_as(x), x, signs)
        if not torch.allclose(coupled, signs * slope, rtol=1e-3, atol=1e-6):
            raise ValueError(f"the noise of {type(sde).__name__} couples components: each may depend on itself alone")
        if any(not torch.allclose(sde.diffusion(x, Knot(t).time), g) for t in times[1 :: max(1, len(times) // 8)]):
            raise ValueError(
                f"PathTarget takes noise that depends on the state or on time; that of {type(sde).__name__} depends on "
                "both: use SlicedScoreMatching"
            )
    return depends


def _require_noise(sde: SDE, x: Tensor, times: list[float]) -> None:
    """Refuses a process that is without noise at some time, from which no score can be learnt by its paths."""
    for t in (times[0], times[len(times) // 2], times[-2]):
        if not bool((sde.diffusion(x, Knot(t).time) > 0).any()):
            raise ValueError(
                f"PathTarget needs noise at every time; got a diffusion of 0 at t = {t:g} for {type(sde).__name__}"
            )


def _mean_slope(sde: SDE, x: Tensor, times: list[float], bent: bool) -> float:
    """Mean of tr(db/dz) / d over the pilot states."""
    if isinstance(sde, GaussianSDE) or (isinstance(sde, ItoSDE) and sde.terminal is None):
        return 0.0
    v = Noise.per_sample(range(len(x)), x.device).child(1).rademacher(x)
    _, pulled = _drift_and_pullback(sde, x, Knot(0.5 * times[-1]).time, v, bent)
    return float(widened(pulled * v).mean())


def _drift_and_pullback(sde: SDE, x: Tensor, t: Tensor, v: Tensor, bent: bool) -> tuple[Tensor, Tensor]:
    """The drift b of the chain's variable z, and (db/dz)^T v."""

    def drift(x: Tensor) -> Tensor:
        if not bent:
            return sde.drift(x, t).expand_as(x)
        unit, slope = diffusion_and_slope(sde, x, t)
        return sde.drift(x, t) / unit - 0.5 * slope

    b, pulled = pulled_back(drift, x, v)
    return b, sde.diffusion(x, t) * pulled if bent else pulled


def _along(sde: SDE, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """x moved by s in z: the solution of dx/dz = g(x), by a step of RK4."""
    k1 = sde.diffusion(x, t)
    k2 = sde.diffusion(sde.confine(x + 0.5 * s * k1), t)
    k3 = sde.diffusion(sde.confine(x + 0.5 * s * k2), t)
    k4 = sde.diffusion(sde.confine(x + s * k3), t)
    return x + s / 6 * (k1 + 2 * (k2 + k3) + k4)
