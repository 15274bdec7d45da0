"""What class files are of, and which part of a data set: by their folders and names, or by lists beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from scorefield.data.found import counted
from scorefield.data.lists import LISTS, Told, by_list, by_neighbour
from scorefield.data.members import ARCHIVES, Listing

TRAIN, VALIDATION, TEST = ("train", "training"), ("val", "valid", "validation", "dev"), ("test", "testing")
PARTS = {word: names[0] for names in (TRAIN, VALIDATION, TEST) for word in names}
PICTURES = "--reading.images"
STEPS = [10**k for k in range(1, 8)]  # files in each of the numbered folders of one series
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
    plain = {name: _without_archive(name) for name in files}
    if labels and pattern is None and column is None:
        return Sorting(_by_folder(plain), by="folder")
    part, plain = _parts(plain)
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
        told = replace(told, label=_by_folder(plain), by="folder")
        if told.label and _is_series(plain, told.label):
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
    found = [name.split("/") for name in files]
    depth = _shared(found)
    empty: list[str] = []
    for k in range(depth + 1):
        if any(len(parts) < k + 2 for parts in found):
            break  # not all lie in folders here, so that these are no classes
        known = {parts[k] for parts in found}
        beside = (name.split("/") for name in listing.folders)
        empty += ["/".join(p) for p in beside if len(p) == k + 1 and p[:k] == found[0][:k] and p[k] not in known]
    return empty


def _without_archive(name: str) -> list[str]:
    """The parts of a name behind that of the archive that it is in."""
    parts = name.split("/")
    inside = next((k + 1 for k, part in enumerate(parts[:-1]) if part.lower().endswith(ARCHIVES)), 0)
    return parts[inside:]


def _shared(found: Sequence[Sequence[str]]) -> int:
    """Number of the outermost folders in which all files lie."""
    depth = 0
    while found and all(len(parts) > depth + 1 and parts[depth] == found[0][depth] for parts in found):
        depth += 1
    return depth


def _by_folder(plain: Mapping[str, list[str]]) -> dict[str, str]:
    """Class of each file: its outermost folder of those that do not hold everything; empty if some lie in none."""
    depth = _shared(list(plain.values()))
    if any(len(parts) < depth + 2 for parts in plain.values()):
        return {}
    return {name: parts[depth] for name, parts in plain.items()}


def _parts(plain: dict[str, list[str]]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The part of a data set that each file is in, and its name without the folder of the part."""
    for depth in range(min((len(parts) - 1 for parts in plain.values()), default=0)):
        words = {parts[depth].lower() for parts in plain.values()}
        if len({PARTS.get(word) for word in words} - {None}) > 1 and words <= PARTS.keys():
            part = {name: PARTS[parts[depth].lower()] for name, parts in plain.items()}
            return part, {name: parts[:depth] + parts[depth + 1 :] for name, parts in plain.items()}
    return {}, plain


def _is_series(plain: Mapping[str, list[str]], folder: Mapping[str, str]) -> bool:
    """Whether the numbers of the folders go on with those of the files: 00002/img00002345.png, 02000/02345.png."""
    pairs: list[tuple[int, int]] = []
    for name, word in folder.items():
        digits = re.search(r"(\d+)\D*$", plain[name][-1].partition(".")[0])
        if not (word.isascii() and word.isdigit() and digits):
            return False
        pairs.append((int(word), int(digits[1])))
    return any(all(k in (n // step, n // step * step) for k, n in pairs) for step in STEPS)


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
