"""Measurements of data in the data's own units, as measurements of the model's space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield._noise import Noise
from scorefield.data import Affine, Transform
from scorefield.operators import Compose, Diagonal, Gaussian, Linear, MeasurementNoise, Operator
from scorefield.operators.operator import flat, inner
from scorefield.operators.precision import any_precision

FARTHEST = 10.0  # times what the operator makes of data; a y beyond it is in other units


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

        (y - A(shift)) / c = (A(scale z + shift) - A(shift)) / c + noise / c

    where c is the scale, or its root mean square if each feature has its own. If A is linear, what stands beside the
    noise is A (scale / c) z. Integers stand for the centres of their cells.

    Args:
        transform: affine.
        event_shape: of x.
        operator: A, in the data's units.
        y: one measurement, or one row for each sample.
        noise: of y, in its units.
        like: a tensor of the model's dtype and device.

    Raises:
        ValueError: y does not fit the operator, or cannot have been measured of such data, or A_adjoint is not the
            adjoint of A.
    """
    if not isinstance(transform, Affine):
        raise ValueError(f"measurements are converted by affine transforms alone; got {type(transform).__name__}")
    name, operator = type(operator).__name__, any_precision(operator)
    shift, scale = transform.line(like)
    middle = shift.expand(1, *event_shape)
    base = operator.A(middle)
    y = y if y.is_floating_point() or y.is_complex() else y.double()
    y = y[None] if y.ndim == base.ndim - 1 else y
    if len(y) == 0 or y.shape[1:] != base.shape[1:] or y.is_complex() != base.is_complex():
        kinds = ["complex" if v.is_complex() else "real" for v in (base, y)]
        raise ValueError(
            f"the operator measures {kinds[0]} numbers of shape {tuple(base.shape[1:])} of a sample; got {kinds[1]} "
            f"ones of shape {tuple(y.shape)}"
        )
    y = y.to(base)
    _check_units(operator, middle, scale, y - base, torch.as_tensor(noise.variance(y)).max() ** 0.5)
    unit = float(scale.square().mean().sqrt())
    if not isinstance(operator, Linear):
        own = _InDataUnits(operator, shift, scale, base, unit)
    else:
        _check_adjoint(operator, name, middle, base)
        own = Compose(Diagonal((scale / unit).expand(tuple(event_shape))), operator) if scale.ndim else operator
    return Measured(own, (y - base) / unit, noise.rescaled(base, unit))


def _check_units(operator: Operator, middle: Tensor, scale: Tensor, y: Tensor, std: Tensor) -> None:
    """Refuses what is out of reach of data within some scales of their middle, and of the noise."""
    probes = torch.stack((torch.ones_like(middle[0]), Noise.per_sample([0]).normal(middle)[0]))
    reach = flat(operator.A(middle + scale * probes) - operator.A(middle)).square().mean(1).sqrt().max()
    reach = reach + std.to(reach)
    got = flat(y).square().mean(1).sqrt().max()
    if not float(got) <= FARTHEST * float(reach):  # NaN as well
        raise ValueError(
            f"y is {float(got / reach):.3g} times as far from the middle as the operator brings data: is it in the "
            "data's units, and measured by this operator?"
        )


def _check_adjoint(operator: Linear, name: str, like: Tensor, y: Tensor) -> None:
    """Tries <A u, v> = <u, A^T v> once, with which all methods stand and fall."""
    noise = Noise.per_sample([1])
    u, v = noise.normal(like), Gaussian(1.0).sample(0 * y, noise=noise.child(1))
    clean, back = operator.A(u), operator.A_adjoint(v)
    one, other = float(inner(clean, v)), float(inner(u, back))
    if not abs(one - other) <= 1e-3 * float(clean.abs().square().sum().sqrt() * v.abs().square().sum().sqrt()):
        raise ValueError(
            f"A_adjoint of {name} is not the adjoint of A: <A u, v> = {one:.6g} and <u, A^T v> = "
            f"{other:.6g} for random u and v; `operators.FromFunction` makes one by automatic differentiation"
        )


class _InDataUnits(nn.Module):
    """(A(scale z + shift) - A(shift)) / unit of an operator that is not linear."""

    def __init__(self, operator: Operator, shift: Tensor, scale: Tensor, base: Tensor, unit: float) -> None:
        super().__init__()
        self.operator, self.shift, self.scale, self.base, self.unit = operator, shift, scale, base, unit

    def A(self, x: Float[Tensor, "b *event"]) -> Tensor:
        clean = self.operator.A(self.scale.to(x) * x + self.shift.to(x))
        return (clean - self.base.to(clean)) / self.unit

    def extra_repr(self) -> str:
        return f"{type(self.operator).__name__} in the model's units"
