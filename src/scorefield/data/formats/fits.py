"""FITS by astropy: images and cubes with the scaling of their heads; tables are left."""

from __future__ import annotations

import gzip
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scorefield._files import write_file
from scorefield._memory import check_unpacked
from scorefield.data.formats.contract import Format, Held, Opened, Variable, by_runs, word

PACKED = 1032  # bytes that zlib makes one of at most


def opened(path: Path, most: float | None) -> Opened:
    """The images of a file by their names, or numbers where names are missing: (n, 1, h, w) of planes, or (n, ...)."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    gzipped = path.suffix.lower() == ".gz"
    held = Held(gzip.open(path) if gzipped else path.open("rb"))  # noqa: SIM115 - it is read from later
    found: list[Variable] = []
    left: list[str] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "File may have been truncated", AstropyUserWarning)
        # a mapped file would count as memory, and a scaled one be read as a whole
        file: Any = fits.open(held.file, memmap=False, lazy_load_hdus=False)
    for k, part in enumerate(file):
        name = str(k) if not part.name or (part.name == "PRIMARY" and k) else part.name
        name = name if name not in [one.name for one in found] else f"{name}.{k}"
        if not (part.is_image and part.shape):
            if part.header.get("NAXIS", 0):
                left.append(f"{word(name)}: a table of {part.header.get('NAXIS2', 0)} rows")
            continue
        size = math.prod(part.shape) * abs(part.header["BITPIX"]) // 8
        packed = isinstance(part, fits.CompImageHDU) or gzipped
        if size > path.stat().st_size * (PACKED if packed else 1):
            raise ValueError(f"{word(name)} claims the shape {part.shape} in a file of {path.stat().st_size} bytes")
        if packed:
            check_unpacked(size, f"{path}: {word(name)} of {part.shape}", most)
        found.append(_variable(word(name), part, held, packed))
    return Opened(found, tuple(left))


def _variable(name: str, part: Any, held: Held, packed: bool) -> Variable:
    head, shape = part.header, tuple(part.shape)
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    lone = len(shape) < 3  # one picture or spectrum, not rows of vectors
    lead = (0,) * (len(part.shape) - len(shape))

    def read(start: int, stop: int, held: Held = held) -> NDArray[Any]:  # which keeps the file open
        if lone:
            return np.asarray(part.section[(*lead, slice(None))])[None, None]
        rows = np.asarray(part.section[(*lead, slice(start, stop))])
        return rows[:, None] if len(shape) == 3 else rows

    rows = (1, 1, *shape) if lone else (shape[0], 1, *shape[1:]) if len(shape) == 3 else shape
    corner = (slice(0, 1),) * len(part.shape)  # scaled, as the rest will be
    dtype = np.asarray(part.section[corner]).dtype.newbyteorder("=")
    scale, zero, blank = head.get("BSCALE", 1), head.get("BZERO", 0), head.get("BLANK")
    said = (
        [f"scaled: BITPIX {head['BITPIX']} x {scale:g} + {zero:g}"]
        if (scale, zero) != (1, 0) and dtype.kind == "f"
        else []
    )
    said += [f"{blank} is missing"] if blank is not None and head["BITPIX"] > 0 else []
    same = (f"in {word(head['BUNIT'])}",) if "BUNIT" in head else ()
    return Variable(
        name, rows, dtype, by_runs(read), tuple(said), same, shape[0] if packed and not lone else 1, placed=True
    )


def write_fits(x: Tensor, out: Path, like: Path | None) -> None:
    """Writes samples as one image: (n, h, w) of one channel, (n, ...) otherwise.

    Args:
        x: (n, *event).
        out: .fits file.
        like: FITS file whose cards of the first image, but those of its shape and scaling, are taken over.
    """
    from astropy.io import fits

    values = x.cpu().numpy()
    values = values[:, 0] if values.ndim == 4 and values.shape[1] == 1 else values
    header = None
    if like is not None:
        with fits.open(like) as file:
            parts: list[Any] = list(file)
            header = next(part.header for part in parts if part.is_image and part.shape).copy()
        for card in ("BSCALE", "BZERO", "BLANK", "CHECKSUM", "DATASUM"):
            header.remove(card, ignore_missing=True)
    image = fits.PrimaryHDU(values, header)
    write_file(out, lambda file: fits.HDUList([image]).writeto(file))


FITS = Format("FITS", "astronomy", (".fits", ".fit", ".fts", ".fits.gz", ".fits.fz"), opened)
