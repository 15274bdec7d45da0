"""Samples, pictures and figures as files: one table of endings, of which each has a writer."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from scorefield import plot
from scorefield._files import write_file
from scorefield.data import formats
from scorefield.data.members import content, reason
from scorefield.model import ScoreModel


@dataclass(frozen=True)
class Samples:
    """What is written, and what is known of it.

    Args:
        x: (n, *event), in the data's units; n is 0 before they are drawn.
        levels: number of values of discrete data, None for real numbers.
        columns: names of the columns that the data had, if these were a table.
        rate: of the recordings, in Hz, if the data were some.
        like: a file whose metadata they get.
    """

    x: Tensor
    levels: int | None = None
    columns: Sequence[str] = ()
    rate: int | None = None
    like: Path | None = None

    @classmethod
    def of(cls, model: ScoreModel, x: Tensor | None = None, like: Path | None = None) -> Samples:
        """Those of a model, which keeps how its data were read."""
        reading: Mapping[str, Any] = model.about.get("reading", {})
        return cls(
            torch.empty(0, *model.event_shape) if x is None else x.cpu(),
            model.transform.levels,
            reading.get("table", {}).get("columns", ()),
            reading.get("audio", {}).get("rate"),
            like,
        )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Of one."""
        return tuple(self.x.shape[1:])


class Writer(NamedTuple):
    """How all samples become one file.

    Attributes:
        unsuited: why such samples cannot be written, None if they can.
        write: makes the file, or a folder of that name.
        likes: whether it takes metadata from a file.
    """

    unsuited: Callable[[Samples], str | None]
    write: Callable[[Samples, Path], None]
    likes: bool = False


def target(out: Path, samples: Samples) -> Path:
    """The directory that samples go to; an output that such samples could not be written to is refused."""
    ending = _ending(out)
    if not ending:
        if out.suffix or out.is_file():
            raise ValueError(f"--out {out}: wanted a name that ends in {', '.join(WRITERS)}, or a folder")
        if samples.like is not None:
            raise ValueError(f"--like {samples.like}: is for one file that holds metadata, not for a folder")
        return out
    if out.is_dir():
        raise ValueError(f"--out {out}: wanted the name of a {ending} file")
    if why := WRITERS[ending].unsuited(samples):
        raise ValueError(f"--out {out}: samples of shape {samples.event_shape} {why}: write .npz, or into a folder")
    if samples.like is not None and not WRITERS[ending].likes:
        raise ValueError(f"--like {samples.like}: {ending} files get no metadata from others: leave it out")
    return out.parent


def save_samples(samples: Samples, out: Path) -> None:
    """Writes samples as one file by its ending, or each by itself into a folder."""
    if ending := _ending(out):
        WRITERS[ending].write(samples, out)
        return
    usual = ".png" if _is_picture(samples) and (samples.levels or 256) <= 256 else ".wav"
    usual = usual if WRITERS[usual].unsuited(samples) is None else ".npy"
    for k, one in enumerate(samples.x):
        name = out / f"{k:06d}{usual}"
        if usual == ".npy":
            write_file(name, partial(np.save, arr=one.numpy()))
        else:
            WRITERS[usual].write(replace(samples, x=one[None]), name)


def save_picture(picture: Image.Image, out: Path) -> None:
    """Writes a Pillow image as PNG."""
    write_file(out, partial(picture.save, format="PNG"))


def save_figure(figure: Figure, out: Path) -> None:
    """Writes a matplotlib figure as PNG."""
    write_file(out, partial(figure.savefig, format="png", dpi=110))


def _at_once(out: Path, save: Callable[[io.BytesIO], object]) -> None:
    """Writes what is made by going back and forth."""
    made = io.BytesIO()
    save(made)
    write_file(out, lambda file: file.write(made.getvalue()))


def _ending(out: Path) -> str:
    """The longest ending in the table that a name has; none of a folder's."""
    return max((ending for ending in WRITERS if out.name.lower().endswith(ending)), key=len, default="")


def _is_picture(samples: Samples) -> bool:
    return plot.is_image(samples.event_shape, alpha=True)


def _any(samples: Samples) -> str | None:
    del samples
    return None


def _no_picture(samples: Samples) -> str | None:
    return None if _is_picture(samples) or samples.event_shape == (2,) else "are no pictures"


def _png(samples: Samples, out: Path) -> None:
    """All in one picture, or one by its own pixels; points of a plane in a figure."""
    if not _is_picture(samples):
        save_figure(plot.scatter(samples.x), out)
    elif len(samples.x) > 1:
        save_picture(plot.image_grid(samples.x, samples.levels), out)
    else:
        one = plot.image_grid(samples.x, samples.levels, side=1, gap=0)
        save_picture(one.convert("L") if samples.event_shape[0] == 1 else one, out)


