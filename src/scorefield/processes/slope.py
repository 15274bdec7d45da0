"""How fast a process's noise changes with its state."""

from __future__ import annotations

from torch import Tensor

from scorefield._derivatives import lasting, traced
from scorefield.processes.gaussian import GaussianSDE
from scorefield.processes.sde import SDE


def diffusion_and_slope(sde: SDE, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor | float]:
    """g(x, t) and the derivative of each component by its own component of x."""
    if isinstance(sde, GaussianSDE):
        return sde.diffusion(x, t), 0.0
    t, g = lasting(t), sde.diffusion(x, t)
    if g.ndim == 0:
        return g.detach(), 0.0
    g, slope = traced(lambda x: sde.diffusion(x, t).expand_as(x), x)
    return g, 0.0 if slope is None else slope
