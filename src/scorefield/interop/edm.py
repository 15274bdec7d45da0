"""Networks of EDM, which NVIDIA publishes as pickles  (Karras et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from scorefield.interop.configuration import Configuration
from scorefield.interop.edm2 import edm2_model
from scorefield.interop.ncsnpp_places import Place, layers, parts
from scorefield.interop.pickles import Held, read_pickle
from scorefield.interop.pixels import CENTRED
from scorefield.interop.translation import Line, interleaved, layer, loaded
from scorefield.model import ScoreModel
from scorefield.nn import NCSNpp, Pyramid
from scorefield.nn.attention import SelfAttention
from scorefield.nn.ncsnpp_parts import Block
from scorefield.nn.resampling import NEAREST, SMOOTH, ResampleConv
from scorefield.processes import EDM, VE, VP, GaussianSDE
from scorefield.score import EDMPrecond, Precond, Preconditioned, VEPrecond, VPPrecond

PLACES = {
    Place.TIME_INNER: "map_layer0",
    Place.TIME_OUTER: "map_layer1",
    Place.INP: "enc.{here}_conv",
    Place.DOWN_BLOCK: "enc.{here}_block{number}",
    Place.DOWN_ATTENTION: "enc.{here}_block{number}",
    Place.DOWN_RESAMPLE: "enc.{below}_down",
    Place.IMAGE_DOWN: "enc.{below}_aux_residual",
    Place.IMAGE_IN: "enc.{below}_aux_skip",
    Place.MIDDLE_BLOCK: "dec.{here}_in{number}",
    Place.MIDDLE_ATTENTION: "dec.{here}_in{number}",
    Place.UP_BLOCK: "dec.{here}_block{number}",
    Place.UP_ATTENTION: "dec.{here}_block{number}",
    Place.IMAGE_NORM: "dec.{here}_aux_norm",
    Place.IMAGE_OUT: "dec.{here}_aux_conv",
    Place.UP_RESAMPLE: "dec.{above}_up",
    Place.NORM: "dec.{here}_aux_norm",
    Place.OUT: "dec.{here}_aux_conv",
}
NAMES = {
    "norm1": "norm0",
    "conv1": "conv0",
    "shift": "affine",
    "norm2": "norm1",
    "conv2": "conv1",
    "shortcut": "skip",
}


def load_edm(path: str | Path) -> ScoreModel:
    """A model of EDM (DDPM++ or NCSN++ under the preconditioning of EDM, VP or VE) or of EDM2.

    The augmentation labels of its training are left out, which is what sampling does. The pickle brings the source text
    of its classes along, which is not run.

    Args:
        path: such as edm-cifar10-32x32-uncond-vp.pkl or edm2-img64-s-1073741-0.075.pkl.

    Raises:
        ValueError: the file is not such a pickle, names anything that could run code, or holds another network.
    """
    path = Path(path)
    held = read_pickle(path)
    outer = held.get("ema") if isinstance(held, dict) else None
    if isinstance(outer, Held) and outer.name == "Precond":
        model = edm2_model(outer, held.get("encoder"), str(path))
        model.about["imported"] = f"EDM2 {path.name}"
        return model
    inner = outer.named("_modules").get("model") if isinstance(outer, Held) else None
    if not isinstance(outer, Held) or not isinstance(inner, Held):
        raise ValueError(f"{path}: wanted a network of EDM under the name ema; it has none")
    if inner.name != "SongUNet":
        raise ValueError(
            f"{path}: holds a {inner.name}, of the networks of EDM only SongUNet (DDPM++, NCSN++) is known"
        )
    told = Configuration(inner.named("_init_kwargs"), str(path))
    sde, precond = _process(outer, str(path))
    weights = inner.tensors()
    unused = {name for name in weights if name.endswith("resample_filter") or name.startswith("map_augment.")}
    net = loaded(lambda: _network(told), _lines, weights, str(path), unused)
    return ScoreModel(
        Preconditioned(net, sde, precond).eval(),
        net.event_shape,
        CENTRED,
        net.classes,
        {"imported": f"EDM {path.name}"},
        needs_label=net.classes > 0 and told.get("label_dropout", float, 0.0) == 0,
    )


def _network(told: Configuration) -> NCSNpp:
    """The network that SongUNet's arguments describe, with initial weights."""
    side, channels = told.get("img_resolution", int), told.get("in_channels", int)
    if told.get("out_channels", int) != channels:
        raise ValueError(f"{told.where}: wanted as many channels out as in, {channels}")
    fourier = told.one_of("embedding_type", "fourier", "positional", default="positional") == "fourier"
    if told.get("channel_mult_noise", int, 1) != (2 if fourier else 1) or told.get("channel_mult_emb", int, 4) != 4:
        raise ValueError(
            f"{told.where}: wanted channel_mult_noise 2 for fourier, 1 for positional, and channel_mult_emb 4"
        )
    taps = told.integers("resample_filter", default=NEAREST)
    if taps not in (NEAREST, SMOOTH):
        raise ValueError(f"{told.where}: wanted resample_filter {list(NEAREST)} or {list(SMOOTH)}; got {list(taps)}")
    width, multipliers = told.get("model_channels", int, 128), told.integers("channel_mult", default=(1, 2, 2, 2))
    attention = told.integers("attn_resolutions", default=(16,))
    kinds = {"standard": Pyramid.NONE, "skip": Pyramid.SKIP, "residual": Pyramid.RESIDUAL}
    return told.made(
        NCSNpp,
        (channels, side, side),
        classes=told.get("label_dim", int, 0),
        width=width,
        channels=[width * multiplier for multiplier in multipliers],
        blocks=told.count("num_blocks", 4),
        attention=[side >> level in attention for level in range(len(multipliers))],
        fourier_scale=16.0 if fourier else None,
        fir=taps == SMOOTH,
        pyramid_in=kinds[told.one_of("encoder_type", *kinds, default="standard")],
        pyramid_out=kinds[told.one_of("decoder_type", "standard", "skip", default="standard")],
        dropout=told.get("dropout", float, 0.1),
    )


