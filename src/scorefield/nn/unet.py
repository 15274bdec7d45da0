"""A U-Net for signals, images and volumes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scorefield._inputs import Shape, as_shape, check_event
from scorefield.nn.embedding import ConditionEmbedding
from scorefield.nn.encoder import CONVOLUTIONS, Encoder, Residual, check_levels
from scorefield.nn.network import Network, filled
from scorefield.nn.normalisation import Norm


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
        scalars: names of further numbers in [0, 1] that it is told, see `Scalars`.
    """

    def __init__(
        self,
        event_shape: Shape,
        classes: int = 0,
        channels: Sequence[int] = (32, 64, 128),
        blocks: int = 2,
        attention: Sequence[bool] | None = None,
        cond_features: int = 0,
        cond_channels: int = 0,
        dropout: float = 0.0,
        checkpointing: bool = False,
        scalars: Sequence[str] = (),
    ) -> None:
        super().__init__()
        event_shape = as_shape(event_shape)
        in_channels, dims = event_shape[0], len(event_shape) - 1
        attention = check_levels("UNet", event_shape, channels, blocks, attention)
        if cond_channels < 0:
            raise ValueError(f"wanted cond_channels >= 0; got {cond_channels}")
        self.event_shape, self.classes, self.channels = event_shape, classes, tuple(channels)
        self.blocks, self.attention = blocks, attention
        self.cond_features, self.cond_channels = cond_features, cond_channels
        self.dropout, self.checkpointing, self.scalars = dropout, checkpointing, tuple(scalars)
        if cond_features and cond_channels:
            raise ValueError(
                "a UNet's condition is a vector or an image: give cond_features or cond_channels, not both"
            )

        width = 4 * channels[0]
        self.embedding = ConditionEmbedding(width, classes, cond_features, scalars)
        conv = CONVOLUTIONS[dims]
        self.inp = conv(in_channels + cond_channels, channels[0], 3, padding=1)
        self.down, self.up = Encoder(channels, blocks, attention, width, dims, dropout, checkpointing), nn.ModuleList()
        now, skips = channels[-1], list(self.down.widths)
        self.middle = Residual(now, now, width, dims, dropout, attention[-1], checkpointing)
        for level, (wide, attends) in reversed(list(enumerate(zip(channels, attention, strict=True)))):
            for _ in range(blocks + 1):
                self.up.append(Residual(now + skips.pop(), wide, width, dims, dropout, attends, checkpointing))
                now = wide
            if level:
                self.up.append(_Up(now, channels[level - 1], dims))
                now = channels[level - 1]
        self.norm = Norm(now)
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
        **scalars: Tensor,
    ) -> Float[Tensor, "b c *space"]:
        """F(x, noise)."""
        check_event(x, self.event_shape, "this UNet", any_size=True)
        vector = None if self.cond_channels else cond
        embedding = nn.functional.silu(self.embedding(noise, label, vector, scalars))
        x = torch.cat((x, self._image(x, cond)), 1) if self.cond_channels else x
        sides = x.shape[2:]
        x = filled(x, 2 ** (len(self.channels) - 1))
        if len(self.event_shape) == 3:
            x = x.contiguous(memory_format=torch.channels_last)
        skips = self.down(self.inp(x), embedding)
        h = self.middle(skips[-1], embedding)
        for layer in self.up:
            h = layer(torch.cat((h, skips.pop()), 1), embedding) if isinstance(layer, Residual) else layer(h)
        return self.out(self.norm(h))[(..., *map(slice, sides))]

    def _image(self, x: Tensor, cond: Tensor | None) -> Tensor:
        wanted = (len(x), self.cond_channels, *x.shape[2:])
        if cond is None or cond.shape != wanted:
            got = None if cond is None else tuple(cond.shape)
            raise ValueError(f"this UNet needs a conditioning image `cond` of shape {wanted}; got {got}")
        return cond.to(x)


class _Up(nn.Module):
    """Each position twice along every axis, then a convolution."""

    def __init__(self, inp: int, out: int, dims: int) -> None:
        super().__init__()
        self.conv = CONVOLUTIONS[dims](inp, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
