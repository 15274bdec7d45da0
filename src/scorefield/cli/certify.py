"""`scorefield certify`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from scorefield import certify as certification
from scorefield import plot
from scorefield.cli.parts.grids import Grid
from scorefield.cli.parts.sources import check_target, directory
from scorefield.cli.parts.writing import save_figure
from scorefield.model import ScoreModel
from scorefield.processes import VP, GaussianSDE
from scorefield.solvers import Solver


def certify(
    solver: Solver,
    sde: GaussianSDE | None = None,
    run: Path | None = None,
    grid: Grid = Grid.log_snr,
    budgets: Sequence[int] = (5, 8, 10, 15, 20, 35, 50, 100),
    out: Path | None = None,
) -> None:
    """Computes the exact law of a solver's samples of Gaussian data: its order, and its error for numbers of calls.

    Args:
        solver: a class of scorefield.solvers, or your own by its import path, whose name may also stand right after
            `certify`; adaptive solvers, and those that accept and refuse, cannot be certified.
        sde: the process, VP by default.
        run: directory of a trained model, whose process and data's spectrum are taken; by default variances as 1/k^2.
        grid: log_snr, information, karras, uniform, quadratic, or optimised for each budget.
        budgets: network calls for a sample.
        out: a plot of the errors (.png).
    """
    if out is not None:
        check_target(out, ".png")
    if run is not None and sde is not None:
        raise ValueError("--run brings its process: leave --sde out")
    process, spectrum = sde or VP(), certification.natural_spectrum()
    if run is not None:
        model = ScoreModel.load(run)
        spectrum = grid.spectrum(model)
        if not isinstance(model.denoiser.sde, GaussianSDE):
            raise ValueError(
                f"certificates are of Gaussian processes; the run's is {type(model.denoiser.sde).__name__}"
            )
        process = model.denoiser.sde
    with nullcontext() if out is None else directory(out.parent):
        found = certification.certify(
            solver, process, spectrum, budgets=budgets, grid=lambda _, n: grid.times(solver, n, process, spectrum)
        )
        print(f"{solver} on {process}")
        print(f"order of convergence {found.order:.2f}, claimed {found.claimed}")
        print("calls  relative W2 error  largest std / target")
        for budget, law in zip(found.budgets, found.laws, strict=True):
            warning = "  unstable" if law.spread > certification.UNSTABLE else ""
            print(f"{budget:5}  {law.error:17.3g}  {law.spread:20.3g}{warning}")
        if out is not None:
            name = type(solver).__name__
            save_figure(plot.error_curves({name: (found.budgets, [law.error for law in found.laws])}), out)
