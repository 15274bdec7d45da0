"""The exponential Adams method for guidance: its order and its linear part follow the samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scorefield._device import placed
from scorefield._noise import NoiseSource
from scorefield._shapes import event_sum, expand
from scorefield.processes import Knot
from scorefield.score import Score, as_denoiser
from scorefield.solvers.exponential import ExponentialSolver, at_the_data, integrals
from scorefield.solvers.lagrange import lagrange, quadrature
from scorefield.solvers.solver import Solver, Step

ORDERS = 3  # of the polynomials
CAUTION = 3.0  # times as well as the polynomials must the fitted laws foretell D
EASY, STIFF = 2 / 3, 3.0  # (1 - c) h, below which high orders are safe, and beyond which a corrector is not


class _Look(NamedTuple):
    """What was seen at a point of the path: tau, where D was asked for, D, and the D_i that it is made of."""

    tau: float
    point: Tensor
    denoised: Tensor
    parts: tuple[Tensor, ...]


class _Past(NamedTuple):
    """Looks, newest first, the weights, the state at the newest look once corrected, and where the step led from it."""

    looks: tuple[_Look, ...]
    weights: tuple[float, ...]
    start: Tensor
    reached: Tensor


@dataclass(frozen=True)
class GuidedAdams(Solver):
    """The probability-flow ODE of guidance, D = sum_i w_i D_i with weights that add up to 1.

    The Jacobian of a denoiser lies in [0, 1], that of D_u + w (D_c - D_u) reaches down to 1 - w, where a step h of
    tau = -log s is unstable beyond 2 / w for methods of order 1, and sooner for others. What drives it there is known:
    each D_i is nearly that of some N(m_i, v_i),

        D_i = m_i + v_i r_i,    r_i = (xbar - D_i) / s^2,    so that    v_i = <dD_i, dr_i> / <dr_i, dr_i>

    from the changes along the path. With c = sum_i w_i v_i / (v_i + s^2) the rest, D - c xbar, is smooth, and exactly

        xbar_b = P(a, b) xbar_a + int_a^b P(tau, b) (D - c xbar) dtau
        P(a, b) = prod_i ((v_i + s_b^2) / (v_i + s_a^2))^(w_i / 2)

    which is stable for any step, and without error where the laws are normal with mean 0. A sample takes each step by
    that of four methods which would have foretold its newest D best: D - c xbar as a constant, or c = 0 and the
    polynomial in tau through the last 1, 2 or 3 values of D, as UniPC. To foretell better is not to be stable: since
    each order bears a smaller (1 - c) h than the one before, its miss counts ((1 - c) h / `EASY`)^2 times more, and so
    less where guidance is weak or the steps are short; the miss of the constant D - c xbar counts `CAUTION` times. The
    newest D corrects the step that led to it, as there (Zhao et al. 2023), without a call of its own, but no step by a
    polynomial with (1 - c) h beyond `STIFF`, where the corrector multiplies errors more than the step does. The last
    step is that of `ExponentialSolver` onto the data. The laws with positive weights count as at most as wide as those
    with negative ones, so that c <= 1.

    Args:
        plain: the method for models of one part, which are not guided.
    """

    plain: ExponentialSolver

    @property
    def convergence_order(self) -> int:
        """That of `plain`."""
        return self.plain.convergence_order

    @property
    def reaches_data(self) -> bool:
        """True."""
        return True

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step."""
        weights, parts = as_denoiser(model).parts(x, now.time)
        if len(weights) == 1:
            return self.plain.moved(parts[0], x, now, next, state, noise=noise)
        past: _Past | None = state
        if past and past.weights != weights:  # at the ends of an interval of guidance D jumps
            past = None
        xbar = x / now.alpha
        look = _Look(0.5 * now.log_snr, xbar, _sum(weights, parts), parts)
        looks = [look, *past.looks] if past else [look]
        if next.sigma == 0:
            return Step(at_the_data(tuple(o.tau for o in looks), tuple(o.denoised for o in looks)))
        v, method = _variances(looks, weights), torch.zeros(len(x), dtype=torch.int64, device=x.device)
        if past:
            stiffness = (1 - _linear(v, weights, look.tau)) * (look.tau - looks[1].tau)
            method = _foreteller(looks, weights, stiffness)
            corrected = _moved(looks, past.start, looks[1].tau, look.tau, v, weights, method, values=1)
            change = corrected - past.reached  # alone, so that what a corrector has done to xbar stays
            xbar = torch.where(expand((method == 0) | (stiffness < STIFF), xbar), xbar + change, xbar)
        reached = _moved(looks, xbar, look.tau, 0.5 * next.log_snr, v, weights, method, values=0)
        return Step(next.alpha * reached, _Past(tuple(looks[:ORDERS]), weights, xbar, reached))


