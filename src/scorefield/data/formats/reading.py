"""A data set from files of a format: which array of them, and in words what was taken of what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield._memory import check_unpacked
from scorefield.data.arrays import real_conditions
from scorefield.data.axes import arranged, check_axes, likely_axes
from scorefield.data.dataset import ArrayDataset
from scorefield.data.files import parts_taken
from scorefield.data.formats.contract import Format, Opened, Variable, check_inside, sides
from scorefield.data.formats.file_rows import FileRows, Part
from scorefield.data.formats.numbers import Numbers
from scorefield.data.found import Found, counted
from scorefield.data.labels import Sorting, in_order, sort
from scorefield.data.members import listed
from scorefield.data.stored import Lazy, identity_of

SHOWN = 8  # arrays that a message names


def read_format(
    form: Format,
    path: Path,
    array: str | None = None,
    levels: int | None = None,
    axes: str | None = None,
    limit: int | None = None,
    most: float | None = None,
    folder: Path | None = None,
) -> ArrayDataset:
    """The data in a file of a format, or in all such files of a folder, whose folders are classes.

    The array `x` has its `labels` and `cond` beside it, if it has any, as in an `.npz` file.

    Args:
        form: of the files.
        path: of the file or folder.
        array: name of the array; by default the only one, or `x`.
        levels: of integers.
        axes: of the array, samples first; by default those that the format says, or that its shape suggests.
        limit: of the rows, the first of which are read.
        most: bytes that may be in memory; by default what the machine has.
        folder: where a temporary file goes.

    Raises:
        ValueError: a file cannot be read, or holds several arrays and none is chosen.
    """
    whole = path.is_file() or (form.folder is not None and form.folder(path))
    found, left, sorting = _sorted(form, path, most) if not whole else ([], [], Sorting())
    files = [path] if whole else [path / name for name in found]
    for file in files:
        with form.reading(file):
            check_inside(file, file.parent if whole else path)
    opened = _opened(form, files[0], most)
    first = _chosen(opened, array, files[0])
    variable = partial(_variable, form, array=first.name, most=most)
    parts: list[Part] = []
    for file in files:
        one = variable(file) if len(files) > 1 else first
        if (one.shape[1:], one.dtype, one.same) != (first.shape[1:], first.dtype, first.same):
            raise ValueError(f"{file}: {_unlike(one, first)}: separate them, or make them alike")
        parts.append(Part(file, one.shape[0] if limit is None else min(one.shape[0], limit), identity_of(file)))
        limit = None if limit is None else limit - parts[-1].rows
        if limit == 0:
            break
    numbers = Numbers.of(first.dtype, levels, f"{files[0]}: {first.name}")
    where = f"{files[0]}: {first.name}"
    order = _order(first, axes, where)
    turn = partial(arranged, axes=order) if order else None
    x = FileRows(form, variable, parts, first.shape[1:], numbers, turn).held(most, folder)
    labels, cond = (_beside(form, parts, first, other, opened, most) for other in ("labels", "cond"))
    words, counts = in_order(sorting.label.values()) if labels is None else (), [part.rows for part in parts]
    if words:
        labels = np.repeat([words.index(sorting.label[name]) for name in found[: len(parts)]], counts)
    train = "train" in sorting.part.values()
    held = np.repeat([train and sorting.part[name] != "train" for name in found[: len(parts)]], counts)
    return ArrayDataset(
        x,
        None if labels is None else torch.from_numpy(labels.astype(np.int64)),
        _real(cond),
        numbers.levels,
        classes=len(words) or None,
        class_names=words,
        name=str(path),
        found=_line(form, opened, first, x, numbers, len(parts), left),
        held=torch.from_numpy(held) if held.any() else None,
    )


def _sorted(form: Format, path: Path, most: float | None) -> tuple[list[str], list[str], Sorting]:
    """The files of a folder to read, what is left of it, and the classes and parts by its folders."""
    listing = listed(path)
    files = [name for name in listing.files if name.lower().endswith(form.suffixes)]
    sorting = sort(listing, files, None, option="--reading", most=most)
    taken, left = parts_taken(listing, files, sorting)
    return taken, [what.partition(" (unless")[0] for what in left], sorting


def _order(first: Variable, axes: str | None, where: str) -> str | None:
    """The axes of an array, None if they are in the order of a data set already."""
    if axes is not None:
        if not check_axes(axes).startswith("n"):
            raise ValueError(f"{where} is read by its rows: the first axis must be n, the samples; got {axes}")
        return axes
    return None if first.placed or first.dtype.kind == "c" else likely_axes(first.shape, where)


def _opened(form: Format, path: Path, most: float | None) -> Opened:
    with form.reading(path):
        return form.open(path, most)


def _variable(form: Format, path: Path, array: str, most: float | None) -> Variable:
    return _chosen(_opened(form, path, most), array, path)


def _chosen(opened: Opened, array: str | None, path: Path) -> Variable:
    """The array of a name, or the only one, or `x`."""
    known = {one.name: one for one in opened.variables}
    listed = ", ".join(map(str, opened.variables[:SHOWN])) + (", ..." if len(known) > SHOWN else "")
    wanted = (array or "").strip("/") or ("x" if "x" in known else next(iter(known), "") if len(known) == 1 else "")
    if not known:
        why = f" ({'; '.join(opened.left)})" if opened.left else ""
        raise ValueError(f"{path}: holds no array of numbers{why}")
    if not wanted:
        raise ValueError(f"{path}: holds several arrays: {listed}: choose one: --reading.array {next(iter(known))}")
    if wanted not in known:
        raise ValueError(f"{path}: has no array {wanted[:80]!r}; it has {listed}")
    if (one := known[wanted]).refused:
        raise ValueError(f"{path}: {wanted} {one.refused}")
    if not one.shape or math.prod(one.shape) == 0:
        raise ValueError(f"{path}: {wanted} is {'a single number' if not one.shape else 'empty'}: {sides(one.shape)}")
    return one


def _unlike(one: Variable, first: Variable) -> str:
    """How an array is not like that of the first file."""
    if (one.shape[1:], one.dtype) != (first.shape[1:], first.dtype):
        return f"{one.name} has rows of {sides(one.shape[1:])}, {one.dtype}, the first file {first}"
    kinds = [", ".join(some.same) or "without units" for some in (one, first)]
    return f"{one.name} is {kinds[0]}; in the first file it is {kinds[1]}"


def _beside(
    form: Format, parts: Sequence[Part], first: Variable, other: str, opened: Opened, most: float | None
) -> NDArray[Any] | None:
    """The whole of `labels` or `cond` beside an array `x`, if there is one."""
    folder, _, own = first.name.rpartition("/")
    name = f"{folder}/{other}".strip("/")
    known = {one.name: one for one in opened.variables}
    if own != "x" or name not in known:
        return None
    found: list[NDArray[Any]] = []
    for part in parts:
        one = _variable(form, part.path, name, most)
        check_unpacked(math.prod(one.shape) * one.dtype.itemsize, f"{part.path}: {name}", most)
        wanted = "biu" if other == "labels" else "biuf"
        if one.shape[0] < part.rows or one.dtype.kind not in wanted:
            raise ValueError(f"{part.path}: {one} does not go with the {part.rows} rows of {first.name}")
        with form.reading(part.path):
            found.append(one.rows(np.arange(part.rows)))
    whole = np.concatenate(found)
    return whole.reshape(len(whole)) if other == "labels" and whole.shape == (len(whole), 1) else whole


def _real(cond: NDArray[Any] | None) -> Tensor | None:
    return None if cond is None else real_conditions(cond)


def _line(
    form: Format, opened: Opened, first: Variable, x: Tensor | Lazy, numbers: Numbers, files: int, left: Sequence[str]
) -> Found:
    """What was taken, as what, out of what."""
    where = form.name if files == 1 else f"{counted(files, f'{form.name} file')}"
    taken = f"{counted(len(x), 'sample')} of {sides(x.shape[1:])}, {numbers.words}: {first.name} of {where}"
    taken = ", ".join((taken, str(first.dtype), *first.same, *first.said))
    beside = [str(one) for one in opened.variables if one.name.rpartition("/")[2] not in ("labels", "cond")]
    others = [one for one in beside if one != str(first)]
    arrays = (f"the arrays {', '.join(others[:SHOWN])}{', ...' if len(others) > SHOWN else ''}",) if others else ()
    otherwise = ("another array: --reading.array",) if others else ()
    if numbers.levels is None and first.dtype.kind in "iu":
        otherwise += ("discrete values: --reading.levels",)
    return Found(taken, (*arrays, *opened.left, *left), otherwise)
