"""How fast a process's noise changes with its state."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.processes.gaussian import GaussianSDE
from scorefield.processes.sde import SDE


def diffusion_and_slope(sde: SDE, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor | float]:
    """g(x, t) and the derivative of each component by its own component of x."""
    if isinstance(sde, GaussianSDE):
        return sde.diffusion(x, t), 0.0
    with torch.enable_grad():
        inner = x if x.requires_grad else x.detach().requires_grad_()
        g = sde.diffusion(inner, t)
        if not g.requires_grad:
            return g, 0.0
        total = g.expand_as(inner).sum()
        (slope,) = torch.autograd.grad(
            total, inner, create_graph=x.requires_grad, allow_unused=True, materialize_grads=True
        )
    return (g, slope) if x.requires_grad else (g.detach(), slope)
