"""Several processes as one, started by torchrun."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Generator
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

Value = TypeVar("Value")


@contextlib.contextmanager
def joined() -> Generator[None]:
    """Inside the block this process is one of those that torchrun has started, if any: NCCL on GPUs, gloo otherwise."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    # The group's threads must end here: while the interpreter shuts down they would abort the process. So nothing may
    # hold the group any more, and this module's functions hold as their default one that exists at its first import.
    import torch.distributed.nn as _  # noqa: F401

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, number, count = next(iter(dist.rendezvous("env://")))  # pyright: ignore[reportPrivateImportUsage]
    # torchrun's store outlives a restart of the processes, whose addresses must not be taken for the new ones
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"scorefield/{attempt}", store)  # pyright: ignore[reportPrivateImportUsage]
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count)
    try:
        yield
    finally:
        gc.collect()  # DistributedDataParallel, which holds the group by a cycle
        dist.destroy_process_group()


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0; the first one writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_device(device: torch.device) -> torch.device:
    """This process's own GPU, if a GPU without a number is asked for."""
    if device == torch.device("cuda") and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def share(count: int, k: int, parts: int) -> range:
    """The k-th of nearly equal, consecutive parts of 0 .. count - 1."""
    return range(count * k // parts, count * (k + 1) // parts)


def total(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if world() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def mine(rows: Tensor) -> Tensor:
    """This process's share of some rows.

    Raises:
        ValueError: there are fewer rows than processes.
    """
    if len(rows) < world():
        raise ValueError(f"{len(rows)} samples cannot be shared among {world()} processes: start fewer")
    part = share(len(rows), rank(), world())
    return rows[part.start : part.stop]


def gathered(value: Value) -> list[Value] | None:
    """Every process's value in the first one, None in the others."""
    if world() == 1:
        return [value]
    values: list[Value] = [value] * world()
    dist.gather_object(value, values if rank() == 0 else None)
    return values if rank() == 0 else None


def wait() -> None:
    """Waits for all processes."""
    total(torch.zeros(1))
