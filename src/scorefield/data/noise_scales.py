"""The noise scales that a data set asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.data.dataset import Dataset, some_rows
from scorefield.data.transforms import Transform, level_distance

INVISIBLE = 0.1  # noise of this length, as a share of the distance to the nearest neighbour, counts as invisible
LARGEST_RATIO = 2.0  # of neighbouring scales
DUPLICATE = 1e-6  # of the largest distance from the mean: samples that are nearer than that count as the same
BLOCK = 512  # rows of the distances that are in memory at a time


@dataclass(frozen=True)
class NoiseScales:
    """A geometric sequence of noise scales from sigma_max to sigma_min, in the model's space.

    `VE(sigma_min, sigma_max)` is the process, `grids.smld(sde, count)` has their times, and
    `solvers.AnnealedLangevin.ncsnv2(ratio)` the step size of Langevin dynamics on them.

    Args:
        sigma_min: standard deviation of the least noise, > 0.
        sigma_max: of the most.
        count: number of scales, >= 2.
        reason: what they were chosen by.
    """

    sigma_min: float
    sigma_max: float
    count: int
    reason: str

    def __post_init__(self) -> None:
        if not (0 < self.sigma_min < self.sigma_max < math.inf and self.count >= 2):
            raise ValueError(
                f"wanted 0 < sigma_min < sigma_max and count >= 2; got {self.sigma_min}, {self.sigma_max}, {self.count}"
            )

    @property
    def ratio(self) -> float:
        """Of a scale to the next smaller one."""
        return (self.sigma_max / self.sigma_min) ** (1 / (self.count - 1))

    def __str__(self) -> str:
        return f"{self.count} noise scales from {self.sigma_max:.4g} to {self.sigma_min:.4g}: {self.reason}"


def noise_scales(data: Dataset, transform: Transform, overlap: float = 0.5, samples: int = 4000) -> NoiseScales:
    """Noise scales by the rules of NCSNv2  (Song & Ermon 2020, "Improved techniques", techniques 1 and 2).

    sigma_max is the largest distance between two samples, so that all are alike under the most noise. Of a larger data
    set it is that between the samples looked at, which bounds the whole's from below: twice the largest distance from
    the mean would bound it from above, but by up to the double, for the sake of outliers.

    sigma_min sqrt(d), the length of the least noise, is a tenth of the median distance of a sample to the nearest one
    that differs from it. The paper takes 0.01 for images in [0, 1] and gives no rule. Among more
    samples the nearest are nearer still, as n^(-1/d): in few dimensions it is a matter of `samples`. Discrete data are
    not resolved below the standard deviation of their dequantisation, step / sqrt(12), which sigma_min then is if it is
    larger.

    The count is the smallest with which neighbours overlap by at least `overlap`, see `scale_overlap`, and their ratio
    is at most 2, which is not the paper's: in up to 4 dimensions its rule would allow any ratio.

    Args:
        data: at least two samples that differ.
        transform: to the model's space, which the scales are of.
        overlap: of neighbouring scales, in (0, 0.99].
        samples: most samples to look at, at equal distances through the data set.
    """
    if samples < 2:
        raise ValueError(f"samples must be at least 2; got {samples}")
    if not 0 < overlap <= 0.99:
        raise ValueError(f"overlap must lie in (0, 0.99]; got {overlap}")
    d = max(1, math.prod(data.event_shape))
    x = some_rows(data, min(20_000_000, samples * d))
    middle = None if transform.levels is None else torch.full(x.shape, 0.5, device=x.device)
    z = transform.forward(x, middle).double().reshape(len(x), d)
    if not bool(torch.isfinite(z).all()):
        raise ValueError(f"{int((~torch.isfinite(z)).sum())} values of the data are NaN or infinite: remove them first")
    largest, neighbour = _distances(z - z.mean(0))
    if not largest > 0:
        raise ValueError(f"noise scales need two samples that differ; got {len(z)} that are all equal")
    least, why = INVISIBLE * neighbour / math.sqrt(d), f"a tenth of the median distance to the nearest one / sqrt({d})"
    if middle is not None:
        rounding = float(level_distance(transform, data.event_shape).min()) / math.sqrt(12)
        if rounding > least:
            least, why = rounding, "the standard deviation of rounding to whole numbers"
    span = math.log(largest / least)
    count = 1 + max(1, math.ceil(span / math.log(largest_ratio(d, overlap)) - 1e-9))
    among = f"{len(z)} samples" if len(z) == len(data) else f"{len(z)} of {len(data)} samples"
    return NoiseScales(
        least,
        largest,
        count,
        f"the largest distance between {among}, {why}, and an overlap of "
        f"{scale_overlap(math.exp(span / (count - 1)), d):.2f}",
    )


def scale_overlap(ratio: float, d: int) -> float:
    """What neighbouring scales have in common: Phi(c (r - 1) + 3 r) - Phi(c (r - 1) - 3 r), c = sqrt(2 d), r the ratio.

    Noise of scale s in d dimensions has a length of about N(sqrt(d) s, s^2 / 2); this is the probability that the
    smaller one's length lies within three standard deviations of the larger one's mean  (Song & Ermon 2020, technique
    2).
    """
    shift = math.sqrt(2 * d) * (ratio - 1)
    return 0.5 * (math.erf((shift + 3 * ratio) / math.sqrt(2)) - math.erf((shift - 3 * ratio) / math.sqrt(2)))


def largest_ratio(d: int, overlap: float = 0.5) -> float:
    """The largest ratio of neighbouring scales, up to 2, that overlap so much in d dimensions."""
    from scipy.optimize import brentq  # heavy, and nothing else here needs it

    if scale_overlap(LARGEST_RATIO, d) >= overlap:
        return LARGEST_RATIO

    def excess(ratio: float) -> float:
        return scale_overlap(ratio, d) - overlap

    root: Any = brentq(excess, 1.0, LARGEST_RATIO, xtol=1e-15)
    return float(root)


def _distances(z: Float[Tensor, "n d"]) -> tuple[float, float]:
    """The largest distance between two rows, and the median distance of a row to the nearest that differs from it."""
    squares = z.square().sum(1)
    rows = range(0, len(z), BLOCK)

    def block(first: int) -> Tensor:
        part = slice(first, first + BLOCK)
        return (squares[part, None] + squares - 2 * z[part] @ z.mT).clamp_min(0).sqrt()

    same, largest, nearest = DUPLICATE * float(squares.max().sqrt()), 0.0, list[Tensor]()
    for first in rows:
        distance = block(first)
        largest = max(largest, float(distance.max()))
        nearest.append(torch.where(distance > same, distance, math.inf).amin(1))
    return largest, float(torch.cat(nearest).median())