def _npz(samples: Samples, out: Path) -> None:
    write_file(out, lambda file: np.savez(file, x=samples.x.numpy()))


def _npy(samples: Samples, out: Path) -> None:
    write_file(out, partial(np.save, arr=samples.x.numpy()))


def _no_tiff(samples: Samples) -> str | None:
    grey = _is_picture(samples) and samples.event_shape[0] == 1
    few = _is_picture(samples) and (samples.levels or 65536) <= 256
    return None if grey or few else "are neither pictures of 8 bits nor grey ones"


def _tiff(samples: Samples, out: Path) -> None:
    """A page for each, of the values as they are: 8 bits, 16 bits or real numbers."""
    kind = np.float32 if samples.levels is None else np.uint8 if samples.levels <= 256 else np.uint16
    values = samples.x.numpy().astype(kind)
    if not np.array_equal(values, samples.x.numpy(), equal_nan=True):
        warnings.warn(
            f"{out}: has the samples rounded to float32: .npy and .npz have all of their digits", stacklevel=3
        )
    pages = [Image.fromarray(x[0] if len(x) == 1 else np.ascontiguousarray(x.transpose(1, 2, 0))) for x in values]
    _at_once(out, partial(pages[0].save, format="TIFF", save_all=True, append_images=pages[1:]))


def _no_recording(samples: Samples) -> str | None:
    if len(samples.event_shape) != 2 or samples.levels is not None:
        return "are no recordings, (channels, length) of real numbers"
    known = samples.rate is not None or samples.like is not None
    return None if known else "have no rate (name a recording that has theirs by --like)"


def _wav(samples: Samples, out: Path) -> None:
    """One after another, in floating-point numbers; at the rate of `like`, else at that of the recordings."""
    from scipy.io import wavfile

    rate = samples.rate
    if samples.like is not None:
        try:
            rate, _ = wavfile.read(io.BytesIO(content(samples.like)))
        except Exception as error:  # a decoder may raise anything on damaged bytes
            raise ValueError(f"--like {samples.like}: cannot be read as .wav ({reason(error)})") from error
    wave = samples.x.float().permute(0, 2, 1).flatten(0, 1).numpy()
    _at_once(out, partial(wavfile.write, rate=rate, data=wave))


def _no_rows(samples: Samples) -> str | None:
    return None if len(samples.event_shape) == 1 else "are no rows of a table"


def _names(samples: Samples) -> list[str]:
    """Of the columns that the data had, else 0, 1, 2, ..."""
    (count,) = samples.event_shape
    return list(samples.columns) if len(samples.columns) == count else [str(k) for k in range(count)]


def _csv(samples: Samples, out: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t" if out.suffix.lower() == ".tsv" else ",", lineterminator="\n")
    writer.writerows((_names(samples), *samples.x.tolist()))
    write_file(out, lambda file: file.write(text.getvalue().encode()))


def _parquet(samples: Samples, out: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError(f"{out}: writing Parquet takes pyarrow: pip install 'scorefield[parquet]'") from error
    table = pa.table(dict(zip(_names(samples), samples.x.numpy().T, strict=True)))
    write_file(out, partial(pq.write_table, table))


def _no_volume(samples: Samples) -> str | None:
    one = len(samples.event_shape) in (3, 4) and samples.event_shape[0] == 1
    return None if one else "are no pictures or volumes of one channel"


def _in_a_format(write: Callable[[Tensor, Path, Path | None], None]) -> Callable[[Samples, Path], None]:
    """A writer of `scorefield.data.formats`, of the samples as they are, with what `like` says of itself."""

    def written(samples: Samples, out: Path) -> None:
        try:
            write(samples.x, out, samples.like)
        except ImportError as error:
            raise ValueError(f"{out}: writing it takes {error.name}: pip install 'scorefield[formats]'") from error

    return written


WRITERS = {
    ".png": Writer(_no_picture, _png),
    ".npz": Writer(_any, _npz),
    ".npy": Writer(_any, _npy),
    ".tif": Writer(_no_tiff, _tiff),
    ".tiff": Writer(_no_tiff, _tiff),
    ".wav": Writer(_no_recording, _wav, likes=True),
    ".csv": Writer(_no_rows, _csv),
    ".tsv": Writer(_no_rows, _csv),
    ".parquet": Writer(_no_rows, _parquet),
    ".nii": Writer(_no_volume, _in_a_format(formats.write_nifti), likes=True),
    ".nii.gz": Writer(_no_volume, _in_a_format(formats.write_nifti), likes=True),
    ".zarr": Writer(_any, _in_a_format(formats.write_zarr), likes=True),
    ".h5": Writer(_any, _in_a_format(formats.write_hdf5), likes=True),
    ".fits": Writer(_any, _in_a_format(formats.write_fits), likes=True),
}
