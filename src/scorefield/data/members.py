"""The files of a folder or an archive, read one by one; nothing is ever extracted to a path that an archive names."""

from __future__ import annotations

import contextlib
import os
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Generator, Iterator
from enum import Enum
from functools import partial
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


def reason(error: Exception) -> str:
    """What a decoder says of damaged bytes, in one line."""
    words = re.sub(r" <_io[^>]*>", "", str(error))  # Pillow names the buffer that it was given
    return " ".join(words.split())[:300] or type(error).__name__


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive."""
    return path.name.lower().endswith(ARCHIVES)


def names(path: Path, suffixes: tuple[str, ...]) -> list[PurePosixPath]:
    """Names of the files in a folder or an archive that have one of the suffixes; hidden ones are left out."""
    with readable(path):
        if path.is_dir():
            found = sorted(PurePosixPath(file.relative_to(path)) for file in _files(path))
        elif path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                found = sorted(_zipped(archive))
        else:
            with tarfile.open(path) as tape:
                found = [PurePosixPath(info.name) for info in tape if info.isreg()]
                _check_end(tape)
            check_different(found)
    return [name for name in found if name.name.lower().endswith(suffixes) and not _hidden(name)]


def members(
    path: Path, suffixes: tuple[str, ...], most: float | None = None
) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    """(name, function that reads the content) of the files that `names` lists, in that order.

    Args:
        path: of the folder or archive.
        suffixes: of the names.
        most: bytes of one file, by default 256 MiB; of more only the head is looked at.
    """
    wanted = names(path, suffixes)
    with readable(path):
        if path.is_dir():
            for name in wanted:
                yield name, partial(content, path / name, most)
        elif path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                known = _zipped(archive)
                for name in wanted:
                    yield name, partial(_content, archive.open, known[name], known[name].file_size, most)
        else:
            every = set(wanted)
            with tarfile.open(path) as tape:
                for info in tape:  # in the archive's own order: a compressed one cannot be read in another
                    if info.isreg() and (name := PurePosixPath(info.name)) in every:
                        yield name, partial(_content, tape.extractfile, info, info.size, most)


def classes(found: list[PurePosixPath]) -> dict[PurePosixPath, str]:
    """Class of each file: its outermost folder.

    Folders that hold everything do not count. Empty if not all files lie in folders.
    """
    parts = [name.parts for name in found]
    depth = 0
    while parts and all(len(p) > depth + 1 and p[depth] == parts[0][depth] for p in parts):
        depth += 1
    if any(len(p) < depth + 2 for p in parts):
        return {}
    return {name: p[depth] for name, p in zip(found, parts, strict=True)}


def empty_folders(path: Path, found: list[PurePosixPath]) -> list[str]:
    """Folders beside those of the classes in which no file was found."""
    if not path.is_dir():
        return []
    shared = PurePosixPath(os.path.commonpath([name.parent for name in found])).parts
    empty: list[str] = []
    for depth in range(len(shared) + 1):
        if any(len(name.parts) < depth + 2 for name in found):
            break  # not all lie in folders here, so that these are no classes
        beside = {entry.name for entry in path.joinpath(*shared[:depth]).iterdir() if entry.is_dir()}
        unknown = beside - {name.parts[depth] for name in found}
        empty += sorted("/".join((*shared[:depth], name)) for name in unknown if not _hidden(PurePosixPath(name)))
    return empty


def _zipped(archive: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    found = [(PurePosixPath(info.filename), info) for info in archive.infolist() if not info.is_dir()]
    check_different(name for name, _ in found)
    return dict(found)


def _hidden(name: PurePosixPath) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in name.parts)


@contextlib.contextmanager
def readable(path: Path) -> Generator[None]:
    """Turns what reading a damaged folder or archive raises into a ValueError that names it."""
    try:
        yield
    except TooLarge as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # a decoder may raise anything on damaged bytes
        raise ValueError(f"{path}: cannot be read ({reason(error)}): get another copy of it, or unpack it") from error


def _files(folder: Path) -> Iterator[Path]:
    """All files, those behind symbolic links to folders as well; links to nothing are named too, to be reported."""
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(root) in seen:
            folders.clear()  # a link that leads in a circle
            continue
        seen.add(os.path.realpath(root))
        found = (Path(root, name) for name in files)
        yield from (file for file in found if file.is_file() or not file.exists())  # no pipes: reading them waits


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
