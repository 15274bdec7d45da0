"""Averages of the weights of any width, found after the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._files import not_a_link, read_tensors, sweep, write_tensors
from scorefield.training.ema import PowerEMA, exponent
from scorefield.training.state import TrainState

WORST = 0.1  # residual beyond which a width counts as out of reach
SINGULAR = 1e-8  # eigenvalues of the normalised Gram matrix below it count as 0: it bounds |x_i| p_i / p by 1e4


class Reconstruction(NamedTuple):
    """An average made from others.

    Attributes:
        weights: of the model, by name.
        step: whose average it is.
        residual: |p - sum_i x_i p_i| / |p|, the part of its profile p that the snapshots' profiles p_i do not make up.
            At the last step a weight is off by at most (gamma + 1) / sqrt(2 gamma + 1) times it times the largest
            distance of the weight from any fixed value during the run.
    """

    weights: dict[str, Tensor]
    step: int
    residual: float


class Snapshots:
    """Files of a run's power-function averages at some of its steps, from which those of other widths are made.

    At step t those are kept that lie at multiples of the smallest power of two that is at least t / most, and the
    newest: a function of t alone, so that a run which is killed and resumed ends with the files of one that is not. A
    step writes its file before older ones go, and removes what a run that has gone back left behind.

    Args:
        folder: where the files lie.
        most: of them, beside the newest, >= 2. Each holds as many copies of the weights as the run has widths.

    Raises:
        ValueError: `most` is below 2, or the folder is a link: what is removed from it would be someone else's.
    """

    def __init__(self, folder: Path, most: int = 32) -> None:
        if most < 2:
            raise ValueError(f"most must be at least 2; got {most}")
        self.folder, self.most = not_a_link(folder), most

    def update(self, state: TrainState, newest: bool = False) -> None:
        """Writes the averages if they are to be kept at this step, or as the newest; to be called after each step."""
        averages = [average for average in state.averages if isinstance(average, PowerEMA)]
        gap = 2 ** max(0, math.ceil(math.log2(max(1, state.step) / self.most)))
        if not averages or state.step < 1 or (state.step % gap and not newest):
            return
        not_a_link(self.folder).mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        tensors = {
            f"{k}.{name}": value for k, average in enumerate(averages) for name, value in average.weights.items()
        }
        about = {"step": state.step, "widths": [average.width for average in averages]}
        write_tensors(self._file(state.step), tensors, about)
        for step in self.steps():
            if step > state.step or (step < state.step and step % gap):
                self._file(step).unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """The steps that there are files of."""
        names = [file.stem for file in self.folder.glob("*.safetensors")]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def average(self, width: float, step: int | None = None) -> Reconstruction:
        """The average that `PowerEMA` of this width would have had, up to the residual.

        Best at the steps of the snapshots: between them the sharp end of the profile is missed.

        Args:
            width: standard deviation of the profile as a share of the run up to the step, in (0, 12^(-1/2)].
            step: the last one by default.

        Raises:
            FileNotFoundError: there are no snapshots.
            ValueError: the snapshots' profiles do not make up that of this width at this step within a tenth.
        """
        steps = self.steps()
        if not steps:
            raise FileNotFoundError(
                f"{self.folder}: holds no snapshots: train with --optimisation.widths, such as [0.05,0.1]"
            )
        step = steps[-1] if step is None else step
        if not 1 <= step <= steps[-1]:
            raise ValueError(f"wanted a step from 1 to {steps[-1]}, the last snapshot's; got {step}")
        _, widths = self._read(steps[-1])
        x, residual = coefficients(steps, widths, step, width)
        if residual > WORST:
            remedy = "" if step in steps else f", or the step {min(steps, key=lambda s: abs(s - step))}"
            raise ValueError(
                f"the width {width:g} at step {step} is out of reach of {len(steps)} snapshots of the widths "
                f"{', '.join(f'{w:g}' for w in widths)}: {100 * residual:.0f} % of its profile are missed, more than "
                f"{100 * WORST:.0f} %: take a width nearer to those{remedy}"
            )
        total: dict[str, Tensor] = {}
        kinds: dict[str, torch.dtype] = {}
        for row, at in zip(x, steps, strict=True):
            tensors, own = self._read(at)
            if own != widths:
                raise ValueError(f"{self._file(at)}: has the widths {own}, the last snapshot {widths}: remove either")
            for key, value in tensors.items():
                k, _, name = key.partition(".")
                part = row[int(k)] * value.double()
                total[name] = total[name] + part if name in total else part
                kinds[name] = value.dtype
        return Reconstruction({name: value.to(kinds[name]) for name, value in total.items()}, step, residual)

    def _file(self, step: int) -> Path:
        return self.folder / f"{step:09d}.safetensors"

    def _read(self, step: int) -> tuple[dict[str, Tensor], list[float]]:
        try:
            tensors, about = read_tensors(self._file(step))
        except ValueError as error:
            raise ValueError(f"{error}, or remove it and do without") from error
        widths = about.get("widths")
        if about.get("step") != step or not isinstance(widths, list):
            raise ValueError(f"{self._file(step)}: is not a snapshot of step {step}; it says {str(about)[:200]}")
        return tensors, widths


def coefficients(
    steps: Sequence[int], widths: Sequence[float], step: int, width: float
) -> tuple[Float[Tensor, "steps widths"], float]:
    """The x_ij with sum 1 that make sum_ij x_ij p_ij nearest to a profile p in least squares; and the residual.

    p_ij is the profile of width j at step i. x = A^-1 b with A the profiles' inner products with each other and b those
    with p, then divided by its sum  (Karras et al. 2024, appendix C).

    Args:
        steps: of the snapshots.
        widths: of the averages in each of them.
        step: of p.
        width: of p.
    """
    gammas = torch.tensor([exponent(w) for w in widths], dtype=torch.float64)
    t = torch.tensor([step, *(i for i in steps for _ in widths)], dtype=torch.float64)  # p comes first
    gamma = torch.cat((torch.tensor([exponent(width)], dtype=torch.float64), gammas.repeat(len(steps))))
    gram = _products(t, gamma)
    size = gram.diagonal().sqrt()
    gram = gram / size / size[:, None]  # profiles of unit length, so that the eigenvalues say how alike they are
    a, b = gram[1:, 1:], gram[1:, 0]
    values, vectors = torch.linalg.eigh(a)
    kept = values > SINGULAR
    y = vectors[:, kept] @ (vectors[:, kept].mT @ b / values[kept])
    scale = size[0] / size[1:]
    y = y / (y * scale).sum()
    residual = math.sqrt(max(0.0, float(1 - 2 * y @ b + y @ a @ y)))
    return (y * scale).reshape(len(steps), len(widths)), residual


def _products(t: Tensor, gamma: Tensor) -> Tensor:
    """The integrals of pairs of profiles (g + 1) tau^g / t^(g + 1) over [0, min(t_i, t_j)]."""
    g, short, long = gamma + 1, torch.minimum(t[:, None], t), torch.maximum(t[:, None], t)
    later = torch.where(t[:, None] < t, gamma, gamma[:, None])  # the exponent of the profile that goes further
    return g[:, None] * g / (g[:, None] + gamma) * (short / long) ** later / long
