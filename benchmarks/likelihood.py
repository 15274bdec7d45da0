"""Likelihoods beside other libraries' ODE solvers, and estimators of the stochastic bound; prints markdown.

    python benchmarks/likelihood.py     (about five minutes)

Every ODE solver gets the same right-hand side: drift and exact trace from one call of the exact score of a mixture in
the plane, which also runs a small network whose output counts nothing, so that a call costs what it does in
use. The peers integrate in log(sigma / alpha), the best of the usual variables for them (most codes take time). Errors
are against the exact log-density at t_min with the exact law at T; times are the least of 3 rounds.
"""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import scorefield as sf
from scorefield.likelihood.flow import Variable, ends_of, flow
from scorefield.nn import MLP, seeded
from scorefield.score import Denoiser

SAMPLES = 500
LOG = Variable(1e-5, 1e5)  # nearly log(s)
PROCESSES: dict[str, sf.GaussianSDE] = {"VP": sf.VP(), "VE": sf.VE()}
Result = tuple[Tensor, float]  # nats, mean calls


class Costly(Denoiser):
    """The exact denoiser of eight normal laws on a circle, with the cost of a network."""

    def __init__(self, sde: sf.GaussianSDE) -> None:
        super().__init__(sde)
        angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
        means = torch.stack([angle.cos(), angle.sin()], 1)
        self.exact = sf.GaussianMixture(sde, torch.ones(8), means, torch.full((8,), 0.04))
        with seeded(0):
            self.network = MLP((2,), features=64, blocks=1).double()
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        self.calls += 1
        return self.exact(x, t) + 0 * self.network(x, t.expand(len(x)))


def main() -> None:
    torch.set_num_threads(1)
    for name, sde in PROCESSES.items():
        model = Costly(sde)
        x = model.exact.marginal(0.0).sample(torch.empty(SAMPLES, 2, dtype=torch.float64), seeds(SAMPLES))
        knot = sde.knots([sde.t_min])[0]
        truth = model.exact.log_prob(knot.alpha * x, knot.time) + 2 * math.log(knot.alpha)
        print(f"\n{name}, {SAMPLES} samples in the plane, exact trace\n")
        print("| solver | setting | calls | mean error | largest | ms |\n|---|---|---|---|---|---|")
        every = list(solvers(model, x))
        rounds = [[clocked(solve) for _, _, solve in every] for _ in range(3)]  # the machine's speed varies
        for (title, setting, solve), *times in zip(every, *rounds, strict=True):
            nats, calls = solve()
            error, best = (nats - truth).abs(), min(times)
            row = f"{calls:.0f} | {float(error.mean()):.1e} | {float(error.max()):.1e} | {1000 * best:.0f}"
            print(f"| {title} | {setting} | {row} |", flush=True)
    bounds()


def seeds(n: int, first: int = 0) -> sf.Noise:
    return sf.Noise.per_sample(range(first, first + n))


def clocked(solve: Callable[[], object]) -> float:
    start = time.perf_counter()
    solve()
    return time.perf_counter() - start


def solvers(model: Costly, x: Tensor) -> Iterator[tuple[str, str, Callable[[], Result]]]:
    """Every solver: its name, its setting, and the run."""
    prior = model.exact.marginal(model.sde.T)

    def ours(**how: Any) -> Result:
        result = sf.log_prob(model, x, prior=prior, **how)
        return result.nats, float(result.nfe.double().mean())

    for steps in (7, 10, 15, 20):
        yield "scorefield", f"{steps} steps", functools.partial(ours, steps=steps)
    for tolerance in (1e-4, 1e-5, 1e-6):
        yield "scorefield, adaptive", f"{tolerance:.0e}", functools.partial(ours, tolerance=tolerance)
    for title, solve, variable in peers():
        for tolerance in (1e-3, 1e-4, 1e-5, 1e-6):
            yield title, f"{tolerance:.0e}", functools.partial(theirs, model, x, prior, solve, variable, tolerance)


