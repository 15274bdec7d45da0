"""What is said when memory runs out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from scorefield._memory import size

# in a RuntimeError of torch's allocators and of drivers, or an OSError of mmap and fork
SAID = re.compile("out of memory|can(no|')t allocate memory|bad_alloc|ALLOC_FAILED", re.IGNORECASE)
WANTED = re.compile(r"allocate ([\d.]+) ?(\w+)")
REMEDIES = {
    "batch_size": "a lower --{}",
    "accumulate": "a higher --{}",
    "limit": "a lower --{}",
    "samples": "a lower --{}",
    "seeds": "fewer --{}",
}


def out_of_memory(error: Exception, command: Callable[..., None]) -> str | None:
    """A sentence that names the options of a command that need less, if an error says that memory ran out."""
    told = isinstance(error, RuntimeError | OSError) and SAID.search(str(error))
    if not told and not isinstance(error, MemoryError):
        return None
    wanted = ""
    if said := WANTED.search(str(error)):
        wanted = f" when {size(float(said[1])) if said[2] == 'bytes' else ' '.join(said.groups())} more were wanted"
    remedies = [REMEDIES[name.rpartition(".")[2]].format(name) for name in _options(command)]
    return f"out of memory{wanted}: {'give ' + ' or '.join(remedies) if remedies else 'end other programs'}"


def _options(command: Callable[..., Any]) -> list[str]:
    """Those of a command that have a remedy, by their names on the command line."""
    found: list[str] = []
    for name, parameter in inspect.signature(command).parameters.items():
        parts = [f"{name}.{f.name}" for f in fields(parameter.default)] if is_dataclass(parameter.default) else [name]
        found += [part for part in parts if part.rpartition(".")[2] in REMEDIES]
    return found
