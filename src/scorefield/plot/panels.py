"""Pictures of different meaning side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor


def panels(pictures: Mapping[str, Float[Tensor, "c h w"]], columns: int = 4, spread: tuple[str, ...] = ()) -> Figure:
    """Pictures with their names, all on one scale of grey or colour but for those of `spread`.

    Args:
        pictures: by name; one channel or three. The scale is that of the first, and what lies beyond it is cut.
        columns: pictures in a row.
        spread: names of pictures of something else, such as a standard deviation, each with a scale of its own.
    """
    first = next(iter(pictures.values()))
    low, high = float(first.min()), float(first.max())
    rows = -(-len(pictures) // columns)
    across = min(columns, len(pictures))
    figure = Figure(figsize=(2.2 * across, 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, across, squeeze=False).flatten()
    for place in axes:
        place.axis("off")
    for place, (name, picture) in zip(axes, pictures.items(), strict=False):
        values = picture.detach().cpu().float()
        place.set_title(name, fontsize="small")
        if name in spread:
            shown = place.imshow(values.mean(0).numpy(), cmap="magma", vmin=0)
            figure.colorbar(shown, ax=place, shrink=0.8)
        elif len(values) == 1:
            place.imshow(values[0].numpy(), cmap="gray", vmin=low, vmax=high)
        else:
            scaled = ((values - low) / max(high - low, 1e-12)).clamp(0, 1)
            place.imshow(torch.movedim(scaled, 0, -1).numpy())
    return figure
