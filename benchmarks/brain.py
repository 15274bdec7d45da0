"""Undersampled MRI and sparse-view CT of a brain by a model of another brain: reconstructions and their error bars.

    apt-get install mricron-data && pip install nibabel && pip install --no-deps --target mni nilearn
    python benchmarks/brain_slices.py brain.npy                      # Colin27, about 2 minutes
    scorefield train --config recipes/brain.yaml --out run           # about 40 minutes of one core
    python benchmarks/brain.py run mni/nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz

Tested on are horizontal slices of the MNI152 template as nilearn brings it: the mean of 152 other brains, symmetric,
smoother than any one of them. Measurements are simulated, since no package carries raw ones, but not by the operator
that is inverted: k-space is that of the 1 mm slice, cut to its 64 x 64 lowest frequencies as a scanner would measure
them, and CT's line integrals go through the 1 mm slice. Both have normal noise, of 2 % of white matter in each pixel
of a full scan and of 0.02 in line integrals of up to 1.6.

The columns are those of reconstruction.py, peak 1 (the brain's 99th percentile), `inside` of the brain's pixels.
With `--truth model` the truths are samples of the model and measured by the operator itself: then the prior is right,
and what is wrong is the method's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from brain_slices import COARSE, COLIN27, FINE, Volume, band_limited, fine_slices, k_space
from reconstruction import Comparison, best_weight, noisy, rms, total_variation
from torch import Tensor

import scorefield as sf
from scorefield import plot
from scorefield.operators import FourierMask, LinearOperator, Radon, cartesian_mask, filtered_back_projection

SIGMA = 0.02
HEIGHTS = [-20.0 + 7 * k for k in range(10)]  # of the test slices
OTHER = [-16.5, 4.5, 25.5, 39.5]  # of the slices of Colin27 that choose the weight of the total variation


class Problem(NamedTuple):
    """What is measured of slices, and how it was inverted before."""

    operator: LinearOperator
    measured: Callable[[Tensor], Tensor]  # of fine slices, without noise
    classical: Callable[[Tensor], Tensor]


def mri(acceleration: int) -> Problem:
    """Columns of k-space; the classical inverse fills the others with zeros."""
    mask = cartesian_mask(COARSE, COARSE, acceleration, seed=0)
    operator = FourierMask(mask)
    return Problem(operator, lambda fine: k_space(fine)[:, mask], operator.A_adjoint)


def ct(angles: int) -> Problem:
    """Parallel beams; the classical inverse is filtered back-projection."""
    operator = Radon(COARSE, angles)
    through = Radon(FINE, angles, operator.detectors)
    return Problem(operator, lambda fine: through.A(fine.double()), lambda y: filtered_back_projection(operator, y))


PROBLEMS = {"MRI 4x": mri(4), "MRI 8x": mri(8), "CT 40": ct(40), "CT 20": ct(20)}


METHODS = ("MomentMatching", "PiGDM", "DPS", "DiffPIR", "DDNM", "DAPS", "SplitGibbs")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("volume", type=Path)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--truth", choices=("volume", "model"), default="volume")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = sf.ScoreModel.load(options.run)
    fine = fine_slices(Volume(options.volume), HEIGHTS)
    truth = band_limited(fine)
    if options.truth == "model":
        truth = model.sample(seeds=range(10**7, 10**7 + len(HEIGHTS)), steps=100)
    shown: dict[str, dict[str, Tensor]] = {}
    for name in options.problems:
        problem = PROBLEMS[name]
        a, own = problem.operator, problem.operator.A(truth.double())
        clean = own if options.truth == "model" else problem.measured(fine)
        y, fine_others = noisy(clean, SIGMA, 0), fine_slices(Volume(COLIN27), OTHER)
        others = noisy(problem.measured(fine_others), SIGMA, 10**6)
        weight = best_weight(a, others, band_limited(fine_others), SIGMA, 1.0)
        estimates = {
            "zero-filled" if name.startswith("MRI") else "filtered back-projection": problem.classical(y),
            "pseudo-inverse": a.A_dagger(y),
            f"total variation, {weight:.3g}": total_variation(a, y, weight),
        }
        table = Comparison(a, y, SIGMA, truth.double(), 1.0, truth > 0.2)
        print(f"\n{name}; the operator errs by {rms(own - clean) / SIGMA:.2f} of the noise")
        table.head(name)
        for kind, x in estimates.items():
            table.estimate(kind, x)
        samples = {kind: table.method(kind, model, options.samples, options.steps) for kind in options.methods}
        shown[name] = picture(truth, estimates, samples[options.methods[0]])
    if options.figure:
        plot.panels(shown, 0, 1.1, spread="standard deviation").savefig(options.figure, dpi=70)


def picture(truth: Tensor, estimates: dict[str, Tensor], x: Tensor, number: int = 4) -> dict[str, Tensor]:
    """One slice: the truth, two baselines, and what a method makes of it."""
    (name, classical), *_, (_, tv) = estimates.items()
    x = x[number]
    return {
        "truth": truth[number],
        name: classical[number],
        "total variation": tv[number],
        "mean": x.mean(0),
        "standard deviation": x.std(0),
        "a sample": x[0],
        "another": x[1],
    }


if __name__ == "__main__":
    main()
