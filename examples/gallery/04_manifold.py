"""Data on a manifold, and a little noise.

Data on curves have no density in the plane, so there is no score to learn: the loss of score matching,
E |s|^2 / 2 + div s, has no lower bound, and the network never comes to rest. With noise of std sigma the minimum is
-E |grad log p_sigma|^2 / 2, known here, since p_sigma is a mixture of normal laws along the curves.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import plot


def main(out: str = "docs/gallery/04_manifold.png", steps: int = 3000, samples: int = 10_000) -> None:
    sigma, curve = 0.1, sf.data.two_moons(1000, noise=0.0).x  # two half circles
    truth = sf.GaussianMixture(sf.VE(1e-3), torch.ones(1000), curve, torch.full((1000,), sigma**2))
    t, near = torch.tensor(truth.sde.t_min), sf.data.two_moons(2000, noise=sigma, seed=1).x
    square = float(truth.score(near, t).square().sum(1).mean())
    print(f"loss of the true score with noise {sigma}: {-square / 2:.1f}")

    figure = Figure(figsize=(14, 4.2), layout="constrained")
    *fields, loss_axes = figure.subplots(1, 3)
    loss_axes.axhline(-square / 2, color="k", linestyle=":", label=f"true score, noise {sigma}")
    for axes, noise, colour in zip(fields, (0.0, sigma), ("C3", "C0"), strict=True):
        data, name = sf.data.two_moons(samples, noise=noise).unlabelled(), f"noise {noise}" if noise else "no noise"
        with sf.nn.seeded(0):
            model = sf.PlainScore(sf.nn.MLP((2,), features=64))
        state = sf.TrainState(model, sf.Optimisation(lr=1e-3, decay=False), seed=0)
        batches, objective = sf.Batches(data, sf.data.Affine(), 128, seed=0), sf.objectives.ImplicitScoreMatching()
        losses = torch.tensor([float(info.loss) for info in sf.train(state, batches, objective, steps=steps)])
        means = losses.unfold(0, 20, 1).mean(1)  # of 20 batches
        last = means[-max(1, steps // 4) :]
        print(f"{name}: loss in the last quarter {last.mean():.1f}, from {last.min():.1f} to {last.max():.1f}")
        places = plot.plane(-2, 2, 27)
        places = places[places[:, 1].abs() < 1.3]
        with torch.no_grad():
            error = (state.averaged().score(near, t) - truth.score(near, t)).square().sum(1).mean()
            score = state.averaged().score(places, t)
        if noise:
            print(f"error of the averaged network over the size of the true score: {float(error / square) ** 0.5:.2f}")
        axes.scatter(*data.x[:2000].T, s=4, color=colour, alpha=0.5, linewidths=0)
        axes.quiver(*places.T, *(score / score.norm(dim=1, keepdim=True).sqrt()).T, color="0.3", width=0.003)
        axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal", title=f"{name}: data, and the score that was learnt")
        loss_axes.plot(means, color=colour, label=name, linewidth=1)
    loss_axes.set_yscale("symlog", linthresh=10)
    loss_axes.set(xlabel="step", ylabel="mean of 20 batches", title="loss of score matching")
    loss_axes.legend(frameon=False)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main()
