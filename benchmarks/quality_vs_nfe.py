"""Error for a budget of network calls: `scorefield.default` beside the best of the peers' samplers on their best grids.

    make benchmarks     (or: python benchmarks/quality_vs_nfe.py)

The score is that of a Gaussian mixture, exactly. First table: the mean distance per sqrt(D) to the exact endpoint of
the probability flow from the same starting states; second, the same of data of standard deviation 0.5 whose components
have 0.06 to 0.16. Third: stochastic samplers, by the sliced Wasserstein-2 distance of their samples to exact ones.
Every sampler makes exactly the number of network calls that is stated, the
last denoising counted, which is asserted. The peers' error is the least over all their samplers and grids, chosen for
each cell by the result; ours is one rule.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
import peers
import peers_quality

import scorefield as sf
from scorefield import grids, solvers
from scorefield.sampling import integrate

PROCESSES: dict[str, sf.GaussianSDE] = {"VP": sf.VP(), "VE": sf.VE(0.01, 50.0)}
BUDGETS = (5, 8, 10, 15, 20, 35, 50, 100)
STATES = 512
SAMPLES = 8192


class Mixture:
    """D(x / alpha, s) of 8 components in D dimensions, of zero mean and unit variance per dimension, or narrow ones."""

    def __init__(self, dimensions: int, components: int = 8, *, narrow: bool = False) -> None:
        g = torch.Generator().manual_seed(dimensions)
        means = torch.randn(components, dimensions, generator=g, dtype=torch.float64)
        variances = 0.02 + 0.1 * torch.rand(components, dimensions, generator=g, dtype=torch.float64) ** 2
        weights = 0.3 + torch.rand(components, generator=g, dtype=torch.float64)
        weights = weights[:, None] / weights.sum()
        means = means - (weights * means).sum(0)
        total = (weights * (means**2 + variances)).sum(0).mean()
        self.weights, self.means, self.variances = weights[:, 0], means / total.sqrt(), variances / total
        if narrow:  # means so that the whole has a standard deviation of 0.5
            stds = 0.06 + 0.1 * torch.rand(components, 1, generator=g, dtype=torch.float64)
            rest = 0.25 - (weights * stds**2).sum(0)
            self.variances = (stds**2).expand(components, dimensions).contiguous()
            self.means = means * (rest / (weights * means**2).sum(0).mean()).sqrt()
        self.dimensions, self.calls = dimensions, 0

    def __call__(self, x: Tensor, s: Tensor | float) -> Tensor:
        """sum_k p(k | x) (m_k + v_k / (v_k + s^2) (x - m_k)), as products of matrices: the loops take the time."""
        self.calls += 1
        s2 = float(s) ** 2
        precision = 1 / (self.variances + s2)
        pull = self.means * precision
        distance = (x * x) @ precision.T - 2 * x @ pull.T + (self.means * pull - precision.log()).sum(1)
        share = (self.weights.log() - 0.5 * distance).softmax(1)
        return x * (share @ (self.variances * precision)) + s2 * (share @ pull)

    def sample(self, n: int, seed: int) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        k = torch.multinomial(self.weights, n, replacement=True, generator=g)
        z = torch.randn(n, self.dimensions, generator=g, dtype=torch.float64)
        return self.means[k] + self.variances[k].sqrt() * z


class Model(sf.Denoiser):
    """The mixture as a denoiser of a process."""

    def __init__(self, sde: sf.GaussianSDE, network: Mixture) -> None:
        super().__init__(sde)
        self.network = network

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        alpha, sigma = float(self.sde.alpha(t)), float(self.sde.sigma(t))
        return self.network(x / alpha, sigma / alpha)


def main() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    peers.hide_optional_imports()
    print(f"torch {torch.__version__}, one thread")
    print("\nmean distance per sqrt(D) to the endpoint of the probability flow; ratio = ours / best peer")
    for narrow, dimensions, budgets in ((False, (2, 16, 64), BUDGETS), (True, (2, 64), BUDGETS[:6])):
        print(f"{'narrow components, data of standard deviation 0.5' if narrow else 'unit variance'}")
        networks = [Mixture(d, narrow=narrow) for d in dimensions]
        ratios = [r for name, sde in PROCESSES.items() for net in networks for r in endpoints(name, sde, net, budgets)]
        level = sum(ratio <= 1.02 for ratio in ratios)
        print(f"ours at most 1.02 of the best peer in {level} of {len(ratios)} cells; largest ratio {max(ratios):.2f}")
    print("\nsliced Wasserstein-2 distance of samples to exact ones, each sampler on its best grid, D = 16")
    for name, sde in PROCESSES.items():
        distances(name, sde)


def start(sde: sf.GaussianSDE, network: Mixture, n: int) -> tuple[Tensor, float]:
    """States at T over alpha, from the process's prior, and alpha."""
    knot = sde.knots([sde.T])[0]
    g = torch.Generator().manual_seed(5)
    x = torch.randn(n, network.dimensions, generator=g, dtype=torch.float64)
    return x * math.hypot(1, knot.sigma / knot.alpha), knot.alpha


