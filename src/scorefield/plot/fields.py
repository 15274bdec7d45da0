"""Two-dimensional score fields and paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor


def scatter(points: Float[Tensor, "n 2"]) -> Figure:
    """Points of the plane."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*points.detach().cpu().mT.numpy(), s=3, alpha=0.5, linewidths=0)
    axes.set_aspect("equal")
    return figure


def score_field(
    points: Float[Tensor, "n 2"], scores: Float[Tensor, "n 2"], samples: Float[Tensor, "m 2"] | None = None
) -> Figure:
    """Arrows of a score at points of the plane, over samples.

    Args:
        points: where.
        scores: grad log p there; the arrows are shortened to sqrt(|s|) so that steep places do not hide the rest.
        samples: drawn behind.
    """
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    if samples is not None:
        axes.scatter(*samples.detach().cpu().mT.numpy(), s=2, color="0.75", linewidths=0)
    points, arrows = points.detach().cpu(), scores.detach().cpu()
    arrows = arrows / arrows.norm(dim=1, keepdim=True).clamp_min(1e-12).sqrt()
    axes.quiver(*points.mT.numpy(), *arrows.mT.numpy(), color="C0", width=0.003)
    axes.set_aspect("equal")
    return figure


def trajectories(panels: Mapping[str, tuple[Sequence[float], Float[Tensor, "n b"]]], ylabel: str = "x") -> Figure:
    """One scalar of b paths over time, panel by panel.

    Args:
        panels: by title, the n times and the values of b paths at each.
        ylabel: what they are.
    """
    figure = Figure(figsize=(4 * len(panels), 3.2), layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, (times, paths)) in zip(row, panels.items(), strict=True):
        axes.plot(times, paths.detach().cpu().numpy(), linewidth=0.7, alpha=0.8)
        axes.set(xlabel="t", title=title)
    row[0].set_ylabel(ylabel)
    return figure


def plane(low: float, high: float, side: int = 25) -> Float[Tensor, "n 2"]:
    """A square lattice of side^2 points, for `score_field`."""
    line = torch.linspace(low, high, side)
    return torch.cartesian_prod(line, line)
