"""Networks that tell classes apart at any noise level."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield._inputs import Shape, as_shape, check_event
from scorefield.nn.embedding import ConditionEmbedding
from scorefield.nn.encoder import CONVOLUTIONS, Encoder, check_levels
from scorefield.nn.encoder import Residual as ConvolutionalResidual
from scorefield.nn.mlp import Residual, row_linear
from scorefield.nn.normalisation import Norm


class ClassifierNetwork(nn.Module, ABC):
    """F(x, noise), a logit for each class: the trainable part of a `NoisyClassifier`.

    The constructor's first two arguments are `event_shape` and `classes`, and every argument is kept as an attribute of
    its name, as those of a `Network` are.
    """

    event_shape: Sequence[int]
    classes: int

    @abstractmethod
    def forward(self, x: Float[Tensor, "b *event"], noise: Float[Tensor, "..."]) -> Float[Tensor, "b classes"]:
        """The logits.

        Args:
            x: input, of about unit variance.
            noise: noise level, () or (b,), of the order of 1.
        """


class MLPClassifier(ClassifierNetwork):
    """The residual blocks of `MLP` with logits at their end, for vectors and other small events.

    Args:
        event_shape: shape of one sample; it is flattened.
        classes: number of classes, at least 2.
        features: width.
        blocks: number of residual blocks.
        dropout: rate inside the blocks.
    """

    def __init__(
        self, event_shape: Shape, classes: int, features: int = 128, blocks: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        event_shape = as_shape(event_shape)
        _check_classes(classes)
        if features < 1 or blocks < 0:
            raise ValueError(f"wanted features >= 1 and blocks >= 0; got {features} and {blocks}")
        self.event_shape, self.classes = event_shape, classes
        self.features, self.blocks, self.dropout = features, blocks, dropout
        self.embedding = ConditionEmbedding(features)
        self.inp = nn.Linear(math.prod(self.event_shape), features)
        self.layers = nn.ModuleList(Residual(features, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(features)
        self.out = _logits(features, classes)

    def forward(self, x: Float[Tensor, "b *event"], noise: Float[Tensor, "..."]) -> Float[Tensor, "b classes"]:
        """The logits."""
        check_event(x, self.event_shape, "this MLPClassifier")
        embedding = nn.functional.silu(self.embedding(noise))
        h = row_linear(self.inp, x.reshape(len(x), -1))
        for layer in self.layers:
            h = layer(h, embedding)
        return row_linear(self.out, self.norm(h))


class UNetClassifier(ClassifierNetwork):
    """The downward half of `UNet`, the mean over space, and logits  (Dhariwal & Nichol 2021, who pool by attention).

    Args:
        event_shape: (channels, *space) with 1, 2 or 3 dimensions of space: signals, images, volumes. Only the number of
            channels and of dimensions is used.
        classes: number of classes, at least 2.
        channels: width of each level, finest first.
        blocks: residual blocks in each level.
        attention: whether each level has self-attention after its blocks; by default only the coarsest.
        dropout: rate inside the blocks.
    """

    def __init__(
        self,
        event_shape: Shape,
        classes: int,
        channels: Sequence[int] = (32, 64, 128),
        blocks: int = 2,
        attention: Sequence[bool] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        event_shape = as_shape(event_shape)
        _check_classes(classes)
        attention = check_levels("UNetClassifier", event_shape, channels, blocks, attention)
        self.event_shape, self.classes, self.channels = event_shape, classes, tuple(channels)
        self.blocks, self.attention, self.dropout = blocks, attention, dropout
        dims, width = len(event_shape) - 1, 4 * channels[0]
        self.embedding = ConditionEmbedding(width)
        self.inp = CONVOLUTIONS[dims](event_shape[0], channels[0], 3, padding=1)
        self.down = Encoder(channels, blocks, attention, width, dims, dropout)
        self.last = ConvolutionalResidual(channels[-1], channels[-1], width, dims, dropout, attends=False)
        self.norm = Norm(channels[-1])
        self.out = _logits(channels[-1], classes)
        if dims == 2:  # the memory format in which convolutions are fastest
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Float[Tensor, "b c *space"], noise: Float[Tensor, "..."]) -> Float[Tensor, "b classes"]:
        """The logits."""
        check_event(x, self.event_shape, "this UNetClassifier", any_size=True)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        embedding = nn.functional.silu(self.embedding(noise))
        h = self.norm(self.last(self.down(self.inp(x), embedding)[-1], embedding))
        return row_linear(self.out, h.flatten(2).mean(2))


def _check_classes(classes: int) -> None:
    if classes < 2:
        raise ValueError(f"a classifier needs at least 2 classes; got {classes}")


def _logits(features: int, classes: int) -> nn.Linear:
    """The last layer, zero at first: all classes are equally likely."""
    layer = nn.Linear(features, classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