def _process(outer: Held, where: str) -> tuple[GaussianSDE, Precond]:
    """The process of a preconditioner's noise levels, and ours of its kind."""
    values = Configuration({**outer.state, **outer.named("_init_kwargs")}, where)
    if outer.name == "EDMPrecond":
        return EDM(), EDMPrecond(values.get("sigma_data", float, 0.5))
    if outer.name == "VEPrecond":
        return VE(values.get("sigma_min", float, 0.02), values.get("sigma_max", float, 100.0)), VEPrecond(2.0)
    if outer.name == "VPPrecond":
        low = values.get("beta_min", float, 0.1)
        return VP(low, low + values.get("beta_d", float, 19.9)), VPPrecond(values.get("M", int, 1000) - 1.0)
    raise ValueError(f"{where}: wanted EDMPrecond, VEPrecond or VPPrecond; got {outer.name}")


def _lines(net: NCSNpp) -> Iterator[Line]:
    """The dictionary: most of their parts are named by the side of the images that they see."""
    side = net.event_shape[1]
    if net.fourier_scale is not None:
        yield Line("embedding.frequencies", ("map_noise.freqs",))
    if net.classes:
        yield _labels(net.classes)
    for part in parts(net):
        sides = {
            name: f"{side >> level}x{side >> level}"
            for name, level in (("here", part.level), ("below", part.level + 1), ("above", max(0, part.level - 1)))
        }
        own, other = part.own, PLACES[part.place].format(number=part.number, **sides)
        if isinstance(part.module, SelfAttention):
            yield from layer(f"{own}.norm", f"{other}.norm2")
            yield interleaved(f"{own}.qkv.weight", f"{other}.qkv.weight", part.module.heads, squeezed=True)
            yield interleaved(f"{own}.qkv.bias", f"{other}.qkv.bias", part.module.heads)
            yield Line(f"{own}.out.weight", (f"{other}.proj.weight",), _without_space, _with_space)
            yield Line(f"{own}.out.bias", (f"{other}.proj.bias",))
        elif isinstance(part.module, ResampleConv):
            yield from layer(f"{own}.conv", other)
        elif isinstance(part.module, Block):
            for name in layers(part.module):
                yield from layer(f"{own}.{name}", f"{other}.{NAMES[name]}")
        else:
            yield from layer(own, other)


def _labels(classes: int) -> Line:
    """Their layer sees sqrt(classes) times a one-hot vector, zero if the class is unknown: our first row."""
    scale = math.sqrt(classes)

    def join(weight: Tensor, bias: Tensor) -> Tensor:
        return torch.cat((torch.zeros_like(bias)[None], scale * weight.T)) + bias

    def split(rows: Tensor) -> Sequence[Tensor]:
        return ((rows[1:] - rows[0]).T / scale, rows[0])

    return Line("embedding.label.weight", ("map_label.weight", "map_label.bias"), join, split)


def _without_space(weight: Tensor) -> Tensor:
    return weight[..., 0, 0]


def _with_space(weight: Tensor) -> Sequence[Tensor]:
    return (weight[..., None, None],)
