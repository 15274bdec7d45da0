"""Measurements of data in the data's own units, as measurements of the model's space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield._noise import Noise
from scorefield.data import Affine, Transform
from scorefield.operators import Compose, Diagonal, Linear, MeasurementNoise, Operator
from scorefield.operators.operator import flat

FARTHEST = 20.0  # times what the operator makes of data; a y beyond it is in other units


class Measured(NamedTuple):
    """An operator, what it measured and the noise, in the model's space: the arguments of methods of guidance."""

    operator: Operator
    y: Tensor
    noise: MeasurementNoise


def measured(
    transform: Transform,
    event_shape: Sequence[int],
    operator: Operator,
    y: Tensor,
    noise: MeasurementNoise,
    like: Tensor,
) -> Measured:
    """y = A(x) + noise of data x = scale z + shift as a measurement of z.

    If A is linear and the scale one number, (y - A shift) / scale = A z + noise / scale; if each feature has its own
    scale, y - A shift = (A scale) z + noise. Integers stand for the centres of their cells.

    Args:
        transform: affine.
        event_shape: of x.
        operator: A, in the data's units.
        y: one measurement, or one row for each sample.
        noise: of y, in its units.
        like: a tensor of the model's dtype and device.

    Raises:
        ValueError: y does not fit the operator, or cannot have been measured of such data.
    """
    if not isinstance(transform, Affine):
        raise ValueError(f"measurements are converted by affine transforms alone; got {type(transform).__name__}")
    shift, scale = transform.line(like)
    middle = shift.expand(1, *event_shape)
    base = operator.A(middle)
    y = (y if y.is_floating_point() or y.is_complex() else y.double()).to(like.device)
    y = y[None] if y.ndim == base.ndim - 1 else y
    if y.shape[1:] != base.shape[1:] or y.is_complex() != base.is_complex():
        kinds = ["complex" if v.is_complex() else "real" for v in (base, y)]
        raise ValueError(
            f"the operator measures {kinds[0]} numbers of shape {tuple(base.shape[1:])} of a sample; got {kinds[1]} "
            f"ones of shape {tuple(y.shape[1:])}"
        )
    y = y.to(base)
    _check_units(operator, middle, scale, y - base)
    if not isinstance(operator, Linear):
        return Measured(_InDataUnits(operator, shift, scale), y, noise)
    if scale.ndim == 0:
        return Measured(operator, (y - base) / scale, noise.rescaled(base, float(scale)))
    weights = Diagonal(scale.expand(tuple(event_shape)))
    return Measured(Compose(weights, operator), y - base, noise.rescaled(base, 1.0))


def _check_units(operator: Operator, middle: Tensor, scale: Tensor, y: Tensor) -> None:
    """Refuses what is out of reach of data within some scales of their middle."""
    probes = torch.stack((torch.ones_like(middle[0]), Noise.per_sample([0]).normal(middle)[0]))
    reach = flat(operator.A(middle + scale * probes) - operator.A(middle)).square().mean(1).sqrt().max()
    got = flat(y).square().mean(1).sqrt().max()
    if not float(got) <= FARTHEST * float(reach):  # NaN as well
        raise ValueError(
            f"y is {float(got / reach):.3g} times as far from the middle as the operator brings data: is it in the "
            "data's units, and measured by this operator?"
        )


class _InDataUnits(nn.Module):
    """A(scale z + shift)."""

    def __init__(self, operator: Operator, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.operator, self.shift, self.scale = operator, shift, scale

    def A(self, x: Float[Tensor, "b *event"]) -> Tensor:
        return self.operator.A(self.scale.to(x) * x + self.shift.to(x))
