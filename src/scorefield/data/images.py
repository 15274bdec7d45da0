"""Pictures as arrays: any common format, one size, colour and number of bits for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.deep import Deep, Kind
from scorefield.data.deep import MoreBits as MoreBits
from scorefield.data.frames import FORMATS as FORMATS
from scorefield.data.frames import Frames
from scorefield.data.frames import decoded as decoded
from scorefield.data.members import Broken, Listing, members

if TYPE_CHECKING:  # Pillow is imported where it is used, since most uses of scorefield have no pictures
    from PIL import Image

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx"),
)


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
    """What a transparent picture is laid on, or that its transparency is learnt as a channel of its own."""

    refuse = None
    channel = "channel"
    white = (255, 255, 255, 255)
    black = (0, 0, 0, 255)


class Pages(Enum):
    """What becomes of the pages or frames of a file that has several."""

    refuse = None
    first = "first"
    each = "each"  # a sample of its own
    stack = "stack"  # all of a file are one sample, (channels, frames, height, width)


@dataclass(frozen=True)
class Images:
    """How pictures become arrays.

    Args:
        size: height and width; one number for a square. By default all pictures must have one size already.
        fit: how a picture of another shape comes to that size.
        colour: grey, rgb, or auto: as the first picture is.
        alpha: refuse transparent pictures, lay them on white or black, or learn their alpha as one more channel.
        frames: refuse files of several pages or frames, or take the first, each as a sample, or all as one stack.
        labels: whether pictures have classes: by default by a list beside them, or by their outermost folders if these
            look like classes; true if the folders are classes in any case, false for none.
        pattern: a regular expression with one group, the class, that is found in the name of each picture.
        column: of metadata.csv, metadata.jsonl or WebDataset's .json that holds the classes.
    """

    size: int | tuple[int, int] | None = None
    fit: Fit = Fit.crop
    colour: Colour = Colour.auto
    alpha: Alpha = Alpha.refuse
    frames: Pages = Pages.refuse
    labels: bool | None = None
    pattern: str | None = None
    column: str | None = None

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


def to_array(content: bytes, options: Images, mode: str | None) -> tuple[NDArray[np.uint8], str]:
    """(channels, height, width) array of a picture's file of 8 bits, and its mode, which all later ones must have.

    Raises:
        MoreBits: it has more than 8 bits, or fewer levels.
    """
    found = Frames.of(content)[0]
    if isinstance(found, Deep):
        raise MoreBits(f"it has more than 8 bits a channel ({found.kind}): convert it, or save the values as .npy")
    values, kind = _of_mode(found, options, None if mode is None else Kind(mode))
    return values, kind.bands


class Reader:
    """Arrays of pictures' files, one after another, all of one kind and shape.

    Args:
        options: how pictures become arrays.
        most: bytes of all frames of one file; by default 256 MiB.

    Attributes:
        kind: of the pictures so far.
        shape: of their arrays.
        files: that have been read.
        more: number of frames and pages that were left.
    """

    def __init__(self, options: Images, most: float | None = None) -> None:
        self.options, self.most, self.files, self.more = options, most, 0, 0
        self.kind: Kind | None = None
        self.shape: tuple[int, ...] | None = None

    def __call__(self, content: bytes) -> list[NDArray[Any]]:
        """The samples of one file.

        Raises:
            Unfit, MoreBits: the picture is sound, and an option is wanted. Damaged ones may raise anything.
        """
        frames = Frames.of(content, self.most)
        pages, count = self.options.frames, len(frames)
        if count > 1 and pages is Pages.refuse:
            raise Unfit(f"has {count} pages or frames: say --reading.images.frames first, each or stack")
        taken = [frames[k] for k in range(count if pages in (Pages.each, Pages.stack) else 1)]
        options, kind, made = self._one_colour(taken), self.kind, list[NDArray[Any]]()
        for frame in taken:
            values, kind = _of(frame, options, kind)
            made.append(values)
        if len({values.shape for values in made}) > 1 and self.options.size is None:
            raise Unfit(
                f"has pages of {' and '.join(sorted({_sides(v.shape) for v in made}))}: give a size that all shall have"
            )
        made = [np.stack(made, 1)] if pages is Pages.stack else made
        shape = self.shape or made[0].shape
        if (one := made[0].shape) != shape:
            if len(one) == 4 and one[1] != shape[1]:
                raise Unfit(f"has {one[1]} frames where the first has {shape[1]}: stacks must be of one length")
            raise Unfit(
                f"has {_sides(one)} pixels where the first has {_sides(shape)}: give a size that all shall have"
            )
        self.kind, self.shape = kind, shape
        self.files, self.more = self.files + 1, self.more + frames.more + count - len(taken)
        return made

    def met(self, read: Callable[[], bytes], where: str, broken: Broken) -> list[NDArray[Any]]:
        """The samples of the file that `read` gives, none of a damaged one that is skipped.

        Raises:
            ValueError: it cannot be read, or an option is wanted; the message begins with `where`.
        """
        try:
            return self(read())
        except (Unfit, MoreBits) as error:
            raise ValueError(f"{where}: {error}") from error
        except Exception as error:  # a decoder may raise anything on damaged bytes
            broken.meet(where, error)
            return []

    def _one_colour(self, taken: Sequence[Image.Image | Deep]) -> Images:
        """GIF has a grey frame before those in colour that Pillow makes of the next ones."""
        grey = {not isinstance(one, Deep) and one.mode in ("1", "L", "LA") for one in taken}
        mixed = len(grey) > 1 and self.options.colour is Colour.auto
        return replace(self.options, colour=Colour.rgb) if mixed else self.options

    @property
    def said(self) -> str:
        """What the samples are, in words."""
        assert self.shape is not None
        stack = f"{self.shape[1]} frames of " if len(self.shape) == 4 else ""
        return f"of {stack}{_sides(self.shape)}, {self.kind}"


def pictures(
    listing: Listing, names: frozenset[str], reader: Reader, broken: Broken, most: float | None = None
) -> Iterator[tuple[str, NDArray[Any]]]:
    """(name, array) of each sample of the pictures of these names, `most` as of `members`."""
    for name, read in members(listing, names, most):
        for values in reader.met(read, f"{listing.path}: {name}", broken):
            yield str(name), values


def _sides(shape: tuple[int, ...]) -> str:
    return f"{shape[-2]} x {shape[-1]}"


def _of(found: Image.Image | Deep, options: Images, kind: Kind | None) -> tuple[NDArray[Any], Kind]:
    return _of_numbers(found, options, kind) if isinstance(found, Deep) else _of_mode(found, options, kind)


def _of_mode(picture: Image.Image, options: Images, kind: Kind | None) -> tuple[NDArray[np.uint8], Kind]:
    """(channels, height, width) of a picture of 8 bits, and its kind, that of the first if there is one."""
    from PIL import Image

    grey = picture.mode in ("1", "L", "LA", "La")
    with_alpha = options.alpha is Alpha.channel
    if with_alpha or picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if options.alpha is not Alpha.channel and picture.getchannel("A").getextrema() != (255, 255):
            _check_ground(options)
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, options.alpha.value), picture)
    colour = options.colour.value or ("L" if grey else "RGB")
    wanted = Kind(colour + "A" * with_alpha)
    _check_like(wanted, kind, options)
    picture = picture if picture.mode == wanted.bands else picture.convert(wanted.bands)
    values = np.asarray(_fitted(picture, options), dtype=np.uint8)
    return (values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))), wanted


def _of_numbers(found: Deep, options: Images, kind: Kind | None) -> tuple[NDArray[Any], Kind]:
    """The same of a picture that Pillow's modes do not hold."""
    from PIL import Image

    values, (bands, levels) = found
    top = None if levels is None else levels - 1
    if bands in ("LA", "RGBA") and top and options.alpha is not Alpha.channel:
        share, values, bands = values[..., -1:] / top, values[..., :-1], bands[:-1]
        if float(share.min()) < 1:
            _check_ground(options)
            ground = top if options.alpha is Alpha.white else 0
            values = np.rint(values * share + ground * (1 - share))
    elif bands in ("L", "RGB") and top and options.alpha is Alpha.channel:
        values, bands = np.concatenate((values, np.full_like(values[..., :1], top)), 2), f"{bands}A"
    if options.colour is not Colour.auto:
        if "L" not in bands and "RGB" not in bands:
            raise Unfit(f"has {bands}, none of which is known as a colour: leave the option colour out")
        values, bands = _coloured(values, bands, options.colour)
    wanted = Kind(bands, levels)
    _check_like(wanted, kind, options)
    if options.size is not None:
        planes = (Image.fromarray(np.ascontiguousarray(plane, np.float32)) for plane in np.moveaxis(values, -1, 0))
        values = np.stack([np.asarray(_fitted(plane, options)) for plane in planes], -1)
    if levels is not None:
        values = np.rint(values).clip(0, levels - 1).astype(np.uint8 if levels <= 256 else np.int32)
    return np.ascontiguousarray(np.moveaxis(values, -1, 0)), wanted


