"""Time grids by their names."""

from __future__ import annotations

import json
import math
import warnings
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield import grids
from scorefield._files import alone, read_json, write_text
from scorefield.certify import optimised_grid
from scorefield.model import ScoreModel
from scorefield.processes import SDE, GaussianSDE
from scorefield.solvers import Solver
from scorefield.training import distributed

FILE = "grids.json"


class Grid(Enum):
    """How the times of the steps are chosen."""

    log_snr = "log_snr"
    information = "information"
    karras = "karras"
    uniform = "uniform"
    quadratic = "quadratic"
    optimised = "optimised"

    def times(self, solver: Solver, steps: int, sde: SDE, spectrum: Tensor) -> list[float]:
        """The times of a number of steps."""
        if self is Grid.uniform or self is Grid.quadratic:
            return (grids.uniform if self is Grid.uniform else grids.quadratic)(sde, steps)
        if not isinstance(sde, GaussianSDE):
            raise ValueError(
                f"--grid {self.value} is for Gaussian processes; got {type(sde).__name__}: take uniform or quadratic"
            )
        if self is Grid.optimised:
            return optimised_grid(solver, steps, sde, spectrum)
        make = {
            Grid.log_snr: grids.uniform_log_snr,
            Grid.information: grids.uniform_information,
            Grid.karras: grids.karras,
        }[self]
        return make(sde, steps)

    @staticmethod
    def spectrum(model: ScoreModel) -> Tensor:
        """The variances of the data's principal components in the model's space."""
        known = model.about.get("spectrum")
        if not isinstance(known, list) or not known:
            raise ValueError(
                "the model does not know the spectrum of its data, which an optimised grid and a certificate need: "
                'train it by the command line, or with about={"spectrum": transformed_spectrum(data, transform)}'
            )
        return torch.tensor(known, dtype=torch.float64)


def times_of_run(run: Path, model: ScoreModel, solver: Solver, steps: int, grid: Grid) -> list[float]:
    """The grid for a model; an optimised one is kept in the directory of the run for the next time."""
    sde = model.denoiser.sde
    if grid is not Grid.optimised:
        return grid.times(solver, steps, sde, torch.ones(1))
    file, name = run / FILE, f"{solver!r}, {steps} steps"
    known = _kept(file)
    if name in known and not _is_grid(known[name], steps):
        raise ValueError(
            f"{file}: damaged (wanted {steps + 1} falling numbers for {name}): delete it; it is made again"
        )
    if name not in known:
        known[name] = grid.times(solver, steps, sde, Grid.spectrum(model))
        if distributed.rank() == 0:
            try:
                with alone(file):  # others may have kept theirs in the meantime
                    write_text(file, json.dumps({**_kept(file), name: known[name]}, indent=1) + "\n")
            except OSError as error:
                warnings.warn(f"the grid cannot be kept, and is made again the next time: {error}", stacklevel=2)
    return [float(t) for t in known[name]]


def _kept(file: Path) -> dict[str, Any]:
    try:
        return read_json(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (ValueError, OSError) as error:
        raise ValueError(f"{file}: damaged ({error}): delete it, and the grid is made again") from error


def _is_grid(times: Any, steps: int) -> bool:
    """Whether a value of a file is the grid of a number of steps."""
    if not isinstance(times, list) or len(times) != steps + 1:
        return False
    if not all(type(t) in (int, float) and 0 <= t < math.inf for t in times):
        return False
    return all(later < earlier for earlier, later in pairwise(times))
