"""Long computations in parts: shared among processes, kept on disk, taken up again after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from scorefield._files import not_a_link, read_tensors, sweep, write_tensors
from scorefield.training import distributed

NAME = re.compile(r".+-[0-9a-f]{16}-\d{8}\.safetensors")  # of what `file` names


class Ledger:
    """A directory of finished parts, named by what they are parts of.

    Each process makes every n-th part and writes it as a file; all read all files, so that what is made of them is the
    same, to the bit, for any number of processes and after any number of kills.

    Args:
        folder: where the files are, which all processes share.
        progress: show a progress bar.

    Raises:
        ValueError: the folder is a link.
    """

    def __init__(self, folder: Path, progress: bool = False) -> None:
        self.folder, self.progress = not_a_link(folder), progress

    def file(self, name: str, about: object, first: int = 0) -> Path:
        """Where the part that begins with a row is kept, with a name that follows from all that it depends on."""
        not_a_link(self.folder).mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / f"{name.replace(' ', '_')}-{key}-{first:08d}.safetensors"

    def table(
        self, name: str, about: Mapping[str, Any], count: int, size: int, make: Callable[[range], Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Rows 0 .. count - 1 of named columns.

        Args:
            name: what it is, for people.
            about: all that the numbers depend on, as plain values: parts are used again only if it is the same.
            count: number of rows.
            size: rows in a part.
            make: these rows, from the number of each alone.
        """
        parts = [range(first, min(first + size, count)) for first in range(0, count, size)]
        files = {part: self.file(name, [about, count, size], part.start) for part in parts}
        own = [part for part in parts[distributed.rank() :: distributed.world()] if not files[part].exists()]
        for part in tqdm(own, name, disable=not self.progress, leave=False):
            write_tensors(files[part], make(part))
        distributed.wait()
        tables = [_read(files[part]) for part in parts]
        return {column: torch.cat([table[column] for table in tables]) for column in tables[0]}

    def close(self) -> None:
        """Removes the parts, once all that was made of them is safe, and the directory if nothing else is in it."""
        distributed.wait()
        if distributed.rank() == 0:
            for file in not_a_link(self.folder).glob("*"):
                if NAME.fullmatch(file.name):
                    file.unlink()
            sweep(self.folder)
            with contextlib.suppress(OSError):
                self.folder.rmdir()


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return read_tensors(file)[0]
    except ValueError as error:
        raise ValueError(f"{error}: delete this file, and the same command makes it again") from error
