"""Phantoms of ellipses: images whose projections and Fourier transform are known in closed form.

Measurements made of these formulas do not come from the operator that is to be inverted: no "inverse crime". The image
covers [-1, 1]^2, x to the right and y up; row 0 of an array is at the top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor


@dataclass(frozen=True)
class Ellipse:
    """What is added to the image inside of ((x - x_0) / a)^2 + ((y - y_0) / b)^2 = 1, turned by an angle.

    Args:
        value: what is added.
        x: of the centre.
        y: of the centre.
        a: half axis along x before the turn, > 0.
        b: half axis along y, > 0.
        angle: radians, anticlockwise.
    """

    value: float
    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0

    def __post_init__(self) -> None:
        if not (self.a > 0 and self.b > 0):
            raise ValueError(f"the half axes of an ellipse must be positive; got {self.a} and {self.b}")


def shepp_logan() -> tuple[Ellipse, ...]:
    """The head phantom of Shepp & Logan (1974) with Toft's contrast (1996, table B.3); values in [0, 1]."""
    turn = math.radians(18)
    return (
        Ellipse(1.0, 0.0, 0.0, 0.69, 0.92),
        Ellipse(-0.8, 0.0, -0.0184, 0.6624, 0.874),
        Ellipse(-0.2, 0.22, 0.0, 0.11, 0.31, -turn),
        Ellipse(-0.2, -0.22, 0.0, 0.16, 0.41, turn),
        Ellipse(0.1, 0.0, 0.35, 0.21, 0.25),
        Ellipse(0.1, 0.0, 0.1, 0.046, 0.046),
        Ellipse(0.1, 0.0, -0.1, 0.046, 0.046),
        Ellipse(0.1, -0.08, -0.605, 0.046, 0.023),
        Ellipse(0.1, 0.0, -0.606, 0.023, 0.023),
        Ellipse(0.1, 0.06, -0.605, 0.023, 0.046),
    )


def image(
    ellipses: Sequence[Ellipse], height: int, width: int | None = None, samples: int = 8
) -> Float[Tensor, "1 height width"]:
    """The mean over each pixel, by samples^2 points in it, in float64.

    Args:
        ellipses: the phantom.
        height: in pixels.
        width: in pixels; by default a square.
        samples: along each side of a pixel.
    """
    h, w = height * samples, (width or height) * samples
    x = (torch.arange(w, dtype=torch.float64) + 0.5) * (2 / w) - 1
    y = 1 - (torch.arange(h, dtype=torch.float64)[:, None] + 0.5) * (2 / h)
    total = torch.zeros(h, w, dtype=torch.float64)
    for e in ellipses:
        u, v = _turned(e, x - e.x, y - e.y)
        total += e.value * ((u / e.a) ** 2 + (v / e.b) ** 2 <= 1).double()
    return total.reshape(1, height, samples, -1, samples).mean((2, 4))


def sinogram(
    ellipses: Sequence[Ellipse], angles: Float[Tensor, "angles"], detectors: int
) -> Float[Tensor, "1 angles detectors"]:
    """What `Radon` measures: the mean of the chords 2 a b sqrt(r^2 - s^2) / r^2 over each cell, in float64.

    r^2 = a^2 cos^2 + b^2 sin^2 of the angle between the projection's axis and the ellipse's own.

    Args:
        ellipses: the phantom.
        angles: radians, anticlockwise.
        detectors: cells of equal width on [-sqrt(2), sqrt(2)].
    """
    angles = angles.double().cpu()[:, None]
    edges = torch.linspace(-math.sqrt(2), math.sqrt(2), detectors + 1, dtype=torch.float64)
    total = torch.zeros(len(angles), detectors + 1, dtype=torch.float64)
    for e in ellipses:
        cos, sin = angles.cos(), angles.sin()
        u, v = _turned(e, cos, sin)
        r = torch.hypot(e.a * u, e.b * v)
        s = ((edges - e.x * cos - e.y * sin) / r).clamp(-1, 1)
        total += e.value * e.a * e.b * (s * (1 - s**2).sqrt() + s.asin())  # up to the edge, less half of all
    return (total.diff(dim=1) * (detectors / (2 * math.sqrt(2))))[None]


def k_space(
    ellipses: Sequence[Ellipse], height: int, width: int | None = None, centred: bool = False
) -> Complex[Tensor, "height width"]:
    """The Fourier transform of the phantom itself, at the frequencies and in the units of `FourierMask`, complex128.

    Entry [k + height // 2, m + width // 2], at the spatial frequency (m / 2, -k / 2), is sqrt(h w) / 4 times the
    integral, a b J_1(2 pi rho) / rho with rho^2 = (a u)^2 + (b v)^2 for the turned frequency (u, v) and the phase of
    the centre; the phase of half a pixel is that of a transform which counts from the first pixel's centre. The
    transform of an image of pixels differs from it by their own response and by aliasing.

    Args:
        ellipses: the phantom.
        height: number of frequencies down.
        width: and to the right; by default as many.
        centred: phases count from the centre of the pixel in the image's middle, as `FourierMask` has it.
    """
    h, w = height, width or height
    k = torch.arange(h, dtype=torch.float64)[:, None] - h // 2
    m = torch.arange(w, dtype=torch.float64) - w // 2
    total = torch.zeros(h, w, dtype=torch.complex128)
    for e in ellipses:
        u, v = _turned(e, m / 2, -k / 2)  # rows run down, y up
        rho = torch.hypot(e.a * u, e.b * v)
        safe = torch.where(rho > 0, rho, 1)
        size = torch.where(rho > 0, torch.special.bessel_j1(2 * math.pi * safe) / safe, math.pi)
        total += e.value * e.a * e.b * size * torch.exp(-1j * math.pi * (m * e.x - k * e.y))
    first = (h // 2, w // 2) if centred else (0, 0)  # the pixel from which phases count
    turns = k * (2 * first[0] + 1) / h - k + m * (2 * first[1] + 1) / w - m
    return math.sqrt(h * w) / 4 * torch.exp(1j * math.pi * turns) * total


def _turned(e: Ellipse, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A vector in the axes of the ellipse."""
    cos, sin = math.cos(e.angle), math.sin(e.angle)
    return x * cos + y * sin, y * cos - x * sin
