"""`scorefield info`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from scorefield import plot
from scorefield._describe import describe
from scorefield.cli.parts.reading import Reading
from scorefield.cli.parts.sources import check_target, load_data, save_figure, save_samples
from scorefield.data import Affine, ArrayDataset, split, transformed_std
from scorefield.data.dataset import choice, condition, named, some_rows
from scorefield.model import ClassifierModel, ScoreModel
from scorefield.model.stored import CONFIG, is_classifier

SHOWN = 16  # samples


def info(what: Path, reading: Reading = Reading(), out: Path | None = None, types: Sequence[type] = ()) -> None:
    """Shows what a trained model is, or what data are: what is read of them, their statistics, a picture of samples.

    Args:
        what: directory of a trained model, or data as those of `scorefield train`.
        reading: how data are read.
        out: the picture of 16 samples of data (.png); by default a file of its own among the temporary ones.
        types: your own classes that the model is made of, by their import paths.
    """
    if (what / CONFIG).exists():
        _of_model(what, types)
    else:
        if out is not None:
            check_target(out, ".png")
        _of_data(load_data(str(what), reading, option="data", aside=False), out)


def _of_data(data: ArrayDataset, out: Path | None) -> None:
    """What training would begin with."""
    kept = split(data, 0.1)[0] if len(data) > 1 else data
    x = some_rows(kept)
    transform = Affine.fitted(kept)
    values = "real numbers" if data.levels is None else f"integers from 0 to {data.levels - 1}"
    print(f"event shape  {data.event_shape}")
    print(f"values       {values}, from {float(x.min()):.6g} to {float(x.max()):.6g}")
    print(f"to train on  {len(kept)} of {len(data)} samples, by default")
    if (label := condition(data, "label")) is not None:
        counts = label.bincount(minlength=data.classes).tolist()
        words = [f"{data.class_names[k] if data.class_names else k} ({count})" for k, count in enumerate(counts)]
        print(f"classes      {named(range(data.classes), words)}")
    wide = x.double().reshape(len(x), x.shape[1] if x.ndim > 1 else 1, -1)
    print(f"mean         {_numbers(wide.mean((0, 2)))}")
    print(f"std          {_numbers(wide.std((0, 2), correction=0))}")
    to = "[-1, 1]" if data.levels else "this mean at 0 and this standard deviation at 1"
    print(f"transform    to {to}")
    print(f"sigma_data   {transformed_std(kept, transform):.4g}, of all numbers after the transform")
    if out is None:
        out = Path(tempfile.mkdtemp(prefix="scorefield-")) / "samples.png"
    shown = data.rows(choice(len(data), SHOWN)).x
    _draw(shown, data.levels, out)
    print(f"samples      {len(shown)} at random are drawn in {out}")


def _draw(x: Tensor, levels: int | None, out: Path) -> None:
    """Pictures, the middle of volumes, points of a plane; of anything else the numbers as curves."""
    shape = tuple(x.shape[1:])
    if len(shape) == 4 and plot.is_image((shape[0], *shape[2:]), alpha=True):
        x = x[:, :, shape[1] // 2]
    if plot.is_image(x.shape[1:], alpha=True) or shape == (2,):
        save_samples(x, levels, out)
    else:
        curves = x.double().reshape(len(x), -1) if len(shape) < 2 else x[:, 0].double().reshape(len(x), -1)
        title = f"{len(x)} samples" if len(shape) < 2 or shape[0] == 1 else f"the first channel of {len(x)} samples"
        save_figure(plot.trajectories({title: (range(curves.shape[1]), curves.mT)}), out)


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in values[:8].tolist()) + (", ..." if len(values) > 8 else "")


def _of_model(run: Path, types: Sequence[type]) -> None:
    if is_classifier(run):
        model = ClassifierModel.load(run, types=types)
        part = model.classifier
    else:
        model = ScoreModel.load(run, types=types)
        part = model.denoiser
    weights = sum(p.numel() for p in part.parameters())
    levels = model.transform.levels
    print(f"event shape  {model.event_shape}")
    print(f"values       {'real numbers' if levels is None else f'integers from 0 to {levels - 1}'}")
    print(f"classes      {', '.join(model.class_names) or model.classes or 'none'}")
    print(f"process      {part.sde}")
    print(f"parameters   {weights:,}")
    for name, value in describe(part).items():
        if isinstance(value, dict) and name != "sde":
            print(f"{name:12} {', '.join(f'{k}={v}' if k != 'class' else str(v) for k, v in value.items())}")
    for name, value in model.about.items():
        shown = _plain(value) if isinstance(value, dict) else value
        many = isinstance(value, list) and len(value) > 4  # pyright: ignore[reportUnknownArgumentType]
        print(f"{name:12} {f'{value[0]:.4g} ... {value[-1]:.4g}' if many else shown}")


def _plain(options: dict[str, Any]) -> str:
    """Options as their names and values."""
    named = ((name, value) for name, value in options.items() if name != "class")
    return ", ".join(f"{name}: {_plain(v)}" if isinstance(v, dict) else f"{name} {v}" for name, v in named)
