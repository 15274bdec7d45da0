"""Checkpoints of NCSN and NCSNv2, by Song and Ermon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield._torch_files import read_torch
from scorefield.data import Affine
from scorefield.interop.configuration import Configuration, read_configuration
from scorefield.interop.pixels import CENTRED, DEQUANTISED
from scorefield.interop.translation import Line, layer, loaded, without_prefix
from scorefield.model import ScoreModel
from scorefield.nn import NCSN
from scorefield.processes import VE
from scorefield.score import NCSNPrecond, Preconditioned

# their names of the levels, and the widths as multiples of the first
LEVELS = {
    "4": (1, 2, 2, 2),
    "5": (1, 2, 2, 4, 4),
    "31": (1, 2, 2, 2, 4, 4),
}


def load_ncsn(path: str | Path, config: str | Path) -> ScoreModel:
    """A model of NCSN (github.com/ermongroup/ncsn).

    Args:
        path: its checkpoint.pth: the weights and the optimiser's state.
        config: its configuration, the YAML file that it was trained with.

    Raises:
        ValueError: the file is not such a checkpoint, holds anything that could run code, or does not fit the
            configuration.
    """
    path, told = Path(path), read_configuration(Path(config))
    weights = _weights(read_torch(path, str(path)), 0, str(path))
    return _model(told, weights, path.name, told.get("model.num_classes", int), DEQUANTISED, str(path))


def load_ncsnv2(path: str | Path, config: str | Path, averaged: bool = True) -> ScoreModel:
    """A model of NCSNv2 (github.com/ermongroup/ncsnv2), for images of any of its three sizes.

    Args:
        path: its checkpoint.pth: the weights, the optimiser's state, two numbers, and averaged weights if it has any.
        config: its configuration, the YAML file that it was trained with.
        averaged: the averaged weights instead of the last ones.

    Raises:
        ValueError: the file is not such a checkpoint, holds anything that could run code, or does not fit the
            configuration.
    """
    path, told = Path(path), read_configuration(Path(config))
    told.one_of("model.normalization", "InstanceNorm++", default="InstanceNorm++")
    told.one_of("model.nonlinearity", "elu", default="elu")
    told.one_of("model.sigma_dist", "geometric", default="geometric")
    weights = _weights(read_torch(path, str(path)), 4 if averaged else 0, str(path))
    transform = DEQUANTISED if told.get("data.uniform_dequantization", bool, False) else CENTRED
    model = _model(told, weights, path.name, 0, transform, str(path))
    model.about["averaged"] = averaged
    return model


def _model(
    told: Configuration, weights: dict[str, Tensor], name: str, conditional: int, transform: Affine, where: str
) -> ScoreModel:
    told.one_of("data.logit_transform", False, default=False)
    rescaled = told.get("data.rescaled", bool, False)
    side, channels, levels = (told.get(key, int) for key in ("data.image_size", "data.channels", "model.num_classes"))
    deepest = next(name for name in reversed(LEVELS) if name == "4" or f"res{name}.0.conv1.weight" in weights)
    width = told.get("model.ngf", int)
    widths = [width * k for k in LEVELS[deepest]]

    def build() -> NCSN:
        return told.made(NCSN, (channels, side, side), channels=widths, noise_levels=conditional)

    net = loaded(build, _lines, weights, where, unused={"sigmas"})
    unit = 1.0 if rescaled else 2.0
    low, high = (unit * told.get(f"model.{end}", float) for end in ("sigma_end", "sigma_begin"))
    precond = NCSNPrecond(low, high, levels, unit=unit if conditional else None)
    model = Preconditioned(net, VE(low, high), precond).eval()
    return ScoreModel(
        model, net.event_shape, transform, about={"imported": f"{'NCSN' if conditional else 'NCSNv2'} {name}"}
    )


def _weights(held: Any, place: int, where: str) -> dict[str, Tensor]:
    """The weights by name, without the prefixes of wrappers."""
    if not isinstance(held, list) or len(held) <= place:
        lacks = "averaged weights: take the last ones, --weights model" if place else "weights"
        raise ValueError(f"{where}: wanted a list with weights at place {place}; it has no {lacks}")
    model = held[place]
    if not isinstance(model, Mapping) or not all(isinstance(value, Tensor) for value in model.values()):
        raise ValueError(f"{where}: wanted named weights at place {place} of the list; got {type(model).__name__}")
    return without_prefix(model, "module.", where)


def _lines(net: NCSN) -> Iterator[Line]:
    """The dictionary."""
    count, conditional = len(net.channels), net.noise_levels > 0
    names = {4: ["1", "2", "3", "4"], 5: ["1", "2", "3", "4", "5"], 6: ["1", "2", "3", "31", "4", "5"]}[count]
    yield from layer("inp", "begin_conv")
    for level, name in enumerate(names):
        pooled = ".conv" if 0 < level < count - 2 else ""  # a convolution inside of what takes the mean of 2 x 2
        for k, inside in enumerate((pooled, "")):
            own, other = f"down.{2 * level + k}", f"res{name}.{k}"
            yield from _norm(f"{own}.norm1", f"{other}.normalize1", conditional)
            yield from layer(f"{own}.conv1", f"{other}.conv1")
            yield from _norm(f"{own}.norm2", f"{other}.normalize2", conditional)
            yield from layer(f"{own}.conv2", f"{other}.conv2{inside}")
            if level and k == 0:
                yield from layer(f"{own}.shortcut", f"{other}.shortcut{inside}")
    for level, name in enumerate(names):
        own, other, lowest = f"up.{level}", f"refine{name}", level == 0
        yield from _units(f"{own}.own", f"{other}.adapt_convs.0", 2, conditional)
        if not lowest:
            yield from _units(f"{own}.below", f"{other}.adapt_convs.1", 2, conditional)
            for k, part in enumerate(("to_own", "to_below")):
                yield from _norm(f"{own}.{part}.norm", f"{other}.msf.norms.{k}", conditional, only=True)
                yield from layer(f"{own}.{part}.conv", f"{other}.msf.convs.{k}")
        for k in range(2):
            yield from _norm(f"{own}.pooled.{k}.norm", f"{other}.crp.norms.{k}", conditional, only=True)
            yield Line(f"{own}.pooled.{k}.conv.weight", (f"{other}.crp.convs.{k}.weight",))
        yield from _units(f"{own}.end", f"{other}.output_convs", 3 if level == count - 1 else 1, conditional)
    yield from _norm("norm", "normalizer", conditional)
    yield from layer("out", "end_conv")


def _units(own: str, other: str, count: int, conditional: bool) -> Iterator[Line]:
    for k in range(2 * count):
        place = f"{other}.{k // 2 + 1}_{k % 2 + 1}"
        yield from _norm(f"{own}.layers.{k}.norm", f"{place}_norm", conditional, only=True)
        yield Line(f"{own}.layers.{k}.conv.weight", (f"{place}_conv.weight",))


def _norm(own: str, other: str, conditional: bool, only: bool = False) -> Iterator[Line]:
    """A norm: of all noise levels in one embedding, or three vectors; some are there `only` with noise levels."""
    if conditional:
        yield Line(f"{own}.weights", (f"{other}.embed.weight",))
    elif not only:
        yield Line(f"{own}.weights", [f"{other}.{part}" for part in ("gamma", "alpha", "beta")], _row, _parts)


def _row(*vectors: Tensor) -> Tensor:
    return torch.cat(vectors)[None]


def _parts(row: Tensor) -> Sequence[Tensor]:
    return row[0].chunk(3)