def run(network: Mixture, calls: int, sampler: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The sampler's output, its calls counted."""
    network.calls = 0
    torch.manual_seed(0)  # the peers draw from the global generator
    y = sampler(x)
    assert network.calls == calls, f"{network.calls} calls instead of {calls}"
    return y


def endpoints(name: str, sde: sf.GaussianSDE, network: Mixture, budgets: tuple[int, ...]) -> Iterator[float]:
    """Prints a line for each budget and gives the ratio of errors."""
    dimensions = network.dimensions
    x, alpha = start(sde, network, STATES)
    noise = sf.Noise.per_sample(range(STATES))
    knot = sde.knots([sde.T])[0]
    edm = sf.EDM(T=knot.sigma / knot.alpha, t_min=1e-6, t_end=1e-5)
    exact = integrate(Model(edm, network), x, grids.uniform_log_snr(edm, 500), solvers.RK4(), noise=noise)

    def error(nfe: int, sampler: Callable[[Tensor], Tensor]) -> float:
        y = run(network, nfe, sampler, x)
        return float((y - exact).norm(dim=1).mean()) / math.sqrt(dimensions)

    model = Model(sde, network)
    for nfe in budgets:
        solver, times = sf.default(sde, nfe)
        ours = error(nfe, lambda x, s=solver, t=times: integrate(model, x * alpha, t, s, noise=noise))
        found = [(error(nfe, sampler), peer) for peer, sampler in peers_quality.deterministic(sde, network, nfe)]
        best, peer = min(((e, p) for e, p in found if math.isfinite(e)), default=(math.nan, "none is installed"))
        print(f"{name} D={dimensions:<3}{nfe:4} calls   ours {ours:.6f}   best peer {best:.6f} ({peer})", end="   ")
        print(f"ratio {ours / best:.2f}", flush=True)
        yield ours / best


def distances(name: str, sde: sf.GaussianSDE, dimensions: int = 16) -> None:
    """Prints the table of the stochastic samplers."""
    budgets = (10, 20, 50, 100)
    network = Mixture(dimensions)
    x, alpha = start(sde, network, SAMPLES)
    law = Law(network)
    model, noise = Model(sde, network), sf.Noise.per_sample(range(SAMPLES))
    floors = [law.distance(network.sample(SAMPLES, seed)) for seed in range(1, 11)]
    rows = {
        "exact samples, mean of 10 sets": dict.fromkeys(budgets, sum(floors) / len(floors)),
        "exact samples, worst of 10 sets": dict.fromkeys(budgets, max(floors)),
    }
    for nfe in budgets:
        for title, sampler in (*ours_sde(model, alpha, noise, nfe), *peers_quality.stochastic(sde, network, nfe)):
            row = rows.setdefault(title.rpartition(" on ")[0], {})
            row[nfe] = min(row.get(nfe, math.inf), law.distance(run(network, nfe, sampler, x)))
    print(f"{name + ', calls:':44}" + "".join(f"{nfe:>9}" for nfe in budgets))
    for title, row in rows.items():
        print(f"{title:44}" + "".join(f"{row[nfe]:>9.4f}" for nfe in budgets), flush=True)


def ours_sde(model: Model, alpha: float, noise: sf.Noise, nfe: int) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    methods = {
        "ancestral": solvers.Ancestral(),
        "SDE-DPM-Solver++(2M)": solvers.DPMSolverPP(2, eta=1.0),
        "SA-Solver": solvers.SASolver(),
        "exponential Adams-2, velocities": solvers.ExponentialAdams(2, corrector=False, eta=1.0),
    }
    for title, solver in methods.items():
        for grid in (grids.uniform_log_snr, grids.karras, grids.uniform):
            times = grid(model.sde, nfe)
            sampler = lambda x, s=solver, t=times: integrate(model, x * alpha, t, s, noise=noise)  # noqa: E731
            yield f"scorefield {title} on {grid.__name__}", sampler


class Law:
    """Projections of the mixture on random directions, by their quantiles from 16 times as many exact samples."""

    def __init__(self, network: Mixture, directions: int = 128) -> None:
        g = torch.Generator().manual_seed(3)
        self.directions = functional.normalize(torch.randn(network.dimensions, directions, generator=g).double(), dim=0)
        projected = (network.sample(16 * SAMPLES, 0) @ self.directions).sort(0)[0]
        self.quantiles = projected.reshape(SAMPLES, 16, directions).mean(1)

    def distance(self, x: Tensor) -> float:
        """Sliced Wasserstein-2 distance of samples to the law."""
        return float(((x @ self.directions).sort(0)[0] - self.quantiles).square().mean().sqrt())


if __name__ == "__main__":
    main()
