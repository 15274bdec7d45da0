"""Two-dimensional densities to look at, the digits of scikit-learn, and their like: data that need no download."""

from __future__ import annotations

import math

import torch

from scorefield.data.dataset import ArrayDataset


def two_moons(n: int = 10_000, seed: int = 0, noise: float = 0.05) -> ArrayDataset:
    """Two interleaved half circles, labelled, with normal noise."""
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % 2
    angle = math.pi * torch.rand(n, generator=g)
    moon = torch.stack((angle.cos() - 0.5, angle.sin() - 0.25), 1)
    x = torch.where(label[:, None] == 0, moon, -moon)
    return ArrayDataset(x + noise * torch.randn(n, 2, generator=g), label, name="two_moons")


def checkerboard(n: int = 10_000, seed: int = 0) -> ArrayDataset:
    """Uniform on the eight dark squares of a 4 x 4 board of side 4."""
    g = torch.Generator().manual_seed(seed)
    square = torch.randint(8, (n,), generator=g)
    row = square // 2
    corner = torch.stack((2 * (square % 2) + row % 2, row), 1) - 2.0
    return ArrayDataset(corner + torch.rand(n, 2, generator=g), name="checkerboard")


def rings(n: int = 10_000, seed: int = 0, noise: float = 0.05) -> ArrayDataset:
    """Four concentric circles of radius 0.5 to 2, labelled, with normal noise across."""
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % 4
    radius = 0.5 * (label + 1) + noise * torch.randn(n, generator=g)
    angle = 2 * math.pi * torch.rand(n, generator=g)
    return ArrayDataset(radius[:, None] * torch.stack((angle.cos(), angle.sin()), 1), label, name="rings")


def mixture(n: int = 10_000, seed: int = 0, components: int = 8, std: float = 0.2) -> ArrayDataset:
    """Normal components, labelled, on a circle of radius 2."""
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % components
    angle = 2 * math.pi / components * label
    centres = 2 * torch.stack((angle.cos(), angle.sin()), 1)
    return ArrayDataset(centres + std * torch.randn(n, 2, generator=g), label, name="mixture")


def digits() -> ArrayDataset:
    """The 1797 handwritten digits of scikit-learn: (1, 8, 8), values 0 to 16, ten classes."""
    from sklearn.datasets import load_digits  # a slow import that most uses do not need

    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images).to(torch.uint8).reshape(-1, 1, 8, 8)
    return ArrayDataset(x, torch.from_numpy(labels), levels=17, name="digits")
