"""Networks of EDM2, which NVIDIA publishes as pickles  (Karras et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scorefield.data import Affine, Transform
from scorefield.interop.configuration import Configuration
from scorefield.interop.pickles import Held, HeldNumbers
from scorefield.interop.pixels import CENTRED
from scorefield.interop.translation import Line, interleaved, loaded
from scorefield.model import ScoreModel
from scorefield.nn import EDM2UNet
from scorefield.nn.edm2_parts import BALANCE, LIMIT, Block
from scorefield.nn.resampling import Rate
from scorefield.processes import EDM
from scorefield.score import EDMPrecond, Preconditioned

# options that the published networks leave as they are
FIXED = {
    "channel_mult_noise": None,
    "channel_mult_emb": None,
    "label_balance": 0.5,
    "concat_balance": 0.5,
    "res_balance": BALANCE,
    "attn_balance": BALANCE,
    "clip_act": LIMIT,
}


def edm2_model(outer: Held, encoder: Any, where: str) -> ScoreModel:
    """The model of a network under its preconditioner.

    Args:
        outer: a `Precond`, as a pickle holds it.
        encoder: what turns the data into what the network sees, None for images; latent codes get its linear map.
        where: the file, for messages.
    """
    told = Configuration(outer.named("_init_kwargs"), where)
    weights = {
        name.removeprefix("unet."): value for name, value in outer.tensors().items() if not name.startswith("logvar_")
    }
    net = loaded(lambda: _network(told), _lines, weights, where)
    return ScoreModel(
        Preconditioned(net, EDM(), EDMPrecond(told.get("sigma_data", float, 0.5))).eval(),
        net.event_shape,
        _transform(encoder, where),
        net.classes,
        needs_label=net.classes > 0,
    )


def _network(told: Configuration) -> EDM2UNet:
    """The network that the arguments of their Precond describe, with initial weights."""
    for name, wanted in FIXED.items():
        if (value := told.values.get(name, wanted)) != wanted:
            raise ValueError(f"{told.where}: wanted {name} to be {wanted}, as published; got {value}")
    if told.integers("resample_filter", default=(1, 1)) != (1, 1):
        raise ValueError(f"{told.where}: wanted resample_filter to be [1, 1], as published")
    side, width = told.get("img_resolution", int), told.get("model_channels", int, 192)
    multipliers = told.integers("channel_mult", default=(1, 2, 3, 4))
    attention = told.integers("attn_resolutions", default=(16, 8))
    return told.made(
        EDM2UNet,
        (told.get("img_channels", int), side, side),
        told.get("label_dim", int),
        channels=[width * multiplier for multiplier in multipliers],
        blocks=told.count("num_blocks", 3),
        attention=[side >> level in attention for level in range(len(multipliers))],
        head_channels=told.get("channels_per_head", int, 64),
        dropout=told.get("dropout", float, 0.0),
        whole_heads=True,
    )


def _transform(encoder: Any, where: str) -> Transform:
    if encoder is None or (isinstance(encoder, Held) and encoder.name == "StandardRGBEncoder"):
        return CENTRED
    if isinstance(encoder, Held) and encoder.name == "StabilityVAEEncoder":
        held = [encoder.state.get(name) for name in ("scale", "bias")]
        scale, bias = (value.values if isinstance(value, HeldNumbers) else np.zeros(0) for value in held)
        if 0 < len(scale) == len(bias) and bool((scale > 0).all()):
            shift, unit = (tuple(((float(value),),) for value in values) for values in (-bias / scale, 1 / scale))
            return Affine(shift, unit)
    name = encoder.name if isinstance(encoder, Held) else type(encoder).__name__
    raise ValueError(f"{where}: wanted images, or latent codes of a StabilityVAEEncoder; got those of a {name}")


def _lines(net: EDM2UNet) -> Iterator[Line]:
    """The dictionary: their blocks are named by the side of the images that they see."""
    for own, other in (
        ("frequencies", "emb_fourier.freqs"),
        ("phases", "emb_fourier.phases"),
        ("noise.weight", "emb_noise.weight"),
        ("out.weight", "out_conv.weight"),
        ("gain", "out_gain"),
    ):
        yield Line(own, (other,))
    if net.classes:
        yield Line("label.weight", ("emb_label.weight",))
    side = net.event_shape[1]
    yield Line("inp.weight", (f"enc.{side}x{side}_conv.weight",))
    yield from _blocks("down", net.down, "enc", side, "block")
    lowest = side >> len(net.channels) - 1
    yield from _blocks("middle", net.middle, "dec", lowest, "in")
    yield from _blocks("up", net.up, "dec", lowest, "block")


def _blocks(own: str, blocks: Any, half: str, side: int, kind: str) -> Iterator[Line]:
    number = 0
    for index, block in enumerate(blocks):
        if block.rate is not None:
            side, number = (side // 2, 0) if block.rate is Rate.DOWN else (side * 2, 0)
            name = block.rate.name.lower()
        else:
            name, number = f"{kind}{number}", number + 1
        yield from _block(f"{own}.{index}", block, f"{half}.{side}x{side}_{name}")


def _block(own: str, block: Block, other: str) -> Iterator[Line]:
    yield Line(f"{own}.gain", (f"{other}.emb_gain",))
    names = {"conv1": "conv_res0", "scale": "emb_linear", "conv2": "conv_res1"}
    names |= {"shortcut": "conv_skip"} if block.shortcut is not None else {}
    names |= {"mix": "attn_proj"} if block.heads else {}
    for ours, theirs in names.items():
        yield Line(f"{own}.{ours}.weight", (f"{other}.{theirs}.weight",))
    if block.heads:
        yield interleaved(f"{own}.qkv.weight", f"{other}.attn_qkv.weight", block.heads)
