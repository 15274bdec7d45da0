"""Writes docs/solvers.md and its plots: every method with its certified order and its error for numbers of calls.

python benchmarks/solvers_page.py     (about a minute)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch

import scorefield as sf
from scorefield import plot
from scorefield.certify import chain_law, measured_order, natural_spectrum, output_law, steps_within
from scorefield.sampling import adaptive, integrate
from scorefield.solvers import (
    BAOAB,
    DDIM,
    DEIS,
    HMC,
    IPNDM,
    LMS,
    MALA,
    RK4,
    SRA1,
    AdaptiveSDE,
    Ancestral,
    AnnealedLangevin,
    BogackiShampine,
    Churn,
    ConsistentAnnealed,
    DormandPrince,
    DPMSolverPP,
    EulerMaruyama,
    ExponentialAdams,
    ExponentialTwoStage,
    GradientAscent,
    GuidedAdams,
    Heun,
    Langevin,
    Milstein,
    PredictorCorrector,
    Restart,
    ReverseDiffusion,
    SASolver,
    SciPyODE,
    ShARK,
    Solver,
    StochasticHeun,
    UniPC,
)

DOCS = Path(__file__).parents[1] / "docs"
SDE = sf.VP()
BUDGETS = (5, 8, 10, 15, 20, 35, 50, 100, 200)
Method = tuple[
    str, Solver | Callable[[int], Solver], str, str
]  # name, solver (for n steps), what it is, when to use it

ODE: list[Method] = [
    ("DDIM", DDIM(), "exponential Euler for D", "below 4 calls; as the plainest reference"),
    ("DPMSolverPP", DPMSolverPP(2), "2 values of D (2M); 1 to 3", "in the literature with strong guidance"),
    ("UniPC", UniPC(), "3 values of D and a corrector", "20 to 50 calls; stable for any number"),
    (
        "ExponentialAdams",
        ExponentialAdams(3, True, 0.0, 3.0),
        "any order, corrector, eta and guess of the variance",
        "the default of `sample`, with settings for the budget",
    ),
    ("IPNDM", IPNDM(), "Adams-Bashforth of the noise prediction", "in the literature 5 to 10 calls on Karras' grid"),
    ("DEIS", DEIS(), "polynomial in time for the noise prediction", "to compare with the literature"),
    ("LMS", LMS(), "polynomial in sigma / alpha for the noise prediction", "to compare with k-diffusion"),
]
STAGES: list[Method] = [
    ("Heun", Heun(), "trapezoidal rule in sigma / alpha, 2 calls", "to compare with EDM; 35 calls and more"),
    ("ExponentialTwoStage", ExponentialTwoStage(), "DPM-Solver++(2S), 2 calls", "when no past may be kept"),
    ("RK4", RK4(), "classical Runge-Kutta in the log-SNR, 4 calls", "references"),
]
STOCHASTIC: list[Method] = [
    ("EulerMaruyama", EulerMaruyama(), "in time; any SDE", "processes that are not Gaussian; as a reference"),
    ("Milstein", Milstein(), "Euler-Maruyama where g depends on t alone", "diffusions that depend on the state"),
    (
        "ReverseDiffusion",
        ReverseDiffusion(),
        "the forward chain's discretisation, reversed",
        "to compare with score_sde",
    ),
    ("Ancestral", Ancestral(), "DDPM's and SMLD's ancestral sampling", "models trained as chains; 100 calls and more"),
    ("SASolver", SASolver(), "stochastic Adams with corrector, noise within an interval", "20 to 60 calls with noise"),
    ("StochasticHeun", StochasticHeun(), "Heun with additive noise, 2 calls", "50 calls and more"),
    ("SRA1", SRA1(), "strong order 1.5, 2 calls", "50 calls and more; along given Brownian paths"),
    ("ShARK", ShARK(), "strong order 1.5, 2 calls", "as SRA1, with smaller errors at many calls"),
]
STOCHASTIC_FORMS = {
    "DPMSolverPP, eta = 1": DPMSolverPP(2, 1.0),
    "ExponentialAdams, eta = 1": ExponentialAdams(2, True, 1.0, 1.0),
    "ExponentialTwoStage, eta = 1": ExponentialTwoStage(1.0),
}
COMPOSITES: list[Method] = [
    (
        "PredictorCorrector",
        PredictorCorrector(DDIM(), Langevin()),
        "a predictor's step, then a corrector's",
        "scores with errors, which the corrector's noise forgets",
    ),
    (
        "Churn",
        lambda n: Churn(gamma=5 / n),
        "EDM's noise before each step",
        "EDM's stochastic sampler",
    ),
    (
        "Restart",
        lambda n: Restart(UniPC(), low=0.05, high=0.5, steps=max(2, n // 4)),
        "back up by noise, down by a solver",
        "in the literature the best of learned scores, 60 to 200 calls",
    ),
    (
        "ConsistentAnnealed",
        lambda n: ConsistentAnnealed(min(1.0, 14 / n)),
        "annealed steps that leave the right noise",
        "denoisers trained as NCSN",
    ),
    ("AnnealedLangevin", AnnealedLangevin(BAOAB(), steps=3), "corrector steps at each level", "NCSN; separated modes"),
]
ADAPTIVE = [
    (
        "BogackiShampine",
        BogackiShampine,
        "order 3(2), a step size for each sample",
        "a tolerance of 1e-2 to 1e-5: `--tolerance`",
    ),
    ("DormandPrince", DormandPrince, "order 5(4), a step size for each sample", "tolerances below 1e-5"),
    ("AdaptiveSDE", AdaptiveSDE, "stochastic Adams with predictable step sizes", "the reverse SDE to a tolerance"),
    ("SciPyODE", SciPyODE, "any method of scipy.integrate, sample by sample", "checks on the CPU"),
]
GUIDED = [
    (
        "GuidedAdams",
        GuidedAdams,
        "order and linear part chosen for each sample and step",
        "guidance; the default of `sample`, which without guidance is `ExponentialAdams`",
    ),
]
FIXED = [
    ("Langevin", Langevin, "unadjusted Langevin", "corrector of Song et al."),
    ("BAOAB", BAOAB, "Langevin with momentum", "corrector without bias on Gaussians"),
    ("MALA", MALA, "Langevin, accepted or refused", "models with `log_density`: exact"),
    ("HMC", HMC, "paths of the leapfrog method, accepted or refused", "as MALA, in more dimensions"),
    ("GradientAscent", GradientAscent, "Langevin without noise", "to find modes; it does not sample"),
]


def main() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    (DOCS / "images" / "solvers").mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION]
    for title, text, methods, more in (
        ("Probability-flow ODE, one call a step", ONE_CALL, ODE, {}),
        ("Probability-flow ODE, several calls a step", SEVERAL, STAGES, {}),
        ("Reverse SDE", REVERSE, STOCHASTIC, STOCHASTIC_FORMS),
        ("Composites", COMPOSED, COMPOSITES, {}),
    ):
        parts += [f"## {title}", text, table(methods), picture(title, {m[0]: m[1] for m in methods} | more)]
    parts += ["## Guidance", GUIDANCE, plain_table(GUIDED)]
    parts += ["## Adaptive", TOLERANCES, plain_table(ADAPTIVE), adaptive_picture()]
    parts += ["## At a fixed time", AT_A_TIME, plain_table(FIXED), corrector_picture()]
    (DOCS / "solvers.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def for_steps(solver: Solver | Callable[[int], Solver], n: int) -> Solver:
    return solver if isinstance(solver, Solver) else solver(n)


def table(methods: list[Method]) -> str:
    rows = ["| method | what it is | when to use it | certified order | claimed |", "|---|---|---|---|---|"]
    for name, solver, what, when in methods:
        claimed = for_steps(solver, 48).convergence_order
        order = f"{measured_order(solver, SDE):.2f}" if claimed else "a bias stays"
        rows.append(f"| `{name}` | {what} | {when} | {order} | {claimed} |")
    return "\n".join(rows)


def plain_table(methods: list[tuple[str, type[Solver], str, str]]) -> str:
    rows = ["| method | what it is | when to use it |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| `{name}` | {what} | {when} |" for name, _, what, when in methods)])


def picture(title: str, solvers: dict[str, Solver | Callable[[int], Solver]]) -> str:
    curves = {name: errors(solver) for name, solver in solvers.items()}
    return saved(title, curves, "relative W2 error")


def errors(solver: Solver | Callable[[int], Solver]) -> tuple[list[int], list[float]]:
    """Of budgets whose error is below 10: larger ones say that the method is unstable there."""
    calls, found = [], []
    for budget in BUDGETS:
        chosen = for_steps(solver, budget)
        try:
            steps = steps_within(chosen, SDE, budget)
            error = output_law(chosen, sf.grids.uniform_log_snr(SDE, steps), SDE, natural_spectrum()).error
        except ValueError:  # no step for that budget, or a grid that is too coarse for ConsistentAnnealed or Restart
            continue
        if error < 10:
            calls.append(budget)
            found.append(error)
    return calls, found


def adaptive_picture() -> str:
    """On a mixture of two normal laws in the plane: mean distance to the exact endpoint."""
    model = sf.GaussianMixture(SDE, torch.ones(2), torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([0.05, 0.2]))
    noise = sf.Noise.per_sample(range(500))
    start = model.marginal(SDE.T).sample(torch.empty(500, 2, dtype=torch.float64), noise.at(0))
    exact = integrate(model, start, sf.grids.uniform_log_snr(SDE, 1000, SDE.t_min), RK4(), noise=noise)
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for kind in (BogackiShampine, DormandPrince):
        calls, distances = [], []
        for tolerance in (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6):
            _, times = adaptive(SDE, tolerance)
            seen: list[float] = []
            y = integrate(
                model,
                start,
                times,
                kind(tolerance),
                noise=noise,
                callback=lambda _k, _knot, step, seen=seen: seen.append(calls_of(step)),
            )
            calls.append(round(sum(seen)))
            distances.append(float((y - exact).norm(dim=1).mean()) / math.sqrt(2))
        curves[kind.__name__] = calls, distances
    fixed = []
    for budget in BUDGETS:
        solver, times = sf.default(SDE, budget)
        y = integrate(model, start, times, solver, noise=noise)
        fixed.append(float((y - exact).norm(dim=1).mean()) / math.sqrt(2))
    curves["the default of `sample`"] = list(BUDGETS), fixed
    return saved("Adaptive", curves, "mean error of the endpoint")


def calls_of(step: sf.solvers.Step) -> float:
    return float(step.info["calls"].double().mean()) if step.info else 1.0


def corrector_picture() -> str:
    """The exact variance of chains on N(0, 1) after 100 steps from that law."""
    sizes = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for kind in (Langevin, BAOAB):
        laws = [chain_law(kind(snr, length=1.0), 100, SDE, SDE.T, torch.ones(1)) for snr in sizes]
        curves[kind.__name__] = sizes, [max(1e-16, abs(float((law.std / law.target) ** 2) - 1)) for law in laws]
    return saved("At a fixed time", curves, "relative error of the variance", "snr (step / std)")


def saved(title: str, curves: dict[str, tuple[list, list[float]]], ylabel: str, xlabel: str = "network calls") -> str:
    name = title.lower().replace(",", "").replace(" ", "_")
    plot.error_curves(curves, ylabel, xlabel).savefig(DOCS / "images" / "solvers" / f"{name}.png", dpi=110)
    return f"![{ylabel} over {xlabel}: {title}](images/solvers/{name}.png)"


INTRODUCTION = """# Solvers

