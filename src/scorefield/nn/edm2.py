"""The magnitude-preserving U-Net of EDM2  (Karras et al. 2024, "Analyzing and Improving the Training Dynamics")."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scorefield._inputs import Shape, as_shape, check_event
from scorefield.nn.edm2_parts import Block, UnitRows, joined, unit_silu, weighted_sum
from scorefield.nn.embedding import check_no_label, row_of
from scorefield.nn.encoder import check_levels
from scorefield.nn.network import Network, filled
from scorefield.nn.resampling import Rate
from scorefield.nn.scalars import Scalars


class EDM2UNet(Network):
    """A U-Net that keeps the magnitudes of its features, weights and updates  (configuration G of the paper).

    No biases and no norms with weights: convolutions have rows of unit length, sums are weighted so that variances
    stay, and features are scaled to unit magnitude at each position on the way down. The published sizes differ in the
    width c of `channels=(c, 2 c, 3 c, 4 c)`: XS 128, S 192, M 256, L 320, XL 384, XXL 448. It goes with `EDMPrecond`.

    The resolution halves from each level to the next; sides that are no multiples of 2^(levels - 1) are filled up with
    zeros, and the output is cut to size. Any size will do, whatever the size in training.

    Args:
        event_shape: (channels, height, width); only the number of channels is used.
        classes: number of classes, 0 for none. Label -1 stands for an unknown class.
        channels: width of each level, finest first.
        blocks: residual blocks in each level, one more on the way up.
        attention: whether each level has self-attention after its blocks; the middle always has.
        head_channels: channels of a head of attention, or the largest number that divides these and a block's.
        dropout: rate inside the blocks.
        checkpointing: keep only the blocks' inputs and compute the rest again in the backward pass: less memory, more
            time.
        whole_heads: n heads of a block's channels for n = channels // head_channels, wider ones if that leaves a rest,
            and no attention if n is 0, as the authors' code has it.
        scalars: names of further numbers in [0, 1] that it is told, see `Scalars`.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(
        self,
        event_shape: Shape,
        classes: int = 0,
        channels: Sequence[int] = (192, 384, 576, 768),
        blocks: int = 3,
        attention: Sequence[bool] = (False, False, True, True),
        head_channels: int = 64,
        dropout: float = 0.0,
        checkpointing: bool = False,
        whole_heads: bool = False,
        scalars: Sequence[str] = (),
    ) -> None:
        super().__init__()
        event_shape = as_shape(event_shape)
        if len(event_shape) != 3 or classes < 0 or blocks < 1 or head_channels < 1:
            raise ValueError(
                "EDM2UNet takes images, events of shape (channels, height, width), classes >= 0, blocks and "
                f"head_channels >= 1; got events {event_shape}, classes={classes}, blocks={blocks}, "
                f"head_channels={head_channels}: use UNet for signals and volumes, MLP for vectors"
            )
        attention = check_levels("EDM2UNet", event_shape, channels, blocks, attention)
        self.event_shape, self.classes, self.channels = event_shape, classes, tuple(channels)
        self.blocks, self.attention, self.head_channels = blocks, attention, head_channels
        self.dropout, self.checkpointing, self.whole_heads = dropout, checkpointing, whole_heads
        self.scalars = tuple(scalars)

        width = max(channels)
        frequencies, phases = 2 * math.pi * torch.randn(channels[0]), 2 * math.pi * torch.rand(channels[0])
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("phases", phases)
        self.noise = UnitRows(channels[0], width)
        self.label = UnitRows(classes, width) if classes else None
        self.further = Scalars(scalars, width)

        def block(inp: int, out: int, down: bool, attends: bool, rate: Rate | None = None) -> Block:
            heads = out // (head_channels if whole_heads else math.gcd(head_channels, out)) if attends else 0
            if heads and out % heads:
                raise ValueError(f"{out} channels cannot be parted into {heads} heads: give another head_channels")
            return Block(inp, out, width, down, heads, rate, dropout, checkpointing)

        self.inp = UnitRows(event_shape[0] + 1, channels[0], 3)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        widths, now = [channels[0]], channels[0]
        levels = list(enumerate(zip(channels, attention, strict=True)))
        for level, (wide, attends) in levels:
            if level:
                self.down.append(block(now, now, True, False, Rate.DOWN))
                widths.append(now)
            for _ in range(blocks):
                self.down.append(block(now, wide, True, attends))
                now = wide
                widths.append(now)
        self.middle = nn.ModuleList((block(now, now, False, True), block(now, now, False, False)))
        for level, (wide, attends) in reversed(levels):
            for _ in range(blocks + 1):
                self.up.append(block(now + widths.pop(), wide, False, attends))
                now = wide
            if level:
                self.up.append(block(now, now, False, False, Rate.UP))
        self.out = UnitRows(now, event_shape[0], 3)
        self.gain = nn.Parameter(torch.zeros(()))
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "..."],
        label: Int64[Tensor, "..."] | None = None,
        cond: Tensor | None = None,
        **scalars: Tensor,
    ) -> Float[Tensor, "b c h w"]:
        """F(x, noise)."""
        check_event(x, self.event_shape, "this EDM2UNet", any_size=True)
        if cond is not None:
            raise ValueError("EDM2UNet takes no conditions but labels: use UNet, or leave them out")
        height, width = x.shape[2:]
        embedding = self._embedding(noise, label, scalars)
        ones = torch.ones_like(x[:, :1])  # in place of the convolutions' biases
        h = filled(torch.cat((x, ones), 1), 2 ** (len(self.channels) - 1))
        h = self.inp(h.contiguous(memory_format=torch.channels_last))
        skips = [h]
        for block in self.down:
            h = block(h, embedding)
            skips.append(h)
        for block in self.middle:
            h = block(h, embedding)
        for block in self.up:
            h = block(h if block.rate is Rate.UP else joined(h, skips.pop()), embedding)
        return self.out(h, self.gain)[..., :height, :width]

    def constrain(self) -> None:
        """Scales the rows of all weights to unit magnitude  (forced weight normalisation; section 2.3 of the paper)."""
        for part in self.modules():
            if isinstance(part, UnitRows):
                part.constrain()

    def _embedding(
        self, noise: Tensor, label: Tensor | None, scalars: Mapping[str, Tensor]
    ) -> Float[Tensor, "... width"]:
        features = math.sqrt(2) * (noise[..., None] * self.frequencies + self.phases).cos()
        h = self.noise(features)
        if self.label is not None:
            rows = self.label.unit().mT * math.sqrt(self.classes)
            h = weighted_sum(h, row_of(torch.cat((torch.zeros_like(rows[:1]), rows)), label), 0.5)
        else:
            check_no_label(label)
        return unit_silu(self.further(h, scalars))
