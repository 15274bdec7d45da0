"""A density and its score.

The score grad log p(x) = grad p / p points to where the density rises fastest relative to its value: long arrows far
from all data, none at a mode. It does not know the constant that normalises p, and needs none: its line integral from
one point to another is the difference of their log-densities.
"""

import math

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import plot


def main(out: str = "docs/gallery/01_density_and_score.png") -> None:
    means = torch.tensor([[-1.6, 1.0], [1.7, 1.2], [0.2, -1.6]])
    covariances = torch.tensor([[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.5]], [[0.9, 0.1], [0.1, 0.2]]])
    mixture = sf.GaussianMixture(sf.VE(0.01, 10.0), torch.tensor([0.5, 0.3, 0.2]), means, covariances)
    t = torch.tensor(mixture.sde.t_min)  # the data with an invisible noise of 0.01

    fine, coarse = plot.plane(-4, 4, 200), plot.plane(-3.75, 3.75, 21)
    density = mixture.log_prob(fine, t).exp().reshape(200, 200).T
    score = mixture.score(coarse, t)
    arrows = score / score.norm(dim=1, keepdim=True).sqrt()  # shortened, so that long ones do not hide the rest

    start, end = torch.tensor([[-3.5, 3.5]]), means[1:2].to(torch.float32)
    integral = float(sf.log_density_ratio(mixture, start, end, t, nodes=64))
    difference = float(mixture.log_prob(end, t) - mixture.log_prob(start, t))
    print(f"line integral of the score {integral:.6f}, difference of log p {difference:.6f}")
    x = mixture.marginal(mixture.sde.t_min).sample(torch.empty(100_000, 2), sf.Noise.per_batch(0, 100_000))
    s = mixture.score(x, t)
    print(f"means over samples: score {s.mean(0).norm():.3f} (0 exactly), x . score {(x * s).sum(1).mean():.3f} (-2)")

    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes in (left, right):
        axes.contourf(density, extent=(-4, 4, -4, 4), levels=12, cmap="Blues", vmax=1.3 * density.max())
        axes.set(xlabel="$x_1$", aspect="equal")
    levels = [10.0**k for k in range(-6, -1)]
    left.contour(density, extent=(-4, 4, -4, 4), levels=levels, colors="0.5", linewidths=0.6)
    left.plot(*torch.cat((start, end)).T, color="C3", marker="o", markersize=4)
    left.annotate(f"$\\int s\\cdot dx$ = {integral:.3f}", (-0.6, 3.0), color="C3", backgroundcolor="white")
    left.set(ylabel="$x_2$", title="density $p(x)$, lines at $10^{-6}$ to $10^{-2}$")
    right.quiver(*coarse.T, *arrows.T, color="C3", width=0.004)
    right.set_title(r"score $s(x)=\nabla_x\,\log\,p(x)$, arrows of length $\sqrt{|s|}$")
    figure.savefig(out, dpi=110)
    assert math.isclose(integral, difference, rel_tol=1e-4)


if __name__ == "__main__":
    main()
