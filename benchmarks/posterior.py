"""How far posterior samples are from the exact posterior: a mixture of 25 components, its exact score, 5 problems.

Sliced Wasserstein-1 distance to samples of the exact posterior, in units where components are 8 apart and have standard
deviation 1. The first lines are what is possible (exact against exact), and the sampler with the exact conditional
score. Peers (azula) run in the same process on the same problems and noise levels, with 250 ancestral steps as ours.

    python benchmarks/posterior.py [--samples 1000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from peers_posterior import azula_methods
from torch import Tensor

from scorefield import VP, GaussianMixture, Noise, grids, sample
from scorefield.guidance import (
    DDNM,
    DDRM,
    DPS,
    DDNMPlus,
    DiffPIR,
    MomentMatching,
    PiGDM,
    RePaint,
    Replacement,
    ScoreALD,
)
from scorefield.metrics import sliced_wasserstein
from scorefield.operators import Gaussian, Linear, LinearOperator
from scorefield.posterior import DAPS, REDdiff, SplitGibbs, TwistedSMC
from scorefield.solvers import Ancestral, Langevin, PredictorCorrector

SCALE = 8 * math.sqrt(2)  # everything is divided by it, so that the prior has a standard deviation of about 1
SDE = VP()
STEPS = 250


class Matrix(LinearOperator):
    """A matrix; for the first coordinates alone its gram is 1."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def A(self, x: Tensor) -> Tensor:
        return x @ self.matrix.mT.to(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return y @ self.matrix.to(y)


class Problem(NamedTuple):
    """A prior, a measurement and the exact posterior."""

    prior: GaussianMixture
    operator: Linear
    y: Tensor
    sigma: float
    posterior: GaussianMixture


def problem(d: int, m: int, kind: str, sigma: float, seed: int) -> Problem:
    """A mixture on a grid in the plane that is repeated over the d coordinates; A is a mask or random."""
    g = torch.Generator().manual_seed(seed)
    grid = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]
    means = torch.tensor([[8.0 * (i if c % 2 == 0 else j) for c in range(d)] for i, j in grid], dtype=torch.float64)
    weights = (torch.randn(25, 3, generator=g, dtype=torch.float64) ** 2).sum(1)
    prior = GaussianMixture(SDE, weights, means / SCALE, torch.full((25,), 1 / SCALE**2))
    if kind == "mask":
        matrix = torch.eye(d, dtype=torch.float64)[:m]
    else:
        u, _, vt = torch.linalg.svd(torch.randn(m, d, generator=g, dtype=torch.float64), full_matrices=False)
        values = torch.rand(m, generator=g, dtype=torch.float64).sort(descending=True).values.clamp_min(0.05)
        matrix = u @ torch.diag(values) @ vt
    k = torch.multinomial(weights / weights.sum(), 1, replacement=True, generator=g)
    x = means[k] / SCALE + torch.randn(1, d, generator=g, dtype=torch.float64) / SCALE
    y = x @ matrix.mT + sigma / SCALE * torch.randn(1, m, generator=g, dtype=torch.float64)
    return Problem(prior, Matrix(matrix), y, sigma / SCALE, prior.posterior(matrix, y[0], sigma / SCALE))


PROBLEMS = {
    "mask d2 m1 s.5": (2, 1, "mask", 0.5),
    "mask d8 m2 s.1": (8, 2, "mask", 0.1),
    "mask d8 m4 s1": (8, 4, "mask", 1.0),
    "dense d8 m1 s.5": (8, 1, "dense", 0.5),
    "dense d8 m4 s.5": (8, 4, "dense", 0.5),
}
Method = Callable[[Problem, int, int], Tensor]  # problem, number of samples, first seed


def guided(build: Callable[[Problem], GaussianMixture | object]) -> Method:
    """Ancestral sampling by a guided denoiser."""

    def run(p: Problem, n: int, seed: int) -> Tensor:
        d = p.prior.means.shape[1]
        return sample(build(p), (d,), grids.uniform(SDE, STEPS), Ancestral(), seeds=range(seed, seed + n))

    return run


def solved(build: Callable[[Problem], object], steps: int = STEPS) -> Method:
    """The prior's denoiser with a solver that knows of the measurement."""

    def run(p: Problem, n: int, seed: int) -> Tensor:
        d = p.prior.means.shape[1]
        return sample(p.prior, (d,), grids.uniform(SDE, steps), build(p), seeds=range(seed, seed + n))

    return run


