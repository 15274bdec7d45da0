"""Any affine SDE, from its two rates."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorefield._derivatives import unrecorded
from scorefield._device import double
from scorefield.processes.gaussian import GaussianSDE

NODES = 8  # Gauss-Legendre nodes in a cell
CELLS = 64, 1 << 16  # cells of [0, T]: as many as the integrals need, between these two


@dataclass(frozen=True)
class LinearSDE(GaussianSDE):
    """Any affine process dx = a(t) x dt + g(t) dw, from its two rates.

        alpha = exp(A),   A = int_0^t a ds        sigma^2 = alpha^2 V,   V = int_0^t g^2 exp(-2 A) ds

    Both integrals are done by Gauss-Legendre quadrature on equal cells, 64 at first, that are halved until at no cell's
    end A or sigma^2 / max sigma^2 changes by more than 1e-11. V is kept by its logarithm, since it leaves
    float64 in long processes. Rates that live on less than a hundredth of [0, T] can be missed.

    A `ScoreModel` on it can be saved if the rates are objects of your own classes, made from numbers: a function cannot
    be written to a file.

    Args:
        drift_rate: a(t), from a float64 tensor to one of the same shape.
        diffusion_rate: g(t) >= 0, likewise.
    """

    drift_rate: Callable[[Tensor], Tensor]
    diffusion_rate: Callable[[Tensor], Tensor]

    def alpha(self, t: Tensor) -> Tensor:
        """exp(A)."""
        return self._integrals(t)[0].exp()

    def sigma(self, t: Tensor) -> Tensor:
        """alpha sqrt(V)."""
        log_alpha, log_v = self._integrals(t)
        return (log_alpha + 0.5 * log_v).exp()

    def log_snr(self, t: Tensor) -> Tensor:
        """-log V."""
        return -self._integrals(t)[1]

    def a(self, t: Tensor) -> Tensor:
        """The drift rate as given."""
        return torch.as_tensor(self.drift_rate(t), dtype=t.dtype).expand_as(t)

    def g(self, t: Tensor) -> Tensor:
        """The diffusion rate as given."""
        return torch.as_tensor(self.diffusion_rate(t), dtype=t.dtype).expand_as(t)

    @functools.cached_property
    @unrecorded()
    def _table(self) -> tuple[Tensor, Tensor]:
        """A and log V at the ends of equal cells of [0, T]."""
        cells, previous = CELLS[0], torch.full((2, CELLS[0] // 2 + 1), math.nan, dtype=torch.float64)
        while cells <= CELLS[1]:
            left = torch.arange(cells, dtype=torch.float64) * (self.T / cells)
            a, v = self._cell(left, torch.full_like(left, self.T / cells))
            zero = torch.zeros(1, dtype=torch.float64)
            log_alpha = torch.cat((zero, a.cumsum(0)))
            log_v = torch.cat((zero.log(), (v.log() - 2 * log_alpha[:-1]).logcumsumexp(0)))
            found = torch.stack((log_alpha, 2 * log_alpha + log_v))
            new, old = found[:, ::2], previous
            largest = new[1].max()
            if largest == -math.inf:
                raise ValueError(f"the diffusion_rate of this LinearSDE is 0 on all of [0, {self.T}]: wanted noise")
            changes = (new[0] - old[0], (new[1] - largest).exp() - (old[1] - largest).exp())
            # an absolute error of log(alpha) is a relative one of alpha
            if all(float(change.abs().max()) <= 1e-11 for change in changes):
                return log_alpha, log_v
            cells, previous = 2 * cells, found
        raise ValueError(
            f"the integrals of this LinearSDE's rates over [0, {self.T}] do not converge; the last found has log alpha "
            f"from {float(previous[0].min())} to {float(previous[0].max())}: give smooth rates, or a smaller T"
        )

    def _integrals(self, t: Tensor) -> tuple[Tensor, Tensor]:
        s = double(t)
        log_alpha, log_v = (column.to(s.device) for column in self._table)
        cells = len(log_alpha) - 1
        cell = (s * (cells / self.T)).long().clamp(0, cells - 1)
        left = cell.double() * (self.T / cells)
        a, v = self._cell(left, s - left)
        # where rounding puts t before its cell, v is below 0
        log_v = torch.logaddexp(log_v[cell], v.clamp_min(0).log() - 2 * log_alpha[cell])
        return (log_alpha[cell] + a).to(t), log_v.to(t)

    def _cell(self, left: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """int a and int g^2 exp(-2 int a) over [left, left + width], the inner integral counted from `left`."""
        nodes, weights, inner = (column.to(left.device) for column in _quadrature())
        s = left[..., None] + width[..., None] * nodes
        a = self.a(s)
        inside = (a @ inner) * width[..., None]
        return (a @ weights) * width, ((self.g(s) ** 2 * (-2 * inside).exp()) @ weights) * width


@functools.cache
@unrecorded()
def _quadrature() -> tuple[Tensor, Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on [0, 1], and the matrix that integrates from 0 to each node.

    The matrix is exact for polynomials below degree NODES: values @ matrix gives the integrals.
    """
    x, w = np.polynomial.legendre.leggauss(NODES)
    nodes, weights = (x + 1) / 2, w / 2
    powers = np.vander(nodes, NODES, increasing=True)
    integrals = powers * nodes[:, None] / np.arange(1, NODES + 1)
    matrix = np.linalg.solve(powers.T, integrals.T)
    return torch.from_numpy(nodes), torch.from_numpy(weights), torch.from_numpy(matrix)
