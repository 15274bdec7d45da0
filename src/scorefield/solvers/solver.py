"""The contract of a solver: one stateless step from one time to the next."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

from jaxtyping import Float, Int64
from torch import Tensor

from scorefield._noise import CHILDREN, NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score, as_denoiser


class Step(NamedTuple):
    """The outcome of a step.

    `state` goes into the next step; `error` is an estimate of the local error for each sample, (b,), if the solver has
    one; `info` is for the reader of the callback alone.
    """

    x: Tensor
    state: Any = None
    error: Tensor | None = None
    info: Mapping[str, Any] | None = None


class Solver(ABC):
    """Moves states from the time of one knot to that of the next.

    A solver holds only numbers; what it must remember between steps is passed in as `state`, None at the first step.
    Many write the reverse process in x / alpha, s = sigma / alpha and tau = -log s, which are the same for every
    Gaussian process:  d(x/alpha) = (1 + eta) (D - x/alpha) dtau + sqrt(2 eta) s dw  with noise eta, 0 for the
    probability-flow ODE and 1 for Anderson's reverse SDE.
    """

    @property
    @abstractmethod
    def convergence_order(self) -> int:
        """p, where the law of the result errs by O(h^p) for steps of size h."""

    @property
    def reaches_data(self) -> bool:
        """Whether `step` takes the data (sigma = 0) as `next`; if not, `advance` takes the denoise step there."""
        return False

    @property
    def adaptive(self) -> bool:
        """Whether `step` makes as many steps of its own as it needs, so that a grid of [T, end, 0] will do."""
        return False

    def select(self, rows: Int64[Tensor, "m"], n: int) -> Solver:
        """The solver for some rows of a batch of n; one that holds a value for each sample keeps those of the rows."""
        if not is_dataclass(self):
            return self
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        parts = {name: part.select(rows, n) for name, part in held.items() if isinstance(part, Solver)}
        return replace(self, **parts) if parts else self

    @abstractmethod
    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One step.

        Args:
            model: a score; for a Gaussian process every solver takes any (see `as_denoiser`).
            x: the states at `now`; not changed in place.
            now: where the states are.
            next: where they go: `next.t < now.t` when generating, `>` when encoding.
            state: what the last step returned as state.
            noise: this step's random numbers.
        """


def advance(
    solver: Solver, model: Score, x: Tensor, now: Knot, next: Knot, state: Any = None, *, noise: NoiseSource
) -> Step:
    """The solver's step, or the denoise step D(x) onto the data for a solver that does not reach them.

    Beyond the process's `t_start` there is noise alone, and x moves as sqrt(alpha^2 + sigma^2) by itself.
    """
    first = model.sde.t_start
    if now.t > first or next.t > first:
        (start,) = model.sde.knots([first])
        a, b = (start if knot.t > first else knot for knot in (now, next))
        x = a.size / now.size * x
        step = Step(x, state) if a.t == b.t else advance(solver, model, x, a, b, state, noise=noise)
        return step._replace(x=next.size / b.size * step.x)
    if next.sigma == 0 and not solver.reaches_data:
        return Step(as_denoiser(model)(x, now.time))
    return solver.step(model, x, now, next, state, noise=noise)


def check_solver(solver: object) -> None:
    """Refuses what is no solver: a class, or the name of one."""
    if not isinstance(solver, Solver):
        what = f"the class {solver.__name__}" if isinstance(solver, type) else repr(solver)
        raise TypeError(f"wanted a solver, such as solvers.DDIM(); got {what}")


def tau_step(now: Knot, next: Knot, eta: float) -> float:
    """The step of tau = -log(sigma / alpha); with noise it must lead towards the data."""
    h = 0.5 * (next.log_snr - now.log_snr)
    if eta and h < 0:
        raise ValueError("with eta > 0 this solver runs from noise to data only: use EulerMaruyama, or eta = 0")
    return h


def check_eta(eta: float) -> None:
    """Refuses negative noise."""
    if not 0 <= eta < math.inf:
        raise ValueError(f"eta must be at least 0 and finite; got {eta}")


def nth(noise: NoiseSource, k: int) -> NoiseSource:
    """The noise of part k < 65,536 of a step."""
    return noise.child(k // CHILDREN).child(k % CHILDREN)
