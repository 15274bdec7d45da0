"""Line integrals of images: tomography with parallel beams."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield._inputs import Array, as_tensor
from scorefield.operators.operator import LinearOperator, expect

REACH = math.sqrt(2)  # of the detectors on either side: half the diagonal of [-1, 1]^2


class Radon(LinearOperator):
    """The integrals of an image on [-1, 1]^2 along lines, averaged over each detector cell.

        y_ij = 1 / w  int_{cell j} ds  int image(s n_i + t n_i') dt,        n_i = (cos angle_i, sin angle_i)

    Exact for images that are constant on pixels: an entry of the matrix is the area that a pixel and a strip share,
    divided by w. Lengths are in units of half the image's side, so values do not depend on the resolution; x runs to
    the right, y up, and row 0 is at the top. About 2.3 side^2 entries an angle are kept, and as many of the transpose.

    Args:
        side: of the image in pixels; events are (1, side, side).
        angles: radians, anticlockwise from the horizontal; or their number, evenly spaced over half a turn.
        detectors: cells on [-sqrt(2), sqrt(2)], which holds the image at every angle; by default as wide as pixels.
    """

    angles: Tensor

    def __init__(self, side: int, angles: int | Array, detectors: int | None = None) -> None:
        super().__init__()
        self.side = side
        self.detectors = math.ceil(REACH * side) if detectors is None else detectors
        if isinstance(angles, int):
            angles = torch.arange(angles, dtype=torch.float64) * (math.pi / max(angles, 1))
        angles = as_tensor(angles, "angles")
        if side < 1 or self.detectors < 1 or not len(angles) or not bool(torch.isfinite(angles).all()):
            raise ValueError(
                f"wanted side and detectors of at least 1 and finite angles; got {side}, {self.detectors} and {angles}"
            )
        self.register_buffer("angles", angles.double())
        matrix = _areas(side, self.angles.cpu().numpy(), self.detectors)
        self.matrix = _Sparse(matrix).to(angles.device)
        self.transposed = _Sparse(matrix.T.tocsr()).to(angles.device)

    def A(self, x: Float[Tensor, "b 1 side side"]) -> Float[Tensor, "b 1 angles detectors"]:
        """The sinogram."""
        expect(self, x, (1, self.side, self.side))
        return _Product.apply(x.reshape(len(x), -1), self.matrix, self.transposed).reshape(
            -1, 1, len(self.angles), self.detectors
        )

    def A_adjoint(self, y: Float[Tensor, "b 1 angles detectors"]) -> Float[Tensor, "b 1 side side"]:
        """The transposed matrix: backprojection."""
        expect(self, y, (1, len(self.angles), self.detectors))
        return _Product.apply(y.reshape(len(y), -1), self.transposed, self.matrix).reshape(-1, 1, self.side, self.side)


def filtered_back_projection(radon: Radon, y: Float[Tensor, "b 1 angles detectors"]) -> Float[Tensor, "b 1 side side"]:
    """The classical inverse, for angles evenly spaced over half a turn  (Ramachandran & Lakshminarayanan 1971).

    Each projection is convolved with the band-limited ramp filter as sampled in space, 1 / (4 w^2) at 0, 0 at even n,
    -1 / (pi n w)^2 at odd n (Kak & Slaney 1988, chapter 3, equation 61), whose mean is right where |frequency| is
    biased; then averaged over each pixel's shadow and summed over the angles.

    Args:
        radon: the geometry.
        y: its measurements.
    """
    n, w = radon.detectors, 2 * REACH / radon.detectors
    offset = torch.arange(2 * n).to(y)
    offset = torch.minimum(offset, 2 * n - offset)  # distance on a circle that is too long to wrap
    ramp = torch.where(offset % 2 == 1, -1 / (math.pi * w * offset.clamp_min(1)) ** 2, 0)
    ramp[0] = 1 / (4 * w**2)
    filtered = torch.fft.irfft(torch.fft.rfft(y, 2 * n) * torch.fft.rfft(ramp) * w, 2 * n)[..., :n]
    pixel = (2 / radon.side) ** 2
    return radon.A_adjoint(filtered) * (math.pi / len(radon.angles) * w / pixel)


class _Sparse(nn.Module):
    """A matrix as compressed rows, held as plain tensors, which torch can copy and save."""

    starts: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self, matrix: Any) -> None:
        super().__init__()
        self.shape: tuple[int, int] = matrix.shape
        self.register_buffer("starts", torch.as_tensor(matrix.indptr.astype(np.int32)))
        self.register_buffer("columns", torch.as_tensor(matrix.indices.astype(np.int32)))
        self.register_buffer("values", torch.as_tensor(matrix.data))
        with warnings.catch_warnings():  # torch says once that sparse matrices are a beta
            warnings.simplefilter("ignore")
            self(self.values.new_zeros(1, self.shape[1]))

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b m"]:
        """Each row times the matrix."""
        parts = self.starts.to(x.device), self.columns.to(x.device), self.values.to(x)
        return (torch.sparse_csr_tensor(*parts, self.shape, check_invariants=False) @ x.mT).mT


class _Product(torch.autograd.Function):
    """The product with a sparse matrix, and as its gradient that with the transpose, which is stored as well.

    torch's own gradient would transpose the matrix at each call.
    """

    @staticmethod
    def forward(x: Tensor, matrix: _Sparse, transposed: _Sparse) -> Tensor:
        return matrix(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, _Sparse, _Sparse], output: Tensor) -> None:
        _, ctx.matrix, ctx.transposed = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Product.apply(grad, ctx.transposed, ctx.matrix), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Product.apply(tangent, ctx.matrix, ctx.transposed)


def _areas(side: int, angles: np.ndarray, detectors: int) -> Any:
    """The area that each pixel shares with each strip, divided by the strip's width, (angles detectors, side^2)."""
    from scipy.sparse import csr_array, vstack  # heavy, and nothing else here needs it

    p, w = 2 / side, 2 * REACH / detectors
    middle = p * (np.arange(side) + 0.5) - 1
    pixels = np.arange(side**2)
    blocks: list[Any] = []
    for angle in angles:
        c, s = abs(math.cos(angle)), abs(math.sin(angle))
        # the shadow of a pixel is a trapezoid: `slope` long on each side of a flat top of half the length `flat`
        flat, slope = p * abs(c - s) / 2, p * min(c, s)
        height = p / max(c, s)
        centre = (middle * math.cos(angle) - middle[:, None] * math.sin(angle)).ravel()
        first = np.floor((centre - flat - slope + REACH) / w).astype(np.int64)
        cells = first + np.arange(math.ceil(2 * (flat + slope) / w) + 1)[:, None]
        edges = w * np.concatenate((cells, cells[-1:] + 1)) - REACH - centre
        size = np.abs(edges)
        bend = (size - flat).clip(0, slope)
        area = height * np.sign(edges) * (np.minimum(size, flat + slope) - bend**2 / max(2 * slope, 1e-300))
        share = np.diff(area, axis=0) / w
        kept = share > 1e-12 * p
        columns = np.broadcast_to(pixels, cells.shape)[kept]
        blocks.append(csr_array((share[kept], (cells[kept], columns)), shape=(detectors, side**2)))
    return vstack(blocks, format="csr")
