"""Conditions of the user, checked, as the network takes them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scorefield._inputs import Array, as_tensor, meant
from scorefield.data import Affine

Label = int | str | Sequence[int] | Sequence[str] | Array
Condition = float | Sequence[float] | Array
FARTHEST = 10.0  # standard deviations from the training data's mean; what lies beyond them may be in other units


def numbered(label: Label, classes: int, names: Sequence[str] = ()) -> Tensor:
    """Numbers of classes, one for all samples or one for each, from these or from their names."""
    if not isinstance(label, Tensor) and (array := np.asarray(label)).dtype.kind == "U":
        place = {name: k for k, name in enumerate(names)}
        for word in array.ravel().tolist():
            if word not in place:
                has = f"the model has {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
                rest = meant(word, names) or f": {has if names else 'the classes of this model have no names'}"
                raise ValueError(f"there is no class {word}{rest}")
        label = np.array([place[word] for word in array.ravel().tolist()]).reshape(array.shape)
    value = as_tensor(label, "label")
    whole = value.numel() > 0 and value.ndim < 2 and not value.is_floating_point() and not value.is_complex()
    if not whole or int(value.min()) < 0 or int(value.max()) >= classes:
        wanted = f"integers from 0 to {classes - 1}" if classes else "none: the model has no classes"
        raise ValueError(f"label: wanted {wanted}; got {value.unique().tolist()[:8]} of shape {tuple(value.shape)}")
    return value.long()


def standardised(cond: Tensor, transform: Affine | None, like: Tensor) -> Tensor:
    """Real conditions in the model's space; those far from all of the training data's are said.

    Args:
        cond: one row for each sample, or one for all of them, with or without its axis.
        transform: from their units; None leaves them as they are.
        like: a tensor of the model's dtype and device.

    Raises:
        ValueError: they are not finite, or not of the shape of those that the model was trained with.
    """
    if strange := int((~torch.isfinite(cond)).sum()):
        raise ValueError(f"cond holds {strange} values that are NaN or infinite: leave these rows out")
    if transform is None:
        return cond.to(like)
    mean, std = (torch.tensor(part, dtype=torch.float64) for part in (transform.shift, transform.scale))
    wide = cond.cpu().double()  # which tell large numbers apart
    wide = wide[None] if wide.ndim == mean.ndim else wide
    if wide.ndim != mean.ndim + 1 or wide.shape[1:2] != mean.shape[:1]:
        wanted = ", ".join(("n", *(str(side) for side in mean.shape[:1]), *("..." for _ in mean.shape[1:])))
        raise ValueError(f"this model was trained with a cond of shape ({wanted}); got {tuple(cond.shape)}")
    z = transform.forward(wide)
    if z.numel() and float(z.abs().max()) > FARTHEST:
        worst = torch.unravel_index(z.abs().argmax(), z.shape)
        of, usual, spread = (float(part.expand(z.shape)[worst]) for part in (wide, mean, std))
        where = f"number {int(worst[1])} of cond" if mean.ndim else "cond"
        warnings.warn(
            f"{where} is {of:.6g} where the training data have {usual:.6g} +- {spread:.3g}: is it in their units? The "
            "model has seen nothing like it",
            stacklevel=4,
        )
    return z.to(like)
