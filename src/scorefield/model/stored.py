"""The directory of a trained model: config.json says what it is, model.safetensors holds its weights."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from scorefield import nn as networks
from scorefield import processes, score
from scorefield._derivatives import unrecorded
from scorefield._describe import build, class_name, describe
from scorefield._files import (
    check_tensors,
    digest_of_values,
    read_json,
    read_tensors,
    sweep,
    tensor_heads,
    write_tensors,
    write_text,
)
from scorefield._finite import not_finite
from scorefield.data import Affine, Transform, transforms
from scorefield.score import NoisyClassifier, ScoreModule

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
DIGEST = "sha256"  # of all else in the description; models that were saved before it have none
# what constructors raise when a damaged file gives them impossible arguments
BROKEN = (ValueError, TypeError, KeyError, RuntimeError, MemoryError, OverflowError)
ROOM = 64 << 20  # bytes that a model may take beside its weights while it is made
FACTORIES = {"empty", "zeros", "ones", "full", "rand", "randn"}
RANDOM = {
    *(f"{kind}_{law}_" for kind in ("kaiming", "xavier") for law in ("uniform", "normal")),
    *("uniform_", "normal_", "orthogonal_"),
}
Model = TypeVar("Model")


@dataclass(frozen=True)
class Kind:
    """A kind of model, which is built from the attributes that are stored of it.

    Args:
        name: what messages call it.
        part: the attribute that has the weights.
        type: what that is.
        values: the attributes that are plain values, and what they are in the file.
        optional: the attributes that are described or None, and what they are; older files lack them.
    """

    name: str
    part: str
    type: type[nn.Module]
    values: Mapping[str, type]
    optional: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def objects(self) -> dict[str, type]:
        """The attributes that are described, and what they are."""
        return {self.part: self.type, "transform": Transform}


FORM: dict[str, type] = {"event_shape": list, "classes": int, "class_names": list, "about": dict}
SCORE = Kind("score model", "denoiser", ScoreModule, {"needs_label": bool, **FORM}, {"cond_transform": Affine})
CLASSIFIER = Kind("classifier", "classifier", NoisyClassifier, FORM)


def save(model: object, kind: Kind, path: Path) -> None:
    """Writes both files; nothing if the description holds what JSON cannot, or the weights are not finite."""
    described = (*kind.objects, *kind.optional)
    config: dict[str, Any] = {"format": FORMAT} | {name: describe(getattr(model, name)) for name in described}
    config |= {name: getattr(model, name) for name in kind.values}
    try:
        config = json.loads(json.dumps(config, allow_nan=False))  # with the keys and lists that a reader finds
    except (ValueError, TypeError) as error:
        raise type(error)(f"`about` holds what JSON cannot: {error}") from error
    weights = getattr(model, kind.part).state_dict()
    if strange := not_finite(weights):
        raise ValueError(f"{path}: is not written, since of the model's weights {strange}: its training has diverged")
    path.mkdir(parents=True, exist_ok=True)
    sweep(path)
    write_tensors(path / WEIGHTS, weights)
    write_text(path / CONFIG, json.dumps({**config, DIGEST: digest_of_values(config)}, indent=2) + "\n")


@unrecorded()
def load(made: type[Model], kind: Kind, path: Path, types: Iterable[type], device: torch.device | str) -> Model:
    """Builds a model from its directory, without running anything from it."""
    config = _read_config(path)
    if (other := _kind(config)) and other is not kind:
        raise ValueError(f"{path / CONFIG}: describes a {other.name}; wanted a {kind.name}")
    known = {class_name(c): c for c in (*_own_classes(), *types)}
    held = tensor_heads(path / WEIGHTS)
    try:
        with _Unborn(held):
            model = made(**_arguments(config, kind, known))
    except _TooMany as error:
        _compare(config[kind.part], known, held, path)
        raise _undescribed(path, error) from error
    except BROKEN as error:
        raise _undescribed(path, error) from error
    check_tensors(held, getattr(model, kind.part).state_dict(), f"{path / CONFIG}: {WEIGHTS}")
    _read_weights(path, getattr(model, kind.part), device)
    return model


def check_form(event_shape: Sequence[int], transform: Transform, classes: int, class_names: Sequence[str]) -> None:
    """Refuses what the data of a model cannot look like."""
    if class_names and len(set(class_names)) != classes:
        raise ValueError(f"wanted {classes} different class names or none; got {', '.join(class_names)}")
    if min(event_shape, default=1) < 1 or classes < 0:
        raise ValueError(f"wanted sides of at least 1 and classes of at least 0; got {event_shape} and {classes}")
    try:
        if isinstance(transform, Affine):  # no event is made of what may be the shape in a damaged file
            shape = tuple(torch.broadcast_shapes(event_shape, np.shape(transform.shift), np.shape(transform.scale)))
        else:
            shape = tuple(transform.inverse(torch.zeros(1, *event_shape)).shape[1:])
    except RuntimeError as error:
        raise ValueError(f"the transform does not fit events of shape {event_shape}: {error}") from error
    if shape != event_shape:
        raise ValueError(f"the transform makes events of shape {shape}; wanted {event_shape}")


def read_about(path: Path) -> dict[str, Any]:
    """What the model in a directory keeps of its training, without its weights."""
    about = _read_config(path).get("about")
    if not isinstance(about, dict):
        raise ValueError(f"{path / CONFIG}: its about is {str(about)[:80]}")
    return about  # pyright: ignore[reportUnknownVariableType]


def is_classifier(path: Path) -> bool:
    """Whether a directory holds a classifier rather than a score model."""
    return _kind(_read_config(path)) is CLASSIFIER


def _kind(config: dict[str, Any]) -> Kind | None:
    return next((kind for kind in (SCORE, CLASSIFIER) if kind.part in config), None)


def _read_config(path: Path) -> dict[str, Any]:
    """The description of a model of this version."""
    file = path / CONFIG
    if not file.is_file():
        raise FileNotFoundError(
            f"{path}: not a trained model, since it has no {CONFIG}: give the directory that was trained into"
        )
    try:
        config = read_json(file.read_text(encoding="utf-8"))
        if config.pop(DIGEST, known := digest_of_values(config, DIGEST)) != known:
            raise ValueError(f"it is not what was written; if the change is meant, take {DIGEST!r} out of it")
    except (ValueError, OSError) as error:
        raise ValueError(f"{file}: damaged ({error}): use another copy of the model") from error
    if config.get("format") != FORMAT:
        raise ValueError(f"{file}: wanted a model of format {FORMAT}; this version of scorefield cannot read another")
    return config


class _TooMany(ValueError):
    """A description asks for more weights than there are in the file."""


class _Unborn(TorchFunctionMode):
    """What is made within it has no initial weights, which others replace, and takes little more than those take.

    Args:
        held: the tensors that will be its weights.

    Raises:
        _TooMany: it takes far more, before that memory is taken.
    """

    def __init__(self, held: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.bytes: float = ROOM + 8 * sum(value.nbytes for value in held.values())
        self.calls = 10_000 + 200 * len(held)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in RANDOM and isinstance(target := args[0] if args else kwargs.get("tensor"), nn.Parameter):
            return target
        if name in FACTORIES:
            size = args[0] if args and isinstance(args[0], Sequence) else kwargs.get("size", args)
            self.bytes -= 4 * math.prod(size)
        self.calls -= 1
        if self.bytes < 0 or self.calls < 0:
            raise _TooMany("it has far more weights than its file")
        return func(*args, **kwargs)


def _compare(described: Any, known: Mapping[str, type], held: Mapping[str, torch.Tensor], path: Path) -> None:
    """Names the weights in which a description and a file differ, as far as it can be built without memory."""
    try:
        with torch.device("meta"), _Unborn({}) as room:
            room.bytes = math.inf
            part = build(described, known)
    except BROKEN:
        return
    check_tensors(held, part.state_dict(), f"{path / CONFIG}: {WEIGHTS}")


def _undescribed(path: Path, error: Exception) -> ValueError:
    reason = f"{type(error).__name__} {error}".splitlines()[0][:800]
    return ValueError(f"{path / CONFIG}: does not describe a model: {reason}")


def _arguments(config: dict[str, Any], kind: Kind, known: Mapping[str, type]) -> dict[str, Any]:
    """What a model is built from; raises one of BROKEN for a description that is damaged."""
    with networks.seeded(0):  # initial weights, replaced by those that are read
        found = {name: build(config[name], known) for name in kind.objects}
        found |= {name: build(config.get(name), known) for name in kind.optional}
    found |= {name: config[name] for name in kind.values}
    for name, wanted in {**kind.objects, **kind.optional, **kind.values}.items():
        if not isinstance(found[name], wanted) and not (found[name] is None and name in kind.optional):
            raise ValueError(f"its {name} is {str(config[name])[:80]}")
    names = found["class_names"]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"its class_names are {str(names)[:80]}")
    return found


def _read_weights(path: Path, denoiser: nn.Module, device: torch.device | str) -> None:
    """Puts the stored weights into a model on a device, in float32, or in float64 if they are."""
    tensors, _ = read_tensors(path / WEIGHTS)
    check_tensors(tensors, denoiser.state_dict(), str(path / WEIGHTS))
    wide = any(v.dtype == torch.float64 for v in tensors.values())
    denoiser.to(device, torch.float64 if wide else torch.float32).eval().load_state_dict(tensors)


@functools.cache
def _own_classes() -> list[type]:
    """What a saved model may be made of: the public classes of the modules that define parts of models."""
    modules: tuple[ModuleType, ...] = (processes, score, networks, transforms)
    return [
        value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type)
        and not name.startswith("_")
        and value.__module__.startswith("scorefield.")
        and (is_dataclass(value) or issubclass(value, nn.Module))
    ]