A solver moves states along a grid of times. All take the same arguments, `sample(model, shape, times, solver,
seeds=...)` and `scorefield sample run --solver NAME`. Those with a fixed grid are certified: `scorefield certify NAME`
runs the solver's own code on Gaussian data with unit vectors in the place of noise, which gives the exact law of its
samples; adaptive ones, and those that accept and refuse, are tested against closed forms.
There is no Monte Carlo in the orders and errors of the first four sections. Written by `python
benchmarks/solvers_page.py`.

**Which one?** None: `sample --steps N` takes a good one for N network calls, `--tolerance 1e-3` an adaptive one. With
a budget and data of known spectrum, `--grid optimised` makes the grid to measure. If samples of a learned model look
too smooth, the literature advises noise: `SASolver`, `DPMSolverPP(eta=1)`, or `Restart`.

In the tables *certified order* is log2 of the error's ratio at 24 and 48 steps on VP, where the solution bends; in
the plots the process is VP, the data have variances as 1 / k^2 for k = 1 ... 64 with mean 1, the grid is equal steps
of the log-SNR with the denoise step at the end, and the error is the Wasserstein-2 distance to the data over their
size. Budgets at which a method is unstable (an error above 10) are left out."""
ONE_CALL = """Multistep methods: they remember the last network outputs. All write the equation in x / alpha and treat
its linear part exactly; they differ in what they continue beyond the last values, and against which variable."""
SEVERAL = """One-step methods: nothing is remembered, so that they can run in both directions and be composed freely."""
REVERSE = """With noise errors of the score are partly forgotten, at the price of lower orders. The explicit ones need
short steps: `EulerMaruyama` and `Milstein` of time, ((1 + eta)/2 g^2 / sigma^2 + a) h < 2; `StochasticHeun`, `SRA1`
and `ShARK` of log(sigma / alpha), (1 + eta) h < 2. The command line warns of grids that are too coarse. Milstein *is*
Euler-Maruyama for every Gaussian process.

