"""Encodings: the data decide the code, not the network, and paths between codes are paths between images.

The probability-flow ODE takes each image to a code in the prior, and back. It is made of the score alone, which belongs
to the data; so networks of other initial weights and other training noise, and other solvers, give nearly the same
codes. Great circles between two codes stay where the prior has its mass, and decode to images all the way.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import plot


def trained(data: sf.data.Dataset, steps: int, seed: int) -> sf.ScoreModel:
    with sf.nn.seeded(seed):
        net = sf.nn.MLP(data.event_shape, dropout=0.1)
    return sf.fit(net, data, steps=steps, seed=seed, optimisation=sf.Optimisation(lr=3e-3))


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:  # of each pixel over the digits, the mean of the 64
    a, b = (c.flatten(1) - c.flatten(1).mean(0) for c in (a, b))
    return float(((a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0))).mean())


def main(out: str = "docs/gallery/15_encodings.png", steps: int = 3000, samples: int = 359) -> None:
    kept, held = sf.data.split(sf.data.digits().unlabelled(), held_out=0.2)
    digits = held.rows(torch.arange(samples)).x
    models = [trained(kept, steps, seed) for seed in (1, 2)]
    one, two = codes = [model.encode(digits, steps=20) for model in models]
    adaptive, r = models[0].encode(digits, tolerance=1e-4), correlation(one, two)
    print(f"correlation of the two networks' codes {r:.3f}, of two digits' {correlation(one, two.roll(1, 0)):z.3f}")
    print(f"with fixed steps and with an adaptive solver: correlation {correlation(one, adaptive):.5f}")
    pairs, w = ((0, 5), (3, 8)), torch.linspace(0, 1, 9)
    ends = [[code[[k]].expand(9, 1, 8, 8) for k in pair] for pair in pairs for code in codes]
    paths = [model.decode(sf.slerp(*e, w), steps=20) for e, model in zip(ends, models * 2, strict=True)]

    figure = Figure(figsize=(13, 3.1), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.8, 1, 1.8))
    middle.hexbin(one.flatten(), two.flatten(), gridsize=50, bins="log", cmap="Blues", linewidths=0)
    middle.axline((0, 0), slope=1, color="0.4", linewidth=0.8)
    middle.set(xlabel="code by network 1", ylabel="by network 2", title=f"{samples} digits: r = {r:.2f}")
    images = torch.cat((digits[:9] * 0.375 - 3, one[:9], two[:9])).clamp(-3, 3)  # codes have unit variance
    nets = ["net 1", "net 2"]
    left.set(title="Held-out digits and their codes", yticks=[30, 84, 138], yticklabels=["digit", *nets])
    right.set(title="Decoded from great circles between codes", yticks=[30, 84, 138, 192], yticklabels=nets * 2)
    for axes, rows in ((left, images), (right, torch.cat(paths))):
        axes.imshow(plot.image_grid(rows, columns=9, side=48))
        axes.set(xticks=[])
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
