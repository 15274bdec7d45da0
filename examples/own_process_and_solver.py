"""A process and a solver of your own: two methods and one step. The solver's order is then certified exactly.

python examples/own_process_and_solver.py
"""

import math
from dataclasses import dataclass

import torch

import scorefield as sf
from scorefield.certify import output_law
from scorefield.score import as_denoiser
from scorefield.solvers import Solver, Step


class Linear(sf.GaussianSDE):
    """alpha = 1 - 0.9 t, sigma = t: rates, log-SNR and its inverse follow."""

    def alpha(self, t: torch.Tensor) -> torch.Tensor:
        return 1 - 0.9 * t

    def sigma(self, t: torch.Tensor) -> torch.Tensor:
        return t


@dataclass(frozen=True)
class Midpoint(Solver):
    """The midpoint rule for d(x/alpha) / dz = x/alpha - D with z = log(sigma/alpha)."""

    convergence_order = 2

    def step(self, model, x, now, next, state, *, noise):
        denoiser, h = as_denoiser(model), 0.5 * (now.log_snr - next.log_snr)
        middle = denoiser.sde.knot_at(0.5 * (now.log_snr + next.log_snr))
        xbar = x / now.alpha
        half = xbar + 0.5 * h * (xbar - denoiser(x, now.time))
        return Step(next.alpha * (xbar + h * (half - denoiser(middle.alpha * half, middle.time))))


sde = Linear()
variances = torch.tensor([0.1, 1.0, 3.0])
# without each grid's last gap, which is the denoise step and not the solver's
errors = [output_law(Midpoint(), sf.grids.uniform_log_snr(sde, n)[:-1], sde, variances).error for n in (51, 101)]
order = math.log2(errors[0] / errors[1])
print(f"relative W2 error with 50 and 100 steps: {errors[0]:.2e}, {errors[1]:.2e}: order {order:.2f}")
assert abs(order - 2) < 0.25
