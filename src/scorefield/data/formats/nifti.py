"""NIfTI by nibabel: with the scaling of its head, the axes as they lie, their directions said."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from scorefield._files import write_file
from scorefield._memory import check_unpacked
from scorefield.data.formats.contract import Format, Opened, Unread, Variable, by_runs, check_inside, word

PACKED = 1032  # bytes that zlib makes one of at most


def opened(path: Path, most: float | None) -> Opened:
    """Volumes of a file of four axes; of one of three, the volume as one sample, or its slices along the third axis."""
    import nibabel

    pair = path.suffix.lower() in (".img", ".hdr")
    for name in (".hdr", ".img") if pair else ():
        check_inside(path.with_suffix(name), path.parent)
    kinds = nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair, nibabel.Nifti2Pair, nibabel.AnalyzeImage
    image: Any = nibabel.load(path, mmap=False)
    if not isinstance(image, kinds):
        raise Unread(f"is {type(image).__name__} of nibabel, no volumes: save it as Nifti1Image")
    kept: Any = image.dataobj
    given: np.dtype = kept.dtype
    if given.kind not in "iufc":
        raise Unread(f"has voxels of the kind {given}, not numbers: take its colours apart")
    shape = tuple(int(side) for side in kept.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    shape += (1,) * (3 - len(shape))
    if len(shape) > 4 or min(shape) < 1:
        raise Unread(f"has the shape {kept.shape}, of which pictures, volumes and series of volumes are read")
    gzipped = path.name.lower().endswith(".gz")
    have = (path.with_suffix(".img") if pair else path).stat().st_size
    if math.prod(shape) * given.itemsize > have * (PACKED if gzipped else 1):
        raise ValueError(f"it claims the shape {shape} in a file of {have} bytes")
    scaled = (kept.slope, kept.inter) != (1, 0)
    dtype = np.dtype("c16" if given.kind == "c" else "f8") if scaled else given
    if gzipped:
        check_unpacked(math.prod(shape) * dtype.itemsize, f"{path}: voxels of {shape}", most)
    said = (f"scaled: {given} x {kept.slope:g} + {kept.inter:g}",) if scaled else ()
    voxels = _At(kept, shape, dtype)

    def make(name: str, axes: tuple[int, ...], read: Callable[[int, int], NDArray[Any]]) -> Variable:
        rows = _at_once(partial(read, 0, axes[0])) if gzipped else by_runs(read)  # of which no part is unpacked alone
        return Variable(name, axes, dtype, rows, said, (_directions(image),), axes[0] if gzipped else 1, placed=True)

    *sides, last = list(shape)
    if len(shape) == 4:
        return Opened([make("volumes", (last, 1, *sides), voxels.along_the_last)])
    if last == 1:
        return Opened([make("pictures", (1, 1, *sides), voxels.along_the_last)])
    volumes = make("volumes", (1, 1, *shape), voxels.whole)
    return Opened([volumes, make("slices", (last, 1, *sides), voxels.along_the_last)])


@dataclass(frozen=True)
class _At:
    """Voxels of a file, scaled, with one channel.

    Args:
        kept: nibabel's proxy of them.
        shape: without further axes of one.
        dtype: of the scaled numbers.
    """

    kept: Any
    shape: tuple[int, ...]
    dtype: np.dtype

    def along_the_last(self, start: int, stop: int) -> NDArray[Any]:
        """Slices or volumes (k, 1, ...) along the last axis."""
        values = self._of(slice(start, stop))
        return np.moveaxis(values, -1, 0)[:, None]

    def whole(self, start: int, stop: int) -> NDArray[Any]:
        """The whole volume, as one row."""
        return self._of(slice(None))[None, None]

    def _of(self, last: slice) -> NDArray[Any]:
        every = (*(slice(None),) * (len(self.shape) - 1), last)
        rank = len(self.kept.shape)
        values = np.asarray(self.kept[(*every[:rank], *(0,) * (rank - len(every)))])
        return values.reshape(*self.shape[:-1], -1).astype(self.dtype, copy=False)


def _at_once(whole: Any) -> Any:
    """Rows of what is unpacked as a whole, once."""
    kept: list[NDArray[Any]] = []

    def rows(index: Int64[np.ndarray, "k"]) -> NDArray[Any]:
        if not kept:
            kept.append(whole())
        return kept[0][index]

    return rows


def _directions(image: Any) -> str:
    """Where each axis goes, and the units of voxels."""
    import nibabel

    if not hasattr(image.header, "get_xyzt_units"):
        return "directions of axes unknown"
    axes = "".join(axis or "?" for axis in nibabel.aff2axcodes(image.affine))
    unit = word(image.header.get_xyzt_units()[0])
    return f"axes towards {axes}{'' if unit == 'unknown' else f', in {unit}'}"


def write_nifti(x: Tensor, out: Path, like: Path | None) -> None:
    """Writes samples (n, 1, x, y[, z]) as one volume: one of z, or slices, or with a fourth axis of several samples.

    Args:
        x: real numbers or integers, of one channel.
        out: file that ends in .nii or .nii.gz.
        like: NIfTI file whose affine, units and description are taken over.
    """
    import nibabel

    if x.ndim not in (4, 5) or x.shape[1] != 1:
        raise ValueError(f"{out}: NIfTI takes pictures or volumes of one channel; got samples of {tuple(x.shape[1:])}")
    values = np.moveaxis(x[:, 0].cpu().numpy(), 0, -1)
    values = values[..., 0] if x.ndim == 5 and len(x) == 1 else values
    model: Any = None if like is None else nibabel.load(like)
    header = None if model is None else model.header.copy()
    image: Any = nibabel.Nifti1Image(values, np.eye(4) if model is None else model.affine, header, dtype=values.dtype)
    image.header.set_slope_inter(1, 0)
    content = image.to_bytes()
    packed = gzip.compress(content, mtime=0) if out.name.endswith(".gz") else content
    write_file(out, lambda file: file.write(packed))


NIFTI = Format("NIfTI", "medical", (".nii", ".nii.gz", ".img"), opened)
