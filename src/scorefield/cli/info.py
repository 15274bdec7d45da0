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
        if isinstance(value, dict):
            print(f"{name:12} {_plain(value)}")
            continue
        many = isinstance(value, list) and len(value) > 4  # pyright: ignore[reportUnknownArgumentType]
        print(f"{name:12} {f'{value[0]:.4g} ... {value[-1]:.4g}' if many else value}")


def _plain(value: Any) -> str:
    """Options as their names and values."""
    if not isinstance(value, dict):
        return str(value)
    named = ((name, part) for name, part in value.items() if name != "class")  # pyright: ignore[reportUnknownVariableType]
    return ", ".join(f"{name}: {_plain(part)}" if isinstance(part, dict) else f"{name} {part}" for name, part in named)
