"""The probability-flow ODE and the log-density along it, in variables in which both are smooth.

With s = sigma / alpha, the state u = x / sqrt(alpha^2 + sigma^2), of unit variance for unit data, and the place

    v = log((s + a) / (s + b))        a < b

which goes by log(s) between a and b, by s below them and by 1/s above:

    du/dv = rate (w u - D)            d log p(u)/dv = -rate (w d - tr dD/du)
    w = (1 + s^2)^(-1/2)              rate = w (s + a) (s + b) / (s (b - a))

which as s -> 0 is a small difference times a large rate. For the density, to which every digit counts, it is written by
the velocity alpha ehat - sigma D of the model and  pace = w^2 s rate / alpha, which stay of the size of the data:

    du/dv = pace velocity             d log p(u)/dv = -pace tr dvelocity/du

(Song et al. 2021, appendix D.2, in other variables). The exact D hardly depends on s far below the data's finest
structure and vanishes beyond the data's size, where log(s) would put most of its steps; the angle arctan(s), which is
best for sampling, has too few of them for the divergence of narrow data. docs/measurements/likelihood.md compares the
three. A network learns s by its logarithm and is rough in it, which the log-density hardly feels but the inverse of an
encoding does: that takes its steps nearly by log(s).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import pulled_back
from scorefield._device import widened
from scorefield._inputs import whole
from scorefield._shapes import event_size, event_sum, factor
from scorefield.likelihood.divergence import Directions
from scorefield.likelihood.solver_error import THIRD, local_error
from scorefield.processes import GaussianSDE, check_size
from scorefield.score import Denoiser
from scorefield.solvers import DormandPrince
from scorefield.solvers.adaptive_runge_kutta import adapted, combined, relative_error

FARTHEST = 2.0**40  # sigma / alpha where v has some digits left; u stays as it is from there on
SKETCHED = 2.0  # sigma / alpha at which a divergence may look at the Jacobian
CALLS = 6  # of a step
TABLEAU = DormandPrince().tableau
WORTH = 0.01  # nats per dimension of the last step, of which a closer estimate is worth a network call


class Point(NamedTuple):
    """A place on the way, as float64 tensors, () or (b,): x = scale u at this time."""

    time: Tensor
    scale: Tensor
    shrink: Tensor  # w
    rate: Tensor
    pace: Tensor


Field = Callable[[Point, Tensor], Tensor]


class Variable(NamedTuple):
    """v = log((s + low) / (s + high))."""

    low: float
    high: float

    def place(self, s: float) -> float:
        """v at s."""
        return math.log1p((self.low - self.high) / (s + self.high))

    def point(self, sde: GaussianSDE, v: Tensor) -> Point:
        """The point at v."""
        s = self.ratio(v)
        time = sde.time(-2 * s.log()).clamp(sde.t_min, sde.t_start)
        shrink = (1 + s**2).rsqrt()
        step = (s + self.low) * (s + self.high) / (self.high - self.low)
        scale = sde.alpha(time) / shrink
        return Point(time, scale, shrink, shrink * step / s, shrink**2 * step / scale)

    def ratio(self, v: Tensor) -> Tensor:
        """s at v."""
        return (self.high * v.exp() - self.low) / -torch.expm1(v)

    def steepness(self, v: Tensor) -> Tensor:
        """rate w s^2 at v, of grad log p(u) = -u - (du/dv) / (rate w s^2)."""
        s = self.ratio(v)
        return s * (s + self.low) * (s + self.high) / ((self.high - self.low) * (1 + s**2))


DENSITY = Variable(0.015, 2.0)
ENCODING = Variable(1e-3, 1e3)


class Ends(NamedTuple):
    """The way from t_min to T, on which u stays as it is from t_start on."""

    first: float  # s at t_min
    last: float  # s at t_start, or the farthest
    near: float  # u = near x / alpha at t_min
    far: float  # x = far u at T


def ends_of(sde: GaussianSDE, dtype: torch.dtype) -> Ends:
    """The ends of a process for states of a floating-point type."""
    one, other, far = sde.knots([sde.t_min, sde.t_start, sde.T])
    check_size(far.size, dtype)
    first, last = one.sigma / one.alpha, other.sigma / other.alpha
    size = other.alpha * math.sqrt(1 + last**2)
    return Ends(first, min(last, FARTHEST), 1 / math.sqrt(1 + first**2), far.size / other.size * size)


def checked_steps(steps: int, tolerance: float | None) -> int:
    """The steps; refuses impossible ones, and tolerances."""
    if tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(f"tolerance must lie in (0, 1); got {tolerance}")
    return whole(steps, "steps")


class Carried(NamedTuple):
    """Where the way ends.

    Attributes:
        y: the states there, (b, m).
        error: estimated error of the log-density by the steps, in nats, (b,); 0 without integrals.
        calls: network calls of each sample, (b,).
    """

    y: Tensor
    error: Tensor
    calls: Tensor


def carry(
    sde: GaussianSDE,
    variable: Variable,
    field: Field,
    y: Float[Tensor, "b m"],
    d: int,
    start: float,
    end: float,
    steps: int,
    tolerance: float | None,
    slope: Float[Tensor, "b m"] | None = None,
) -> Carried:
    """The states at the end of the way.

    The method is that of Dormand and Prince, of order 5: in equal steps of v, 6 calls each, or with a tolerance in
    steps of each sample's own size. The error of the last m - d components counts by itself and in units of d, that is
    in nats per dimension, so that it is not lost among the state's.

    Args:
        sde: the process.
        variable: in which the steps are equal.
        field: the slopes.
        y: the state, and the integrals along its path.
        d: the components of the state.
        start: s where the way begins.
        end: s where it ends, above or below.
        steps: number of equal steps.
        tolerance: instead of steps.
        slope: the field at the start, if it is known.
    """
    n, first, last = len(y), variable.place(start), variable.place(end)
    measured = y.shape[1] > d  # an encoding has no log-density
    if tolerance is not None:

        def size(change: Tensor, before: Tensor, after: Tensor) -> Tensor:
            error = relative_error(change[:, :d], before[:, :d], after[:, :d])
            nats = widened(change[:, d:])
            return torch.maximum(error, nats.square().mean(1).sqrt() / d) if nats.shape[1] else error

        def adaptive(v: Tensor, state: Tensor) -> Tensor:
            return field(variable.point(sde, v), state)

        def square(v: Tensor, change: Tensor, state: Tensor, slope: Tensor) -> Tensor:
            return local_error(variable.steepness(v), d, change, state, slope) ** 2

        tally = square if measured else None
        y, calls, squares = adapted(TABLEAU, tolerance, adaptive, size, y, first, last, slope, tally)
        return Carried(y, squares.sqrt(), calls)
    h = (last - first) / steps
    nodes = torch.tensor((0.0, *TABLEAU.nodes[:-1]), dtype=torch.float64)
    points = variable.point(sde, first + h * (torch.arange(steps)[:, None] + nodes).ravel())
    steep = variable.steepness(first + h * torch.arange(1, steps + 1, dtype=torch.float64))
    squares = y.new_zeros(n)

    def call(stage: int, state: Tensor) -> Tensor:
        return field(Point(*(column[stage] for column in points)), state)

    slopes = [call(0, y) if slope is None else slope]
    for k in range(steps):
        for stage in range(1, CALLS):
            slopes.append(call(CALLS * k + stage, y + h * combined(TABLEAU.stages[stage - 1], slopes)))
        y = y + h * combined(TABLEAU.stages[-1], slopes)
        if k == steps - 1:
            break
        slopes.append(call(CALLS * (k + 1), y))
        if measured:
            squares += local_error(steep[k], d, h * combined(TABLEAU.error, slopes), y, slopes[-1]) ** 2
        slopes = slopes[-1:]
    calls = torch.full((n,), CALLS * steps, device=y.device)
    if measured:  # the slope at the very end takes a call more, of those to whom it matters
        error = local_error(steep[-1], d, h * combined(THIRD, slopes), y, slopes[-1], order=4)
        matters = error > WORTH * d
        if bool(matters.any()):
            slopes.append(field(variable.point(sde, torch.tensor(last, dtype=torch.float64)), y))
            calls = calls + matters
            closer = local_error(steep[-1], d, h * combined(TABLEAU.error, slopes), y, slopes[-1])
            error = torch.where(matters, closer, error)
        squares += error**2
    return Carried(y, squares.sqrt(), calls)


def transport(denoiser: Denoiser, shape: torch.Size, at: Point, y: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """du/dv."""
    rate, shrink, scale = (factor(c, y) for c in (at.rate, at.shrink, at.scale))
    return rate * (shrink * y - denoiser((scale * y).reshape(-1, *shape), at.time).reshape(y.shape))


def products(view: Callable[[Tensor, Tensor], Tensor], at: Point, u: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """A view f(x, t) of the model and v^T df/du for each of the vectors (m, b, *event)."""
    scale = factor(at.scale, u)
    value, found = pulled_back(lambda x: view(x, at.time), scale * u, vectors, batched=True)
    return value, scale * found


def traces(denoiser: Denoiser, at: Point, u: Tensor, directions: Directions) -> tuple[Tensor, Float[Tensor, "b K"]]:
    """The velocity and the estimates of tr dvelocity/du."""
    vectors = torch.cat(directions)
    velocity, found = products(denoiser.velocity, at, u, vectors)
    return velocity, directions.traces((vectors * found).reshape(*vectors.shape[:2], -1).sum(2))


def flow(denoiser: Denoiser, directions: Directions, at: Point, y: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
    """The slopes of u and of the integrals of its divergence, which is -d log p(u)/dv."""
    shape = directions.exact.shape[2:]
    u = y[:, : shape.numel()].reshape(-1, *shape)
    return _slopes(at, *traces(denoiser, at, u, directions))


def beginning(
    denoiser: Denoiser, directions: Directions, s: float, u: Float[Tensor, "b *event"]
) -> tuple[Float[Tensor, "b m"], Float[Tensor, "b"]]:
    """The slopes at s, and from the same call the first-order change of the log-density from there to s = 0.

    By the heat equation log p_0 - log p_s = -s^2/2 (div score + |score|^2) + O(s^4) in x / alpha, where s score is
    -ehat, and ehat = w (velocity / scale + s u).
    """
    at = DENSITY.point(denoiser.sde, torch.tensor(DENSITY.place(s), dtype=torch.float64))
    velocity, trace = traces(denoiser, at, u, directions)
    shrink, scale = float(at.shrink), float(at.scale)
    noise = shrink * widened(velocity / scale + s * u)
    divergence = shrink**2 * s * (widened(trace).mean(1) / scale + s * event_size(u))  # s div ehat
    return _slopes(at, velocity, trace), 0.5 * (divergence - event_sum(noise**2))


def _slopes(at: Point, velocity: Tensor, trace: Tensor) -> Tensor:
    return factor(at.pace, trace) * torch.cat((velocity.reshape(len(trace), -1), trace), 1)
