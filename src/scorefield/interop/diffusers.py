"""Pipelines of Hugging Face's diffusers: folders with a UNet2DModel and a scheduler, in and out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from scorefield._describe import describe
from scorefield._files import new_directory, read_tensors, write_file, write_text
from scorefield._torch_files import read_torch
from scorefield.data import Affine
from scorefield.interop.configuration import Configuration, read_configuration
from scorefield.interop.diffusers_scheduler import VERSION, process, scheduler
from scorefield.interop.ncsnpp_places import Place, layers, parts
from scorefield.interop.pixels import CENTRED, DEQUANTISED, UNIT
from scorefield.interop.translation import Line, layer, loaded, stacked, translated_back
from scorefield.model import ScoreModel
from scorefield.nn import NCSNpp, Pyramid
from scorefield.nn.attention import SelfAttention
from scorefield.nn.ncsnpp_parts import Block
from scorefield.nn.normalisation import Norm
from scorefield.nn.resampling import ResampleConv
from scorefield.score import Preconditioned

WEIGHTS = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"
PLACES = {
    Place.TIME_INNER: "time_embedding.linear_1",
    Place.TIME_OUTER: "time_embedding.linear_2",
    Place.INP: "conv_in",
    Place.DOWN_BLOCK: "down_blocks.{level}.resnets.{number}",
    Place.DOWN_ATTENTION: "down_blocks.{level}.attentions.{number}",
    Place.DOWN_RESAMPLE: "down_blocks.{level}.downsamplers.0",
    Place.IMAGE_IN: "down_blocks.{level}.skip_conv",
    Place.MIDDLE_BLOCK: "mid_block.resnets.{number}",
    Place.MIDDLE_ATTENTION: "mid_block.attentions.0",
    Place.UP_BLOCK: "up_blocks.{up}.resnets.{number}",
    Place.UP_ATTENTION: "up_blocks.{up}.attentions.{number}",
    Place.IMAGE_NORM: "up_blocks.{up}.skip_norm",
    Place.IMAGE_OUT: "up_blocks.{up}.skip_conv",
    Place.UP_RESAMPLE: "up_blocks.{up}.upsamplers.0",
    Place.NORM: "conv_norm_out",
    Place.OUT: "conv_out",
}
SKIPS = {
    Place.DOWN_RESAMPLE: "down_blocks.{level}.resnet_down",
    Place.UP_ATTENTION: "up_blocks.{up}.attentions.0",
    Place.UP_RESAMPLE: "up_blocks.{up}.resnet_up",
}
NAMES = {
    "norm1": "norm1",
    "conv1": "conv1",
    "shift": "time_emb_proj",
    "norm2": "norm2",
    "conv2": "conv2",
    "shortcut": "conv_shortcut",
}
# what UNet2DModel takes for the options that a configuration does not name
DEFAULTS: dict[str, Any] = {
    "_class_name": "UNet2DModel",
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1.0,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
}
# names of attention's layers in old files
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def load_diffusers(path: str | Path) -> ScoreModel:
    """A model of a diffusers pipeline: the U-Net of DDPM, or that of NCSN++, with the scheduler's noise levels.

    The data lie in [-1, 1], but in [0, 1] for an NCSN++ that does not centre its input. Between the steps of DDPM the
    network is told a step between them (`DDPMPrecond`); most of their schedulers round to whole ones. Where zero
    terminal SNR leaves nothing of the data at the last step, a^2 there is 2^-24, or half that of the step before if
    that is less. Of the classes of a conditional network, whose samples need a label, only numbers are known.

    Args:
        path: the folder of a pipeline, with `unet` and `scheduler` in it, or an old one with everything at its root.

    Raises:
        ValueError: the folder is not such a pipeline, a file holds anything that could run code, or the network has an
            option that ours does not have.
    """
    path = Path(path)
    folder = path / "unet" if (path / "unet").is_dir() else path
    noise = path / "scheduler_config.json"
    noise = noise if noise.is_file() else path / "scheduler" / noise.name
    config = read_configuration(folder / "config.json")
    config = Configuration({**DEFAULTS, **config.values}, config.where)
    config.one_of("_class_name", "UNet2DModel")
    fourier = config.one_of("time_embedding_type", "positional", "fourier") == "fourier"
    flipped = not fourier and config.one_of("flip_sin_to_cos", True, False)
    centres = not fourier or config.one_of("center_input_sample", True, False)
    sde, precond = process(read_configuration(noise), fourier, centres)
    net = loaded(lambda: _same_network(config), lambda net: _lines(net, flipped), *_read(folder))
    model = Preconditioned(net, sde, precond).eval()
    transform = CENTRED if centres else UNIT
    about = {"imported": f"diffusers {path.name}"}
    return ScoreModel(model, net.event_shape, transform, net.classes, about, needs_label=net.classes > 0)


def save_diffusers(model: ScoreModel, path: str | Path) -> None:
    """Writes a model as a pipeline of diffusers, where both have the same network: DDPMPipeline or ScoreSdeVePipeline.

    Args:
        model: of 8-bit images, with an `NCSNpp` of the graph that diffusers has, under `DDPMPrecond`, or under
            `VPPrecond` on VP, or, with Fourier embedding and both pyramids, under `VEPrecond` on VE, the only one whose
            data may lie in [0, 1]. If it has classes, trained with labels alone: diffusers knows no unknown class, and
            its networks take `class_labels`, which its pipelines do not give them.
        path: a new folder.

    Raises:
        ValueError: diffusers has no such network, process or data, or the folder is not empty; nothing is written.
    """
    path, denoiser = Path(path), model.denoiser
    if not isinstance(denoiser, Preconditioned) or not isinstance(denoiser.net, NCSNpp):
        raise ValueError("diffusers has no such model: only a `Preconditioned` `NCSNpp` can be written for it")
    if not isinstance(model.transform, Affine) or model.transform not in (CENTRED, DEQUANTISED, UNIT):
        raise ValueError(
            "diffusers has pipelines for 8-bit images alone, in [-1, 1], or in [0, 1] for VE; got other data: "
            f"{model.transform}"
        )
    if model.classes and not model.needs_label:
        raise ValueError(
            "diffusers has no such model: its classes include no unknown one; train with labels alone, "
            "--label_dropout 0, or without"
        )
    net, centres = denoiser.net, model.transform != UNIT
    noise = scheduler(denoiser, centres)
    config = _config(net) | {"center_input_sample": net.fourier_scale is not None and centres}
    with torch.device("meta"):
        again = _network(Configuration(config, "diffusers has no such network"))
    _refuse_differences(_form(again), _form(net), "diffusers has no such network")
    _refuse_narrow_attention(net)
    if _groups(net) != _groups(again):
        raise ValueError(f"diffusers has no such network: groups of the norms {_groups(net)}, not {_groups(again)}")
    tensors = translated_back(net.state_dict(), _lines(net, flipped=False))
    pipeline = "ScoreSdeVePipeline" if net.fourier_scale is not None else "DDPMPipeline"
    index = {
        "_class_name": pipeline,
        "_diffusers_version": VERSION,
        "scheduler": ["diffusers", noise["_class_name"]],
        "unet": ["diffusers", "UNet2DModel"],
    }
    described = {**config, "_class_name": "UNet2DModel", "_diffusers_version": VERSION}
    with new_directory(path) as folder:
        for name in ("unet", "scheduler"):
            (folder / name).mkdir()
        weights = save(tensors, {"format": "pt"})
        write_file(folder / "unet" / WEIGHTS[0], lambda file: file.write(weights))
        for name, values in (("unet/config", described), ("scheduler/scheduler_config", noise), ("model_index", index)):
            write_text(folder / f"{name}.json", json.dumps(values, indent=2) + "\n")


def _same_network(config: Configuration) -> NCSNpp:
    """The network of a UNet2DModel, with initial weights; refuses options that ours does not have."""
    net = _network(config)
    fourier = net.fourier_scale is not None
    free = {"flip_sin_to_cos", *(("freq_shift", "center_input_sample", "downsample_padding") if fourier else ())}
    wanted = {name: value for name, value in _config(net).items() if name not in free}
    _refuse_differences(wanted, config.values, f"{config.where}: a network that scorefield does not have")
    _refuse_narrow_attention(net)
    return net


def _network(told: Configuration) -> NCSNpp:
    """The network of ours that is nearest to a UNet2DModel, with initial weights."""
    skips = told.one_of("time_embedding_type", "positional", "fourier") == "fourier"
    channels = told.integers("block_out_channels")
    size, types = told.values.get("sample_size"), told.values["down_block_types"]
    sides = tuple(told.integers("sample_size")) if isinstance(size, list) else (told.get("sample_size", int),) * 2
    heads = told.values.get("attention_head_dim")
    classes = told.get("num_class_embeds", int, 0) if told.values.get("class_embed_type") is None else 0
    arguments: dict[str, Any] = {
        "classes": classes,
        "label_last": classes > 0,
        "width": channels[0],
        "channels": channels,
        "blocks": told.count("layers_per_block"),
        "attention": ["Attn" in str(name) for name in types] if isinstance(types, list) else [],
        "head_channels": None if heads is None else told.get("attention_head_dim", int),
        "dropout": told.get("dropout", float),
        "eps": told.get("norm_eps", float),
    }
    if skips:
        arguments |= {"pyramid_in": Pyramid.SKIP, "pyramid_out": Pyramid.SKIP}
    else:
        arguments |= {
            "fourier_scale": None,
            "frequency_shift": told.get("freq_shift", int),
            "resample_blocks": False,
            "fir": False,
            "centred": told.get("downsample_padding", int) == 1,
            "rescale": False,
            "pyramid_in": Pyramid.NONE,
            "attention_each": True,
            "group_width": 1,
        }
    return told.made(NCSNpp, (told.get("in_channels", int), *sides), **arguments)


def _config(net: NCSNpp) -> dict[str, Any]:
    """The configuration of the UNet2DModel that is nearest to a network of ours."""
    skips = net.fourier_scale is not None
    kind = "Skip" if skips else ""
    blocks = [f"{'Attn' if attends else ''}{kind}{{}}Block2D" for attends in net.attention]
    return {
        **DEFAULTS,
        "sample_size": net.event_shape[1] if len({*net.event_shape[1:]}) == 1 else list(net.event_shape[1:]),
        "in_channels": net.event_shape[0],
        "out_channels": net.event_shape[0],
        "time_embedding_type": "fourier" if skips else "positional",
        "freq_shift": DEFAULTS["freq_shift"] if skips else net.frequency_shift,
        "flip_sin_to_cos": False,
        "down_block_types": [name.format("Down") for name in blocks],
        "up_block_types": [name.format("Up") for name in reversed(blocks)],
        "block_out_channels": list(net.channels),
        "layers_per_block": net.blocks,
        "mid_block_scale_factor": 2**0.5 if skips else 1.0,
        "downsample_padding": 1 if skips or net.centred else 0,
        "dropout": net.dropout,
        "attention_head_dim": net.head_channels,
        "norm_num_groups": None if skips else 32,
        "norm_eps": net.eps,
        "num_class_embeds": net.classes or None,
    }


def _form(net: NCSNpp) -> dict[str, Any]:
    """What makes two networks the same graph, but for the groups of their norms."""
    free = {"class", "checkpointing", "group_width", "fourier_scale"}
    options = {name: value for name, value in describe(net).items() if name not in free}
    return {**options, "fourier": net.fourier_scale is not None}


def _groups(net: NCSNpp) -> list[int]:
    """The groups of all norms."""
    norms = [part for part in net.modules() if isinstance(part, Norm | nn.GroupNorm)]
    return [norm.number if isinstance(norm, Norm) else norm.num_groups for norm in norms]


def _refuse_narrow_attention(net: NCSNpp) -> None:
    """In skip blocks diffusers' attention always has 32 groups, ours at most one for every 4 channels."""
    widths = [wide for attends, wide in zip(net.attention, net.channels, strict=True) if attends and wide < 128]
    if net.fourier_scale is not None and widths:
        raise ValueError(
            f"the norms of this network and of its like in diffusers differ: attention of {widths[0]} channels, "
            "wanted 128 or more"
        )


