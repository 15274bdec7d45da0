"""`scorefield demo`."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import torch
from sklearn.svm import SVC
from torch import Tensor

from scorefield import plot
from scorefield.cli.likelihood import mean_and_error
from scorefield.cli.parts.running import CHECKPOINTS
from scorefield.cli.parts.writing import save_figure, save_picture
from scorefield.cli.train import train
from scorefield.data import digits, split
from scorefield.evaluate import paths
from scorefield.model import ScoreModel
from scorefield.training import Optimisation

HELD_OUT = 0.2


def demo(out: Path = Path("demo"), steps: int = 4000, samples: int = 1000, seed: int = 0) -> None:
    """Trains on handwritten digits, then judges samples and likelihood; about a minute on two cores.

    The directory gets the trained run and pictures: samples.png with a row for each class, generation.png,
    trajectories.png and loss.png.

    Args:
        out: directory of the run; an earlier demo there is replaced.
        steps: of training.
        samples: number to draw and judge.
        seed: of everything.
    """
    if steps < 1 or samples < 1:
        raise ValueError(f"--steps and --samples must be at least 1; got {steps} and {samples}")
    start = time.perf_counter()
    (out / "config.json").unlink(missing_ok=True)  # an earlier demo makes room
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    train("digits", out, optimisation=Optimisation(lr=3e-3), steps=steps, held_out=HELD_OUT, save_every=500, seed=seed)
    model = ScoreModel.load(out)
    kept, held = split(digits(), HELD_OUT, seed)

    label = torch.arange(samples) % 10
    drawn = model.sample(seeds=range(samples), steps=20, label=label)
    rows = torch.cat([drawn[label == k][:16] for k in range(10)])
    save_picture(plot.image_grid(rows, model.transform.levels, columns=16), out / "samples.png")
    known, truth = (part.rows(torch.arange(len(part))) for part in (kept, held))
    judge = SVC(C=10.0).fit(known.x.flatten(1).numpy(), known.cond["label"].numpy())
    accuracy = judge.score(truth.x.flatten(1).numpy(), truth.cond["label"].numpy())
    agreement = judge.score(drawn.flatten(1).numpy(), label.numpy())

    result = model.log_prob(truth.x, label=truth.cond["label"])
    _draw_paths(model, known.x[:16], out)
    print(
        f"held-out bits/dim {mean_and_error(result.bits_per_dim)} ({len(held)} digits given their class, exact trace)"
    )
    print(f"judge: an SVC fitted on real digits is right on {100 * accuracy:.1f} % of the held-out ones")
    print(f"agreement {100 * agreement:.1f} %")
    print(f"{time.perf_counter() - start:.0f} s in all; pictures and model are in {out}")


def _draw_paths(model: ScoreModel, x: Tensor, out: Path) -> None:
    """Draws one pixel of sixteen digits along the forward and reverse processes, and digits as they emerge."""
    walked = paths(model, x, {"label": torch.arange(len(x)) % 10})
    stages = walked.stages(10)
    save_picture(plot.image_grid(stages.flatten(0, 1).clamp(-1, 1), columns=stages.shape[1]), out / "generation.png")
    save_figure(plot.trajectories(walked.of_one_number(), "value of one pixel"), out / "trajectories.png")
