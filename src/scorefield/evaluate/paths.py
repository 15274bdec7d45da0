"""Samples on their way along the forward process, the reverse SDE and the probability-flow ODE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from scorefield import grids
from scorefield._derivatives import unrecorded
from scorefield._noise import Noise
from scorefield.model import ScoreModel
from scorefield.sampling import integrate
from scorefield.score import Score
from scorefield.solvers import EulerMaruyama, Solver

STEPS = 250
STAGES = (0, 50, 100, 150, 175, 200, 225, 240, 250)  # of the reverse process, to look at


class Paths(NamedTuple):
    """States over time, each (steps + 1, n, *event) in the model's space.

    Attributes:
        upward: the times of the forward process.
        forward: data that become noise.
        downward: the times of the reverse ones.
        reverse: by the reverse SDE.
        flow: by the probability-flow ODE, from the same noise.
    """

    upward: list[float]
    forward: Tensor
    downward: list[float]
    reverse: Tensor
    flow: Tensor

    def of_one_number(self) -> dict[str, tuple[list[float], Tensor]]:
        """The number in the middle of each sample over time, for `plot.trajectories`."""
        place = (..., *(side // 2 for side in self.forward.shape[2:]))
        return {
            "forward SDE": (self.upward, self.forward[place]),
            "reverse SDE": (self.downward, self.reverse[place]),
            "probability-flow ODE": (self.downward, self.flow[place]),
        }

    def stages(self, count: int) -> Tensor:
        """The first samples as they emerge by the reverse SDE, (count, 9, *event)."""
        return self.reverse[list(STAGES), :count].transpose(0, 1)


def paths(model: ScoreModel, x: Tensor, conditions: Mapping[str, Tensor]) -> Paths:
    """Paths from some data upward, and from as many draws of the prior downward, in 250 equal steps.

    Args:
        model: a trained model.
        x: data in their own units.
        conditions: of the reverse paths, by name.
    """
    denoiser, sde = model.denoiser, model.denoiser.sde
    noise = Noise.per_sample(range(len(x)))
    device = next(iter(denoiser.parameters())).device
    x0 = model.transform.forward(x.to(device), torch.full(x.shape, 0.5, device=device)).float()
    upward = [sde.T * k / STEPS for k in range(STEPS + 1)]
    start = sde.prior.sample(torch.empty_like(x0), noise.at(0))
    grid = grids.uniform(sde, STEPS)
    given = model.given(conditions.get("label"), cond=conditions.get("cond"))
    reverse, flow = (_path(given, start, grid, EulerMaruyama(eta), noise) for eta in (1.0, 0.0))
    return Paths(upward, sde.simulate(x0, upward, noise=noise), grid, reverse, flow)


@unrecorded()
def _path(model: Score, start: Tensor, times: list[float], solver: Solver, noise: Noise) -> Tensor:
    """The states at all times."""
    path = [start]
    integrate(model, start, times, solver, noise=noise, callback=lambda _k, _knot, step: path.append(step.x))
    return torch.stack(path)
