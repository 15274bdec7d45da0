"""The downward half of a U-Net."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scorefield.nn.attention import SelfAttention
from scorefield.nn.normalisation import Norm, norm_silu

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def check_levels(
    user: str, event_shape: Sequence[int], channels: Sequence[int], blocks: int, attention: Sequence[bool] | None
) -> tuple[bool, ...]:
    """Whether each level has attention, by default the coarsest alone; levels that cannot be built are refused."""
    if len(event_shape) - 1 not in CONVOLUTIONS:
        raise ValueError(
            f"a {user} takes events of shape (channels, *space), 1 to 3 space dimensions; got {tuple(event_shape)}: "
            f"use {user.replace('UNet', 'MLP')} for vectors"
        )
    if blocks < 0 or min(channels, default=0) < 1:
        raise ValueError(
            f"wanted blocks >= 0 and at least one level of channels; got blocks={blocks}, channels={tuple(channels)}"
        )
    if attention is None:
        attention = [False] * (len(channels) - 1) + [True]
    if len(attention) != len(channels):
        raise ValueError(
            f"attention needs one value for each of the {len(channels)} levels in channels; got {len(attention)}"
        )
    return tuple(attention)


class Encoder(nn.ModuleList):
    """Residual blocks at falling resolutions: a convolution of stride 2 leads from each level to the next.

    Args:
        channels: width of each level, finest first.
        blocks: residual blocks in each level.
        attention: whether each level has self-attention after its blocks.
        width: size of the embedding.
        dims: dimensions of space.
        dropout: rate inside the blocks.
        checkpointing: as of `Residual`.

    Attributes:
        widths: channels of the input and of what each layer makes.
    """

    def __init__(
        self,
        channels: Sequence[int],
        blocks: int,
        attention: Sequence[bool],
        width: int,
        dims: int,
        dropout: float,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.widths = [channels[0]]
        for level, (wide, attends) in enumerate(zip(channels, attention, strict=True)):
            if level:
                self.append(CONVOLUTIONS[dims](self.widths[-1], wide, 3, stride=2, padding=1))
                self.widths.append(wide)
            for _ in range(blocks):
                self.append(Residual(self.widths[-1], wide, width, dims, dropout, attends, checkpointing))
                self.widths.append(wide)

    def forward(self, h: Float[Tensor, "b c *space"], embedding: Tensor) -> list[Tensor]:
        """The input and what each layer makes of it."""
        features = [h]
        for layer in self:
            h = layer(h, embedding) if isinstance(layer, Residual) else layer(h)
            features.append(h)
        return features


class Residual(nn.Module):
    """Two convolutions around a scale and shift from the embedding, beside a shortcut; then attention.

    Args:
        inp: channels of the input.
        out: channels of the output.
        width: size of the embedding.
        dims: dimensions of space.
        dropout: rate before the second convolution.
        attends: whether self-attention follows.
        checkpointing: keep only the input and compute the rest again in the backward pass.
    """

    def __init__(
        self, inp: int, out: int, width: int, dims: int, dropout: float, attends: bool, checkpointing: bool = False
    ) -> None:
        super().__init__()
        conv = CONVOLUTIONS[dims]
        self.checkpointing = checkpointing
        self.norm = Norm(inp)
        self.conv1 = conv(inp, out, 3, padding=1)
        self.modulation = nn.Linear(width, 2 * out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv(out, out, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # pyright: ignore[reportArgumentType]
        self.shortcut = nn.Identity() if inp == out else conv(inp, out, 1)
        self.attention = SelfAttention(out, math.gcd(64, out)) if attends else None

    def forward(self, x: Float[Tensor, "b c *space"], embedding: Tensor) -> Float[Tensor, "b out *space"]:
        """The features of the next layer, of the same resolution."""
        if self.checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(self._features, x, embedding, use_reentrant=False)
            return recomputed
        return self._features(x, embedding)

    def _features(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding).reshape(-1, 2 * self.conv1.out_channels).chunk(2, 1)
        h = norm_silu(self.conv1(self.norm(x)), 1 + scale, shift)
        h = self.shortcut(x) + self.conv2(self.dropout(h))
        return h if self.attention is None else self.attention(h)
