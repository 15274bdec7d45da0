"""A forward SDE and its reverse.

Left, dx = f dt + g dw carries a law of two modes to a normal law; shaded is the density of x_t, with paths on top.
Right, the reverse SDE, dx = (f - g^2 grad log p_t) dt + g dw with time running backwards, carries the normal law back
through the same densities: it needs the score of every p_t and nothing else.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf


def main(out: str = "docs/gallery/10_forward_and_reverse_sde.png", samples: int = 20_000) -> None:
    sde = sf.VP()
    data = sf.GaussianMixture(sde, torch.tensor([0.6, 0.4]), torch.tensor([[-1.5], [1.2]]), torch.tensor([0.04, 0.09]))
    noise = sf.Noise.per_sample(range(samples))
    grid = sf.grids.uniform(sde, 500)
    x0 = data.marginal(0.0).sample(torch.empty(samples, 1), noise)

    upward = grid[::-1]  # from the data at 0 to noise at T = 1
    forward = sde.simulate(x0, upward, noise=noise.child(0))
    start = sde.prior.sample(x0, noise.at(1))
    reverse, solver = [start], sf.solvers.EulerMaruyama()
    end = sf.integrate(
        data, start, grid, solver, noise=noise.child(1), callback=lambda _k, _knot, step: reverse.append(step.x)
    )
    reverse = torch.stack(reverse)

    floor = sf.metrics.sliced_wasserstein(x0, data.marginal(0.0).sample(x0, noise.at(2)))
    found = sf.metrics.sliced_wasserstein(end, x0)
    lower = [float((x < -0.3).float().mean()) for x in (x0, end)]
    print(f"W2 of the reverse SDE's samples to the data {found:.4f}, between two sets of data {floor:.4f}")
    print(f"share of the lower mode: data {lower[0]:.3f}, reverse SDE {lower[1]:.3f}")
    variance = [float(x.var()) for x in (x0, forward[-1])]
    print(f"variance of the data {variance[0]:.3f}, at T {variance[1]:.3f}")

    x = torch.linspace(-3.2, 3.2, 300)[:, None]
    density = torch.stack([data.log_prob(x, torch.tensor(t)).exp() for t in upward[1:]], 1)
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, times, paths, title in (
        (left, upward, forward, "forward SDE: data to noise"),
        (right, grid, reverse, "reverse SDE: noise to data"),
    ):
        axes.contourf(upward[1:], x[:, 0], density**0.5, levels=10, cmap="Blues")
        axes.plot(times, paths[:, :7, 0], linewidth=0.8)
        axes.set(xlabel="t", title=title, ylim=(-3.2, 3.2))
    left.set(ylabel="x", xlim=(0, 1))
    right.set(xlim=(1, 0))
    figure.savefig(out, dpi=85)


if __name__ == "__main__":
    main()
