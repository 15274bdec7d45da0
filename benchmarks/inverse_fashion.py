"""Inverse problems with a learned prior: a model of Fashion-MNIST, test images that it has not seen.

    scorefield train --config recipes/fashion_mnist.yaml --out fashion
    python benchmarks/inverse_fashion.py fashion /usr/share/datasets/fashion-mnist [--images 48] [--samples 8]

For each problem and method, over test images: the peak signal-to-noise ratio of the mean of the posterior samples and
of single samples; the residual of the samples in units of the noise's standard deviation; how many of the 90 %
intervals of pixels, mean +- 1.645 standard deviations, hold the truth; and the p-value of TARP's coverage test.
Measurements are simulated from the images, with noise of 0.05 on a scale from -1 to 1.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorefield import Denoiser, Noise, ScoreModel, grids, plot, sample
from scorefield.data.idx import read_idx
from scorefield.guidance import DDRM, DPS, DiffPIR, MomentMatching, PiGDM
from scorefield.metrics import psnr, tarp_levels, uniformity
from scorefield.operators import (
    Blur,
    FourierMask,
    Gaussian,
    Linear,
    Mask,
    Radon,
    SuperResolution,
    cartesian_mask,
    filtered_back_projection,
    gaussian_kernel,
)
from scorefield.solvers import ExponentialAdams

SIGMA, SIDE, STEPS = 0.05, 28, 40


def hole() -> Tensor:
    """All pixels but a block in the middle."""
    mask = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    mask[:, 8:20, 8:20] = False
    return mask


PROBLEMS: dict[str, Linear] = {
    "inpainting": Mask(hole()),
    "deblurring": Blur(gaussian_kernel(9, 1.5)),
    "super-resolution 4x": SuperResolution(4),
    "MRI 4x": FourierMask(cartesian_mask(SIDE, SIDE, 4.0, seed=0)),
    "CT, 12 angles": Radon(SIDE, 12),
}
Method = Callable[[Denoiser, Linear, Tensor, Tensor], Tensor]  # prior, operator, rows of y, seeds -> samples


def solved(build: Callable[[Denoiser, Linear, Tensor], Denoiser]) -> Method:
    """By the reverse SDE of a guided denoiser."""

    def run(prior: Denoiser, a: Linear, y: Tensor, seeds: Tensor) -> Tensor:
        solver, times = ExponentialAdams(2, corrector=False, eta=1.0), grids.uniform_log_snr(prior.sde, STEPS)
        return sample(build(prior, a, y), (1, SIDE, SIDE), times, solver, seeds=seeds, batch_size=64)

    return run


def ddrm(prior: Denoiser, a: Linear, y: Tensor, seeds: Tensor) -> Tensor:
    """Its own step."""
    times = grids.uniform_log_snr(prior.sde, STEPS)
    return sample(prior, (1, SIDE, SIDE), times, DDRM(a, y, Gaussian(SIGMA)), seeds=seeds, batch_size=64)


METHODS: dict[str, Method] = {
    "MomentMatching": solved(lambda prior, a, y: MomentMatching(prior, a, y, Gaussian(SIGMA))),
    "PiGDM": solved(lambda prior, a, y: PiGDM(prior, a, y, Gaussian(SIGMA))),
    "DPS": solved(lambda prior, a, y: DPS(prior, a, y, Gaussian(SIGMA))),
    "DiffPIR": solved(lambda prior, a, y: DiffPIR(prior, a, y, Gaussian(SIGMA))),
    "DDRM": ddrm,
}


def total_variation(a: Linear, y: Tensor, weight: float, steps: int = 400) -> Tensor:
    """argmin |y - A x|^2 / 2 + weight TV(x) by the primal-dual method  (Chambolle & Pock 2011, algorithm 1)."""
    x = a.A_adjoint(y)
    for _ in range(20):  # the largest singular value of A
        x = a.A_adjoint(a.A(x / x.norm()))
    size = 0.95 / math.sqrt(float(x.norm()) + 8)
    x = torch.zeros_like(x)
    ahead, p, q = x, torch.zeros(2, *x.shape).to(x), torch.zeros_like(y)
    for _ in range(steps):
        slope = torch.stack([torch.roll(ahead, -1, k) - ahead for k in (2, 3)])
        slope[0, :, :, -1], slope[1, :, :, :, -1] = 0, 0
        p = p + size * slope
        p = p / (p.square().sum(0).sqrt() / weight).clamp_min(1)
        q = (q + size * (a.A(ahead) - y)) / (1 + size)
        back = sum(torch.roll(p[k], 1, k + 2) - p[k] for k in range(2))
        new = x - size * (back + a.A_adjoint(q))
        ahead, x = 2 * new - x, new
    return x


def main() -> None:
    """A table for each problem, and the figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = ScoreModel.load(options.run)
    prior = model.denoiser
    assert isinstance(prior, Denoiser)
    (file,) = options.data.glob("t10k-images*")
    images = torch.as_tensor(np.array(read_idx(file)))[: options.images + 8, None]
    images = model.transform.forward(images, torch.full(images.shape, 0.5))
    tuning, truth = images[:8], images[8:]
    n, k = len(truth), options.samples
    shown: dict[str, dict[str, Tensor]] = {}
    for name, a in PROBLEMS.items():
        clean = a.A(images)
        y = Gaussian(SIGMA).sample(clean, noise=Noise.per_sample(range(len(images))))
        print(f"\n| {name} | PSNR of the mean | of a sample | residual | 90 % intervals | TARP | seconds |")
        print("|---|---|---|---|---|---|---|")
        if isinstance(a, Radon):
            baselines = {"filtered back-projection": filtered_back_projection(a, y[8:])}
        else:
            baselines = {"pseudo-inverse": a.A_dagger(y[8:])}
        weights = [0.003, 0.01, 0.03, 0.1]
        best = max(weights, key=lambda w: float(psnr(total_variation(a, y[:8], w), tuning, 2.0).mean()))
        tv = f"total variation, weight {best}"
        baselines[tv] = total_variation(a, y[8:], best)
        for label, x in baselines.items():
            print(f"| {label} | {float(psnr(x.clamp(-1, 1), truth, 2.0).mean()):.2f} | | | | | |")
        for label, method in METHODS.items():
            start = time.perf_counter()
            rows = torch.arange(n).repeat_interleave(k)
            x = method(prior, a, y[8:][rows], torch.arange(n * k))
            seconds = time.perf_counter() - start
            each = x.reshape(n, k, *truth.shape[1:])
            mean, std = each.mean(1), each.std(1)
            residual = (y[8:][rows] - a.A(x)).abs().square().mean().sqrt() / SIGMA
            if y.is_complex():
                residual = residual / math.sqrt(2)
            inside = ((truth - mean).abs() < 1.645 * std * math.sqrt(1 + 1 / k)).double().mean()
            print(
                f"| {label} | {float(psnr(mean.clamp(-1, 1), truth, 2.0).mean()):.2f} "
                f"| {float(psnr(x.clamp(-1, 1), truth[rows], 2.0).mean()):.2f} | {float(residual):.2f} "
                f"| {100 * float(inside):.0f} % | {uniformity(tarp_levels(each, truth)):.2g} | {seconds:.0f} |",
                flush=True,
            )
            if label == "MomentMatching":
                shown[name] = {
                    "truth": truth[0],
                    next(iter(baselines)): next(iter(baselines.values()))[0],
                    "total variation": baselines[tv][0],
                    "mean": mean[0],
                    "standard deviation": std[0],
                    **{f"sample {j + 1}": each[0, j] for j in range(2)},
                }
    if options.figure:
        plot.panels(shown, -1, 1, spread="standard deviation").savefig(options.figure, dpi=70)


if __name__ == "__main__":
    main()
