"""What guided samplers sample from: the distance to p(x | c)^w p(x)^(1-w) with and without correctors.

    python benchmarks/tilted.py

Mixtures of two normal laws on the line, in closed form; the class is the first. Wasserstein-1 of 20,000 samples by
classifier-free guidance to the normalised density, by quantiles; DDIM on equal steps of the log-SNR, then with
corrections of `Langevin(0.5)` after each of 50 steps.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from scorefield import VE, VP, GaussianMixture, grids, sample
from scorefield.guidance import ClassifierFree
from scorefield.solvers import DDIM, Langevin, PredictorCorrector

# (process, weights, means, variances, w)
TOYS = {
    "neighbours, w = 2": (VP(), [0.5, 0.5], [-1.0, 1.0], [0.5, 0.5], 2.0),
    "neighbours, w = 3": (VP(), [0.5, 0.5], [-1.0, 1.0], [0.5, 0.5], 3.0),
    "far apart, w = 4": (VP(), [0.5, 0.5], [-1.0, 1.0], [0.1, 0.1], 4.0),
    "narrow in wide, w = 2": (VP(), [0.3, 0.7], [0.0, 0.0], [0.25, 2.0], 2.0),
    "rare, VE, w = 2.5": (VE(sigma_max=20.0), [0.1, 0.9], [1.0, 0.0], [0.5, 1.0], 2.5),
}
N = 20_000


def distance(x: Tensor, conditional: GaussianMixture, whole: GaussianMixture, w: float) -> float:
    grid, data = torch.linspace(-15, 15, 60001, dtype=torch.float64), torch.tensor(0.0)
    log = w * conditional.log_prob(grid, data) + (1 - w) * whole.log_prob(grid, data)
    mass = torch.cumulative_trapezoid((log - log.max()).exp(), grid).numpy()
    quantiles = np.interp((np.arange(N) + 0.5) / N, mass / mass[-1], grid[1:].numpy())
    return float(np.abs(np.sort(x.double().numpy()) - quantiles).mean())


def main() -> None:
    torch.set_num_threads(1)
    columns = {
        "50 steps": (DDIM(), 50),
        "400 steps": (DDIM(), 400),
        **{f"+ {k}": (PredictorCorrector(DDIM(), Langevin(0.5), corrections=k), 50) for k in (1, 5, 10, 20)},
    }
    print(f"{'':24}" + "".join(f"{name:>11}" for name in columns))
    for name, (sde, weights, means, variances, w) in TOYS.items():
        whole = GaussianMixture(sde, torch.tensor(weights), torch.tensor(means), torch.tensor(variances))
        conditional = GaussianMixture(sde, torch.ones(1), torch.tensor(means[:1]), torch.tensor(variances[:1]))
        guided = ClassifierFree(conditional, whole, w)
        found = (
            sample(guided, (), grids.uniform_log_snr(sde, steps), solver, seeds=range(N))
            for solver, steps in columns.values()
        )
        print(f"{name:24}" + "".join(f"{distance(x, conditional, whole, w):>11.3f}" for x in found), flush=True)


if __name__ == "__main__":
    main()
