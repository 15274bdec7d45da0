"""Time that samplers spend outside the network, per network call: ours, a bare loop, and the peers that are installed.

    make benchmarks     (or: python benchmarks/overhead.py)

The network is D(x) = x / 2, whose own cost is measured and taken off. CPU time of one thread, minimum over repetitions:
the machines are shared, and the minimum is what the code costs when nobody else is there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import peers

import scorefield as sf
from scorefield.sampling import integrate

STEPS = 200
SDE = sf.VE(0.01, 50.0)


class Half(sf.Denoiser):
    """The cheapest denoiser there is."""

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return x * 0.5


def main() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    peers.hide_optional_imports()
    times = sf.grids.karras(SDE, STEPS + 1)[:-1]
    print(f"torch {torch.__version__}, one thread; microseconds per network call outside the network")
    print(f"{'':34}{'256 x 2':>12}{'64 x 3x32x32':>16}")
    rows: dict[str, list[float]] = {"the network itself": []}
    for shape, repeats in (((256, 2), 25), ((64, 3, 32, 32), 5)):
        x = 50 * sf.Noise.per_sample(range(shape[0])).normal(torch.empty(shape))
        network = per_call(lambda x=x: only_network(x), repeats, STEPS)
        rows["the network itself"].append(network)
        for name, (loop, calls) in {**bare(x, times), **ours(x, times), **peers.samplers(x, STEPS)}.items():
            rows.setdefault(name, []).append(per_call(loop, repeats, calls) - network)
    for name, values in rows.items():
        print(f"{name:34}" + "".join(f"{v:>{w}.1f}" for v, w in zip(values, (12, 16), strict=True)))


def only_network(x: Tensor) -> None:
    for _ in range(STEPS):
        x * 0.5


def per_call(loop: Callable[[], object], repeats: int, calls: int) -> float:
    """Least CPU time of a call in microseconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.thread_time()
        loop()
        best = min(best, time.thread_time() - start)
    return best / calls * 1e6


def bare(x: Tensor, times: list[float]) -> dict[str, tuple[Callable[[], object], int]]:
    """The least that Euler and Euler-Maruyama can cost: two or three kernels in place."""
    sigmas = [k.sigma for k in SDE.knots(times)]

    def euler(noise: bool) -> None:
        y = x.clone()
        for a, b in pairwise(sigmas):
            y.mul_(b / a).add_(y * 0.5, alpha=1 - b / a)
            if noise:
                y.add_(torch.randn_like(y), alpha=b)

    return {
        "bare loop, Euler": (lambda: euler(False), STEPS),
        "bare loop, Euler-Maruyama": (lambda: euler(True), STEPS),
    }


def ours(x: Tensor, times: list[float]) -> dict[str, tuple[Callable[[], object], int]]:
    """scorefield's loop with its solvers."""
    solvers = {
        "Euler": sf.solvers.EulerMaruyama(0.0),
        "Euler-Maruyama": sf.solvers.EulerMaruyama(),
        "Heun": sf.solvers.Heun(),
        "DDIM": sf.solvers.DDIM(),
        "ancestral": sf.solvers.Ancestral(),
        "DPM-Solver++(2M)": sf.solvers.DPMSolverPP(),
        "UniPC-3": sf.solvers.UniPC(),
        "default of 50 calls": sf.default(SDE, 50)[0],
        "iPNDM-4": sf.solvers.IPNDM(),
        "SRA1": sf.solvers.SRA1(),
        "Euler-Maruyama + Langevin": sf.solvers.PredictorCorrector(sf.solvers.EulerMaruyama(), sf.solvers.Langevin()),
    }
    model = Half(SDE)

    def run(solver: sf.solvers.Solver) -> None:
        integrate(model, x, times, solver, noise=sf.Noise.per_sample(range(len(x))).until(STEPS))

    return {
        f"scorefield {name}": (lambda s=solver: run(s), sf.network_calls(SDE, times, solver))
        for name, solver in solvers.items()
    }


if __name__ == "__main__":
    main()
