"""The files of a folder or an archive, read one by one; nothing is ever extracted to a path that an archive names."""

from __future__ import annotations

import contextlib
import os
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Container, Generator, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

from scorefield._memory import TooLarge, check_unpacked
from scorefield._unpacking import check_different

LARGEST = 256 << 20  # bytes of one file, unless more are allowed
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class Broken(Enum):
    """What to do with files that cannot be read: stop, or go on without them and say which."""

    refuse = "refuse"
    skip = "skip"

    def meet(self, name: str, error: Exception) -> None:
        """Refuses a file that could not be read, or warns that it is skipped."""
        why = reason(error)
        if self is Broken.refuse:
            raise ValueError(
                f"{name}: cannot be read ({why}): repair or remove it, or skip such files: --reading.broken skip"
            ) from error
        warnings.warn(f"{name}: skipped ({why})", stacklevel=3)


@dataclass(frozen=True)
class Listing:
    """What one look at a folder or an archive has found in it.

    Args:
        path: of the folder or archive.
        files: their names, in the order in which they are read; hidden ones are left out.
        folders: their names, those of hidden ones left out.
        outside: links that lead out of the folder, which are not followed.
        links: to folders inside of it, whose files are read where they lie.
        shards: archives in the folder whose files count as its own.
    """

    path: Path
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    shards: tuple[Listing, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of all files; those in a shard begin with its name: "00012.tar/0001.png"."""
        inside = (
            f"{place}/{name}"
            for shard in self.shards
            for place in [shard.path.relative_to(self.path).as_posix()]
            for name in shard.files
        )
        return (*self.files, *inside)

    def ending(self, suffixes: tuple[str, ...]) -> list[str]:
        """The names that have one of the suffixes, in whichever case."""
        return [name for name in self.names if name.lower().endswith(suffixes)]


def reason(error: Exception) -> str:
    """What a decoder says of damaged bytes, in one line."""
    words = re.sub(r" <_io[^>]*>", "", str(error))  # Pillow names the buffer that it was given
    return " ".join(words.split())[:300] or type(error).__name__


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive."""
    return path.name.lower().endswith(ARCHIVES)


def ending(name: str) -> str:
    """The suffix of a name in lower case."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a path for each of a million names takes seconds


def listed(path: Path, suffixes: Container[str] = ()) -> Listing:
    """The files of a folder or an archive.

    Args:
        path: of the folder or archive.
        suffixes: of samples. A folder without any of these is that of the files in its archives, if it has archives.
    """
    with readable(path):
        if not path.is_dir():
            return Listing(path, tuple(_zipped(path) if path.suffix.lower() == ".zip" else _taped(path)))
        found = _walked(path)
    if any(ending(name) in suffixes for name in found.files):
        return found
    shards = [name for name in found.files if name.lower().endswith(ARCHIVES)]
    others = tuple(name for name in found.files if not name.lower().endswith(ARCHIVES))
    return replace(found, files=others, shards=tuple(listed(path / name) for name in shards))


def members(
    path: Path | Listing, wanted: Container[str], most: float | None = None
) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    """(name, function that reads the content) of files in a folder or an archive, in the order of their listing.

    Args:
        path: of the folder or archive, or what was found there.
        wanted: suffixes of the names, or whole names.
        most: bytes of one file, by default 256 MiB; of more only the head is looked at.
    """
    found = path if isinstance(path, Listing) else listed(path)
    with readable(found.path):
        yield from _members(found, wanted, most)
    names = iter(found.names[len(found.files) :])
    for shard in found.shards:
        whole = {own: next(names) for own in shard.files}
        chosen = {own: name for own, name in whole.items() if _is(name, wanted)}
        for own, read in members(shard, chosen, most) if chosen else ():
            yield PurePosixPath(chosen[str(own)]), read


def _members(
    found: Listing, wanted: Container[str], most: float | None
) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    if found.path.is_dir():
        for name in found.files:
            if _is(name, wanted):
                yield PurePosixPath(name), partial(content, found.path / name, most)
    elif found.path.suffix.lower() == ".zip":
        with zipfile.ZipFile(found.path) as archive:
            known = {_plain(info.filename): info for info in archive.infolist() if not info.is_dir()}
            for name in found.files:
                if _is(name, wanted):
                    yield PurePosixPath(name), partial(_content, archive.open, known[name], known[name].file_size, most)
    else:
        with tarfile.open(found.path) as tape:
            for info in _tape(tape):  # in the archive's own order: a compressed one cannot be read in another
                name = _plain(info.name)
                if info.isreg() and _is(name, wanted) and not _hidden(name):
                    yield PurePosixPath(name), partial(_content, tape.extractfile, info, info.size, most)


def _is(name: str, wanted: Container[str]) -> bool:
    return name in wanted or ending(name) in wanted


def _zipped(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = [_plain(info.filename) for info in archive.infolist() if not info.is_dir()]
    check_different(names)
    return sorted((name for name in names if not _hidden(name)), key=_by_parts)


def _taped(path: Path) -> list[str]:
    with tarfile.open(path) as tape:
        names = [_plain(info.name) for info in _tape(tape) if info.isreg()]
        _check_end(tape)
    check_different(names)
    return [name for name in names if not _hidden(name)]


def _tape(tape: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members one by one, of which `tarfile` itself would keep all."""
    while (info := tape.next()) is not None:
        tape.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        yield info


def _plain(name: str) -> str:
    """A name in an archive as a path: without points and slashes that say nothing."""
    return str(PurePosixPath(name)) if "./" in name or "//" in name or name[-1:] in "./" else name


def _hidden(name: str) -> bool:
    if "/." not in name and name[:1] != "." and "__MACOSX" not in name:
        return False
    return any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in name.split("/"))


