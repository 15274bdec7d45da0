"""What numbers of files become: none is rounded, none is taken for another."""

from __future__ import annotations

import numpy as np
import pytest

from scorefield.data.formats.numbers import Numbers


@pytest.mark.parametrize(
    ("given", "wanted", "levels"),
    [
        ("?", "u1", 2),
        ("u1", "u1", 256),
        ("i1", "f4", None),
        ("i2", "f4", None),
        (">u2", "f4", None),
        ("i4", "f8", None),
        ("u8", "f8", None),
        ("f2", "f4", None),
        (">f4", "f4", None),
        ("f8", "f8", None),
    ],
)
def test_every_number_is_kept(given, wanted, levels):
    dtype = np.dtype(given)
    numbers = Numbers.of(dtype, None, "a")
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = np.array([[max(info.min, -(2**53))], [min(info.max, 2**53)]], dtype)
    else:
        values = np.array([[1], [0]], dtype) if dtype.kind == "b" else np.array([[0.1], [-3.0]], dtype)
    found = numbers(values)
    assert (found.dtype, numbers.dtype, numbers.levels) == (np.dtype(wanted), np.dtype(wanted), levels)
    assert np.array_equal(found.astype(dtype), values)


def test_integers_that_float64_cannot_hold_are_refused():
    """Mutant: 2**53 + 1 becomes 2**53."""
    numbers = Numbers.of(np.dtype("i8"), None, "a")
    for value in (2**53 + 1, -(2**53) - 1):
        with pytest.raises(ValueError, match="not all numbers of float64"):
            numbers(np.array([value]))


def test_levels_are_for_integers_within_them():
    assert Numbers.of(np.dtype("u2"), 4096, "a")(np.array([[0, 4095]], "u2")).dtype == np.int32
    assert Numbers.of(np.dtype("i4"), 256, "a")(np.array([[0, 255]])).dtype == np.uint8
    for odd in (-1, 4096):
        with pytest.raises(ValueError, match="wanted integers from 0 to 4095"):
            Numbers.of(np.dtype("i2"), 4096, "a")(np.array([odd], "i2"))
    with pytest.raises(ValueError, match="a holds float32, not integers"):
        Numbers.of(np.dtype("f4"), 256, "a")
    with pytest.raises(ValueError, match="convert it to float64"):
        Numbers.of(np.dtype("U3"), None, "a")


@pytest.mark.parametrize(("event", "wanted"), [((), (2,)), ((5,), (2, 5)), ((4, 5), (2, 4, 5)), ((3, 4, 5), (6, 4, 5))])
@pytest.mark.parametrize("given", ["c8", "c16"])
def test_complex_numbers_become_two_channels(event, wanted, given):
    """Mutant: all real parts before all imaginary ones, which mixes coils."""
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(2, *event)) + 1j * rng.normal(size=(2, *event))).astype(given)
    numbers = Numbers.of(np.dtype(given), None, "a")
    found = numbers(values)
    assert found.shape == (2, *wanted) and numbers.event(event) == wanted
    assert np.array_equal(found[:, 0::2].reshape(values.shape), values.real)
    assert np.array_equal(found[:, 1::2].reshape(values.shape), values.imag)
