"""Data, devices, seeds and output files from what the user typed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL.Image import Image
from torch import Tensor

from scorefield import data, plot
from scorefield._files import held, is_at, not_a_link, sweep, write_file
from scorefield._text import printable
from scorefield.cli.parts.measuring import load_values
from scorefield.cli.parts.reading import Reading, as_own
from scorefield.data import ArrayDataset, Rows
from scorefield.model import ClassifierModel, ScoreModel
from scorefield.training import distributed

typed: ContextVar[Sequence[str]] = ContextVar("typed", default=())  # the words of the command in hand

NAMED: dict[str, Callable[[], ArrayDataset]] = {
    "digits": data.digits,
    "two_moons": data.two_moons,
    "checkerboard": data.checkerboard,
    "rings": data.rings,
    "mixture": data.mixture,
}


class Precision(Enum):
    """Number format of the network's arithmetic."""

    float32 = None
    bfloat16 = torch.bfloat16


def load_data(
    source: str,
    how: Reading,
    limit: int | None = None,
    folder: Path | None = None,
    option: str = "--data",
    aside: bool = True,
) -> ArrayDataset:
    """A data set by its name, or from its path, with a line of what was found there; errors name the option."""
    if source in NAMED:
        if Path(source).exists():
            raise ValueError(f"{option} {source}: a file or folder and a data set have this name: write ./{source}")
        loaded = NAMED[source]()
    elif not Path(source).exists():
        raise FileNotFoundError(f"{option} {source}: neither a file nor a folder nor one of {', '.join(NAMED)}")
    else:
        loaded = data.read(
            source,
            images=how.images,
            table=how.table,
            audio=how.audio,
            broken=how.broken,
            levels=how.levels,
            axes=how.axes,
            limit=limit,
            folder=folder,
            largest=how.largest,
        )
    if distributed.rank() == 0:  # beside the results, not among them, unless it is one
        print(printable(f"found in {source}: {loaded.found}"), file=sys.stderr if aside else sys.stdout)
    return loaded


def for_model(model: ScoreModel, loaded: ArrayDataset, source: str, option: str = "--data") -> ArrayDataset:
    """Data with the model's numbers of classes; data of other events than the model's are refused."""
    if loaded.event_shape != model.event_shape:
        raise ValueError(
            f"{option} {source}: the model is of events of shape {model.event_shape}; got {loaded.event_shape}"
        )
    if model.transform.levels is None and loaded.levels is not None:
        raise ValueError(f"{option} {source}: holds integers, the model is of real numbers: convert as in its training")
    if model.transform.levels is not None and loaded.levels is None:
        raise ValueError(f"{option} {source}: holds real numbers, the model is of integers: convert as in its training")
    if loaded.classes and model.classes and bool(loaded.class_names) != bool(model.class_names):
        unnamed = "the model" if loaded.class_names else source
        warnings.warn(f"the classes of {unnamed} have no names: they are taken by their numbers", stacklevel=2)
    return loaded.renumbered(model.class_names)


def load_rows(model: ScoreModel, source: str, how: Reading, use_labels: bool, limit: int | None) -> Rows:
    """The first rows of data for a model, without their labels unless these are wanted."""
    if limit is not None and limit < 1:
        raise ValueError(f"--limit must be at least 1; got {limit}")
    how, use_labels = as_own(how, model.about, source), use_labels or model.needs_label
    if not use_labels and how.table.columns:
        how = replace(how, table=replace(how.table, label=None))  # which the table need not have
    loaded = load_data(source, how, limit)
    if use_labels and not loaded.classes:
        why = "the model was trained with labels alone" if model.needs_label else "--use_labels true"
        raise ValueError(f"{why}: the data {source} have no labels")
    loaded = for_model(model, loaded if use_labels else loaded.unlabelled(), source)
    return loaded.rows(torch.arange(len(loaded) if limit is None else min(limit, len(loaded))))


def load_conditions(path: Path, count: int) -> Tensor:
    """Real conditions from a .npy file: a row for each of some samples, or one for all."""
    if path.suffix != ".npy":
        raise ValueError(f"--cond {path}: wanted a .npy file of numbers")
    rows = load_values(path)
    if rows.is_complex() or rows.ndim == 0 or len(rows) not in (1, count):
        raise ValueError(
            f"--cond {path}: wanted real numbers in one row for each of {count} samples, or one row for all; got shape "
            f"{tuple(rows.shape)}"
        )
    return rows