**`EulerMaruyama` between ODE and SDE** wants equal steps of the log-SNR, which `sample` takes for a solver that is
given without times. Where x is noise and sigma near 1, a step makes x (1 - eta r) + sqrt(2 eta r) z of it, where
r = |a| h is the share by which alpha grows: the variance 1 becomes 1 + (eta r)^2, and later steps forget the excess by
their own 1 - eta r. The g of `Rectified` and `Cosine` is infinite at 1: equal steps of time have r = h / (1 - T) there,
52 with 20 steps, and then 1, 1/2, 1/3, ... With eta = 0 there is no excess, with eta = 1 the second step forgets it,
but in between it dies out as k^-eta after k steps: with eta = 0.1 data of std 0.3 come out of Rectified with 0.95, at
both ends with 0.27 and 0.30. Steps of sqrt(t) (1.85) and of information (0.51) begin as far from the data; those of the
log-SNR have r = 0.8 at most (0.28), Karras' are as good (0.27). A Langevin corrector halves the excess (0.52);
`ReverseDiffusion`, which takes alpha at both ends of a step, goes from one end to the other (0.88, 0.69, ..., 0.34)."""
COMPOSED = """Solvers made of solvers. Churn's gamma is 5 / N at N calls, EDM's S_churn = 5; Restart's descents and
ConsistentAnnealed's size shrink with the steps likewise."""
GUIDANCE = """Guidance of weight w gives the denoiser a Jacobian down to 1 - w, where all of the above are unstable
unless their steps of log(sigma / alpha) are short: DDIM from 2 / w on, the others before. `GuidedAdams` takes apart
what the guidance is made of, treats the normal laws that fit its parts exactly, and falls back to lower orders where
a higher one would not have foretold what came."""
TOLERANCES = """Each sample has its own step size. The network sees all of the batch until the last sample has arrived,
so that no sample feels its batch-mates, to the bit. That has a price where they need different numbers of calls:
on mixtures in 64 dimensions the last of 64 samples needs 55 calls where they need 41 on average.
Plot: a mixture of two normal laws in the plane, VP, mean distance to the exact endpoint of the ODE per sqrt(2) over the
mean number of calls that a sample needs.

`AdaptiveSDE` never rejects a step: what is drawn is used. The published method (Jolicoeur-Martineau et al. 2021)
draws new noise after a rejection, which prefers small noises and more than doubles the variance in one dimension."""
AT_A_TIME = """Markov chains at one time: as correctors of `PredictorCorrector` and `AnnealedLangevin`, or alone by
`chain`. Plot: the exact error of the variance of N(0, 1) after 100 steps of size snr; that of BAOAB dies out with the
number of steps, Langevin's stays. MALA and HMC have none for a model with `log_density`, and for a Gaussian."""

if __name__ == "__main__":
    main()
