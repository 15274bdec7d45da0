"""Sines and cosines of a number."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """cos and sin of the input at geometric frequencies  (Vaswani et al. 2017; Tancik et al. 2020).

    Args:
        features: number of outputs, even.
        lowest: lowest frequency in cycles for each unit of the input.
        highest: highest frequency.
    """

    frequencies: Tensor

    def __init__(self, features: int, lowest: float = 0.125, highest: float = 16.0) -> None:
        super().__init__()
        if features < 4 or features % 2:
            raise ValueError(f"Fourier features need an even number of outputs, at least 4; got {features}")
        exponents = torch.linspace(math.log(lowest), math.log(highest), features // 2)
        self.register_buffer("frequencies", 2 * math.pi * exponents.exp())

    def forward(self, value: Float[Tensor, "..."]) -> Float[Tensor, "... features"]:
        """[cos(2 pi f v), sin(2 pi f v)] for each frequency f."""
        angle = value[..., None] * self.frequencies
        return torch.cat((angle.cos(), angle.sin()), -1)
