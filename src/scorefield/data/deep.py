"""Pictures of more than 8 bits a channel, of real numbers, or of other channels than colours: to the last bit."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scorefield._memory import check_unpacked

if TYPE_CHECKING:
    from PIL import Image

BANDS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
UINT, INT, FLOAT = 1, 2, 3  # TIFF's formats of numbers
PLAIN = ("NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "ZSTD", "LZMA")  # compressions that are decoded


class MoreBits(ValueError):
    """The picture has more bits a channel than can be read of it, or than are wanted."""


class Kind(NamedTuple):
    """What the numbers of a picture are.

    Attributes:
        bands: L (grey), LA, RGB, RGBA, or such as "5 bands".
        levels: number of values 0, 1, ...; None for real numbers.
    """

    bands: str
    levels: int | None = 256

    def __str__(self) -> str:
        words = {"L": "grey", "LA": "grey with alpha", "RGB": "in colour", "RGBA": "in colour with alpha"}
        bits = {2**k: f"{k} bits" for k in range(1, 17)}
        values = "real numbers" if self.levels is None else bits.get(self.levels, f"{self.levels} levels")
        return f"{words.get(self.bands, self.bands)}, {values}"


class Deep(NamedTuple):
    """A picture that Pillow's modes of 8 bits do not hold.

    Attributes:
        values: (height, width, channels).
        kind: of the numbers.
    """

    values: NDArray[Any]
    kind: Kind


def deep(content: bytes, picture: Image.Image, most: float, opened: Callable[[], Image.Image]) -> Deep | None:
    """A picture at the frame where it stands, or None if Pillow's modes of 8 bits hold all of it.

    Args:
        content: of the file.
        picture: opened by Pillow, not loaded.
        most: bytes that it may take.
        opened: opens the file anew, at the same frame.

    Raises:
        MoreBits: nothing here reads it without a loss.
    """
    if picture.format == "TIFF":
        return _of_tiff(content, picture, most, opened)
    if picture.format == "PPM":
        return _of_pnm(content, picture)
    if picture.format == "JPEG2000" and _depth_of_jp2(content) > 8:
        raise MoreBits("it is a JPEG 2000 picture of more than 8 bits a channel, which Pillow would change")
    if picture.format == "AVIF" and (place := content.find(b"av1C")) > 0 and content[place + 6] & 0x40:
        raise MoreBits("it is an AVIF picture of 10 or 12 bits a channel, of which Pillow would drop all but 8")
    if picture.format == "PNG" and ";16" in (raw := str(_raw(picture))):
        if "transparency" in picture.info:
            raise MoreBits("one of its colours of 16 bits stands for transparent: give it an alpha channel instead")
        if getattr(picture, "is_animated", False):
            raise MoreBits(
                "it is animated and has 16 bits a channel, of which Pillow drops 8: save the frames one by one"
            )
        return _sixteen(raw, opened)
    if picture.mode.startswith(("I", "F")):
        return _of_mode(opened())
    return None


def _raw(picture: Image.Image) -> Any:
    """How Pillow's decoder is told that the numbers lie in the file."""
    args: Any = picture.tile[0][3] if picture.tile else ""  # pyright: ignore
    return args[0] if isinstance(args, tuple) and args else args


def _as_raw(picture: Any, raw: str) -> NDArray[np.uint8]:
    """The picture by its decoder, which is told that the numbers lie there otherwise."""
    from PIL import ImageOps

    tiles: Any = picture.tile  # pyright: ignore
    made = [(*one[:3], (raw, *one[3][1:]) if isinstance(one[3], tuple) else raw) for one in tiles]
    picture.tile = [type(one)(*new) if hasattr(one, "_fields") else new for one, new in zip(tiles, made, strict=True)]
    return np.asarray(ImageOps.exif_transpose(picture))


def _sixteen(raw: str, opened: Callable[[], Image.Image]) -> Deep:
    """Of Pillow, which keeps the higher byte of a channel of 16 bits in colour, both bytes.

    It takes the order of the bytes by the name of how they lie: by the wrong one it keeps the lower byte. The two
    channels of grey with alpha are the four bytes of a picture in colour.
    """
    mode = raw.partition(";")[0]
    if mode in ("I", "L"):
        return _of_mode(opened())
    if mode == "LA":
        pairs = _as_raw(opened(), "RGBA").astype(np.int32)
        return Deep(pairs[..., ::2] * 256 + pairs[..., 1::2], Kind("LA", 65536))
    first, last = (_as_raw(opened(), f"{mode};16{order}").astype(np.int32) for order in "BL")
    little = raw.endswith("L") or (raw.endswith("N") and np.little_endian)
    values = last * 256 + first if little else first * 256 + last
    return Deep(values, Kind(BANDS[values.shape[2]], 65536))


def _of_mode(picture: Image.Image) -> Deep:
    """Of one channel, whose mode in Pillow holds it as it is: 16 bits, 32 bits with a sign, or real numbers."""
    from PIL import ImageOps

    values = np.asarray(ImageOps.exif_transpose(picture))
    return _numbers(values.astype(values.dtype.newbyteorder("="))[..., None])


