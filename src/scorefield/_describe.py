"""Objects as plain JSON values and back: an object is its class's name and the arguments that built it.

By the convention that scikit-learn made popular, every constructor argument is kept as an attribute of the same name.
Reading a description runs nothing from the file: names are looked up among given classes. A class of scorefield goes by
its bare name, any other by that of its module as well, so that neither is taken for the other.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from collections.abc import Sequence as AbstractSequence
from enum import Enum, EnumType
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def describe(value: Any) -> Any:
    """The JSON form of a number, string, sequence, or object."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be saved: JSON has finite numbers alone")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    cls = type(value)
    if inspect.isroutine(value) or cls.__module__ == "builtins":
        raise TypeError(f"{value!r} cannot be saved: write it as a class whose arguments are numbers")
    described: dict[str, Any] = {"class": class_name(cls)}
    for name in inspect.signature(cls).parameters:
        if not hasattr(value, name):
            raise TypeError(
                f"{cls.__name__} cannot be saved: its argument {name!r} is not kept as an attribute of that name"
            )
        described[name] = describe(getattr(value, name))
    return described


def class_name(cls: type) -> str:
    """What a class is called in a description."""
    return cls.__name__ if cls.__module__.startswith("scorefield.") else f"{cls.__module__}.{cls.__name__}"


def build(described: Any, classes: Mapping[str, type]) -> Any:
    """The object of a description; sequences become tuples. `classes` has them by their `class_name`."""
    if isinstance(described, list):
        return tuple(build(item, classes) for item in described)  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(described, dict):
        return described
    arguments: dict[str, Any] = dict(described)  # pyright: ignore[reportUnknownArgumentType]
    name = arguments.pop("class", None)
    if not isinstance(name, str) or name not in classes:
        raise ValueError(f"unknown class {name!r}: if it is yours, pass it in `types`; known are {', '.join(classes)}")
    built = {key: build(value, classes) for key, value in arguments.items()}
    for key, kind in _annotations(classes[name]).items():
        if key in built and isinstance(kind, EnumType) and built[key] in kind.__members__:
            built[key] = kind[built[key]]
        if key in built and not _fits(built[key], kind):
            raise ValueError(f"{name} takes {key}: {_name(kind)}; got {str(described[key])[:80]}")
    try:
        return classes[name](**built)
    except TypeError as error:
        raise ValueError(f"{name} cannot be built from the saved arguments {sorted(arguments)}: {error}") from error


@functools.cache
def _annotations(cls: type) -> dict[str, Any]:
    """Types of the constructor's arguments; none if they name what exists for type checkers alone."""
    try:
        return get_type_hints(cls.__init__)
    except NameError:
        return {}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type, as far as numbers, sequences and classes go; any other type passes."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if kind is None:
        return value is None
    if origin is tuple and Ellipsis not in parts:
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))  # pyright: ignore[reportUnknownArgumentType]
    if origin in (tuple, list, AbstractSequence):
        return isinstance(value, tuple) and all(_fits(item, parts[0]) for item in value)  # pyright: ignore[reportUnknownVariableType]
    return kind is Any or not isinstance(kind, type) or isinstance(value, kind)


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)
