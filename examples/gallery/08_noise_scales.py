"""Choosing the noise scales.

Three rules of NCSNv2 (Song & Ermon 2020) on the digits: the largest noise is the largest distance between two images,
so that chains reach all of them; scales are geometric, with a ratio at which the lengths of neighbouring noises
overlap; and Langevin dynamics takes the step that best brings the noise down to the next scale. All with exact scores.
"""

import math

import torch
from matplotlib.figure import Figure

import scorefield as sf


def main(out: str = "docs/gallery/08_noise_scales.png", samples: int = 200) -> None:
    data, noise, d = sf.data.digits(), sf.Noise.per_sample(range(samples)), 64
    scales = sf.data.noise_scales(data, transform := sf.data.Affine.fitted(data))
    solver = sf.solvers.AnnealedLangevin.ncsnv2(scales.ratio, steps=5)
    print(scales)
    rows = data.rows(torch.arange(500))
    x, zero = transform.forward(rows.x, torch.full(rows.x.shape, 0.5)).flatten(1), rows.cond["label"] == 0
    share, start = {}, x[zero].repeat(samples, 1)[:samples]  # of chains from noisy 0s that end at a 0
    for largest in (0.4, 0.7, 1.0, 1.5, 2.0, 4.0, scales.sigma_max):
        sde = sf.VE(scales.sigma_min, largest)
        exact = sf.GaussianMixture(sde, torch.ones(len(x)), x, torch.full((len(x),), 1e-8)).float()
        times = sf.grids.smld(sde, 1 + round(math.log(largest / scales.sigma_min) / math.log(scales.ratio)))
        noisy = sde.perturb(start, torch.tensor(sde.T), noise.normal(start))
        end = sf.sample(exact, (d,), times, solver, seeds=range(samples), start=(noisy, sde.T))
        share[largest] = 100 * float(zero[torch.cdist(end, x).argmin(1)].float().mean())
        print(f"sigma_max {largest:.3g}: {share[largest]:.0f} % of the chains from 0s end at a 0")

    left, point = {}, sf.gaussian(sde, torch.zeros(d), torch.tensor(1e-12)).float()  # data at 0: what is left is noise
    for snr in (0.2, 0.25, 0.3, solver.corrector.snr, 0.4, 0.5, 0.6):
        chain = sf.solvers.AnnealedLangevin(sf.solvers.Langevin(snr), steps=5)
        end = sf.sample(point, (d,), times[:-1], chain, seeds=range(samples))
        left[snr] = float(end.std()) / scales.sigma_min
        print(f"step size {snr:.3f}: at the last scale the noise is {left[snr]:.3f} times what it should be")

    figure = Figure(figsize=(16, 3.9), layout="constrained")
    distances, reach, overlap, sizes = figure.subplots(1, 4)
    distances.hist(torch.pdist(x), bins=80)
    distances.axvline(scales.sigma_max, color="C3")
    distances.set(xlabel="distance between two digits", yticks=[], title=f"largest scale: {scales.sigma_max:.2f}")
    reach.semilogx(share.keys(), share.values(), color="C3", marker="o")
    reach.axhline(100 * float(zero.float().mean()), color="0.5", linestyle=":")
    reach.set(xlabel="largest scale", ylabel="% (dotted: 0s in the data)", title="chains from 0s that end at a 0")
    lengths = torch.logspace(-1, 2, 3000)
    for k, s in enumerate(scales.sigma_max / scales.ratio ** torch.arange(scales.count)):
        overlap.semilogx(lengths, (-((lengths / s - d**0.5) ** 2)).exp(), color=f"C{3 * (k % 2)}", linewidth=1)
    overlap.set(xlabel="length of the noise", yticks=[], title=f"{scales.count} scales, ratio {scales.ratio:.2f}")
    sizes.plot(left.keys(), left.values(), color="C3", marker="o")
    sizes.axvline(solver.corrector.snr, color="0.5", linestyle=":")
    sizes.set(xlabel="step size, snr (dotted: NCSNv2's choice)", title="noise left / last scale")
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main()
