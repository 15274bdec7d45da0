"""Do two networks give a digit the same code? They have other weights and another architecture, and the data in common.

The probability-flow ODE of the true score takes each image to one code, so networks that learn the score should agree
on it (Song et al. 2021, section 4.3; Roeder et al. 2021). Then paths between codes, and codes that are scaled.

python examples/latent_codes.py     two to three minutes
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield import plot

kept, held = sf.data.split(sf.data.digits().unlabelled(), held_out=0.2)
scales = sf.data.noise_scales(kept, sf.data.Affine.fitted(kept))
print(scales)
sde = sf.VE(scales.sigma_min, scales.sigma_max)


def train(network: type[sf.nn.Network], seed: int, steps: int, batch: int, **options) -> sf.ScoreModel:
    with sf.nn.seeded(seed):
        net = network(kept.event_shape, dropout=0.1, **options)
    optimisation = sf.Optimisation(lr=2e-3)
    return sf.fit(net, kept, sde, steps=steps, seed=seed, batch_size=batch, optimisation=optimisation)


models = {
    "MLP": train(sf.nn.MLP, seed=1, steps=3000, batch=128),
    "UNet": train(sf.nn.UNet, seed=2, steps=1500, batch=64, channels=(16, 32), blocks=1),
}
digits = held.rows(torch.arange(len(held))).x
codes = {name: model.encode(digits, steps=25) for name, model in models.items()}  # with the same dequantisation


def correlations(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of each pixel's code, over the digits."""
    a, b = (c.flatten(1) - c.flatten(1).mean(0) for c in (a, b))
    return (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0))


one, two = codes.values()
found = {
    "the same digit": correlations(one, two),
    "another digit": correlations(one.roll(1, 0), two),
    "another pixel": correlations(one.flatten(1).roll(27, 1), two),
}
for name, r in found.items():
    print(f"{name}: correlation {float(r.mean()):.3f}, from {float(r.min()):.3f} to {float(r.max()):.3f}")
assert float(found["the same digit"].min()) > 0.6 and float(found["another digit"].abs().mean()) < 0.1

weights = torch.linspace(0, 1, 11)
pairs = [(first, second, name) for first, second in ((11, 7), (10, 14)) for name in models]
paths = [
    models[name].decode(sf.slerp(*(codes[name][[k]].expand(11, 1, 8, 8) for k in (first, second)), weights), steps=25)
    for first, second, name in pairs
]
temperatures = torch.linspace(0.6, 1.2, 7)
scaled = [models["UNet"].decode(temperatures.reshape(-1, 1, 1, 1) * two[k], steps=25) for k in (11, 7, 10, 14)]

figure = Figure(figsize=(11, 7), layout="constrained")
(cloud, histogram), (path, heat) = figure.subplots(2, 2, gridspec_kw={"width_ratios": (11, 7), "height_ratios": (6, 4)})
cloud.hexbin(one.flatten(), two.flatten(), gridsize=60, bins="log", cmap="Blues", linewidths=0)
cloud.axline((0, 0), slope=1, color="0.4", linewidth=0.8)
cloud.set(xlabel="code by the MLP", ylabel="code by the UNet", title=f"64 pixels of {len(digits)} held-out digits")
for name, values in found.items():
    histogram.hist(
        values, bins=torch.linspace(-0.4, 1, 36).tolist(), alpha=0.75, label=f"{name}: mean {float(values.mean()):z.2f}"
    )
histogram.set(xlabel="correlation between the networks", ylabel="pixels", title="Correlation of each pixel's code")
histogram.legend(frameon=False)
for axes, rows, title, columns, labels in (
    (path, paths, "Great circles between the codes of two digits", [f"{w:.1f}" for w in weights.tolist()], pairs),
    (heat, scaled, "Codes times a temperature (UNet)", [f"{t:.1f}" for t in temperatures.tolist()], []),
):
    picture = plot.image_grid(torch.cat(rows), levels=17, columns=len(columns), side=48)
    axes.imshow(picture)
    axes.set_title(title)
    axes.set_xticks([30 + 54 * k for k in range(len(columns))], columns)
    axes.set_yticks([30 + 54 * k for k in range(len(labels))], [label[2] for label in labels])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
figure.savefig("latent_codes.png", dpi=110)