def _numbers(values: NDArray[Any], white_is_zero: bool = False) -> Deep:
    """(height, width, channels) as levels or as real numbers: those of 32 bits, or of 64 where these are too few."""
    bands = BANDS.get(values.shape[2], f"{values.shape[2]} bands")
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        levels = 256**values.dtype.itemsize
        values = values.astype(np.int32)
        return Deep(levels - 1 - values if white_is_zero else values, Kind(bands, levels))
    if white_is_zero:
        raise MoreBits(f"its zero is white, and its numbers are {values.dtype}: save it as .npy")
    if values.dtype.kind not in "iuf" or values.dtype.itemsize > (8 if values.dtype.kind == "f" else 4):
        raise MoreBits(f"its numbers are {values.dtype}, which real numbers of 64 bits do not hold: save it as .npy")
    real = np.float32 if values.dtype.itemsize * (1 if values.dtype.kind == "f" else 2) <= 4 else np.float64
    return Deep(values.astype(real), Kind(bands, None))


def _of_pnm(content: bytes, picture: Image.Image) -> Deep | None:
    """Netpbm's grey and colour pictures of other than 256 levels, which Pillow would stretch to them."""
    head = re.match(rb"P([2356])" + rb"(?:\s+(?:#[^\n]*\n\s*)*)(\d+)" * 3 + rb"\s", content[:4096])
    if head is None or (largest := int(head[4])) == 255:
        return None if not picture.mode.startswith(("I", "F")) else _of_mode(picture.copy())
    channels = 1 if head[1] in b"25" else 3
    shape = (int(head[3]), int(head[2]), channels)
    count = shape[0] * shape[1] * channels
    if head[1] in b"23":
        words = re.sub(rb"#[^\n]*", b"", content[head.end() :]).split(maxsplit=count)[:count]
        values = np.array([int(word) for word in words], np.int64)
    else:
        dtype = np.dtype(">u2" if largest > 255 else "u1")
        data = content[head.end() : head.end() + count * dtype.itemsize]
        values = np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype)
    if not 0 < largest < 65536 or len(values) != count or int(values.max(initial=0)) > largest:
        raise ValueError(
            f"it holds {len(values)} of {count} numbers, up to {values.max(initial=0)} where its head says {largest}"
        )
    return Deep(values.reshape(shape).astype(np.int32), Kind(BANDS[channels], max(2, largest + 1)))


def _depth_of_jp2(content: bytes) -> int:
    """Bits of the deepest channel of a JPEG 2000 picture, by the marker of its size."""
    place = content.find(b"\xff\x4f\xff\x51")
    count = int.from_bytes(content[place + 40 : place + 42], "big")
    return max(((bits & 0x7F) + 1 for bits in content[place + 42 : place + 42 + 3 * count : 3]), default=8)


def _of_tiff(content: bytes, picture: Any, most: float, opened: Callable[[], Image.Image]) -> Deep | None:
    """A page of a TIFF: by Pillow where that loses nothing, else by tifffile."""
    tags: Any = picture.tag_v2
    bits, kinds = tags.get(258, (1,)), tags.get(339, (UINT,))
    extra = [kind for kind in tags.get(338, ()) if kind not in (1, 2)]  # other channels than alpha
    raw, white = str(_raw(picture)), tags.get(262) == 0
    if max(bits) <= 8 and set(kinds) <= {UINT, 4} and not extra:
        return None
    if len(bits) == 1 and (bits[0], kinds[0]) in ((16, UINT), (16, INT), (32, INT), (32, FLOAT)):
        values = np.asarray(opened())
        whole = {UINT: np.uint16, INT: np.int16}.get(kinds[0]) if bits[0] == 16 else None
        return _numbers(values.astype(whole or values.dtype.newbyteorder("="))[..., None], white)
    if (
        ";16" in raw
        and set(bits) == {16}
        and set(kinds) == {UINT}
        and not extra
        and raw[:3] == "RGB"
        and "a" not in raw
    ):
        return _sixteen(raw, opened)
    return of_tiff_page(content, picture.tell(), most)


def of_tiff_page(content: bytes, page: int, most: float) -> Deep:
    """A page of a TIFF that Pillow does not hold, by tifffile; no other file is opened, whatever it says of others."""
    try:
        import tifffile
    except ImportError as error:
        raise MoreBits("reading TIFF pictures of its kind takes tifffile: pip install 'scorefield[tiff]'") from error
    found: Any
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        found = file.pages[page]
        name, colour, axes = found.compression.name, found.photometric.name, found.axes
        if name not in PLAIN:
            raise MoreBits(f"its numbers are compressed by {name}: save it with another compression, or as .npy")
        if axes not in ("YX", "YXS", "SYX") or colour not in ("MINISBLACK", "MINISWHITE", "RGB"):
            raise MoreBits(f"it is a TIFF of axes {axes} and colours {colour}: save it as .npy")
        check_unpacked(found.nbytes, f"its page of shape {found.shape}", most)
        try:
            values = found.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise MoreBits(
                f"decoding {name} in a TIFF of its kind takes imagecodecs: pip install imagecodecs"
            ) from error
        turned = int(found.tags.valueof(274, 1))
        alpha = tuple(map(int, found.extrasamples)) in ((1,), (2,))
    values = np.moveaxis(values, 0, -1) if axes == "SYX" else values.reshape(*values.shape[:2], -1)
    made = _numbers(_upright(values, turned), colour == "MINISWHITE")
    count = values.shape[2] - (alpha and made.kind.levels is not None)
    named = count == 1 or (colour == "RGB" and count == 3)
    return made if named else made._replace(kind=Kind(f"{values.shape[2]} bands", made.kind.levels))


def _upright(values: NDArray[Any], turned: int) -> NDArray[Any]:
    """By the orientation that EXIF and TIFF know, 1 to 8."""
    values = values.swapaxes(0, 1) if turned >= 5 else values
    values = values[::-1] if turned in (3, 4, 7, 8) else values
    return values[:, ::-1] if turned in (2, 3, 6, 7) else values
