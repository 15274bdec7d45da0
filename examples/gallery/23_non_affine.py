"""A process that is not affine: a double well, whose kernel p(x_t | x_0) nobody can write down.

The drift 2 (x - x^3) carries any data to the wells at -1 and 1, into the law exp((2 x^2 - x^4) / 1.2^2). Training takes
simulated paths: integration by parts over a path's noise makes a regression target whose mean is the score. The reverse
SDE then leads from the two wells back to the three peaks of the data.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf


def drift(x: torch.Tensor, t: object = None) -> torch.Tensor:
    return 2 * (x - x**3)


def main(out: str = "docs/gallery/23_non_affine.png", steps: int = 1500, samples: int = 4000) -> None:
    prior = sf.StationaryPrior(drift, lambda x: 1.2, (-3.0, 3.0))
    sde = sf.ItoSDE(drift, lambda x, t: 1.2, prior, (-3.0, 3.0), T=2.0, t_min=1e-4)
    x = 0.9 * sf.data.mixture(60_000, components=3).x[:, 1:]  # peaks at -1.56, 0 and 1.56
    held, data = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))].split(
        (samples, len(x) - samples)
    )
    with sf.nn.seeded(0):
        model = sf.ScoreNetwork(sf.nn.MLP((1,), features=64), sde, diffusion=1.2)
    state = sf.TrainState(model, sf.Optimisation(lr=2e-3), seed=0)
    batches = sf.Batches(sf.data.ArrayDataset(data), sf.data.Affine(), 512, seed=0)
    for _ in sf.train(state, batches, sf.objectives.PathTarget(steps=100), steps=steps):
        pass

    noise, times = sf.Noise.per_sample(range(samples)), sf.grids.quadratic(sde, 200)
    forward, path = sde.simulate(held, times[::-1], noise=noise), [prior.sample(held, noise.at(0))]
    with torch.no_grad():
        learned, solver = state.averaged(), sf.solvers.EulerMaruyama()
        sf.integrate(learned, path[0], times, solver, noise=noise, callback=lambda *step: path.append(step[-1].x))
    pairs = {"at T to the law of the wells": (forward[-1], path[0]), "samples to data": (path[-1], held)}
    for name, (a, b) in (pairs | {"data to other data": (data[:samples], held)}).items():
        print(f"{name}: W2 {sf.metrics.sliced_wasserstein(a, b):.3f}")

    ahead, back, laws = (figure := Figure(figsize=(12.5, 3.8), layout="constrained")).subplots(1, 3)
    for axes, at, states in ((ahead, times[::-1], forward), (back, times, torch.stack(path))):
        shares = torch.stack([x.histc(100, -2.5, 2.5) for x in states[:, :, 0]]).T.numpy() / samples
        axes.pcolormesh(at, [0.05 * k - 2.475 for k in range(100)], shares, cmap="Blues", vmax=0.025)
        axes.plot(at, states[:, :6, 0], linewidth=0.8)
        axes.set(xlabel="t", ylabel="x", xlim=(at[0], at[-1]), ylim=(-2.5, 2.5))
    ahead.set_title("Forward: dx = 2 (x - x³) dt + 1.2 dw")
    back.set_title("Reverse SDE with the learned score")
    laws.hist(held[:, 0], 80, range=(-2.5, 2.5), density=True, color="0.8", label="data")
    laws.hist(path[-1][:, 0], 80, range=(-2.5, 2.5), density=True, histtype="step", linewidth=1.5, label="samples")
    line = torch.linspace(-2.5, 2.5, 200)
    laws.plot(line, prior.log_prob(line[:, None]).exp(), color="C1", label="the law of the wells")
    laws.set(xlabel="x", ylabel="density", title="Data, samples, and where both meet", ylim=(0, 1))
    laws.legend(frameon=False, fontsize="small")
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main()
