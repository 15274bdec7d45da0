"""Colours for grey patches of pictures: how far do samples agree with the grey, and how often is the truth among them?

    pip install scikit-image
    python benchmarks/colour.py patches colours.npy                      # the training set
    scorefield train --config recipes/colour_patches.yaml --out run      # about 40 minutes of one core
    python benchmarks/colour.py colourise run

Patches of 24 x 24 pixels at full, half and a quarter of the resolution, mirrored or not, of five photographs: coffee,
rocket and motorcycle of scikit-image, china and flower of scikit-learn. Tested on are the rightmost quarter of the same
pictures, which is never trained on, and two whole pictures, astronaut and chelsea. Five photographs are a poor idea of
the world's colours: for other pictures the samples can only be plausible where these have similar things.

The columns are those of reconstruction.py in grey levels of 0 to 255; `residual` is what the grey of the samples
errs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from reconstruction import Comparison
from skimage import data as skimage_pictures
from sklearn.datasets import load_sample_image
from torch import Tensor

import scorefield as sf
from scorefield import plot
from scorefield.operators import Colorize

SIDE = 24
TRAINED = ("coffee", "rocket", "motorcycle", "china", "flower")
HELD_OUT = ("astronaut", "chelsea")
METHODS = ("Replacement", "DDNM", "MomentMatching")


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
        table = Comparison(operator, y, 0.0, truth.double(), 255.0, torch.ones_like(truth, dtype=torch.bool))
        table.head(f"{test}: {count} patches, {samples} samples of each")
        table.estimate("grey for all colours", y.expand_as(truth))
        found = {name: table.method(name, model, samples, steps) for name in METHODS}
        for k in range(0, count, -(-count // 4)):  # a row: grey, truth, three samples of each method
            row = [y[k].expand_as(truth[k]), truth[k], *(sample for x in found.values() for sample in x[k, :3])]
            shown += [x.double() for x in row]
    if out:
        plot.image_grid(torch.stack(shown), 256, columns=2 + 3 * len(METHODS), side=48).save(out)


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
