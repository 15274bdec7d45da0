"""The files of a folder or an archive, read one by one; nothing is ever extracted to a path that an archive names."""

from __future__ import annotations

import contextlib
import lzma
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Generator, Iterator
from enum import Enum
from pathlib import Path, PurePosixPath

LARGEST = 256 << 20  # bytes of one file
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class Broken(Enum):
    """What to do with files that cannot be read: stop, or go on without them and say which."""

    refuse = "refuse"
    skip = "skip"

    def meet(self, name: str, error: Exception) -> None:
        """Refuses a file that could not be read, or warns that it is skipped."""
        if self is Broken.refuse:
            raise ValueError(
                f"{name}: cannot be read ({error}): repair or remove it, or let such files be skipped"
            ) from error
        warnings.warn(f"{name}: skipped ({error})", stacklevel=3)


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive."""
    return path.name.lower().endswith(ARCHIVES)


def names(path: Path, suffixes: tuple[str, ...]) -> list[PurePosixPath]:
    """Names of the files in a folder or an archive that have one of the suffixes; hidden ones are left out."""
    with _readable(path):
        if path.is_dir():
            found = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        elif path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                found = sorted(info.filename for info in archive.infolist() if not info.is_dir())
        else:
            with tarfile.open(path) as tape:
                found = [info.name for info in tape if info.isreg()]
    return [name for name in map(PurePosixPath, found) if name.suffix.lower() in suffixes and not _hidden(name)]


def members(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """(name, content) of the files that `names` lists, in that order."""
    wanted = names(path, suffixes)
    with _readable(path):
        if path.is_dir():
            for name in wanted:
                with (path / name).open("rb") as file:
                    yield name, _limited(file.read(LARGEST + 1), path, name)
        elif path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in wanted:
                    with archive.open(str(name)) as file:
                        yield name, _limited(file.read(LARGEST + 1), path, name)
        else:
            known = set(wanted)
            with tarfile.open(path) as tape:
                for info in tape:  # in the archive's own order: a compressed one cannot be read in another
                    if info.isreg() and (name := PurePosixPath(info.name)) in known:
                        file = tape.extractfile(info)
                        assert file is not None  # it is a plain file
                        yield name, _limited(file.read(LARGEST + 1), path, name)


def classes(found: list[PurePosixPath]) -> dict[PurePosixPath, int]:
    """Class of each file: the number of its outermost folder in the order of their names.

    Folders that hold everything do not count. Empty if not all files lie in folders.
    """
    parts = [name.parts for name in found]
    depth = 0
    while parts and all(len(p) > depth + 1 and p[depth] == parts[0][depth] for p in parts):
        depth += 1
    if any(len(p) < depth + 2 for p in parts):
        return {}
    number = {folder: k for k, folder in enumerate(sorted({p[depth] for p in parts}))}
    return {name: number[p[depth]] for name, p in zip(found, parts, strict=True)}


def _hidden(name: PurePosixPath) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in name.parts)


@contextlib.contextmanager
def _readable(path: Path) -> Generator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError, zlib.error, lzma.LZMAError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: cannot be read ({reason}): get another copy of it, or unpack it") from error


def _limited(content: bytes, path: Path, name: PurePosixPath) -> bytes:
    if len(content) > LARGEST:
        raise ValueError(f"{path}: {name} has more than {LARGEST >> 20} MiB")
    return content
