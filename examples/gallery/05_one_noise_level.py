"""One level of noise: quality against accuracy.

Noise of std sigma spreads the samples over the plane, so that the score of the noisy law p_sigma can be learnt at more
places; but p_sigma is not the law of the data. A little noise keeps the law and leaves gaps in which the network has
learnt nothing; much noise closes the gaps and loses the law. No single level will do.
"""

import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import plot


def main(out: str = "docs/gallery/05_one_noise_level.png", steps: int = 1000, samples: int = 10_000) -> None:
    sde, means = sf.VE(0.1, 20.0), torch.tensor([[-4.0, -4.0], [4.0, 4.0]])
    mixture = sf.GaussianMixture(sde, torch.tensor([0.8, 0.2]), means, torch.full((2,), 0.5))
    noise = sf.Noise.per_batch(0, samples)
    data = mixture.marginal(0.0).sample(torch.empty(samples, 2), noise)
    batches = sf.Batches(sf.data.ArrayDataset(data), sf.data.Affine(), 256, seed=0)
    fine, coarse = plot.plane(-8, 8, 120), plot.plane(-7.5, 7.5, 16)
    colours = LinearSegmentedColormap.from_list("error", ["0.45", "red"])

    figure = Figure(figsize=(14, 4), layout="constrained")
    *fields, curves = figure.subplots(1, 4)
    shown, found = dict(zip((0.2, 2.0, 10.0), fields, strict=True)), []
    for sigma in (0.2, 0.5, 1.0, 2.0, 5.0, 10.0):
        with sf.nn.seeded(0):
            model = sf.Preconditioned(sf.nn.MLP((2,), features=64), sde, sf.ScorePrecond())
        state = sf.TrainState(model, sf.Optimisation(lr=2e-3), seed=0)
        objective = sf.objectives.DenoisingScoreMatching(sf.objectives.OneLevel(sigma))
        for _ in sf.train(state, batches, objective, steps=steps):
            pass
        t = sde.time(-2 * torch.tensor(sigma, dtype=torch.float64).log())  # where the process has this noise
        with torch.no_grad():
            score, true = state.averaged().score(coarse, t), mixture.score(coarse, t)
        error = (score - true).norm(dim=1) / true.norm(dim=1)
        distance = sf.metrics.sliced_wasserstein(sde.perturb(data, t, noise.at(1).normal(data)), data)
        found.append((sigma, float(error.median()), distance))
        print("sigma {:g}: |error| / |score| {:.3f}, sliced W2 to the data {:.2f}".format(*found[-1]))
        if sigma in shown:
            axes, density = shown[sigma], mixture.log_prob(fine, t).exp().reshape(120, 120).T
            axes.contourf(density, extent=(-8, 8, -8, 8), levels=8, cmap="Blues", vmax=1.5 * density.max())
            arrows = score / score.norm(dim=1, keepdim=True)
            axes.quiver(*coarse.T, *arrows.T, error, cmap=colours, clim=(0, 1), width=0.006, scale=22)
            axes.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$", title=f"learnt score, $\\sigma$ = {sigma:g}")
    sigmas, errors, distances = zip(*found, strict=True)
    curves.loglog(sigmas, errors, marker="o", color="C3", label="error of the score, |error| / |score|")
    curves.loglog(sigmas, distances, marker="s", color="C0", label="distance of the noisy law to the data")
    curves.set(xlabel=r"$\sigma$", title="quality against accuracy", ylim=(None, 60))
    curves.legend(frameon=False, fontsize="small")
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main()
