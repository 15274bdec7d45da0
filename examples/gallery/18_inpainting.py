"""Inpainting without retraining: what the hidden half of a digit may have been.

A model of whole digits is asked for those that agree with the pixels that are seen. Bayes' rule adds the score of the
measurement, grad log p(y | x_t), to that of the prior, here by the first two moments of the clean image given x_t
(MMPS). Where the seen half leaves a choice the samples differ, and their spread says how far the mean may err.
"""

import torch

import scorefield as sf
from scorefield import guidance, operators, plot

COUNT = 40  # digits to reconstruct


def main(out: str = "docs/gallery/18_inpainting.png", steps: int = 3000, samples: int = 32) -> None:
    kept, held = sf.data.split(sf.data.digits().unlabelled(), held_out=0.2)
    with sf.nn.seeded(0):
        net = sf.nn.MLP(kept.event_shape, dropout=0.1)
    model = sf.fit(net, kept, steps=steps, seed=0, optimisation=sf.Optimisation(lr=3e-3))

    truth = held.rows(torch.arange(COUNT)).x.float()
    average = kept.rows(torch.arange(len(kept))).x.float().mean(0)
    masks, rows = {"lower half hidden": torch.ones(1, 8, 8).bool(), "right half hidden": torch.ones(1, 8, 8).bool()}, {}
    masks["lower half hidden"][:, 4:], masks["right half hidden"][:, :, 4:] = False, False
    for name, seen in masks.items():
        operator = operators.Mask(seen)
        y = operator.A(truth).repeat_interleave(samples, 0)  # a row for each sample
        known = model.measured(operator, y, operators.Gaussian(0.3))
        guided = model.guided(guidance.MomentMatching(model.given(), *known))
        x = guided.sample(seeds=range(COUNT * samples), steps=30).float()
        kept_to = (operator.A(x) - y).square().mean().sqrt()
        x = x.reshape(COUNT, samples, 1, 8, 8)
        mean, spread = x.mean(1), x.std(1)
        miss, blind = ((guess - truth)[:, ~seen].square().mean().sqrt() for guess in (mean, average.expand_as(truth)))
        within = spread[:, ~seen].square().mean().sqrt()
        print(f"{name}: seen pixels kept to {kept_to:.2f} grey levels; hidden ones: error of the mean {miss:.2f},")
        print(f"    spread of the samples {within:.2f}, error of the average digit {blind:.2f}")
        for k in (0, 4):
            pictures = {"truth": truth[k], "seen": truth[k].where(seen, 8)}
            pictures |= {f"sample {n + 1}": x[k, n] for n in range(5)}
            rows[f"{name}, digit {k + 1}"] = pictures | {"mean": mean[k], "std": spread[k]}
    plot.panels(rows, 0, 16, spread="std").savefig(out, dpi=85)


if __name__ == "__main__":
    main()