def looped(build: Callable[[Problem, int], object]) -> Method:
    """A sampler with a loop of its own."""

    def run(p: Problem, n: int, seed: int) -> Tensor:
        return build(p, n).sample((p.prior.means.shape[1],), seeds=range(seed, seed + n))

    return run


METHODS: dict[str, Method] = {
    "exact conditional score": guided(lambda p: p.posterior),
    "prior": guided(lambda p: p.prior),
    "TwistedSMC, PiGDM": looped(
        lambda p, n: TwistedSMC(p.prior, p.operator, p.y, Gaussian(p.sigma), PiGDM, count=n, steps=STEPS)
    ),
    "TwistedSMC, MomentMatching": looped(
        lambda p, n: TwistedSMC(p.prior, p.operator, p.y, Gaussian(p.sigma), MomentMatching, count=n, steps=STEPS)
    ),
    "MomentMatching": guided(lambda p: MomentMatching(p.prior, p.operator, p.y, Gaussian(p.sigma))),
    "MomentMatching, 1 iteration": guided(
        lambda p: MomentMatching(p.prior, p.operator, p.y, Gaussian(p.sigma), iterations=1)
    ),
    "SplitGibbs": looped(lambda p, n: SplitGibbs(p.prior, p.operator, p.y, Gaussian(p.sigma))),
    "PiGDM": guided(lambda p: PiGDM(p.prior, p.operator, p.y, Gaussian(p.sigma))),
    **{
        f"DPS, zeta {z}": guided(lambda p, z=z: DPS(p.prior, p.operator, p.y, Gaussian(p.sigma), zeta=z))
        for z in (0.3, 1.0, 3.0)
    },
    "DDRM": solved(lambda p: DDRM(p.operator, p.y, Gaussian(p.sigma))),
    "DDNM": guided(lambda p: DDNM(p.prior, p.operator, p.y, Gaussian(p.sigma))),
    "DDNMPlus": solved(lambda p: DDNMPlus(p.operator, p.y, Gaussian(p.sigma))),
    **{
        f"DiffPIR, weight {w}": guided(lambda p, w=w: DiffPIR(p.prior, p.operator, p.y, Gaussian(p.sigma), weight=w))
        for w in (1.0, 7.0)
    },
    "ScoreALD": guided(lambda p: ScoreALD(p.prior, p.operator, p.y, Gaussian(p.sigma))),
    "RePaint": solved(lambda p: RePaint(p.operator, p.y, Gaussian(p.sigma)), STEPS // 10),
    "Replacement, predictor-corrector": solved(
        lambda p: PredictorCorrector(
            Replacement(p.operator, p.y, Gaussian(p.sigma)), Replacement(p.operator, p.y, Gaussian(p.sigma), Langevin())
        )
    ),
    "DAPS": looped(lambda p, n: DAPS(p.prior, p.operator, p.y, Gaussian(p.sigma))),
    "REDdiff": looped(lambda p, n: REDdiff(p.prior, p.operator, p.y, Gaussian(p.sigma))),
}


def distance(x: Tensor, reference: Tensor) -> float:
    """Sliced W1 in units of a component's standard deviation."""
    return SCALE * float(sliced_wasserstein(x, reference, power=1))


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n = options.samples
    print("| method | " + " | ".join(PROBLEMS) + " | seconds |")
    print("|---" * (len(PROBLEMS) + 2) + "|")
    peers = {
        name: lambda p, n, seed, run=run: run(p.prior, p.operator, p.y, p.sigma, n, seed)
        for name, run in azula_methods(STEPS).items()
    }
    for name, method in {"exact against exact": None, **METHODS, **peers}.items():
        if options.only and not any(part in name for part in options.only.split(",")):
            continue
        cells, start = [], time.perf_counter()
        for kind in PROBLEMS.values():
            found = []
            for seed in range(options.repeats):
                p = problem(*kind, 100 + seed)
                like = torch.empty(n, kind[0], dtype=torch.float64)
                exact = p.posterior.marginal(0.0)
                reference = exact.sample(like, Noise.per_sample(range(10**6, 10**6 + n)))
                if method is None:
                    x = exact.sample(like, Noise.per_sample(range(10**7, 10**7 + n)))
                else:
                    x = method(p, n, 10**8 * (seed + 1))
                found.append(distance(x, reference))
            cells.append(f"{sum(found) / len(found):.2f}")
        print(f"| {name} | {' | '.join(cells)} | {time.perf_counter() - start:.0f} |", flush=True)


if __name__ == "__main__":
    main()
