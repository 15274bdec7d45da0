"""Where score matching looks: draws of noisy states, their times, and the weight of the error there.

Score matching minimises E 1/2 (s - grad log p_t)^T Lambda (s - grad log p_t) at states x_t ~ p_t, with Lambda a number
lambda for each sample, or a diagonal matrix that depends on the state.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._derivatives import leaf, unrecorded
from scorefield._device import moved
from scorefield._inputs import whole
from scorefield._noise import Noise
from scorefield._shapes import expand, factor
from scorefield.objectives.adaptive import AdaptiveLogSNR
from scorefield.objectives.objective import gaussian_process
from scorefield.objectives.time_densities import TimeDensity, UniformTime
from scorefield.objectives.weights import SimpleWeight, Weight
from scorefield.processes import SDE, GaussianSDE, Knot
from scorefield.score import PlainScore, ScoreModule, ScoreNetwork


class Drawn(NamedTuple):
    """Noisy states.

    Attributes:
        x: (b, *event); requires gradients.
        t: (b,), float64 on the host.
        weight: Lambda at each state, of a shape that broadcasts against `x`.
    """

    x: Tensor
    t: Tensor
    weight: Tensor


class States(ABC):
    """A law of noisy states; draws 0 and 1 of the noise are its own."""

    @abstractmethod
    def __call__(self, model: ScoreModule, x0: Float[Tensor, "b *event"], noise: Noise) -> Drawn:
        """One state for each clean sample."""


@dataclass(frozen=True)
class Clean(States):
    """The data themselves, lambda = 1: for a `PlainScore`."""

    def __call__(self, model: ScoreModule, x0: Float[Tensor, "b *event"], noise: Noise) -> Drawn:
        """x_0 at t = 0."""
        if isinstance(model.sde, GaussianSDE) or isinstance(model, ScoreNetwork):
            raise ValueError(
                f"Clean states are for a PlainScore; got {type(model).__name__}, a score of noisy data: leave `states` "
                "out"
            )
        t = torch.zeros(len(x0), dtype=torch.float64)
        return Drawn(leaf(x0), t, x0.new_ones(()))


@dataclass(frozen=True)
class Perturbed(States):
    """x_t = alpha x_0 + sigma eps of a Gaussian process, with lambda = w sigma^2.

    Args:
        density: where the log-SNR is drawn.
        weight: w, as of `DenoisingScoreMatching`.
    """

    density: TimeDensity = field(default_factory=UniformTime)
    weight: Weight = field(default_factory=SimpleWeight)

    def __post_init__(self) -> None:
        if isinstance(self.density, AdaptiveLogSNR):
            raise ValueError("AdaptiveLogSNR learns from squared errors, which DenoisingScoreMatching alone has")

    def __call__(self, model: ScoreModule, x0: Float[Tensor, "b *event"], noise: Noise) -> Drawn:
        """A draw from the kernel."""
        sde = gaussian_process(model, "Perturbed")
        t, p = self.density(sde, noise.stratified(0))
        weight = self.weight(sde.log_snr(t), p) * sde.sigma(t) ** 2
        x = sde.perturb(x0, t, noise.normal(x0, draw=1))
        return Drawn(leaf(x), t, factor(weight, x0))


@dataclass(frozen=True)
class Simulated(States):
    """States of any process by Euler-Maruyama from the data, with Lambda = t g^2, about the variance of their noise.

    In a bounded domain Lambda falls to 0 at the boundary, with the square of the distance from it, so that integration
    by parts leaves nothing there  (generalised score matching, Hyvarinen 2007).

    Args:
        steps: from 0 to T, in equal steps of sqrt(t); a sample's state is that after a random number of them.
    """

    steps: int = 100

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, model: ScoreModule, x0: Float[Tensor, "b *event"], noise: Noise) -> Drawn:
        """The state at a random point of a path."""
        sde, times = model.sde, path_times(model.sde, self.steps)
        stop = random_stop(noise, self.steps)
        count = moved(stop, x0.device)
        z, x = path_normals(noise, x0, self.steps), sde.confine(x0)
        found = x
        with unrecorded(), torch.autocast(x.device.type, enabled=False):
            for k, (now, next) in enumerate(pairwise(times)):
                t, h = Knot(now).time, next - now
                x = sde.confine(x + h * sde.drift(x, t) + math.sqrt(h) * sde.diffusion(x, t) * z[:, k])
                found = torch.where(expand(count == k + 1, x), x, found)
        found, t = leaf(found), stopping_times(times, stop)
        wide = factor(t, x)
        weight = wide * sde.diffusion(found, wide) ** 2
        return Drawn(found, t, weight * sde.inside(found))


def usual_states(model: ScoreModule) -> States:
    """`Clean` for a `PlainScore`, `Perturbed` for a process with a kernel, `Simulated` for any other."""
    if isinstance(model, PlainScore):
        return Clean()
    return Perturbed() if isinstance(model.sde, GaussianSDE) else Simulated()


def check_steps(steps: int) -> None:
    """Refuses a path without steps."""
    whole(steps, "steps")


def path_times(sde: SDE, steps: int) -> list[float]:
    """`steps + 1` times from 0 to t_start, equal steps of sqrt(t): as short as t_start / steps^2 near the data."""
    return [sde.t_start * (k / steps) ** 2 for k in range(steps + 1)]


def path_normals(noise: Noise, x0: Tensor, steps: int) -> Float[Tensor, "b steps *event"]:
    """The normals of all steps in one draw, which is what makes short paths of small states cheap."""
    return noise.normal(x0.new_empty(len(x0), steps, *x0.shape[1:]), draw=1)


def random_stop(noise: Noise, steps: int) -> Tensor:
    """A number of steps in 1 .. steps for each sample, evenly spread over the batch."""
    return 1 + (noise.stratified(0) * steps).long().clamp_max(steps - 1)


def stopping_times(times: list[float], stop: Tensor) -> Float[Tensor, "b"]:
    """The time after `stop` steps."""
    return torch.tensor(times, dtype=torch.float64)[stop]
