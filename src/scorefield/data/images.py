"""Pictures as arrays: any common format, one size and colour for all."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scorefield.data.members import Broken, members

if TYPE_CHECKING:  # Pillow is imported where it is used, since most uses of scorefield have no pictures
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # that Pillow decodes itself; others start programs
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm")
MOST_PIXELS = 100_000_000  # of one picture
PACKED = 1032  # bytes that zlib makes one of at most


class Fit(Enum):
    """How a picture of another shape comes to the wanted size."""

    crop = "crop"  # scaled until it covers the size, then its middle
    pad = "pad"  # scaled until it fits into the size, then black around it
    stretch = "stretch"


class Colour(Enum):
    """Channels of the arrays."""

    auto = None  # those of the first picture; all others must have the same
    grey = "L"
    rgb = "RGB"


class Alpha(Enum):
    """What a transparent picture is laid on."""

    refuse = None
    white = (255, 255, 255, 255)
    black = (0, 0, 0, 255)


@dataclass(frozen=True)
class Images:
    """How pictures become arrays.

    Args:
        size: height and width; one number for a square. By default all pictures must have one size already.
        fit: how a picture of another shape comes to that size.
        colour: grey, rgb, or auto: as the first picture is.
        alpha: refuse transparent pictures, or lay them on white or black.
        labels: the outermost folders are classes, in the order of their names, if all pictures lie in folders.
    """

    size: int | tuple[int, int] | None = None
    fit: Fit = Fit.crop
    colour: Colour = Colour.auto
    alpha: Alpha = Alpha.refuse
    labels: bool = True

    def __post_init__(self) -> None:
        if self.size is not None and min(self.sides) < 1:
            raise ValueError(f"the size of pictures must be at least 1; got {self.size}")
        if isinstance(self.size, int):  # one form for one size, so that two ways to say it are equal
            object.__setattr__(self, "size", (self.size, self.size))

    @property
    def sides(self) -> tuple[int, int]:
        """(height, width)."""
        return self.size if isinstance(self.size, tuple) else (self.size or 0, self.size or 0)


class Unfit(ValueError):
    """The picture is sound, but not like the others: an option is wanted, not another file."""


class MoreBits(ValueError):
    """The picture has more than 8 bits a channel."""


def to_array(content: bytes, options: Images, mode: str | None) -> tuple[NDArray[np.uint8], str]:
    """(channels, height, width) array of a picture's file, and its mode, which all later ones must have."""
    picture = _decode(content, options)
    mode = mode or options.colour.value or ("L" if picture.mode in ("1", "L") else "RGB")
    return _fitted(picture, mode, options), mode


def pictures(
    path: Path, options: Images, broken: Broken, most: float | None = None
) -> Iterator[tuple[PurePosixPath, NDArray[np.uint8]]]:
    """(name, (channels, height, width) array) of each picture in a folder or an archive; `most` as of `members`."""
    mode: str | None = None
    shape: tuple[int, ...] | None = None
    for name, read in members(path, SUFFIXES, most):
        try:
            values, mode = to_array(read(), options, mode)
        except Unfit as error:
            raise ValueError(f"{path}: {name}: {error}") from error
        except Exception as error:  # a decoder may raise anything on damaged bytes
            broken.meet(f"{path}: {name}", error)
            continue
        shape = shape or values.shape
        if values.shape != shape:
            raise ValueError(
                f"{path}: {name} has {values.shape[1]} x {values.shape[2]} pixels where the first has {shape[1]} x "
                f"{shape[2]}: give a size that all shall have"
            )
        yield name, values


def decoded(content: bytes) -> Image.Image:
    """A picture from its file, upright as the camera says: the one place where pictures are opened.

    Raises:
        ValueError: it is of none of FORMATS, or has more than MOST_PIXELS. Damaged ones make Pillow raise anything.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about metadata and pixel counts that are checked here
        try:
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise ValueError(f"it is no picture in one of the formats {', '.join(FORMATS)}") from error
        with opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError(f"{opened.width} x {opened.height} pixels are more than {MOST_PIXELS:,}")
            fewest = opened.width * opened.height * len(opened.getbands()) // 8  # bytes, of a bit for each number
            if opened.format == "PNG" and fewest > PACKED * len(content):  # Pillow takes what is missing for black
                raise ValueError(f"it claims {opened.width} x {opened.height} pixels in {len(content)} bytes")
            opened.load()
            return ImageOps.exif_transpose(opened)


def _decode(content: bytes, options: Images) -> Image.Image:
    from PIL import Image

    picture = decoded(content)
    if picture.mode.startswith(("I", "F")):
        raise MoreBits(f"it has more than 8 bits a channel ({picture.mode}): convert it, or save the values as .npy")
    if picture.has_transparency_data:
        grey = picture.mode in ("1", "L", "LA", "La")
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema() != (255, 255):
            if options.alpha.value is None:
                raise Unfit("is transparent: lay such pictures on white or black by the option alpha")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, options.alpha.value), picture)
        picture = picture.convert("L" if grey else "RGB")
    return picture


def _fitted(picture: Image.Image, mode: str, options: Images) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    grey = picture.mode in ("1", "L")
    if options.colour is Colour.auto and grey != (mode == "L"):
        kinds = ("grey", "in colour") if grey else ("in colour", "grey")
        raise Unfit(f"is {kinds[0]} where the first is {kinds[1]}: give the option colour, grey or rgb")
    if picture.mode != mode:
        picture = picture.convert(mode)
    if options.size is not None:
        height, width = options.sides
        if options.fit is Fit.crop:
            picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
        elif options.fit is Fit.pad:
            picture = ImageOps.pad(picture, (width, height), Image.Resampling.LANCZOS)
        else:
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    values = np.asarray(picture, dtype=np.uint8)
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))
