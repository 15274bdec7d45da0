"""`scorefield average`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scorefield._files import check_tensors
from scorefield.cli.parts.running import SNAPSHOTS
from scorefield.cli.parts.sources import directory, locked
from scorefield.model import ScoreModel
from scorefield.model.stored import CONFIG, WEIGHTS
from scorefield.training import Snapshots, floating


def average(run: Path, width: float, out: Path, step: int | None = None, types: Sequence[type] = ()) -> None:
    """Makes a model of another average of the weights from the snapshots of a run.

    They are there if the run was trained with --optimisation.widths, such as [0.05,0.1].

    Args:
        run: directory of a trained model.
        width: standard deviation of the average's profile in time, as a share of the training up to the step, from
            about 0.02 (little averaging) to 0.25; the best one is found by trying several.
        out: directory of the new model.
        step: of the training whose average it is, the last one by default.
        types: your own classes that the model is made of, by their import paths.
    """
    model = ScoreModel.load(run, types=types)
    with directory(out, (CONFIG, WEIGHTS)), locked(out):
        if (out / CONFIG).exists():
            raise ValueError(f"--out {out}: holds a model already: name another directory")
        made = Snapshots(run / SNAPSHOTS).average(width, step)
        weights = floating(model.denoiser)
        check_tensors(made.weights, weights, str(run / SNAPSHOTS))
        model.denoiser.load_state_dict(made.weights, strict=False)
        model.about = {**model.about, "step": made.step, "average": f"width {width:g} of the training"}
        model.save(out)
    print(f"wrote the average of width {width:g} at step {made.step} to {out}; {made.residual:.2g} of it is missed")
