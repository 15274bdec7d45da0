"""What a picture's file holds: one picture, or several pages or frames."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scorefield._memory import check_unpacked
from scorefield.data.deep import Deep, MoreBits, deep, of_tiff_page
from scorefield.data.members import LARGEST

if TYPE_CHECKING:  # Pillow is imported where it is used, since most uses of scorefield have no pictures
    from PIL import Image

# that Pillow decodes itself; others start programs
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000")
MOST_PIXELS = 100_000_000  # of one picture
PACKED = 1032  # bytes that zlib makes one of at most
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how its files begin
REDUCED = 1  # bit of a page's tag 254: a smaller version of another


class Unknown(ValueError):
    """No format that Pillow reads here."""


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Without the warnings of Pillow, about metadata and pixel counts that are checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def opened(content: bytes, frame: int = 0) -> Image.Image:
    """A picture by its file, not yet loaded: the one place where pictures are opened.

    Raises:
        ValueError: it is of none of FORMATS, or has more than MOST_PIXELS. Damaged ones make Pillow raise anything.
    """
    from PIL import Image, UnidentifiedImageError

    Image.init()  # all of Pillow's formats are known from here on, and only these are tried
    try:
        picture = Image.open(io.BytesIO(content), formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as error:
        why = "" if "AVIF" in Image.OPEN or b"ftypavi" not in content[:16] else ": this Pillow knows no AVIF, 11.3 does"
        raise Unknown(f"it is no picture in one of the formats {', '.join(FORMATS)}{why}") from error
    if frame:
        picture.seek(frame)
    if picture.width * picture.height > MOST_PIXELS:
        raise ValueError(f"{picture.width} x {picture.height} pixels are more than {MOST_PIXELS:,}")
    fewest = picture.width * picture.height * len(picture.getbands()) // 8  # bytes, of a bit for each number
    if picture.format == "PNG" and fewest > PACKED * len(content):  # Pillow takes what is missing for black
        raise ValueError(f"it claims {picture.width} x {picture.height} pixels in {len(content)} bytes")
    return picture


def decoded(content: bytes, frame: int = 0) -> Image.Image:
    """A picture from its file, upright as the camera says, in a mode of Pillow."""
    from PIL import ImageOps

    with quiet():
        picture = opened(content, frame)
        picture.load()
        return ImageOps.exif_transpose(picture)


@dataclass(frozen=True)
class Frames:
    """The pages or frames of a picture's file.

    Args:
        content: of the file.
        places: of the frames that count. Smaller versions of a page do not, nor what cameras add to a JPEG.
        more: number of those that do not count.
        most: bytes that all may take together.
        plain: Pillow does not know such files, but tifffile may.
    """

    content: bytes
    places: Sequence[int]
    more: int
    most: float
    plain: bool = False

    @classmethod
    def of(cls, content: bytes, most: float | None = None) -> Frames:
        """By what the head of the file says.

        Raises:
            ValueError: it is no picture, or its frames would take more than they may.
        """
        limit = LARGEST if most is None else most
        with quiet():
            try:
                picture = opened(content)
            except Unknown:
                if content[:4] not in TIFF:
                    raise
                return cls(content, range(_pages(content)), 0, limit, plain=True)
            count, places = int(getattr(picture, "n_frames", 1)), [0]
            said = re.match(rb"ImageJ=.*?^images=(\d+)", _description(picture), re.DOTALL | re.MULTILINE)
            if said and int(said[1]) > count:
                raise MoreBits(f"ImageJ wrote {int(said[1])} pictures and {count} heads into it: save it otherwise")
            if count > 1:
                size = 4 * picture.width * picture.height  # of a real number, or of colours with alpha
                check_unpacked(count * size, f"{count} frames of {picture.height} x {picture.width}", limit)
            if count > 1 and picture.format != "MPO":
                places = [k for k in range(count) if picture.format != "TIFF" or not _is_reduced(picture, k)] or [0]
            return cls(content, places, count - len(places), limit)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, k: int) -> Image.Image | Deep:
        """One of them, upright: of 8 bits in a mode of Pillow, others as numbers."""
        place = self.places[k]
        with quiet():
            if self.plain:
                return of_tiff_page(self.content, place, self.most)
            picture = opened(self.content, place)
            found = deep(self.content, picture, self.most, lambda: opened(self.content, place))
            return decoded(self.content, place) if found is None else found


def _description(picture: Any) -> bytes:
    text = picture.tag_v2.get(270, "") if picture.format == "TIFF" else ""
    return text.encode(errors="replace") if isinstance(text, str) else b""


def _is_reduced(picture: Any, place: int) -> bool:
    picture.seek(place)
    return bool(picture.tag_v2.get(254, 0) & REDUCED)


def _pages(content: bytes) -> int:
    """Number of the pages of a TIFF that Pillow does not know."""
    try:
        import tifffile
    except ImportError as error:
        raise ValueError("reading TIFF pictures of its kind takes tifffile: pip install 'scorefield[tiff]'") from error
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        return len(file.pages)
