"""SciPy's solvers for the probability-flow ODE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from scorefield._derivatives import unrecorded
from scorefield._noise import NoiseSource
from scorefield.processes import Knot
from scorefield.score import Score, as_denoiser
from scorefield.solvers.adaptive_runge_kutta import angle_field
from scorefield.solvers.solver import Solver, Step


@dataclass(frozen=True)
class SciPyODE(Solver):
    """Any method of `scipy.integrate`, for the equation of `AdaptiveRungeKutta`.

    Samples are solved one after another in float64, so that none depends on another: slow, for checks and small data.
    Gradients do not pass through.

    Args:
        method: a class of `scipy.integrate`: RK45, LSODA, Radau, ...; DOP853 by default.
        rtol: relative tolerance.
        atol: absolute tolerance, for states of unit variance.
    """

    method: type | None = None
    rtol: float = 1e-4
    atol: float = 1e-4

    @property
    def convergence_order(self) -> int:
        """0: its error is set by the tolerances, not by the grid."""
        return 0

    @property
    def adaptive(self) -> bool:
        """True."""
        return True

    def __post_init__(self) -> None:
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"rtol and atol must be positive; got {self.rtol} and {self.atol}")

    @unrecorded()
    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """All steps from one time to the other."""
        from scipy.integrate import DOP853, solve_ivp  # heavy, and nothing else here needs it

        denoiser, n, method = as_denoiser(model), len(x), self.method or DOP853
        start, end = (math.atan2(knot.sigma, knot.alpha) for knot in (now, next))
        results: list[Tensor] = []
        calls: list[int] = []
        for row in range(n):
            part = denoiser.select(torch.tensor([row]), n)

            def field(theta: float, u: NDArray[np.float64], part: Any = part) -> NDArray[np.float64]:
                state = torch.from_numpy(u).reshape(1, *x.shape[1:]).to(x)
                angle = torch.full((1,), theta, dtype=torch.float64)
                return angle_field(part, angle, state).cpu().double().numpy().ravel()

            first = (math.cos(start) / now.alpha) * x[row].detach().cpu().double().numpy().ravel()
            options: Any = {"method": method, "rtol": self.rtol, "atol": self.atol}
            found: Any = solve_ivp(field, (start, end), first, **options)
            if not found.success:
                raise ValueError(f"{method.__name__} failed: {found.message}")
            results.append(torch.from_numpy(found.y[:, -1]).reshape(x.shape[1:]).to(x))
            calls.append(int(found.nfev))
        return Step((next.alpha / math.cos(end)) * torch.stack(results), info={"calls": torch.tensor(calls)})
