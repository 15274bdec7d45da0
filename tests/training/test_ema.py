"""The moving average of the weights, against its closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from scorefield.nn import seeded
from scorefield.training import EMA


def one_weight(value):
    module = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight.fill_(value)
    return module


@pytest.mark.parametrize("batch", [1, 5, 50])
def test_after_a_half_life_the_average_has_forgotten_half(batch):
    with seeded(0):
        model = one_weight(1.0)
        ema = EMA(model, half_life=100.0, ramp=1e9)
    model.weight.data.zero_()
    for k in range(1, 200 // batch + 1):
        ema.update(model, k * batch, batch)
        assert float(ema.weights["weight"]) == pytest.approx(0.5 ** (k * batch / 100), rel=1e-12)


def test_the_ramp_gives_the_average_a_half_life_that_grows_with_the_samples_seen():
    with seeded(0):
        model = one_weight(1.0)
        ema = EMA(model, half_life=1e9, ramp=0.05)
    model.weight.data.zero_()
    harmonic = 0.0
    for k in range(1, 30):
        ema.update(model, 7 * k, 7)
        harmonic += 1 / k
        assert float(ema.weights["weight"]) == pytest.approx(0.5 ** (harmonic / 0.05), rel=1e-10)


def test_an_average_follows_moving_weights_and_leaves_them_alone():
    with seeded(0):
        model = one_weight(2.0)
        ema = EMA(model, half_life=30.0, ramp=0.5)
    expected = 2.0
    for k in range(1, 40):
        model.weight.data.fill_(math.sin(k))
        ema.update(model, 4 * k, 4)
        b = 2 ** (-4 / min(30, 0.5 * 4 * k))
        expected = b * expected + (1 - b) * math.sin(k)
        assert float(ema.weights["weight"]) == pytest.approx(expected, rel=1e-12)
        assert float(model.weight.detach()) == math.sin(k)


def test_the_average_covers_floating_point_buffers_and_is_lent_to_the_model_for_a_while():
    with seeded(0):
        model = nn.BatchNorm1d(2)
    ema = EMA(model, half_life=1.0, ramp=1e9)
    model.running_mean.fill_(4.0)
    model.num_batches_tracked.fill_(7)
    ema.update(model, 1, 1)
    assert ema.weights["running_mean"].tolist() == [2, 2] and "num_batches_tracked" not in ema.weights
    with pytest.raises(KeyError), ema.applied(model):
        assert model.running_mean.tolist() == [2, 2]
        raise KeyError
    assert model.running_mean.tolist() == [4, 4] and int(model.num_batches_tracked) == 7


@pytest.mark.parametrize(("half_life", "ramp"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (math.nan, 1.0)])
def test_an_average_needs_a_positive_half_life(half_life, ramp):
    with seeded(0), pytest.raises(ValueError, match="half_life"):
        EMA(one_weight(1.0), half_life, ramp)
