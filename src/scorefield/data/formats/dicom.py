"""DICOM by pydicom: the values that a scanner's head makes of what is stored; windows for looking are left alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from scorefield._memory import check_unpacked
from scorefield.data.formats.contract import Format, Opened, Unread, Variable, check_inside, word

SUFFIXES = (".dcm", ".dicom", ".ima")
FIELDS = "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PixelRepresentation", "PhotometricInterpretation"


class Frame(NamedTuple):
    """A picture: its file, its number there, what it is multiplied with and what is added."""

    file: Path
    number: int
    slope: float
    intercept: float


def is_dicom(path: Path) -> bool:
    """Whether the name or the beginning of a file is DICOM's."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.name == "DICOMDIR" or not (path.suffix == "" or path.suffix[1:].isdigit()) or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def is_series(path: Path) -> bool:
    """Whether a folder holds files of DICOM."""
    return path.is_dir() and any(is_dicom(Path(root, name)) for root, _, files in os.walk(path) for name in files)


def opened(path: Path, most: float | None) -> Opened:
    """The pictures of a file or a folder, and if there are several of each series, their volumes.

    A series is in the order of its places along the axis through its pictures, or of its numbers.
    """
    import pydicom

    files = [path] if path.is_file() else sorted(_within(path))
    series: dict[str, list[tuple[tuple[float, ...], Frame]]] = {}
    first: tuple[Any, ...] = ()
    first_file, left, scaled = path, Counter[str](), False
    for file in files:
        try:
            head = pydicom.dcmread(file, stop_before_pixels=True)
        except Exception as error:
            raise ValueError(f"{file.name}: {error}") from error
        if not all(field in head for field in FIELDS):
            left[word(getattr(head.get("SOPClassUID"), "name", "of an unknown kind"))] += 1
            continue
        _check(head, file.name)
        kind = (*(head[field].value for field in FIELDS), word(head.get("RescaleType", head.get("DoseUnits", ""))))
        if first and kind != first:
            raise Unread(f"{file.name} is {_words(kind)}; {first_file.name} is {_words(first)}: separate them")
        first, first_file = kind, first_file if first else file
        some = _frames(head, file)
        scaled = scaled or any((frame.slope, frame.intercept) != (1, 0) for _, frame in some)
        series.setdefault(str(head.get("SeriesInstanceUID", "")), []).extend(some)
    if not first:
        raise Unread(f"holds no pictures{': ' if left else ''}{', '.join(left)}")
    height, width, samples, bits, signed = (int(number) for number in first[:5])
    check_unpacked(height * width * samples * bits / 8, f"{path}: a picture of {height} x {width}", most)
    dtype = np.dtype(np.float64) if scaled else np.dtype(f"{'i' if signed else 'u'}{max(1, bits // 8)}")
    event = (samples, height, width)
    ordered = [[frame for _, frame in sorted(frames)] for frames in series.values()]
    pictures = [frame for frames in ordered for frame in frames]
    said = (["with slope and intercept of the head"] if scaled else []) + [_words(first)]
    same = (f"in {first[-1]}",) if first[-1] else ()
    if samples == 3 and first[5] != "RGB":
        said.append("made red, green and blue")
    if first[5] == "MONOCHROME1":
        said.append("where low values are bright: not inverted")

    def one(frame: Frame) -> NDArray[Any]:
        return _values(frame, event, dtype)

    found = [Variable("pictures", (len(pictures), *event), dtype, _of(pictures, one), tuple(said), same, placed=True)]
    depth = len(ordered[0])
    if depth > 1 and samples == 1 and all(len(frames) == depth for frames in ordered):

        def volume(frames: Sequence[Frame]) -> NDArray[Any]:
            return np.stack([one(frame)[0] for frame in frames])[None]

        shape = (len(ordered), 1, depth, height, width)
        found.append(Variable("volumes", shape, dtype, _of(ordered, volume), tuple(said), same, placed=True))
    return Opened(found, tuple(f"{count} of DICOM's {kind}" for kind, count in left.items()))


