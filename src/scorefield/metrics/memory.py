"""Whether arrays fit into memory, asked before the work on them is begun."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from pathlib import Path

import numpy as np

CGROUP = Path("/sys/fs/cgroup/memory.max")  # of a container

LESS = "take fewer samples, or an extractor of fewer features"


def check_fits(numbers: int, what: str, remedy: str = LESS) -> None:
    """Refuses what needs more memory than there is.

    Args:
        numbers: in float64.
        what: needs them.
        remedy: what to do instead.

    Raises:
        ValueError: the machine or the container has less, or the system does not promise so much.
    """
    try:
        if 8 * numbers <= total():
            np.empty(numbers)  # promised, not touched; under a limit of the address space it is not
            return
    except MemoryError:
        pass
    raise ValueError(f"{what} needs {size(8 * numbers)}, more memory than there is: {remedy}")


@functools.cache
def total() -> float:
    """Bytes of memory of this machine or container; infinite where the system does not say."""
    known = [math.inf]
    if {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= {*getattr(os, "sysconf_names", ())}:
        known.append(float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # there is none, or no limit ("max")
        known.append(float(CGROUP.read_text()))
    return min(known)


def size(count: float) -> str:
    """A number of bytes in words."""
    power = min(max(1, int(math.log2(max(1.0, count))) // 10), 5)
    return f"{count / 2 ** (10 * power):.4g} {'KMGTP'[power - 1]}iB"
