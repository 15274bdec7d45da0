"""The parts of `NCSNpp` in the order of the authors' code, and their places: what names of others are made from."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, NamedTuple

from torch import nn

from scorefield.nn import NCSNpp
from scorefield.nn.ncsnpp_parts import Block


class Place(Enum):
    """What a part is for."""

    TIME_INNER = auto()
    TIME_OUTER = auto()
    INP = auto()
    DOWN_BLOCK = auto()
    DOWN_ATTENTION = auto()
    DOWN_RESAMPLE = auto()
    IMAGE_DOWN = auto()  # a pyramid's own change of resolution, if it has weights
    IMAGE_IN = auto()
    MIDDLE_BLOCK = auto()
    MIDDLE_ATTENTION = auto()
    UP_BLOCK = auto()
    UP_ATTENTION = auto()
    IMAGE_UP = auto()
    IMAGE_NORM = auto()
    IMAGE_OUT = auto()
    UP_RESAMPLE = auto()
    NORM = auto()
    OUT = auto()


class Part(NamedTuple):
    """A part of the network.

    Args:
        own: its name there.
        module: a linear layer, convolution, norm, `Block` (its attention is another part), `SelfAttention` or
            `ResampleConv`.
        place: what it is for.
        level: where it is, from 0 for the finest resolution.
        number: among those of its kind in the level.
    """

    own: str
    module: nn.Module
    place: Place
    level: int = 0
    number: int = 0


def parts(net: NCSNpp) -> Iterator[Part]:
    """All parts that have weights, from the first to the last, but for the class embedding."""
    yield Part("embedding.inner", net.embedding.inner, Place.TIME_INNER)
    yield Part("embedding.outer", net.embedding.outer, Place.TIME_OUTER)
    yield Part("inp", net.inp, Place.INP)
    levels: list[tuple[int, Any]] = list(enumerate(net.down))
    for level, down in levels:
        for index, block in enumerate(down.blocks):
            name = f"down.{level}.blocks.{index}"
            yield from _block(name, block, Place.DOWN_BLOCK, Place.DOWN_ATTENTION, level, index)
        if down.resample is not None:
            yield Part(f"down.{level}.resample", down.resample, Place.DOWN_RESAMPLE, level)
        if down.pyramid is not None:
            if down.pyramid.residual:
                yield Part(f"down.{level}.pyramid.down", down.pyramid.down, Place.IMAGE_DOWN, level)
            else:
                yield Part(f"down.{level}.pyramid.conv", down.pyramid.conv, Place.IMAGE_IN, level)
    last = len(levels) - 1
    for index, block in enumerate(net.middle):
        yield from _block(f"middle.{index}", block, Place.MIDDLE_BLOCK, Place.MIDDLE_ATTENTION, last, index)
    ups: list[tuple[int, Any]] = list(enumerate(net.up))
    for number, up in ups:
        level = last - number
        for index, block in enumerate(up.blocks):
            yield from _block(f"up.{number}.blocks.{index}", block, Place.UP_BLOCK, Place.UP_ATTENTION, level, index)
        if up.pyramid is not None:
            if up.pyramid.norm is None:
                yield Part(f"up.{number}.pyramid.up", up.pyramid.up, Place.IMAGE_UP, level)
            else:
                yield Part(f"up.{number}.pyramid.norm", up.pyramid.norm, Place.IMAGE_NORM, level)
                yield Part(f"up.{number}.pyramid.conv", up.pyramid.conv, Place.IMAGE_OUT, level)
        if up.resample is not None:
            yield Part(f"up.{number}.resample", up.resample, Place.UP_RESAMPLE, level)
    if net.norm is not None and net.out is not None:
        yield Part("norm", net.norm, Place.NORM)
        yield Part("out", net.out, Place.OUT)


def _block(own: str, block: Any, place: Place, attention: Place, level: int, index: int) -> Iterator[Part]:
    yield Part(own, block, place, level, index)
    if block.attention is not None:
        yield Part(f"{own}.attention", block.attention, attention, level, index)


def layers(block: Block) -> list[str]:
    """The names of a block's own layers."""
    return ["norm1", "conv1", "shift", "norm2", "conv2", *(["shortcut"] if block.shortcut is not None else [])]
