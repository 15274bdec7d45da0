"""Pictures and arrays that a user names: numbers in the data's units, masks, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorefield import operators, plot
from scorefield._inputs import as_tensor
from scorefield._unpacking import read_npy
from scorefield.cli.parts.reading import Reading, as_own
from scorefield.data import Colour, Images
from scorefield.data.deep import Deep
from scorefield.data.frames import Frames
from scorefield.data.images import MoreBits, Unfit, decoded, to_array
from scorefield.data.members import content, reason
from scorefield.model import ScoreModel
from scorefield.operators import Operator

PICTURE_UNITS = (operators.Identity, operators.Mask, operators.Colorize, operators.Blur, operators.SuperResolution)
MASKS = (
    "a mask is a picture, white where the sample is known, opaque there if parts of it are transparent, or an array "
    "(.npy), 0 or NaN where it is not known"
)


def load_values(path: Path) -> Tensor:
    """A picture as (height, width) or (3, height, width), or an array of any shape, in float64 if it is real."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    if is_array(path):
        values = as_tensor(read_npy(path), str(path))
        return values if values.is_complex() else values.double()
    try:
        frames = Frames.of(content(path))
        if len(frames) > 1:
            raise ValueError(f"it has {len(frames)} pages or frames: save the one that is meant by itself")
        picture = frames[0]
        if isinstance(picture, Deep):  # more than 8 bits a channel
            bands = 1 if picture.kind.bands == "LA" else 3 if picture.kind.bands == "RGBA" else None
            values = torch.as_tensor(picture.values[..., :bands].astype(np.float64))
            values = values[..., 0] if values.shape[-1] == 1 else values
        else:
            grey = picture.mode in ("L", "1", "LA")
            values = torch.as_tensor(np.array(picture.convert("L" if grey else "RGB"))).double()
    except Exception as error:  # a decoder may raise anything on damaged bytes
        raise ValueError(f"{path}: wanted a picture or a .npy array of numbers ({reason(error)})") from error
    return values.movedim(-1, 0) if values.ndim == 3 else values


def is_array(path: Path) -> bool:
    """Whether the name is that of an array, not of a picture."""
    return path.suffix.lower() == ".npy"


def load_mask(path: Path) -> Tensor:
    """Where a sample is known, as `MASKS` says.

    A picture of two values is white at the lighter one: of 0 and 1, or of 16 bits. Of more values the white ones are
    lighter than half of what its bits can hold, or of 1 if it holds real numbers.

    Raises:
        ValueError: it is known nowhere, or may be read in two ways.
    """
    values = load_values(path)
    if values.is_complex():
        raise ValueError(f"{path}: holds complex numbers: {MASKS}")
    hole = values.isnan()
    distinct = values[~hole].unique()
    if len(distinct) > 2 and bool(hole.any()):
        known = ~hole  # a picture or field with holes
    elif is_array(path):
        if len(distinct) > 2 and bool((distinct != distinct.round()).any()):
            raise ValueError(f"{path}: holds {len(distinct)} different values: {MASKS}")
        known = (values != 0) & ~hole
    else:
        known = _white(path, values if values.ndim == 2 else values.mean(0))
    if not bool(known.any()):
        of = f" (its values go from {float(distinct[0]):g} to {float(distinct[-1]):g})" if len(distinct) else ""
        raise ValueError(f"{path}: nothing of it is known{of}: {MASKS}")
    return known


def _white(path: Path, values: Tensor) -> Tensor:
    """Where a picture is white, or opaque."""
    picture = decoded(content(path))
    distinct = values[~values.isnan()].unique()
    if picture.has_transparency_data:
        opaque = torch.as_tensor(np.array(picture.convert("RGBA").getchannel("A"))) > 127
        if not bool(opaque.all()):
            if values[opaque].unique().tolist() == [0, 255]:
                raise ValueError(f"{path}: has black, white and transparent parts, which may mean either: {MASKS}")
            return opaque
    if len(distinct) == 2:
        return values == distinct[-1]
    most = 1 if picture.mode == "F" else 65535 if picture.mode.startswith("I") else 255
    if float(distinct[-1]) > most:
        raise ValueError(f"{path}: holds values up to {float(distinct[-1]):g}: {MASKS}")
    return values > most / 2