def _variances(looks: Sequence[_Look], weights: Sequence[float]) -> Float[Tensor, "b k"]:
    """v_i of each sample from the two newest looks, or 1."""
    if len(looks) == 1:
        return looks[0].point.new_ones(len(looks[0].point), len(weights))
    (new, old), found = looks[:2], list[Tensor]()
    for one, other in zip(new.parts, old.parts, strict=True):
        dr = (new.point - one) * math.exp(2 * new.tau) - (old.point - other) * math.exp(2 * old.tau)
        square = event_sum(dr**2)
        found.append((event_sum((one - other) * dr) / square.clamp_min(torch.finfo(square.dtype).tiny)).clamp_min(0))
    v = torch.stack(found, 1)
    negative = _numbers(weights, v) < 0
    widest = v.masked_fill(~negative, math.inf).amin(1, keepdim=True)
    return torch.where(negative, v, torch.minimum(v, widest))


def _linear(v: Tensor, weights: Sequence[float], tau: float) -> Float[Tensor, "b"]:
    """c at tau."""
    return (v / (v + math.exp(-2 * tau))) @ _numbers(weights, v)


def _foreteller(looks: Sequence[_Look], weights: Sequence[float], stiffness: Float[Tensor, "b"]) -> Int64[Tensor, "b"]:
    """The method whose guess of the newest D was best: the order of a polynomial, or 0 for the fitted laws."""
    new, (old, *_) = looks[0], looks[1:]
    v = _variances(looks[1:], weights)
    rest = [look.denoised - expand(_linear(v, weights, look.tau), look.point) * look.point for look in (new, old)]
    errors = [CAUTION**2 * event_sum((rest[0] - rest[1]) ** 2)]
    for order in range(1, len(looks)):
        used = looks[1 : 1 + order]
        guess = lagrange(tuple(look.tau for look in used), np.array(new.tau)).tolist()
        missed = new.denoised - _sum(guess, [look.denoised for look in used])
        errors.append((stiffness / EASY) ** (4 * order - 4) * event_sum(missed**2))
    return torch.stack(errors).argmin(0)


def _moved(
    looks: Sequence[_Look],
    start: Tensor,
    a: float,
    b: float,
    v: Float[Tensor, "b k"],
    weights: Sequence[float],
    method: Int64[Tensor, "b"],
    *,
    values: int,
) -> Tensor:
    """xbar at b from `start` at a, each sample by its method, through so many values more than its order."""
    taus = tuple(look.tau for look in looks)
    # polynomials: a row of weights for each order
    rows = [[*integrals(taus[: p + values], a, b, 0.0, 0.0), *[0.0] * len(looks)][: len(looks)] for p in (1, 1, 2, 3)]
    chosen = _numbers(rows, start)[method]
    y = math.exp(a - b) * start
    for look, weight in zip(looks, chosen.T, strict=True):
        y = y + expand(weight, start) * look.denoised
    # the linear part: P at the nodes of the integral, and at its beginning
    tau, w = quadrature(a, b)
    half, s2 = 0.5 * _numbers(weights, v), _numbers(np.exp(-2 * np.append(tau, a)), v)
    p = (((v + math.exp(-2 * b)).log()[:, None] - (v[:, None] + s2[:, None]).log()) @ half).exp()
    used = looks[: 1 + values]
    each = p[:, :-1] @ _numbers(w * lagrange(taus[: len(used)], tau), v).T
    z = expand(p[:, -1], start) * start
    for look, weight in zip(used, each.T, strict=True):
        z = z + expand(weight, start) * (look.denoised - expand(_linear(v, weights, look.tau), start) * look.point)
    return torch.where(expand(method == 0, start), z, y)


def _numbers(values: Any, like: Tensor) -> Tensor:
    """Numbers of the host beside `like`."""
    return placed(torch.as_tensor(values, dtype=torch.float64), like)


def _sum(weights: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    """sum_i w_i x_i."""
    total = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = torch.add(total, value, alpha=weight)
    return total
