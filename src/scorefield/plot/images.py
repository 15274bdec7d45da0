"""Samples as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

BLUE = torch.tensor([70, 90, 130], dtype=torch.uint8).reshape(3, 1, 1)


def is_image(event_shape: Sequence[int], alpha: bool = False) -> bool:
    """Whether events of this shape can be shown as pictures: (1 or 3, height, width), with `alpha` also (4, ...)."""
    return len(event_shape) == 3 and event_shape[0] in ((1, 3, 4) if alpha else (1, 3))


def image_grid(
    x: Tensor, levels: int | None = None, columns: int | None = None, side: int = 64, gap: int | None = None
) -> Image.Image:
    """Pictures side by side, row by row.

    Args:
        x: (n, c, h, w) with c = 1 or 3, or 4 for colours and alpha.
        levels: the values are 0 .. levels - 1; None scales the smallest finite one to black and the largest to white.
        columns: pictures in a row; about as many as rows by default.
        side: small pictures are enlarged by a whole factor up to this many pixels.
        gap: pixels of blue around each; by default at least 2, and one of the enlarged pixels.
    """
    if x.ndim != 4 or not is_image(x.shape[1:], alpha=True) or len(x) == 0:
        raise ValueError(f"wanted pictures of shape (n, 1, 3 or 4, height, width); got {tuple(x.shape)}")
    if columns is not None and columns < 1:
        raise ValueError(f"columns must be at least 1; got {columns}")
    x = x.detach().cpu().float()
    finite = x[x.isfinite()] if bool(x.isfinite().any()) else torch.zeros(1)
    low, high = (0.0, levels - 1.0) if levels else (float(finite.min()), float(finite.max()))
    grey = ((x - low) * (255 / max(high - low, 1e-12))).round().clamp(0, 255).to(torch.uint8)
    factor = max(1, side // max(x.shape[2:]))
    grey = grey.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    gap = max(2, factor) if gap is None else gap
    n, c, h, w = grey.shape
    columns = columns or max(1, round(n**0.5))
    rows = -(-n // columns)
    sheet = BLUE.repeat(1, rows * (h + gap) + gap, columns * (w + gap) + gap)
    sheet = sheet if c < 4 else torch.cat((sheet, torch.full_like(sheet[:1], 255)))
    for k in range(n):
        top, left = gap + (k // columns) * (h + gap), gap + (k % columns) * (w + gap)
        sheet[:, top : top + h, left : left + w] = grey[k].expand(max(3, c), h, w)
    return Image.fromarray(sheet.permute(1, 2, 0).contiguous().numpy())
