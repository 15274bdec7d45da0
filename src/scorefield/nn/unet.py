"""A U-Net for signals, images and volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scorefield.nn.attention import SelfAttention
from scorefield.nn.embedding import ConditionEmbedding
from scorefield.nn.network import Network
from scorefield.nn.normalisation import norm_silu

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class UNet(Network):
    """Residual blocks at falling and rising resolutions, joined by skip connections  (Ho et al. 2020).

    The resolution halves from each level to the next; sides that are no multiples of 2^(levels - 1) are filled up with
    zeros, and the output is cut to size. Any size will do, whatever the size in training.

    Args:
        event_shape: (channels, *space) with 1, 2 or 3 dimensions of space: signals, images, volumes. Only the number
            of channels and of dimensions is used.
        classes: number of classes, 0 for none.
        channels: width of each level, finest first.
        blocks: residual blocks in each level.
        attention: whether each level has self-attention after its blocks; by default only the coarsest.
        cond_features: size of a condition `cond` that is a vector, 0 for none.
        cond_channels: channels of a condition `cond` that is an image of the data's size, 0 for none.
        dropout: rate inside the blocks.
        checkpointing: keep only the blocks' inputs and compute the rest again in the backward pass: less memory, more
            time.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        classes: int = 0,
        channels: Sequence[int] = (32, 64, 128),
        blocks: int = 2,
        attention: Sequence[bool] | None = None,
        cond_features: int = 0,
        cond_channels: int = 0,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        in_channels, dims = event_shape[0], len(event_shape) - 1
        if dims not in CONVOLUTIONS:
            raise ValueError(
                f"a UNet takes events of shape (channels, *space), 1 to 3 space dimensions; got {tuple(event_shape)}: "
                "use MLP for vectors"
            )
        if blocks < 0 or cond_channels < 0 or min(channels, default=0) < 1:
            raise ValueError(
                f"wanted blocks >= 0, cond_channels >= 0 and at least one level of channels; got blocks={blocks}, "
                f"cond_channels={cond_channels}, channels={tuple(channels)}"
            )
        if attention is None:
            attention = [False] * (len(channels) - 1) + [True]
        if len(attention) != len(channels):
            raise ValueError(
                f"attention needs one value for each of the {len(channels)} levels in channels; got {len(attention)}"
            )
        self.event_shape, self.classes, self.channels = tuple(event_shape), classes, tuple(channels)
        self.blocks, self.attention = blocks, tuple(attention)
        self.cond_features, self.cond_channels = cond_features, cond_channels
        self.dropout, self.checkpointing = dropout, checkpointing
        if cond_features and cond_channels:
            raise ValueError(
                "a UNet's condition is a vector or an image: give cond_features or cond_channels, not both"
            )

        width = 4 * channels[0]
        self.embedding = ConditionEmbedding(width, classes, cond_features)
        conv = CONVOLUTIONS[dims]
        self.inp = conv(in_channels + cond_channels, channels[0], 3, padding=1)
        now, skips = channels[0], [channels[0]]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (wide, attends) in enumerate(zip(channels, attention, strict=True)):
            if level:
                self.down.append(conv(now, wide, 3, stride=2, padding=1))
                now = wide
                skips.append(now)
            for _ in range(blocks):
                self.down.append(_Block(now, wide, width, dims, dropout, attends))
                now = wide
                skips.append(now)
        self.middle = _Block(now, now, width, dims, dropout, attention[-1])
        for level, (wide, attends) in reversed(list(enumerate(zip(channels, attention, strict=True)))):
            for _ in range(blocks + 1):
                self.up.append(_Block(now + skips.pop(), wide, width, dims, dropout, attends))
                now = wide
            if level:
                self.up.append(_Up(now, channels[level - 1], dims))
                now = channels[level - 1]
        self.norm = _Norm(now)
        self.out = conv(now, in_channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # pyright: ignore[reportArgumentType]
        if dims == 2:  # the memory format in which convolutions are fastest
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(
        self,
        x: Float[Tensor, "b c *space"],
        noise: Float[Tensor, "..."],
        label: Int64[Tensor, "..."] | None = None,
        cond: Float[Tensor, "b *cond"] | None = None,
    ) -> Float[Tensor, "b c *space"]:
        """F(x, noise)."""
        self._check(x)
        vector = None if self.cond_channels else cond
        embedding = nn.functional.silu(self.embedding(noise, label, vector))
        x = torch.cat((x, self._image(x, cond)), 1) if self.cond_channels else x
        sides = x.shape[2:]
        missing = [-side % 2 ** (len(self.channels) - 1) for side in sides]
        if any(missing):
            x = nn.functional.pad(x, [n for count in reversed(missing) for n in (0, count)])
        if len(self.event_shape) == 3:
            x = x.contiguous(memory_format=torch.channels_last)
        h = self.inp(x)
        skips = [h]
        for layer in self.down:
            h = self._run(layer, h, embedding) if isinstance(layer, _Block) else layer(h)
            skips.append(h)
        h = self._run(self.middle, h, embedding)
        for layer in self.up:
            h = self._run(layer, torch.cat((h, skips.pop()), 1), embedding) if isinstance(layer, _Block) else layer(h)
        y = self.out(self.norm(h))
        return y[(..., *map(slice, sides))] if any(missing) else y

    def _run(self, block: _Block, h: Tensor, embedding: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(block, h, embedding, use_reentrant=False)
            return recomputed
        return block(h, embedding)

    def _check(self, x: Tensor) -> None:
        if x.ndim != len(self.event_shape) + 1 or x.shape[1] != self.event_shape[0]:
            raise ValueError(
                f"this UNet takes events like {self.event_shape}, of any size; got shape {tuple(x.shape[1:])}"
            )

    def _image(self, x: Tensor, cond: Tensor | None) -> Tensor:
        wanted = (len(x), self.cond_channels, *x.shape[2:])
        if cond is None or cond.shape != wanted:
            got = None if cond is None else tuple(cond.shape)
            raise ValueError(f"this UNet needs a conditioning image `cond` of shape {wanted}; got {got}")
        return cond.to(x)


class _Norm(nn.Module):
    """Group normalisation with a weight and bias for each channel, then silu."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return norm_silu(x, self.weight[None], self.bias[None])


class _Block(nn.Module):
    """Two convolutions around a scale and shift from the embedding, beside a shortcut; then attention."""

    def __init__(self, inp: int, out: int, width: int, dims: int, dropout: float, attends: bool) -> None:
        super().__init__()
        conv = CONVOLUTIONS[dims]
        self.norm = _Norm(inp)
        self.conv1 = conv(inp, out, 3, padding=1)
        self.modulation = nn.Linear(width, 2 * out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv(out, out, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # pyright: ignore[reportArgumentType]
        self.shortcut = nn.Identity() if inp == out else conv(inp, out, 1)
        self.attention = SelfAttention(out, math.gcd(64, out)) if attends else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding).reshape(-1, 2 * self.conv1.out_channels).chunk(2, 1)
        h = norm_silu(self.conv1(self.norm(x)), 1 + scale, shift)
        h = self.shortcut(x) + self.conv2(self.dropout(h))
        return h if self.attention is None else self.attention(h)


class _Up(nn.Module):
    """Each position twice along every axis, then a convolution."""

    def __init__(self, inp: int, out: int, dims: int) -> None:
        super().__init__()
        self.conv = CONVOLUTIONS[dims](inp, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
