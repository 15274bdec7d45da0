"""Less memory than there is, for tests of what happens then."""

from __future__ import annotations

import contextlib
import gc
import resource
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def memory_left(count: int) -> Iterator[None]:
    """Within it this process may take so many bytes more (of address space, on Linux)."""
    gc.collect()  # what is freed within counts as left
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
