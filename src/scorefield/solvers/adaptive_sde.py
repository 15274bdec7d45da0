"""An adaptive solver of the reverse SDE, with a step size for each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import moved, widened
from scorefield._noise import CHILDREN, NoiseSource
from scorefield._shapes import event_size, event_sum, expand, factor
from scorefield.processes import Knot
from scorefield.score import Score, as_denoiser
from scorefield.solvers.lagrange import legendre
from scorefield.solvers.solver import Solver, Step, check_eta, nth, tau_step


@dataclass(frozen=True)
class AdaptiveSDE(Solver):
    """Stochastic Adams of order 1 with its corrector, whose size sets the next step: one call a step.

    The equation, F and the corrector are those of `ExponentialSolver` for data of unit variance: exact in the linear
    part and the noise, and, with F_a known when the step a -> b is made and F_b only then,

        xbar_b = P(a, b) xbar_a + W_0 F_a + noise          W_i = int_a^b (1 + eta) P k ((tau - a) / h)^i dtau
        xbar_b += W_1 (F_b - F_a) =: E                     at the next call
        h <- h min(0.9 err^(-1/2), 1.5),  err = rms(E / sqrt(q_b) / (tolerance (1 + |u|) / 10)),  h <= 0.3

    with u = xbar / sqrt(q). A step is never rejected: to draw new noise after a rejection, as Jolicoeur-Martineau et
    al. (2021, "Gotta go fast") do, prefers small noises and biases the variance by more than its double in one
    dimension. Here the step size depends on what is past alone, and the law is right for small tolerances. The network
    sees all of the batch until the last sample has arrived, since its kernels round differently for other sizes.
    `info["calls"]` tells how many calls each sample has needed. Takes the whole way in one step of the grid:
    [T, end, 0].

    Args:
        tolerance: > 0; 0.05 gives variances within half a percent, 0.01 for more.
        eta: noise, > 0.
    """

    tolerance: float = 0.05
    eta: float = 1.0

    def __post_init__(self) -> None:
        check_eta(self.eta)
        if not (0 < self.tolerance < 1 and self.eta > 0):
            raise ValueError(f"wanted tolerance in (0, 1) and eta > 0; got {self.tolerance} and {self.eta}")

    @property
    def convergence_order(self) -> int:
        """2 for steps of equal size."""
        return 2

    @property
    def adaptive(self) -> bool:
        """True."""
        return True

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """All steps from one time to the other."""
        tau_step(now, next, self.eta)
        denoiser, eta = as_denoiser(model), self.eta
        sde, end = denoiser.sde, 0.5 * next.log_snr
        calls = torch.zeros(len(x), dtype=torch.int64)
        going = torch.ones_like(calls, dtype=torch.bool)
        tau = torch.full((len(x),), 0.5 * now.log_snr, dtype=torch.float64)
        h, y, past, mask = torch.full_like(tau, 0.1), x / now.alpha, None, moved(expand(going, x), x.device)
        for k in range(CHILDREN**2):
            s = (-tau).exp()
            q = 1 + s**2
            time = sde.time(2 * tau).clamp(next.t, now.t)
            alpha, share, scale = (factor(v, y) for v in (sde.alpha(time), 1 / q, q.sqrt() / s))
            value = (denoiser(alpha * y, time) - share * y) * scale
            calls += going
            if past:
                before, slope = past
                error = slope * (value - before)
                y = torch.where(mask, y + error, y)
                root = factor(q.sqrt(), y)
                scaled = error / root / (0.1 * self.tolerance * (1 + (y / root).abs()))
                size = (event_sum(widened(scaled) ** 2).cpu() / event_size(x)).sqrt().clamp_min(1e-8)
                h = (h * (0.9 * size**-0.5).clamp(0.2, 1.5)).clamp_max(0.3)
            if not bool(torch.isfinite(h).all()):
                break
            h = torch.where(going, torch.minimum(h, end - tau), 0.0)
            zeroth, first = _integrals(tau, h, eta)
            q_b = 1 + (-2 * (tau + h)).exp()
            ratio = q_b / q
            decay, spread = ratio ** ((1 + eta) / 2), (-q_b * torch.expm1(eta * ratio.log())).sqrt()
            decay, spread, zeroth, first = (factor(v, y) for v in (decay, spread, zeroth, first))
            y = torch.where(mask, decay * y + zeroth * value + spread * nth(noise, k).normal(y), y)
            tau, past = tau + h, (value, first)
            going = tau < end - 1e-12
            mask = moved(expand(going, y), y.device)
            if not bool(going.any()):
                return Step(next.alpha * y, info={"calls": calls.to(x.device)})
        raise ValueError(
            f"AdaptiveSDE cannot meet the tolerance {self.tolerance}: raise it; is the score finite everywhere?"
        )


def _integrals(tau: Tensor, h: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """W_0 and W_1 of each sample, by Gauss and Legendre, exact to rounding for h <= 0.3."""
    place, weights = (torch.from_numpy(v).to(tau) for v in legendre())
    s = (-(tau[:, None] + h[:, None] * place)).exp()
    q, q_b = 1 + s**2, 1 + (-2 * (tau + h)).exp()[:, None]
    values = weights * h[:, None] * (1 + eta) * (q_b / q) ** ((1 + eta) / 2) * s / q.sqrt()
    return values.sum(1), (values * place).sum(1)
