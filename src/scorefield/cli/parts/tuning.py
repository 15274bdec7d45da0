"""What a training takes over from a trained model, and what does not fit it."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from scorefield.data import ArrayDataset, Dataset
from scorefield.data.dataset import condition, some_rows
from scorefield.data.transforms import moments_of_features
from scorefield.model import ScoreModel
from scorefield.nn.embedding import LabelEmbedding
from scorefield.processes import GaussianSDE
from scorefield.score import ScoreModule
from scorefield.training import distributed

FARTHEST = 10.0  # times the standard deviation of the model's own data: what is beyond has other units


def renumbered(base: ScoreModel, source: ArrayDataset, init: Path) -> ArrayDataset:
    """Data whose classes have the model's numbers, by their names; those that it does not know come after.

    Raises:
        ValueError: nobody can tell which class is which.
    """
    if not source.classes:
        return source
    if not base.classes:
        raise ValueError(
            f"--init {init}: its model knows no classes, {source.name} has {source.classes}: train on it by "
            "--use_labels false, or anew"
        )
    if source.class_names and base.class_names:
        new = [name for name in source.class_names if name not in base.class_names]
        return source.renumbered((*base.class_names, *new))
    if source.classes != base.classes:
        raise ValueError(
            f"--init {init}: its model has {base.classes} classes, {source.name} has {source.classes}, and if one "
            "side has no names nobody can tell which is which: name them, by folders or a column, or train anew"
        )
    if distributed.rank() == 0:
        unnamed = init if source.class_names else source.name
        print(f"the classes of {unnamed} have no names: those of {source.name} are taken by their numbers")
    return source


def extend(model: ScoreModule, classes: int) -> None:
    """Gives a model's network further classes, which begin as the unknown one.

    Raises:
        ValueError: the network keeps its classes otherwise.
    """
    tables = [part for part in model.modules() if isinstance(part, LabelEmbedding)]
    if not tables:
        net = type(getattr(model, "net", model)).__name__
        raise ValueError(f"{net} cannot take classes that it does not know: leave them out, or train anew")
    for table in tables:
        table.extend(classes)
    for part in model.modules():
        if hasattr(part, "classes"):
            cast(Any, part).classes = classes


def check_fits(base: ScoreModel, kept: Dataset, init: Path) -> None:
    """Refuses data that are not of the model's kind, or not in its units."""
    for what, own, theirs in (
        ("events of shape", base.event_shape, kept.event_shape),
        ("values that are", _values(base.transform.levels), _values(kept.levels)),
    ):
        if own != theirs:
            raise ValueError(f"--init {init}: its model is of {what} {own}, the data have {theirs}: train anew")
    if kept.levels is None and isinstance(base.denoiser.sde, GaussianSDE):
        _check_units(base.transform.forward(some_rows(kept)), "the data", init)
    if base.cond_transform is not None:
        cond, wanted = condition(kept, "cond"), torch.tensor(base.cond_transform.shift).shape
        if cond is None or cond.ndim != len(wanted) + 1 or cond.shape[1:2] != wanted[:1]:
            got = "none" if cond is None else f"those of shape {tuple(cond.shape[1:])}"
            raise ValueError(f"--init {init}: its model has {math.prod(wanted)} conditions, the data have {got}")
        _check_units(base.cond_transform.forward(cond), "the conditions", init)


def _check_units(z: Tensor, what: str, init: Path) -> None:
    """Of numbers in the model's space, where its own have mean 0 and standard deviation 1."""
    mean, std = (part.flatten() for part in moments_of_features(z))
    for k, (m, s) in enumerate(zip(mean.tolist(), std.tolist(), strict=True)):
        found = f"--init {init}: number {k} of {what} is {m:.3g} +- {s:.3g} where the model's own were 0 +- 1"
        if max(abs(m), s) > FARTHEST:
            raise ValueError(f"{found}: convert it to the units of the model's training, or train anew")
        if s < 1 / FARTHEST:
            warnings.warn(f"{found}: is it in the units of the model's training?", stacklevel=2)


def _values(levels: int | None) -> str:
    return "real numbers" if levels is None else f"integers from 0 to {levels - 1}"
