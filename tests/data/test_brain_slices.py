"""The k-space of fine slices, of which benchmarks/brain.py makes its measurements."""

from __future__ import annotations

import math

import torch

from benchmarks.brain_slices import COARSE, FINE, band_limited, k_space
from scorefield.operators import FourierMask

EVERYTHING = torch.ones(COARSE, COARSE, dtype=torch.bool)


def wave(side: int, down: int, right: int) -> torch.Tensor:
    """cos(2 pi (down y + right x) + 1) at the centres of the pixels of a unit square."""
    line = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    return (2 * math.pi * (down * line[:, None] + right * line) + 1).cos()[None, None]


def test_a_wave_of_low_frequency_is_the_same_wave_on_coarse_pixels() -> None:
    for down, right in ((0, 0), (3, 0), (-5, 17), (31, 31)):
        assert (band_limited(wave(FINE, down, right)) - wave(COARSE, down, right)).abs().max() < 1e-6, (down, right)


def test_waves_beyond_the_scan_are_not_seen() -> None:
    assert k_space(wave(FINE, 33, 2)).abs().max() < 1e-10


def test_k_space_is_that_of_the_operator_but_for_the_last_row_and_column() -> None:
    fine = torch.randn(2, 1, FINE, FINE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    again = FourierMask(EVERYTHING).A(band_limited(fine).double()).reshape(2, COARSE, COARSE)
    assert (again - k_space(fine))[:, 1:, 1:].abs().max() < 1e-5  # a real image has no complex entries at -32
