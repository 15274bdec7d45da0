"""The one place where torch's global generator is used: initial weights and dropout, which torch draws from it."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Generator

import torch

_TURN = threading.RLock()


@contextlib.contextmanager
def seeded(*seed: int, device: torch.device | None = None) -> Generator[None]:
    """Seeds torch's generators inside the block and puts them back as they were afterwards.

    Threads take turns, since they share the generators: blocks give the same numbers in any of them. What other threads
    draw from the generators without this while the block runs is seeded with it.

    Args:
        seed: one or more integers; each sequence is a seed of its own.
        device: the GPU whose generator is meant beside the CPU's; by default none.
    """
    value = int.from_bytes(hashlib.blake2b(repr(seed).encode(), digest_size=8).digest(), "big")
    devices = [device] if device is not None and device.type == "cuda" else []
    with _TURN, torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(value)
        if devices:
            with torch.cuda.device(devices[0]):
                torch.cuda.manual_seed(value)
        yield
