"""Configurations of other projects: values with names, checked when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from scorefield._files import read_json

LARGEST = 1 << 17  # bytes of a configuration
LARGEST_INTEGER, LONGEST_LIST = 1_000_000, 32  # of what a network is made with
LONGEST_NUMBER = 100  # digits
Made = TypeVar("Made")
Value = TypeVar("Value", bool, int, float, str)


def read_configuration(path: Path) -> Configuration:
    """The configuration of a JSON or YAML file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: has {path.stat().st_size} bytes; a configuration has no more than {LARGEST}")
    try:
        text = path.read_text(encoding="utf-8")
        values: Any = read_json(text, infinite=True) if path.suffix == ".json" else yaml.load(text, _Plain)
    except (ValueError, yaml.YAMLError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: wanted a configuration in JSON or YAML ({reason})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: wanted names with values; got {type(values).__name__}")
    return Configuration(values, str(path))  # pyright: ignore[reportUnknownArgumentType]


class _Plain(yaml.SafeLoader):
    """Plain values, of which none takes long: no merged mappings, which may double each time, no endless numbers."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "mappings are merged (<<), which is not read")

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if node.tag.endswith((":int", ":float")) and len(node.value) > LONGEST_NUMBER:
            raise yaml.constructor.ConstructorError(None, None, f"a number has {len(node.value)} digits")
        return super().construct_scalar(node)


class Configuration:
    """Names with values, or with more of the kind: `model.nf` is the value of `nf` in what `model` names.

    Args:
        values: of a file.
        where: the file, for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def get(self, name: str, kind: type[Value], default: Value | None = None) -> Value:
        """The value of a name.

        Args:
            name: dots lead into what has names itself.
            kind: type of the value; an integer will do for a float.
            default: the value if there is none; None if there must be one.
        """
        value = self._find(name)
        if value is None and default is not None:
            return default
        if kind is float and type(value) is int:
            value = _as_float(value)
        if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
            raise self._error(name, f"a value of type {kind.__name__}", value)
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise self._error(name, f"an integer up to {LARGEST_INTEGER}", value)
        return value  # pyright: ignore[reportReturnType]

    def one_of(self, name: str, *wanted: str | bool | None, default: str | bool | None = None) -> Any:
        """The value of a name, which must be one of some."""
        value = self._find(name)
        value = default if value is None else value
        if not any(value is choice or (isinstance(value, str) and value == choice) for choice in wanted):
            raise self._error(name, " or ".join(map(repr, wanted)), value)
        return value

    def integers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """A short list of integers >= 1."""
        values = self._find(name)
        values = default if values is None else values
        if (
            not isinstance(values, list | tuple)
            or len(values) > LONGEST_LIST
            or not all(type(value) is int and 0 < value <= LARGEST_INTEGER for value in values)
        ):
            raise self._error(name, f"a list of up to {LONGEST_LIST} positive integers", values)
        return tuple(values)

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """A list of as many finite numbers."""
        values = self._find(name)
        if (
            not isinstance(values, list | tuple)
            or len(values) != count  # pyright: ignore[reportUnknownArgumentType]
            or not all(type(value) in (int, float) and math.isfinite(_as_float(value)) for value in values)
        ):
            raise self._error(name, f"a list of {count} finite numbers", values)
        return tuple(map(float, values))

    def count(self, name: str, default: int | None = None) -> int:
        """A number of layers."""
        value = self.get(name, int, default)
        if not 0 < value <= LONGEST_LIST:
            raise self._error(name, f"an integer from 1 to {LONGEST_LIST}", value)
        return value

    def made(self, kind: Callable[..., Made], *arguments: Any, **options: Any) -> Made:
        """What a class makes of the configuration's values; its errors name the file."""
        try:
            return kind(*arguments, **options)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from error

    def _find(self, name: str) -> Any:
        value: Any = self.values
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def _error(self, name: str, wanted: str, value: Any) -> ValueError:
        plain = value is None or isinstance(value, bool | float | str) or (type(value) is int and abs(value) < 2**64)
        got = repr(value)[:80] if plain else f"a {type(value).__name__}"
        return ValueError(f"{self.where}: wanted {name} to be {wanted}; got {got}")


def _as_float(value: float) -> float:
    """An integer may be beyond all of them."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
