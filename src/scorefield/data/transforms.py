"""Invertible maps between the data's own units and the model's space."""

from __future__ import annotations

import functools
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import double, widest
from scorefield._finite import Diverged
from scorefield.data.dataset import Dataset, choice, condition, named, some_rows

NUMBERS = 20_000_000  # of conditions that are looked at, about
FAR = 0.5  # in the range of discrete data, by which no sample is outside of it that means something: measured


class Transform(ABC):
    """x -> z with its log-determinant.

    Attributes:
        levels: number of values of discrete data, None for real numbers.
    """

    levels: int | None

    @abstractmethod
    def forward(self, x: Tensor, u: Float[Tensor, "b *event"] | None = None) -> Float[Tensor, "b *event"]:
        """From data to the model's space; discrete data need `u`, uniform in (0, 1), for dequantisation."""

    @abstractmethod
    def inverse(self, z: Float[Tensor, "b *event"]) -> Tensor:
        """From the model's space to data."""

    @abstractmethod
    def log_det(self, x: Tensor) -> Float[Tensor, "b"]:
        """log |det dz/dx| at the data."""


@dataclass(frozen=True)
class Affine(Transform):
    """z = (x - shift) / scale, for discrete data z = (x + u - shift) / scale with u uniform in (0, 1).

    Dequantisation makes a density of the probability of integers: log P(k) >= E_u log p(k + u)  (Theis et al. 2016).
    The uniform numbers keep a hair h away from 0 and 1, so that float32 cannot round x + u into the next integer's
    cell; the bound then has log(1 - 2h) for each number, which `log_det` includes.

    Args:
        shift: a number, or nested tuples that broadcast against an event.
        scale: > 0, likewise.
        levels: number of values 0, 1, ... of discrete data, 2 to 65,536; None for real numbers.
    """

    shift: float | tuple[Any, ...] = 0.0
    scale: float | tuple[Any, ...] = 1.0
    levels: int | None = None

    def __post_init__(self) -> None:
        scale = torch.tensor(self.scale, dtype=torch.float64)
        if not bool((torch.isfinite(scale) & (scale > 0)).all()):
            raise ValueError(
                f"the scale of a transform must be positive; got {float(scale.min())}: drop constant columns"
            )
        if not bool(torch.isfinite(torch.tensor(self.shift, dtype=torch.float64)).all()):
            raise ValueError(f"the shift of a transform must be finite; got {self.shift}")
        if self.levels is not None and not 2 <= self.levels <= 65536:
            raise ValueError(
                f"discrete data have 2 to 65536 levels; got {self.levels}: take finer ones as real numbers"
            )

    @classmethod
    def of_levels(cls, levels: int) -> Affine:
        """Integers 0 .. levels - 1, dequantised, to [-1, 1]."""
        return cls(shift=levels / 2, scale=levels / 2, levels=levels)

    @classmethod
    def fitted(cls, data: Dataset, names: Sequence[str] = ()) -> Affine:
        """The usual transform of a data set: integers to [-1, 1], real numbers to mean 0 and standard deviation 1.

        Args:
            data: the data set.
            names: of its features, for messages.
        """
        return cls.standardising(some_rows(data), names=names) if data.levels is None else cls.of_levels(data.levels)

    @classmethod
    def standardising(cls, x: Tensor, per_feature: bool = True, names: Sequence[str] = ()) -> Affine:
        """Real data to mean 0 and standard deviation 1.

        Args:
            x: (n, *event).
            per_feature: along the first axis of the event (features, channels) each by itself, instead of all as one.
            names: of the features, for messages.

        Raises:
            ValueError: a feature does not vary beyond its rounding.
        """
        mean, std = moments_of_features(x) if per_feature else _moments(x, tuple(range(x.ndim)))
        same: list[int] = _constant(x if per_feature else x.reshape(-1), mean).flatten().nonzero()[:, 0].tolist()
        if same:
            which = f"column {named(same, names)}" if names else f"number or channel {named(same)}"
            values = ", ".join(f"{float(mean.flatten()[k]):.7g}" for k in same[:8])
            raise ValueError(
                f"constant in all samples: {which}, which is {values}: nothing can be learnt of it, leave it out"
                + (f": --reading.table.without {','.join(names[k] for k in same)}" if names else "")
            )
        return cls(_nested(mean), _nested(std))

    @classmethod
    def of_conditions(cls, data: Dataset) -> Affine | None:
        """A data set's real conditions to mean 0 and standard deviation 1, each by itself; None if it has none.

        Of one that is constant within its rounding nothing can be learnt, which is said: it is divided by its size.
        """
        one = condition(data, "cond", torch.arange(1))
        if one is None:
            return None
        cond = condition(data, "cond", choice(len(data), max(1, NUMBERS // max(1, one.numel()))))
        assert cond is not None
        mean, std = moments_of_features(cond)
        constant = _constant(cond, mean)
        if same := constant.flatten().nonzero()[:, 0].tolist():
            warnings.warn(
                f"the conditions' numbers {named(same)} do not vary in the training data: nothing is learnt of them",
                stacklevel=2,
            )
        size = torch.where(mean == 0, torch.ones_like(mean), mean.abs())
        return cls(_nested(mean), _nested(torch.where(constant, size, std)))

    def forward(self, x: Tensor, u: Float[Tensor, "b *event"] | None = None) -> Float[Tensor, "b *event"]:
        """(x + u - shift) / scale."""
        if self.levels is not None:
            if u is None:
                raise ValueError("discrete data need uniform numbers u for their dequantisation")
            x = x + (self._hair + (1 - 2 * self._hair) * u)
        elif not x.is_floating_point():
            x = x.to(torch.get_default_dtype())
        return (x - self._tensor(self.shift, x)) / self._tensor(self.scale, x)

    def inverse(self, z: Float[Tensor, "b *event"]) -> Tensor:
        """z scale + shift, as float64 if float32 is too coarse for the shift; for discrete data the integer below it.

        Raises:
            Diverged: discrete data of values that are not finite.
        """
        wide = double(z)
        shift, scale = self._tensor(self.shift, wide), self._tensor(self.scale, wide)
        x = wide * scale + shift
        if self.levels is None:
            return x if bool((shift.abs() > 1024 * scale).any()) else x.to(z)
        if not bool(torch.isfinite(x).all()):
            raise Diverged(
                f"{int((~torch.isfinite(x)).sum())} values of the model's space are not finite, so they stand for no "
                "integers: the solver has diverged (take more steps), or the model"
            )
        x = x.floor().clamp(0, self.levels - 1).to(torch.uint8 if self.levels <= 256 else torch.int32)
        return x.to(z.device)

    def log_det(self, x: Tensor) -> Float[Tensor, "b"]:
        """-sum log scale; for discrete data and log(1 - 2h) for each number."""
        logs = torch.tensor(self.scale, dtype=torch.float64).log() - math.log1p(-2 * self._hair)
        return torch.full((len(x),), -float(logs.expand(x.shape[1:]).sum()), dtype=widest(x.device), device=x.device)

    def line(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """shift and scale of x = scale z + shift, integers standing for the centres of their cells."""
        shift = self._tensor(self.shift, like) - (0 if self.levels is None else 0.5)
        return shift, self._tensor(self.scale, like)

    @property
    def _hair(self) -> float:
        return 0.0 if self.levels is None else self.levels * 2.0**-21

    @staticmethod
    def _tensor(value: Any, like: Tensor) -> Tensor:
        return torch.tensor(value, dtype=like.dtype, device=like.device)


def _nested(values: Tensor) -> Any:
    return tuple(_nested(row) for row in values) if values.ndim else float(values)


def level_distance(transform: Transform, event_shape: Sequence[int]) -> Float[Tensor, "*event"]:
    """Of neighbouring levels of discrete data in the model's space, for each component, in float64."""
    x = torch.zeros(1, *event_shape, dtype=torch.float64)
    return (transform.forward(x + 1, x) - transform.forward(x, x))[0]


def beyond(transform: Transform, x: Tensor, z: Float[Tensor, "n *event"]) -> str | None:
    """What to tell a user whose samples are clipped from so far outside that they mean nothing; None if they are not.

    Of data that end at their smallest and largest integer a model puts many values a little beyond: by up to 0.13 times
    the range in a sample's root mean square. Half of it and more cannot be meant (docs/measurements/solvers.md).

    Args:
        transform: of discrete data; of real ones nothing is clipped.
        x: the integers that samples became.
        z: the samples in the model's space.
    """
    if transform.levels is None:
        return None
    centre = transform.forward(x, torch.full(x.shape, 0.5, device=x.device)).to(z)
    away = (z - centre).abs()
    try:
        least = _narrowest(transform, tuple(z.shape[1:]))
    except TypeError:  # an object of somebody's that has no hash
        least = 0.0
    if float(away.max()) <= FAR * least:  # a quick look, which is all that most samples need
        return None
    cell = level_distance(transform, z.shape[1:]).abs().to(z)
    outside = (away / cell - 0.5).clamp_min(0) / transform.levels
    size = outside.reshape(len(z), -1).square().mean(1).sqrt()
    if not (count := int((size > FAR).sum())):
        return None
    return (
        f"{count} of {len(z)} samples mean nothing: their values were clipped from outside of what the data can be, by "
        f"{float(size.max()):.2g} times its range at worst; take more steps, another solver, or less guidance"
    )


@functools.lru_cache(maxsize=64)
def _narrowest(transform: Transform, event_shape: tuple[int, ...]) -> float:
    """The least range of a component in the model's space."""
    return float(level_distance(transform, event_shape).abs().min()) * (transform.levels or 1)


def transformed_std(data: Dataset, transform: Transform) -> float:
    """Standard deviation over all components of the transformed data: EDM's sigma_data."""
    x = some_rows(data)
    if transform.levels is None:
        return float(_moments(transform.forward(x))[1])
    middle = transform.forward(x, torch.full(x.shape, 0.5, device=x.device))
    cells = level_distance(transform, data.event_shape).square().mean() / 12  # the variance of the dequantisation
    return math.sqrt(float(_moments(middle)[1]) ** 2 + float(cells))


def _moments(x: Tensor, axes: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation by NumPy, which gives the same bits for any number of threads: a resumed run asks."""
    values = x.double().cpu().numpy()
    return torch.as_tensor(values.mean(axes)), torch.as_tensor(values.std(axes))


def _constant(x: Tensor, mean: Tensor) -> Tensor:
    """Which features do not vary beyond their rounding, of which a standard deviation may be all that there is."""
    axes = tuple(k for k in range(x.ndim) if k != 1)
    spread = (x.amax(axes) - x.amin(axes)).cpu().double().reshape(mean.shape)
    eps = torch.finfo(x.dtype if x.is_floating_point() else torch.float64).eps
    return spread <= 8 * eps * mean.abs()


def moments_of_features(x: Tensor) -> tuple[Tensor, Tensor]:
    """Those along the first axis of the event, in a shape that broadcasts against it."""
    shape = (-1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else ()
    mean, std = _moments(x, (0, *range(2, x.ndim)))
    return mean.reshape(shape), std.reshape(shape)


def transformed_spectrum(data: Dataset, transform: Transform, groups: int = 64, samples: int = 1000) -> list[float]:
    """Variances of the principal components of the transformed data, falling; the mean of each of `groups` if more.

    Args:
        data: the data set, of which up to `samples` samples are looked at.
        transform: to the model's space.
        groups: most numbers to return.
        samples: most samples to look at; of more components than samples the last count as 0.
    """
    x = some_rows(data, samples * math.prod(data.event_shape))
    middle = None if transform.levels is None else torch.full(x.shape, 0.5, device=x.device)
    z = transform.forward(x, middle).double().reshape(len(x), -1).cpu()
    z = z - z.mean(0)
    n, d = z.shape
    gram = z @ z.mT if n < d else z.mT @ z
    values = torch.linalg.eigvalsh(gram / max(1, n - 1)).clamp_min(0).flip(0)
    values = torch.cat((values, values.new_zeros(d - len(values))))
    return [float(part.mean()) for part in values.tensor_split(min(d, groups))]
