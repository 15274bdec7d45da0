"""Results that are not finite are an error that names their rows, in every function that returns any."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scorefield import VP, Denoiser, Diverged, Noise, ScoreModel, decode, elbo, encode, grids, log_prob, sample
from scorefield._finite import require_finite
from scorefield._shapes import expand
from scorefield.cli.parts.signals import Signals
from scorefield.cli.train import _draw
from scorefield.data import Affine, ArrayDataset, Subset
from scorefield.operators import Gaussian, Mask
from scorefield.posterior import DAPS, REDdiff
from scorefield.posterior.sampler import OuterLoop
from scorefield.solvers import DDIM, EulerMaruyama

N = 7
BAD = torch.tensor([0.0, 0.0, math.nan, 0.0, math.inf, 0.0, 0.0], dtype=torch.float64)


class Poisoned(Denoiser):
    """The denoiser of N(0, 1/2), and a number of each sample on top of it."""

    def forward(self, x: Tensor, t: Tensor, *, extra: Tensor) -> Tensor:  # type: ignore[override]
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        return expand(0.5 * alpha / (0.5 * alpha**2 + sigma**2), x).to(x) * x + expand(extra, x).to(x)


class Nowhere(Denoiser):
    """NaN everywhere."""

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return math.nan * x


def model(rows: list[int]) -> Denoiser:
    return Poisoned(VP()).given(extra=BAD[rows])


def points(rows: list[int]) -> Tensor:
    return Noise.per_sample(range(N)).normal(torch.empty(N, 2, dtype=torch.float64))[rows]


def measured(kind: type[OuterLoop], rows: list[int]) -> Tensor:
    sampler = kind(model(rows), Mask(torch.tensor([True, False])), torch.full((1, 1), 0.5), Gaussian(0.3), 4)
    return sampler.sample((2,), seeds=rows, batch_size=3)


TIMES = grids.uniform_log_snr(VP(), 5)
RESULTS: dict[str, Callable[[list[int]], Tensor]] = {
    "samples": lambda rows: sample(model(rows), (2,), TIMES, DDIM(), seeds=rows, batch_size=3),
    "noisy samples": lambda rows: sample(model(rows), (2,), TIMES, EulerMaruyama(), seeds=rows, batch_size=3),
    "likelihoods": lambda rows: log_prob(model(rows), points(rows), seeds=rows, steps=3, batch_size=3).nats,
    "bounds": lambda rows: elbo(model(rows), points(rows), seeds=rows, draws=8, batch_size=3).nats,
    "latents": lambda rows: encode(model(rows), points(rows), steps=3, batch_size=3),
    "samples of latents": lambda rows: decode(model(rows), points(rows), steps=3, batch_size=3),
    "samples by DAPS": lambda rows: measured(DAPS, rows),
    "samples by REDdiff": lambda rows: measured(REDdiff, rows),
}


@pytest.mark.parametrize("what", RESULTS)
def test_rows_that_are_not_finite_are_named_and_the_others_are_as_without_them(what: str) -> None:
    with pytest.raises(Diverged, match=r"2 of 7 .* infinite, on VP with T = 1.0 in float(32|64): rows 2, 4\. Is") as e:
        RESULTS[what](list(range(N)))
    assert e.value.rows == (2, 4) and isinstance(e.value, ValueError)
    good = [row for row in range(N) if row not in e.value.rows]
    found = RESULTS[what](good)
    assert bool(torch.isfinite(found).all())
    # to the bit at one batch size, however they were in batches with the others
    assert torch.equal(found[1:4], RESULTS[what](good[1:4]))


def test_many_rows_are_counted_and_some_named() -> None:
    with pytest.raises(Diverged, match=r"8 of 9 samples .* in float32: rows 0, 1, 2, 3, 4, \.\.\.\. Is") as e:
        require_finite(torch.tensor([math.nan] * 8 + [1.0]), "samples", VP())
    assert e.value.rows == tuple(range(8))


def test_integers_of_values_that_are_not_finite_are_the_same_error() -> None:
    with pytest.raises(Diverged, match="stand for no integers"):
        Affine(levels=4).inverse(torch.tensor([[math.nan]]))


def test_samples_of_a_diverged_model_are_left_out_of_its_training(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"samples.png is not drawn: 4 of 4 samples are NaN"):
        kept = Subset(ArrayDataset(torch.zeros(5, 3)), torch.arange(5))
        assert not _draw(ScoreModel(Nowhere(VP()), (3,)), kept, tmp_path / "samples.png", 6, 4, Signals())
    assert not [*tmp_path.iterdir()]
