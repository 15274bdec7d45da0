"""Langevin dynamics, plain and annealed.

Two modes of weights 0.7 and 0.3, far apart. Near each of them the score is that of the mode alone and does not know
the weights, so that plain Langevin dynamics, even with the exact score, gives each mode the points that began nearest
to it. Annealed Langevin dynamics begins under noise that joins the modes, whose score knows the weights, and lowers it.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import plot


def main(out: str = "docs/gallery/07_annealed_langevin.png", samples: int = 4000) -> None:
    sde, means = sf.VE(0.1, 20.0), torch.tensor([[-5.0, -5.0], [5.0, 5.0]])
    mixture = sf.GaussianMixture(sde, torch.tensor([0.7, 0.3]), means, torch.ones(2))
    seeds = range(samples)

    annealed, times = sf.solvers.AnnealedLangevin(sf.solvers.Langevin(snr=0.4), steps=100), sf.grids.smld(sde, 20)
    path = []
    end = sf.sample(mixture, (2,), times, annealed, seeds=seeds, callback=lambda _k, *reached: path.append(reached))

    steps = sf.network_calls(sde, times, annealed)  # as many for plain Langevin dynamics, under the least noise
    noise = sf.Noise.per_sample(seeds).until(steps)
    start = 16 * noise.at(0).uniform(torch.empty(samples, 2)) - 8
    plain = sf.chain(mixture, start, sde.t_min, sf.solvers.Langevin(snr=0.3, length=1.0), steps, noise=noise)
    exact = mixture.marginal(0.0).sample(torch.empty(samples, 2), sf.Noise.per_sample(range(samples, 2 * samples)))

    knot, middle = path[7]
    panels = {
        "plain: start": start,
        f"plain: after {steps} calls": plain,
        f"annealed: $\\sigma$ = {knot.sigma:.2g}": middle.x,
        f"annealed: after {steps} calls": end,
        "exact samples": exact,
    }
    density = mixture.log_prob(plot.plane(-10, 10, 120), torch.tensor(0.0)).exp().reshape(120, 120).T
    figure = Figure(figsize=(17, 3.9), layout="constrained")
    for axes, (title, x) in zip(figure.subplots(1, 5, sharex=True, sharey=True), panels.items(), strict=True):
        upper = float((x.sum(1) > 0).float().mean())  # the share on the upper mode's side
        print(f"{title}: {1 - upper:.3f} and {upper:.3f}")
        axes.contourf(density, extent=(-10, 10, -10, 10), levels=6, cmap="Blues", vmax=2 * density.max())
        axes.scatter(*x.T, s=1.5, color="C3", linewidths=0)
        axes.annotate(f"{100 * (1 - upper):.0f} %", (-5, -9), ha="center", weight="bold", fontsize=13)
        axes.annotate(f"{100 * upper:.0f} %", (5, 8.2), ha="center", weight="bold", fontsize=13)
        axes.set(xlim=(-10, 10), ylim=(-10, 10), xlabel="$x_1$", aspect="equal", title=title)
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main()
