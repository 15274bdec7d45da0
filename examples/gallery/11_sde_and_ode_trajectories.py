"""The reverse SDE and the probability-flow ODE.

Two ways from noise to data by one score: dx = (f - g^2 s) dt + g dw backwards in time, whose paths from one start are
rough and end anywhere, and dx = (f - g^2 s / 2) dt, with one smooth path from each start. At each time both have the
same law p_t: left and middle, paths; right, histograms of the two at three times, and p_t.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf


def main(out: str = "docs/gallery/11_sde_and_ode_trajectories.png", samples: int = 10_000) -> None:
    sde = sf.VP()
    data = sf.GaussianMixture(sde, torch.tensor([0.6, 0.4]), torch.tensor([[-1.5], [1.2]]), torch.tensor([0.04, 0.09]))
    grid, noise = sf.grids.uniform(sde, 500), sf.Noise.per_sample(range(samples))

    def paths(start: torch.Tensor, eta: float) -> torch.Tensor:
        """States of the reverse SDE (eta = 1) or of the ODE (eta = 0) at all times of the grid."""
        path, own, solver = [start], noise.select(torch.arange(len(start))), sf.solvers.EulerMaruyama(eta)
        sf.integrate(data, start, grid, solver, noise=own, callback=lambda _k, _knot, step: path.append(step.x))
        return torch.stack(path)[..., 0]

    same, several = torch.full((8, 1), 0.15), torch.linspace(-2.5, 2.5, 11)[:, None]
    rough, smooth = paths(same, 1.0), paths(same[:1], 0.0)
    for name, path in {"SDE": rough, "ODE": smooth}.items():
        print(f"{name}: sum of squared steps {float(path.diff(dim=0).square().sum(0).mean()):.3f}")

    figure = Figure(figsize=(16, 4.4), layout="constrained")
    one, many, *laws = figure.subplots(1, 5, sharey=True, width_ratios=(5, 5, 1.6, 1.6, 1.6))
    x = torch.linspace(-3.2, 3.2, 300)[:, None]
    density = torch.stack([data.log_prob(x, torch.tensor(t)).exp() for t in grid[:-1]], 1)
    for axes, title in ((one, "one start: the SDE eight times, and the ODE"), (many, "the ODE from eleven starts")):
        axes.contourf(grid[:-1], x[:, 0], density**0.5, levels=10, cmap="Blues")
        axes.set(xlabel="t", title=title, xlim=(1, 0), ylim=(-3.2, 3.2), xticks=(0.8, 0.6, 0.4, 0.2))
    one.plot(grid, rough, linewidth=0.6)
    one.plot(grid, smooth, color="k", linewidth=2)
    many.plot(grid, paths(several, 0.0), color="k", linewidth=1)
    one.set_ylabel("x")

    start = data.marginal(sde.T).sample(torch.empty(samples, 1), noise)
    methods = {"SDE": (paths(start, 1.0), "C3"), "ODE": (paths(start, 0.0), "0.3")}
    for axes, k in zip(laws, (200, 400, 500), strict=True):
        law = data.marginal(grid[k])
        draws, others = law.sample(start, noise.at(1)), law.sample(start, noise.at(2))
        print(f"t = {grid[k]:.1f}: W2 of two sets of draws {sf.metrics.sliced_wasserstein(draws, others):.3f}", end="")
        for name, (path, colour) in methods.items():
            axes.hist(path[k], 60, density=True, orientation="horizontal", histtype="step", color=colour, label=name)
            print(f", {name} {sf.metrics.sliced_wasserstein(path[k][:, None], draws):.3f}", end="")
        axes.plot(law.log_prob(x).exp(), x, color="C0", linewidth=1, label="$p_t$")
        axes.set(title=f"t = {grid[k]:.1f}", xticks=[])
        print()
    laws[0].legend(frameon=False, loc="upper right", fontsize="small")
    figure.savefig(out, dpi=85)


if __name__ == "__main__":
    main()
