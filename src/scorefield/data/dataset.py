"""Data as scorefield sees them: rows addressed by their index."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from scorefield._inputs import Array, as_tensor, whole
from scorefield.data.audio import Audio
from scorefield.data.found import Found, counted
from scorefield.data.images import Images
from scorefield.data.stored import Stored
from scorefield.data.tables import Table

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
    """A data set in memory, or of which only the labels and conditions are.

    Args:
        x: (n, *event), finite; integers 0 .. levels - 1 for discrete data. A `Stored` array is checked when it is read.
        label: (n,) integers from 0, or None.
        cond: (n, features) real conditions, or None.
        levels: number of values of discrete data, None for real numbers.
        classes: number of classes; by default one more than the largest label.
        class_names: of the classes in the order of their numbers, if they have names.
        name: what messages call it.
        how: the pictures, recordings or table that it was read from, as what: all that was left open is filled in.
        found: what was taken of what there was; by default what the samples are.
        held: (n,) whether each sample is of the part that a split holds out; by default a split draws them.
    """

    def __init__(
        self,
        x: Array | Stored,
        label: Array | Sequence[int] | None = None,
        cond: Array | None = None,
        levels: int | None = None,
        classes: int | None = None,
        class_names: Sequence[str] = (),
        name: str = "data",
        how: Images | Table | Audio | None = None,
        found: Found | None = None,
        held: Tensor | None = None,
    ) -> None:
        x = as_tensor(x, name) if isinstance(x, np.ndarray) else x
        label = None if label is None else as_tensor(label, f"the label of {name}")
        cond = None if cond is None else as_tensor(cond, f"the cond of {name}")
        levels = None if levels is None else whole(levels, "levels", 2)
        if len(x.shape) < 1 or math.prod(x.shape) == 0:
            raise ValueError(f"{name} is empty: its shape is {tuple(x.shape)}")
        if levels is None and not x.dtype.is_floating_point and not x.dtype.is_complex:
            levels = {torch.uint8: 256, torch.bool: 2}.get(x.dtype)
            if levels is None:
                raise ValueError(f"{name} holds {x.dtype}: say how many levels such integers have, or give x.float()")
            x = x.to(torch.uint8) if isinstance(x, Tensor) else x
        self.name, self.levels, self.how, self.held = name, levels, how, held
        if isinstance(x, Tensor):
            self._check(x)
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
        if cond is not None and not cond.is_floating_point() and not cond.is_complex():
            cond = cond.to(torch.get_default_dtype())
        if cond is not None and (cond.is_complex() or not bool(torch.isfinite(cond).all())):
            raise ValueError(f"the conditions `cond` of {name} must be finite real numbers; got {cond.dtype}")
        self.x = x
        self.event_shape = tuple(x.shape[1:])
        self.classes = 0 if label is None else classes if classes is not None else int(label.max()) + 1
        self.class_names = tuple(class_names) if self.classes else ()
        self.cond_shape = None if cond is None else tuple(cond.shape[1:])
        self.found = found or self._described()
        self._cond = {
            k: v for k, v in (("label", None if label is None else label.long()), ("cond", cond)) if v is not None
        }

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Int64[Tensor, "b"]) -> Rows:
        """The samples of these indices."""
        if isinstance(self.x, Tensor):
            index = index.to(self.x.device)
            x = self.x[index]
        else:
            x = self.x[index]
            self._check(x)
        return Rows(x, {name: values[index] for name, values in self._cond.items()})

    def digest(self) -> str:
        """A fingerprint: SHA-256 of the labels, the conditions, and about a million of the numbers."""
        parts = (some_rows(self, 1_000_000), *self._cond.values())
        data = b"".join(part.numpy(force=True).tobytes() for part in parts)
        return hashlib.sha256(data).hexdigest()

    def unlabelled(self) -> ArrayDataset:
        """The same without labels."""
        return ArrayDataset(
            self.x,
            None,
            self._cond.get("cond"),
            self.levels,
            name=self.name,
            how=self.how,
            found=self.found,
            held=self.held,
        )

    def renumbered(self, class_names: Sequence[str]) -> ArrayDataset:
        """The same with its labels numbered by other class names, if both have names.

        Raises:
            ValueError: a class is not among the names.
        """
        if not self.class_names or not class_names:
            return self
        if unknown := set(self.class_names) - set(class_names):
            raise ValueError(
                f"{self.name} has the classes {', '.join(sorted(unknown))}, which the model does not know; it knows "
                f"{', '.join(class_names)}"
            )
        place = torch.tensor([class_names.index(name) for name in self.class_names])
        label, cond = place[self._cond["label"]], self._cond.get("cond")
        return ArrayDataset(
            self.x, label, cond, self.levels, len(class_names), class_names, self.name, self.how, self.found, self.held
        )

    def to(self, device: torch.device | str) -> ArrayDataset:
        """Moves what is in memory to a device, so that batches need no transfer."""
        if isinstance(self.x, Tensor):
            self.x = self.x.to(device)
            self._cond = {name: values.to(device) for name, values in self._cond.items()}
        return self

    def _described(self) -> Found:
        shape = " x ".join(str(side) for side in self.event_shape) or "one number"
        values = "real numbers" if self.levels is None else f"integers from 0 to {self.levels - 1}"
        parts = [f"{counted(len(self), 'sample')} of {shape}, {values}"]
        if self.classes:
            named_so = f": {named(range(self.classes), self.class_names)}" if self.class_names else ""
            parts.append(counted(self.classes, "class", "classes") + named_so)
        if self.cond_shape is not None:
            parts.append(f"conditions of {' x '.join(map(str, self.cond_shape)) or 'one number'}")
        if self.held is not None:
            parts.append(f"{counted(int(self.held.sum()), 'sample')} to hold out")
        return Found("; ".join(parts))

    def _check(self, x: Tensor) -> None:
        if x.is_complex():
            raise ValueError(f"{self.name} is complex: give real and imaginary parts as two channels")
        some = max(1, (1 << 20) // max(1, math.prod(x.shape[1:])))  # rows at a time, which take no memory beside x
        odd = (part for part in x.split(some) if not math.isfinite(part.sum()))  # a sum has what any of its terms has
        if strange := sum(int((~torch.isfinite(part)).sum()) for part in odd):
            raise ValueError(f"{self.name} holds {strange} values that are NaN or infinite: remove them first")
        if self.levels is not None and (x.is_floating_point() or int(x.min()) < 0 or int(x.max()) >= self.levels):
            raise ValueError(
                f"{self.name} must hold integers from 0 to {self.levels - 1}; got {x.dtype} from {x.min()} to {x.max()}"
            )


class Subset:
    """Some rows of a data set.

    Args:
        data: the data set.
        index: of the rows.
    """

    def __init__(self, data: Dataset, index: Int64[Tensor, "m"]) -> None:
        self.data, self.index = data, index
        self.event_shape, self.classes, self.levels = data.event_shape, data.classes, data.levels
        self.class_names: tuple[str, ...] = getattr(data, "class_names", ())

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, index: Int64[Tensor, "b"]) -> Rows:
        """The samples of these indices."""
        return self.data.rows(self.index[index.to(self.index.device)])


def condition(data: Dataset, name: str, index: Int64[Tensor, "m"] | None = None) -> Tensor | None:
    """The condition of a name of all rows, or of some, without their samples; None if there is none of that name.

    Of a data set of one's own, whose rows come with their samples, it is that of as many as `some_rows` looks at.
    """
    index = torch.arange(len(data)) if index is None else index
    if isinstance(data, Subset):
        return condition(data.data, name, data.index[index.to(data.index.device)])
    if isinstance(data, ArrayDataset):
        whole = data._cond.get(name)  # pyright: ignore[reportPrivateUsage]
        return None if whole is None else whole[index.to(whole.device)]
    return data.rows(index[choice(len(index), _rows_of(data, 20_000_000))]).cond.get(name)


def unseen_classes(data: Dataset) -> list[int]:
    """The classes that no row has, as far as the labels of all rows are known."""
    label = condition(data, "label")
    if label is None or len(label) < len(data):
        return []
    return (label.bincount(minlength=data.classes) == 0).nonzero()[:, 0].tolist()


def named(numbers: Sequence[int], names: Sequence[str] = ()) -> str:
    """Some numbers in words, by their names if they have any, and of many the first."""
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return ", ".join(names[k] if names else str(k) for k in numbers[:8]) + more


def choice(count: int, most: int, seed: int = 0) -> Int64[Tensor, "n"]:
    """Indices in rising order: all of `count`, or `most` of them at random, as data may repeat at equal distances."""
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most].sort().values


def some_rows(data: Dataset, numbers: int = 20_000_000) -> Tensor:
    """Samples from the whole data set: all, or so many at random that they hold about as many numbers."""
    return data.rows(choice(len(data), _rows_of(data, numbers))).x


def _rows_of(data: Dataset, numbers: int) -> int:
    """How many rows hold about so many numbers."""
    return max(1, numbers // max(1, math.prod(data.event_shape)))


def split(data: Dataset, held_out: float, seed: int = 0) -> tuple[Subset, Subset]:
    """Training and held-out rows: those of the parts that the data set has itself, or a random split.

    Args:
        data: at least two rows.
        held_out: share of the rows held out, in (0, 1); at least one row.
        seed: of the split.
    """
    own = data.held if isinstance(data, ArrayDataset) else None
    if own is not None and 0 < held_out < 1:
        return Subset(data, (~own).nonzero()[:, 0]), Subset(data, own.nonzero()[:, 0])
    count = max(1, round(held_out * len(data))) if 0 < held_out < 1 else 0
    if not 0 < count < len(data):
        raise ValueError(
            f"held_out must be a share in (0, 1) that leaves rows to train on; got {held_out} of {len(data)}"
        )
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return Subset(data, order[count:]), Subset(data, order[:count])
