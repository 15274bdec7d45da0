"""Values that stand for none are said, with their samples; those of heavy tails and of whole numbers are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scorefield.data import Affine, ArrayDataset, Subset, far_values

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(15, 8, 200)


def put(values, at, value):
    values = np.array(values, copy=True)
    values[at] = value
    return values


SAID = {
    "one of 1e20": (put(NORMAL, [7], 1e20), "1e+20 in 1 of 200 samples (from 0: 7)"),
    "a single 2000": (put(NORMAL, [7], 2000), "2000 in 1 of 200 samples (from 0: 7)"),
    "-9999 here and there": (put(NORMAL, [3, 5, 8], -9999), "-9999 in 3 of 200 samples (from 0: 3, 5, 8)"),
    "-9999 in most": (put(NORMAL, np.arange(150), -9999), "-9999 in 150 of 200 samples (from 0: 0, 1"),
    "-99 beside small numbers": (put(NORMAL, [3, 9], -99), "-99 in 2 of 200"),
    "two words for nothing": (put(put(NORMAL, [1, 2], -999), [3, 4], -9999), "-9999 or -999 in 4 of 200"),
    "ages and 999": (put(RNG.integers(0, 90, 200).astype(float), [1, 2], 999), "999 in 2 of 200"),
}


@pytest.mark.parametrize("kind", SAID)
def test_what_stands_for_no_value_is_said(kind):
    values, words = SAID[kind]
    (line,) = far_values(ArrayDataset(np.stack((NORMAL, values), 1)), ("a", "b"))
    assert line.startswith(f"column b is {words}") and "far outside of the others" in line


UNSAID = {
    "normal": NORMAL,
    "a single -99": put(NORMAL, [7], -99),
    "a single 150": put(NORMAL, [7], 150),
    "skewed": RNG.lognormal(0, 1, 200),
    "many zeros": np.where(RNG.random(200) < 0.9, 0.0, RNG.gamma(1.0, size=200)),
    "flags": RNG.integers(0, 2, 200).astype(float),
    "two humps": np.concatenate((RNG.normal(-40, 1, 100), RNG.normal(40, 1, 100))),
    "few rows": np.array([0.0, 0.0, 1.0, 1e6]),
}


@pytest.mark.parametrize("kind", UNSAID)
def test_usual_numbers_are_not(kind):
    assert far_values(ArrayDataset(UNSAID[kind][:, None])) == []


def test_samples_are_counted_in_the_whole_of_the_data():
    data = ArrayDataset(put(NORMAL, [7, 8], -9999)[:, None])
    (line,) = far_values(Subset(data, torch.arange(199, 4, -1)))
    assert line.startswith("number 0 is -9999 in 2 of 195 samples (from 0: 8, 7)")
    others = np.delete(NORMAL[5:], [2, 3])
    assert f"{others.min():.7g} to {others.max():.7g}" in line


def test_channels_and_conditions_are_looked_at_too():
    x, cond = RNG.normal(size=(20, 2, 4, 4)), put(NORMAL[:20], [2], 1e20)[:, None]
    x[5, 1, 0, 0] = 1e20
    lines = far_values(ArrayDataset(x, cond=cond.astype("f4")), cond_names=("z",))
    assert lines[0].startswith("channel 1 is 1e+20 in 1 of 20 samples (from 0: 5)")
    assert lines[1].startswith("column z is 1e+20 in 1 of 20 samples (from 0: 2)")
    whole = ArrayDataset(torch.tensor([[0], [255]] * 20, dtype=torch.uint8), levels=256)
    assert far_values(whole) == []


def test_many_are_summed_up():
    x = np.repeat(put(NORMAL, [1], 1e20)[:, None], 9, 1)
    lines = far_values(ArrayDataset(x))
    assert len(lines) == 6 and lines[-1] == "and so are 4 others"


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, 273.15, -1e-300, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_constant_but_for_rounding_is_refused_by_name(value, dtype):
    column = np.full(1000, value, dtype) * RNG.choice([1, 1 + np.finfo(dtype).eps], 1000).astype(dtype)
    x = np.stack((RNG.normal(size=1000), column), 1).astype(dtype)
    with pytest.raises(ValueError, match=r"constant in all samples: column c, .*--reading.table.without c"):
        Affine.fitted(ArrayDataset(x), ("a", "c"))
    with pytest.raises(ValueError, match=r"constant in all samples: number or channel 1, which is"):
        Affine.fitted(ArrayDataset(x))


def test_a_small_variation_is_one():
    """Of float64: seconds since 1970 in an hour, and what is beyond float32 beside 1."""
    x = np.stack((1.7e9 + RNG.uniform(0, 3600, 100), 1 + 1e-10 * RNG.normal(size=100)), 1)
    transform = Affine.fitted(ArrayDataset(x))
    np.testing.assert_allclose(np.array(transform.scale), x.std(0), rtol=1e-6)
