"""Likelihoods of a learned model against a density that is known.

Along the probability-flow ODE the density of a sample changes by the divergence of its velocity,
log p_0(x_0) = log p_T(x_T) + int div dt, so that a score model has exact likelihoods. Here the data are a mixture of
normal laws whose density is a formula: what the learned model says of each point can be held against the truth.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf


def main(out: str = "docs/gallery/16_likelihood.png", steps: int = 3000, samples: int = 2000) -> None:
    sde, angle = sf.VP(), 2 * torch.pi / 5 * torch.arange(5.0)
    means, covariances = 1.2 * torch.stack((angle.cos(), angle.sin()), 1), torch.linspace(0.01, 0.15, 5)
    truth = sf.GaussianMixture(sde, torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3]), means, covariances)
    exact = truth.marginal(0.0)
    data = sf.data.ArrayDataset(exact.sample(torch.empty(50_000, 2), sf.Noise.per_sample(range(50_000))))
    test = exact.sample(torch.empty(samples, 2), sf.Noise.per_sample(range(10**6, 10**6 + samples)))

    std, transform = sf.data.transformed_std(data, sf.data.Affine()), sf.data.Affine()
    with sf.nn.seeded(0):
        net = sf.nn.MLP((2,))
    state = sf.TrainState(sf.Preconditioned(net, sde, sf.EDMPrecond(std)), sf.Optimisation(lr=2e-3), seed=0)
    objective = sf.objectives.DenoisingScoreMatching(sf.objectives.AdaptiveLogSNR(), sf.objectives.LikelihoodWeight())
    for _ in sf.train(state, sf.Batches(data, transform, 512, seed=0), objective, steps=steps):
        pass
    model = sf.ScoreModel(state.averaged(), (2,), transform)
    wanted = truth.log_prob(test, torch.tensor(0.0))
    found = model.log_prob(test, steps=20).nats
    solved = sf.log_prob(truth, test.double(), steps=20).nats  # the same ODE with the exact score
    errors = {"learned score": found - wanted, "exact score": solved - wanted}
    for name, error in errors.items():
        mean, stderr, size = float(error.mean()), float(error.std()) / samples**0.5, float(error.abs().mean())
        print(f"{name}: mean error {mean:.4f} +- {stderr:.4f} nats, mean absolute error {size:.4f}")

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    density, plane, shares = figure.subplots(1, 3)
    density.scatter(wanted, found, s=3, linewidths=0)
    density.axline((0, 0), slope=1, color="0.3", linewidth=0.8)
    means = f"mean {float(wanted.mean()):.3f} and {float(found.mean()):.3f}"
    density.set(xlabel="exact log p, nats", ylabel="by the learned model", title=f"Held-out points: {means}")
    shown = plane.scatter(*test.T, s=4, c=errors["learned score"], cmap="coolwarm", vmin=-0.5, vmax=0.5)
    figure.colorbar(shown, ax=plane, label="error of log p, nats")
    plane.set(title="Where the learned model errs", aspect="equal", xlabel="x", ylabel="y")
    for (name, error), colour in zip(errors.items(), ("C0", "C1"), strict=True):
        size = error.abs().sort().values
        shares.semilogx(
            size, torch.linspace(0, 1, samples), color=colour, label=f"{name}: mean {float(size.mean()):.2g}"
        )
    shares.set(xlabel="absolute error, nats", ylabel="share of the points below", title="Errors", xlim=(1e-8, 3))
    shares.legend(frameon=False, fontsize="small", loc="upper left")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
