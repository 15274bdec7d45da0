"""A diffusion on a bounded domain, with noise that depends on the state: everything stays between 0 and 1.

The Jacobi (Wright-Fisher) process dx = 3 (1/2 - x) dt + sqrt(x (1 - x)) dw is a class here, which the command line
takes as well:  scorefield train --sde jacobi.Jacobi --data mine.npy --out run

python examples/jacobi.py
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch

import scorefield as sf
from scorefield.metrics import sliced_wasserstein

EDGE = 1e-3  # the noise ends at 0 and 1, where its slope is infinite


@dataclass(frozen=True)
class Jacobi(sf.SDE):
    """dx = rate (1/2 - x) dt + sqrt(x (1 - x)) dw, which comes to rest in Beta(rate, rate)."""

    rate: float = 3.0
    T: float = 1.5

    @property
    def prior(self):
        still = torch.zeros(())
        return sf.StationaryPrior(lambda x: self.drift(x, still), lambda x: self.diffusion(x, still), (EDGE, 1 - EDGE))

    def drift(self, x, t):
        return self.rate * (0.5 - x)

    def diffusion(self, x, t):
        return (x * (1 - x)).sqrt()

    def confine(self, x):
        return x.clamp(EDGE, 1 - EDGE)


if __name__ == "__main__":
    sde = Jacobi()
    x = 0.5 + 0.1 * sf.data.mixture(20_000, components=5, std=0.5).x
    train, held = x[:16_000], x[16_000:]
    with sf.nn.seeded(0):
        model = sf.ScoreNetwork(sf.nn.MLP((2,)), sde, diffusion=0.5)
    state = sf.TrainState(model, sf.Optimisation(lr=2e-3), seed=0)
    batches = sf.Batches(sf.data.ArrayDataset(train), sf.data.Affine(), 1024, seed=0)
    for info in sf.train(state, batches, sf.objectives.PathTarget(steps=100), steps=1000):
        if info.step % 200 == 0:
            print(f"step {info.step}: loss {float(info.loss):.3f}")

    n = 1000
    pairs = [(held[k : k + n], held[k + n : k + 2 * n]) for k in (0, 2 * n)]
    floor = sum(sliced_wasserstein(a, b) for a, b in pairs) / 2
    panels = {"data": held[:n], "at T": sde.prior.sample(torch.empty(n, 2), sf.Noise.per_sample(range(n)))}
    for name, solver in {"reverse SDE": sf.solvers.Milstein(), "ODE": sf.solvers.EulerMaruyama(eta=0.0)}.items():
        y = panels[name] = sf.sample(state.averaged(), (2,), sf.grids.quadratic(sde, 200), solver, seeds=range(n))
        ratio = sum(sliced_wasserstein(y, a) for pair in pairs for a in pair) / 4 / floor
        print(f"{name}: sliced W2 to held-out data {ratio:.2f} times that between two sets of them")
        if solver.eta:
            assert ratio < 2 and 0 <= float(y.min()) <= float(y.max()) <= 1

    figure, axes = plt.subplots(1, 4, figsize=(12, 3), sharex=True, sharey=True, layout="constrained")
    for ax, (name, points) in zip(axes, panels.items(), strict=True):
        ax.scatter(*points.T, s=2)
        ax.set_title(name)
        ax.set_aspect("equal")
    figure.savefig("jacobi.png", dpi=110)
