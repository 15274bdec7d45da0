"""Pictures and recordings of a folder or an archive."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.audio import Audio, Signals
from scorefield.data.dataset import ArrayDataset
from scorefield.data.found import Found, classes_in_words, counted
from scorefield.data.images import SUFFIXES, Images, Reader, pictures
from scorefield.data.labels import Sorting, empty_folders, in_order, sort
from scorefield.data.members import Broken, Listing, ending, listed
from scorefield.data.stored import Stored, gather

SOUNDS = (".wav",)


def read_files(
    path: Path,
    images: Images,
    audio: Audio,
    broken: Broken,
    limit: int | None = None,
    folder: Path | None = None,
    most: float | None = None,
) -> ArrayDataset:
    """A data set of the pictures or of the recordings in a folder or an archive; the arguments are those of `read`."""
    listing = listed(path, (*SUFFIXES, *SOUNDS))
    found = {kind: listing.ending(kind) for kind in (SUFFIXES, SOUNDS)}
    if listing.outside:
        warnings.warn(
            f"{path}: {counted(len(listing.outside), 'link')} that lead out of it are not followed "
            f"({', '.join(listing.outside[:3])}): give the folder where they lead, or put the files in their place",
            stacklevel=3,
        )
    if not any(found.values()):
        raise ValueError(f"{path}: holds neither pictures ({', '.join(SUFFIXES)}) nor .wav files")
    if all(found.values()):
        raise ValueError(f"{path}: holds pictures and .wav files: separate them")
    if found[SOUNDS]:
        return _of_sounds(listing, found[SOUNDS], audio, broken, limit, folder, most)
    return _of_pictures(listing, found[SUFFIXES], images, broken, limit, folder, most)


def _of_pictures(
    listing: Listing,
    files: Sequence[str],
    images: Images,
    broken: Broken,
    limit: int | None,
    folder: Path | None,
    most: float | None,
) -> ArrayDataset:
    sorting = sort(listing, files, images.labels, images.pattern, images.column, most=most)
    taken, left = _parts_taken(listing, files, sorting)
    reader = Reader(images, most)
    rows = pictures(listing, frozenset(taken), reader, broken, most)
    gathered = Gathered.of(rows, listing.path, sorting, limit, folder)
    if reader.more:
        left.append(
            f"{counted(reader.more, 'further page or frame', 'further pages or frames')}: --reading.images.frames"
        )
    files_of = f" of {counted(reader.files, 'file')}" if len(gathered.x) != reader.files else ""
    assert reader.kind is not None
    what = f"{counted(len(gathered.x), 'picture')}{files_of} {reader.said}"
    return gathered.dataset(listing, sorting, what, left, reader.kind.levels, images)


def _of_sounds(
    listing: Listing,
    files: Sequence[str],
    audio: Audio,
    broken: Broken,
    limit: int | None,
    folder: Path | None,
    most: float | None,
) -> ArrayDataset:
    sorting = sort(listing, files, None if audio.labels else False, option="--reading.audio", most=most)
    taken, left = _parts_taken(listing, files, sorting)
    chosen = frozenset(taken)
    recordings = Signals(listing.path, audio, broken, most)
    gathered = Gathered.of((row for row in recordings if str(row[0]) in chosen), listing.path, sorting, limit, folder)
    what = f"{counted(len(gathered.x), 'piece')} of {counted(len(taken), 'recording')}, {recordings.rate} Hz"
    return gathered.dataset(listing, sorting, what, left, None, replace(audio, rate=recordings.rate))


def _parts_taken(listing: Listing, files: Sequence[str], sorting: Sorting) -> tuple[list[str], list[str]]:
    """The files to read, without those of a test set beside train and val, and what was left, in words."""
    others = Counter(ending(name) or "no ending" for name in listing.names)
    others -= Counter(ending(name) for name in (*files, *sorting.used))
    left = [f"{counted(count, 'file')} ({suffix})" for suffix, count in sorted(others.items())]
    left += [
        f"{counted(len(links), 'link')} {why}"
        for links, why in ((listing.outside, "that lead out"), (listing.links, "to folders inside"))
        if links
    ]
    if empty := empty_folders(listing, files):
        left.append(f"{counted(len(empty), 'folder')} without any ({', '.join(empty[:3])}): no class")
        if sorting.by == "folder":
            warnings.warn(
                f"{listing.path}: nothing that can be read lies in {', '.join(empty)}: no class", stacklevel=4
            )
    parts = Counter(sorting.part.values())
    if parts["train"] and parts["val"] and parts["test"]:
        left.append(f"{counted(parts['test'], 'file')} of the test set: its folder is data by itself")
        return [name for name in files if sorting.part[name] != "test"], left + list(sorting.left)
    return list(files), left + list(sorting.left)


class Gathered(NamedTuple):
    """Samples with what is known of each.

    Attributes:
        x: (n, *event).
        label: number of the class of each, if there are classes.
        held: whether each is of the part that is held out.
        names: of the classes.
    """

    x: Tensor | Stored
    label: list[int]
    held: list[bool]
    names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        rows: Iterable[tuple[str | PurePosixPath, NDArray[Any]]],
        path: Path,
        sorting: Sorting,
        limit: int | None,
        folder: Path | None,
    ) -> Gathered:
        """All rows, or the first of them, of files that are sorted into classes and parts."""
        names = in_order(sorting.label.values())
        number = {name: k for k, name in enumerate(names)}
        label: list[int] = []
        held: list[bool] = []
        train = "train" in sorting.part.values()

        def samples() -> Iterator[NDArray[Any]]:
            for name, values in itertools.islice(rows, limit):
                if names:
                    label.append(number[sorting.label[str(name)]])
                held.append(train and sorting.part[str(name)] != "train")
                yield values

        x = gather(samples(), folder)
        if not len(x):
            raise ValueError(f"{path}: no sample is left: all were skipped, or are shorter than the length of an event")
        return cls(x, label, held, names)

    def dataset(
        self,
        listing: Listing,
        sorting: Sorting,
        what: str,
        left: Sequence[str],
        levels: int | None,
        how: Images | Audio,
    ) -> ArrayDataset:
        """As a data set, in words as well."""
        classes = [classes_in_words(self.names, sorting.by)] if self.names else ["no classes"]
        count = sum(self.held)
        kept = [f"{counted(count, 'sample')} to hold out by folder"] if count else []
        shards = [f"in {counted(len(listing.shards), 'archive')}"] if listing.shards else []
        return ArrayDataset(
            self.x,
            torch.tensor(self.label, dtype=torch.int64) if self.names else None,
            levels=levels,
            classes=len(self.names),
            class_names=self.names,
            name=str(listing.path),
            how=how,
            found=Found("; ".join((what, *shards, *classes, *kept)), tuple(left)),
            held=torch.tensor(self.held) if count else None,
        )
