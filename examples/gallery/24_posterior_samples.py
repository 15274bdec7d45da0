"""Posterior samples against a posterior that is known.

The prior is a mixture of normal laws, so that its score is exact, and y a noisy measurement of one combination of the
two coordinates; the posterior is then a mixture too, by a formula. Heuristic guidance gives plausible points with wrong
weights. Twisted sequential Monte Carlo weighs its particles, so that their law tends to the posterior.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import guidance, operators, plot, posterior


def main(out: str = "docs/gallery/24_posterior_samples.png", samples: int = 2000) -> None:
    sde, angle = sf.VP(), 2 * torch.pi / 6 * torch.arange(6.0)
    means = 1.3 * torch.stack((angle.cos(), angle.sin()), 1)
    prior = sf.GaussianMixture(sde, torch.ones(6), means, torch.tensor([0.03, 0.02, 0.05, 0.02, 0.04, 0.06]))
    a, y, noise = torch.tensor([[1.0, 0.35]]), torch.tensor([[0.5]]), 0.25
    known = operators.Dense(a), y, operators.Gaussian(noise)
    exact = prior.posterior(a, y[0], noise)

    def drawn(law: sf.GaussianMixture, first: int) -> torch.Tensor:
        return law.marginal(0.0).sample(torch.empty(samples, 2), sf.Noise.per_sample(range(first, first + samples)))

    def shares(x: torch.Tensor) -> torch.Tensor:
        """Of the samples that are nearest to each mean of the posterior."""
        return torch.cdist(x.double(), exact.means).argmin(1).bincount(minlength=6) / samples

    model, truth = sf.ScoreModel(prior, (2,)), drawn(exact, 10**6)
    found = {
        method.__name__: model.guided(method(prior, *known)).sample(seeds=range(samples), steps=50)
        for method in (guidance.DPS, guidance.PiGDM, guidance.MomentMatching)
    }
    smc = posterior.TwistedSMC(prior, *known, count=4 * samples, steps=50)
    found["TwistedSMC"] = smc.sample((2,), seeds=range(samples))
    found["exact draws"] = drawn(exact, 2 * 10**6)

    *planes, bars = (figure := Figure(figsize=(13, 3.6), layout="constrained")).subplots(1, 4)
    points = plot.plane(-2.1, 2.1, 120)
    panels = {"Prior": drawn(prior, 0), "Heuristic: PiGDM": found["PiGDM"], "TwistedSMC": found["TwistedSMC"]}
    for axes, law, (name, x) in zip(planes, (prior, exact, exact), panels.items(), strict=True):
        log_p = law.log_prob(points, torch.tensor(0.0)).reshape(120, 120)
        axes.scatter(*x[:1000].T, s=3, color="C0", linewidths=0)
        levels = (log_p.max() + torch.tensor([0.01, 0.1, 0.5]).log()).tolist()
        axes.contour(*points.T.reshape(2, 120, 120), log_p, levels=levels, colors="0.3", linewidths=0.8, linestyles="-")
        axes.axline((0.5, 0), (0.15, 1), color="C1", linewidth=1)  # the points that would give y without noise
        axes.set(title=name, aspect="equal", xlim=(-2.1, 2.1), ylim=(-2.1, 2.1))
    for k, (name, x) in enumerate(found.items()):
        distance = sf.metrics.sliced_wasserstein(x.to(truth), truth)
        bars.bar([c + 0.16 * (k - 2) for c in range(6)], shares(x).tolist(), 0.16, label=f"{name}: W2 {distance:.2f}")
        print(name, f"sliced W2 {distance:.3f}, shares", *(f"{share:.3f}" for share in shares(x)))
    bars.set(title="Share of each component", xlabel="component", xticks=range(6))
    bars.legend(frameon=False, fontsize="small")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