def _coloured(values: NDArray[Any], bands: str, colour: Colour) -> tuple[NDArray[Any], str]:
    """In grey, by the weights that Pillow takes, or in colour."""
    count, alpha = len(bands.rstrip("A")), bands[-1] if bands.endswith("A") else ""
    plain, rest = values[..., :count], values[..., count:]
    if colour is Colour.grey and count == 3:
        plain = (plain @ np.array([0.299, 0.587, 0.114]))[..., None]
    elif colour is Colour.rgb and count == 1:
        plain = plain.repeat(3, 2)
    return np.concatenate((plain, rest), 2), f"{colour.value}{alpha}"


def _check_ground(options: Images) -> None:
    if options.alpha is Alpha.refuse:
        raise Unfit("is transparent: lay such pictures on white or black, or learn a channel, by the option alpha")


def _check_like(wanted: Kind, kind: Kind | None, options: Images) -> None:
    if kind is None or kind == wanted:
        return
    if options.colour is Colour.auto and {kind.bands.rstrip("A"), wanted.bands.rstrip("A")} == {"L", "RGB"}:
        this, first = ("grey" if "L" in one.bands else "in colour" for one in (wanted, kind))
        raise Unfit(f"is {this} where the first is {first}: give the option colour, grey or rgb")
    raise Unfit(f"is {wanted} where the first is {kind}: convert them to one kind")


def _fitted(picture: Image.Image, options: Images) -> Image.Image:
    from PIL import Image, ImageOps

    if options.size is None:
        return picture
    height, width = options.sides
    if options.fit is Fit.crop:
        return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    if options.fit is Fit.pad:
        return ImageOps.pad(picture, (width, height), Image.Resampling.LANCZOS)
    return picture.resize((width, height), Image.Resampling.LANCZOS)
