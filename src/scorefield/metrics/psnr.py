"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math

from jaxtyping import Float, Shaped
from torch import Tensor

from scorefield.metrics.pairwise import check_finite


def psnr(x: Shaped[Tensor, "n *event"], truth: Shaped[Tensor, "n *event"], peak: float) -> Float[Tensor, "n"]:
    """Peak signal-to-noise ratio 10 log10(peak^2 / mean squared error) of each sample, in decibels.

    Args:
        x: reconstructions.
        truth: what they should be.
        peak: range of the data, such as 2 for [-1, 1].
    """
    if not peak > 0:
        raise ValueError(f"peak is the range of the data, above 0; got {peak}")
    if x.shape != truth.shape:
        raise ValueError(
            f"wanted as many reconstructions as truths of one shape; got {tuple(x.shape)}, {tuple(truth.shape)}"
        )
    check_finite(x, truth)
    error = (x.double() - truth.double()).reshape(len(x), -1).square().mean(1)
    return 20 * math.log10(peak) - 10 * error.log10()
