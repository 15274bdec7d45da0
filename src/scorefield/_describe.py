"""Objects as plain JSON values and back: an object is its class's name and the arguments that built it.

By the convention that scikit-learn made popular, every constructor argument is kept as an attribute of the same name.
Reading a description runs nothing from the file: names are looked up among given classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any


def describe(value: Any) -> Any:
    """The JSON form of a number, string, sequence, or object."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    cls = type(value)
    if inspect.isroutine(value) or cls.__module__ == "builtins":
        raise TypeError(f"{value!r} cannot be saved: write it as a class whose arguments are numbers")
    described: dict[str, Any] = {"class": cls.__name__}
    for name in inspect.signature(cls).parameters:
        if not hasattr(value, name):
            raise TypeError(
                f"{cls.__name__} cannot be saved: its argument {name!r} is not kept as an attribute of that name"
            )
        described[name] = describe(getattr(value, name))
    return described


def build(described: Any, classes: Mapping[str, type]) -> Any:
    """The object of a description; sequences become tuples."""
    if isinstance(described, list):
        return tuple(build(item, classes) for item in described)  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(described, dict):
        return described
    arguments: dict[str, Any] = dict(described)  # pyright: ignore[reportUnknownArgumentType]
    name = arguments.pop("class", None)
    if not isinstance(name, str) or name not in classes:
        raise ValueError(
            f"unknown class {name!r}: if it is yours, pass it in `classes`; known are {', '.join(classes)}"
        )
    try:
        return classes[name](**{key: build(value, classes) for key, value in arguments.items()})
    except TypeError as error:
        raise ValueError(f"{name} cannot be built from the saved arguments {sorted(arguments)}: {error}") from error
