"""Paths between latents."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield._device import widened, widest
from scorefield._inputs import Array, as_tensor
from scorefield._shapes import event_size, event_sum, expand

ALIGNED = 1e-12  # sine of an angle below which vectors count as parallel or opposite


def slerp(a: Array, b: Array, weight: float | Float[Tensor, "..."]) -> Float[Tensor, "b *event"]:
    """Spherical interpolation of each sample: along the great circle from a to b, the norm from |a| to |b|.

        ((1 - w) |a| + w |b|) (cos(w theta) u + sin(w theta) e),    theta the angle between a and b

    u is the direction of a, e that of b's part perpendicular to it. Latents of independent samples are nearly
    perpendicular and of nearly equal norms, which the chord between them leaves and the arc does not  (Shoemake 1985;
    Song et al. 2021, section 4.3). Computed in float64 where the device has it, and exact at both ends.

    Of opposite vectors e is the nearest to the coordinate axis in which a is smallest. A vector of norm 0 counts as one
    in the other's direction.

    Args:
        a: latents.
        b: latents of the same shape, with at least two components each.
        weight: w, () or (b,), in [0, 1].
    """
    a, b = as_tensor(a, "a"), as_tensor(b, "b")
    w = torch.as_tensor(weight, dtype=widest(a.device), device=a.device)
    if a.shape != b.shape or event_size(a) < 2 or w.ndim > 1 or (w.ndim and len(w) != len(a)):
        raise ValueError(
            "slerp needs two sets of latents of the same shape with at least 2 components, and one weight or one for "
            f"each; got shapes {tuple(a.shape)}, {tuple(b.shape)} and {tuple(w.shape)}"
        )
    if not bool(((w >= 0) & (w <= 1)).all()):
        raise ValueError(f"the weights of slerp must lie in [0, 1]; got {float(w.min())} to {float(w.max())}")
    w = expand(w, a)
    (u, first), (v, second) = _direction(widened(a)), _direction(widened(b))
    u, v = torch.where(first > 0, u, v), torch.where(second > 0, v, u)
    theta = 2 * torch.atan2(_norm(u - v), _norm(u + v))  # unlike acos it loses no digits at either end
    e, apart = _direction(_across(v, u))
    axis = torch.zeros_like(u).flatten(1).scatter(1, u.flatten(1).abs().argmin(1, keepdim=True), 1.0).reshape(u.shape)
    e = torch.where(apart > ALIGNED, e, _direction(_across(axis, u))[0])
    path = ((1 - w) * first + w * second) * ((w * theta).cos() * u + (w * theta).sin() * e)
    return torch.where(w == 0, a, torch.where(w == 1, b, path.to(a.dtype)))


def _norm(x: Tensor) -> Tensor:
    """The norm of each sample, shaped to broadcast."""
    return expand(event_sum(x**2).sqrt(), x)


def _direction(x: Tensor) -> tuple[Tensor, Tensor]:
    """The unit vector of each sample, 0 for a vector of norm 0, and its norm."""
    norm = _norm(x)
    return x / torch.where(norm > 0, norm, 1.0), norm


def _across(x: Tensor, u: Tensor) -> Tensor:
    """The part of x perpendicular to a unit vector; what rounding leaves along it goes with the second turn."""
    for _ in range(2):
        x = x - expand(event_sum(x * u), x) * u
    return x
