"""How data are read, and how those of a model were."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from scorefield._describe import build, describe
from scorefield.data import ArrayDataset, Audio, Broken, Images, Table
from scorefield.data.read import takes_levels

ARRAYS = ("levels", "axes")  # options of arrays alone
told: ContextVar[frozenset[str] | None] = ContextVar("told", default=None)  # options that were given; None for all


@dataclass(frozen=True)
class Reading:
    """How data are read; for a trained model by default as its own were.

    Args:
        images: how pictures become arrays.
        table: which columns of a CSV or Parquet file are what.
        audio: how recordings become signals.
        broken: refuse, or skip and name pictures and recordings that cannot be read.
        levels: of arrays of integers, which take the values 0 .. levels - 1; by default 256 of 8-bit ones. Real numbers
            that are such integers, or scaled to [0, 1] or [-1, 1], become integers by it.
        axes: of arrays, a letter for each: n samples, c channels, and h w, d h w or l of space: nhwc for pictures with
            their channels last. By default as the shape suggests, if that is plain.
        largest: GiB that one file may take in memory when it is unpacked; by default 0.25 of a picture, a recording or
            a member of an archive, and the machine's memory of arrays, IDX and tables.
    """

    images: Images = Images()
    table: Table = Table()
    audio: Audio = Audio()
    broken: Broken = Broken.refuse
    levels: int | None = None
    axes: str | None = None
    largest: float | None = None


def remembered(how: Reading, loaded: ArrayDataset) -> dict[str, Any]:
    """What a model keeps of how its data were read, in plain values: the options that had to do with them."""
    kinds = [name for name in ("images", "table", "audio") if type(getattr(how, name)) is type(loaded.how)]
    whole = describe(replace(how, **dict.fromkeys(kinds, loaded.how)))
    others = ("broken",) if kinds else ARRAYS
    kept = {name: whole[name] for name in (*kinds, *others) if whole[name] is not None}
    return {"class": whole["class"], **kept} if kept else {}


def as_own(how: Reading, about: Mapping[str, Any], source: str) -> Reading:
    """As the data of a model were read, by what it keeps of its training, but for what was told otherwise.

    Where that differs it is said. Levels and axes are for arrays alone.
    """
    kept = about.get("reading", {"class": "Reading"})
    built = build(kept, {cls.__name__: cls for cls in (Reading, Images, Table, Audio)})
    if not isinstance(built, Reading):
        raise ValueError(f"what the model says of how its data were read is damaged: {str(kept)[:80]}")
    names = set(kept) - {"class"} - (set() if takes_levels(Path(source)) else set(ARRAYS))
    merged: Reading = _merged(replace(how, **{name: getattr(built, name) for name in names}), how, "reading")
    return merged


def _merged(own: Any, new: Any, name: str) -> Any:
    """`own` with what of `new` was told."""
    if is_dataclass(own):
        parts = {f.name: (getattr(own, f.name), getattr(new, f.name)) for f in fields(own)}
        return replace(own, **{key: _merged(*pair, f"{name}.{key}") for key, pair in parts.items()})  # pyright: ignore
    given = told.get()
    if given is not None and name not in given:
        return own
    if describe(own) != describe(new):
        warnings.warn(f"--{name} {_typed(new)}: the model's own data were read with {_typed(own)}", stacklevel=2)
    return new


def _typed(value: Any) -> str:
    """As one would type it."""
    return str(describe(value)).replace("'", "").replace(" ", "")
