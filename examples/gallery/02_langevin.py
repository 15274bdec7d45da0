"""Langevin dynamics.

Noisy steps along the score, x' = x + eps s(x) + sqrt(2 eps) z, carry points from anywhere to samples of p: the score is
all that is needed, no normalised density and no network here. Left, paths of five points; right, where 4000 points from
a uniform square are after all steps, beside the weights of the modes.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import plot


def main(out: str = "docs/gallery/02_langevin.png", steps: int = 1500, samples: int = 4000) -> None:
    means = torch.tensor([[-1.6, 1.0], [1.7, 1.2], [0.2, -1.6]])
    covariances = torch.tensor([[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.5]], [[0.9, 0.1], [0.1, 0.2]]])
    weights = torch.tensor([0.5, 0.3, 0.2])
    mixture = sf.GaussianMixture(sf.VE(0.01, 10.0), weights, means, covariances)

    noise = sf.Noise.per_sample(range(samples)).until(steps)
    start = 8 * noise.at(0).uniform(torch.empty(samples, 2)) - 4
    path = [start]
    langevin = sf.solvers.Langevin(snr=0.1, length=1.0)  # eps = 2 (snr length)^2 = 0.02
    t = mixture.sde.t_min  # the data with an invisible noise of 0.01
    end = sf.chain(mixture, start, t, langevin, steps, noise=noise, callback=lambda _k, _t, step: path.append(step.x))

    exact = mixture.marginal(t).sample(torch.empty(2 * samples, 2), sf.Noise.per_sample(range(samples, 3 * samples)))
    floor = sf.metrics.sliced_wasserstein(exact[:samples], exact[samples:])
    found = sf.metrics.sliced_wasserstein(end, exact[:samples])
    share = torch.cdist(end, means).argmin(1).bincount(minlength=3) / samples
    true = torch.cdist(exact, means).argmin(1).bincount(minlength=3) / (2 * samples)
    print("nearest to each mode", share.numpy().round(3), "of exact samples", true.numpy().round(3))
    print(f"sliced W2 to exact samples {found:.3f}, between two sets of them {floor:.3f}")

    density = mixture.log_prob(plot.plane(-4.5, 4.5, 200), torch.tensor(t)).exp().reshape(200, 200).T
    figure = Figure(figsize=(12.5, 4.4), layout="constrained")
    paths, first, last = figure.subplots(1, 3, sharex=True, sharey=True)
    for axes in (paths, first, last):
        axes.contourf(density, extent=(-4.5, 4.5, -4.5, 4.5), levels=8, cmap="Blues", vmax=1.5 * density.max())
        axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    for k in range(5):
        line = torch.stack(path)[:200, k]
        paths.plot(*line.T, linewidth=0.8, color=f"C{k + 1}")
        paths.plot(*line[0], marker="o", color=f"C{k + 1}", markersize=6)
    paths.set_title("paths of five points, 200 steps")
    for axes, x, title in ((first, start, f"{samples} points at the start"), (last, end, f"after {steps} steps")):
        axes.scatter(*x.T, s=2, color="C3", linewidths=0)
        axes.set_title(title)
    for mode, one, two in zip(means, 100 * share, 100 * true, strict=True):
        place = mode + torch.tensor([0.0, 2.4]) * mode[1].sign()
        last.annotate(f"{one:.0f} %\n(exact {two:.0f} %)", place, ha="center", va="center", weight="bold")
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main()
