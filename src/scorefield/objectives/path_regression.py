"""Learning a flow map from the paths of a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scorefield._derivatives import unrecorded
from scorefield._inputs import whole
from scorefield._noise import Noise
from scorefield._shapes import event_sum, factor
from scorefield.objectives.objective import Objective, gaussian_process
from scorefield.processes import GaussianSDE, Knot
from scorefield.score import Denoiser, EDMPrecond, LevelMap, evaluating
from scorefield.solvers import Solver
from scorefield.solvers.solver import advance

Pair = Int64[Tensor, "n"]  # numbers of knots, or of rows


@dataclass(frozen=True)
class PathRegression(Objective[Denoiser]):
    """w / 2 |G(x_i, t_i, t_j) - G*|^2 for pairs of levels i <= j on paths of a teacher's probability flow, with

        G* = (y_j - r y_i) / (1 - r),  r = q_j / s_i,  y = x / alpha,      and for i = j its denoiser D(x_i, t_i)

    where the chord between two states meets the data. There is no noise in it, nor derivatives, and its minimiser is
    the map of the teacher's solver (trajectory regression; Hu et al. 2025, "CMT", for all pairs). w is EDM's weight at
    s_i, one over the variance of what a network has to find there.

    A path begins at alpha x_0 + sigma eps at `t_start` and goes through the times of a grid, whose inner ones move
    together by up to half a step of the log-SNR, anew in each step of the training, so that all levels are seen.

    Args:
        teacher: the denoiser whose flow is learnt.
        solver: of the paths.
        times: of the paths, from T to 0.
        sigma_data: standard deviation of the data in the model's space.
        pairs: made of each path.
        early: share of the pairs that begin at `t_start`; the others begin at any knot.
        ending: share of the pairs that end at the data; the others end at any knot after their first.
        same: share of the pairs with i = j.
    """

    teacher: Denoiser
    solver: Solver
    times: Sequence[float]
    sigma_data: float = 1.0
    pairs: int = 4
    early: float = 0.25
    ending: float = 0.3
    same: float = 0.1

    def __post_init__(self) -> None:
        whole(self.pairs, "pairs")
        if not (0 <= self.early <= 1 and min(self.ending, self.same) >= 0 and self.ending + self.same <= 1):
            raise ValueError(
                "wanted shares of the pairs, early from 0 to 1, ending and same together at most 1; got "
                f"{self.early}, {self.ending}, {self.same}"
            )

    def __call__(
        self, model: Denoiser, x0: Float[Tensor, "b *event"], *, noise: Noise, **cond: Tensor
    ) -> Float[Tensor, "b"]:
        """The mean loss of each path's pairs.

        Args:
            model: a flow map, what to train.
            x0: clean samples in the model's space.
            noise: made by `Noise.per_batch`; its draw 0 moves the grid, draw 1 is the noise, draw 2 makes the pairs.
            cond: passed to the teacher and the map.
        """
        if not isinstance(model, LevelMap):
            raise TypeError(f"PathRegression trains flow maps; got {type(model).__name__}")
        sde = gaussian_process(model, "PathRegression")
        knots = self._knots(sde, noise.shared(0))
        with unrecorded(), evaluating(self.teacher):
            path = self._path(x0, knots, noise, cond)
            rows = torch.arange(len(x0)).repeat_interleave(self.pairs)
            first, last = self._pairs(len(knots) - 1, noise.uniform(torch.empty(len(x0), self.pairs, 4), draw=2))
            times = torch.tensor([knot.t for knot in knots], dtype=torch.float64)
            x, t, to, known = path[first, rows], times[first], times[last], _selected(cond, rows)
            target = _chord_end(knots, first, last, x, path[last, rows])
            if len(here := (first == last).nonzero()[:, 0]):
                target[here] = self.teacher(x[here], t[here], **_selected(known, here))
        squares = event_sum((model.aim(x, t, to, **known) - target) ** 2)
        weight = EDMPrecond(self.sigma_data)(sde, t).out ** -2
        return (0.5 * factor(weight, squares) * squares).reshape(len(x0), self.pairs).mean(1)

    def _knots(self, sde: GaussianSDE, u: float) -> list[Knot]:
        """The grid from `t_start`, its inner log-SNRs moved by (u - 1/2) of the gap before or behind each."""
        grid = [min(t, sde.t_start) for t in self.times]
        log_snr = [knot.log_snr for knot in sde.knots(grid[:-1])]
        log_snr.append(2 * log_snr[-1] - log_snr[-2] if len(log_snr) > 1 else log_snr[-1])
        gaps = [b - a for a, b in pairwise(log_snr)]
        inner = [
            here + (u - 0.5) * (before if u < 0.5 else after)
            for here, before, after in zip(log_snr[1:-1], gaps, gaps[1:], strict=False)
        ]
        times = sde.time(torch.tensor(inner, dtype=torch.float64)).clamp_min(sde.t_min).tolist()
        return sde.knots([grid[0], *times, 0.0])

    def _path(
        self, x0: Float[Tensor, "b *event"], knots: list[Knot], noise: Noise, cond: dict[str, Tensor]
    ) -> Float[Tensor, "m b *event"]:
        """The teacher's states at all knots."""
        model = self.teacher.given(**cond) if cond else self.teacher
        solver = self.solver.select(torch.arange(len(x0)), len(x0))
        states, state = [model.sde.perturb(x0, knots[0].time, noise.normal(x0, draw=1))], None
        for k, (now, next) in enumerate(pairwise(knots)):
            step = advance(solver, model, states[-1], now, next, state, noise=noise.child(0).at(k))
            states.append(step.x)
            state = step.state
        return torch.stack(states)

    def _pairs(self, last: int, u: Float[Tensor, "b pairs 4"]) -> tuple[Pair, Pair]:
        """The knots i and j of uniform numbers, where `last` is the data's."""
        begin, of_first, kind, of_last = u.flatten(0, 1).unbind(1)
        i = torch.where(begin < self.early, 0.0, (of_first * last).floor()).long().clamp_max(last - 1)
        j = (i + 1 + (of_last * (last - i)).floor().long()).clamp_max(last)
        j = torch.where(kind < self.ending, last, j)
        return i, torch.where(kind >= 1 - self.same, i, j)


def _selected(cond: dict[str, Tensor], rows: Pair) -> dict[str, Tensor]:
    return {name: value[rows.to(value.device)] if value.ndim else value for name, value in cond.items()}


def _chord_end(knots: list[Knot], first: Pair, last: Pair, x: Tensor, there: Tensor) -> Float[Tensor, "n *event"]:
    """G* of states x at the first knots and `there` at the last; without a meaning where the two are the same."""
    alpha = torch.tensor([knot.alpha for knot in knots], dtype=torch.float64)
    sigma = torch.tensor([knot.sigma for knot in knots], dtype=torch.float64)
    q = sigma[last] / alpha[last]
    rest = torch.where(first == last, 1.0, 1 - q * alpha[first] / sigma[first])
    return factor(1 / (alpha[last] * rest), x) * there - factor(q / (sigma[first] * rest), x) * x
