"""`scorefield.default` and UniPC-3 with a trained model of Fashion-MNIST, for a budget of network calls.

    python benchmarks/quality_learned.py RUN TRAIN_IMAGES

RUN is what `scorefield train --config recipes/fashion_mnist.yaml --out RUN` leaves, TRAIN_IMAGES the data's
train-images-idx3-ubyte.gz. For 32 seeds: the mean distance per pixel to the 400 calls' endpoint of UniPC-3 from the
same seeds, in units of the model's data; and the mean and the median deviation from black, in grey levels before
rounding, of the pixels that are black in more than 99.5 % of the training images. A last step that keeps noise shows in
the latter.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import scorefield as sf
from scorefield.solvers import Solver, UniPC

SEEDS = range(32)
BUDGETS = (5, 8, 10, 15, 20, 35, 50)


def main(run: str, images: str) -> None:
    torch.set_num_threads(1)
    model = sf.ScoreModel.load(run)
    sde, label = model.denoiser.sde, torch.arange(len(SEEDS)) % 10
    with gzip.open(Path(images)) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, *model.event_shape)
    black = torch.from_numpy((pixels == 0).mean(0) > 0.995)

    def draw(solver: Solver, times: Sequence[float]) -> Tensor:
        return sf.sample(model.denoiser.given(label=label), model.event_shape, times, solver, seeds=SEEDS)

    def show(name: str, x: Tensor) -> None:
        distance = (x - reference).flatten(1).norm(dim=1).mean() / black.numel() ** 0.5
        levels = (128 * x[:, black] + 127.5).abs()  # level 0 is centred at -127.5 / 128
        print(f"{name:22}{distance:>10.4f}{levels.mean():>15.2f}{levels.median():>17.2f}", flush=True)

    print(f"{'calls':22}{'distance':>10}{'mean deviation':>15}{'median deviation':>17}")
    reference = draw(UniPC(), sf.grids.uniform_log_snr(sde, 400))
    show("400 UniPC-3", reference)
    show("400 default", draw(*sf.default(sde, 400)))
    for nfe in BUDGETS:
        show(f"{nfe} default", draw(*sf.default(sde, nfe)))
        show(f"{nfe} UniPC-3", draw(UniPC(), sf.grids.uniform_log_snr(sde, nfe)))


if __name__ == "__main__":
    main(*sys.argv[1:])
