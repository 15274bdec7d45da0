"""Embeddings of the noise level, the class and a vector of conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import embedding

from scorefield._derivatives import unrecorded
from scorefield.nn.fourier import FourierFeatures
from scorefield.nn.scalars import NONE, Scalars


class LabelEmbedding(nn.Embedding):
    """A vector for each class, and one for an unknown class.

    Args:
        classes: number of classes, at least 1.
        features: size of the vectors.
    """

    def __init__(self, classes: int, features: int) -> None:
        super().__init__(classes + 1, features)

    def forward(self, label: Int64[Tensor, "..."] | None) -> Float[Tensor, "... features"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The vectors of labels from 0; that of the unknown class for -1, or without a label."""
        return row_of(self.weight, label)

    @unrecorded()
    def extend(self, classes: int) -> None:
        """Takes further classes, up to a number; they begin as the unknown class."""
        new = self.weight[:1].expand(classes + 1 - len(self.weight), -1)
        self.weight, self.num_embeddings = nn.Parameter(torch.cat((self.weight, new))), classes + 1


def check_no_label(label: Tensor | None) -> None:
    """Refuses a label where there are no classes."""
    if label is not None:
        raise ValueError("this network has no classes: build it with classes=..., or leave the label out")


def row_of(table: Float[Tensor, "rows n"], label: Int64[Tensor, "..."] | None) -> Float[Tensor, "... n"]:
    """The rows of labels from 0; the first row for -1, an unknown class, or without a label."""
    if label is None:
        return table[0]
    if label.is_floating_point() or label.is_complex():
        raise ValueError(f"a label must be an integer; got {label.dtype}")
    try:
        return embedding(label.to(table.device) + 1, table)
    except IndexError as error:
        raise ValueError(
            f"a label must lie in 0..{len(table) - 2}, or be -1 for unknown; got {label.tolist()}"
        ) from error


class ConditionEmbedding(nn.Module):
    """One vector for the noise level and whatever else is known: the sum of their embeddings through two layers.

    Args:
        features: size of the vector.
        classes: number of classes, 0 for none. Label -1 stands for an unknown class.
        cond_features: size of a vector of real conditions, 0 for none.
        scalars: names of further numbers in [0, 1].
    """

    def __init__(self, features: int, classes: int = 0, cond_features: int = 0, scalars: Sequence[str] = ()) -> None:
        super().__init__()
        if classes < 0 or cond_features < 0:
            raise ValueError(f"classes and cond_features must be at least 0; got {classes} and {cond_features}")
        self.classes, self.cond_features = classes, cond_features
        self.fourier = FourierFeatures(features)
        self.noise = nn.Linear(features, features)
        self.label = LabelEmbedding(classes, features) if classes else None
        self.cond = nn.Linear(cond_features, features) if cond_features else None
        self.out = nn.Linear(features, features)
        self.scalars = Scalars(scalars, features)

    def forward(
        self,
        noise: Float[Tensor, "..."],
        label: Int64[Tensor, "..."] | None = None,
        cond: Tensor | None = None,
        scalars: Mapping[str, Tensor] = NONE,
    ) -> Float[Tensor, "... features"]:
        """The embedding, for the whole batch (features,) or for each sample (b, features)."""
        h = self.noise(self.fourier(noise))
        if self.label is None:
            check_no_label(label)
        else:
            h = h + self.label(label)
        if self.cond is None:
            if cond is not None:
                raise ValueError(
                    "this network takes no condition vector: build it with cond_features=..., or leave it out"
                )
        elif cond is None or cond.ndim != 2 or cond.shape[1] != self.cond_features:
            got = None if cond is None else tuple(cond.shape)
            raise ValueError(
                f"this network needs a condition `cond` of shape (b, {self.cond_features}), one row for each "
                f"sample; got {got} (in commands --cond FILE.npy)"
            )
        else:
            h = h + self.cond(cond.to(h.dtype))
        return self.out(nn.functional.silu(self.scalars(h, scalars)))
