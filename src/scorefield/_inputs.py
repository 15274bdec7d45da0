"""What users give, as this library computes with it.

What is meant without a doubt is taken: numbers and arrays of NumPy, 20.0 for 20, an int for one seed or for one side, a
float for a time. The rest is refused by a line that says what was got, what was wanted and, where it is not plain, the
remedy.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64
from torch import Tensor

from scorefield._derivatives import lasting

Array = Tensor | npt.NDArray[Any]
Seeds = int | float | Iterable[int | float] | Array
Shape = int | Sequence[int]
Time = float | Array


def whole(value: object, name: str, least: int = 1) -> int:
    """A whole number, at least so much."""
    number: Any = value
    if isinstance(value, Tensor | np.ndarray | np.generic) and math.prod(value.shape) == 1:
        number = value.item()
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number // 1:  # so for NaN and inf
        raise ValueError(f"{name} must be a whole number; got {value!r}")
    if number < least:
        raise ValueError(f"{name} must be at least {least}; got {value}")
    return int(number)


def number(text: str) -> float:
    """The finite number that a text is: in the digits 0 to 9 alone, and without underscores, which `float` takes.

    Raises:
        ValueError: it is none.
    """
    plain = text.strip()
    if not plain.isascii() or "_" in plain or not math.isfinite(value := float(plain)):
        raise ValueError(f"wanted a finite number; got {text[:40]!r}")
    return value


def as_shape(shape: Shape, name: str = "event_shape") -> tuple[int, ...]:
    """The sides of an event."""
    sides = shape if isinstance(shape, Iterable) else (shape,)
    return tuple(whole(side, f"each side of {name}") for side in sides)


def as_seeds(seeds: Seeds) -> Int64[Tensor, "n"]:
    """One seed or several: integers of [2^63, 2^64) wrap around, so that every 64-bit pattern is a seed."""
    if isinstance(seeds, Tensor | np.ndarray):
        kind = str(seeds.dtype).removeprefix("torch.")
        if seeds.ndim > 1 or not kind.startswith(("int", "uint")):
            raise ValueError(f"seeds must be integers, one or a list of them; got {kind} of {tuple(seeds.shape)}")
        if isinstance(seeds, Tensor):
            return seeds.reshape(-1).to(torch.int64)
        seeds = seeds.ravel().tolist()
    values = [whole(seed, "a seed", -(2**63)) for seed in (seeds if isinstance(seeds, Iterable) else (seeds,))]
    if beyond := [value for value in values if value >= 2**64]:
        raise ValueError(f"a seed must lie in [-2^63, 2^64); got {beyond[0]}")
    return torch.tensor([value - 2**64 if value >= 2**63 else value for value in values], dtype=torch.int64)


def as_tensor(values: object, name: str) -> Tensor:
    """Numbers as a tensor; outside of inference mode one of which derivatives can be taken."""
    if isinstance(values, Tensor):
        return values if torch.is_inference_mode_enabled() else lasting(values)
    array = np.asarray(values)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"{name} must hold numbers; got {type(values).__name__} of dtype {array.dtype}")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:  # for which torch has few operations
        if array.size and int(array.max()) >= 2**63:
            raise ValueError(f"{name} must hold numbers below 2^63; got {array.max()}")
        array = array.astype(np.int64)
    elif array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("=")))


def matching(value: Tensor, x: Tensor, whose: object) -> Tensor:
    """What a model made of states, if it is of their shape: another would be broadcast, and the numbers be wrong."""
    if value.shape != x.shape:
        raise ValueError(
            f"{type(whose).__name__} returned shape {tuple(value.shape)} for states of shape {tuple(x.shape)}: wanted "
            f"the same, of events of shape {tuple(x.shape[1:])}"
        )
    return value


def check_event(x: Tensor, event_shape: Sequence[int], who: str, any_size: bool = False) -> None:
    """Refuses states of other events than (n, *event_shape), or with `any_size` of other channels or dimensions."""
    fits = x.shape[1:] == tuple(event_shape)
    if any_size:
        fits = x.ndim == len(event_shape) + 1 and x.shape[1] == event_shape[0]
    if not fits:
        like = f"like {tuple(event_shape)}, of any size" if any_size else f"of shape {tuple(event_shape)}"
        lone = ": a single one needs an axis before it, x[None]" if x.ndim == len(event_shape) else ""
        raise ValueError(f"{who} takes events {like}; got {tuple(x.shape[1:])} in {tuple(x.shape)}{lone}")


def meant(word: str, names: Iterable[str]) -> str:
    """Which names may have been meant by a word that is none of them: by its letters, else as a part of them."""
    plain, by_case = word.casefold(), {name.casefold(): name for name in names}
    found = [plain] if plain in by_case else difflib.get_close_matches(plain, by_case, cutoff=0.7)
    found = found or [name for name in by_case if len(plain) > 3 and plain in name][:3]
    return f": did you mean {' or '.join(by_case[name] for name in found)}?" if found else ""
