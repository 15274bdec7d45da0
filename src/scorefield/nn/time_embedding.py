"""Embeddings of the noise level in the published networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import silu

from scorefield.nn.embedding import LabelEmbedding, check_no_label
from scorefield.nn.scalars import NONE, Scalars

LONGEST = 10_000  # wavelength of the positional embedding, over 2 pi


class TimeEmbedding(nn.Module):
    """Two layers upon sin and cos of the noise level, with the class added before them, or behind.

    Positional, of whole steps of the noise level, with n frequencies  (Vaswani et al. 2017; Ho et al. 2020):

        [sin(f_k v), cos(f_k v)],  f_k = 10000^(-k / (n - shift)),  k = 0 .. n - 1

    Fourier, of its logarithm, with random fixed frequencies  (Tancik et al. 2020; Song et al. 2021):

        [sin(2 pi w_k v), cos(2 pi w_k v)],  w_k ~ N(0, scale^2)

    Args:
        features: number of sines and cosines, even, at least 4.
        out: size of the embedding.
        fourier_scale: scale of the Fourier frequencies; None for the positional ones.
        classes: number of classes, 0 for none.
        shift: of the positional frequencies, 0 or 1.
        label_last: add the class behind the layers.
        scalars: names of further numbers in [0, 1], added between the layers.
    """

    frequencies: Tensor

    def __init__(
        self,
        features: int,
        out: int,
        fourier_scale: float | None,
        classes: int = 0,
        shift: int = 1,
        label_last: bool = False,
        scalars: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if features < 4 or features % 2:
            raise ValueError(f"sines and cosines need an even number of features, at least 4; got {features}")
        n = features // 2
        if fourier_scale is None:
            frequencies = torch.exp(torch.arange(n) * (-math.log(LONGEST) / (n - shift)))
        else:
            frequencies = fourier_scale * torch.randn(n)
        self.fourier, self.label_last = fourier_scale is not None, label_last
        self.register_buffer("frequencies", frequencies, persistent=self.fourier)
        self.label = LabelEmbedding(classes, out if label_last else features) if classes else None
        self.inner, self.outer = nn.Linear(features, out), nn.Linear(out, out)
        self.scalars = Scalars(scalars, out)

    def forward(
        self,
        noise: Float[Tensor, "..."],
        label: Int64[Tensor, "..."] | None = None,
        scalars: Mapping[str, Tensor] = NONE,
    ) -> Float[Tensor, "... out"]:
        """silu(W2 silu(W1 (features + class) + b1) + b2), or silu(W2 silu(W1 features + b1) + b2 + class).

        For the whole batch (out,), or for each sample (b, out).
        """
        angle = noise[..., None] * self.frequencies
        if self.fourier:
            angle = angle * 2 * math.pi  # last, as by the authors: large angles keep their rounding
        h = torch.cat((angle.sin(), angle.cos()), -1)
        if self.label is None:
            check_no_label(label)
            return silu(self.outer(silu(self.scalars(self.inner(h), scalars))))
        known = self.label(label)
        if self.label_last:
            return silu(self.outer(silu(self.scalars(self.inner(h), scalars))) + known)
        return silu(self.outer(silu(self.scalars(self.inner(h + known), scalars))))
