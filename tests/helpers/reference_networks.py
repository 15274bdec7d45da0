"""Other projects' networks, evaluated from their weights by name, as the papers and the layouts of their files tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, elu, group_norm, interpolate, linear, max_pool2d, pad, silu

Weights = Mapping[str, Tensor]


def song_unet(w: Weights, told: Mapping[str, Any], x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
    """EDM's SongUNet at evaluation: noise is its c_noise, label a one-hot row for each sample."""
    side, width, multipliers = told["img_resolution"], told["model_channels"], told["channel_mult"]
    taps = torch.tensor(told["resample_filter"], dtype=x.dtype)
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    edge = (len(taps) - 1) // 2

    def conv(name: str, x: Tensor) -> Tensor:
        weight = w[f"{name}.weight"]
        return conv2d(x, weight, w[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(name: str, x: Tensor) -> Tensor:
        groups = min(32, x.shape[1] // 4)
        return group_norm(x, groups, w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-6)

    def down(x: Tensor) -> Tensor:
        return conv2d(x, kernel.expand(x.shape[1], 1, *kernel.shape), stride=2, padding=edge, groups=x.shape[1])

    def up(x: Tensor) -> Tensor:
        holes = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        holes[..., ::2, ::2] = x
        before, after = len(taps) // 2, len(taps) // 2 - 1
        return conv2d(
            pad(holes, (before, after) * 2), 4 * kernel.expand(x.shape[1], 1, *kernel.shape), groups=x.shape[1]
        )

    def block(name: str, x: Tensor, change: Any = None) -> Tensor:
        change = change or (lambda h: h)
        h = conv(f"{name}.conv0", change(silu(norm(f"{name}.norm0", x))))
        shift = linear(embedding, w[f"{name}.affine.weight"], w[f"{name}.affine.bias"])
        h = conv(f"{name}.conv1", silu(norm(f"{name}.norm1", h + shift[..., None, None])))
        x = change(x)
        x = (h + (conv(f"{name}.skip", x) if f"{name}.skip.weight" in w else x)) * 0.5**0.5
        if f"{name}.qkv.weight" in w:
            qkv = conv(f"{name}.qkv", norm(f"{name}.norm2", x))
            q, k, v = qkv.reshape(len(x), x.shape[1], 3, -1).unbind(2)
            attention = (q.mT @ k / math.sqrt(x.shape[1])).softmax(-1)
            mixed = (attention @ v.mT).mT.reshape(x.shape)
            x = (conv(f"{name}.proj", mixed) + x) * 0.5**0.5
        return x

    if told["embedding_type"] == "positional":
        half = width // 2
        angle = noise[:, None] * 10_000.0 ** (-torch.arange(half, dtype=x.dtype) / (half - 1))
    else:
        angle = noise[:, None] * 2 * math.pi * w["map_noise.freqs"]
    embedding = torch.cat((angle.sin(), angle.cos()), 1)
    if told["label_dim"]:
        one_hot = torch.zeros(len(x), told["label_dim"], dtype=x.dtype) if label is None else label
        embedding = embedding + linear(one_hot * told["label_dim"] ** 0.5, w["map_label.weight"], w["map_label.bias"])
    for name in ("map_layer0", "map_layer1"):
        embedding = silu(linear(embedding, w[f"{name}.weight"], w[f"{name}.bias"]))

    skips: list[Tensor] = []
    image = x
    for level in range(len(multipliers)):
        here = f"enc.{side >> level}x{side >> level}"
        if level == 0:
            x = conv(f"{here}_conv", x)
        else:
            x = block(f"{here}_down", x, down)
            if told["encoder_type"] == "residual":
                padded = conv2d(
                    image, kernel.expand(image.shape[1], 1, *kernel.shape), padding=1 + edge, groups=image.shape[1]
                )
                added = conv2d(padded, w[f"{here}_aux_residual.weight"], w[f"{here}_aux_residual.bias"], stride=2)
                x = image = (x + added) / 2**0.5
            elif told["encoder_type"] == "skip":
                image = down(image)
                x = x + conv(f"{here}_aux_skip", image)
        skips.append(x)
        for k in range(told["num_blocks"]):
            x = block(f"{here}_block{k}", x)
            skips.append(x)
    made = None
    for level in reversed(range(len(multipliers))):
        here = f"dec.{side >> level}x{side >> level}"
        if level == len(multipliers) - 1:
            x = block(f"{here}_in1", block(f"{here}_in0", x))
        else:
            x = block(f"{here}_up", x, up)
        for k in range(told["num_blocks"] + 1):
            x = block(f"{here}_block{k}", torch.cat((x, skips.pop()), 1))
        if told["decoder_type"] == "skip" or level == 0:
            out = conv(f"{here}_aux_conv", silu(norm(f"{here}_aux_norm", x)))
            made = out if made is None else up(made) + out
    assert made is not None
    return made


def edm2_unet(w: Weights, told: Mapping[str, Any], x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
    """The network of EDM2's Precond at evaluation: noise is its c_noise, label a one-hot row for each sample."""
    side, multipliers = told["img_resolution"], told["channel_mult"]

    def rows(name: str) -> Tensor:
        weight = w[f"unet.{name}.weight"]
        flat = weight.reshape(len(weight), -1)
        length = flat.norm(dim=1, keepdim=True)
        root = flat.shape[1] ** 0.5
        return (flat / (1e-4 + length / root) / root).reshape(weight.shape)

    def conv(name: str, x: Tensor) -> Tensor:
        return conv2d(x, rows(name), padding="same")

    def total(a: Tensor, b: Tensor, t: float) -> Tensor:
        return ((1 - t) * a + t * b) / ((1 - t) ** 2 + t**2) ** 0.5

    def normalised(x: Tensor, dim: int) -> Tensor:
        return x / (1e-4 + x.norm(dim=dim, keepdim=True) / x.shape[dim] ** 0.5)

    def act(x: Tensor) -> Tensor:
        return silu(x) / 0.596

    def block(name: str, x: Tensor, on_the_way_down: bool) -> Tensor:
        if on_the_way_down:
            x = conv(f"{name}.conv_skip", x) if f"unet.{name}.conv_skip.weight" in w else x
            x = normalised(x, 1)
        h = conv(f"{name}.conv_res0", act(x))
        scale = 1 + w[f"unet.{name}.emb_gain"] * (embedding @ rows(f"{name}.emb_linear").T)
        h = conv(f"{name}.conv_res1", act(h * scale[:, :, None, None]))
        if not on_the_way_down and f"unet.{name}.conv_skip.weight" in w:
            x = conv(f"{name}.conv_skip", x)
        x = total(x, h, 0.3)
        if f"unet.{name}.attn_qkv.weight" in w:
            b, c, *space = x.shape
            heads = c // told["channels_per_head"]
            parts = conv(f"{name}.attn_qkv", x).reshape(b, heads, c // heads, 3, -1)
            q, k, v = normalised(parts, 2).unbind(3)
            attention = (q.mT @ k / math.sqrt(c // heads)).softmax(-1)
            x = total(x, conv(f"{name}.attn_proj", (v @ attention.mT).reshape(b, c, *space)), 0.3)
        return x.clamp(-256, 256)

    angle = noise[:, None] * w["unet.emb_fourier.freqs"] + w["unet.emb_fourier.phases"]
    embedding = (2**0.5 * angle.cos()) @ rows("emb_noise").T
    if told["label_dim"]:
        one_hot = torch.zeros(len(x), told["label_dim"], dtype=x.dtype) if label is None else label
        embedding = total(embedding, (told["label_dim"] ** 0.5 * one_hot) @ rows("emb_label").T, 0.5)
    embedding = act(embedding)

    x = torch.cat((x, torch.ones_like(x[:, :1])), 1)
    skips: list[Tensor] = []
    for level in range(len(multipliers)):
        here = f"enc.{side >> level}x{side >> level}"
        x = block(f"{here}_down", avg_pool2d(x, 2), True) if level else conv(f"{here}_conv", x)
        skips.append(x)
        for k in range(told["num_blocks"]):
            x = block(f"{here}_block{k}", x, True)
            skips.append(x)
    for level in reversed(range(len(multipliers))):
        here = f"dec.{side >> level}x{side >> level}"
        if level == len(multipliers) - 1:
            x = block(f"{here}_in1", block(f"{here}_in0", x, False), False)
        else:
            x = block(f"{here}_up", interpolate(x, scale_factor=2, mode="nearest"), False)
        for k in range(told["num_blocks"] + 1):
            other = skips.pop()
            n, m = x.shape[1], other.shape[1]
            whole = ((n + m) / 0.5) ** 0.5 * 0.5
            x = block(f"{here}_block{k}", torch.cat((whole / n**0.5 * x, whole / m**0.5 * other), 1), False)
    return w["unet.out_gain"] * conv("out_conv", x)


def ncsn(w: Weights, x: Tensor, levels: list[str], label: Tensor | None = None) -> Tensor:
    """NCSN with a noise label for each sample, or NCSNv2 without; both before the division by sigma."""

    def conv(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        weight = w[f"{name}.weight"]
        return conv2d(x, weight, w.get(f"{name}.bias"), padding=dilation * (weight.shape[-1] // 2), dilation=dilation)

    def norm(name: str, x: Tensor) -> Tensor:
        if label is not None:
            gamma, alpha, beta = w[f"{name}.embed.weight"][label].chunk(3, 1)
        elif f"{name}.alpha" in w:
            gamma, alpha, beta = (w[f"{name}.{part}"][None] for part in ("gamma", "alpha", "beta"))
        else:
            return x
        means = x.mean((2, 3))
        spread = (means - means.mean(1, keepdim=True)) / (means.var(1, keepdim=True) + 1e-5).sqrt()
        h = torch.nn.functional.instance_norm(x, eps=1e-5)
        h = h + (spread * alpha)[..., None, None]
        return gamma[..., None, None] * h + beta[..., None, None]

    def only(name: str, x: Tensor) -> Tensor:
        return x if label is None else norm(name, x)

    def residual(name: str, x: Tensor, first: bool, dilation: int) -> Tensor:
        pools = first and dilation == 1
        inside = ".conv" if pools else ""
        h = conv(f"{name}.conv1", elu(norm(f"{name}.normalize1", x)), dilation)
        h = conv(f"{name}.conv2{inside}", elu(norm(f"{name}.normalize2", h)), dilation)
        if not first:
            return x + h
        side = conv(f"{name}.shortcut{inside}", x, dilation)
        return avg_pool2d(side, 2) + avg_pool2d(h, 2) if pools else side + h

    def units(name: str, x: Tensor, count: int) -> Tensor:
        for i in range(1, count + 1):
            before = x
            for j in (1, 2):
                x = conv(f"{name}.{i}_{j}_conv", elu(only(f"{name}.{i}_{j}_norm", x)))
            x = x + before
        return x

    h, features = conv("begin_conv", x), []
    for k, name in enumerate(levels):
        dilation = max(1, 2 ** (k - len(levels) + 3))
        h = residual(f"res{name}.0", h, k > 0, dilation)
        h = residual(f"res{name}.1", h, False, dilation)
        features.append(h)
    made = None
    for k, name in enumerate(levels):
        here, own = f"refine{name}", features.pop()
        h = units(f"{here}.adapt_convs.0", own, 2)
        if made is not None:
            both = (h, units(f"{here}.adapt_convs.1", made, 2))
            h = torch.zeros(())
            for i, part in enumerate(both):
                part = conv(f"{here}.msf.convs.{i}", only(f"{here}.msf.norms.{i}", part))
                h = h + interpolate(part, size=own.shape[2:], mode="bilinear", align_corners=True)
        h = path = elu(h)
        for i in range(2):
            path = only(f"{here}.crp.norms.{i}", path)
            path = max_pool2d(path, 5, 1, 2) if label is None else avg_pool2d(path, 5, 1, 2)
            path = conv(f"{here}.crp.convs.{i}", path)
            h = h + path
        made = units(f"{here}.output_convs", h, 3 if k == len(levels) - 1 else 1)
    return conv("end_conv", elu(norm("normalizer", made)))
