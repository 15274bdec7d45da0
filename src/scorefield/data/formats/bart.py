"""BART's .cfl: complex numbers with their sides in a text beside them, .hdr (mrirecon.github.io/bart)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scorefield.data.formats.contract import Format, Opened, Variable, check_inside, raw_rows

AXES = 16  # of an array at most
SPACE, COILS = 3, 5  # the first axes are those of space, then coils and their maps; all further ones count samples


def opened(path: Path, most: float | None) -> Opened:
    """One array (n, coils and maps, *space), of which axes of one number are left out."""
    path, head = path.with_suffix(".cfl"), path.with_suffix(".hdr")
    check_inside(head, path.parent)
    lines = head.read_text("ascii", "replace")[: 1 << 16].splitlines()
    place = next((k for k, line in enumerate(lines) if line.startswith("# Dimensions")), None)
    if place is None or len(lines) <= place + 1:
        raise ValueError(f"{head.name} has no line '# Dimensions'")
    sides = [int(word) for word in lines[place + 1].split()]
    if not 0 < len(sides) <= AXES or min(sides) < 1:
        raise ValueError(f"{head.name} claims the sides {sides}")
    sides += [1] * (AXES - len(sides))
    space = [side for side in sides[:SPACE] if side > 1] or [1]
    coils, samples = math.prod(sides[SPACE:COILS]), math.prod(sides[COILS:])
    if path.stat().st_size != 8 * math.prod(sides):
        raise ValueError(f"it holds {path.stat().st_size} bytes where {head.name} claims {8 * math.prod(sides)}")
    lying = (samples, coils, *space[::-1])  # the first axis is the innermost

    def turned(values: NDArray[np.complex64]) -> NDArray[np.complex64]:
        return values.transpose(0, 1, *range(values.ndim - 1, 1, -1))

    rows = raw_rows(path, 0, lying, np.dtype("<c8"), turned)
    said = (
        f"BART's {' x '.join(str(side) for side in sides[: max(k for k in range(AXES) if sides[k] > 1 or k == 0) + 1])}"
    )
    return Opened([Variable("array", (samples, coils, *space), np.dtype(np.complex64), rows, (said,), placed=True)])


BART = Format("BART", "", (".cfl",), opened)
