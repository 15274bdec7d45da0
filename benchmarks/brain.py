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

For each method: the PSNR (peak 1: the brain's 99th percentile) of the samples' mean and of one sample; the residual of
one sample over the noise, 1 for the posterior; the share of the brain's pixels inside the central 90 % that the samples
predict, for n of them mean +- t sqrt(1 + 1/n) std with Student's t of n - 1 (1.645 std for many); the p-value of TARP's
levels, which for ten slices sees only what is far off; the samples' standard deviation and the error of their mean; and
the seconds of one core for a sample.
With `--truth model` the truths are samples of the model and measured by the operator itself: then the prior is right,
and what is wrong is the method's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from brain_slices import COARSE, COLIN27, FINE, Volume, band_limited, fine_slices, k_space
from matplotlib.figure import Figure
from scipy.stats import t as student
from torch import Tensor

import scorefield as sf
from scorefield.guidance import DDNM, DPS, DiffPIR, MomentMatching, PiGDM, PosteriorDenoiser
from scorefield.metrics import psnr, tarp_levels, uniformity
from scorefield.model import Measured
from scorefield.operators import FourierMask, Gaussian, LinearOperator, Radon, cartesian_mask, filtered_back_projection
from scorefield.operators.operator import flat
from scorefield.posterior import DAPS, SplitGibbs
from scorefield.solvers import ExponentialAdams

SIGMA = 0.02
HEIGHTS = [-20.0 + 7 * k for k in range(10)]  # of the test slices
OTHER = [-16.5, 4.5, 25.5, 39.5]  # of the slices of Colin27 that choose the weight of the total variation
SHAPE = (1, COARSE, COARSE)
Method = Callable[[sf.ScoreModel, Measured, int], Tensor]  # model, measurements, steps -> a sample for each row of y


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


def guided(build: Callable[..., PosteriorDenoiser], **options: float) -> Method:
    """The reverse SDE with a guided denoiser, as `scorefield invert` has it."""

    def run(model: sf.ScoreModel, known: Measured, steps: int) -> Tensor:
        times = sf.grids.uniform_log_snr(model.denoiser.sde, steps)
        solver, n = ExponentialAdams(2, corrector=False, eta=1.0), len(known.y)
        return sf.sample(build(model.given(), *known, **options), SHAPE, times, solver, seeds=range(n), batch_size=20)

    return run


METHODS: dict[str, Method] = {
    "MomentMatching": guided(MomentMatching),
    "PiGDM": guided(PiGDM),
    "DPS": guided(DPS, zeta=3.0),  # the best of 0.03, 0.3, 1, 3 and 10 for two of the slices
    "DiffPIR": guided(DiffPIR),
    "DDNM": guided(DDNM),
    "DAPS": lambda model, known, steps: DAPS(model.given(), *known, levels=steps, steps=3).sample(
        SHAPE, seeds=range(len(known.y)), batch_size=20
    ),
    "SplitGibbs": lambda model, known, steps: SplitGibbs(model.given(), *known, rounds=steps // 2, steps=8).sample(
        SHAPE, seeds=range(len(known.y)), batch_size=20
    ),
}


def noisy(clean: Tensor, seed: int) -> Tensor:
    """Measurements with noise of their own."""
    return Gaussian(SIGMA).sample(clean, noise=sf.Noise.per_sample(range(seed, seed + len(clean))))


def total_variation(operator: LinearOperator, y: Tensor, weight: float, steps: int = 300) -> Tensor:
    """argmin |A x - y|^2 / 2 + weight TV(x), isotropic, by the primal-dual algorithm of Chambolle & Pock (2011)."""

    def gradient(x: Tensor) -> Tensor:
        return torch.stack((x.diff(dim=2, append=x[:, :, -1:]), x.diff(dim=3, append=x[..., -1:])))

    def divergence(p: Tensor) -> Tensor:  # minus the adjoint
        down, right = p[0].clone(), p[1].clone()
        down[:, :, -1], right[..., -1] = 0, 0
        return down - torch.roll(down, 1, 2) + right - torch.roll(right, 1, 3)

    x = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(30):
        x = operator.A_adjoint(operator.A(x)) / x.norm()
    step = 1 / (float(x.norm()) + 8) ** 0.5
    x = operator.A_adjoint(y) * 0
    ahead, u, p = x, 0 * y, gradient(x)
    for _ in range(steps):
        u = (u + step * (operator.A(ahead) - y)) / (1 + step)
        p = p + step * gradient(ahead)
        p = p / (p.square().sum(0).sqrt() / weight).clamp_min(1)
        last, x = x, x - step * (operator.A_adjoint(u) - divergence(p))
        ahead = 2 * x - last
    return x


def best_weight(problem: Problem) -> float:
    """Of the total variation, for slices of the brain that the model was trained on."""
    fine = fine_slices(Volume(COLIN27), OTHER)
    y, truth = noisy(problem.measured(fine), 10**6), band_limited(fine)
    weights = [0.0005 * 2**k for k in range(10)]
    return max(weights, key=lambda w: quality(total_variation(problem.operator, y, w), truth))


def inside(x: Tensor, truth: Tensor) -> float:
    """Share of the brain's pixels whose truth is in the central 90 % of samples x, (slices, samples, ...)."""
    n = x.shape[1]
    reach = float(student.ppf(0.95, n - 1)) * (1 + 1 / n) ** 0.5 * x.std(1)
    return float(((truth - x.mean(1)).abs() < reach)[truth > 0.2].float().mean())


def rms(x: Tensor) -> float:
    """Root mean square."""
    return float(flat(x).square().mean().sqrt())


def quality(x: Tensor, truth: Tensor) -> float:
    """Mean PSNR of the slices in dB."""
    return float(psnr(x, truth, peak=1.0).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("volume", type=Path)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--truth", choices=("volume", "model"), default="volume")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = sf.ScoreModel.load(options.run)
    fine = fine_slices(Volume(options.volume), HEIGHTS)
    truth = band_limited(fine)
    if options.truth == "model":
        truth = model.sample(seeds=range(10**7, 10**7 + len(HEIGHTS)), steps=100)
    drawn: dict[str, dict[str, Tensor]] = {}
    for name in options.problems:
        problem = PROBLEMS[name]
        a, own = problem.operator, problem.operator.A(truth.double())
        clean = own if options.truth == "model" else problem.measured(fine)
        y, weight = noisy(clean, 0), best_weight(problem)
        drawn[name] = {
            "zero-filled" if name.startswith("MRI") else "filtered back-projection": problem.classical(y),
            "pseudo-inverse": a.A_dagger(y),
            f"total variation, {weight:g}": total_variation(a, y, weight),
        }
        print(f"\n{name}; the operator errs by {rms(own - clean) / SIGMA:.2f} of the noise\n")
        print("| method | mean | one | residual | inside | TARP | std | error of mean | seconds |\n" + "|---" * 9 + "|")
        for kind, x in drawn[name].items():
            print(
                f"| {kind} | {quality(x, truth):.2f} | | {rms(a.A(x) - y) / SIGMA:.2f} | | | | {rms(x - truth):.4f} | |"
            )
        known = model.measured(a, y.repeat_interleave(options.samples, 0), Gaussian(SIGMA))
        for kind in options.methods:
            start = time.process_time()
            x = model.transform.inverse(METHODS[kind](model, known, options.steps))
            seconds = (time.process_time() - start) / len(x)
            x = x.unflatten(0, (len(truth), options.samples))
            numbers = [
                f"{quality(x.mean(1), truth):.2f}",
                f"{quality(x[:, 0], truth):.2f}",
                f"{rms(a.A(x[:, 0].double()) - y) / SIGMA:.2f}",
                f"{100 * inside(x, truth):.1f} %",
                f"{uniformity(tarp_levels(x, truth)):.2g}",
                f"{rms(x.var(1).sqrt()):.4f}",
                f"{rms(x.mean(1) - truth):.4f}",
                f"{seconds:.1f}",
            ]
            print(f"| {kind} | {' | '.join(numbers)} |", flush=True)
            drawn[name][kind] = x
    if options.figure:
        picture(truth, drawn, options.methods[0]).savefig(options.figure, dpi=60)


def picture(truth: Tensor, drawn: dict[str, dict[str, Tensor]], method: str, number: int = 4) -> Figure:
    """One slice of each problem: the truth, two baselines, and what a method makes of it."""
    figure = Figure(figsize=(15, 2.3 * len(drawn)), layout="constrained")
    axes = figure.subplots(len(drawn), 8, squeeze=False)
    for row, (problem, shown) in zip(axes, drawn.items(), strict=True):
        (classical, *_, tv), x = [(k, v) for k, v in shown.items() if v.ndim == 4], shown[method]
        panels = dict([("truth", truth), classical, tv])
        panels |= {"mean of samples": x.mean(1), "one sample": x[:, 0], "another": x[:, 1]}
        maps = {"|mean - truth|": (x.mean(1) - truth).abs(), "standard deviation": x.std(1)}
        for place, (title, values) in zip(row, {**panels, **maps}.items(), strict=True):
            place.imshow(
                values[number, 0],
                cmap="magma" if title in maps else "gray",
                vmin=0,
                vmax=0.25 if title in maps else 1.1,
            )
            place.set(title=title.split(",")[0], xticks=[], yticks=[])
        row[0].set_ylabel(problem)
    return figure


if __name__ == "__main__":
    main()
