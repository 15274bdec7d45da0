"""How far the law at T is from the prior."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from scorefield._device import widened
from scorefield._inputs import Array
from scorefield._shapes import event_size, event_sum
from scorefield.processes import GaussianSDE, NormalPrior
from scorefield.score import as_states


def prior_mismatch(sde: GaussianSDE, x0: Array, prior: NormalPrior | None = None) -> float:
    """Mean over the data of KL(p(x_T | x_0) || prior), in nats: at least KL(p_T || prior), by convexity.

    Args:
        sde: the process.
        x0: data in the model's space.
        prior: the process's by default.
    """
    return float(terminal_divergence(sde, as_states(sde, x0, "x0"), prior or sde.prior).mean())


def terminal_divergence(sde: GaussianSDE, x0: Float[Tensor, "n *event"], prior: NormalPrior) -> Float[Tensor, "n"]:
    """KL(N(alpha x_0, sigma^2) || N(0, std^2)) = (|alpha x_0|^2 + d sigma^2) / (2 std^2) - d/2 + d log(std / sigma)."""
    knot, d = sde.knots([sde.T])[0], event_size(x0)
    ratio = (knot.sigma / prior.std) ** 2
    spread = 0.5 * d * (ratio - 1 - math.log(ratio))
    return 0.5 * (knot.alpha / prior.std) ** 2 * event_sum(widened(x0) ** 2) + spread
