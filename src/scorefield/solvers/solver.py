"""The contract of a solver: one stateless step from one time to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from scorefield._noise import NoiseSource
from scorefield.score import Score
from scorefield.sde import Knot


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
    """

    @property
    @abstractmethod
    def convergence_order(self) -> int:
        """p, where the law of the result errs by O(h^p) for steps of size h."""

    @property
    @abstractmethod
    def calls(self) -> int:
        """Network calls in a step."""

    @property
    def reaches_data(self) -> bool:
        """Whether `step` takes the data (sigma = 0) as `next`; if not, the loop takes the denoise step there."""
        return False

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
