"""Many levels of noise, one network.

The way out of the dilemma of one level: learn the scores of all noisy laws p_sigma, from noise that fills the plane to
noise that nobody sees, by one network that is told sigma. The loss is the mean over levels of sigma^2 times that of
denoising score matching, so that all levels count alike. Each score is right where the level before puts its points.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import plot


def main(out: str = "docs/gallery/06_many_noise_levels.png", steps: int = 4000, samples: int = 10_000) -> None:
    sde, means = sf.VE(0.1, 10.0), torch.tensor([[-4.0, -4.0], [4.0, 4.0]])
    mixture = sf.GaussianMixture(sde, torch.tensor([0.8, 0.2]), means, torch.full((2,), 0.5))
    noise = sf.Noise.per_batch(0, samples)
    data = mixture.marginal(0.0).sample(torch.empty(samples, 2), noise)

    with sf.nn.seeded(0):
        model = sf.Preconditioned(sf.nn.MLP((2,), features=64), sde, sf.ScorePrecond())  # score = F(x, sigma) / sigma
    state = sf.TrainState(model, sf.Optimisation(lr=2e-3), seed=0)
    batches = sf.Batches(sf.data.ArrayDataset(data), sf.data.Affine(), 256, seed=0)
    objective = sf.objectives.DenoisingScoreMatching(sf.objectives.Levels(10), sf.objectives.SimpleWeight())
    for _ in sf.train(state, batches, objective, steps=steps):
        pass
    learnt = state.averaged()

    @torch.no_grad()
    def error(x: torch.Tensor, t: torch.Tensor) -> float:
        true = mixture.score(x, t)
        return float(((learnt.score(x, t) - true).norm(dim=1) / true.norm(dim=1)).median())

    fine, coarse = plot.plane(-8, 8, 120), plot.plane(-7.5, 7.5, 16)
    times = [torch.tensor(t) for t in sf.grids.smld(sde, 10)[:-1]]  # of the ten levels, largest noise first
    figure = Figure(figsize=(17, 3.9), layout="constrained")
    *fields, curves = figure.subplots(1, 5)
    for axes, t in zip(fields, times[::3], strict=True):
        density, score = mixture.log_prob(fine, t).exp().reshape(120, 120).T, learnt.score(coarse, t).detach()
        axes.contourf(density, extent=(-8, 8, -8, 8), levels=8, cmap="Blues", vmax=1.5 * density.max())
        axes.quiver(*coarse.T, *(score / score.norm(dim=1, keepdim=True)).T, color="C3", width=0.006, scale=22)
        axes.set(aspect="equal", xlabel="$x_1$", title=f"$\\sigma$ = {float(sde.sigma(t)):.3g}")
    sigmas, square, before = [float(sde.sigma(t)) for t in times], [], []
    for k, t in enumerate(times):
        square.append(error(coarse, t))
        before.append(error(sde.perturb(data, times[max(0, k - 1)], noise.at(k + 1).normal(data)), t))
        print(f"sigma {sigmas[k]:.3g}: |error| / |score| {square[k]:.3f} over the square, ", end="")
        print(f"{before[k]:.3f} where the level before puts its points")
    curves.loglog(sigmas, square, marker="o", color="0.6", label="over the square")
    curves.loglog(sigmas, before, marker="o", color="C3", label="where the level before is")
    curves.set(xlabel=r"$\sigma$", title="error of the score, |error| / |score|", ylim=(3e-3, 1.5))
    curves.legend(frameon=False)
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main()
