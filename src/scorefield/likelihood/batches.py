"""Samples in batches of one size, for a network that sees no other."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from scorefield._inputs import Seeds, as_seeds, whole


@contextlib.contextmanager
def batches(n: int, size: int | None, steps: int, progress: bool) -> Generator[tuple[list[Tensor], tqdm[NoReturn]]]:
    """The rows of each batch, the last one filled up with the last row, and a bar for the steps of all of them."""
    if n == 0:
        raise ValueError("wanted at least one sample; got none")
    size = n if size is None else whole(size, "batch_size")
    rows = [torch.arange(first, first + size).clamp_max(n - 1) for first in range(0, n, size)]
    with tqdm(total=len(rows) * steps, mininterval=0.5, disable=None if progress else True) as bar:
        yield rows, bar


def keys_of(seeds: Seeds | None, n: int) -> Tensor:
    """One seed for each sample, 0, 1, ... by default."""
    keys = torch.arange(n) if seeds is None else as_seeds(seeds)
    if len(keys) != n:
        raise ValueError(f"wanted one seed for each sample; got {len(keys)} for {n} samples")
    return keys
