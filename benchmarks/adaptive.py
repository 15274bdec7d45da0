"""Adaptive solvers: errors and calls of the ODE's, bias and calls of the SDE's beside the published method.

python benchmarks/adaptive.py     (about two minutes)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import scorefield as sf
from scorefield.sampling import adaptive, integrate
from scorefield.solvers import RK4, AdaptiveSDE, BogackiShampine, DormandPrince

SDE = sf.VP()
VARIANCE = 0.25


def main() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    print("probability-flow ODE, mixture of two normal laws in the plane, 500 states: mean error / sqrt 2, mean calls")
    model = sf.GaussianMixture(SDE, torch.ones(2), torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([0.05, 0.2]))
    noise = sf.Noise.per_sample(range(500))
    x = model.marginal(SDE.T).sample(torch.empty(500, 2, dtype=torch.float64), noise.at(0))
    exact = integrate(model, x, sf.grids.uniform_log_snr(SDE, 1000, SDE.t_min), RK4(), noise=noise)
    for kind in (BogackiShampine, DormandPrince):
        for tolerance in (1e-2, 1e-3, 1e-4, 1e-5):
            y, calls = run(model, x, adaptive(SDE, tolerance)[1], kind(tolerance), noise)
            error = float((y - exact).norm(dim=1).mean()) / math.sqrt(2)
            print(f"  {kind.__name__:16} tolerance {tolerance:.0e}   error {error:.1e}   calls {calls + 1:5.1f}")
    print(f"reverse SDE, N(0, {VARIANCE}), error of the variance in per cent (standard error), mean calls")
    for dims, samples in ((1, 400_000), (2, 200_000), (16, 25_000)):
        for tolerance in (0.05, 0.01):
            model = sf.gaussian(SDE, torch.zeros(dims), torch.tensor(VARIANCE))
            noise = sf.Noise.per_sample(range(samples))
            x = model.marginal(SDE.T).sample(torch.empty(samples, dims, dtype=torch.float64), noise.at(0))
            wanted = variance(SDE.t_end)
            stderr = 100 * math.sqrt(2 / (samples * dims))
            y, calls = run(model, x, [SDE.T, SDE.t_end], AdaptiveSDE(tolerance), noise)
            z, published = rejecting(x, tolerance)
            print(
                f"  d = {dims:2}   tolerance {tolerance:.2f}   AdaptiveSDE {bias(y, wanted):+6.2f} ({stderr:.2f}) "
                f"{calls:5.1f}   published {bias(z, wanted):+7.1f} {published:6.1f}"
            )


def run(
    model: sf.Denoiser, x: Tensor, times: list[float], solver: sf.solvers.Solver, noise: sf.Noise
) -> tuple[Tensor, float]:
    """The result and the mean calls of the adaptive part."""
    calls: list[Tensor] = []

    def note(_k: int, _knot: sf.Knot, step: sf.solvers.Step) -> None:
        if step.info:
            calls.append(step.info["calls"])

    return integrate(model, x, times, solver, noise=noise, callback=note), float(calls[0].double().mean())


def bias(x: Tensor, wanted: float) -> float:
    return 100 * (float(x.square().mean()) / wanted - 1)


def variance(t: float) -> float:
    knot = SDE.knots([t])[0]
    return knot.alpha**2 * VARIANCE + knot.sigma**2


def rejecting(x: Tensor, rtol: float, atol: float = 2 / 256) -> tuple[Tensor, float]:
    """Jolicoeur-Martineau et al. 2021, algorithm 1: new noise after each rejection. In time, on the same model."""
    generator, n = torch.Generator().manual_seed(0), len(x)
    t, h, calls, before = torch.ones(n, 1).double(), torch.full((n, 1), 0.01).double(), 0, x

    def drift(y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        b = 0.1 * t + 9.95 * t**2
        beta, v = 0.1 + 19.9 * t, (-b).exp() * VARIANCE - torch.expm1(-b)
        return beta * y * (0.5 - 1 / v), beta.sqrt()

    while bool((active := t > SDE.t_end + 1e-12).any()):
        h = torch.minimum(h, t - SDE.t_end)
        z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        f, g = drift(x, t)
        k1 = h * f + h.sqrt() * g * z
        f, g = drift(x + k1, t - h)
        k2 = h * f + h.sqrt() * g * z
        first, second = x + k1, x + 0.5 * (k1 + k2)
        tol = torch.maximum(torch.full_like(x, atol), rtol * torch.maximum(first.abs(), before.abs()))
        error = ((0.5 * (k2 - k1) / tol) ** 2).mean(1, keepdim=True).sqrt().clamp_min(1e-12)
        calls += 2 * int(active.sum())
        taken = active & (error <= 1)
        x, before = torch.where(taken, second, x), torch.where(taken, first, before)
        t = torch.where(taken, t - h, t)
        h = torch.where(active, 0.9 * h * error**-0.9, torch.ones_like(h))
    return x, calls / n


if __name__ == "__main__":
    main()
