"""A naive score model, and where it fails.

A network is fitted to the score of the data alone, by score matching without noise (Hyvarinen 2005):
E |s|^2 / 2 + div s over the samples. Its error counts where samples are, so that it learns the score near the modes and
anything elsewhere: where Langevin dynamics begins.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import plot


def main(out: str = "docs/gallery/03_naive_score.png", steps: int = 2000, samples: int = 10_000) -> None:
    means = torch.tensor([[-4.0, -4.0], [4.0, 4.0]])
    mixture = sf.GaussianMixture(sf.VE(0.01, 10.0), torch.tensor([0.8, 0.2]), means, torch.ones(2))
    t = torch.tensor(mixture.sde.t_min)  # the data with an invisible noise of 0.01
    x = mixture.marginal(float(t)).sample(torch.empty(samples, 2), sf.Noise.per_batch(0, samples))

    with sf.nn.seeded(0):
        model = sf.PlainScore(sf.nn.MLP((2,)))
    state = sf.TrainState(model, sf.Optimisation(lr=1e-3), seed=0)
    batches = sf.Batches(sf.data.ArrayDataset(x), sf.data.Affine(), 128, seed=0)
    for _ in sf.train(state, batches, sf.objectives.ImplicitScoreMatching(), steps=steps):
        pass
    learnt = state.averaged()

    fine, coarse = plot.plane(-8, 8, 160), plot.plane(-7.5, 7.5, 19)
    with torch.no_grad():
        log_p, error = mixture.log_prob(fine, t), sf.objectives.fisher_divergence(learnt, mixture, fine, t)
        fields = {"true score": mixture.score(coarse, t), "estimated score": learnt.score(coarse, t)}
    relative = (2 * error).sqrt() / mixture.score(fine, t).norm(dim=1)
    edges = torch.arange(-44.0, 0.0, 4)
    bins = [(log_p >= low) & (log_p < low + 4) for low in edges]
    typical = torch.stack([relative[b].median() for b in bins])
    for low, value in zip(edges, typical, strict=True):
        print(f"log p from {low:.0f} to {low + 4:.0f}: median of |error| / |score| {value:.2f}")

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    true, estimated, curve = figure.subplots(1, 3)
    for axes, (title, score) in zip((true, estimated), fields.items(), strict=True):
        axes.contourf(log_p.exp().reshape(160, 160).T, extent=(-8, 8, -8, 8), levels=8, cmap="Blues", vmax=0.2)
        axes.quiver(*coarse.T, *(score / score.norm(dim=1, keepdim=True).sqrt()).T, color="C3", width=0.004)
        axes.set(xlabel="$x_1$", ylabel="$x_2$", title=title, aspect="equal")
    curve.scatter(log_p, relative, s=1, color="0.75", linewidths=0)
    curve.plot(edges + 2, typical, color="C3", marker="o")
    curve.set(xlim=(-45, 0), yscale="log", ylim=(1e-2, 10))
    curve.set(xlabel=r"$\log\,p(x)$", ylabel="|error| / |score|", title="error over the local density")
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main()
