"""Whether arrays fit into memory, asked before they are made or unpacked."""

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


class TooLarge(ValueError):
    """A file that is sound, as far as it was read, and would take more memory than it may."""


def check_unpacked(count: float, what: str, most: float | None = None) -> None:
    """Refuses to unpack more bytes than are allowed, by what the head of a file says of it.

    Args:
        count: bytes of what is unpacked.
        what: the file, and what of it.
        most: bytes that it may take; by default the memory of this machine or container.

    Raises:
        TooLarge: it would take more.
    """
    if count > (limit := total() if most is None else most):
        whose = "of memory that there are" if most is None else "that it may take"
        raise TooLarge(
            f"{what} would take {size(count)}, more than the {size(limit)} {whose}: take a smaller one, or allow more "
            "by the option largest"
        )


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