def measurement(path: Path, operator: Operator, model: ScoreModel) -> tuple[Operator, Tensor]:
    """What was measured, (1, *shape), and by which operator, of which numbers that are NaN are taken out.

    Raises:
        ValueError: it does not fit the operator, or is in other units than the data.
    """
    values, event_shape = _read(path, operator, model), model.event_shape
    values, levels = _shaped(operator, values, event_shape, path), model.transform.levels
    if not values.is_complex() and bool((hole := values.isnan()).any()):
        if not isinstance(operator, operators.Identity | operators.Mask):
            raise ValueError(f"{path}: has NaN, which only Identity and Mask leave out; got {type(operator).__name__}")
        observed = getattr(operator, "observed", torch.arange(hole.numel()))
        known = torch.zeros(event_shape, dtype=torch.bool).flatten().index_fill(0, observed[~hole.flatten()], True)
        operator, values = operators.Mask(known.reshape(event_shape)), values[~hole][None]
        print(f"{path}: {int(hole.sum())} of {hole.numel()} numbers are NaN, and taken for unknown")
    fractions = not values.is_complex() and bool((values != values.round()).any())
    if levels and levels > 4 and fractions and isinstance(operator, PICTURE_UNITS) and float(values.abs().max()) <= 1:
        low = "-1" if float(values.min()) < 0 else "0"
        raise ValueError(
            f"{path}: lies in [{low}, 1], where the model is of integers from 0 to {levels - 1}: give it in these units"
        )
    return operator, values


def _read(path: Path, operator: Operator, model: ScoreModel) -> Tensor:
    """What was measured; a picture of the data's own pixels is read as those of the training were."""
    values, event_shape, levels = load_values(path), model.event_shape, model.transform.levels
    of_mask = isinstance(operator, operators.Mask)
    shape = event_shape if of_mask else operator.A(torch.zeros(1, *event_shape)).shape[1:]
    pixels = plot.is_image(event_shape) and len(shape) == 3 and tuple(shape[1:]) == event_shape[1:]
    if is_array(path) or not pixels:
        return values
    if "images" not in model.about.get("reading", {}):
        few = levels is not None and levels < 256 and float(values.max()) < levels
        if levels in (None, 256) or few or float(values.max()) > 255:
            return values
        print(f"{path}: its 0 to 255 are taken for 0 to {levels - 1}, as samples are drawn")
        return values * ((levels - 1) / 255)
    images = as_own(Reading(), model.about, str(path)).images
    seen = _as_data(path, values, images, "L" if shape[0] == 1 else "RGB")
    if _long(seen.shape) != _long(values.shape):
        print(f"{path}: brought to the shape {tuple(seen.shape)}, as the pictures of the training were")
    return seen


def _as_data(path: Path, values: Tensor, images: Images, mode: str) -> Tensor:
    """A picture of 8 bits as one of a data set, (channels, height, width) in mode L or RGB; others are as they are."""
    try:
        seen, _ = to_array(content(path), replace(images, colour=Colour(mode)), mode)
    except Unfit as error:
        raise ValueError(f"{path}: is transparent, as no picture of the training: lay it on white or black") from error
    except MoreBits:  # in the data's units as they are
        return values
    return torch.from_numpy(seen.astype(np.float64))


def _shaped(operator: Operator, values: Tensor, event_shape: Sequence[int], path: Path) -> Tensor:
    """The file's values in the shape of one measurement, up to axes of length 1."""
    shape = operator.A(torch.zeros(1, *event_shape)).shape[1:]
    if (
        values.ndim == 3
        and len(values) == 3
        and not values.is_complex()
        and bool((values == values[:1]).all())
        and _long(values.shape) != _long(shape)
    ):
        values = values[0]  # a grey picture that is stored in colours
    if isinstance(operator, operators.Mask) and _long(values.shape) == _long(event_shape):
        return operator.A(values.reshape(1, *event_shape))
    if isinstance(operator, operators.FourierMask):
        whole = *shape[:-1], operator.height, operator.width
        if _long(values.shape) == _long(whole):
            return operator.entries(values.reshape(whole))[None]
    if _long(values.shape) != _long(shape):
        raise ValueError(f"--y {path}: the operator measures {tuple(shape)} of a sample; got {tuple(values.shape)}")
    return values.reshape(1, *shape)


def _long(shape: Sequence[int]) -> list[int]:
    """The axes that are longer than 1."""
    return [n for n in shape if n > 1]
