"""Where numbers live: times and what follows from them in float64 on the host, states on any device in their own dtype.

There are devices without float64, Apple's GPUs among them, and small kernels on a GPU are slow. What is computed of
times is a few numbers; they are made on the host, and go to the states' device without waiting for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

WITHOUT_FLOAT64 = ("mps", "meta")  # tensors without values (meta) stand for those of any device


def double(t: Tensor) -> Tensor:
    """Times in float64: where they are, or on the host if their device has none."""
    if t.device.type not in WITHOUT_FLOAT64:
        return t.double()
    try:
        return t.cpu().double()
    except NotImplementedError:  # a tensor of meta has no values; any will do, since shapes alone are asked for
        return torch.ones_like(t, dtype=torch.float64, device="cpu")


def widest(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device without."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def widened(x: Tensor) -> Tensor:
    """The widest numbers of their device, for sums over data."""
    return x.to(widest(x.device))


def moved(value: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, which need not be waited for."""
    # Apple's backend reads the memory of such a copy after it may have gone to others (pytorch issue 189690)
    return value.to(device, non_blocking=device.type == "cuda")


def placed(value: Tensor, like: Tensor) -> Tensor:
    """The same in the dtype and on the device of `like`."""
    return value.to(like.device, like.dtype, non_blocking=like.is_cuda)