@contextlib.contextmanager
def readable(path: Path) -> Generator[None]:
    """Turns what reading a damaged folder or archive raises into a ValueError that names it."""
    try:
        yield
    except TooLarge as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # a decoder may raise anything on damaged bytes
        raise ValueError(f"{path}: cannot be read ({reason(error)}): get another copy of it, or unpack it") from error


def _walked(folder: Path) -> Listing:
    """What is in a folder. Links to nothing inside of it are files, to be reported; no pipes: reading them waits."""
    root = os.path.realpath(folder)
    files: list[str] = []
    folders: list[str] = []
    outside: list[str] = []
    links: list[str] = []
    waiting = [""]
    while waiting:
        place = waiting.pop()
        with os.scandir(os.path.join(root, place)) as entries:  # noqa: PTH118 - as in `ending`
            for entry in entries:
                name = place + entry.name
                if _hidden(entry.name):
                    continue
                if entry.is_symlink():
                    if os.path.commonpath((root, os.path.realpath(entry.path))) != root:
                        outside.append(name)
                    elif entry.is_dir():
                        links.append(name)
                    elif entry.is_file() or not os.path.exists(entry.path):  # noqa: PTH110
                        files.append(name)
                elif entry.is_dir():
                    folders.append(name)
                    waiting.append(f"{name}/")
                elif entry.is_file():
                    files.append(name)
    files, folders, outside, links = (sorted(some, key=_by_parts) for some in (files, folders, outside, links))
    return Listing(folder, tuple(files), tuple(folders), tuple(outside), tuple(links))


def _by_parts(name: str) -> str:
    """The order of names is that of their parts: a slash sorts before anything that a name can have."""
    return name.replace("/", "\0")


def _check_end(tape: tarfile.TarFile) -> None:
    """`tarfile` takes a damaged header for the end, which a block of zeros marks."""
    assert tape.fileobj is not None  # it was opened from a path
    tape.fileobj.seek(tape.offset)
    if tape.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it is damaged or cut short at byte {tape.offset}")


def content(file: Path, most: float | None = None) -> bytes:
    """All of a file, unless it is larger than it may be: see `members`."""
    return _content(file.open, "rb", file.stat().st_size, most)


def _content(open_file: Callable[..., Any], which: object, size: int, most: float | None) -> bytes:
    """All of a member of the size that its head claims, beyond which nothing is unpacked."""
    check_unpacked(size, "it", LARGEST if most is None else most)
    with open_file(which) as file:
        found: bytes = file.read(size + 1)
    if len(found) != size:
        raise ValueError(f"it holds {len(found)} bytes where {size} are claimed")
    return found
