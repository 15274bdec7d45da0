"""A residual perceptron for vectors and other small events."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float, Int64
from torch import Tensor, nn

from scorefield._inputs import Shape, as_shape, check_event
from scorefield.nn.embedding import ConditionEmbedding
from scorefield.nn.network import Network


class MLP(Network):
    """Residual blocks h + W2 silu(W1 (norm(h) (1 + scale) + shift)), scale and shift made from the embedding.

    Args:
        event_shape: shape of one sample; it is flattened.
        classes: number of classes, 0 for none.
        features: width.
        blocks: number of residual blocks.
        cond_features: size of a vector of real conditions, 0 for none.
        dropout: rate inside the blocks.
        scalars: names of further numbers in [0, 1] that it is told, see `Scalars`.
    """

    def __init__(
        self,
        event_shape: Shape,
        classes: int = 0,
        features: int = 128,
        blocks: int = 3,
        cond_features: int = 0,
        dropout: float = 0.0,
        scalars: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if features < 1 or blocks < 0:
            raise ValueError(f"wanted features >= 1 and blocks >= 0; got {features} and {blocks}")
        self.event_shape, self.features, self.blocks = as_shape(event_shape), features, blocks
        self.classes, self.cond_features, self.dropout = classes, cond_features, dropout
        self.scalars = tuple(scalars)
        d = math.prod(self.event_shape)
        self.embedding = ConditionEmbedding(features, classes, cond_features, scalars)
        self.inp = nn.Linear(d, features)
        self.layers = nn.ModuleList(Residual(features, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(features)
        self.out = nn.Linear(features, d)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        x: Float[Tensor, "b *event"],
        noise: Float[Tensor, "..."],
        label: Int64[Tensor, "..."] | None = None,
        cond: Float[Tensor, "b cond"] | None = None,
        **scalars: Tensor,
    ) -> Float[Tensor, "b *event"]:
        """F(x, noise)."""
        check_event(x, self.event_shape, "this MLP")
        embedding = nn.functional.silu(self.embedding(noise, label, cond, scalars))
        h = row_linear(self.inp, x.reshape(len(x), -1))
        for layer in self.layers:
            h = layer(h, embedding)
        return row_linear(self.out, self.norm(h)).reshape(x.shape)


def row_linear(layer: nn.Linear, h: Float[Tensor, "b c"]) -> Float[Tensor, "b d"]:
    """The layer with inputs in fours and at least 8 outputs: other products round a row by its place in the batch."""
    c, d = layer.in_features, layer.out_features
    columns, rows = -c % 4, max(0, 8 - d)
    weight, bias = nn.functional.pad(layer.weight, (0, columns, 0, rows)), nn.functional.pad(layer.bias, (0, rows))
    return nn.functional.linear(nn.functional.pad(h, (0, columns)), weight, bias)[:, :d]


class Residual(nn.Module):
    """h + W2 silu(W1 (norm(h) (1 + scale) + shift)).

    Args:
        features: width, also of the embedding.
        dropout: rate before W2.
    """

    def __init__(self, features: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features, elementwise_affine=False)
        self.modulation = nn.Linear(features, 2 * features)
        self.inner = nn.Linear(features, 2 * features)
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(2 * features, features)

    def forward(self, h: Float[Tensor, "b c"], embedding: Tensor) -> Float[Tensor, "b c"]:
        """The features of the next layer."""
        scale, shift = self.modulation(embedding).chunk(2, -1)
        inner = nn.functional.silu(self.inner(self.norm(h) * (1 + scale) + shift))
        return h + self.outer(self.dropout(inner))
