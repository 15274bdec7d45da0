"""Inverse problems with a learned prior: a model of Fashion-MNIST, test images that it has not seen.

    scorefield train --config recipes/fashion_mnist.yaml --out fashion
    python benchmarks/inverse_fashion.py fashion /usr/share/datasets/fashion-mnist [--images 24] [--samples 8]

The columns are those of reconstruction.py. Measurements are simulated from the images, with noise of 5 % of half the
range of grey levels, and `inside` counts all pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from reconstruction import Comparison, best_weight, noisy, total_variation
from torch import Tensor

from scorefield import ScoreModel, plot
from scorefield.data.idx import read_idx
from scorefield.operators import (
    Blur,
    FourierMask,
    LinearOperator,
    Mask,
    Radon,
    SuperResolution,
    cartesian_mask,
    filtered_back_projection,
    gaussian_kernel,
)

PEAK, SIDE, STEPS = 255.0, 28, 40
SIGMA = 0.05 * 128


def hole() -> Tensor:
    """All pixels but a block in the middle."""
    mask = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    mask[:, 8:20, 8:20] = False
    return mask


PROBLEMS: dict[str, LinearOperator] = {
    "inpainting": Mask(hole()),
    "deblurring": Blur(gaussian_kernel(9, 1.5)),
    "super-resolution 4x": SuperResolution(4),
    "MRI 4x": FourierMask(cartesian_mask(SIDE, SIDE, 4.0, seed=0)),
    "CT, 12 angles": Radon(SIDE, 12),
}
METHODS = ("MomentMatching", "PiGDM", "DPS", "DiffPIR", "DDRM")


def main() -> None:
    """A table for each problem, and a figure of the first method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = ScoreModel.load(options.run)
    (file,) = options.data.glob("t10k-images*")
    images = torch.as_tensor(np.array(read_idx(file)))[: options.images + 8, None].double()
    tuning, truth = images[:8], images[8:]
    shown: dict[str, dict[str, Tensor]] = {}
    for name, a in PROBLEMS.items():
        every = noisy(a.A(images), SIGMA, 0)
        y = every[8:]
        weight = best_weight(a, every[:8], tuning, SIGMA, PEAK)
        estimates = {
            "pseudo-inverse": a.A_dagger(y),
            f"total variation, {weight:.3g}": total_variation(a, y, weight),
        }
        if isinstance(a, Radon):
            estimates = {"filtered back-projection": filtered_back_projection(a, y), **estimates}
        table = Comparison(a, y, SIGMA, truth, PEAK, torch.ones_like(truth, dtype=torch.bool))
        table.head(name)
        for label, x in estimates.items():
            table.estimate(label, x)
        found = {label: table.method(label, model, options.samples, STEPS) for label in options.methods}
        k, x = len(shown), found[options.methods[0]]  # another image for each problem
        shown[name] = {
            "truth": truth[k],
            next(iter(estimates)): next(iter(estimates.values()))[k],
            "total variation": list(estimates.values())[-1][k],
            "mean": x[k].mean(0),
            "standard deviation": x[k].std(0),
            "a sample": x[k, 0],
            "another": x[k, 1],
        }
    if options.figure:
        plot.panels(shown, 0, PEAK, spread="standard deviation").savefig(options.figure, dpi=70)


if __name__ == "__main__":
    main()
