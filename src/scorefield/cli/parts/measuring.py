"""Measurement operators from what the user typed: the options here, files and numbers, become those of `operators`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from scorefield import operators
from scorefield.cli.parts.values import is_array, load_mask, load_values
from scorefield.operators import Operator


class Measuring(ABC):
    """How samples were measured."""

    @abstractmethod
    def build(self, event_shape: Sequence[int]) -> Operator:
        """The operator on samples of a shape."""


@dataclass(frozen=True)
class Identity(Measuring):
    """Everything, with noise."""

    def build(self, event_shape: Sequence[int]) -> Operator:
        """The operator."""
        return operators.Identity()


@dataclass(frozen=True)
class Mask(Measuring):
    """Some of the numbers of a sample.

    Args:
        mask: a picture, white where the sample is known, opaque there if parts of it are transparent, or an array
            (.npy) that is 0 or NaN where it is not known.
    """

    mask: Path

    def build(self, event_shape: Sequence[int]) -> Operator:
        """The operator."""
        return operators.Mask(load_mask(self.mask), event_shape)


@dataclass(frozen=True)
class Colorize(Measuring):
    """The grey of a colour picture.

    Args:
        weights: of each channel; by default their mean. [0.299, 0.587, 0.114] is what most programs make grey of.
    """

    weights: Sequence[float] | None = None

    def build(self, event_shape: Sequence[int]) -> Operator:
        """The operator."""
        if len(event_shape) != 3:
            raise ValueError(
                f"--operator Colorize: wanted pictures (channels, height, width); got {tuple(event_shape)}"
            )
        weights = self.weights or [1 / event_shape[0]] * event_shape[0]
        return operators.Colorize(weights)


@dataclass(frozen=True)
class Blur(Measuring):
    """A blurred picture: by a kernel from a file, by motion, or by a normal kernel.

    Args:
        kernel: a picture or an array (.npy), normalised to a sum of 1.
        motion: length of a straight motion in pixels.
        angle: of the motion in degrees, anticlockwise from the right.
        std: of the normal kernel in pixels.
        circular: the picture goes on at its opposite edge; otherwise only what needs no more than the picture is known.
    """

    kernel: Path | None = None
    motion: int | None = None
    angle: float = 0.0
    std: float = 1.5
    circular: bool = True

    def build(self, event_shape: Sequence[int]) -> Operator:
        """The operator."""
        if self.kernel is not None:
            values = load_values(self.kernel)
            if not is_array(self.kernel) and values.ndim == 3:
                values = values.mean(0)
            if values.ndim != len(event_shape) - 1:
                raise ValueError(
                    f"--operator.kernel {self.kernel}: wanted a kernel with {len(event_shape) - 1} axes; got "
                    f"{tuple(values.shape)}"
                )
            kernel = values / values.sum()
        elif self.motion is not None:
            kernel = operators.motion_kernel(self.motion, math.radians(self.angle))
        else:
            kernel = operators.gaussian_kernel(2 * math.ceil(3 * self.std) + 1, self.std)
        return operators.Blur(kernel, self.circular)


@dataclass(frozen=True)
class SuperResolution(Measuring):
    """A small picture.

    Args:
        factor: pixels of the large picture for one of the small, along each axis.
        bicubic: the small picture was made by bicubic interpolation with antialiasing, instead of means over blocks.
    """

    factor: int = 4
    bicubic: bool = False

    def build(self, event_shape: Sequence[int]) -> Operator:
        """The operator."""
        return operators.SuperResolution(self.factor, operators.cubic if self.bicubic else operators.box)


@dataclass(frozen=True)
class FourierMask(Measuring):
    """Some of the Fourier coefficients of a picture, as in magnetic resonance imaging.

    Of samples with two channels these are the real and the imaginary part.

    Args:
        mask: a picture, white where they are known, the zero frequency in its centre; by default columns at random.
        acceleration: how many times fewer columns than all, without a mask.
        centre: share of the columns that are known around the centre, without a mask.
        seed: of the columns.
        centred: phases count from the middle of the picture, as in fastMRI, SigPy and deepinv, instead of its corner.
        zero_first: the mask, and a whole k-space, have the zero frequency in the corner, as numpy.fft leaves it.
        sensitivities: of the coils, an array (.npy) of complex numbers (coils, height, width); by default one coil that
            sees everything alike.
    """

    mask: Path | None = None
    acceleration: float = 4.0
    centre: float = 0.08
    seed: int = 0
    centred: bool = False
    zero_first: bool = False
    sensitivities: Path | None = None

    def build(self, event_shape: Sequence[int]) -> Operator:
        """The operator."""
        if len(event_shape) != 3 or event_shape[0] > 2:
            raise ValueError(
                "--operator FourierMask: wanted pictures (1, height, width), or (2, height, width) of complex numbers; "
                f"got {tuple(event_shape)}"
            )
        if self.mask is not None:
            mask = load_mask(self.mask)
        else:
            _, height, width = event_shape
            mask = operators.cartesian_mask(height, width, self.acceleration, self.centre, seed=self.seed)
            mask = torch.fft.ifftshift(mask) if self.zero_first else mask
        maps = None if self.sensitivities is None else load_values(self.sensitivities)
        return operators.FourierMask(mask, event_shape[0] == 2, self.centred, self.zero_first, maps)


@dataclass(frozen=True)
class Radon(Measuring):
    """Projections of a square picture, as in computed tomography with parallel beams.

    Args:
        angles: their number, equally spaced over half a turn.
        detectors: cells across; by default one for each pixel of the picture's diagonal.
    """

    angles: int = 30
    detectors: int | None = None

    def build(self, event_shape: Sequence[int]) -> Operator:
        """The operator."""
        return operators.Radon(event_shape[-1], self.angles, self.detectors)


@dataclass(frozen=True)
class CompressedSensing(Measuring):
    """Random combinations of all numbers of a sample.

    Args:
        measurements: their number.
        seed: of the combinations.
        gaussian: independent normal weights, instead of rows of a Hadamard transform with random signs.
    """

    measurements: int
    seed: int = 0
    gaussian: bool = False

    def build(self, event_shape: Sequence[int]) -> Operator:
        """The operator."""
        if self.gaussian:
            return operators.gaussian_sensing(event_shape, self.measurements, seed=self.seed)
        return operators.HadamardSensing(event_shape, self.measurements, seed=self.seed)
