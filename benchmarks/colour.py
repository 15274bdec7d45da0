"""Colours for grey patches of pictures: how far do samples agree with the grey, and how often is the truth among them?

    pip install scikit-image
    python benchmarks/colour.py patches colours.npy                      # the training set
    scorefield train --config recipes/colour_patches.yaml --out run      # about 40 minutes of one core
    python benchmarks/colour.py colourise run

Patches of 24 x 24 pixels at full, half and a quarter of the resolution, mirrored or not, of five photographs: coffee,
rocket and motorcycle of scikit-image, china and flower of scikit-learn. Tested on are the rightmost quarter of the same
pictures, which is never trained on, and two whole pictures, astronaut and chelsea. Five photographs are a poor idea of
the world's colours: for other pictures the samples can only be plausible where these have similar things.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import t as student
from skimage import data as skimage_pictures
from sklearn.datasets import load_sample_image
from torch import Tensor

import scorefield as sf
from scorefield.guidance import DDNM, MomentMatching, PosteriorDenoiser, Replacement
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


def colourise(run: Path, samples: int, steps: int, out: Path | None) -> None:
    """The table, and the figure of the patches that were not trained on."""
    torch.set_num_threads(1)
    model, operator = sf.ScoreModel.load(run), Colorize()
    tests = {
        "pictures trained on, other parts": patches([parts(name)[1] for name in TRAINED], 30, 1),
        "other pictures": patches([picture(name) for name in HELD_OUT], 30, 1),
    }
    print(f"{'':16}{'grey':>8}{'colour':>8}{'std':>8}{'inside':>8}{'seconds':>9}")
    for test, truth in tests.items():
        print(f"{test}: {len(truth)} patches, {samples} samples of each")
        y = operator.A(truth.double())
        print(f"{'grey for all':16}{0:8.2f}{(y - truth).square().mean().sqrt():8.1f}")
        known = model.measured(operator, y.repeat_interleave(samples, 0), Noiseless())
        found: dict[str, Tensor] = {}
        for name, method in METHODS.items():
            start = time.process_time()
            x = method(model, known, steps).unflatten(0, (len(truth), samples))
            seconds = (time.process_time() - start) / (len(truth) * samples)
            grey = (x.mean(2, keepdim=True) - y[:, None]).square().mean().sqrt()
            reach = float(student.ppf(0.95, samples - 1)) * (1 + 1 / samples) ** 0.5 * x.std(1)
            inside = ((truth - x.mean(1)).abs() < reach).double().mean()
            error, std = (truth - x.mean(1)).square().mean().sqrt(), x.std(1).square().mean().sqrt()
            print(f"{name:16}{grey:8.2f}{error:8.1f}{std:8.1f}{100 * inside:8.1f}{seconds:9.2f}", flush=True)
            found[name] = x
        if out:
            show(truth, y, found).savefig(out.with_stem(f"{out.stem}_{test.split()[0]}"), dpi=90)


def show(truth: Tensor, y: Tensor, found: Mapping[str, Tensor], rows: int = 8, columns: int = 4) -> Figure:
    """Grey, samples of each method, truth."""
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(rows, 2 + columns * len(found))
    for row, line in enumerate(axes):
        k = row * len(truth) // rows
        panels = [("grey", y[k].expand_as(truth[k])), ("truth", truth[k])]
        panels += [(name if j == 0 else "", x[k, j]) for name, x in found.items() for j in range(columns)]
        for place, (title, x) in zip(line, panels, strict=True):
            place.imshow((x / 255).clamp(0, 1).movedim(0, -1))
            place.set(xticks=[], yticks=[], title=title if row == 0 else "")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("patches")
    write.add_argument("out", type=Path)
    write.add_argument("--count", type=int, default=24000)
    colour = commands.add_parser("colourise")
    colour.add_argument("run", type=Path)
    colour.add_argument("--samples", type=int, default=12)
    colour.add_argument("--steps", type=int, default=50)
    colour.add_argument("--figure", type=Path)
    options = parser.parse_args()
    if options.command == "patches":
        np.save(options.out, patches([parts(name)[0] for name in TRAINED], options.count, 0).numpy())
    else:
        colourise(options.run, options.samples, options.steps, options.figure)


if __name__ == "__main__":
    main()