def theirs(
    model: Costly, x: Tensor, prior: sf.sde.Prior, solve: Callable[..., Tensor], variable: Variable, tolerance: float
) -> Result:
    """A peer's solution, with the terms at the ends that are ours too."""
    ends = ends_of(model.sde, torch.float64)
    u = ends.near * x
    directions = sf.ExactTrace().directions(u, seeds(len(x)), lambda v: v)

    def field(v: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return flow(model, directions, variable.point(model.sde, v), y)

    model.calls = 0
    y = torch.cat((u, torch.zeros(len(x), 1, dtype=torch.float64)), 1)
    y = solve(field, y, variable.place(ends.first), variable.place(ends.last), tolerance)
    return prior.log_prob(ends.far * y[:, :2]) + y[:, 2] + 2 * math.log(ends.near * ends.far), float(model.calls)


def peers() -> Iterator[tuple[str, Callable[..., Tensor], Variable]]:
    """Each installed peer's solvers and the variable that they integrate in."""
    try:
        from torchdiffeq import odeint

        def dopri5(field: Any, y: Tensor, start: float, end: float, tolerance: float) -> Tensor:
            times = torch.tensor([start, end], dtype=torch.float64)
            return odeint(field, y, times, rtol=tolerance, atol=tolerance, method="dopri5")[-1]

        yield "torchdiffeq dopri5", dopri5, LOG
    except ImportError as error:
        print(f"left out: {error}", file=sys.stderr)
    try:
        import torchode

        def solve(method: Any, field: Any, y: Tensor, start: float, end: float, tolerance: float) -> Tensor:
            term = torchode.ODETerm(field)
            control = torchode.IntegralController(atol=tolerance, rtol=tolerance, term=term)
            solver = torchode.AutoDiffAdjoint(method(term=term), control)
            ends = (torch.full((len(y),), v, dtype=torch.float64) for v in (start, end))
            return solver.solve(torchode.InitialValueProblem(y, *ends)).ys[:, -1]

        yield "torchode dopri5", functools.partial(solve, torchode.Dopri5), LOG
        yield "torchode tsit5", functools.partial(solve, torchode.Tsit5), LOG
    except ImportError as error:
        print(f"left out: {error}", file=sys.stderr)
    from scipy.integrate import solve_ivp

    def scipy(method: str, field: Any, y: Tensor, start: float, end: float, tolerance: float) -> Tensor:
        def flat(v: float, state: Any) -> Any:
            return field(torch.tensor(v, dtype=torch.float64), torch.from_numpy(state).reshape(y.shape)).numpy().ravel()

        found = solve_ivp(flat, (start, end), y.numpy().ravel(), method=method, rtol=tolerance, atol=tolerance)
        return torch.from_numpy(found.y[:, -1]).reshape(y.shape)

    for method in ("RK45", "DOP853"):
        yield f"SciPy {method}", functools.partial(scipy, method), LOG


def bounds(d: int = 3072, n: int = 32) -> None:
    """Standard errors of estimators of the bound on normal data with a spectrum of 1 / f^2."""
    bits = 1 / (d * math.log(2))
    for sde in (sf.VP(t_min=1e-3), sf.VP()):
        variances = 1 / torch.arange(1, d + 1, dtype=torch.float64) ** 2
        model = sf.gaussian(sde, torch.zeros(d), 0.25 * variances / variances.mean())
        law = model.marginal(0.0)
        x, other = (law.sample(torch.empty(n, d, dtype=torch.float64), seeds(n, first)) for first in (0, 1000))
        print(f"\nbound, d = {d}, VP from t_min = {sde.t_min:g}: standard error in bits/dim of one sample\n")
        print("| estimator | 16 calls | 48 calls | 96 calls | calls for 0.01 |\n|---|---|---|---|---|")
        table = {"measured": sf.noise_profile(model, other), "of normal data": sf.NoiseProfile.of_normal(sde)}
        for name, profile in table.items():
            errors = []
            for draws in (16, 48, 96):
                stderr = sf.elbo(model, x, draws=draws, profile=profile).stderr
                errors.append(bits * float(stderr.square().mean().sqrt()))
            print(row(f"scorefield, profile {name}", errors))
        for name, uniform_time in (("uniform log-SNR (ScoreFlow)", False), ("uniform time", True)):
            spread = bits * plain(model, x[:4], uniform_time)
            print(row(name, [spread / math.sqrt(draws) for draws in (16, 48, 96)]))


def row(name: str, errors: list[float]) -> str:
    needed = 48 * (errors[1] / 0.01) ** 2
    return f"| {name} | " + " | ".join(f"{error:.4f}" for error in errors) + f" | {needed:,.0f} |"


def plain(model: sf.GaussianMixture, x: Tensor, uniform_time: bool, draws: int = 1000) -> float:
    """Standard deviation of one draw of the published estimators, |ehat - eps|^2 - |eps|^2 with its weight."""
    sde, generator = model.sde, torch.Generator().manual_seed(0)
    ends = sde.log_snr(torch.tensor([sde.T, sde.t_min], dtype=torch.float64))
    total = torch.empty(draws, len(x), dtype=torch.float64)
    for k in range(draws):
        u = torch.rand(len(x), generator=generator, dtype=torch.float64)
        t = sde.t_min + (sde.T - sde.t_min) * u if uniform_time else sde.time(ends[0] + (ends[1] - ends[0]) * u)
        rate = (sde.g(t) / sde.sigma(t)) ** 2  # |d log-SNR / dt|
        weight = 0.5 * rate * (sde.T - sde.t_min) if uniform_time else 0.5 * (ends[1] - ends[0])
        eps = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        ehat = model.noise(sde.perturb(x, t, eps), t)
        total[k] = weight * ((ehat - eps).square().sum(1) - eps.square().sum(1))
    return float(total.std(0).square().mean().sqrt())


if __name__ == "__main__":
    main()
