"""Integrals of the Lagrange polynomials of a multistep method."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray


def quadrature(start: float, end: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights of Gauss and Legendre on parts of [start, end] no longer than 1/2, and on 200 at most."""
    x, w = legendre()
    parts = min(200, max(1, math.ceil(2 * abs(end - start))))
    width = (end - start) / parts
    left = start + width * np.arange(parts)[:, None]
    return (left + width * x).ravel(), np.tile(width * w, parts)


@functools.cache
def legendre() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(10)
    return (x + 1) / 2, w / 2


def lagrange(
    nodes: tuple[float, ...], at: NDArray[np.float64], weights: NDArray[np.float64] | float = 1.0
) -> NDArray[np.float64]:
    """weights L_j(at) for each Lagrange polynomial L_j of the nodes, a row for each."""
    rows: list[NDArray[np.float64]] = []
    for j, node in enumerate(nodes):
        value = weights * np.ones_like(at)
        for other in (*nodes[:j], *nodes[j + 1 :]):
            value = value * ((at - other) / (node - other))
        rows.append(value)
    return np.stack(rows)


def against_lagrange(
    nodes: tuple[float, ...], at: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, ...]:
    """sum_i weights_i L_j(at_i) for each Lagrange polynomial L_j of the nodes."""
    return tuple(float(row.sum()) for row in lagrange(nodes, at, weights))
