"""The step of a flow map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.processes import Knot
from scorefield.score import LevelMap, Score
from scorefield.solvers.solver import Solver, Step


@dataclass(frozen=True)
class Jump(Solver):
    """x(next) = X(x; now -> next), one call of a flow map for a step of any length: see `FlowMap.jump`.

    Steps are as long as one likes, and no result of the grid's: a jump errs by what the map has not learnt. A grid of
    [T, 0] makes a sample by one call.
    """

    @property
    def convergence_order(self) -> int:
        """0: what a jump errs by does not go away with the length of the steps."""
        return 0

    @property
    def reaches_data(self) -> bool:
        """True."""
        return True

    def step(
        self, model: Score, x: Float[Tensor, "b *event"], now: Knot, next: Knot, state: Any, *, noise: NoiseSource
    ) -> Step:
        """One jump."""
        if not isinstance(model, LevelMap):
            raise TypeError(
                f"Jump is for a flow map, as `scorefield distil` makes; got {type(model).__name__}: take another solver"
            )
        if next.t > now.t:
            raise ValueError("Jump runs from noise to data only: encode with another solver, such as Heun")
        return Step(model.jump(x, now.time, next.time))
