"""Colours for grey patches of pictures: how far do samples agree with the grey, and how often is the truth among them?

    pip install scikit-image
    python benchmarks/colour.py patches colours.npy                      # the training set
    scorefield train --config recipes/colour_patches.yaml --out run      # about 40 minutes of one core
    python benchmarks/colour.py colourise run

Patches of 24 x 24 pixels at full, half and a quarter of the resolution, mirrored or not, of five photographs: coffee,
rocket and motorcycle of scikit-image, china and flower of scikit-learn. Tested on are the rightmost quarter of the same
pictures, which is never trained on, and two whole pictures, astronaut and chelsea. Five photographs are a poor idea of
the world's colours: for other pictures the samples can only be plausible where these have similar things.

For each method, in grey levels of 0 to 255 before rounding: how far the grey of the samples is from the one measured;
the error of the samples' mean and their standard deviation; the share of colour values inside the central 90 % that the
samples predict, mean +- t sqrt(1 + 1/n) std; the p-value of TARP's levels; and the seconds of one core for a sample.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from skimage import data as skimage_pictures
from sklearn.datasets import load_sample_image
from torch import Tensor

import scorefield as sf
from scorefield import plot
from scorefield.guidance import DDNM, MomentMatching, PosteriorDenoiser, Replacement
from scorefield.metrics import tarp_levels, uniformity
from scorefield.model import Measured
from scorefield.operators import Colorize, Noiseless
from scorefield.solvers import ExponentialAdams, Langevin, PredictorCorrector, Solver

SIDE = 24
TRAINED = ("coffee", "rocket", "motorcycle", "china", "flower")
HELD_OUT = ("astronaut", "chelsea")
Method = Callable[[sf.ScoreModel, Measured, int], Tensor]  # model, grey patches, steps -> a sample for each of them


def picture(name: str) -> NDArray[np.uint8]:
    """(height, width, 3)."""
    if name in ("china", "flower"):
        return load_sample_image(f"{name}.jpg")
    return skimage_pictures.stereo_motorcycle()[0] if name == "motorcycle" else getattr(skimage_pictures, name)()


def coarser(x: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Means over blocks."""
    h, w = (n // factor * factor for n in x.shape[:2])
    return x[:h, :w].reshape(h // factor, factor, w // factor, factor, 3).mean((1, 3)).round().astype(np.uint8)


def patches(pictures: list[NDArray[np.uint8]], count: int, seed: int) -> Tensor:
    """Random ones, as many of each picture at each resolution, (count, 3, 24, 24)."""
    rng, levels = np.random.default_rng(seed), [coarser(x, f) for x in pictures for f in (1, 2, 4)]
    found = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for k in range(count):
        x = levels[k % len(levels)]
        top, left = (rng.integers(n - SIDE + 1) for n in x.shape[:2])
        patch = x[top : top + SIDE, left : left + SIDE]
        found[k] = patch[:, ::-1] if rng.integers(2) else patch
    return torch.from_numpy(found).movedim(-1, 1)


def parts(name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """What is trained on, and what is not."""
    x = picture(name)
    cut = x.shape[1] * 3 // 4
    return x[:, :cut], x[:, cut:]


def replacement(model: sf.ScoreModel, known: Measured, steps: int) -> Tensor:
    """Song et al. (2021): the grey is put in after each predictor's and each corrector's step."""
    pair = PredictorCorrector(Replacement(*known), Replacement(*known, Langevin()))
    return drawn(model, model.given(), pair, known, steps)


def guided(build: Callable[..., PosteriorDenoiser]) -> Method:
    """The reverse SDE with a guided denoiser."""
    solver = ExponentialAdams(2, corrector=False, eta=1.0)
    return lambda model, known, steps: drawn(model, build(model.given(), *known), solver, known, steps)


def drawn(model: sf.ScoreModel, denoiser: sf.Denoiser, solver: Solver, known: Measured, steps: int) -> Tensor:
    """A sample for each row of y, in the data's units before rounding."""
    times, seeds = sf.grids.uniform_log_snr(denoiser.sde, steps), range(len(known.y))
    z = sf.sample(denoiser, model.event_shape, times, solver, seeds=seeds, batch_size=48)
    shift, scale = model.transform.line(z)
    return z * scale + shift


METHODS: dict[str, Method] = {
    "Replacement": replacement,
    "DDNM": guided(DDNM),
    "MomentMatching": guided(MomentMatching),
}


def colourise(run: Path, samples: int, count: int, steps: int, out: Path | None) -> None:
    """The tables, and a figure with four patches of each."""
    torch.set_num_threads(1)
    model, operator = sf.ScoreModel.load(run), Colorize()
    tests = {
        "other parts of the pictures trained on": [parts(name)[1] for name in TRAINED],
        "other pictures": [picture(name) for name in HELD_OUT],
    }
    shown: list[Tensor] = []
    for test, pictures in tests.items():
        truth = patches(pictures, count, 1)
        y = operator.A(truth.double())
        print(f"\n{test}: {count} patches, {samples} samples of each\n")
        print("| method | grey | error of mean | std | inside | TARP | seconds |\n" + "|---" * 7 + "|")
        print(f"| grey for all colours | 0 | {rms(y - truth):.1f} | | | | |")
        known, found = model.measured(operator, y.repeat_interleave(samples, 0), Noiseless()), dict[str, Tensor]()
        for name, method in METHODS.items():
            start = time.process_time()
            x = method(model, known, steps).unflatten(0, (count, samples))
            seconds = (time.process_time() - start) / (count * samples)
            reach = float(student.ppf(0.95, samples - 1)) * (1 + 1 / samples) ** 0.5 * x.std(1)
            numbers = [
                f"{rms(x.mean(2, keepdim=True) - y[:, None]):.1e}",
                f"{rms(truth - x.mean(1)):.1f}",
                f"{rms(x.std(1)):.1f}",
                f"{100 * float(((truth - x.mean(1)).abs() < reach).float().mean()):.1f} %",
                f"{uniformity(tarp_levels(x, truth.float())):.2g}",
                f"{seconds:.2f}",
            ]
            print(f"| {name} | {' | '.join(numbers)} |", flush=True)
            found[name] = x
        for k in range(0, count, -(-count // 4)):  # a row: grey, truth, three samples of each method
            row = [y[k].expand_as(truth[k]), truth[k], *(sample for x in found.values() for sample in x[k, :3])]
            shown += [x.double() for x in row]
    if out:
        plot.image_grid(torch.stack(shown), 256, columns=2 + 3 * len(METHODS), side=48).save(out)


def rms(x: Tensor) -> float:
    """Root mean square."""
    return float(x.double().square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("patches")
    write.add_argument("out", type=Path)
    write.add_argument("--count", type=int, default=24000)
    colour = commands.add_parser("colourise")
    colour.add_argument("run", type=Path)
    colour.add_argument("--samples", type=int, default=8)
    colour.add_argument("--count", type=int, default=30)
    colour.add_argument("--steps", type=int, default=50)
    colour.add_argument("--figure", type=Path)
    options = parser.parse_args()
    if options.command == "patches":
        np.save(options.out, patches([parts(name)[0] for name in TRAINED], options.count, 0).numpy())
    else:
        colourise(options.run, options.samples, options.count, options.steps, options.figure)


if __name__ == "__main__":
    main()
