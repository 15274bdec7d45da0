"""Pictures of different meaning side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor


def panels(
    rows: Mapping[str, Mapping[str, Float[Tensor, "c h w"]]], low: float, high: float, spread: str = ""
) -> Figure:
    """Rows of pictures with their names.

    Args:
        rows: by the row's name, which stands on its left; pictures by theirs, with one channel or three.
        low: what is black.
        high: what is white.
        spread: the name of pictures of something else, such as a standard deviation, on a scale of their own.
    """
    across = max(len(row) for row in rows.values())
    figure = Figure(figsize=(1.9 * across, 2.1 * len(rows)), layout="constrained")
    for axes, (title, row) in zip(figure.subplots(len(rows), across, squeeze=False), rows.items(), strict=True):
        for place in axes:
            place.set(xticks=[], yticks=[])
            place.set_frame_on(False)
        axes[0].set_ylabel(title, fontsize="small")
        for place, (name, picture) in zip(axes, row.items(), strict=False):
            values = picture.detach().cpu().float()
            place.set_title(name, fontsize="small")
            if name == spread:
                shown = place.imshow(values.mean(0).numpy(), cmap="magma", vmin=0)
                figure.colorbar(shown, ax=place, shrink=0.8)
            elif len(values) == 1:
                place.imshow(values[0].numpy(), cmap="gray", vmin=low, vmax=high)
            else:
                scaled = ((values - low) / max(high - low, 1e-12)).clamp(0, 1)
                place.imshow(torch.movedim(scaled, 0, -1).numpy())
    return figure