def _refuse_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], what: str) -> None:
    differ = [name for name, value in ours.items() if not _same(value, theirs.get(name))]
    if differ:
        listed = "; ".join(f"{name} {_short(theirs.get(name))} instead of {_short(ours[name])}" for name in differ)
        raise ValueError(f"{what}: {listed}")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6)
    return one == other or {str(one), str(other)} == {"silu", "swish"}


def _short(value: Any) -> str:
    return str(value)[:100] if isinstance(value, bool | int | float | str | list | None) else type(value).__name__


def _lines(net: NCSNpp, flipped: bool) -> Iterator[Line]:
    """The dictionary; with cosines before sines in their embedding if it is flipped."""
    skips, last = net.fourier_scale is not None, len(net.channels) - 1
    places = PLACES | SKIPS if skips else PLACES
    if skips:
        yield Line("embedding.frequencies", ("time_proj.weight",))
    if net.classes:
        yield Line("embedding.label.weight", ("class_embedding.weight",), _with_unknown, _without_unknown)
    for part in parts(net):
        own, other = part.own, places[part.place].format(level=part.level, up=last - part.level, number=part.number)
        if part.level == 0 and part.place in (Place.IMAGE_NORM, Place.IMAGE_OUT):
            other = PLACES[Place.NORM if part.place is Place.IMAGE_NORM else Place.OUT]
        if part.place is Place.TIME_INNER and flipped:
            yield Line(f"{own}.weight", (f"{other}.weight",), _swapped, _swap)
            yield Line(f"{own}.bias", (f"{other}.bias",))
        elif isinstance(part.module, SelfAttention):
            yield from layer(f"{own}.norm", f"{other}.group_norm")
            for kind in ("weight", "bias"):
                yield stacked(f"{own}.qkv.{kind}", [f"{other}.{name}.{kind}" for name in ("to_q", "to_k", "to_v")])
            yield from layer(f"{own}.out", f"{other}.to_out.0")
        elif isinstance(part.module, ResampleConv):
            yield from layer(f"{own}.conv", f"{other}.conv")
        elif isinstance(part.module, Block):
            for name in layers(part.module):
                yield from layer(f"{own}.{name}", f"{other}.{NAMES[name]}")
        else:
            yield from layer(own, other)


def _swapped(weight: Tensor) -> Tensor:
    return torch.cat(weight.chunk(2, 1)[::-1], 1)


def _swap(weight: Tensor) -> Sequence[Tensor]:
    return (_swapped(weight),)


def _with_unknown(classes: Tensor) -> Tensor:
    return torch.cat((torch.zeros_like(classes[:1]), classes))


def _without_unknown(rows: Tensor) -> Sequence[Tensor]:
    return (rows[1:],)


def _read(folder: Path) -> tuple[dict[str, Tensor], str]:
    """The weights under today's names, and the file that they are from."""
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), folder / WEIGHTS[0])
    held = read_tensors(file)[0] if file.suffix == ".safetensors" else read_torch(file, str(file))
    if not isinstance(held, Mapping) or not all(isinstance(value, Tensor) for value in held.values()):
        raise ValueError(f"{file}: wanted tensors by name; got {type(held).__name__}")
    weights: dict[str, Tensor] = {}
    for name, value in held.items():
        layer_, _, kind = str(name).rpartition(".")
        before, _, last = layer_.rpartition(".")
        weights[f"{before}.{OLD[last]}.{kind}" if last in OLD else str(name)] = value
    return weights, str(file)
