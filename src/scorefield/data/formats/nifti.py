"""NIfTI by nibabel: with the scaling of its head, the axes as they lie, their directions said."""

from __future__ import annotations

import gzip
import math
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
    for one in (path.with_suffix(".hdr"), path.with_suffix(".img")) if pair else ():
        check_inside(one, path.parent)
    kinds = nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair, nibabel.Nifti2Pair, nibabel.AnalyzeImage
    image: Any = nibabel.load(path, mmap=False)
    if not isinstance(image, kinds):
        raise Unread(f"is {type(image).__name__} of nibabel, no volumes: save it as Nifti1Image")
    dtype = image.get_data_dtype()
    if dtype.kind not in "iufc":
        raise Unread(f"has voxels of the kind {dtype}, not numbers: take its colours apart")
    shape = tuple(int(side) for side in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise Unread(f"has the shape {image.shape}, of which pictures, volumes and series of volumes are read")
    size = math.prod(shape) * dtype.itemsize
    gzipped = path.name.lower().endswith(".gz")
    have = (path.with_suffix(".img") if pair else path).stat().st_size
    if size > have * (PACKED if gzipped else 1):
        raise ValueError(f"it claims the shape {shape} in a file of {have} bytes")
    slope, inter = image.dataobj.slope, image.dataobj.inter
    scaled = (slope, inter) != (1, 0)
    real = np.dtype(np.complex128 if dtype.kind == "c" else np.float64) if scaled else dtype.newbyteorder("=")
    if gzipped:
        check_unpacked(math.prod(shape) * real.itemsize, f"{path}: voxels of {shape}", most)
    said = (f"scaled: {dtype} x {slope:g} + {inter:g}",) if scaled else ()
    same = (_directions(image),)

    def make(name: str, axes: tuple[int, ...], read: Any) -> Variable:
        rows = _at_once(partial(read, 0, axes[0])) if gzipped else by_runs(read)
        return Variable(name, axes, real, rows, said, same, axes[0] if gzipped else 1)

    def voxels(*where: Any) -> NDArray[Any]:
        whole = (Ellipsis, *(0,) * (len(image.shape) - len(shape)))  # of the axes of one that are left out
        values = np.asarray(image.dataobj[(*where, *whole[1:])])
        return values.astype(real, copy=False)

    every = (slice(None),) * (len(shape) - 1)

    def last(start: int, stop: int) -> NDArray[Any]:
        return np.moveaxis(voxels(*every, slice(start, stop)), -1, 0)[:, None]

    def one(start: int, stop: int) -> NDArray[Any]:
        return voxels(*every, slice(None))[None, None]

    if len(shape) == 4:
        return Opened([make("volumes", (shape[3], 1, *shape[:3]), last)])
    if len(shape) == 2 or shape[2] == 1:
        flat = make("pictures", (1, 1, *shape[:2]), lambda start, stop: one(start, stop).reshape(1, 1, *shape[:2]))
        return Opened([flat])
    return Opened([make("volumes", (1, 1, *shape), one), make("slices", (shape[2], 1, *shape[:2]), last)])


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
