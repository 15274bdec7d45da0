"""Data as scorefield sees them: rows addressed by their index."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

MOST_CLASSES = 1_000_000  # that are counted from the labels


class Rows(NamedTuple):
    """Some samples in the data's own units, and the conditions that go with them."""

    x: Tensor
    cond: dict[str, Tensor]


@runtime_checkable
class Dataset(Protocol):
    """Samples of one shape.

    Attributes:
        event_shape: shape of one sample.
        classes: number of classes, 0 without labels.
        levels: number of values 0, 1, ... of discrete data; None for real numbers.
    """

    event_shape: tuple[int, ...]
    classes: int
    levels: int | None

    def __len__(self) -> int: ...

    def rows(self, index: Int64[Tensor, "b"]) -> Rows:
        """The samples of these indices; conditions are named `label` and `cond`."""
        ...


class ArrayDataset:
    """A data set in memory.

    Args:
        x: (n, *event), finite; integers 0 .. levels - 1 for discrete data.
        label: (n,) integers from 0, or None.
        cond: (n, features) real conditions, or None.
        levels: number of values of discrete data, None for real numbers.
        classes: number of classes; by default one more than the largest label.
        name: what messages call it.
    """

    def __init__(
        self,
        x: Tensor,
        label: Tensor | None = None,
        cond: Tensor | None = None,
        levels: int | None = None,
        classes: int | None = None,
        name: str = "data",
    ) -> None:
        if x.ndim < 1 or len(x) == 0 or x[0].numel() == 0:
            raise ValueError(f"{name} is empty: its shape is {tuple(x.shape)}")
        if x.is_complex():
            raise ValueError(f"{name} is complex: give real and imaginary parts as two channels")
        if not bool(torch.isfinite(x).all()):
            raise ValueError(
                f"{name} holds {int((~torch.isfinite(x)).sum())} values that are NaN or infinite: remove them first"
            )
        if levels is not None and (x.is_floating_point() or int(x.min()) < 0 or int(x.max()) >= levels):
            raise ValueError(
                f"{name} must hold integers from 0 to {levels - 1}; got {x.dtype} from {x.min()} to {x.max()}"
            )
        for what, rows in (("label", label), ("cond", cond)):
            if rows is not None and (rows.ndim == 0 or len(rows) != len(x)):
                got = "a single number" if rows.ndim == 0 else f"{len(rows)} rows"
                raise ValueError(f"{name} has {len(x)} samples but {got} of `{what}`")
        if label is not None:
            if label.ndim != 1 or label.is_floating_point() or label.is_complex() or int(label.min()) < 0:
                got = f"a smallest of {int(label.min())}" if label.dtype == torch.int64 else str(label.dtype)
                raise ValueError(
                    f"the labels of {name} must be a list of integers from 0; got {got}, shape {tuple(label.shape)}"
                )
            most = MOST_CLASSES if classes is None else classes
            if int(label.max()) >= most:
                raise ValueError(
                    f"the labels of {name} go to {int(label.max())}, beyond its {most} classes: number them from 0"
                )
        if cond is not None and (not cond.is_floating_point() or not bool(torch.isfinite(cond).all())):
            raise ValueError(f"the conditions `cond` of {name} must be finite real numbers; got {cond.dtype}")
        self.x, self.levels, self.name = x, levels, name
        self.event_shape = tuple(x.shape[1:])
        self.classes = 0 if label is None else classes if classes is not None else int(label.max()) + 1
        self._cond = {
            k: v for k, v in (("label", None if label is None else label.long()), ("cond", cond)) if v is not None
        }

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Int64[Tensor, "b"]) -> Rows:
        """The samples of these indices."""
        index = index.to(self.x.device)
        return Rows(self.x[index], {name: values[index] for name, values in self._cond.items()})

    def subset(self, index: Int64[Tensor, "m"]) -> ArrayDataset:
        """A data set of these rows alone."""
        x, cond = self.rows(index)
        return ArrayDataset(x, cond.get("label"), cond.get("cond"), self.levels, self.classes or None, self.name)


def split(data: ArrayDataset, held_out: float, seed: int = 0) -> tuple[ArrayDataset, ArrayDataset]:
    """A random split into training and held-out rows.

    Args:
        data: at least two rows.
        held_out: share of the rows held out, in (0, 1); at least one row.
        seed: of the split.
    """
    count = max(1, round(held_out * len(data))) if 0 < held_out < 1 else 0
    if not 0 < count < len(data):
        raise ValueError(
            f"held_out must be a share in (0, 1) that leaves rows to train on; got {held_out} of {len(data)}"
        )
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return data.subset(order[count:]), data.subset(order[:count])