def _within(folder: Path) -> list[Path]:
    """The files of a folder, of which none is a link out of it."""
    found = [Path(root, name) for root, _, files in os.walk(folder) for name in files if not name.startswith(".")]
    chosen = [file for file in found if is_dicom(file)]
    for file in chosen:
        check_inside(file, folder)
    return chosen


def _check(head: Any, name: str) -> None:
    """Refuses what the stored values alone do not say."""
    if "ModalityLUTSequence" in head:
        raise Unread(f"{name} has a table of values instead of slope and intercept: apply it first")
    if head.PhotometricInterpretation == "PALETTE COLOR":
        raise Unread(f"{name} has the numbers of colours instead of colours: apply its palette first")
    if int(head.BitsAllocated) % 8:
        raise Unread(f"{name} has {head.BitsAllocated} bits a number, of which 8, 16, 32 and 64 are read")


def _frames(head: Any, file: Path) -> list[tuple[tuple[float, ...], Frame]]:
    """(place in its series, picture) of all in a file."""
    count = int(head.get("NumberOfFrames") or 1)
    if not 0 < count <= file.stat().st_size:
        raise ValueError(f"{file.name} claims {count} frames")
    normal = _normal(head)
    place = head.get("ImagePositionPatient")
    along = float(np.dot(normal, np.array(place, float))) if normal is not None and place else 0.0
    number = float(head.get("InstanceNumber") or 0)
    shared = head.get("SharedFunctionalGroupsSequence") or [{}]
    each = head.get("PerFrameFunctionalGroupsSequence") or []
    found: list[tuple[tuple[float, ...], Frame]] = []
    for k in range(count):
        inner = each[k] if k < len(each) else {}
        slope, intercept = _scale(inner) or _scale(shared[0]) or _scale(head) or (1.0, 0.0)
        found.append(((along, number, k), Frame(file, k, slope, intercept)))
    return found


def _normal(head: Any) -> NDArray[np.float64] | None:
    """The axis through the pictures of a series."""
    across = head.get("ImageOrientationPatient")
    if across is None or len(across) != 6:
        return None
    return np.cross(np.array(across[:3], float), np.array(across[3:], float))


def _scale(head: Any) -> tuple[float, float] | None:
    """Slope and intercept of a head, or of a group of functions of frames."""
    inner = head.get("PixelValueTransformationSequence")
    head = inner[0] if inner else head
    slope, intercept = head.get("RescaleSlope"), head.get("RescaleIntercept")
    if slope is None and intercept is None:
        dose = head.get("DoseGridScaling")
        return None if dose is None else (float(dose), 0.0)
    return float(1 if slope is None else slope), float(0 if intercept is None else intercept)


def _values(frame: Frame, event: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
    """(channels, h, w) of a picture; colours become red, green and blue."""
    from pydicom.pixels.utils import pixel_array

    try:
        stored = pixel_array(frame.file, index=frame.number)
    except Exception as error:
        if "missing dependencies" in str(error):
            kind = str(error).partition("'")[2].partition("'")[0]
            raise Unread(f"{frame.file.name} is packed as {kind}: pip install 'pylibjpeg[all]'") from error
        raise ValueError(f"{frame.file.name}: {error}") from error
    values = stored[None] if stored.ndim == 2 else stored.transpose(2, 0, 1)
    if values.shape != event:
        raise ValueError(f"{frame.file.name} holds {values.shape} where its head claims {event}")
    return values * frame.slope + frame.intercept if dtype.kind == "f" else values.astype(dtype, casting="same_kind")


def _of(items: Sequence[Any], one: Any) -> Any:
    def rows(index: Int64[np.ndarray, "k"]) -> NDArray[Any]:
        return np.stack([one(items[int(k)]) for k in index])

    return rows


def _words(kind: Sequence[Any]) -> str:
    height, width, _, bits, signed, colours = kind[:6]
    return f"{height} x {width}, {word(colours)}, {bits} bits{' with a sign' if signed else ''}"


DICOM = Format("DICOM", "medical", SUFFIXES, opened, is_series)
