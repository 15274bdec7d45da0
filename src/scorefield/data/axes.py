"""What the axes of an array of samples are: letters for samples, channels, depth, height, width and length."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

ORDER = "ncdhwl"  # in which a data set has them
FEW = 4  # channels that pictures have last: grey, grey and alpha, colour, colour and alpha


def check_axes(axes: str) -> str:
    """The letters, if they are ones that an array can have.

    Raises:
        ValueError: they are not.
    """
    if (
        "n" not in axes
        or len(set(axes)) != len(axes)
        or set(axes) - set(ORDER)
        or ("l" in axes and set(axes) & set("dhw"))
    ):
        raise ValueError(
            f"axes must be letters such as nhwc, each once: n samples, c channels, and h w, d h w or l of space; got "
            f"{axes!r}"
        )
    return axes


def arranged(x: NDArray[Any], axes: str) -> NDArray[Any]:
    """An array (n, channels, *space) of one with these axes; where there is space without channels these are one."""
    if len(axes) != x.ndim:
        raise ValueError(f"axes {axes} are {len(axes)} letters, the array has {x.ndim} axes: {x.shape}")
    x = x.transpose([axes.index(letter) for letter in ORDER if letter in axes])
    return x[:, None] if "c" not in axes and len(axes) > 1 else x


def likely_axes(shape: Sequence[int], where: str) -> str:
    """What the axes of an array of this shape are, by their sides alone: channels before space, unless that is absurd.

    Pictures and volumes with 1, 3 or 4 channels last are taken so, which is warned of.

    Raises:
        ValueError: they may well be others.
    """
    sides = tuple(shape[1:])
    plain = {0: "n", 1: "nc", 2: "ncl", 3: "nchw", 4: "ncdhw"}.get(len(sides), "")
    if len(sides) < 2 or not plain:
        return plain
    spaces = plain.replace("c", "")
    last, least = sides[-1], min(sides[:-1])
    said = f"{where}: an array of shape {tuple(shape)}"
    if len(sides) == 2:
        channels, length = sides
        if channels < length and (channels <= FEW or 4 * channels <= length):
            return plain
        raise ValueError(
            f"{said} may be signals (--reading.axes ncl), series in time with their channels last (--reading.axes nlc) "
            "or pictures without channels (--reading.axes nhw): say which"
        )
    if last <= FEW and last != 2 and least > FEW:
        warnings.warn(
            f"{said} is taken to have its {last} channels last: --reading.axes {spaces}c says so, {plain} that it has "
            f"{sides[0]} channels first",
            stacklevel=3,
        )
        return f"{spaces}c"
    if last < least and not (sides[0] <= FEW):
        raise ValueError(
            f"{said} seems to have its {last} channels last: say --reading.axes {spaces}c if so, {plain} if it has "
            f"{sides[0]} channels first"
        )
    if len(sides) == 3 and len(set(sides)) == 1 and sides[0] > FEW:
        raise ValueError(
            f"{said} may be volumes without channels (--reading.axes ndhw) or pictures of {sides[0]} channels "
            "(--reading.axes nchw): say which"
        )
    if len(sides) == 4 and sides[0] > FEW >= sides[1]:
        raise ValueError(
            f"{said} may be frames of {sides[1]} channels (--reading.axes ndchw) or volumes of {sides[0]} channels "
            f"(--reading.axes ncdhw): say which"
        )
    return plain
