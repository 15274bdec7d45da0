"""`scorefield info`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scorefield._describe import describe
from scorefield.model import ClassifierModel, ScoreModel
from scorefield.model.stored import is_classifier


def info(run: Path, types: Sequence[type] = ()) -> None:
    """Shows what a trained model is.

    Args:
        run: directory of a trained model.
        types: your own classes that the model is made of, by their import paths.
    """
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