def parse_label(model: ScoreModel | ClassifierModel, label: str) -> int:
    """A class by its name, or by its number if the classes have no names."""
    if not model.class_names:
        if not re.fullmatch(r"-?[0-9]+", label):
            raise ValueError(f"--label {label}: the model's classes have no names; give a number below {model.classes}")
        number = int(label)
    elif label not in model.class_names:
        raise ValueError(f"--label {label}: wanted one of {', '.join(model.class_names)}")
    else:
        number = model.class_names.index(label)
    if number in model.about.get("unseen", ()):
        raise ValueError(f"--label {label}: the training had no sample of this class, so that the model cannot draw it")
    return number


def parse_device(device: str) -> torch.device:
    """`auto` is a GPU if there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = distributed.local_device(torch.device(device))
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: cannot be used here ({str(error).splitlines()[0]}): try cpu") from error
    return chosen


def parse_seeds(text: str) -> list[int]:
    """`0-63`, `7`, or `1,5,10-12`."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]+)(?:-([0-9]+))?\s*", part)
        if match is None:
            raise ValueError(f"--seeds {text}: wanted numbers and ranges such as 0-63 or 1,5,10-12")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= 10_000_000:
            raise ValueError(f"--seeds {text}: a range goes from a smaller to a larger number, 10 million at most")
        seeds.extend(range(first, last + 1))
    return seeds


@contextlib.contextmanager
def directory(path: Path, files: Sequence[str] = (), folders: Sequence[str] = ()) -> Generator[None]:
    """A directory to write into, made if need be; if the block fails, what was made and is still empty goes again.

    Args:
        path: of the directory.
        files: that will be written there.
        folders: that will be written into there.

    Raises:
        OSError, ValueError: something could not be written, since a folder or a link is in its place.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for place in (path, *(not_a_link(path / name) for name in folders)):
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(f"--out: {place} is a file, where a folder is wanted: move it away")
        if place.exists() and not os.access(place, os.W_OK):
            raise PermissionError(f"--out: {place} cannot be written to")
    for name in files:
        if (path / name).is_dir():
            raise IsADirectoryError(f"--out: {path / name} is a folder, where a file is to be written: move it away")
    sweep(path)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in new:
                with held(folder):  # and not that of a command that has begun in the meantime
                    folder.rmdir()
        raise


@contextlib.contextmanager
def locked(path: Path) -> Generator[None]:
    """Keeps other commands that want the directory for themselves out; the processes of one command count as one."""
    while True:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if distributed.rank() == 0:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            said = f"--out {path}: another command is writing there: wait for its end, or end it"
            raise BlockingIOError(said) from None
        except OSError:
            pass  # the file system knows no locks
        if path.is_symlink() or is_at(descriptor, path):  # or else a command that failed has removed what it had made
            break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def check_target(out: Path, suffix: str) -> None:
    """Refuses an output file that could not be written, before any work is done."""
    if out.suffix != suffix or out.is_dir():
        raise ValueError(f"--out {out}: wanted the name of a {suffix} file")


def check_samples_target(out: Path, event_shape: Sequence[int]) -> Path:
    """The directory that samples go to; an output that samples of this shape could not be written to is refused."""
    if out.suffix == ".png" and not plot.is_image(event_shape, alpha=True) and tuple(event_shape) != (2,):
        raise ValueError(
            f"--out {out}: samples of shape {tuple(event_shape)} are no pictures: write .npz, or into a folder"
        )
    if out.suffix in (".png", ".npz"):
        check_target(out, out.suffix)
        return out.parent
    if out.suffix or out.is_file():
        raise ValueError(f"--out {out}: wanted a name that ends in .png or .npz, or a folder")
    return out


def save_samples(x: Tensor, levels: int | None, out: Path) -> None:
    """Writes samples as one picture (.png), as an array (.npz), or each by itself into a folder."""
    x = x.cpu()
    if out.suffix == ".npz":
        write_file(out, lambda file: np.savez(file, x=x.numpy()))
    elif out.suffix == ".png" and plot.is_image(x.shape[1:], alpha=True):
        save_picture(plot.image_grid(x, levels), out)
    elif out.suffix == ".png":
        save_figure(plot.scatter(x), out)
    else:
        for k, one in enumerate(x):
            if plot.is_image(one.shape, alpha=True):
                save_picture(plot.image_grid(one[None], levels, side=1, gap=0), out / f"{k:06d}.png")
            else:
                write_file(out / f"{k:06d}.npy", partial(np.save, arr=one.numpy()))


def save_picture(picture: Image, out: Path) -> None:
    """Writes a Pillow image as PNG."""
    write_file(out, partial(picture.save, format="PNG"))


def save_figure(figure: Figure, out: Path) -> None:
    """Writes a matplotlib figure as PNG."""
    write_file(out, partial(figure.savefig, format="png", dpi=110))
