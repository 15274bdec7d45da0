"""The one place where torch's global generator is used: initial weights and dropout, which torch draws from it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch


@contextlib.contextmanager
def seeded(*seed: int) -> Generator[None]:
    """Seeds torch's generators inside the block and puts them back as they were afterwards.

    Args:
        seed: one or more integers; each sequence is a seed of its own.
    """
    value = 0
    for part in (len(seed), *seed):
        # SplitMix64's step and its mixing of all bits (Steele et al. 2014)
        value = ((value ^ part) + 0x9E3779B97F4A7C15) % 2**64
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
        value ^= value >> 31
    with torch.random.fork_rng():
        torch.manual_seed(value)
        yield
