"""How precisely must the ODE be solved? Endpoints go on improving long after the samples have stopped to.

Each starting point has one exact endpoint of the probability-flow ODE, and a solver of order p misses it by the step to
the power p. The law of the samples forgives more: after some twenty network calls of a good solver their distance to
the data is that of the exact endpoints, which misses 0 only because both sets are finite. The score is a mixture's.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import solvers


def main(out: str = "docs/gallery/22_solver_precision.png", samples: int = 4000) -> None:
    sde, angle = sf.VP(), 2 * torch.pi / 5 * torch.arange(5.0)
    means = 1.2 * torch.stack((angle.cos(), angle.sin()), 1)
    model = sf.GaussianMixture(sde, torch.arange(1.0, 6.0), means, torch.linspace(0.01, 0.15, 5))
    data = model.marginal(0.0).sample(torch.empty(samples, 2), sf.Noise.per_sample(range(10**6, 10**6 + samples)))
    start = model.marginal(sde.T).sample(torch.empty(samples, 2).double(), sf.Noise.per_sample(range(samples)))

    noise, ends = sf.Noise.per_sample(range(samples)), [sde.T, sde.t_min, 0.0]
    exact = sf.integrate(model, start, ends, solvers.DormandPrince(1e-10), noise=noise)
    best = sf.metrics.sliced_wasserstein(exact, data)

    def solved(solver: solvers.Solver, times: list[float]) -> tuple[float, float, float]:
        """Network calls, error of the endpoints, and distance of the samples to the data."""
        told = []
        x = sf.integrate(model, start, times, solver, noise=noise, callback=lambda *step: told.append(step[-1].info))
        calls = told[0]["calls"].double().mean() + 1 if solver.adaptive else sf.network_calls(sde, times, solver)
        return float(calls), float((x - exact).norm(dim=1).mean()), sf.metrics.sliced_wasserstein(x, data)

    fixed = {"DDIM": solvers.DDIM(), "DPM-Solver++": solvers.DPMSolverPP(), "UniPC": solvers.UniPC()}
    found = {
        name: [solved(solver, sf.grids.uniform_log_snr(sde, n)) for n in (8, 12, 20, 40, 80, 160)]
        for name, solver in (fixed | {"Heun": solvers.Heun()}).items()
    }
    tolerances = [10.0**-k for k in range(1, 7)]
    found["adaptive"] = [solved(solvers.BogackiShampine(tolerance), ends) for tolerance in tolerances]

    error, quality, adaptive = (figure := Figure(figsize=(12.5, 3.8), layout="constrained")).subplots(1, 3)
    for name, values in found.items():
        print(name, *(f"{calls:.0f} calls: {miss:.1e}, {distance:.4f};" for calls, miss, distance in values))
        calls, misses, distances = zip(*values, strict=True)
        error.loglog(calls, misses, marker="o", markersize=3, label=name)
        quality.loglog(calls, distances, marker="o", markersize=3, label=name)
    quality.axhline(best, color="0.4", linestyle="--", label=f"exact endpoints: {best:.4f}")
    error.set(xlabel="network calls", ylabel="mean error of the endpoint", title="Precision")
    quality.set(xlabel="network calls", ylabel="sliced W2 to data", title="Quality")
    adaptive.loglog(tolerances, misses, "C4o-", markersize=3, label="adaptive")
    adaptive.loglog(tolerances, tolerances, color="0.6", label="error = tolerance")
    adaptive.set(xlabel="tolerance", ylabel="mean error of the endpoint", title="Error against tolerance")
    for axes in figure.axes:
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
