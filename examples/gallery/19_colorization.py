"""Colourisation of small patches of photographs, without retraining.

The grey of a patch is a linear measurement of it: the mean of its three channels. A model of colour patches draws
colours that agree with the grey, by Bayes' rule for scores (MMPS), or by putting the measured part into the state after
each step (Song et al. 2021). Two photographs are a poor idea of the world: tested is a strip of each, not trained on.
"""

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image

import scorefield as sf
from scorefield import guidance, operators, plot

SIDE, COUNT = 16, 12


def patches(pictures: list[torch.Tensor], count: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    windows = [x.unfold(1, SIDE, 1).unfold(2, SIDE, 1).movedim(0, 2).flatten(0, 1) for x in pictures]
    return torch.cat([w[torch.randint(len(w), (count // len(pictures),), generator=g)] for w in windows])


def main(out: str = "docs/gallery/19_colorization.png", steps: int = 900, samples: int = 8) -> None:
    photos = [torch.tensor(load_sample_image(f"{name}.jpg")[:424]) for name in ("china", "flower")]
    coarse = [operators.SuperResolution(4).A(x.movedim(-1, 0)[None].double())[0].round().byte() for x in photos]
    parts = [part for x in coarse for part in (x[..., :60], x[..., 80:])]
    data = sf.data.ArrayDataset(patches(parts, 8000, seed=0), levels=256)
    truth = patches([x[..., 60:80] for x in coarse], COUNT, seed=1).double()
    with sf.nn.seeded(0):
        net = sf.nn.UNet(data.event_shape, channels=(16, 32), blocks=1)
    model = sf.fit(net, data, steps=steps, seed=0, batch_size=32, optimisation=sf.Optimisation(lr=4e-3))
    grey, seeds = operators.Colorize(), range(COUNT * samples)
    y = grey.A(truth)
    known = model.measured(grey, y.repeat_interleave(samples, 0), operators.Gaussian(2.0))
    mmps = model.guided(guidance.MomentMatching(model.given(), *known)).sample(seeds=seeds, steps=25)
    replaced = model.sample(seeds=seeds, steps=50, solver=guidance.Replacement(*known))
    rows = {"grey": y.expand_as(truth), "truth": truth}
    print(f"grey for all colours: error {(y - truth).square().mean().sqrt():.1f} levels of 255")
    for name, x in (("MMPS", mmps.double()), ("replacement", replaced.double())):
        kept_to = (grey.A(x) - y.repeat_interleave(samples, 0)).square().mean().sqrt()
        x = x.reshape(COUNT, samples, 3, SIDE, SIDE)
        mean, each = ((x.mean(1) - truth).square().mean() ** 0.5, (x - truth[:, None]).square().mean() ** 0.5)
        print(f"{name}: error of the mean {mean:.1f}, of samples {each:.1f}; grey kept to {kept_to:.1f}")
        rows |= {f"{name} {k + 1}": x[:, k] for k in range(3)} | {f"{name}, mean": x.mean(1)}
    axes = (figure := Figure(figsize=(11.5, 8), layout="constrained")).subplots()
    axes.imshow(plot.image_grid(torch.cat(list(rows.values())), 256, columns=COUNT, side=64), interpolation="nearest")
    axes.set(xticks=[], yticks=range(36, 68 * len(rows), 68), yticklabels=list(rows))
    axes.set_title("Patches of two strips, not trained on")
    figure.savefig(out, dpi=74)


if __name__ == "__main__":
    main()
