"""A noise-conditional score network on the digits.

NCSN (Song & Ermon 2019, 2020): one network learns the scores of the digits under all noise scales that NCSNv2's rules
ask for, and annealed Langevin dynamics goes from pure noise down the scales, five steps at each. Left, each row shows a
sample on its way: its coarse shape is settled under much noise, its strokes under little.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import plot
from scorefield.metrics import sliced_wasserstein


def main(out: str = "docs/gallery/09_ncsn_digits.png", steps: int = 1200, samples: int = 359) -> None:
    data, held = sf.data.split(sf.data.digits().unlabelled(), held_out=0.2)
    scales = sf.data.noise_scales(data, sf.data.Affine.fitted(data))
    sde = sf.VE(scales.sigma_min, scales.sigma_max)
    with sf.nn.seeded(0):  # sf.nn.NCSN is the paper's network, several times as slow
        net = sf.nn.UNet(data.event_shape, channels=(16, 32), blocks=1, dropout=0.1)
    objective = sf.objectives.DenoisingScoreMatching(sf.objectives.Levels(scales.count))
    optimisation = sf.Optimisation(lr=2e-3)
    model = sf.fit(net, data, sde, steps=steps, seed=0, batch_size=64, objective=objective, optimisation=optimisation)

    annealed, times = sf.solvers.AnnealedLangevin.ncsnv2(scales.ratio, steps=5), sf.grids.smld(sde, scales.count)
    path, knots = [], []

    def keep(_k: int, knot: sf.Knot, step: sf.solvers.Step) -> None:
        knots.append(knot)
        path.append(step.x)

    z = sf.sample(model.denoiser, data.event_shape, times, annealed, seeds=range(samples), callback=keep)
    x, n = model.transform.inverse(z).float(), min(samples, len(held))
    real, other = (part.rows(torch.arange(n)).x.float() for part in (held, data))
    found, floor = sliced_wasserstein(x[:n], real), sliced_wasserstein(other, real)
    print(f"sliced W2 to held-out digits {found:.3f}, of training digits to them {floor:.3f}")

    figure = Figure(figsize=(13, 4.9), layout="constrained")
    emerging, finished, truth = figure.subplots(1, 3, width_ratios=(11, 8, 8))
    stages = [*range(0, len(path), 2), len(path) - 1]
    rows = torch.stack([path[k][:8] for k in stages], 1).flatten(0, 1).clamp(-1, 1)
    emerging.imshow(plot.image_grid(rows, columns=len(stages), side=32))
    emerging.set_xticks([20 + 36 * k for k in range(len(stages))], [f"{knots[k].sigma:.1g}" for k in stages])
    emerging.set(xlabel=r"$\sigma$", title="eight samples on their way")
    for axes, digits, title in ((finished, x, "finished samples"), (truth, real, "held-out digits")):
        axes.imshow(plot.image_grid(digits[:64], levels=17, columns=8, side=32))
        axes.set(title=title, xticks=[])
    for axes in (emerging, finished, truth):
        axes.set_yticks([])
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main()
