"""Further numbers that a network is told, beside the noise level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from scorefield.nn.fourier import FourierFeatures

NONE: Mapping[str, Tensor] = {}


class Scalars(nn.Module):
    """Numbers in [0, 1] by name, as the sum of W2 silu(W1 features(number) + b1) with W2 = 0 before training.

    So a trained network that is told a new number gives what it gave before, to the bit.

    Args:
        names: of the numbers.
        features: size of the sum.
        hidden: number of Fourier features, and of the layer upon them.
    """

    def __init__(self, names: Sequence[str], features: int, hidden: int = 64) -> None:
        super().__init__()
        self.names, self.hidden = tuple(names), hidden
        self.fourier = FourierFeatures(hidden, 0.125, 8.0) if names else None
        self.inner = nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in names})
        # parameters and not layers, which some networks initialise all in their own way
        self.outer = nn.ParameterDict({name: torch.zeros(features, hidden) for name in names})

    def forward(self, h: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """An embedding (features,) or (b, features) with that of the numbers, () or (b,), added to it."""
        if set(given) != set(self.names):
            raise ValueError(
                f"this network is told the numbers {', '.join(self.names) or 'none'}; got {', '.join(given) or 'none'}"
            )
        if self.fourier is not None:
            for name in self.names:
                h = h + linear(silu(self.inner[name](self.fourier(given[name]))), self.outer[name])
        return h
