"""Checkpoints that survive a crash at any moment."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from scorefield._files import discard, not_a_link, read_json, sweep, unfinished_directory

MANIFEST = "manifest.json"
STEP = re.compile("[0-9]{9,}")  # the names of checkpoints: folders of others are left alone


class Checkpoints:
    """Directories named by their step, each with a manifest of its files' sizes and SHA-256.

    One is written under another name, flushed to the disk and then renamed, so that under its own name it is complete.

    Args:
        folder: where they lie.
        keep: number of the newest that are kept, >= 1.

    Raises:
        ValueError: `keep` is below 1, or the folder is a link: what is removed from it would be someone else's.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1; got {keep}")
        self.folder, self.keep = not_a_link(folder), keep

    def save(self, step: int, write: Callable[[Path], object]) -> Path:
        """Makes the checkpoint of a step by `write`, which is given a directory to write files into."""
        not_a_link(self.folder).mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        path = self.folder / f"{step:09d}"
        with unfinished_directory(path) as part:
            write(part)
            files = {file.name: _fingerprint(file) for file in sorted(part.iterdir())}
            (part / MANIFEST).write_text(json.dumps({"files": files}, indent=2) + "\n")
            for file in (*part.iterdir(), part):
                _flush(file)
            discard(path)
            part.rename(path)
            _flush(self.folder)
        self.tidy(step)
        return path

    def tidy(self, step: int) -> None:
        """Removes those beyond a step, all but the newest of the others, and what killed writers have left."""
        sweep(not_a_link(self.folder))
        beyond = [p for p in self.all() if int(p.name) > step]  # damaged, or the run went back behind them
        for other in (*beyond, *self.all()[len(beyond) + self.keep :]):
            discard(other)

    def newest(self) -> Path | None:
        """The newest checkpoint that is sound; damaged ones are named by a warning. None if there is none at all.

        Raises:
            ValueError: there are checkpoints, but all are damaged.
        """
        for path in self.all():
            fault = next(_faults(path), None)
            if fault is None:
                return path
            warnings.warn(f"{path}: passed over, since {fault}", stacklevel=2)
        if self.all():
            raise ValueError(f"{self.folder}: all checkpoints are damaged: begin another run")
        return None

    def all(self) -> list[Path]:
        """The checkpoints, newest first, damaged ones among them."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        folders = [path for path in found if path.is_dir() and not path.is_symlink()]
        return sorted((path for path in folders if STEP.fullmatch(path.name)), key=lambda path: int(path.name))[::-1]


def _faults(path: Path) -> Iterator[str]:
    """What is wrong with a checkpoint."""
    try:
        files = read_json((path / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, wanted in files.items():
            if Path(name).name != name or not (path / name).is_file():
                yield f"{name} is missing"
            elif _fingerprint(path / name) != wanted:
                yield f"{name} is not what was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"its {MANIFEST} cannot be read ({error})"


def _fingerprint(file: Path) -> dict[str, int | str]:
    with file.open("rb") as opened:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}


def _flush(path: Path) -> None:
    """Waits until a file or directory is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
