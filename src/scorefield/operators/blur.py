"""Convolution with one kernel, and kernels of out-of-focus lenses and shaking hands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scorefield._inputs import Array, as_tensor
from scorefield.operators.operator import LinearOperator, real


class Blur(LinearOperator):
    """Convolution of the last axes, (A x)_i = sum_j k_j x_{i + c - j}, with one kernel whose middle is c = size // 2.

    Args:
        kernel: k, with one axis for each axis of space: 2 for images, 1 for signals; even or odd, not normalised here.
        circular: True takes the event as periodic and keeps its shape; False keeps only the places that the kernel
            covers within the event, so that an axis of n becomes n - len(k) + 1.
    """

    kernel: Tensor

    def __init__(self, kernel: Array, circular: bool = True) -> None:
        super().__init__()
        kernel = as_tensor(kernel, "the kernel of Blur")
        if not kernel.ndim or not kernel.numel() or not bool(torch.isfinite(kernel).all()):
            raise ValueError(f"wanted a finite kernel with axes of space; got one of shape {tuple(kernel.shape)}")
        self.register_buffer("kernel", real(kernel, "the kernel of Blur"))
        self.circular = circular

    def A(self, x: Float[Tensor, "b *event"]) -> Float[Tensor, "b *measurement"]:
        """The blurred event."""
        space = self._space(x)
        y = self._filtered(x, self._response(space, x))
        if self.circular:
            return y
        inside = (slice((k - 1) // 2, n - k // 2) for n, k in zip(space, self.kernel.shape, strict=True))
        return y[(..., *inside)]

    def A_adjoint(self, y: Float[Tensor, "b *measurement"]) -> Float[Tensor, "b *event"]:
        """The correlation with the kernel."""
        if not self.circular:  # zeros where nothing was measured
            pads = [n for k in reversed(self.kernel.shape) for n in ((k - 1) // 2, k // 2)]
            y = functional.pad(y, pads) if y.ndim > self.kernel.ndim else y
        return self._filtered(y, self._response(self._space(y), y).conj())

    def A_dagger(self, y: Float[Tensor, "b *measurement"]) -> Float[Tensor, "b *event"]:
        """y divided by the kernel's frequency response, which counts as 0 below 100 roundings of its maximum.

        By conjugate gradients if the blur is not circular.
        """
        if not self.circular:
            return super().A_dagger(y)
        response = self._response(self._space(y), y)
        size = response.abs()
        kept = size > 100 * torch.finfo(y.dtype).eps * size.max()
        return self._filtered(y, torch.where(kept, 1 / torch.where(kept, response, 1), 0))

    def _space(self, x: Tensor) -> Sequence[int]:
        d = self.kernel.ndim
        if x.ndim <= d or any(n < k for n, k in zip(x.shape[-d:], self.kernel.shape, strict=True)):
            raise ValueError(
                f"Blur wanted a batch whose last axes are at least the kernel's {tuple(self.kernel.shape)}; "
                f"got a tensor of shape {tuple(x.shape)}"
            )
        return x.shape[-d:]

    def _response(self, space: Sequence[int], like: Tensor) -> Tensor:
        """The discrete Fourier transform of the kernel with its middle at 0."""
        sizes = self.kernel.shape
        pads = [n for axis in reversed(range(len(space))) for n in (0, space[axis] - sizes[axis])]
        wide = functional.pad(self.kernel.to(like), pads).roll([-(k // 2) for k in sizes], [*range(len(sizes))])
        return torch.fft.rfftn(wide)

    def _filtered(self, x: Tensor, response: Tensor) -> Tensor:
        axes = [*range(-self.kernel.ndim, 0)]
        return torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * response, x.shape[-self.kernel.ndim :], axes)


def gaussian_kernel(size: int, std: float) -> Float[Tensor, "size size"]:
    """exp(-r^2 / (2 std^2)) at the centres of the pixels, of sum 1.

    Args:
        size: of each side in pixels, >= 1.
        std: in pixels, > 0.
    """
    if not (size >= 1 and 0 < std < math.inf):
        raise ValueError(f"wanted size >= 1 and std > 0; got {size} and {std}")
    line = (-0.5 * (_centred(size) / std) ** 2).softmax(0)
    return line[:, None] * line


def motion_kernel(size: int, angle: float) -> Float[Tensor, "size size"]:
    """A straight line across the kernel's inscribed circle, one pixel wide with linear edges, of sum 1.

    Args:
        size: of each side in pixels, >= 1.
        angle: of the motion in radians, anticlockwise from the horizontal.
    """
    if size < 1 or not math.isfinite(angle):
        raise ValueError(f"wanted size >= 1 and a finite angle; got {size} and {angle}")
    x, y = _centred(size), -_centred(size)[:, None]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    beyond = (along.abs() - (size - 1) / 2).clamp_min(0)
    weights = (1 - torch.hypot(across, beyond)).clamp_min(0)
    return weights / weights.sum()


def _centred(size: int) -> Tensor:
    return torch.arange(size, dtype=torch.float64) - (size - 1) / 2
