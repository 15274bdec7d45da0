"""How far posterior samples are from the exact posterior, for each method: mixtures of 25, or digits.

Sliced Wasserstein-1 distance to samples of the exact posterior, in units of a component's standard deviation for the
mixtures, which are 8 apart, and in units of half the range of grey for the digits. The first lines are what is possible
(exact against exact) and the same sampler with the exact conditional score. Peers (azula) run in the same process, on
the same problems, with the same times and number of steps.

    python benchmarks/posterior.py [--digits] [--samples 1000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from peers_posterior import azula_methods
from posterior_problems import DIGITS, MIXTURES, SDE, Problem
from torch import Tensor

from scorefield import grids, sample
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
from scorefield.posterior import DAPS, REDdiff, SplitGibbs, TwistedSMC
from scorefield.solvers import Ancestral, Langevin, PredictorCorrector

STEPS = 250
Method = Callable[[Problem, int, int], Tensor]  # problem, number of samples, first seed


def guided(build: Callable[[Problem], object]) -> Method:
    """Ancestral sampling by a guided denoiser."""

    def run(p: Problem, n: int, seed: int) -> Tensor:
        return sample(
            build(p), p.prior.event_shape, grids.uniform(SDE, STEPS), Ancestral(), seeds=range(seed, seed + n)
        )

    return run


def solved(build: Callable[[Problem], object], steps: int = STEPS) -> Method:
    """The prior's denoiser with a solver that knows of the measurement."""

    def run(p: Problem, n: int, seed: int) -> Tensor:
        return sample(p.prior, p.prior.event_shape, grids.uniform(SDE, steps), build(p), seeds=range(seed, seed + n))

    return run


def looped(build: Callable[[Problem, int], object]) -> Method:
    """A sampler with a loop of its own."""

    def run(p: Problem, n: int, seed: int) -> Tensor:
        return build(p, n).sample(p.prior.event_shape, seeds=range(seed, seed + n))

    return run


METHODS: dict[str, Method] = {
    "exact conditional score": guided(lambda p: p.posterior),
    "prior": guided(lambda p: p.prior),
    "TwistedSMC, PiGDM": looped(lambda p, n: TwistedSMC(*p.known, PiGDM, count=n, steps=STEPS)),
    "TwistedSMC, MomentMatching": looped(lambda p, n: TwistedSMC(*p.known, MomentMatching, count=n, steps=STEPS)),
    "MomentMatching": guided(lambda p: MomentMatching(*p.known)),
    "MomentMatching, 1 iteration": guided(lambda p: MomentMatching(*p.known, iterations=1)),
    "SplitGibbs": looped(lambda p, n: SplitGibbs(*p.known)),
    **{f"PiGDM, sigma_data {s}": guided(lambda p, s=s: PiGDM(*p.known, sigma_data=s)) for s in (1.0, 0.5, 0.25)},
    **{f"DPS, zeta {z}": guided(lambda p, z=z: DPS(*p.known, zeta=z)) for z in (1.0, 2.0, 3.0, 5.0, 10.0)},
    "DDRM": solved(lambda p: DDRM(*p.measured)),
    "DDNM": guided(lambda p: DDNM(*p.known)),
    "DDNMPlus": solved(lambda p: DDNMPlus(*p.measured)),
    **{f"DiffPIR, weight {w}": guided(lambda p, w=w: DiffPIR(*p.known, weight=w)) for w in (1.0, 7.0)},
    "ScoreALD": guided(lambda p: ScoreALD(*p.known)),
    "RePaint": solved(lambda p: RePaint(*p.measured), STEPS // 10),
    "Replacement, predictor-corrector": solved(
        lambda p: PredictorCorrector(Replacement(*p.measured), Replacement(*p.measured, Langevin()))
    ),
    "DAPS": looped(lambda p, n: DAPS(*p.known)),
    "REDdiff": looped(lambda p, n: REDdiff(*p.known)),
}


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--digits", action="store_true")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="parts of methods' names, separated by commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n, problems = options.samples, DIGITS if options.digits else MIXTURES
    made = {name: [make(100 + k) for k in range(options.repeats)] for name, make in problems.items()}
    exact: Method = lambda p, n, seed: p.exact(n, seed)  # noqa: E731
    print("| method | " + " | ".join(problems) + " | seconds |")
    print("|---" * (len(problems) + 2) + "|")
    for name, method in {"exact against exact": exact, **METHODS, **azula_methods(STEPS)}.items():
        if not any(part in name for part in options.only.split(",")):
            continue
        cells, start = list[str](), time.perf_counter()
        for each in made.values():
            found = [
                float(sliced_wasserstein(method(p, n, 10**8 * (k + 1)), p.exact(n, 10**6), power=1)) / p.unit
                for k, p in enumerate(each)
            ]
            cells.append(f"{sum(found) / len(found):.3g}")
        print(f"| {name} | {' | '.join(cells)} | {time.perf_counter() - start:.0f} |", flush=True)


if __name__ == "__main__":
    main()
