"""Checkpoints of Song et al.'s score_sde_pytorch.

A file `checkpoint_8.pth` holds the weights by name, and their averages in the order of the trainable ones. What network
they belong to is told by the configuration alone. Networks of data in [0, 1] make models of data in [-1, 1] here, with
twice the noise.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield._torch_files import read_torch
from scorefield.interop.configuration import Configuration, read_configuration
from scorefield.interop.ncsnpp_places import Place, layers, parts
from scorefield.interop.pixels import CENTRED, DEQUANTISED
from scorefield.interop.score_sde_published import PUBLISHED
from scorefield.interop.translation import Line, layer, loaded, refuse, stacked, without_prefix
from scorefield.model import ScoreModel
from scorefield.nn import NCSNpp, Pyramid
from scorefield.nn.attention import SelfAttention
from scorefield.nn.ncsnpp_parts import Block
from scorefield.nn.resampling import SMOOTH, ResampleConv
from scorefield.processes import VE, VP, GaussianSDE, SubVP
from scorefield.score import DDPMPrecond, NCSNPrecond, Precond, Preconditioned, VEPrecond, VPPrecond

PYRAMIDS = {
    "none": Pyramid.NONE,
    "input_skip": Pyramid.SKIP,
    "output_skip": Pyramid.SKIP,
    "residual": Pyramid.RESIDUAL,
}
NAMES = {
    "norm1": "GroupNorm_0",
    "conv1": "Conv_0",
    "shift": "Dense_0",
    "norm2": "GroupNorm_1",
    "conv2": "Conv_1",
    "shortcut": "Conv_2",
}


def load_score_sde(path: str | Path, config: str | Path, averaged: bool = True) -> ScoreModel:
    """A model of score_sde_pytorch: NCSN++, DDPM++ or DDPM for VE, VP or sub-VP.

    Args:
        path: the checkpoint, such as checkpoint_24.pth.
        config: its configuration as JSON or YAML, `config.to_json()` in their code; or the name of a published one,
            such as `ve/cifar10_ncsnpp_continuous`.
        averaged: the averaged weights instead of the last ones.

    Raises:
        ValueError: the file is not such a checkpoint, holds anything that could run code, or does not fit the
            configuration.
    """
    path = Path(path)
    told = _told(config)
    sde, precond = _process(told)
    weights = _weights(read_torch(path, str(path)), averaged, str(path))
    net = loaded(lambda: _network(told), _lines, weights, str(path), unused={"sigmas"})
    transform = DEQUANTISED if told.get("data.uniform_dequantization", bool, False) else CENTRED
    about = {"imported": f"score_sde_pytorch {path.name}", "averaged": averaged}
    model = Preconditioned(net, sde, precond).eval()
    return ScoreModel(model, net.event_shape, transform, about=about)


def _told(config: str | Path) -> Configuration:
    if (published := PUBLISHED.get(str(config))) is not None:
        return Configuration(published, f"the published {config}")
    if not Path(config).exists():
        near = difflib.get_close_matches(str(config), PUBLISHED, 3, 0) if "/" in str(config) else list(PUBLISHED)[:3]
        raise FileNotFoundError(f"{config}: no such file; published ones have names such as {', '.join(near)}")
    return read_configuration(Path(config))


def _network(told: Configuration) -> NCSNpp:
    """The network that a configuration describes, with initial weights."""
    told.one_of("model.normalization", "GroupNorm")
    told.one_of("model.nonlinearity", "swish")
    told.one_of("model.conditional", True, default=True)
    told.one_of("model.resamp_with_conv", True, default=True)
    ddpm = told.one_of("model.name", "ncsnpp", "ddpm") == "ddpm"
    width, side, channels = (
        told.get("model.nf", int),
        told.get("data.image_size", int),
        told.get("data.num_channels", int),
    )
    multipliers, attention = told.integers("model.ch_mult"), told.integers("model.attn_resolutions")
    arguments: dict[str, Any] = {
        "width": width,
        "channels": [width * multiplier for multiplier in multipliers],
        "blocks": told.count("model.num_res_blocks"),
        "attention": [side >> level in attention for level in range(len(multipliers))],
        "dropout": told.get("model.dropout", float, 0.0),
    }
    if ddpm:
        arguments |= {
            "fourier_scale": None,
            "resample_blocks": False,
            "fir": False,
            "rescale": False,
            "pyramid_in": Pyramid.NONE,
            "group_width": 1,
        }
    else:
        told.one_of("model.attention_type", "ddpm", default="ddpm")
        fir = told.get("model.fir", bool)
        if fir and told.integers("model.fir_kernel") != SMOOTH:
            raise ValueError(f"{told.where}: wanted model.fir_kernel to be {list(SMOOTH)}; no other has been published")
        arguments |= {
            "fourier_scale": told.get("model.fourier_scale", float, 16.0) if _fourier(told) else None,
            "resample_blocks": told.one_of("model.resblock_type", "biggan", "ddpm") == "biggan",
            "fir": fir,
            "rescale": told.get("model.skip_rescale", bool),
            "pyramid_in": PYRAMIDS[told.one_of("model.progressive_input", "none", "input_skip", "residual")],
            "pyramid_out": PYRAMIDS[told.one_of("model.progressive", "none", "output_skip", "residual")],
            "concatenate": told.one_of("model.progressive_combine", "sum", "cat", default="sum") == "cat",
        }
    return told.made(NCSNpp, (channels, side, side), **arguments)


def _fourier(told: Configuration) -> bool:
    """Whether the network is told the logarithm of the noise, through random frequencies."""
    ncsnpp = told.one_of("model.name", "ncsnpp", "ddpm") == "ncsnpp"
    return ncsnpp and told.one_of("model.embedding_type", "fourier", "positional") == "fourier"


def _process(told: Configuration) -> tuple[GaussianSDE, Precond]:
    """The process of a configuration, in the space of data in [-1, 1], and how the network is told of its times."""
    fourier = _fourier(told)
    kind, continuous = told.one_of("training.sde", "vesde", "vpsde", "subvpsde"), told.get("training.continuous", bool)
    levels = told.get("model.num_scales", int, 1000)
    if kind == "vesde":
        unit = 1.0 if told.get("data.centered", bool) else 2.0
        low, high = (unit * told.get(f"model.{name}", float) for name in ("sigma_min", "sigma_max"))
        told.one_of("model.scale_by_sigma", True)
        if continuous != fourier:
            raise ValueError(
                f"{told.where}: wanted a Fourier embedding for continuous noise levels, or a positional one for "
                "model.num_scales of them; the authors' code has no other that works"
            )
        return VE(low, high), VEPrecond(unit) if continuous else NCSNPrecond(low, high, levels)
    told.one_of("data.centered", True)
    told.one_of("model.scale_by_sigma", False)
    low, high = told.get("model.beta_min", float, 0.1), told.get("model.beta_max", float, 20.0)
    if fourier:
        raise ValueError(f"{told.where}: wanted model.embedding_type positional, since the process is {kind}")
    if continuous:
        return (VP if kind == "vpsde" else SubVP)(low, high), VPPrecond()
    told.one_of("training.sde", "vpsde")
    precond = DDPMPrecond(low / levels, high / levels, levels)
    return precond.process(), precond


def _weights(held: Any, averaged: bool, where: str) -> dict[str, Tensor]:
    """The weights by name, without the prefixes of wrappers; the averages, which are a list, in the order of these."""
    model = held.get("model") if isinstance(held, dict) else None
    if not isinstance(model, Mapping) or not all(isinstance(value, Tensor) for value in model.values()):
        raise ValueError(f"{where}: has no weights by the name of `model`: is it a checkpoint of score_sde_pytorch?")
    weights = without_prefix(model, "module.", where)
    if not averaged:
        return weights
    shadow = held["ema"].get("shadow_params") if isinstance(held.get("ema"), Mapping) else None
    if not isinstance(shadow, list) or not all(isinstance(value, Tensor) for value in shadow):
        raise ValueError(f"{where}: has no averaged weights (ema.shadow_params): take the last ones, --weights model")
    fixed = {"sigmas", *(name for name, value in weights.items() if name.endswith(".W") and value.ndim == 1)}
    trained = [name for name in weights if name not in fixed]
    if len(trained) != len(shadow):
        raise ValueError(f"{where}: has {len(shadow)} averages for {len(trained)} trained weights; not read")
    refuse(
        [
            f"the average of {name} has shape {tuple(value.shape)} instead of {tuple(weights[name].shape)}"
            for name, value in zip(trained, shadow, strict=True)
            if value.shape != weights[name].shape
        ],
        where,
    )
    return weights | dict(zip(trained, shadow, strict=True))


def _lines(net: NCSNpp) -> Iterator[Line]:
    """The dictionary: their parts are numbered from the first to the last."""
    numbers = count()
    if net.fourier_scale is not None:
        yield Line("embedding.frequencies", (f"all_modules.{next(numbers)}.W",))
    for part in parts(net):
        own, other = part.own, f"all_modules.{next(numbers)}"
        if isinstance(part.module, SelfAttention):
            yield from layer(f"{own}.norm", f"{other}.GroupNorm_0")
            yield from _nin(f"{own}.qkv", *(f"{other}.NIN_{k}" for k in range(3)))
            yield from _nin(f"{own}.out", f"{other}.NIN_3")
        elif isinstance(part.module, ResampleConv):
            yield from layer(f"{own}.conv", f"{other}.{'Conv2d_0' if net.fir else 'Conv_0'}")
        elif isinstance(part.module, Block):
            for name in layers(part.module):
                if name == "shortcut" and not net.resample_blocks:
                    yield from _nin(f"{own}.shortcut", f"{other}.NIN_0", space=2)
                else:
                    yield from layer(f"{own}.{name}", f"{other}.{NAMES[name]}")
        else:
            yield from layer(own, f"{other}.Conv_0" if part.place is Place.IMAGE_IN else other)


def _nin(own: str, *others: str, space: int = 0) -> Iterator[Line]:
    """Layers that they call a network in network: W is (inputs, outputs), and the bias is called b."""

    def join(*theirs: Tensor) -> Tensor:
        return torch.cat([w.T for w in theirs]).reshape(-1, len(theirs[0]), *[1] * space)

    def split(ours: Tensor) -> Sequence[Tensor]:
        return [w.T for w in ours.flatten(1).chunk(len(others))]

    yield Line(f"{own}.weight", [f"{other}.W" for other in others], join, split)
    yield stacked(f"{own}.bias", [f"{other}.b" for other in others])
