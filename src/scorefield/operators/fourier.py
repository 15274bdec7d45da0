"""Samples of the Fourier transform: magnetic resonance imaging."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Complex, Float, Inexact, Shaped
from torch import Tensor

from scorefield._noise import Noise
from scorefield.operators.operator import LinearOperator, expect

PLANE = (-2, -1)  # height and width


class FourierMask(LinearOperator):
    """Observed entries of the orthonormal two-dimensional discrete Fourier transform, in the mask's order, complex.

    With coils whose sensitivities are S_c it is y_c = M F (S_c x), for each coil  (SENSE, Pruessmann et al. 1999), and
    A^+ takes conjugate gradients. With none, A A^T = I of complex images. Of real ones it is not, since the entries k
    and -k are conjugates of each other: A^+ weighs an observed entry by 2 if the other is not observed.

    Phases count from the first pixel, as `torch.fft.fft2` has it, or from the pixel [height // 2, width // 2], as
    fftshift(fft2(ifftshift(x))) has it and with it fastMRI, SigPy and deepinv.

    Args:
        mask: (height, width), True or not 0 where an entry is observed, with the zero frequency at
            [height // 2, width // 2], as k-space is drawn and as `torch.fft.fftshift` leaves it.
        complex_image: False for events (1, height, width), True for (2, height, width), real and imaginary part.
        centred: phases count from the image's middle.
        zero_first: the mask has the zero frequency at [0, 0] instead, as `torch.fft.fft2` leaves it.
        sensitivities: S_c, (coils, height, width), complex or real.
    """

    observed: Tensor
    share: Tensor
    maps: Tensor | None

    def __init__(
        self,
        mask: Shaped[Tensor, "*shape"],
        complex_image: bool = False,
        centred: bool = False,
        zero_first: bool = False,
        sensitivities: Inexact[Tensor, "*coils"] | None = None,
    ) -> None:
        super().__init__()
        if mask.ndim != 2 or not bool((mask != 0).any()):
            raise ValueError(
                f"wanted a mask (height, width) that observes something; got one of shape {tuple(mask.shape)}"
            )
        mask = mask != 0
        self.complex_image, self.centred, self.zero_first = complex_image, centred, zero_first
        self.height, self.width = mask.shape
        # the place of each observed entry in the transform as torch has it, the zero frequency first
        order = torch.arange(mask.numel(), device=mask.device).reshape(mask.shape)
        observed = (order if zero_first else torch.fft.fftshift(order))[mask]
        self.register_buffer("observed", observed)
        seen = torch.zeros_like(mask, dtype=torch.float64).flatten()
        seen[observed] = 1.0
        seen = seen.reshape(mask.shape)
        mirrored = seen.flip(0, 1).roll((1, 1), (0, 1))  # entry -k at the place of k
        share = torch.ones_like(seen) if complex_image else (seen + mirrored) / 2
        self.register_buffer("share", share.flatten()[observed])  # the eigenvalue of A^T A that an entry belongs to
        self.register_buffer("maps", None if sensitivities is None else _pairs(sensitivities, mask))
        self.gram = 1.0 if complex_image and sensitivities is None else None

    def A(self, x: Float[Tensor, "b c height width"]) -> Complex[Tensor, "b *coils m"]:
        """The observed entries, (b, m), or (b, coils, m)."""
        expect(self, x, (1 + self.complex_image, self.height, self.width))
        image = torch.complex(x[:, 0], x[:, 1]) if self.complex_image else x[:, 0]
        if self.maps is not None:
            image = torch.view_as_complex(self.maps.to(x)) * image[:, None]
        image = torch.fft.ifftshift(image, PLANE) if self.centred else image
        return torch.fft.fft2(image, norm="ortho").flatten(-2)[..., self.observed.to(x.device)]

    def A_adjoint(self, y: Complex[Tensor, "b *coils m"]) -> Float[Tensor, "b c height width"]:
        """The inverse transform with zeros for what is not observed; its real part for real images.

        Of the coils the sum of conj(S_c) times that.
        """
        expect(self, y, self._measured)
        filled = y.new_zeros(*y.shape[:-1], self.height * self.width).index_copy(-1, self.observed.to(y.device), y)
        image = torch.fft.ifft2(filled.unflatten(-1, (self.height, self.width)), norm="ortho")
        image = torch.fft.fftshift(image, PLANE) if self.centred else image
        if self.maps is not None:
            image = (torch.view_as_complex(self.maps.to(y.real)).conj() * image).sum(1)
        return torch.stack((image.real, image.imag), 1) if self.complex_image else image.real[:, None]

    def A_dagger(self, y: Complex[Tensor, "b *coils m"]) -> Float[Tensor, "b c height width"]:
        """A^T (y / share); with coils by conjugate gradients."""
        expect(self, y, self._measured)
        return super().A_dagger(y) if self.maps is not None else self.A_adjoint(y / self.share.to(y.real))

    def entries(self, k_space: Shaped[Tensor, "*coils height width"]) -> Shaped[Tensor, "*coils m"]:
        """The observed entries of a whole k-space, whose order is that of the mask."""
        k_space = k_space if self.zero_first else torch.fft.ifftshift(k_space, PLANE)
        return k_space.flatten(-2)[..., self.observed.to(k_space.device)]

    @property
    def _measured(self) -> tuple[int, ...]:
        return (*(() if self.maps is None else self.maps.shape[:1]), len(self.observed))


def _pairs(sensitivities: Tensor, mask: Tensor) -> Float[Tensor, "coils height width 2"]:
    """Complex numbers as pairs, which follow a module's dtype where complex ones would lose their imaginary part."""
    if sensitivities.ndim != 3 or sensitivities.shape[1:] != mask.shape:
        raise ValueError(
            f"wanted sensitivities (coils, height, width) of the mask's {tuple(mask.shape)}; got "
            f"{tuple(sensitivities.shape)}"
        )
    if not bool(torch.isfinite(sensitivities).all() & (sensitivities != 0).any()):
        raise ValueError("wanted sensitivities that are finite and not all 0")
    return torch.view_as_real(sensitivities.to(torch.complex128))


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
