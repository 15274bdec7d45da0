"""Denoising score matching for any process with additive noise: a regression target from a whole simulated path."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._noise import Noise
from scorefield._shapes import event_sum, expand
from scorefield.objectives.objective import Objective
from scorefield.objectives.states import check_steps, path_normals, path_times, random_stop, stopping_times
from scorefield.score import ScoreModule
from scorefield.sde import SDE, GaussianSDE, Knot


@dataclass(frozen=True)
class PathTarget(Objective):
    """lambda/2 |s(x_n, t_n) - y_n|^2 at states and targets of simulated paths, E[y_n | x_n] = grad log p_n(x_n).

    For the Euler-Maruyama chain x_{k+1} = x_k + h f(x_k, t_k) + c_k sqrt(h) xi_k and any increasing phi with phi_0 = 0,
    integration by parts over all of the path's noise gives

        y_n = -1/phi_n sum_{k<n} [(phi_{k+1} - phi_k) I - h phi_k (df/dx)^T(x_k, t_k)] xi_k / (c_k sqrt(h))

    exactly for the chain. Taking the last step's noise alone, phi = (0, ..., 0, 1), is unbiased too, but its variance
    grows like 1 / h. Here phi_k = V_k / m_k of the chain dx = a x dt + c dw, which has variance V and mean m x_0: a is
    the process's own for a Gaussian one, and the objective is `DenoisingScoreMatching` of its chain; else 0, and
    phi = int c^2 dt. The weight is lambda = V_n.

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
        times, stop = path_times(model.sde, self.steps), random_stop(noise, self.steps).to(x0.device)
        x, y, variance = path_target(model.sde, x0, times, path_normals(noise, x0, self.steps), stop)
        score = model.score(x, stopping_times(times, stop), **cond)
        return 0.5 * event_sum(variance * (score - y) ** 2)


@torch.no_grad()
def path_target(
    sde: SDE, x0: Float[Tensor, "b *event"], times: list[float], z: Float[Tensor, "b steps *event"], stop: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The states after `stop` steps of the chain, (b,), their targets, and V there.

    Raises:
        ValueError: the diffusion depends on the state.
    """
    x, total = x0, torch.zeros_like(x0)
    found, target, variance_found = x0, total, total
    one = torch.ones((), dtype=torch.float64, device=x0.device)
    mean, variance = one, 0 * one
    for k, (now, next) in enumerate(pairwise(times)):
        t, h, xi = Knot(now).time, next - now, z[:, k]
        c = _additive(sde, x, t).double()
        pulled, f = _pullback(sde, x, t, xi)
        factor = 1 + h * (sde.a(t).double() if isinstance(sde, GaussianSDE) else 0.0)
        phi, mean, variance = variance / mean, mean * factor, variance * factor**2 + h * c**2
        rise = variance / mean - phi
        total = total + (rise.to(x) * xi - h * phi.to(x) * pulled) / (c * math.sqrt(h)).to(x)
        x = x + h * f + c.to(x) * math.sqrt(h) * xi
        here = expand(stop == k + 1, x)
        found = torch.where(here, x, found)
        target = torch.where(here, -total / (variance / mean).to(x), target)
        variance_found = torch.where(here, variance.to(x), variance_found)
    return found, target, variance_found


def _additive(sde: SDE, x: Tensor, t: Tensor) -> Tensor:
    """c(t), refused if it depends on x."""
    with torch.enable_grad():
        inner = x.detach().requires_grad_()
        c = sde.diffusion(inner, t)
        slope = torch.autograd.grad(c.sum(), inner, allow_unused=True)[0] if c.requires_grad else None
    if slope is not None and bool((slope != 0).any()):
        raise ValueError(
            f"PathTarget needs noise that does not depend on the state; that of {type(sde).__name__} does: use "
            "SlicedScoreMatching, or a variable in which the noise is constant (Lamperti's transform)"
        )
    return c.detach()


def _pullback(sde: SDE, x: Tensor, t: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """(df/dx)^T v and f."""
    with torch.enable_grad():
        inner = x.detach().requires_grad_()
        f = sde.drift(inner, t)
        if not f.requires_grad:
            return torch.zeros_like(x), f
        (pulled,) = torch.autograd.grad((f * v).sum(), inner, allow_unused=True, materialize_grads=True)
    return pulled, f.detach()
