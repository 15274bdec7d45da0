"""What the numbers of a file become: real numbers, exactly, or integers of some levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = 2**53  # up to which float64 holds every integer


@dataclass(frozen=True)
class Numbers:
    """Numbers of a file as those of a data set: none is rounded.

    8-bit integers without a sign and booleans are discrete; all other integers are real numbers, or of the levels that
    are given. Complex ones become two channels: (n, *event) is (n, 2, *event) for up to two axes, and beyond them the
    first, of channels, holds the real and the imaginary part of each one behind the other.

    Args:
        given: dtype of the numbers in the file.
        levels: of integers, 0 .. levels - 1, if they are discrete.
    """

    given: np.dtype
    levels: int | None = None

    @classmethod
    def of(cls, given: np.dtype, levels: int | None, name: str) -> Numbers:
        """Those of a dtype, with the levels that were asked for."""
        if levels is not None and given.kind not in "biu":
            raise ValueError(f"{name} holds {given}, not integers: leave --reading.levels out")
        if given.kind not in "biufc" or given.itemsize > (16 if given.kind == "c" else 8):
            raise ValueError(f"{name} holds {given}, which is not read: convert it to float64")
        return cls(given, levels or {"b": 2, "u1": 256}.get(given.kind if given.kind == "b" else given.str[1:]))

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers of the data set."""
        if self.levels is not None:
            return np.dtype(np.uint8 if self.levels <= 256 else np.int32)
        wide = self.given.itemsize > {"c": 8, "f": 4}.get(self.given.kind, 2)
        return np.dtype(np.float64 if wide else np.float32)

    def event(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of an event, of that in the file."""
        if self.given.kind != "c":
            return shape
        return (2, *shape) if len(shape) < 3 else (2 * shape[0], *shape[1:])

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """(k, *event) of what the file gives.

        Raises:
            ValueError: integers are beyond their levels, or beyond those that float64 holds.
        """
        if self.given.kind == "c":
            k, *event = values.shape
            parts = np.stack((np.real(values), np.imag(values)), 1 if len(event) < 3 else 2)
            return np.ascontiguousarray(parts.reshape(k, *self.event(tuple(event))), self.dtype)
        if self.given.kind in "iu" and values.size:
            least, most = int(values.min()), int(values.max())
            if self.levels is not None and (least < 0 or most >= self.levels):
                raise ValueError(f"wanted integers from 0 to {self.levels - 1}; got {least} to {most}")
            if self.levels is None and max(-least, most) > EXACT:
                raise ValueError(f"integers from {least} to {most} are not all numbers of float64: scale them first")
        return np.ascontiguousarray(values, self.dtype)

    @property
    def words(self) -> str:
        """What became of them."""
        if self.levels is not None:
            return f"integers from 0 to {self.levels - 1}"
        if self.given.kind == "c":
            return "complex numbers as real and imaginary part"
        return "real numbers"
