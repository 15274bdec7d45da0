"""What class files are of, and which part of a data set: by their folders and names, or by lists beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from pathlib import Path

from scorefield.data.found import counted
from scorefield.data.lists import LISTS, Told, by_list, by_neighbour
from scorefield.data.members import ARCHIVES, Listing

TRAIN, VALIDATION, TEST = ("train", "training"), ("val", "valid", "validation", "dev"), ("test", "testing")
PARTS = {word: names[0] for names in (TRAIN, VALIDATION, TEST) for word in names}
PICTURES = "--reading.images"
STEPS = [10**k for k in range(1, 8)]  # files in each of the numbered folders of one series
Split = Callable[[str], list[str]]  # of a folder's name into its parts
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Sorting:
    """How the files of samples are sorted.

    Args:
        label: class of each file; empty without classes.
        part: train, val or test of each file; empty if the data set has no parts.
        by: what the classes were told by, in words.
        left: what was not taken for classes, and why.
        used: other files that were read for it.
    """

    label: Mapping[str, str] = field(default_factory=dict[str, str])
    part: Mapping[str, str] = field(default_factory=dict[str, str])
    by: str = ""
    left: tuple[str, ...] = ()
    used: frozenset[str] = frozenset()


def sort(
    listing: Listing,
    files: Sequence[str],
    labels: bool | None = None,
    pattern: str | None = None,
    column: str | None = None,
    option: str = PICTURES,
    most: float | None = None,
) -> Sorting:
    """The classes and parts of files.

    Classes are told by the first of these that there is: a pattern of their names; `dataset.json` of NVIDIA's
    dataset_tool; `metadata.csv` or `.jsonl` of the Hub; a `.cls` or `.json` of WebDataset for each file; the outermost
    folders in which not all lie. Folders train, val and test are parts, at any depth. Folders whose numbers go on as
    those of the files in them do hold one series, and are no classes.

    Args:
        listing: of all that is there.
        files: of samples.
        labels: False for no classes, True if the outermost folders are classes, whatever they are called.
        pattern: a regular expression with one group, the class, that is found in each name.
        column: of `metadata.csv`, `.jsonl` or a `.json` that has the classes; by default label, class or cls.
        option: what messages call the options that these are of. Folders of which it is not plain whether they are
            classes are refused for pictures, and classes for recordings.
        most: bytes of a list; see `members`.

    Raises:
        ValueError: a file has no class where others have, or a list is damaged, or folders could be classes or not.
    """
    split = _without_archive if listing.shards else _split
    if labels and pattern is None and column is None:
        return Sorting(_by_folder(files, split), by="folder")
    part, depth = _parts(files, split)
    below = split if depth is None else partial(_without, split, depth)
    if labels is False:
        return Sorting(part=part)
    if pattern is not None:
        told = Told(_by_pattern(files, pattern, listing.path), "the pattern of their names")
    else:
        told = by_list(listing, files, option, column, most) or Told()
        told = told if told.label else by_neighbour(listing, files, option, column, most) or told
    if not told.label and column is not None:
        raise ValueError(
            f"{listing.path}: has no list with a column {column!r}: {', '.join(LISTS[1:])}, or .json files"
        )
    if not told.label:
        told = replace(told, label=_by_folder(files, below), by="folder")
        if told.label and _is_series(told.label):
            count = counted(len(set(told.label.values())), "numbered folder")
            left = f"{count} of one series: no classes (unless {option}.labels true)"
            return Sorting(part=part, left=(*told.left, left), used=told.used)
    if labels is None and option == PICTURES:
        _check_plain(told, len(files), listing.path)
    return Sorting(told.label, part, told.by, told.left, told.used)


def _check_plain(told: Told, count: int, path: Path) -> None:
    """Refuses classes of which it is not plain that they are meant."""
    words = set(told.label.values())
    padded = all(word.isdigit() and len(word) > 4 for word in words) and len({len(word) for word in words}) == 1
    if words and ((padded and told.by == "folder") or len(words) == count > 2):
        why = "they are numbered" if len(words) < count else "each is of one file"
        raise ValueError(
            f"{path}: {len(words)} classes by {told.by} ({', '.join(sorted(words)[:3])}, ...) may not be meant, since "
            f"{why}: say {PICTURES}.labels true if they are, false if not"
        )


def in_order(words: Iterable[str]) -> tuple[str, ...]:
    """Names of classes in the order of their numbers: sorted, by value if all are numbers."""
    different = set(words)
    if all(NUMBER.fullmatch(word) for word in different):
        return tuple(sorted(different, key=lambda word: (Decimal(word), word)))
    return tuple(sorted(different))


def empty_folders(listing: Listing, files: Sequence[str]) -> list[str]:
    """Folders beside those of the files, at the depth of classes and above, in which no file was found."""
    found = _folders(files, _split)
    shared = _shared(found.values())
    beside = [name.split("/") for name in listing.folders]
    empty: list[str] = []
    for k in range(
        min(len(shared) + 1, *map(len, found.values()))
    ):  # where all lie in folders; else they are no classes
        known = {parts[k] for parts in found.values()}
        empty += ["/".join(p) for p in beside if len(p) == k + 1 and p[:k] == shared[:k] and p[k] not in known]
    return empty


def _split(folder: str) -> list[str]:
    return folder.split("/") if folder else []


def _without_archive(folder: str) -> list[str]:
    """The parts of a folder in an archive."""
    parts = _split(folder)
    inside = next((k + 1 for k, part in enumerate(parts) if part.lower().endswith(ARCHIVES)), 0)
    return parts[inside:]


def _without(split: Split, depth: int, folder: str) -> list[str]:
    """The parts of a folder but for that at a depth."""
    parts = split(folder)
    del parts[depth]
    return parts


def _folders(files: Sequence[str], split: Split) -> dict[str, list[str]]:
    """The parts of each folder that files lie in, of which there are far fewer than of files."""
    return {folder: split(folder) for folder in {name.rpartition("/")[0] for name in files}}


def _shared(folders: Iterable[list[str]]) -> list[str]:
    """The outermost folders that all begin with."""
    every = list(folders)
    first, last = min(every), max(every)  # between which all others are
    same = [a == b for a, b in zip(first, last, strict=False)]
    return first[: [*same, False].index(False)]


def _by_folder(files: Sequence[str], split: Split) -> dict[str, str]:
    """Class of each file: its outermost folder of those that do not hold everything; empty if some lie in none."""
    folders = _folders(files, split)
    depth = len(_shared(folders.values()))
    if any(len(parts) < depth + 1 for parts in folders.values()):
        return {}
    return {name: folders[name.rpartition("/")[0]][depth] for name in files}


def _parts(files: Sequence[str], split: Split) -> tuple[dict[str, str], int | None]:
    """The part of a data set that each file is in, and the depth of the folders that tell."""
    folders = _folders(files, split)
    for depth in range(min(map(len, folders.values()))):
        words = {parts[depth].lower() for parts in folders.values()}
        if words <= PARTS.keys() and len({PARTS[word] for word in words}) > 1:
            return {name: PARTS[folders[name.rpartition("/")[0]][depth].lower()] for name in files}, depth
    return {}, None


def _is_series(folder: Mapping[str, str]) -> bool:
    """Whether the numbers of the folders go on with those of the files: 00002/img00002345.png, 02000/02345.png."""
    steps = set(STEPS)
    for name, word in folder.items():
        digits = re.search(r"(\d+)\D*$", name.rpartition("/")[2].partition(".")[0])
        if not (word.isascii() and word.isdigit() and digits):
            return False
        place, number = int(word), int(digits[1])
        steps -= {step for step in steps if place not in (number // step, number // step * step)}
        if not steps:
            return False
    return True


def _by_pattern(files: Sequence[str], pattern: str, path: Path) -> dict[str, str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} is no regular expression: {error}") from error
    if compiled.groups != 1:
        raise ValueError(f"the pattern {pattern!r} must have one group in brackets, the class; got {compiled.groups}")
    label: dict[str, str] = {}
    for name in files:
        if (match := compiled.search(name)) is None or not match[1]:
            raise ValueError(f"{path}: the pattern {pattern!r} finds no class in {name}")
        label[name] = match[1]
    return label
