"""Which numbers are discrete data: one rule for arrays, IDX, the Hub's columns and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SOME = 1_000_000  # numbers that are looked at for a hint
RANGES = {"from 0 to 1": (0.0, 1.0), "from -1 to 1": (-1.0, 1.0)}  # to which pictures of 256 levels are scaled


def as_levels(x: NDArray[Any], levels: int | None, where: str) -> tuple[NDArray[Any], int | None]:
    """Numbers as the data set holds them, and how many values they take; None for real numbers.

    8-bit integers are of 256 levels, booleans of 2, other integers of as many as are said. Floating-point numbers are
    real, in float32 or float64; where levels are said, they must be the integers 0 .. levels - 1, or those divided by
    levels - 1, or scaled to [-1, 1], and become integers.

    Raises:
        ValueError: they are none of these.
    """
    if x.dtype == np.bool_ and levels is None:
        return x.astype(np.uint8), 2
    if x.dtype.kind in "biu":
        if levels is None and x.dtype != np.uint8:
            raise ValueError(
                f"{where}: wanted 8-bit integers or booleans (discrete data) or floating-point numbers (continuous "
                f"data); got {x.dtype}: say how many values such integers take, --reading.levels 4096, or convert with "
                ".astype"
            )
        if levels and x.size and (int(x.min()) < 0 or int(x.max()) >= min(levels, 2**31)):  # the new type would hide it
            raise ValueError(f"{where}: wanted integers from 0 to {levels - 1}; got {x.min()} to {x.max()}")
        levels = levels or 256
        return x.astype(np.uint8 if levels <= 256 else np.int32, copy=False), levels
    if x.dtype.kind != "f":
        raise ValueError(
            f"{where}: wanted real numbers; got {x.dtype}"
            + (": give real and imaginary parts as two channels" if x.dtype.kind == "c" else "")
        )
    if levels is None:
        with np.errstate(over="ignore"):  # to infinity, which a data set refuses with a better message
            return x.astype(np.float64 if x.dtype.itemsize >= 8 else np.float32, copy=False), None
    for ends in (None, *RANGES.values()):
        if (whole := _whole(x, levels, ends)) is not None:
            return whole.astype(np.uint8 if levels <= 256 else np.int32), levels
    raise ValueError(
        f"{where}: wanted integers from 0 to {levels - 1}, or such scaled to [0, 1] or [-1, 1]; got {x.dtype} from "
        f"{x.min()} to {x.max()}"
    )


def hint(x: NDArray[Any]) -> tuple[str, ...]:
    """What real numbers may have been meant as: integers, or pictures of 8 bits that were scaled."""
    some = x.reshape(-1)[:: max(1, x.size // SOME)]
    if x.dtype.kind != "f" or not some.size or not np.isfinite(some).all() or len(np.unique(some[:10_000])) < 2:
        return ()
    most = float(some.max())
    if some.min() >= 0 and most < 65536 and _whole(some, 65536, None) is not None:
        levels = 256 if 15 < most < 256 else int(most) + 1
        return (f"integers from 0 on, which all of them are: --reading.levels {levels}",)
    for words, ends in RANGES.items():
        if _whole(some, 256, ends) is not None and len(np.unique(some)) > 2:
            return (f"integers from 0 to 255 scaled to numbers {words}, which all of them are: --reading.levels 256",)
    return ()


def _whole(x: NDArray[Any], levels: int, ends: tuple[float, float] | None) -> NDArray[np.floating] | None:
    """The levels that numbers are, or which scaled to an interval they are to within rounding; None if they are not."""
    if ends is None:
        place, near = x, 0.0
    else:
        place = (x.astype(np.float64) - ends[0]) * ((levels - 1) / (ends[1] - ends[0]))
        near = min(0.25, 2 * (levels - 1) * float(np.finfo(x.dtype).eps))
    whole = np.rint(place)
    found = float(whole.min()) >= 0 and float(whole.max()) < levels and bool((np.abs(place - whole) <= near).all())
    return whole if found else None
