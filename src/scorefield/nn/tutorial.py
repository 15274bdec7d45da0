"""The network of Song's tutorial on score-based models, which many have learnt the field from."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import silu

from scorefield._inputs import Shape, as_shape
from scorefield.nn.network import Network

CHANNELS = 32, 64, 128, 256
FEATURES = 256


class TutorialUNet(Network):
    """A U-Net of 3 x 3 convolutions without padding for 28 x 28 images: 1,115,297 parameters.

    It takes the time itself through random Fourier features of fixed scale 30, so that it goes with `TimePrecond`.

    Args:
        event_shape: (1, 28, 28), or other sides from which the way down and up comes back.
        classes: 0, since it takes no labels.
    """

    frequencies: Tensor

    def __init__(self, event_shape: Shape, classes: int = 0) -> None:
        super().__init__()
        event_shape = as_shape(event_shape)
        self.event_shape, self.classes = event_shape, classes
        if len(event_shape) != 3 or any(side % 8 != 4 or side < 28 for side in event_shape[1:]):
            raise ValueError(f"TutorialUNet takes images of sides 28, 36, 44, ...; got events {event_shape}")
        if classes:
            raise ValueError(
                f"TutorialUNet takes no labels: train without them (--use_labels false); got {classes} classes"
            )
        image, (a, b, c, d) = event_shape[0], CHANNELS
        self.register_buffer("frequencies", 2 * math.pi * 30 * torch.randn(FEATURES // 2))
        self.embedding = nn.Linear(FEATURES, FEATURES)
        self.down = nn.ModuleList(
            [
                _Stage(nn.Conv2d(image, a, 3, bias=False), a, 4),
                _Stage(nn.Conv2d(a, b, 3, stride=2, bias=False), b),
                _Stage(nn.Conv2d(b, c, 3, stride=2, bias=False), c),
                _Stage(nn.Conv2d(c, d, 3, stride=2, bias=False), d),
            ]
        )
        self.up = nn.ModuleList(
            [
                _Stage(nn.ConvTranspose2d(d, c, 3, stride=2, bias=False), c),
                _Stage(nn.ConvTranspose2d(2 * c, b, 3, stride=2, output_padding=1, bias=False), b),
                _Stage(nn.ConvTranspose2d(2 * b, a, 3, stride=2, output_padding=1, bias=False), a),
            ]
        )
        self.out = nn.ConvTranspose2d(2 * a, image, 3)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "..."],
        label: Int64[Tensor, "..."] | None = None,
        cond: Tensor | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """F(x, t), which is divided by sigma to give the score."""
        if label is not None or cond is not None:
            raise ValueError("TutorialUNet takes neither labels nor conditions")
        angle = noise[..., None] * self.frequencies
        embedding = silu(self.embedding(torch.cat((angle.sin(), angle.cos()), -1)))
        skips: list[Tensor] = []
        h = x.contiguous(memory_format=torch.channels_last)
        for stage in self.down:
            h = stage(h, embedding)
            skips.append(h)
        h = skips.pop()
        for stage in self.up:
            h = torch.cat((stage(h, embedding), skips.pop()), 1)
        return self.out(h)


class _Stage(nn.Module):
    """Convolution, plus the embedded time, normalised, activated."""

    def __init__(self, convolution: nn.Module, channels: int, groups: int = 32) -> None:
        super().__init__()
        self.convolution = convolution
        self.time = nn.Linear(FEATURES, channels)
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.convolution(x) + self.time(embedding).reshape(-1, self.norm.num_channels, 1, 1)
        return silu(self.norm(h))
