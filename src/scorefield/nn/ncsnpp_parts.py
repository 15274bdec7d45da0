"""What the U-Nets of NCSN++, DDPM++, DDPM and EDM are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.utils.checkpoint import checkpoint

from scorefield.nn.attention import SelfAttention
from scorefield.nn.normalisation import Norm
from scorefield.nn.resampling import NEAREST, SMOOTH, Rate, Resample, ResampleConv


class Pyramid(Enum):
    """How the image itself, at each resolution, takes part beside the features  (Song et al. 2021, appendix H.1)."""

    NONE = 0
    SKIP = 1
    RESIDUAL = 2


@dataclass(frozen=True)
class Form:
    """What the parts of a network have in common.

    Args:
        embedding: size of the embedding.
        fir: whether resolutions change by a smooth filter, (1, 3, 3, 1) instead of (1, 1).
        centred: as of `ResampleConv`.
        scale: of each sum of two branches.
        group_width: least number of channels in a group of the norms, which have at most 32.
        eps: added to variances by the norms.
        head_channels: channels of a head of attention; None for one head.
        dropout: rate before the second convolution of a block.
        checkpointing: keep only the blocks' inputs and compute the rest again in the backward pass.
    """

    embedding: int
    fir: bool
    centred: bool
    scale: float
    group_width: int
    eps: float
    head_channels: int | None
    dropout: float
    checkpointing: bool

    def groups(self, channels: int) -> int:
        """Number of groups of a norm."""
        number = min(32, channels // self.group_width)
        if number < 1 or channels % number:
            raise ValueError(
                f"{channels} channels cannot be parted into groups of {self.group_width} or more, at most 32"
            )
        return number

    def norm(self, channels: int) -> Norm:
        """The norm of features."""
        return Norm(channels, self.groups(channels), self.eps)

    def attention(self, channels: int) -> SelfAttention:
        """Attention between all positions."""
        head = self.head_channels or channels
        return SelfAttention(channels, head, self.groups(channels), self.eps, self.scale)

    def resample(self, rate: Rate) -> Resample:
        """A change of resolution without weights."""
        return Resample(rate, SMOOTH if self.fir else NEAREST)

    def resample_conv(self, rate: Rate, inp: int, out: int) -> ResampleConv:
        """A change of resolution with a convolution."""
        return ResampleConv(rate, inp, out, self.fir, self.centred)


class Block(nn.Module):
    """Two convolutions with the embedding added in between, beside a shortcut; then attention, if wanted.

        h = conv2(dropout(silu(norm(conv1(silu(norm(x))) + W e)))),   y = scale (shortcut(x) + h)

    With a rate the normalised features and the shortcut change resolution before the first convolution (BigGAN's way).

    Args:
        form: of the network.
        inp: channels of the input.
        out: channels of the output.
        attends: whether attention follows.
        rate: change of resolution, if any.
    """

    def __init__(self, form: Form, inp: int, out: int, attends: bool = False, rate: Rate | None = None) -> None:
        super().__init__()
        self.scale, self.checkpointing = form.scale, form.checkpointing
        self.norm1, self.norm2 = form.norm(inp), form.norm(out)
        self.resample = form.resample(rate) if rate else None
        self.conv1 = nn.Conv2d(inp, out, 3, padding=1)
        self.shift = nn.Linear(form.embedding, out)
        self.dropout = nn.Dropout(form.dropout)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = None if inp == out and rate is None else nn.Conv2d(inp, out, 1)
        self.attention = form.attention(out) if attends else None

    def forward(self, x: Float[Tensor, "b c h w"], embedding: Tensor) -> Float[Tensor, "b out h2 w2"]:
        """The next features."""
        if self.checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(self._features, x, embedding, use_reentrant=False)
            return recomputed
        return self._features(x, embedding)

    def _features(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.norm1(x)
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        shift = self.shift(embedding).reshape(-1, self.shift.out_features)
        h = self.dropout(self.norm2(self.conv1(h), shift))
        # the scale is put on the weights, which are fewer than the features
        h = self._scaled(self.conv2, h)
        h = torch.add(h, x, alpha=self.scale) if self.shortcut is None else h + self._scaled(self.shortcut, x)
        return h if self.attention is None else self.attention(h)

    def _scaled(self, layer: nn.Conv2d, x: Tensor) -> Tensor:
        if self.scale == 1 or layer.bias is None:
            return layer(x)
        return conv2d(x, self.scale * layer.weight, self.scale * layer.bias, padding=layer.padding)


class PyramidIn(nn.Module):
    """Brings the image at the next lower resolution into the features.

    Args:
        form: of the network.
        kind: SKIP: the image, filtered and through a 1 x 1 convolution. RESIDUAL: a convolution of what came in before.
        image: channels of the image, or of what came in before.
        channels: of the features.
        concatenate: beside the features, instead of added to them (SKIP alone).
    """

    def __init__(self, form: Form, kind: Pyramid, image: int, channels: int, concatenate: bool) -> None:
        super().__init__()
        self.residual, self.scale = kind is Pyramid.RESIDUAL, form.scale
        self.concatenates = concatenate and not self.residual
        if self.residual:
            self.down, self.conv = form.resample_conv(Rate.DOWN, image, channels), None
        else:
            self.down, self.conv = form.resample(Rate.DOWN), nn.Conv2d(image, channels, 1)

    def forward(self, h: Float[Tensor, "b c h w"], image: Float[Tensor, "b i h2 w2"]) -> tuple[Tensor, Tensor]:
        """The features with the image in them, and the image for the next resolution."""
        image = self.down(image)
        if self.conv is None:
            h = self.scale * (image + h)
            return h, h
        part = self.conv(image)
        return torch.cat((part, h), 1) if self.concatenates else h + part, image


class PyramidOut(nn.Module):
    """Makes the image of the features at one resolution after the other.

    Args:
        form: of the network.
        kind: SKIP: the images of all resolutions are added up. RESIDUAL: features go on beside the network's own.
        channels: of the features.
        image: channels of the image.
        before: channels of what comes from the resolution below, 0 at the lowest.
    """

    def __init__(self, form: Form, kind: Pyramid, channels: int, image: int, before: int) -> None:
        super().__init__()
        self.residual, self.scale, self.up = kind is Pyramid.RESIDUAL, form.scale, None
        if before:
            self.up = form.resample_conv(Rate.UP, before, channels) if self.residual else form.resample(Rate.UP)
        own = not (self.residual and before)  # what comes from below is all that there is beside the features
        self.norm = form.norm(channels) if own else None
        self.conv = nn.Conv2d(channels, channels if self.residual else image, 3, padding=1) if own else None

    def forward(self, h: Float[Tensor, "b c h w"], image: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and the image so far or the features beside them; the lowest level looks at no image."""
        image = image if self.up is None else self.up(image)
        if self.conv is None or self.norm is None:
            h = self.scale * (image + h)
            return h, h
        part = self.conv(self.norm(h))
        return h, part if self.up is None else image + part


class Down(nn.Module):
    """One level on the way down.

    Args:
        blocks: of the level.
        resample: the way to the next level, None at the lowest.
        pyramid: brings the image in there, if anything does.
    """

    def __init__(
        self, blocks: Sequence[Block], resample: Block | ResampleConv | None, pyramid: PyramidIn | None
    ) -> None:
        super().__init__()
        self.blocks, self.resample, self.pyramid = nn.ModuleList(blocks), resample, pyramid

    def forward(self, h: Tensor, image: Tensor, embedding: Tensor) -> tuple[list[Tensor], Tensor]:
        """What each of the layers makes, and the image for the next level."""
        features: list[Tensor] = []
        for block in self.blocks:
            h = block(h, embedding)
            features.append(h)
        if self.resample is not None:
            h = _resampled(self.resample, h, embedding)
            if self.pyramid is not None:
                h, image = self.pyramid(h, image)
            features.append(h)
        return features, image


class Up(nn.Module):
    """One level on the way up.

    Args:
        blocks: of the level; each takes a layer of the way down beside its input.
        pyramid: makes an image of the features, if anything does.
        resample: the way to the next level, None at the highest.
    """

    def __init__(
        self, blocks: Sequence[Block], pyramid: PyramidOut | None, resample: Block | ResampleConv | None
    ) -> None:
        super().__init__()
        self.blocks, self.pyramid, self.resample = nn.ModuleList(blocks), pyramid, resample

    def forward(self, h: Tensor, skips: list[Tensor], image: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """The features for the next level, and the image so far; takes what it needs from the end of the skips."""
        for block in self.blocks:
            h = block(torch.cat((h, skips.pop()), 1), embedding)
        if self.pyramid is not None:
            h, image = self.pyramid(h, image)
        return h if self.resample is None else _resampled(self.resample, h, embedding), image


def _resampled(layer: Block | ResampleConv, h: Tensor, embedding: Tensor) -> Tensor:
    return layer(h, embedding) if isinstance(layer, Block) else layer(h)


def initialise(net: nn.Module) -> None:
    """Weights as the authors start them: Glorot's, zero at the end of each branch, biases zero  (Ho et al. 2020)."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    for layer in net.modules():
        if isinstance(layer, Block):
            nn.init.zeros_(layer.conv2.weight)
        elif isinstance(layer, SelfAttention):
            nn.init.zeros_(layer.out.weight)
        elif isinstance(layer, PyramidOut) and layer.conv is not None and not layer.residual:
            nn.init.zeros_(layer.conv.weight)
