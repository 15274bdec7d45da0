"""Samples of the Fourier transform: magnetic resonance imaging with one coil."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Complex, Float, Shaped
from torch import Tensor

from scorefield._noise import Noise
from scorefield.operators.operator import LinearOperator, expect


class FourierMask(LinearOperator):
    """Observed entries of the orthonormal two-dimensional discrete Fourier transform, in the mask's order, complex.

    Of complex images A A^T = I. Of real ones it is not, since the entries k and -k are conjugates of each other: A^+
    weighs an observed entry by 2 if the other is not observed.

    Args:
        mask: (height, width), True or not 0 where an entry is observed, with the zero frequency at
            [height // 2, width // 2], as k-space is drawn and as `torch.fft.fftshift` leaves it.
        complex_image: False for events (1, height, width), True for (2, height, width), real and imaginary part.
    """

    observed: Tensor
    share: Tensor

    def __init__(self, mask: Shaped[Tensor, "*shape"], complex_image: bool = False) -> None:
        super().__init__()
        if mask.ndim != 2 or not bool((mask != 0).any()):
            raise ValueError(
                f"wanted a mask (height, width) that observes something; got one of shape {tuple(mask.shape)}"
            )
        mask = mask != 0
        self.complex_image, self.height, self.width = complex_image, *mask.shape
        # the place of each observed entry in the transform as torch has it, the zero frequency first
        order = torch.arange(mask.numel(), device=mask.device).reshape(mask.shape)
        observed = torch.fft.fftshift(order)[mask]
        self.register_buffer("observed", observed)
        seen = torch.fft.ifftshift(mask).double()
        mirrored = seen.flip(0, 1).roll((1, 1), (0, 1))  # entry -k at the place of k
        share = torch.ones_like(seen) if complex_image else (seen + mirrored) / 2
        self.register_buffer("share", share.flatten()[observed])  # the eigenvalue of A^T A that an entry belongs to
        self.gram = 1.0 if complex_image else None

    def A(self, x: Float[Tensor, "b c height width"]) -> Complex[Tensor, "b m"]:
        """The observed entries."""
        expect(self, x, self._event_shape)
        image = torch.complex(x[:, 0], x[:, 1]) if self.complex_image else x[:, 0]
        return torch.fft.fft2(image, norm="ortho").flatten(1)[:, self.observed.to(x.device)]

    def A_adjoint(self, y: Complex[Tensor, "b m"]) -> Float[Tensor, "b c height width"]:
        """The inverse transform with zeros for what is not observed; its real part for real images."""
        expect(self, y, self.observed.shape)
        filled = y.new_zeros(len(y), self.height * self.width).index_copy(1, self.observed.to(y.device), y)
        image = torch.fft.ifft2(filled.reshape(-1, self.height, self.width), norm="ortho")
        return torch.stack((image.real, image.imag), 1) if self.complex_image else image.real[:, None]

    def A_dagger(self, y: Complex[Tensor, "b m"]) -> Float[Tensor, "b c height width"]:
        """A^T (y / share)."""
        expect(self, y, self.observed.shape)
        return self.A_adjoint(y / self.share.to(y.real))

    @property
    def _event_shape(self) -> tuple[int, int, int]:
        return 1 + self.complex_image, self.height, self.width


def cartesian_mask(
    height: int, width: int, acceleration: float, centre: float = 0.08, *, seed: int
) -> Bool[Tensor, "height width"]:
    """Full columns: all at the centre of k-space, of the others as many as remain, with equal probability.

    The recipe of the fastMRI challenge (Zbontar et al. 2018), but with their number fixed instead of its
    mean: round(width / acceleration), and no fewer than the centre has.

    Args:
        height: of the image.
        width: of the image, in which the columns are drawn.
        acceleration: >= 1.
        centre: share of the columns that are always taken around the zero frequency, in [0, 1].
        seed: of the drawn columns.
    """
    if not (height >= 1 and width >= 1 and acceleration >= 1 and 0 <= centre <= 1):
        raise ValueError(
            "wanted height, width and acceleration of at least 1 and centre in [0, 1]; "
            f"got {height}, {width}, {acceleration} and {centre}"
        )
    always = round(width * centre)
    rank = Noise.per_sample([seed]).uniform(torch.zeros(1, width, dtype=torch.float64))[0]
    first = width // 2 - always // 2
    rank[first : first + always] = -1.0
    columns = torch.zeros(width, dtype=torch.bool)
    columns[rank.argsort(stable=True)[: max(round(width / acceleration), always, 1)]] = True
    return columns.repeat(height, 1)
