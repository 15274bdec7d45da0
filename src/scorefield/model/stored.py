"""The directory of a trained model: config.json says what it is, model.safetensors holds its weights."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from scorefield import linear, processes, score
from scorefield import nn as networks
from scorefield._describe import build, class_name
from scorefield._files import check_tensors, read_json, read_tensors, write_tensors, write_text
from scorefield.data import Transform, transforms
from scorefield.score import ScoreModule

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
# what constructors raise when a damaged file gives them impossible arguments
BROKEN = (ValueError, TypeError, KeyError, RuntimeError, MemoryError, OverflowError)


def write(path: Path, config: dict[str, Any], denoiser: nn.Module) -> None:
    """Writes both files; nothing if the description holds what JSON cannot."""
    try:
        text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    except (ValueError, TypeError) as error:
        raise type(error)(f"`about` holds what JSON cannot: {error}") from error
    path.mkdir(parents=True, exist_ok=True)
    write_tensors(path / WEIGHTS, denoiser.state_dict())
    write_text(path / CONFIG, text)


def read_config(path: Path) -> dict[str, Any]:
    """The description of a model of this version."""
    file = path / CONFIG
    if not file.is_file():
        raise FileNotFoundError(
            f"{path}: not a trained model, since it has no {CONFIG}: give the directory that was trained into"
        )
    try:
        config = read_json(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{file}: damaged ({error}): use another copy of the model") from error
    if config.get("format") != FORMAT:
        raise ValueError(f"{file}: wanted a model of format {FORMAT}; this version of scorefield cannot read another")
    return config


def arguments(config: dict[str, Any], types: Iterable[type]) -> dict[str, Any]:
    """What `ScoreModel` is built from; raises one of BROKEN for a description that is damaged."""
    known = {class_name(c): c for c in (*_own_classes(), *types)}
    with networks.seeded(0):  # initial weights, replaced by those that are read
        parts = {key: build(config[key], known) for key in ("denoiser", "transform")}
    for key, kind in {"denoiser": ScoreModule, "transform": Transform}.items():
        if not isinstance(parts[key], kind):
            raise ValueError(f"its {key} is {str(config[key])[:80]}")
    for key, kind in {"about": dict, "needs_label": bool}.items():
        if not isinstance(config[key], kind):
            raise ValueError(f"its {key} is {str(config[key])[:80]}")
    names = config["class_names"]
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):  # pyright: ignore
        raise ValueError(f"its class_names are {str(names)[:80]}")  # pyright: ignore[reportUnknownArgumentType]
    return parts | {key: config[key] for key in ("event_shape", "classes", "needs_label", "about", "class_names")}


def read_weights(path: Path, denoiser: nn.Module, device: torch.device | str) -> None:
    """Puts the stored weights into a model of their own precision on a device."""
    tensors, _ = read_tensors(path / WEIGHTS)
    check_tensors(tensors, denoiser.state_dict(), str(path / WEIGHTS))
    precision = next((v.dtype for v in tensors.values() if v.is_floating_point()), None)
    denoiser.to(device, precision).eval().load_state_dict(tensors)


def _own_classes() -> list[type]:
    """What a saved model may be made of: the public classes of the modules that define parts of models."""
    modules: tuple[ModuleType, ...] = (processes, linear, score, networks, transforms)
    return [
        value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type)
        and not name.startswith("_")
        and value.__module__.startswith("scorefield.")
        and (is_dataclass(value) or issubclass(value, nn.Module))
    ]
